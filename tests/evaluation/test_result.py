"""Results and shifts survive JSON, whatever is in them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compnet3d.errors import CompNetError
from compnet3d.evaluation.metrics import FlipMetrics, PoseMetrics
from compnet3d.evaluation.occlusion_map import OcclusionMap
from compnet3d.evaluation.reliability import Reliability, ReliabilityBin
from compnet3d.evaluation.result import (
    CategoryMetrics,
    Confusion,
    EvaluationResult,
    Flips,
    HiddenShares,
    PoseForm,
    PoseSummary,
    Record,
    Resources,
    Settings,
)
from compnet3d.evaluation.unknown import UnknownRates
from compnet3d.evaluation.unseen_result import UnseenCategory, UnseenPose, UnseenResult
from compnet3d.robustness.corruption import CORRUPTIONS
from compnet3d.robustness.shift import Shift
from compnet3d.utils.files import write_json

SHARE = st.floats(0, 1)
NAME = st.text(min_size=1, max_size=8)
COUNT = st.integers(0, 1000)
METRICS = st.builds(PoseMetrics, *[st.none() | st.floats(0, 180)] * 3)
FLIP_METRICS = st.builds(FlipMetrics, *[st.none() | SHARE] * 2)
FLIPS = st.builds(Flips, COUNT, FLIP_METRICS, FLIP_METRICS)
SHIFT = st.builds(
    Shift,
    occlusion=st.none() | st.sampled_from(["L1", "L2", "L3"]),
    protocol=st.sampled_from(["generator", "paper"]),
    occluders=st.sampled_from(["blobs", "objects", "some/folder"]),
    corruption=st.none() | st.sampled_from(CORRUPTIONS),
    severity=st.integers(1, 5),
    frost=st.none() | st.just("ice"),
    rotation=st.floats(0, 180),
    seed=COUNT,
)
RECORD = st.builds(
    Record,
    index=COUNT, name=NAME, category=NAME, predicted=NAME, confidence=SHARE,
    pose=st.tuples(*[SHARE] * 4), principal_point=st.tuples(SHARE, SHARE), true_pose=st.tuples(*[SHARE] * 4),
    error_true_category=SHARE, error_predicted_category=SHARE, symmetric_error_true_category=SHARE,
    symmetric_error_predicted_category=SHARE, flipped=st.none() | st.booleans(), pose_confidence=st.none() | SHARE,
    unknown=st.none() | st.booleans(),
)  # fmt: skip
BIN = st.builds(ReliabilityBin, images=COUNT, confidence=st.none() | SHARE, accuracy=st.none() | SHARE)
RELIABILITY = st.builds(
    Reliability,
    images=st.integers(1, 99), mean_confidence=SHARE, accuracy=SHARE, ece=SHARE, brier=SHARE, nll=SHARE,
    bins=st.tuples(BIN, BIN),
)  # fmt: skip
UNKNOWN = st.builds(
    UnknownRates,
    false_alarms=SHARE, objects=COUNT, missed=st.none() | SHARE,
    backgrounds=COUNT, missed_backgrounds=st.none() | SHARE,
)  # fmt: skip
RESOURCES = st.builds(Resources, SHARE, SHARE, SHARE, st.none() | SHARE, st.none() | SHARE)


@st.composite
def results(draw: st.DrawFn) -> EvaluationResult:
    unseen = draw(st.booleans())

    def form() -> PoseForm:
        found = [draw(METRICS) for _ in range(4)]
        return PoseForm(draw(COUNT), *found[: 3 + unseen])

    def pose() -> PoseSummary:
        return PoseSummary(form(), form(), form(), draw(st.none() | SHARE) if unseen else None, draw(st.none() | FLIPS))

    names = draw(st.lists(NAME, min_size=1, max_size=3, unique=True))
    return EvaluationResult(
        images=draw(COUNT),
        accuracy=draw(SHARE),
        pose=pose(),
        confidence=draw(st.none() | RELIABILITY),
        pose_confidence=draw(st.none() | RELIABILITY),
        called_unknown=draw(st.none() | SHARE),
        unknown=draw(st.none() | UNKNOWN),
        excluded_categories=tuple(draw(st.lists(NAME, max_size=2))),
        per_category={name: CategoryMetrics(draw(COUNT), draw(SHARE), pose()) for name in names},
        occlusion=draw(st.none() | st.builds(HiddenShares, SHARE, SHARE)),
        confusion=Confusion(tuple(names), tuple(tuple(draw(COUNT) for _ in names) for _ in names)),
        resources=draw(RESOURCES),
        settings=Settings(draw(st.sampled_from(["oracle", "box"])), draw(COUNT), draw(SHIFT), {"model": draw(NAME)}),
        records=tuple(draw(st.lists(RECORD, max_size=2))),
        occlusion_map=draw(st.none() | st.builds(OcclusionMap, COUNT, SHARE, SHARE)),
    )


@settings(max_examples=50, deadline=None)
@given(results())
def test_a_result_survives_json(result: EvaluationResult) -> None:
    stored = json.loads(json.dumps(result.to_dict(records=True), allow_nan=False))
    assert EvaluationResult.from_dict(stored) == result
    stored = json.loads(json.dumps(result.to_dict()))
    assert "records" not in stored
    assert EvaluationResult.from_dict(stored) == replace(result, records=())


@settings(max_examples=50, deadline=None)
@given(SHIFT)
def test_a_shift_survives_json(shift: Shift) -> None:
    assert Shift.from_dict(json.loads(json.dumps(shift.to_dict()))) == shift


def test_shifts_that_do_the_same_are_equal() -> None:
    assert Shift(protocol="paper", occluders="objects", severity=2, frost="ice") == Shift()
    assert Shift("L1", corruption="fog", frost="ice") == Shift("L1", corruption="fog")
    assert Shift("L1", "paper") != Shift("L1") and Shift(corruption="fog", severity=2) != Shift(corruption="fog")
    assert Shift().label == "clean"
    assert Shift("L2", corruption="fog", rotation=25).label == "occluded L2, fog 4, rotated by up to 25 degrees"


def test_settings_of_what_is_not_asked_for_are_null() -> None:
    assert Shift(seed=3).to_dict() == {
        "occlusion": None, "occlusion_protocol": None, "occluders": None, "corruption": None, "severity": None,
        "frost": None, "rotate_deg": 0.0, "seed": 3, "backgrounds": None,
    }  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.lists(METRICS, min_size=4, max_size=4), RESOURCES, st.dictionaries(NAME, SHARE, max_size=3))
def test_a_result_of_unseen_categories_survives_json(metrics, resources, shares) -> None:
    pose = UnseenPose(*metrics[:2])
    entry = UnseenCategory(5, UnseenPose(*metrics[2:]), shares)
    result = UnseenResult(5, pose, None, 0.25, {"brick": entry}, resources)
    assert UnseenResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_a_file_that_holds_no_evaluation_is_refused(tmp_path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"occlusion": None, "images": 3})
    with pytest.raises(CompNetError, match=r"metrics.json: has no 'classification'"):
        EvaluationResult.read(path)
    write_json(path, [1, 2])
    with pytest.raises(CompNetError, match="metrics.json: is no evaluation"):
        EvaluationResult.read(path)
