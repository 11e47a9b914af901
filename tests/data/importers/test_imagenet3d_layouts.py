"""ImageNet3D: the raw layout as far as it is complete, and what its tools make of it, with the box's bottom mended."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compnet3d.data.annotations import read_annotation
from compnet3d.data.check_object import projected_box_iou
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.importers.imagenet3d_layouts import ImageNet3dSource
from compnet3d.data.importers.import_data import import_data
from compnet3d.data.unpickle import load_npz_objects
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import load_off
from tests.data.importers.pascal_files import write_models


def test_the_raw_layout_is_taken_as_far_as_it_is_complete(tmp_path: Path, tiny_data: Path) -> None:
    raw = tmp_path / "download" / "imagenet3d"
    shutil.copytree(tiny_data, raw)
    first, second, third = ImageNet3D(raw).names("brick", "train")[:3]
    (raw / "images/brick" / f"{first}.JPEG").unlink()
    (raw / "annotations/brick" / f"{second}.npz").unlink()
    (raw / "annotations/brick" / f"{third}.npz").write_bytes(b"broken")
    shutil.rmtree(raw / "CAD" / "tower")
    report = import_data(ImageNet3dSource(tmp_path / "download"), tmp_path / "out")
    assert report.left_out == {
        "missing image": 1, "missing annotation": 1, "unreadable annotation": 1, "no CAD model of tower": 16
    }  # fmt: skip
    dataset, before = ImageNet3D(tmp_path / "out"), ImageNet3D(tiny_data)
    assert dataset.categories == ["brick"]
    kept = {sample.name: sample for sample in dataset.samples("train")}
    assert len(kept) == 5
    for sample in before.samples("train"):
        if sample.name in kept:
            other = kept[sample.name]
            assert (other.azimuth, other.elevation, other.theta) == (sample.azimuth, sample.elevation, sample.theta)
            assert (other.distance, other.focal, other.bbox) == (sample.distance, sample.focal, sample.bbox)


SIZE = (80, 64)  # of the cut


def cut_out(path: Path, **changes: Any) -> tuple[float, float, float, float]:
    """What the data set's tool writes of an object at (40, 30) in an image of 60 x 50; the box that it should have."""
    rate, box = 0.5, np.array([20.0, 10.0, 56.0, 44.0])
    px, py = 40.0, 30.0
    centre_x, centre_y = int(px * rate), int(py * rate)
    above, below = SIZE[1] // 2 - centre_y, SIZE[1] // 2 + centre_y - int(50 * rate)
    left, right = SIZE[0] // 2 - centre_x, SIZE[0] // 2 + centre_x - int(60 * rate)
    right_box = box * rate + [left, above, left, above]
    values = dict(
        name=path.stem, bbox=box * rate + [left, above, left, below], bbox_original=box,
        principal=np.array([SIZE[0] / 2, SIZE[1] / 2]), principal_original=np.array([px, py]), px=SIZE[0] / 2,
        py=SIZE[1] / 2, px_original=px, py_original=py, distance=4.0, distance_original=2.0, azimuth=1.0, elevation=6.2,
        theta=0.1, cad_index=1, focal=1, viewport=3000, padding_params=np.array([above, below, left, right, 0, 0]),
        cropping_params=np.zeros(6, int), resize_rate=rate,
    )  # fmt: skip
    values["class"] = "mug"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: value for key, value in (values | changes).items() if value is not None})
    assert above != below
    return tuple(right_box.tolist())


@pytest.mark.parametrize("layout", ["{split}/{part}/mug", "{part}/mug_{split}"])
@pytest.mark.parametrize("padding", [True, False], ids=["padding known", "padding not known"])
def test_what_the_tools_cut_out_is_read_back(tmp_path: Path, layout: str, padding: bool) -> None:
    root, box = tmp_path / "processed", (0.0,) * 4
    for split in ("train", "val"):
        folders = {part: root / layout.format(split=split, part=part) for part in ("images", "annotations", "lists")}
        for folder in folders.values():
            folder.mkdir(parents=True)
        Image.new("RGB", SIZE).save(folders["images"] / f"{split}_00.JPEG")
        changes = {} if padding else {"padding_params": None}
        box = cut_out(folders["annotations"] / f"{split}_00.npz", **changes)
        (folders["lists"] / "mesh01.txt").write_text(f"{split}_00\n")
    Image.new("RGB", SIZE).save(folders["images"] / "bare.JPEG")
    cut_out(folders["annotations"] / "bare.npz", theta=None)
    (folders["lists"] / "mesh02.txt").write_text("bare\n")
    write_models(root / "CAD" / "mug")
    report = import_data(ImageNet3dSource(root), tmp_path / "out")
    assert report.kept == 2 and report.left_out == {"missing key theta": 1}
    dataset = ImageNet3D(tmp_path / "out")
    assert dataset.categories == ["mug"] and dataset.splits == ["train", "val"]
    for split in dataset.splits:
        (sample,) = dataset.samples(split)
        assert (sample.azimuth, sample.theta, sample.distance, sample.focal) == (1.0, 0.1, 4.0, 3000.0)
        assert sample.elevation == pytest.approx(6.2 - 2 * np.pi) and sample.principal_point == (40.0, 32.0)
        assert sample.bbox == pytest.approx(box) and (sample.width, sample.height) == SIZE


def test_a_real_cut_is_where_its_model_is(tmp_path: Path, shared_dir: Path) -> None:
    """A file of NeMo's: its numbers are of the whole image, and the box that it states for the cut is ours."""
    samples, root = shared_dir / "data" / "samples", tmp_path / "nemo"
    for part in ("images", "annotations", "lists"):
        (root / part / "car_train").mkdir(parents=True)
    shutil.copy(samples / "car_image.JPEG", root / "images/car_train/a.JPEG")
    shutil.copy(samples / "car_annotation.npz", root / "annotations/car_train/a.npz")
    (root / "lists/car_train/mesh01.txt").write_text("a.JPEG\n")
    import_data(ImageNet3dSource(root, shared_dir / "data" / "cad100"), tmp_path / "out")
    (sample,) = ImageNet3D(tmp_path / "out").samples("train")
    top, bottom, left, right, *size = load_npz_objects(samples / "car_annotation.npz", "box_obj").tolist()
    assert sample.bbox == pytest.approx((left, top, right, bottom), abs=3) and [sample.height, sample.width] == size
    assert sample.azimuth == pytest.approx(4.652060109480217) and sample.elevation == pytest.approx(-0.0816732)
    meshes = [load_off(path) for path in sorted((shared_dir / "data" / "cad100" / "car").glob("*.off"))]
    assert max(projected_box_iou(sample, mesh) for mesh in meshes) > 0.7


def test_a_folder_without_lists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompNetError, match="has no list of an image"):
        import_data(ImageNet3dSource(tmp_path), tmp_path / "out")


def test_entries_are_kept_whole(tmp_path: Path, tiny_data: Path) -> None:
    import_data(ImageNet3dSource(tiny_data), tmp_path / "out")
    name = ImageNet3D(tiny_data).names("brick", "val")[0]
    old, new = (read_annotation(root / f"annotations/brick/{name}.npz") for root in (tiny_data, tmp_path / "out"))
    assert [sorted(entry) for entry in old] == [sorted(entry) for entry in new]
