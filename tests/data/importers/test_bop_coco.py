"""BOP and COCO, in files as their own tools write them; pixels worked out by the formats' definitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from compnet3d.data.annotations import SkipObject, read_annotation
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.images import load_mask
from compnet3d.data.importers.bop import Bop, parse_frames, parse_names
from compnet3d.data.importers.coco import Coco
from compnet3d.data.importers.import_data import import_data
from compnet3d.data.importers.rle import mask_of
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Camera, Pose
from compnet3d.geometry.conversions import map_pixels

POINTS = np.array([[50.0, 10, 20], [-30, 60, 10], [20, -40, 70], [10, 20, -80]])  # mm
WIDTH, HEIGHT = 64, 48


def rotation(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return np.asarray(q * np.sign(np.linalg.det(q)))


def camera_of(sample: Sample) -> tuple[Camera, Pose]:
    pose = Pose.of(sample.azimuth, sample.elevation, sample.theta, sample.distance, dtype=torch.float64)
    focal, point = (torch.tensor(x, dtype=torch.float64) for x in (sample.focal, sample.principal_point))
    return Camera(focal=focal, principal_point=point, height=HEIGHT, width=WIDTH), pose


def write_bop(root: Path, objects: list[dict[str, Any]], K: np.ndarray, part: str = "train_pbr") -> None:
    scene = root / part / "000002"
    for folder in ("rgb", "mask_visib"):
        (scene / folder).mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(scene / "rgb" / "000007.png")
    for place in range(len(objects)):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[:, place * 10 : place * 10 + 5] = 255
        Image.fromarray(mask).save(scene / "mask_visib" / f"000007_{place:06d}.png")
    info = [{"bbox_obj": [-2, 3, 30, 20], "bbox_visib": [1, 3, 20, 20], "px_count_all": 9, "visib_fract": 0.5}]
    (scene / "scene_gt.json").write_text(json.dumps({"7": objects, "8": [{"obj_id": 1}]}))
    (scene / "scene_gt_info.json").write_text(json.dumps({"7": info * len(objects)}))
    (scene / "scene_camera.json").write_text(json.dumps({"7": {"cam_K": K.ravel().tolist(), "depth_scale": 1.0}}))
    (root / "models").mkdir(exist_ok=True)
    header = "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    header += "element face 4\nproperty list uchar int vertex_indices\nend_header\n"
    rows = "\n".join(" ".join(map(str, point)) for point in POINTS.tolist())
    for number in (1, 5):
        faces = "3 0 1 2\n3 0 2 3\n3 0 3 1\n3 1 3 2\n"
        (root / "models" / f"obj_{number:06d}.ply").write_text(f"{header}{rows}\n{faces}")


def pose_entry(number: int, R: np.ndarray, t: list[float]) -> dict[str, Any]:
    return {"cam_R_m2c": R.ravel().tolist(), "cam_t_m2c": t, "obj_id": number}


def test_poses_of_bop_give_the_pixels_of_its_definition(tmp_path: Path) -> None:
    """K (R X + t) with pixel centres at whole numbers; on the axis by our camera alone, off it with the homography."""
    K = np.array([[500.0, 0, 20.0], [0, 500.0, 30.0], [0, 0, 1]])
    on_axis, off_axis = [0.0, 0.0, 900.0], [90.0, -60.0, 800.0]
    # of object 5 the file's y points up and its z to the front
    write_bop(tmp_path / "bop", [pose_entry(1, rotation(1), on_axis), pose_entry(5, rotation(2), off_axis)], K)
    source = Bop(tmp_path / "bop", parse_frames(["5=y,z"]), parse_names(["5=can"]))
    report = import_data(source, tmp_path / "out")
    assert report.kept == 2 and report.left_out == {"object without pose, camera or box": 1}
    assert any("models without --axes" in note for note in report.notes)
    dataset = ImageNet3D(tmp_path / "out")
    assert dataset.categories == ["can", "obj_000001"]
    can, first = dataset.samples("train")
    assert first.bbox == (-2, 3, 28, 23) and first.distance == pytest.approx(900)
    assert can.mask is not None and load_mask(can.mask).nonzero()[1].tolist()[:1] == [10]
    # the models that are written: those points, in our axes
    ours = dataset.meshes("can")[0].vertices.double()
    assert ours.numpy() == pytest.approx(np.stack([POINTS[:, 0], -POINTS[:, 2], POINTS[:, 1]], axis=1))
    for sample, R, t, points in (
        (first, rotation(1), on_axis, torch.tensor(POINTS)),
        (can, rotation(2), off_axis, ours),
    ):
        seen = (POINTS @ R.T + t) @ K.T
        wanted = seen[:, :2] / seen[:, 2:] + 0.5
        camera, pose = camera_of(sample)
        pixels, _ = camera.project(points, pose)
        if sample is can:
            stated = read_annotation(tmp_path / "out" / f"annotations/can/{can.name}.npz")[0]["camera_matrix"]
            whole = Camera(
                focal=torch.tensor(500.0).double(), principal_point=torch.tensor(stated[:2, 2]), height=48, width=64
            )
            _, homography = whole.turned_to(torch.tensor(sample.principal_point, dtype=torch.float64))
            pixels = map_pixels(homography.inverse(), pixels)
        assert pixels.numpy() == pytest.approx(wanted, abs=1e-6)


def test_axes_and_names_are_written_as_they_are_told() -> None:
    for wrong in ("z", "z,-y,x", "a=z,-y"):
        with pytest.raises(CompNetError, match="write UP,FRONT or OBJECT=UP,FRONT"):
            parse_frames([wrong])
    with pytest.raises(CompNetError, match="must be one of"):
        parse_frames(["up,-y"])
    with pytest.raises(CompNetError, match="write OBJECT=NAME"):
        parse_names(["1=ape", "2=ape"])


def encoded(runs: list[int]) -> str:
    """Run lengths as COCO's text: differences, in signed numbers of 5 bits a character, the lowest first."""
    text = ""
    for place, run in enumerate(runs):
        number = run - (runs[place - 2] if place > 2 else 0)
        while True:
            bits, number = number & 31, number >> 5
            more = not (number == (-1 if bits & 16 else 0))
            text += chr(48 + (bits | (32 if more else 0)))
            if not more:
                break
    return text


def test_segmentations_are_masks() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        height, width = rng.integers(1, 40, 2).tolist()
        mask = rng.random((height, width)) < rng.random()
        runs, value = [0], False
        for pixel in mask.T.ravel():  # down the columns
            if pixel != value:
                runs.append(0)
                value = not value
            runs[-1] += 1
        for counts in (runs, encoded(runs)):
            assert (mask_of({"size": [height, width], "counts": counts}, (width, height)) == mask).all()
    square = mask_of([[2, 1, 6, 1, 6, 4, 2, 4]], (10, 8))
    assert square[2, 4] and not square[6, 4] and not square[2, 8]
    for broken in ({"size": [8, 10], "counts": [3, 4]}, {"size": [8, 10], "counts": "a"}, {}, [[1, 2]], 3, []):
        with pytest.raises(SkipObject, match="unreadable segmentation"):
            mask_of(broken, (10, 8))


def write_coco(folder: Path) -> Path:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / name)
    box = {"bbox": [10, 8, 30, 20], "category_id": 3, "iscrowd": 0}
    values = {
        "images": [
            {"id": n, "file_name": f"{c}.png", "width": WIDTH, "height": HEIGHT} for n, c in ((1, "a"), (2, "b"))
        ],
        "categories": [{"id": 3, "name": "mug"}],
        "annotations": [
            {"id": 11, "image_id": 1, "segmentation": [[10, 8, 40, 8, 40, 28, 10, 28]], **box},
            {"id": 12, "image_id": 1, **box},
            {"id": 13, "image_id": 2, **box},
            {"id": 14, "image_id": 2, **box, "iscrowd": 1},
        ],
    }
    (folder / "instances.json").write_text(json.dumps(values))
    return folder / "instances.json"


def test_coco_takes_its_poses_from_a_table(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    table = tmp_path / "poses.csv"
    table.write_text(
        "annotation_id,azimuth_deg,elevation_deg,split\n11,30,10,train\n13,60,10,val\n14,1,1,val\n99,1,1,val\n"
    )
    report = import_data(Coco(path, table), tmp_path / "out")
    assert report.kept == 2 and report.left_out == {"no pose": 1, "a crowd": 1, "a pose of no annotation": 2}
    dataset = ImageNet3D(tmp_path / "out")
    (first,), (second,) = dataset.samples("train"), dataset.samples("val")
    assert first.bbox == (10, 8, 40, 28) and np.degrees(first.azimuth) == pytest.approx(30)
    assert first.mask is not None and 20 * 30 <= load_mask(first.mask).sum() <= 21 * 31 and second.mask is None
    table.write_text("image_id,azimuth_deg,elevation_deg\n2,60,10\n")
    assert import_data(Coco(path, table), tmp_path / "by-image").kept == 1
    table.write_text("azimuth_deg,elevation_deg\n60,10\n")
    with pytest.raises(CompNetError, match="has no column annotation_id or image_id"):
        import_data(Coco(path, table), tmp_path / "none")
    path.write_text("{}")
    with pytest.raises(CompNetError, match="is not a file of COCO"):
        import_data(Coco(path, table), tmp_path / "none")


def turn_about(axis: str, degrees: float, shift: tuple[float, ...] = (0.0, 0.0, 0.0)) -> list[float]:
    """Row by row, as models_info.json has it."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(4)
    matrix[[i, i, j, j], [i, j, i, j]] = [c, -s, s, c]
    matrix[:3, 3] = shift
    return [float(value) for value in matrix.ravel()]


@pytest.mark.parametrize(
    ("axes", "info", "expected"),
    [
        ("z,-y", {}, {}),
        ("z,-y", {"symmetries_discrete": [turn_about("z", 180)]}, {"z": 2}),
        ("z,-y", {"symmetries_discrete": [turn_about("z", turn) for turn in (90, 180, 270)]}, {"z": 4}),
        ("z,-y", {"symmetries_discrete": [turn_about("z", 120)]}, {"z": 3}),
        ("z,-y", {"symmetries_discrete": [turn_about("z", 120), turn_about("z", 180)]}, {"z": 6}),
        # turned over, and about an axis beside the object
        ("z,-y", {"symmetries_discrete": [turn_about("x", 180)]}, {}),
        ("z,-y", {"symmetries_discrete": [turn_about("z", 180, (90.0, 0.0, 0.0))]}, {}),
        ("z,-y", {"symmetries_discrete": [turn_about("z", 180, (0.5, 0.0, 30.0))]}, {"z": 2}),
        ("z,-y", {"symmetries_continuous": [{"axis": [0, 0, -1], "offset": [0, 0, 7]}]}, {"z": "continuous"}),
        ("z,-y", {"symmetries_continuous": [{"axis": [0, 1, 0], "offset": [0, 0, 0]}]}, {}),
        ("z,-y", {"symmetries_continuous": [{"axis": [0, 0, 1], "offset": [60, 0, 0]}]}, {}),
        # of this file y is up
        ("y,z", {"symmetries_continuous": [{"axis": [0, 1, 0], "offset": [0, 0, 0]}]}, {"z": "continuous"}),
        ("y,z", {"symmetries_discrete": [turn_about("y", 180), turn_about("z", 90)]}, {"z": 2}),
    ],
)
def test_symmetries_about_the_up_axis_are_taken_over(
    tmp_path: Path, axes: str, info: dict[str, Any], expected: dict[str, Any]
) -> None:
    (tmp_path / "models").mkdir()
    table = {"5": {"diameter": 200.0, **info}, "6": {"diameter": 100.0}}
    (tmp_path / "models" / "models_info.json").write_text(json.dumps(table))
    source = Bop(tmp_path, parse_frames([axes]), parse_names(["5=can"]))
    assert source.symmetry() == ({"can": expected} if expected else {})


def test_an_import_writes_symmetries_and_names_broken_ones(tmp_path: Path) -> None:
    K = np.array([[500.0, 0, 20.0], [0, 500.0, 30.0], [0, 0, 1]])
    write_bop(tmp_path / "bop", [pose_entry(1, rotation(1), [0.0, 0.0, 900.0])], K)
    path = tmp_path / "bop" / "models" / "models_info.json"
    table = {number: {"diameter": 99.0, "symmetries_discrete": [turn_about("z", 180)]} for number in ("1", "2")}
    path.write_text(json.dumps(table))
    import_data(Bop(tmp_path / "bop"), tmp_path / "out")
    assert ImageNet3D(tmp_path / "out").symmetry["obj_000001"].order == 2
    assert list(ImageNet3D(tmp_path / "out").symmetry) == ["obj_000001"]
    for broken in ('{"1": {"symmetries_discrete": [[1, 2]]}}', '{"a": {}}', "[1]", '{"1": 3}'):
        path.write_text(broken)
        with pytest.raises(CompNetError, match=r"models_info.json: its symmetries are not as BOP writes them"):
            Bop(tmp_path / "bop").symmetry()
