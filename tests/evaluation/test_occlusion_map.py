"""The occlusion map against counts of cells, and that a written data set and occlusion on the fly measure the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.transforms import InputConfig
from compnet3d.evaluation.crops import EvaluationCrops, Loading
from compnet3d.evaluation.evaluate import evaluate
from compnet3d.evaluation.occlusion_map import OcclusionMap, occlusion_ious
from compnet3d.models.backbones import BackboneConfig
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from compnet3d.models.dual_head import DualHead, DualHeadConfig
from compnet3d.robustness.corrupted_data import corrupt_dataset
from compnet3d.robustness.occluded_data import occlude_dataset
from compnet3d.robustness.shift import Shift
from tests.networks import TINY_RESNET

SPEC = InputConfig(height=48, width=48, focal=120.0, distance=3.0, box_fill=0.7)
BOUNDS = (((-0.45, -0.2, -0.15), (0.45, 0.2, 0.15)), ((-0.15, -0.2, -0.45), (0.15, 0.2, 0.45)))
BACKBONE = BackboneConfig("resnet", TINY_RESNET, dimension=16)


def make_model() -> CompNet:
    torch.manual_seed(0)
    model = CompNet(
        CompNetConfig(("brick", "tower"), BOUNDS, BACKBONE, SPEC, vertex_count=40, background_size=8)
    ).eval()
    model.bank.update_background(torch.nn.functional.normalize(torch.randn(8, 16), dim=-1))
    return model


@pytest.fixture
def masked_data(tiny_maker: Callable[..., Path], tmp_path: Path) -> Path:
    """Tiny data whose masks are the boxes."""
    root = tiny_maker(tmp_path / "data", images=2)
    for sample in ImageNet3D(root).samples("val"):
        x1, y1, x2, y2 = (round(c) for c in sample.bbox)
        mask = np.zeros((sample.height, sample.width), np.uint8)
        mask[y1:y2, x1:x2] = 255
        path = root / "masks" / sample.category / f"{sample.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    return root


def test_overlaps_equal_a_plain_count() -> None:
    generator = torch.Generator().manual_seed(0)
    own, hiding = (torch.rand(6, 8, 12, generator=generator) < share for share in (0.7, 0.5))
    own[1], hiding[2] = False, False
    said = torch.rand(6, 4, 6, generator=generator) < 0.5
    found = occlusion_ious(said, {"object_mask": own, "occluder_mask": hiding})
    for n in range(6):
        both = either = silhouette = hidden = 0
        for i in range(4):
            for j in range(6):
                pixels = [(y, x) for y in (2 * i, 2 * i + 1) for x in (2 * j, 2 * j + 1) if own[n, y, x]]
                if len(pixels) < 2:
                    continue
                covered = 2 * sum(bool(hiding[n, y, x]) for y, x in pixels) >= len(pixels)
                silhouette, hidden = silhouette + 1, hidden + covered
                both, either = both + (covered and bool(said[n, i, j])), either + (covered or bool(said[n, i, j]))
        if hidden == 0:
            assert n in (1, 2) and found[n].isnan().all()
        else:
            assert found[n].tolist() == pytest.approx([both / either, hidden / silhouette])


def test_images_in_which_nothing_is_hidden_do_not_count() -> None:
    rows = torch.tensor([[0.2, 0.4], [math.nan, math.nan], [0.6, 0.8]], dtype=torch.float64)
    found = OcclusionMap.of(rows)
    assert found is not None and (found.images, found.mean_iou, found.mean_iou_of_all) == pytest.approx((2, 0.4, 0.6))
    assert OcclusionMap.of(rows[1:2]) is None


def test_masks_lie_on_the_crop_as_the_image_does(masked_data: Path, tmp_path: Path) -> None:
    """Occluders painted in a colour of their own are found again in the turned crop, where the mask says."""
    occlude_dataset(masked_data, tmp_path / "occluded", Shift("L2"))
    samples = ImageNet3D(tmp_path / "occluded").samples("val")
    for sample in samples:
        assert sample.occluder_mask is not None
        pixels = np.where(np.asarray(Image.open(sample.occluder_mask))[..., None] > 0, [255, 0, 0], [0, 0, 255])
        Image.fromarray(pixels.astype(np.uint8)).save(sample.image)
    crops = EvaluationCrops(samples, ("brick", "tower"), SPEC, shift=Shift(rotation=30.0))
    for i in range(len(crops)):
        item = crops[i]
        shown = torch.from_numpy(crops.crop_at(i).valid())
        red = item["image"][0] > 127
        assert (red == item["occluder_mask"])[shown].float().mean() > 0.97
        assert not item["occluder_mask"][~shown].any() and item["object_mask"].any()


def test_a_written_set_and_occlusion_on_the_fly_measure_the_same(masked_data: Path, tmp_path: Path) -> None:
    occlude_dataset(masked_data, tmp_path / "occluded", Shift("L1"))
    model, loading = make_model(), Loading(3, progress=False)
    clean, occluded = (ImageNet3D(path).samples("val") for path in (masked_data, tmp_path / "occluded"))
    written = evaluate(model, occluded, loading=loading)
    assert written.occlusion_map is not None and written.occlusion_map.images == len(clean)
    assert 0.1 < written.occlusion_map.mean_iou_of_all < 0.5, "L1 hides 20 to 40 %"
    assert evaluate(model, clean, shift=Shift("L1"), loading=loading).occlusion_map == written.occlusion_map
    assert evaluate(model, clean, loading=loading).occlusion_map is None
    heads = DualHead(DualHeadConfig(("brick", "tower"), BOUNDS, BACKBONE, SPEC)).eval()
    assert evaluate(heads, occluded, loading=loading).occlusion_map is None
    # without some of the masks, the others are measured
    some = [replace(occluded[0], mask=None), replace(occluded[1], occluder_mask=None), *occluded[2:]]
    found = evaluate(model, some, loading=loading).occlusion_map
    assert found is not None and found.images == len(clean) - 2


def test_a_corrupted_copy_keeps_the_masks(masked_data: Path, tmp_path: Path) -> None:
    occlude_dataset(masked_data, tmp_path / "occluded", Shift("L1"))
    corrupt_dataset(tmp_path / "occluded", tmp_path / "foggy", Shift(corruption="brightness", severity=1))
    for before, after in zip(
        *(ImageNet3D(tmp_path / name).samples("val") for name in ("occluded", "foggy")), strict=True
    ):
        assert before.occluder_mask is not None and after.occluder_mask is not None
        assert before.occluder_mask.read_bytes() == after.occluder_mask.read_bytes()
