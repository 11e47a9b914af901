from __future__ import annotations

import io
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from compnet3d.data.annotations import annotation_dict, parse_object
from compnet3d.data.check import check_dataset
from compnet3d.data.check_masks import marks_surroundings
from compnet3d.data.check_object import implausible, projected_box_iou
from compnet3d.data.findings import CheckResult
from compnet3d.data.imagenet3d import write_list, write_object
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh, save_off
from compnet3d.reporting.data_check import print_check

CORNERS = torch.tensor([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
CUBE = Mesh(CORNERS, torch.tensor([[0, 1, 3], [4, 6, 7], [0, 4, 5], [2, 3, 7], [0, 2, 6], [1, 5, 7]]))
# Seen from the front at distance 10 with focal 300: the near face (distance 9.5) spans 300 / 9.5 pixels.
HALF = 150 / 9.5


def make_object(**changes: Any) -> dict[str, Any]:
    entry = annotation_dict(
        category="mug", azimuth=0, elevation=0, theta=0, distance=10.0, focal=3000.0, principal_point=(200.0, 150.0),
        bbox=(200 - 10 * HALF, 150 - 10 * HALF, 200 + 10 * HALF, 150 + 10 * HALF), width=400, height=300,
    )  # fmt: skip
    return entry | changes


def make_dataset(root: Path, objects: dict[str, list[dict[str, Any]]]) -> Path:
    for name, entries in objects.items():
        write_object(root, "mug", name, np.zeros((300, 400, 3), dtype=np.uint8), entries)
    write_list(root, "mug", "train", objects)
    (root / "CAD/mug").mkdir(parents=True, exist_ok=True)
    save_off(root / "CAD/mug/01.off", CUBE)
    return root


def problems(result: CheckResult, severity: str) -> dict[str, int]:
    found = [f.problem for f in result.findings if f.severity == severity]
    return {problem: found.count(problem) for problem in found}


def printed(result: CheckResult) -> str:
    stream = io.StringIO()
    print_check(result, Console(file=stream, width=400))
    return stream.getvalue()


def test_a_sound_data_set_has_no_findings(tmp_path: Path) -> None:
    result = check_dataset(make_dataset(tmp_path, {"mug_i1_v1": [make_object()], "mug_i1_v2": [make_object()] * 2}))
    assert result.findings == [] and result.exit_code == 0
    counts = result.categories["mug"]
    assert counts.objects == {"train": 3} and (counts.cad_models, counts.masks, counts.instances) == (1, 0, 1)
    assert "3 usable objects in 1 categories; 0 errors, 0 warnings, 0 notes" in printed(result)


def test_the_projected_box_of_a_cube_is_known() -> None:
    sample = parse_object(make_object(), image=Path("a"), category="mug", name="a")
    assert projected_box_iou(sample, CUBE) == pytest.approx(1.0)
    half = make_object(bbox=np.array([200.0, 150 - 10 * HALF, 200 + 10 * HALF, 150 + 10 * HALF]))
    sample = parse_object(half, image=Path("a"), category="mug", name="a")
    assert projected_box_iou(sample, CUBE) == pytest.approx(0.5)
    near = parse_object(make_object(distance=0.3), image=Path("a"), category="mug", name="a")
    assert projected_box_iou(near, CUBE) == 0.0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"elevation": 2.0}, "elevation beyond +-90 degrees"),
        ({"px": 1500.0}, "principal point far outside the image"),
        ({"bbox": np.array([500.0, 0, 600, 50])}, "box outside the image"),
        ({"bbox": np.array([350.0, 0, 600, 50])}, "box mostly outside the image"),
        ({"bbox": np.array([50.0, 20, 51, 50])}, "box under two pixels"),
        ({"viewport": 5}, "field of view over 150 degrees"),  # millimetres
        ({"focal": 3000.0}, "field of view under half a degree"),
    ],
)
def test_implausible_annotations_are_reported(changes: dict[str, Any], problem: str) -> None:
    sample = parse_object(make_object(**changes), image=Path("a"), category="mug", name="a")
    assert [found for found, _ in implausible(sample)] == [problem]
    assert implausible(parse_object(make_object(), image=Path("a"), category="mug", name="a")) == []


def test_everything_that_can_be_wrong_is_found_at_once(tmp_path: Path) -> None:
    names = (
        "gone",
        "no_npz",
        "bad_npz",
        "broken",
        "turned",
        "small",
        "skipped",
        "far",
        "cad7",
        "empty_mask",
        "bad_mask",
    )
    root = make_dataset(tmp_path, {name: [make_object()] for name in names})
    image = root / "images/mug"
    (image / "gone.JPEG").unlink()
    (root / "annotations/mug/no_npz.npz").unlink()
    (root / "annotations/mug/bad_npz.npz").write_bytes(b"PK\x03\x04")
    (image / "broken.JPEG").write_bytes((image / "broken.JPEG").read_bytes()[:300])
    Image.new("RGB", (300, 400)).save(image / "turned.JPEG")
    Image.new("RGB", (200, 150)).save(image / "small.JPEG")
    Image.new("RGB", (9, 9)).save(image / "unlisted.JPEG")
    black = np.zeros((300, 400, 3), dtype=np.uint8)
    write_object(root, "mug", "skipped", black, [make_object(distance=-1), make_object()])
    write_object(root, "mug", "far", black, [make_object(theta=0.0, px=20.0, py=280.0)])
    write_object(root, "mug", "cad7", black, [make_object(cad_index=7)])
    write_object(root, "mug", "empty_mask", black, [make_object()], mask=black[..., 0])
    (root / "masks/mug/bad_mask.png").write_bytes(b"")
    (root / "CAD/mug/02.off").write_text("")
    save_off(root / "CAD/mug/draft.off", CUBE)
    write_list(root, "mug", "val", ["cad7"])
    write_list(root, "cup", "train", [])
    (root / "lists/jar_imagenet_train.txt").write_bytes(b"\xff\xfe\xff")
    (root / "symmetry.json").write_text('{"pot": {"mirror": true}}')
    result = check_dataset(root)
    assert problems(result, "error") == {
        "missing image": 1,
        "missing annotation": 1,
        "unreadable annotation": 1,
        "broken image": 1,
        "image of another size than annotated": 1,
        "broken mask, or of another image": 1,
        "broken CAD model": 1,
        "no CAD model": 2,
        "no usable object in a split": 1,
        "unreadable list": 1,
    }
    assert problems(result, "warning") == {
        "object skipped: distance <= 0": 1,
        "projected CAD model far from the box": 1,
        "cad_index without a CAD file": 2,
        "empty mask": 1,
        "CAD model whose name is not a number": 1,
        "same image in train and val": 1,
        "symmetry.json has a category without lists": 1,
        "no list for a split": 2,
    }
    assert problems(result, "note") == {"images that are in no list": 1, "resized image": 1}
    assert result.exit_code == 1
    text = printed(result)
    assert "missing image" in text and "gone.JPEG" in text and "IoU" in text


def test_a_mask_whose_object_is_black_is_named(tmp_path: Path) -> None:
    marked = np.zeros((300, 400), dtype=np.uint8)
    marked[120:190, 160:250] = 255
    boxed = make_object(bbox=(150.0, 110.0, 260.0, 200.0))
    root = make_dataset(tmp_path, {"a": [boxed], "b": [boxed]})
    photograph = np.zeros((300, 400, 3), dtype=np.uint8)
    write_object(root, "mug", "a", photograph, [boxed], mask=marked)
    problem = "mask marks what is round the object"
    assert problem not in problems(check_dataset(root), "warning")
    write_object(root, "mug", "b", photograph, [boxed], mask=255 - marked)
    assert problems(check_dataset(root), "warning")[problem] == 1
    # a mask of many objects marks much, but not all, of what is round one of them
    crowd = np.full((300, 400), 255, dtype=np.uint8)
    crowd[:60] = 0
    assert not marks_surroundings(crowd > 0, (0.0, 0.0, 200.0, 150.0))


def test_names_that_are_no_text_or_no_number_are_reported(tmp_path: Path) -> None:
    root = make_dataset(tmp_path, {"a": [make_object()]})
    save_off(root / "CAD/mug/\u00b2.off", CUBE)  # a digit to Python, but no number
    names = ["\u00b2"]
    with suppress(OSError):  # not every file system takes such bytes
        (root / "images/mug" / os.fsdecode(b"\xff\xfe.JPEG")).touch()
        names.append("\\udcff\\udcfe")  # as it is shown
    result = check_dataset(root)
    assert problems(result, "error") == {}
    text = printed(result)
    assert all(name in text for name in names)


def test_instances_on_both_sides_are_reported(tmp_path: Path) -> None:
    root = make_dataset(tmp_path, {f"mug_i1_v{i}": [make_object()] for i in range(3)})
    write_list(root, "mug", "train", ["mug_i1_v0", "mug_i1_v1"])
    write_list(root, "mug", "val", ["mug_i1_v2"])
    assert problems(check_dataset(root), "warning") == {"same instance in train and val": 1}


def test_decoding_can_be_left_out(tmp_path: Path) -> None:
    root = make_dataset(tmp_path, {"a": [make_object()]})
    (root / "images/mug/a.JPEG").write_bytes(b"")
    assert check_dataset(root, decode=False).exit_code == 0 and check_dataset(root).exit_code == 1


def test_a_folder_that_is_no_data_set_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CompNetError, match="lists"):
        check_dataset(tmp_path)
    with pytest.raises(CompNetError, match="not a folder"):
        check_dataset(tmp_path / "absent")


def test_eth80_is_sound(shared_dir: Path) -> None:
    result = check_dataset(shared_dir / "data" / "eth80", decode=False)
    assert result.findings == [] and math.isclose(sum(c.masks for c in result.categories.values()), 2624)
