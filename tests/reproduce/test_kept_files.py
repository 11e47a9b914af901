"""Files of a study with anything in them: each is read by its type, else one sentence says to delete it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compnet3d.errors import CompNetError
from compnet3d.evaluation.metrics import FlipMetrics, PoseMetrics
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
from compnet3d.evaluation.unseen_result import UnseenCategory, UnseenPose, UnseenResult
from compnet3d.reporting.tables import Row, Spread, Table, read_tables
from compnet3d.reproduce.report import write_page
from compnet3d.reproduce.runner import write_tables
from compnet3d.reproduce.study import Method, Study
from compnet3d.robustness.shift import Shift
from compnet3d.training.builtin_recipes import RECIPES

METRICS = PoseMetrics(0.5, 0.25, 12.0)
FORM = PoseForm(8, METRICS, METRICS, METRICS, METRICS)
SUMMARY = PoseSummary(FORM, FORM, FORM, 0.5, Flips(8, FlipMetrics(0.25, 0.5), FlipMetrics(None, None)))
USED = Resources(2.0, 4.0, 8.0, 300.0)
RESULT = EvaluationResult(
    images=8,
    accuracy=0.5,
    pose=SUMMARY,
    excluded_categories=("bowl",),
    per_category={"brick": CategoryMetrics(8, 0.5, SUMMARY)},
    occlusion=HiddenShares(0.3, 0.1),
    confusion=Confusion(("bowl", "brick"), ((1, 2), (3, 2))),
    resources=USED,
    settings=Settings(shift=Shift("L1", corruption="fog"), origin={"date": "2026-01-01"}),
    records=(Record(0, "a", "brick", "bowl", 0.5, (0.0,) * 4, (1.0, 2.0), (0.0,) * 4, 0.1, 0.1, 0.1, 0.1, True),),
)
UNSEEN_POSE = UnseenPose(METRICS, METRICS)
UNSEEN = UnseenResult(8, UNSEEN_POSE, 0.5, 0.5, {"brick": UnseenCategory(8, UNSEEN_POSE, {"bowl": 1.0})}, USED)
TABLE = Table("table2", "t", ("m", "a", "b"), (Row("x", (Spread((0.5, 0.6)), "c")), Row("y", (None, 0.5))), ("n",), "k")
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), st.just({"a": [[[]]]}), st.just(10**400),
)  # fmt: skip


def places(values: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every entry of a JSON value."""
    pairs = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [path for key, inner in pairs for path in [(*above, key), *places(inner, (*above, key))]]


def changed(values: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """A JSON value with something odd, or nothing, in some place."""
    if draw(st.integers(0, 30)) == 0:
        return draw(ODD)
    copy = place = json.loads(json.dumps(values))
    *above, last = draw(st.sampled_from(places(copy)))
    for key in above:
        place = place[key]
    if draw(st.booleans()):
        del place[last]
    else:
        place[last] = draw(ODD)
    return copy


def check_sentence(error: CompNetError, path: object) -> None:
    assert str(error).startswith(f"{path}: ") and "\n" not in str(error) and len(str(error)) < 800


def check_kinds(value: Any) -> None:
    """Everything in a result is of a plain type and finite."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            check_kinds(inner)
    assert value is None or isinstance(value, dict | list | str) or math.isfinite(value)


@settings(max_examples=150)
@given(st.data())
def test_any_change_of_an_evaluation_is_one_or_one_sentence(data: st.DataObject) -> None:
    kind, result = data.draw(st.sampled_from([(EvaluationResult, RESULT), (UnseenResult, UNSEEN)]))
    records = {"records": True} if kind is EvaluationResult else {}
    values = json.loads(json.dumps(result.to_dict(**records)))
    assert kind.from_dict(values) == result
    try:
        read = kind.from_dict(changed(values, data.draw), "a.json").to_dict(**records)
        check_kinds(json.loads(json.dumps(read)))
    except CompNetError as error:
        check_sentence(error, "a.json")


@settings(max_examples=100)
@given(st.data())
def test_any_change_of_a_studys_tables_is_a_page_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    out = tmp_path_factory.getbasetemp() / "study"
    write_tables(out, "table2", [TABLE], "compnet3d")
    write_tables(out, "times", [TABLE], "compnet3d")
    (out / "study.json").write_text(json.dumps({"recipe": {"name": "tiny"}, "data": "/data"}))
    assert [table.to_dict() for table in read_tables(out / "table2.json")[0]] == [TABLE.to_dict()]
    write_page(out, out / "page.html")
    path = out / data.draw(st.sampled_from(["table2.json", "times.json", "study.json"]))
    path.write_text(json.dumps(changed(json.loads(path.read_text()), data.draw)))
    try:
        write_page(out, out / "page.html")
    except CompNetError as error:
        check_sentence(error, path)
        assert "delete it" in str(error)


METHOD = Method("tiny", "tiny", RECIPES["quickstart"])


@pytest.mark.parametrize(
    "text", ["", "[]", "5", "{", '{"made_with": []}', '{"seconds": "x"}', '{"seconds": [1]}', "[" * 10**5]
)
def test_an_evaluation_that_was_kept_and_is_none_is_made_again_or_one_sentence(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(tmp_path, tmp_path / "data")
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    path = tmp_path / "metrics" / "tiny" / "seed-0" / "clean.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)

    def train(*_: object) -> None:
        raise CompNetError(f"{path}: made again")

    monkeypatch.setattr(Study, "model", train)
    for read in (lambda: study.metrics(METHOD, 0), lambda: study.unseen(METHOD, 0, ["brick"]), study.times):
        try:
            read()
        except CompNetError as error:
            check_sentence(error, path)
            assert "made again" in str(error)
