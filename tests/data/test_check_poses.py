"""The mistakes that only many objects tell: signs, axes, units, orders of boxes, orientations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from compnet3d.data.annotations import annotation_dict, read_annotation, write_annotation
from compnet3d.data.check import check_dataset
from compnet3d.data.check_boxes import find_box_layout
from compnet3d.data.check_category import check_units
from compnet3d.data.check_poses import MISTAKES, Fits, find_better, measure_fits
from compnet3d.data.findings import CheckResult
from compnet3d.data.imagenet3d import ImageNet3D, write_list, write_object
from compnet3d.data.sample import Sample
from compnet3d.data.silhouettes import silhouette
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.geometry.mesh import Mesh, save_off

# a plate that lies at the front right, a post at its far corner: no turn and no mirror brings it back
BLOCKS = (((-0.2, -0.7, -0.3), (0.4, 0.5, -0.1)), ((0.2, 0.3, -0.1), (0.4, 0.5, 0.8)))
PARTS = [cuboid_mesh(torch.tensor(corners), 8).mesh for corners in BLOCKS]
BODY = Mesh(
    torch.cat([part.vertices for part in PARTS]),
    torch.cat([PARTS[0].faces, PARTS[1].faces + len(PARTS[0].vertices)]),
)
# looks alike from all sides, as a bottle
ROUND = np.linspace(0, 2 * math.pi, 48, endpoint=False)
BOTTLE = Mesh(
    torch.tensor([(0.3 * math.cos(a), 0.3 * math.sin(a), z) for z in (-0.5, 0.5) for a in ROUND], dtype=torch.float32),
    torch.tensor([(i, (i + 1) % 48, 48 + i) for i in range(48)] + [((i + 1) % 48, 48 + (i + 1) % 48, 48 + i)
                 for i in range(48)] + [(48, 48 + i, 49 + i) for i in range(1, 47)]),
)  # fmt: skip
QUARTER = math.pi / 2


def write(root: Path, mesh: Mesh = BODY, masks: bool = True, count: int = 16, category: str = "thing") -> Path:
    """Objects at poses all round, with the boxes and masks of their silhouettes, on images that show them."""
    rng = np.random.default_rng(0)
    names = [f"v{i}" for i in range(count)]
    for name in names:
        entry = annotation_dict(
            category=category, azimuth=rng.uniform(0, 6.28), elevation=rng.uniform(0.1, 0.9),
            theta=rng.uniform(-0.4, 0.4), distance=6.0, focal=360.0, principal_point=(50.0, 50.0),
            bbox=(0, 0, 100, 100), width=100, height=100,
        )  # fmt: skip
        sample = Sample(Path("a"), category, name, entry["azimuth"], entry["elevation"], entry["theta"], 6.0, 360.0,
                        (50.0, 50.0), (0, 0, 100, 100), 100, 100)  # fmt: skip
        layer = silhouette(sample, mesh, margin=0.0)
        assert layer is not None
        mask = np.asarray(layer) > 127
        rows, columns = np.nonzero(mask)
        entry["bbox"] = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=float)
        pixels = np.where(mask[..., None], 200, 40).astype(np.uint8).repeat(3, axis=2)
        write_object(root, category, name, pixels, [entry], mask if masks else None)
    for split in ("train", "val"):
        write_list(root, category, split, names[split == "val" :: 2])
    (root / "CAD" / category).mkdir(parents=True)
    save_off(root / "CAD" / category / "01.off", mesh)
    return root


def change(root: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    for path in root.glob("annotations/*/*.npz"):
        write_annotation(path, [entry | edit(entry) for entry in read_annotation(path)])
    return root


def warnings(root: Path) -> list[str]:
    return [f"{f.problem}: {f.detail}" for f in check_dataset(root, workers=1).findings if f.severity == "warning"]


CHANGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "azimuth negated": lambda e: {"azimuth": -e["azimuth"]},
    "180 degrees added to azimuth": lambda e: {"azimuth": (e["azimuth"] + math.pi) % 6.2831853},
    "90 degrees taken from azimuth": lambda e: {"azimuth": (e["azimuth"] + QUARTER) % 6.2831853},
    "90 degrees minus azimuth": lambda e: {"azimuth": QUARTER - e["azimuth"]},
    "elevation negated": lambda e: {"elevation": -e["elevation"]},
    "theta negated": lambda e: {"theta": -e["theta"]},
    "90 degrees minus elevation (a polar angle)": lambda e: {"elevation": QUARTER - e["elevation"]},
    "angles times 6.28 (turns for radians)": lambda e: {
        name: math.remainder(e[name], 2 * math.pi) / (2 * math.pi) for name in ("azimuth", "elevation", "theta")
    },
    "angles times 57.3 (converted to radians twice)": lambda e: {
        name: math.remainder(e[name], 2 * math.pi) * math.pi / 180 for name in ("azimuth", "elevation", "theta")
    },
}  # fmt: skip


@pytest.mark.parametrize("masks", [True, False])
def test_mistakes_are_named_and_sound_data_are_not_suspected(tmp_path: Path, masks: bool) -> None:
    root = write(tmp_path / "data", masks=masks)
    assert warnings(root) == []
    samples = [sample for split in ("train", "val") for sample in ImageNet3D(root).samples(split)]
    by = "masks" if masks else "boxes"
    missed = []
    for name, edit in CHANGES.items():
        wrong = [replace(s, **edit({n: getattr(s, n) for n in ("azimuth", "elevation", "theta")})) for s in samples]
        better = find_better(measure_fits(wrong, {1: BODY}, by))  # type: ignore[arg-type]
        if better is None or name not in better.names:
            missed.append((name, better))
        else:
            assert better.after > better.before + 0.02 and f"{by} fit better with" in str(better)
    # the boxes of small turns are alike
    assert missed == []


def test_the_finding_says_how_much_better(tmp_path: Path) -> None:
    root = change(write(tmp_path), CHANGES["azimuth negated"])
    (found,) = (text for text in warnings(root) if text.startswith("poses"))
    assert found.startswith("poses: azimuth negated fits better: masks fit better with azimuth negated: IoU 0.8")
    assert found.endswith("over 16 objects")


def test_models_with_another_axis_up_are_named(tmp_path: Path) -> None:
    root = write(tmp_path)
    x, y, z = BODY.vertices.unbind(dim=1)
    save_off(root / "CAD/thing/01.off", Mesh(torch.stack([x, z, -y], dim=1), BODY.faces))
    assert any(text.startswith("poses: CAD models whose y axis is up turned upright") for text in warnings(root))


def test_few_images_of_each_category_tell_together(tmp_path: Path) -> None:
    for category in ("one", "two", "three"):
        write(tmp_path, count=3, category=category)
    assert warnings(tmp_path) == []
    findings = check_dataset(change(tmp_path, CHANGES["180 degrees added to azimuth"]), workers=1).findings
    assert ["all categories"] == [f.category for f in findings if f.problem.startswith("poses: 180 degrees added")]


def test_what_turns_without_changing_is_not_suspected(tmp_path: Path) -> None:
    root = write(tmp_path, BOTTLE)
    for name in ("azimuth negated", "180 degrees added to azimuth", "90 degrees taken from azimuth"):
        change(root, CHANGES[name])
        assert warnings(root) == [], name


def test_noise_alone_is_not_suspected() -> None:
    rng = np.random.default_rng(0)
    values = 0.7 + 0.1 * rng.standard_normal((200, 1 + len(MISTAKES), 2, 40))
    assert [find_better(Fits("masks", each)) for each in values] == [None] * 200
    certain = np.full((1 + len(MISTAKES), 2, 40), 0.7)
    certain[1] = 0.8  # the first mistake
    better = find_better(Fits("masks", certain))
    assert better is not None and better.names == (MISTAKES[0].name,)
    assert (better.before, better.after, better.count) == (pytest.approx(0.7), pytest.approx(0.8), 40)


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize(
    ("layout", "order"),
    [
        ("x, y, width, height", lambda a, b, c, d: (a, b, c - a, d - b)),
        ("centre x, centre y, width, height", lambda a, b, c, d: ((a + c) / 2, (b + d) / 2, c - a, d - b)),
        ("y1, x1, y2, x2", lambda a, b, c, d: (b, a, d, c)),
        ("y1, y2, x1, x2", lambda a, b, c, d: (b, d, a, c)),
        ("x1, x2, y1, y2", lambda a, b, c, d: (a, c, b, d)),
        ("pixels of an image 2 times as wide and 2 times as high", lambda a, b, c, d: (2 * a, 2 * b, 2 * c, 2 * d)),
        ("pixels of an image 0.5 times as wide and 0.5 times as high", lambda *box: [side / 2 for side in box]),
    ],
)
def test_boxes_in_another_order_are_named(tmp_path: Path, masks: bool, layout: str, order: Any) -> None:
    root = change(write(tmp_path, masks=masks, count=12), lambda e: {"bbox": np.array(order(*e["bbox"]))})
    found = [text for text in warnings(root) if text.startswith("boxes look like")]
    assert len(found) == 1 and found[0].startswith(f"boxes look like {layout}: IoU with the objects")
    assert not any(text.startswith("poses") for text in warnings(root))


def test_boxes_that_fit_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 200, (40, 2))
    boxes = np.concatenate([low, low + rng.uniform(20, 200, (40, 2))], axis=1)
    assert find_box_layout(boxes, boxes + rng.normal(0, 4, boxes.shape)) is None
    # nor are those of other objects, which no layout explains
    assert find_box_layout(boxes, rng.permutation(boxes)) is None


def units(azimuths: np.ndarray, elevation: float) -> list[str]:
    result = CheckResult(Path())
    check_units("thing", [(azimuth, elevation, 0.0) for azimuth in azimuths.tolist()], result)
    return [finding.problem for finding in result.findings]


def test_degrees_that_a_writer_has_wrapped_are_noticed() -> None:
    degrees = np.arange(0.0, 360.0, 45.0)
    assert units(degrees % (2 * math.pi), 20.0 % (2 * math.pi)) == ["azimuths are whole degrees modulo 2 pi: degrees?"]
    assert units(np.radians(degrees), math.radians(20)) == []
    assert units(np.radians(np.radians(degrees)), math.radians(math.radians(20))) == [
        "all angles are small: converted to radians twice?"
    ]
    assert units(np.zeros(50), 0.0) == []  # one camera
    tilts = np.array([-20, -5, 5, 12, 30], dtype=float)
    for place, name in ((1, "elevations"), (2, "thetas")):
        for convert, expected in ((lambda x: x % (2 * math.pi), 1), (np.radians, 0)):
            rows = np.tile([1.0, 0.5, 0.0], (5, 1))
            rows[:, place] = convert(tilts)
            result = CheckResult(Path())
            check_units("thing", [(a, e, t) for a, e, t in rows.tolist()], result)
            found = [finding.problem for finding in result.findings]
            assert found == [f"{name} are whole degrees modulo 2 pi: degrees?"] * expected


def test_degrees_and_shares_are_errors_with_a_count(tmp_path: Path) -> None:
    root = change(write(tmp_path, count=6), lambda e: {"azimuth": 90.0})
    problems = [f.problem for f in check_dataset(root, workers=1).findings if f.severity == "error"]
    assert problems.count("an angle is beyond 2 pi: degrees in the place of radians?") == 6
    change(root, lambda e: {"azimuth": 1.0, "bbox": e["bbox"] / 100})
    problems = [f.problem for f in check_dataset(root, workers=1).findings if f.severity == "error"]
    assert problems.count("the box is in 0..1: shares of the image in the place of pixels?") == 6


def turn_files(root: Path, orientation: int, stored: Callable[[np.ndarray], np.ndarray] = lambda x: x) -> None:
    """Give every image an EXIF orientation, its raster changed by `stored`."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    for path in root.glob("images/*/*"):
        pixels = np.ascontiguousarray(stored(np.asarray(Image.open(path))))
        Image.fromarray(pixels).save(path, exif=exif, quality=95)


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_an_orientation_that_the_size_leaves_open_is_settled_by_masks(tmp_path: Path, orientation: int) -> None:
    problem = "EXIF orientation that the annotated size does not settle"
    root = write(tmp_path, count=8)
    turn_files(root, orientation)  # annotated on the stored pixels
    assert [text.startswith(f"{problem}: masks lie on the stored pixels") for text in warnings(root)] == [True] * 8


def test_an_orientation_that_masks_confirm_is_no_finding(tmp_path: Path) -> None:
    root = write(tmp_path, count=8)
    turn_files(root, 3, lambda pixels: pixels[::-1, ::-1])
    assert warnings(root) == []
    for path in root.glob("masks/*/*"):
        path.unlink()
    # without masks nothing tells
    problem = "EXIF orientation that the annotated size does not settle: it is turned, as EXIF says"
    assert [text.startswith(problem) for text in warnings(root)] == [True] * 8


def test_the_cars_and_eth80_are_not_suspected_and_wrong_copies_are(shared_dir: Path) -> None:
    for name, category, by in (("cars", "car", "boxes"), ("eth80", "horse", "masks")):
        dataset = ImageNet3D(shared_dir / "data" / name)
        samples = [s for s in dataset.samples("val") if s.category == category][::4][:40]
        meshes = dict(enumerate(dataset.meshes(category), start=1))
        assert find_better(measure_fits(samples, meshes, by)) is None  # type: ignore[arg-type]
        wrong = [replace(sample, azimuth=-sample.azimuth) for sample in samples]
        better = find_better(measure_fits(wrong, meshes, by))  # type: ignore[arg-type]
        assert better is not None and "azimuth negated" in better.names
