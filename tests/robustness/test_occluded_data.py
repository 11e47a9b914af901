"""Writing an occluded data set, and that evaluating it shows the same pixels as occluding on the fly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from compnet3d.cli import main as cli
from compnet3d.data.annotations import read_annotation, write_annotation
from compnet3d.data.check import check_dataset
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.images import hidden_shares, load_image, load_mask
from compnet3d.data.transforms import InputConfig
from compnet3d.errors import CompNetError
from compnet3d.evaluation.crops import EvaluationCrops
from compnet3d.robustness.occluded_data import occlude_dataset
from compnet3d.robustness.occluders import occluder_samples
from compnet3d.robustness.occlusion import RANGES
from compnet3d.robustness.shift import Shift

SPEC = InputConfig(height=40, width=40, focal=110.0, distance=3.0, box_fill=0.8)


@pytest.fixture
def masked_data(tiny_data: Path, tmp_path: Path) -> Path:
    """The tiny data set with masks (the boxes' upper left triangles), a symmetry table and JPEGs as always."""
    root = tmp_path / "data"
    shutil.copytree(tiny_data, root)
    dataset = ImageNet3D(root)
    for sample in [*dataset.samples("train"), *dataset.samples("val")]:
        x1, y1, x2, y2 = (int(c) for c in sample.bbox)
        mask = np.zeros((sample.height, sample.width), np.uint8)
        mask[y1:y2, x1:x2] = 255 * np.tri(y2 - y1, x2 - x1, 2, dtype=np.uint8)
        path = root / "masks" / sample.category / f"{sample.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    (root / "symmetry.json").write_text('{"brick": {"z": 2}}')
    return root


def pixels(dataset: ImageNet3D, **options: Any) -> torch.Tensor:
    crops = EvaluationCrops(dataset.samples("val"), dataset.categories, SPEC, **options)
    return torch.stack([crops[i]["image"] for i in range(len(crops))])


@pytest.mark.parametrize("occluders", ["blobs", "objects", "folder"])
@pytest.mark.parametrize("protocol", ["generator", "paper"])
def test_a_written_set_and_occlusion_on_the_fly_show_the_same_pixels(
    masked_data: Path, tmp_path: Path, occluders: str, protocol: Any
) -> None:
    if occluders == "folder":
        (tmp_path / "cutouts").mkdir()
        cutout = np.random.default_rng(0).integers(0, 255, (30, 20, 4), dtype=np.uint8)
        cutout[5:25, 5:15, 3] = 255
        Image.fromarray(cutout).save(tmp_path / "cutouts" / "a.png")
        occluders = str(tmp_path / "cutouts")
    dataset = ImageNet3D(masked_data)
    occlude_dataset(masked_data, tmp_path / "out", Shift("L2", protocol, occluders, seed=5))
    written = ImageNet3D(tmp_path / "out")
    options = {"crop": "box", "shift": Shift(rotation=20.0, seed=5)}
    on_the_fly = pixels(
        dataset,
        crop="box",
        shift=Shift("L2", protocol, occluders, rotation=20.0, seed=5),
        occluder_samples=occluder_samples(dataset, "val"),
    )
    assert torch.equal(pixels(written, **options), on_the_fly)
    assert not torch.equal(pixels(dataset, **options), on_the_fly)
    first = dataset.samples("val")[0]
    crops = EvaluationCrops(written.samples("val"), written.categories, SPEC, **options)
    assert float(crops[0]["hidden_object"]) == pytest.approx(written.samples("val")[0].hidden[0])
    assert first.hidden is None


def test_what_is_written_can_be_counted_again(masked_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = occlude_dataset(masked_data, out, Shift("L3", seed=1))
    assert json.loads((out / "occlusion.json").read_text()) == json.loads(json.dumps(summary))
    source, written = ImageNet3D(masked_data), ImageNet3D(out)
    assert written.splits == ["val"] and written.symmetry == source.symmetry
    assert check_dataset(out).count("error") == 0
    counted = []
    for before, after in zip(source.samples("val"), written.samples("val"), strict=True):
        assert (before.key, before.bbox, before.azimuth) == (after.key, after.bbox, after.azimuth)
        occluders = load_mask(out / "occluder_masks" / after.category / f"{after.name}.png")
        assert after.mask is not None and (load_mask(after.mask) == load_mask(before.mask or "")).all()
        old, new = (np.asarray(load_image(s.image)).astype(int) for s in (before, after))
        changed = np.abs(old - new).max(axis=-1) > 0
        assert changed[occluders].mean() > 0.9 and (changed & ~occluders).mean() < 0.15
        assert after.hidden == pytest.approx(hidden_shares(occluders, load_mask(after.mask)))
        counted.append(after.hidden)
        entry = read_annotation(out / "annotations" / after.category / f"{after.name}.npz")[0]
        told = {k: entry[k] for k in ("occlusion_level", "occlusion_protocol", "occluder_seed")}
        assert told == {"occlusion_level": "L3", "occlusion_protocol": "generator", "occluder_seed": 1}
        original = read_annotation(masked_data / "annotations" / after.category / f"{after.name}.npz")[0]
        assert set(original) < set(entry)
    for i, what in enumerate(("hidden_object", "hidden_background")):
        column = [shares[i] for shares in counted]
        metrics = [np.mean(column), min(column), max(column), *RANGES["generator"]["L3"][i]]
        assert [*(summary[what][k] for k in ("mean", "min", "max")), *summary[what]["range"]] == pytest.approx(metrics)
    outside = [
        any(not low - 1e-9 <= s <= high + 1e-9 for s, (low, high) in zip(h, RANGES["generator"]["L3"], strict=True))
        for h in counted
    ]
    assert summary["outside_range"] == sum(outside) and summary["images"] == len(counted)


def test_the_same_seed_writes_the_same_set_with_any_number_of_processes(masked_data: Path, tmp_path: Path) -> None:
    for name, seed, workers in (("a", 3, 1), ("b", 3, 2), ("c", 4, None)):
        occlude_dataset(masked_data, tmp_path / name, Shift("L1", seed=seed), workers=workers)
    trees = [
        {p.relative_to(tmp_path / n): p.read_bytes() for p in sorted((tmp_path / n).rglob("*")) if p.is_file()}
        for n in "abc"
    ]
    assert trees[0] == trees[1] and trees[0].keys() == trees[2].keys() and trees[0] != trees[2]


def test_each_object_of_an_image_gets_an_image_of_its_own(masked_data: Path, tmp_path: Path) -> None:
    name = ImageNet3D(masked_data).names("brick", "val")[0]
    path = masked_data / "annotations" / "brick" / f"{name}.npz"
    (entry,) = read_annotation(path)
    ignored = entry | {"ignore": 1}
    second = entry | {"bbox": np.array([1.0, 1.0, 12.0, 9.0]), "azimuth": 1.0, "note": np.str_("as numpy writes it")}
    write_annotation(path, [entry, ignored, second])
    out = tmp_path / "out"
    occlude_dataset(masked_data, out, Shift("L1"))
    assert ImageNet3D(out).names("brick", "val")[:2] == [f"{name}_object0", f"{name}_object2"]
    first, other = ImageNet3D(out).samples("val")[:2]
    assert other.azimuth == 1.0 and other.bbox == (1.0, 1.0, 12.0, 9.0) and first.azimuth == entry["azimuth"]
    assert first.image.read_bytes() != other.image.read_bytes()
    dataset = ImageNet3D(masked_data)
    assert torch.equal(pixels(dataset, shift=Shift("L1")), pixels(ImageNet3D(out)))

    taken = masked_data / "lists" / "brick_imagenet_val.txt"
    taken.write_text(f"{name}_object0\n" + taken.read_text())
    for folder, suffix in (("images", "JPEG"), ("annotations", "npz")):
        source = masked_data / folder / "brick" / f"{ImageNet3D(masked_data).names('brick', 'val')[2]}.{suffix}"
        shutil.copy(source, masked_data / folder / "brick" / f"{name}_object0.{suffix}")
    with pytest.raises(CompNetError, match="would take the name"):
        occlude_dataset(masked_data, tmp_path / "again", Shift("L1"))


def test_problems_are_named_and_nothing_is_left_behind(masked_data: Path, tmp_path: Path) -> None:
    used = tmp_path / "used"
    used.mkdir()
    (used / "thesis.tex").touch()
    with pytest.raises(CompNetError, match="not an empty folder"):
        occlude_dataset(masked_data, used, Shift("L1"))
    with pytest.raises(CompNetError, match="L1, L2 or L3"):
        occlude_dataset(masked_data, tmp_path / "out", Shift("L5"))  # type: ignore[arg-type]
    occlude_dataset(masked_data, tmp_path / "once", Shift("L1"))
    with pytest.raises(CompNetError, match="occluded already"):
        occlude_dataset(tmp_path / "once", tmp_path / "out", Shift("L1"))
    victim = ImageNet3D(masked_data).samples("val")[-1]
    victim.image.write_bytes(b"no image")
    with pytest.raises(CompNetError, match=victim.image.name):
        occlude_dataset(masked_data, tmp_path / "out", Shift("L1"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "once", "used"]


def test_the_command_writes_and_reports(masked_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["data", "occlude", str(masked_data), str(tmp_path / "out"), "--level", "L1", "--occluders", "objects"]
    cli.main([*line, "--protocol", "paper", "--seed", "2", "--split", "val"])
    out = capsys.readouterr().out
    assert "hidden of the object: " in out and "16 images" in out and str(tmp_path / "out") in out
    summary = json.loads((tmp_path / "out" / "occlusion.json").read_text())
    settings = {k: summary[k] for k in ("level", "protocol", "occluders", "seed", "split")}
    assert settings == {"level": "L1", "protocol": "paper", "occluders": "objects", "seed": 2, "split": "val"}
