"""Calibration errors against plain loops, and how often nothing known is called unknown."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.transforms import InputConfig
from compnet3d.errors import CompNetError
from compnet3d.evaluation.reliability import BINS, Reliability, summarise_reliability
from compnet3d.evaluation.unknown import UnknownRates, measure_unknown


def test_measures_are_those_of_a_plain_loop() -> None:
    sure, right = torch.rand(300), torch.rand(300) < 0.7
    found = summarise_reliability(sure, right)
    gap = 0.0
    for number in range(BINS):
        inside = [i for i, p in enumerate(sure.tolist()) if number / BINS <= p < (number + 1) / BINS]
        assert found.bins[number].images == len(inside)
        gap += abs(sum(float(sure[i]) - float(right[i]) for i in inside)) / 300
    assert found.ece == pytest.approx(gap, abs=1e-6)
    rows = list(zip(sure.tolist(), right.tolist(), strict=True))
    assert found.brier == pytest.approx(sum((p - r) ** 2 for p, r in rows) / 300)
    assert found.nll == pytest.approx(-sum(math.log(p if r else 1 - p) for p, r in rows) / 300)
    assert Reliability.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_at_the_ends_of_the_scale() -> None:
    right = torch.tensor([True, False])
    found = summarise_reliability(torch.tensor([1.0, 0.0]), right)
    assert found.ece == found.brier == 0 and found.nll < 1e-6 and found.bins[-1].images == 1
    wrong = summarise_reliability(torch.tensor([0.0, 1.0]), right)
    assert wrong.ece == wrong.brier == 1 and math.isfinite(wrong.nll)
    assert wrong.bins[3].accuracy is None and wrong.bins[3].images == 0
    with pytest.raises(ValueError, match="N > 0"):
        summarise_reliability(torch.zeros(0), torch.zeros(0, dtype=torch.bool))


class Knows:
    """Calls unknown what is darker than a limit."""

    categories = ("brick",)
    input_config = InputConfig(48, 48, focal=120.0, distance=3.0, box_fill=0.85)

    def __init__(self, limit: float | None) -> None:
        self.limit, self.seen = limit, 0

    def predict_crops(self, images: torch.Tensor, *, crop: str = "oracle") -> SimpleNamespace:
        """Only what `measure_unknown` asks for."""
        self.seen += len(images)
        return SimpleNamespace(unknown=images.float().mean(dim=(1, 2, 3)) < self.limit)


def test_rates_count_objects_of_other_categories_and_backgrounds(tiny_data) -> None:
    samples = ImageNet3D(tiny_data).samples("val")
    others = sum(sample.category == "tower" for sample in samples)
    never, always = (measure_unknown(Knows(limit), samples, 0.1) for limit in (-1.0, 256.0))  # type: ignore[arg-type]
    assert never.objects == always.objects == others > 0
    assert never.missed == 1 and always.missed == 0 and never.false_alarms == 0.1
    shown = Knows(0.0)
    rates = measure_unknown(shown, samples, 0.0)  # type: ignore[arg-type]
    assert shown.seen == others + rates.backgrounds
    assert UnknownRates.from_dict(json.loads(json.dumps(asdict(rates)))) == rates
    with pytest.raises(CompNetError, match="compnet3d calibrate"):
        measure_unknown(shown, samples, None)  # type: ignore[arg-type]
