"""PASCAL3D+ and Occluded-PASCAL3D+: tiny fakes in their formats, poses compared with numbers worked out by hand."""

from __future__ import annotations

import math
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from compnet3d.cli import main as cli
from compnet3d.data.annotations import read_annotation
from compnet3d.data.check import check_dataset
from compnet3d.data.check_object import projected_box_iou
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.images import load_image, load_mask
from compnet3d.data.importers.import_data import import_data
from compnet3d.data.importers.import_report import ImportReport
from compnet3d.data.importers.occluded_pascal3d import OccludedPascal3d
from compnet3d.data.importers.pascal3d import Pascal3d
from compnet3d.data.importers.pascal_record import COARSE_ONLY, read_record
from compnet3d.data.sample import Sample
from compnet3d.data.transforms import InputConfig
from compnet3d.data.unpickle import load_npz_objects
from compnet3d.errors import CompNetError
from compnet3d.evaluation.crops import EvaluationCrops
from compnet3d.geometry.camera import Camera, Pose
from compnet3d.geometry.mesh import load_off
from tests.data.importers.pascal_files import HEIGHT, WIDTH, mat_object, struct, write_record, write_set

SPEC = InputConfig(height=40, width=40, focal=3000.0, distance=50.0, box_fill=0.8)


def import_pascal3d(root: Path, out: Path, **options: Any) -> ImportReport:
    return import_data(Pascal3d(root, **options), out)


def import_occluded(root: Path, occluded: Path, out: Path, level: Any = "L1") -> ImportReport:
    return import_data(OccludedPascal3d(occluded, root, level), out)


def project(sample: Sample, *points: tuple[float, float, float]) -> np.ndarray:
    """Pixels of object points through our camera."""
    pose = Pose.of(sample.azimuth, sample.elevation, sample.theta, sample.distance, dtype=torch.float64)
    camera = Camera(
        focal=torch.tensor(sample.focal, dtype=torch.float64),
        principal_point=torch.tensor(sample.principal_point, dtype=torch.float64),
        height=sample.height,
        width=sample.width,
    )
    return camera.project(torch.tensor(points, dtype=torch.float64), pose)[0].numpy()


def test_poses_are_those_of_the_records(tmp_path: Path) -> None:
    root = write_set(
        tmp_path / "p3d",
        {
            "n01_1": (mat_object(),),
            "n01_2": (mat_object(azimuth=0.0, elevation=30.0, theta=-90.0, distance=60.0, px=50.0, py=40.0),),
        },
    )
    report = import_pascal3d(root, tmp_path / "out")
    assert report.kept == 2 and report.total_left_out == 0
    dataset = ImageNet3D(tmp_path / "out")
    assert dataset.categories == ["car"] and len(dataset.meshes("car")) == 2
    (side,), (turned,) = dataset.samples("train"), dataset.samples("val")
    assert (side.name, side.cad_index, side.bbox) == ("n01_1", 2, (20.0, 30.0, 100.0, 60.0))
    assert (side.width, side.height, side.focal, side.distance) == (WIDTH, HEIGHT, 3000.0, 50.0)
    # From +x (azimuth 90 degrees) y points right and z up: 3000 pixels x 0.5 / 50 = 30 to the right, 6 for 0.1 up;
    # a point 0.5 nearer to the camera is magnified by 50 / 49.5.
    found = project(side, (0, 0, 0), (0, 0.5, 0), (0, 0, 0.1), (0.5, 0.5, 0))
    assert found == pytest.approx(np.array([[60, 45], [90, 45], [60, 39], [60 + 30 * 50 / 49.5, 45]]))
    # From the front, 30 degrees above: x points right. Theta = -90 degrees turns the image clockwise, so right
    # becomes down and up becomes right. The top (z) is cos(30 degrees) up and sin(30 degrees) nearer to the camera.
    assert turned.elevation == pytest.approx(math.pi / 6) and turned.theta == pytest.approx(1.5 * math.pi)
    up = 3000 * 0.5 * math.cos(math.pi / 6) / (60 - 0.5 * math.sin(math.pi / 6))
    found = project(turned, (0, 0, 0), (0.5, 0, 0), (0, 0, 0.5))
    assert found == pytest.approx(np.array([[50, 40], [50, 40 + 25], [50 + up, 40]]))
    assert check_dataset(tmp_path / "out").count("error") == 0


def test_the_first_object_counts_and_coarse_ones_do_not(tmp_path: Path) -> None:
    root = write_set(
        tmp_path / "p3d",
        {
            "a": (mat_object("person"), mat_object(azimuth=10.0), mat_object(azimuth=20.0)),
            "b": (mat_object(azimuth=30.0, truncated=np.uint8(1)), mat_object(distance=0.0)),
            "c": (mat_object(distance=0.0, azimuth=None), mat_object(azimuth=40.0)),
            "d": (mat_object("person"),),
            "e": (mat_object(viewpoint=np.zeros((0, 0))),),
            "f": (mat_object(azimuth=math.nan),),
            "g": (mat_object(px=None),),
            "h": (mat_object(bbox=np.array([[5.0, 5.0, 5.0, 9.0]])),),
            "i": (mat_object(bbox="wide"),),
            "j": (mat_object(focal="long"),),
            "k": (mat_object(viewport=0),),
        },
    )
    report = import_pascal3d(root, tmp_path / "first")
    samples = [s for split in ("train", "val") for s in ImageNet3D(tmp_path / "first").samples(split)]
    assert [(s.name, round(math.degrees(s.azimuth))) for s in samples] == [("a", 10), ("b", 30)]
    assert report.kept == 2 and report.left_out == {
        "not the image's first object": 3, COARSE_ONLY: 1, "no object of the category": 1, "no viewpoint": 1,
        "azimuth is not finite": 1, "missing key px": 1, "empty bbox": 1,
        "missing key bbox": 1, "missing key focal": 1, "viewport < 1": 1,
    }  # fmt: skip
    entry = read_annotation(samples[1].image.parents[2] / "annotations" / "car" / "b.npz")[0]
    assert (entry["truncated"], entry["occluded"], entry["object_status"]) == (1, 0, "status_partially")

    report = import_pascal3d(root, tmp_path / "all", all_objects=True)
    samples = [s for split in ("train", "val") for s in ImageNet3D(tmp_path / "all").samples(split)]
    found = [(s.key, round(math.degrees(s.azimuth))) for s in samples]
    assert found == [("car/a#0", 10), ("car/a#1", 20), ("car/b#0", 30), ("car/c#0", 40)]
    assert report.left_out[COARSE_ONLY] == 2 and "not the image's first object" not in report.left_out


def test_records_come_in_several_shapes(tmp_path: Path) -> None:
    write_record(tmp_path / "one.mat", mat_object())
    write_record(tmp_path / "two.mat", mat_object(), mat_object("bus"), size=(WIDTH, HEIGHT))
    one, two = read_record(tmp_path / "one.mat"), read_record(tmp_path / "two.mat")
    assert [entry["class"] for entry in one["objects"]] == ["car"]
    assert [entry["class"] for entry in two["objects"]] == ["car", "bus"]
    assert one["objects"][0]["viewpoint"]["azimuth"] == 90.0 and list(two["imgsize"]) == [WIDTH, HEIGHT]
    savemat(tmp_path / "none.mat", {"record": struct(filename="x", objects=np.zeros((0, 0)))})
    assert read_record(tmp_path / "none.mat")["objects"] == []
    for name, content in (("a", b""), ("b", b"MATLAB 5.0"), ("c", (tmp_path / "one.mat").read_bytes()[:300])):
        (tmp_path / f"{name}.mat").write_bytes(content)
        with pytest.raises(CompNetError, match=rf"{name}\.mat is not a readable PASCAL3D\+ annotation"):
            read_record(tmp_path / f"{name}.mat")
    for content in ({"other": 1}, {"record": 3}, {"record": struct(objects="text")}):
        savemat(tmp_path / "wrong.mat", content)
        with pytest.raises(CompNetError, match=r"wrong\.mat"):
            read_record(tmp_path / "wrong.mat")
    with pytest.raises(CompNetError, match="missing"):
        read_record(tmp_path / "missing.mat")


def test_coarse_labels_without_distance_and_files_of_matlab_7_3_are_named(tmp_path: Path) -> None:
    root = write_set(tmp_path, {"a": (mat_object(distance=None),), "b": (mat_object(),), "c": (mat_object(),)})
    hdf = b"\x89HDF\r\n\x1a\n" + bytes(500)
    (root / "Annotations" / "car_imagenet" / "c.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512, b"\0") + hdf)
    report = import_pascal3d(root, tmp_path / "out")
    assert report.kept == 1 and report.left_out == {
        "no distance: a coarse label only": 1, "annotation is of MATLAB 7.3: save it in MATLAB with -v7": 1,
    }  # fmt: skip


def test_missing_and_broken_files_are_counted(tmp_path: Path) -> None:
    root = write_set(tmp_path / "p3d", {name: (mat_object(),) for name in "abcd"})
    (root / "Images" / "car_imagenet" / "b.JPEG").unlink()
    (root / "Annotations" / "car_imagenet" / "c.mat").write_bytes(b"broken")
    (root / "Annotations" / "car_imagenet" / "d.mat").unlink()
    report = import_pascal3d(root, tmp_path / "out")
    assert report.kept == 1 and report.left_out == {"missing image": 1, "unreadable annotation": 2}
    assert ImageNet3D(tmp_path / "out").splits == ["train"], "an empty list is not written"


def test_numbers_that_no_camera_has_are_a_reason_to_skip(tmp_path: Path) -> None:
    absurd = {
        "azimuth": 1e300, "elevation": -1e6, "distance": 1e30, "focal": 1e300, "viewport": 1e300, "px": -1e18,
        "bbox": np.array([[0.0, 0.0, 1e308, 1e308]]), "cad_index": 1e300, "truncated": 1e300,
    }  # fmt: skip
    root = write_set(tmp_path / "p3d", {key: (mat_object(**{key: value}),) for key, value in absurd.items()})
    for size in ((10**9, 4), (0, 0), (-5, 3)):
        name = f"size{size[0]}"
        write_record(root / "Annotations" / "car_imagenet" / f"{name}.mat", mat_object(), size=size)
        Image.new("RGB", (WIDTH, HEIGHT)).save(root / "Images" / "car_imagenet" / f"{name}.JPEG")
        with (root / "Image_sets" / "car_imagenet_train.txt").open("a") as file:
            file.write(f"{name}\n")
    report = import_pascal3d(root, tmp_path / "out")
    assert report.left_out == {f"{key} is out of range": 1 for key in absurd}
    samples = ImageNet3D(tmp_path / "out").samples("train")
    assert {(sample.width, sample.height) for sample in samples} == {(WIDTH, HEIGHT)} and len(samples) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_what_is_no_regular_file_is_never_waited_for(tmp_path: Path) -> None:
    root = write_set(tmp_path / "p3d", {name: (mat_object(),) for name in "abc"})
    for path in (root / "Images/car_imagenet/b.JPEG", root / "Annotations/car_imagenet/c.mat"):
        path.unlink()
        os.mkfifo(path)
    report = import_pascal3d(root, tmp_path / "out")
    assert report.kept == 1 and report.left_out == {"missing image": 1, "unreadable annotation": 1}
    (root / "CAD" / "car" / "02.off").unlink()
    os.mkfifo(root / "CAD" / "car" / "02.off")
    with pytest.raises(CompNetError, match="02.off: is not a regular file"):
        import_pascal3d(root, tmp_path / "other")
    with (root / "Image_sets" / "car_imagenet_train.txt").open("a") as file:
        file.write("x" * 300 + "\n")
    with pytest.raises(CompNetError, match="is not an image name"):
        import_pascal3d(root, tmp_path / "other")


def test_folders_that_are_something_else_are_named(tmp_path: Path) -> None:
    root = write_set(tmp_path / "p3d", {"a": (mat_object(distance=0.0),)})

    def refused(match: str, source: Pascal3d | OccludedPascal3d) -> None:
        with pytest.raises(CompNetError, match=match):
            import_data(source, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused("has no usable object.*coarse label", Pascal3d(root))
    refused("has no folder Image_sets", Pascal3d(tmp_path))
    refused("ImageSets/Main has no image set CATEGORY_train.txt", Pascal3d(root, "pascal"))
    refused("has no folder lists", OccludedPascal3d(root, root, "L1"))
    (root / "lists").mkdir()
    refused("has no list CATEGORYFGL2_BGL2", OccludedPascal3d(root, root, "L2"))
    (root / "Image_sets" / "car_imagenet_val.txt").write_text("../../etc/passwd\n")
    refused("is not an image name", Pascal3d(root))
    write_set(root, {"a": (mat_object(),)})
    for path in (root / "CAD" / "car").iterdir():
        path.unlink()
    refused("1 x no CAD model of car", Pascal3d(root))
    (root / "Image_sets" / "car_imagenet_train.txt").write_text("")
    refused("names no image", Pascal3d(root))
    write_set(root, {"a": (mat_object(),)})
    with pytest.raises(CompNetError, match="not an empty folder"):
        import_pascal3d(root, root)


EMPTY = np.zeros((0, 0))


@pytest.mark.parametrize("absent", [None, EMPTY], ids=["absent", "empty"])
def test_a_pose_in_the_coarse_fields_is_taken(tmp_path: Path, absent: Any) -> None:
    """The data set's annotation tool writes full poses there; a distance of 0 still means a coarse label only."""
    coarse = {"azimuth": absent, "elevation": absent, "azimuth_coarse": -10, "elevation_coarse": 16, "theta": -0.5}
    root = write_set(
        tmp_path / "p3d",
        {
            "a": (mat_object(**coarse, distance=3.6, viewport=2000),),
            "b": (mat_object(**coarse, distance=0.0),),
            "c": (mat_object(**(coarse | {"azimuth_coarse": absent})),),
            "d": (mat_object(azimuth=absent, azimuth_coarse=33, elevation=7.0, elevation_coarse=99),),
        },
    )
    report = import_pascal3d(root, tmp_path / "out")
    assert report.left_out == {COARSE_ONLY: 1, "missing key azimuth": 1}
    dataset = ImageNet3D(tmp_path / "out")
    (first,), (second,) = dataset.samples("train"), dataset.samples("val")
    angles = [math.degrees(x) for x in (first.azimuth, first.elevation, first.theta)]
    assert angles == pytest.approx([350, 16, 359.5]) and (first.distance, first.focal) == (3.6, 2000.0)
    assert [math.degrees(x) for x in (second.azimuth, second.elevation)] == pytest.approx([33, 7])


def test_the_pascal_part_is_split_by_vocs_image_sets(tmp_path: Path) -> None:
    root = write_set(tmp_path / "p3d", {"n01_1": (mat_object(),), "n01_2": (mat_object(),)})
    main = root / "PASCAL/VOCdevkit/VOC2012/ImageSets/Main"
    main.mkdir(parents=True)
    (main / "car_train.txt").write_text("2008_000001  1\n2008_000002 -1\n2008_000003  0\n")
    (main / "car_val.txt").write_text("2008_000004  1\n2008_000009  1\n")  # of the last there is no record
    (root / "Images" / "car_pascal").mkdir()
    for number in (1, 2, 3, 4):
        name = f"2008_{number:06d}"
        write_record(root / "Annotations/car_pascal" / f"{name}.mat", mat_object(azimuth=10.0 * number))
        Image.new("RGB", (WIDTH, HEIGHT)).save(root / "Images/car_pascal" / f"{name}.jpg")

    def names(out: Path, split: str) -> list[tuple[str, int]]:
        return [(s.name, round(math.degrees(s.azimuth))) for s in ImageNet3D(out).samples(split)]

    assert import_pascal3d(root, tmp_path / "pascal", subset="pascal").kept == 3
    assert names(tmp_path / "pascal", "train") == [("2008_000001", 10), ("2008_000003", 30)]
    assert names(tmp_path / "pascal", "val") == [("2008_000004", 40)]
    import_pascal3d(root, tmp_path / "both", subset="both")
    assert [name for name, _ in names(tmp_path / "both", "train")] == ["n01_1", "2008_000001", "2008_000003"]
    elsewhere = tmp_path / "Main"
    main.rename(elsewhere)
    assert import_pascal3d(root, tmp_path / "given", subset="pascal", voc=elsewhere).kept == 3


def write_occluded(root: Path, name: str, occluders: Any, mask: Any, level: int = 1, category: str = "car") -> None:
    folder = f"{category}FGL{level}_BGL{level}"
    for part in ("images", "annotations"):
        (root / part / folder).mkdir(parents=True, exist_ok=True)
    (root / "lists").mkdir(exist_ok=True)
    with (root / "lists" / f"{folder}.txt").open("a") as file:
        file.write(f"{name}.JPEG\n")
    pixels = np.full((HEIGHT, WIDTH, 3), 99, np.uint8)
    if isinstance(occluders, np.ndarray):
        pixels[occluders > 0] = 200
    Image.fromarray(pixels).save(root / "images" / folder / f"{name}.JPEG", quality=95)
    np.savez(
        root / "annotations" / folder / f"{name}.npz",
        source=f"../images/{name}.JPEG",
        occluder_mask=occluders,
        mask=mask,
        box=np.array([30, 60, 20, 100, HEIGHT, WIDTH]),
        occluder_box=np.array([[40, 70, 20, 60, HEIGHT, WIDTH]]),
        category=category,
        occluder_libs=np.array(["x"], dtype=object),
    )


def test_occluded_images_get_the_pose_of_their_source(tmp_path: Path) -> None:
    root = write_set(tmp_path / "p3d", {n: (mat_object(azimuth=10.0 * i),) for i, n in enumerate("abcde")})
    occluded = tmp_path / "occluded"
    own = np.zeros((HEIGHT, WIDTH), np.uint8)
    own[30:60, 20:100] = 255
    own[29, 20:100] = 90  # a soft edge
    occluders = np.zeros((HEIGHT, WIDTH), bool)
    occluders[40:70, 20:60] = True
    write_occluded(occluded, "b", occluders, own)
    write_occluded(occluded, "c", occluders, (own > 200).astype(float))
    write_occluded(occluded, "d", occluders, None)
    write_occluded(occluded, "e", None, own)
    write_occluded(occluded, "a", ~occluders, own, level=2)
    report = import_occluded(root, occluded, tmp_path / "out", "L1")
    assert report.kept == 3 and report.left_out == {"unreadable masks": 1}
    dataset = ImageNet3D(tmp_path / "out")
    assert dataset.splits == ["val"] and len(dataset.meshes("car")) == 2
    samples = dataset.samples("val")
    assert [(s.name, round(math.degrees(s.azimuth))) for s in samples] == [("b", 10), ("c", 20), ("d", 30)]
    # 20 of 30 rows and 40 of 80 columns of the object; of the background the 10 rows below
    shares = (20 * 40 / (30 * 80), 10 * 40 / (HEIGHT * WIDTH - 30 * 80))
    assert samples[0].hidden == pytest.approx(shares) and samples[1].hidden == pytest.approx(shares)
    assert samples[2].hidden is None and samples[2].mask is None
    assert (load_mask(samples[0].mask or "") == (own > 200)).all()
    assert (load_mask(tmp_path / "out" / "occluder_masks" / "car" / "b.png") == occluders).all()
    assert np.asarray(load_image(samples[0].image))[50, 30].tolist() == pytest.approx([200] * 3, abs=8)
    entry = read_annotation(tmp_path / "out" / "annotations" / "car" / "b.npz")[0]
    assert (entry["occlusion_level"], entry["occlusion_protocol"]) == ("L1", "generator")
    item = EvaluationCrops(samples[:2], ["car"], SPEC)[0]
    assert float(item["hidden_object"]) == pytest.approx(shares[0])
    assert check_dataset(tmp_path / "out").count("error") == 0

    import_occluded(root, occluded, tmp_path / "second", "L2")
    assert [s.name for s in ImageNet3D(tmp_path / "second").samples("val")] == ["a"]


class Hostile:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, ("open('owned', 'w')",)


def test_pickles_in_masks_are_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = write_set(tmp_path / "p3d", {"a": (mat_object(),), "b": (mat_object(),)})
    occluders = np.zeros((HEIGHT, WIDTH), bool)
    write_occluded(tmp_path / "occluded", "a", occluders, occluders)
    write_occluded(tmp_path / "occluded", "b", occluders, occluders)
    path = tmp_path / "occluded" / "annotations" / "carFGL1_BGL1" / "a.npz"
    cell = np.empty((1,), dtype=object)
    cell[0] = Hostile()
    header = tmp_path / "x.npy"
    with header.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(cell))
        pickle.dump(cell, stream)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(header, "occluder_mask.npy")
    report = import_occluded(root, tmp_path / "occluded", tmp_path / "out")
    assert report.kept == 1 and report.left_out == {"unreadable masks": 1} and not (tmp_path / "owned").exists()


def test_the_command_converts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_set(tmp_path / "p3d", {"a": (mat_object(),), "b": (mat_object(distance=0.0),)})
    cli.main(["data", "import", "pascal3d", str(root), str(tmp_path / "out")])
    out = capsys.readouterr().out
    assert "1 objects on 1 images of 1 categories taken, 1 left out" in out and "coarse label" in out


def test_a_real_object_survives(tmp_path: Path, shared_dir: Path) -> None:
    """The numbers of a real annotation, as NeMo keeps them, written back as a record: the CAD model fills the box."""
    real = shared_dir / "data" / "samples" / "car_annotation.npz"

    def value(key: str) -> Any:
        return load_npz_objects(real, key)

    u, v = value("principal").tolist()
    entry = mat_object(
        azimuth=math.degrees(value("azimuth")), elevation=math.degrees(value("elevation")),
        theta=math.degrees(value("theta")), distance=float(value("distance")), px=u, py=v,
        bbox=value("bbox")[None], cad_index=value("cad_index"),
    )  # fmt: skip
    root = write_set(tmp_path / "p3d", {"n02958343_2202": (entry,)})
    size = (int(value("width")), int(value("height")))
    write_record(root / "Annotations" / "car_imagenet" / "n02958343_2202.mat", entry, size=(*size, 3))
    import_pascal3d(root, tmp_path / "out")
    (sample,) = ImageNet3D(tmp_path / "out").samples("train")
    assert sample.azimuth == pytest.approx(float(value("azimuth")))
    assert sample.elevation == pytest.approx(float(value("elevation")))
    assert sample.cad_index == 9 and sample.bbox == pytest.approx(value("bbox").tolist())
    meshes = [load_off(path) for path in sorted((shared_dir / "data" / "cad100" / "car").glob("*.off"))]
    assert max(projected_box_iou(sample, mesh) for mesh in meshes) > 0.7
