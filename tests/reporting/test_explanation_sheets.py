"""`predict --explain`: a sheet for each object, and nothing replaced that is not ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compnet3d.cli import main as cli
from compnet3d.data.sources import Source, find_sources
from compnet3d.data.transforms import InputConfig
from compnet3d.errors import CompNetError
from compnet3d.inference.detection import Detections
from compnet3d.models.backbones import BackboneConfig
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from compnet3d.models.dual_head import DualHead, DualHeadConfig
from compnet3d.reporting.predictions import Outputs, Places, predict_sources
from tests.networks import TINY_RESNET

pytest.importorskip("matplotlib")
BOUNDS = (((-0.45, -0.2, -0.15), (0.45, 0.2, 0.15)), ((-0.15, -0.2, -0.45), (0.2, 0.2, 0.5)))
BACKBONE = BackboneConfig("resnet", TINY_RESNET, dimension=16)
SPEC = InputConfig(height=48, width=64, focal=120.0, distance=3.0, box_fill=0.7)


class TwoObjects:
    """Finds two objects in every image."""

    def detect(self, image: Image.Image, count: int) -> Detections:
        return Detections(torch.tensor([[5.0, 5, 40, 40], [30, 20, 70, 60]]), torch.tensor([0.9, 0.8])).first(count)


@pytest.fixture
def model() -> CompNet:
    torch.manual_seed(0)
    return CompNet(CompNetConfig(("brick", "tower"), BOUNDS, BACKBONE, SPEC, vertex_count=40, background_size=8)).eval()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_each_object_gets_a_sheet_that_a_second_run_replaces(model: CompNet, image: Path, tmp_path: Path) -> None:
    places = Places(detector=TwoObjects(), objects=2)
    for _ in range(2):
        predict_sources(model, find_sources([image]), places, Outputs(explain=tmp_path / "sheets"))
    sheets = sorted(path for path in (tmp_path / "sheets").iterdir() if path.suffix)
    assert [path.name for path in sheets] == ["a.png", "a_object2.png"]
    first, second = (np.asarray(Image.open(path)) for path in sheets)
    assert first.shape[1] > 1000 and (first.shape != second.shape or (first != second).any())


def test_what_cannot_be_explained_is_refused_before_anything_is_predicted(
    model: CompNet, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = DualHead(DualHeadConfig(("brick", "tower"), BOUNDS, BACKBONE, SPEC)).eval()
    outputs = Outputs(explain=tmp_path / "sheets")
    with pytest.raises(CompNetError, match="--explain needs a CompNet: a dual"):
        predict_sources(heads, find_sources([image]), Places(), outputs)
    with pytest.raises(CompNetError, match="--explain takes images, not camera:0"):
        predict_sources(model, [Source("camera:0", moving=True, live=True)], Places(), outputs)
    with pytest.raises(CompNetError, match=r"a\.png: is there already .* give --explain another folder"):
        predict_sources(model, find_sources([image]), Places(), Outputs(explain=tmp_path))
    assert "brick" not in capsys.readouterr().out


def test_two_folders_must_differ(image: Path, tmp_path: Path) -> None:
    command = cli.parse(["predict", "RUN", str(image), "--overlay", str(tmp_path), "--explain", str(tmp_path)])
    with pytest.raises(CompNetError, match="different folders"):
        command.run()
