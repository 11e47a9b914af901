"""What a training needs of memory, told before its first step."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compnet3d.errors import CompNetError
from compnet3d.models.backbones import BackboneConfig, build_extractor
from compnet3d.models.compnet import CompNet
from compnet3d.training import memory_need
from compnet3d.training.memory_need import MemoryNeed, check_need, measure_need
from tests.networks import TINY_CONFIG

VIT = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 8, "image_size": 48,
       "intermediate_size": 24}  # fmt: skip


def model_of(**options: bool) -> CompNet:
    model = CompNet(replace(TINY_CONFIG, backbone=BackboneConfig("vit", VIT, dimension=16, **options)))
    model.feature_extractor.amp = False
    return model


def measured_peak(side: int, images: int) -> tuple[float, float]:
    """The estimate, and by how much the process grew at most over two steps, both in MB."""
    config = {**VIT, "hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 6, "image_size": side}
    inputs = replace(TINY_CONFIG.input_config, height=side, width=side)
    model = CompNet(replace(TINY_CONFIG, backbone=BackboneConfig("vit", config, dimension=32), input_config=inputs))
    network = model.feature_extractor
    network.amp = False
    need = measure_need(model, images).total
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], foreach=False)

    def resident(key: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(key))

    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS:")
    for _ in range(2):
        optimiser.zero_grad(set_to_none=True)
        network(torch.rand(images, 3, side, side)).square().mean().backward()
        optimiser.step()
    return need, resident("VmHWM:") - before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a peak")
def test_the_need_is_the_peak_of_a_training_step() -> None:
    """Without the holes that an allocator leaves: it is told to give back at once what is freed."""
    code = (
        "import json, torch; from tests.training.test_memory_need import measured_peak; torch.set_num_threads(1); "
        "measured_peak(64, 2); print(json.dumps([measured_peak(side, 16) for side in (64, 96, 128)]))"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, text=True, check=True
    )
    pairs = json.loads(done.stdout)
    assert [need == pytest.approx(peak, rel=0.1) for need, peak in pairs] == [True] * 3, pairs
    # and it grows as it should: with more than the square of the side, as attention does
    assert pairs[2][1] > 3.5 * pairs[0][1]


def test_gradients_and_moments_are_three_numbers_a_parameter() -> None:
    count = sum(parameter.numel() for parameter in build_extractor(model_of().config.backbone).parameters())
    assert measure_need(model_of(), 8).learning == pytest.approx(12 * count / 1e6)
    head = sum(parameter.numel() for parameter in model_of().feature_extractor.projection.parameters())
    assert measure_need(model_of(frozen=True), 8).learning == pytest.approx(12 * head / 1e6)


def test_each_image_takes_as_much_as_the_one_before() -> None:
    need = [measure_need(model_of(), images).activations for images in (2, 3, 4, 32)]
    assert need[1] - need[0] == pytest.approx(need[2] - need[1])
    assert need[3] == pytest.approx(need[0] + 30 * (need[1] - need[0]))


def test_freezing_and_computing_again_take_less() -> None:
    plain, again, frozen = (
        measure_need(model_of(**o), 8).activations for o in ({}, {"checkpointing": True}, {"frozen": True})
    )
    assert frozen < again < plain


def test_nothing_changes_by_measuring() -> None:
    model = CompNet(TINY_CONFIG)  # with batch norms
    model.feature_extractor.backbone.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    torch.manual_seed(1)
    drawn = torch.rand(3)
    torch.manual_seed(1)
    measure_need(model, 8)
    assert torch.equal(drawn, torch.rand(3))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [part.training for part in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_is_scarce_is_warned_of_and_what_cannot_fit_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory_need, "available_mb", lambda: 1000.0)
    check_need(MemoryNeed(100, 390), torch.device("cpu"), 2)
    assert capsys.readouterr().err == ""
    check_need(MemoryNeed(100, 600), torch.device("cpu"), 2)
    assert "needs about 1.4 GB of memory" in (text := capsys.readouterr().err) and "1.0 GB are free" in text
    with pytest.raises(CompNetError, match=r"needs about 3.0 GB .* 1.0 GB are free; lower schedule.batch_size"):
        check_need(MemoryNeed(100, 2900), torch.device("cpu"), 1)
    monkeypatch.setattr(memory_need, "available_mb", lambda: None)
    check_need(MemoryNeed(1e9, 1e9), torch.device("cpu"), 1)
