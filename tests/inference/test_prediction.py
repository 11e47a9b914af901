"""Answers of a batch: one of them, some of them, all in turn, and as dictionaries."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compnet3d.geometry.camera import Pose
from compnet3d.geometry.rotations import wrap_signed
from compnet3d.inference.prediction import Prediction
from compnet3d.reporting.predictions import shown_degrees


def prediction(count: int = 3, *, reconstructs: bool = True) -> Prediction:
    numbers = torch.arange(count, dtype=torch.float32)
    return Prediction(
        categories=("cup", "car"),
        category_index=torch.arange(count) % 2,
        scores=torch.stack([0.5 - numbers, numbers], dim=1),
        confidence=0.9 - 0.1 * numbers,
        pose=Pose.of(6.0 + numbers, 0.1 * numbers, -0.2, 5.0 + numbers),
        focal=600.0 + numbers,
        principal_point=torch.stack([numbers, 10 * numbers], dim=1),
        reconstruction_score=0.1 * numbers if reconstructs else None,
        foreground=(torch.arange(count)[:, None, None] == torch.tensor([[0, 1], [2, 3]])) if reconstructs else None,
    )


def test_one_answer_has_plain_values() -> None:
    one = prediction()[1]
    assert one.category == "car" and one.confidence == pytest.approx(0.8) and one.focal == 601.0
    assert one.scores == {"cup": -0.5, "car": 1.0}
    assert one.pose.shape == () and float(one.pose.distance) == 6.0
    assert one.principal_point.tolist() == [1, 10]
    assert one.reconstruction_score == pytest.approx(0.1)
    assert one.foreground is not None and one.foreground.tolist() == [[False, True], [False, False]]
    assert one.angles() == pytest.approx((7 - 2 * math.pi, 0.1, -0.2), abs=1e-6)
    assert one.angles(degrees=True).azimuth == pytest.approx(math.degrees(7) - 360, abs=1e-4)


def test_without_a_reconstruction() -> None:
    batch = prediction(reconstructs=False)
    assert batch[0].reconstruction_score is None and batch[0].foreground is None
    assert batch[1:].reconstruction_score is None and len(batch[1:]) == 2


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (slice(1, None), [1, 2]),
        (slice(None, None, 2), [0, 2]),
        (slice(3, 3), []),
        ([2, 0], [2, 0]),
        (torch.tensor([1]), [1]),
        (torch.tensor([True, False, True]), [0, 2]),
        (np.array([2, 1]), [2, 1]),
    ],
)
def test_some_answers_are_a_prediction(index: object, expected: list[int]) -> None:
    whole = prediction()
    some = whole[index]  # type: ignore[call-overload]
    assert isinstance(some, Prediction) and len(some) == len(expected) and some.categories == whole.categories
    assert some.focal.tolist() == [600.0 + i for i in expected]
    assert some.pose.distance.tolist() == [5.0 + i for i in expected]
    assert some.foreground.shape == (len(expected), 2, 2)
    assert [one.category for one in some] == [whole.categories[i % 2] for i in expected]


@pytest.mark.parametrize("index", [2, -1, torch.tensor(2), np.int64(2)])
def test_every_kind_of_number_gives_one_answer(index: int) -> None:
    assert prediction()[index].focal == 602.0


def test_beyond_the_end() -> None:
    with pytest.raises(IndexError):
        prediction()[3]
    with pytest.raises(IndexError):
        prediction(0)[0]
    with pytest.raises(TypeError):
        prediction()[1.5]  # type: ignore[call-overload]


def test_iteration_and_dictionaries_agree() -> None:
    batch = prediction()
    assert [one.focal for one in batch] == [600.0, 601.0, 602.0] and len(list(batch)) == len(batch) == 3
    assert list(prediction(0)) == [] and prediction(0).to_dicts() == []
    assert batch.to_dicts() == [one.to_dict() for one in batch]
    assert json.loads(json.dumps(batch.to_dicts())) == batch.to_dicts()


def test_keys_name_the_unit_of_degrees() -> None:
    plain, degrees = prediction().to_dicts()[1], prediction().to_dicts(degrees=True)[1]
    angles = ("azimuth", "elevation", "theta")
    assert [k for k in plain if k not in degrees] == list(angles)
    assert [k for k in degrees if k not in plain] == [f"{k}_deg" for k in angles]
    for name in angles:
        assert degrees[f"{name}_deg"] == pytest.approx(math.degrees(plain[name]), abs=1e-9)
    assert plain["scores"] == {"cup": -0.5, "car": 1.0} and plain["distance"] == degrees["distance"] == 6.0


@given(st.floats(-20, 20), st.floats(-1.5, 1.5), st.floats(-20, 20))
def test_angles_are_shown_within_half_a_turn(azimuth: float, elevation: float, theta: float) -> None:
    for dtype in (torch.float32, torch.float64):
        pose = Pose.of([azimuth], [elevation], [theta], dtype=dtype)
        one = Prediction(("cup",), torch.zeros(1).long(), *torch.ones(2, 1, 1), pose, torch.ones(1), torch.ones(1, 2))[
            0
        ]
        for angle, given_angle in ((one.angles().azimuth, azimuth), (one.angles().theta, theta)):
            assert -math.pi < angle <= math.pi
            assert math.cos(angle - given_angle) == pytest.approx(1, abs=1e-6)
        shown = one.angles(degrees=True)
        assert -180 < shown.azimuth <= 180 and -180 < shown.theta <= 180 and -90 <= shown.elevation <= 90


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("angle", "expected"), [(math.pi, 180), (-math.pi, 180), (3 * math.pi, 180), (0, 0), (-math.pi / 2, -90)]
)
def test_half_a_turn_is_positive(angle: float, expected: float, dtype: torch.dtype) -> None:
    signed = wrap_signed(torch.tensor(angle, dtype=dtype))
    assert math.degrees(float(signed)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(180, "180.0"), (-179.97, "180.0"), (-179.9, "-179.9"), (-0.01, "0.0"), (0, "0.0"), (12.34, "12.3")],
)
def test_shown_degrees(degrees: float, expected: str) -> None:
    assert shown_degrees(math.radians(degrees)) == expected
