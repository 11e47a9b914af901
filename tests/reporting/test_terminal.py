"""Tables keep whole words at 80 columns and in files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compnet3d.evaluation.metrics import FlipMetrics, PoseMetrics
from compnet3d.evaluation.occlusion_map import OcclusionMap
from compnet3d.evaluation.result import (
    CategoryMetrics,
    Confusion,
    EvaluationResult,
    Flips,
    HiddenShares,
    PoseForm,
    PoseSummary,
    Resources,
    Settings,
)
from compnet3d.evaluation.unseen_result import UnseenCategory, UnseenPose, UnseenResult
from compnet3d.reporting.predictions import print_predictions
from compnet3d.reporting.terminal import print_evaluation, print_unseen

NAMES = ("dining_table", "washing_machine", "fire_extinguisher", "odd[deg]")
RESOURCES = Resources(61.24, 10.47, 12.58, 873.4, None)


def result() -> EvaluationResult:
    plain, aware = PoseMetrics(0.5, 0.25, 100.04), PoseMetrics(1.0, 1.0, 180.0)
    nothing = PoseMetrics(None, None, None)
    pose = PoseSummary(
        PoseForm(9, plain, plain, nothing), PoseForm(9, aware, aware, aware), PoseForm(9, plain, plain, plain)
    )
    flips = Flips(9, FlipMetrics(0.333, 0.667), FlipMetrics(0.222, 0.5))
    pose = replace(pose, flips=flips)
    entries = {name: CategoryMetrics(100, 0.987, pose) for name in NAMES}
    none = Flips(9, FlipMetrics(0.0, 0.0), FlipMetrics(0.0, None))
    entries[NAMES[0]] = CategoryMetrics(100, 0.987, replace(pose, flips=none))
    confusion = Confusion(NAMES, ((0,) * 4,) * 4)
    hidden = HiddenShares(0.3, 0.1)
    told = OcclusionMap(300, 0.1234, 0.5)
    found = EvaluationResult(400, 0.987, pose, NAMES[:1], entries, hidden, confusion, RESOURCES, Settings())
    return replace(found, occlusion_map=told)


@pytest.mark.parametrize("columns", ["80", None])
def test_an_evaluation_fits_and_no_word_is_cut(
    columns: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if columns is not None:  # a terminal
        monkeypatch.setenv("COLUMNS", columns)
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TERM", "dumb")
    print_evaluation(result())
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= int(columns or 100)
    assert "occluded cells: IoU 12.3 % (calling all of the object occluded: 50.0 %)" in lines
    assert "top-1 accuracy: 98.7 % of 400 images" in lines[0]
    assert not any("…" in line for line in lines)
    for name in NAMES:
        (row,) = [line for line in lines if line.strip().startswith(name) and "98.7" in line]
        assert row.split() == [name, "100", "98.7", "50.0", "25.0", "100.0", "100.0", "100.0", "180.0"]
    first = next(i for i, line in enumerate(lines) if "flipped poses" in line)
    flipped = [line.split() for line in lines[first:] if line.split()[1:] == ["9", "33.3", "66.7", "22.2"]]
    assert [row[0] for row in flipped] == list(NAMES[1:]), "those without a flip are left out"
    text = "\n".join(lines)
    assert (
        "all of them" in text
        and "[deg]" in text
        and "without dining_table" in text
        and "joint: category and pose correct" in text
    )
    assert "occluders hide 30.0 % of the object and 10.0 % of the background" in text
    assert "61.2 s, 10.5 images/s (12.6 without reading them), peak memory 873 MB" in text


def test_unseen_categories_are_listed_with_their_sources(capsys: pytest.CaptureFixture[str]) -> None:
    pose = UnseenPose(PoseMetrics(0.5, 0.25, 31.5), PoseMetrics(0.75, 0.5, 21.5))
    sources = {"washing_machine": 0.5, "mug": 0.25, "car": 0.125, "never shown": 0.125}
    print_unseen(UnseenResult(8, pose, 0.5, 0.75, {"fire_extinguisher": UnseenCategory(8, pose, sources)}, RESOURCES))
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines() if "fire_extinguisher" in line]
    assert rows[0] == ["fire_extinguisher", "8", "50.0", "25.0", "31.5", "75.0"]
    assert "washing_machine 50.0 %, mug 25.0 %, car 12.5 %" in text and "never shown" not in text
    assert "average over the categories: pi/6 50.0 %, symmetry-aware 75.0 %" in text


def test_predictions_keep_whole_categories(capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"confidence": 0.987, "azimuth": -3.14159265, "elevation": 0.5, "theta": 0.1}
    print_predictions([{"image": "folder/" + "x" * 90 + ".jpg", "category": name} | answer for name in NAMES])
    text = capsys.readouterr().out
    for name in NAMES:
        assert f" {name} " in text
    assert "98.7" in text and "180.0" in text and "-180.0" not in text
    assert "(theta)" in text and "in-plane" in text and max(map(len, text.splitlines())) <= 100
