"""Recipes, runs to resume and devices that are not what they should be: one sentence, and little memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from compnet3d.cli.main import main
from compnet3d.errors import CompNetError
from compnet3d.training.builtin_recipes import RECIPES, get_recipe
from compnet3d.training.recipe_parts import ScheduleSettings
from compnet3d.training.run_folder import Progress, read_log
from compnet3d.training.train import train
from tests.networks import TINY_RECIPE

TEXTS = {
    "aliases": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "a bomb": "a0: &a0 lol\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40)),
    "depth": "[" * 5000,
    "depth in blocks": "\n".join(" " * i + "a:" for i in range(400)),
    "size": "name: " + "x" * 300_000,
    "a date that cannot be": "name: 2020-13-45\n",
    "a number without end": "name: quickstart\ninput: {height: " + "9" * 5000 + ", width: 3}\n",
    "code": "!!python/object/apply:os.system [true]\n",
    "a list": "- 1\n",
    "nothing": "",
    "keys of other types": "1: 2\n? [3]\n: 4\n",
    "null": "recipe: null\n",
}


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_text_that_is_no_recipe_is_one_sentence(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"own.{suffix}"
    path.write_text(TEXTS[kind])
    with pytest.raises(CompNetError, match=f"^{path}: [^\n]+$") as refusal:
        get_recipe(str(path))
    assert len(str(refusal.value)) < 800


SIZES = (
    "schedule.batch_size", "input.height", "input.width", "model.vertex_count", "bank.background_size",
    "backbone.dimension", "backbone.stages", "loss.samples_per_category", "augmentation.erasing_count",
    "search.starts", "search.grid.azimuths", "schedule.processes",
)  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [10**9, -1, 10**400, float("nan"), float("inf")], ids=str)
def test_a_size_that_no_machine_has_is_refused_by_name(tmp_path: Path, name: str, value: Any) -> None:
    values = place = RECIPES["robust-photos"].to_dict()
    *above, last = name.split(".")
    for key in above:
        place = place[key]
    place[last] = value
    path = tmp_path / "own.json"
    path.write_text(json.dumps(values))
    with pytest.raises(CompNetError, match=f"^{path}: the recipe's {name} must be [^\n]+$"):
        get_recipe(str(path))
    with pytest.raises(CompNetError, match=f"^--set {name} must be"):
        get_recipe("robust-photos", [f"{name}={value}"])


@pytest.mark.parametrize(
    "architecture", [{"attn_implementation": "a/b"}, {"auto_map": {}}, {"depths": [10**9] * 4}, {"depths": [1] * 10**5}]
)
def test_an_architecture_that_cannot_be_is_refused_by_name(tmp_path: Path, architecture: dict[str, Any]) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(RECIPES["quickstart"].to_dict() | {"backbone": {"architecture": architecture}}))
    with pytest.raises(CompNetError, match=f"^{path}: the recipe's .*{next(iter(architecture))}"):
        get_recipe(str(path))


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), st.just({"a": [[[]]]}),
)  # fmt: skip


def places(values: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every entry of a JSON value."""
    pairs = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [path for key, inner in pairs for path in [(*above, key), *places(inner, (*above, key))]]


def change(path: Path, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """Put something odd in some place of a JSON file."""
    values = place = json.loads(path.read_text())
    *above, last = draw(st.sampled_from(places(values)))
    for key in above:
        place = place[key]
    place[last] = draw(ODD)
    path.write_text(json.dumps(values))


@settings(max_examples=100)
@given(st.data())
def test_any_change_of_a_recipe_is_a_recipe_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.json"
    path.write_text(json.dumps(RECIPES["robust"].to_dict()))
    change(path, data.draw)
    try:
        recipe = get_recipe(str(path))
    except CompNetError as error:
        assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 800
    else:
        assert yaml.safe_load(recipe.to_yaml())


# -- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped after its first epoch."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    schedule = {"schedule": ScheduleSettings(epochs=2, batch_size=8, calibration_fraction=0.25, calibrate_every=1)}
    train(TINY_RECIPE.with_settings(schedule), tiny_data, out, workers=0, progress=False, stop_after=1)
    return out


def resumed(stopped: Path, tiny_data: Path, out: Path, name: str, edit: Callable[[Any], Any]) -> str:
    """What is said where a file of a run to resume is changed."""
    shutil.copytree(stopped, out, dirs_exist_ok=True)
    recipe = get_recipe(str(stopped / "config.json"))
    values = json.loads((out / name).read_text())
    (out / name).write_text(json.dumps(edit(values)))
    with pytest.raises(CompNetError) as refusal:
        train(recipe, tiny_data, out, workers=0, progress=False, resume=True)
    return str(refusal.value)


CONFIGS: list[tuple[str, Any]] = [
    *(("without", value) for value in (5, {"a": 1}, [[1]], None, [None])),
    *(("counts", value) for value in (5, [1], None, {"samples": "x"}, {"samples": [1]}, {"samples": None})),
    *(("seed", value) for value in ("0", [0], 1.5, True)),
    *(("recipe", value) for value in (None, 5, [], {"method": []}, {"input": 3})),
]


@pytest.mark.parametrize(("name", "value"), CONFIGS, ids=range(len(CONFIGS)))
def test_an_odd_configuration_of_a_run_is_one_sentence(
    stopped: Path, tiny_data: Path, tmp_path: Path, name: str, value: Any
) -> None:
    said = resumed(stopped, tiny_data, tmp_path / "run", "config.json", lambda values: values | {name: value})
    assert said.startswith(f"{tmp_path / 'run' / 'config.json'}: ") and "\n" not in said
    assert name in said or name == "recipe"


PROGRESS: list[Callable[[dict[str, Any]], Any]] = [
    *((lambda p, v=value: p | {"epoch": v}) for value in (-1, "1", None, 1.5, True, 10**9, [1])),
    *((lambda p, v=value: p | {"history": v}) for value in ([], {}, None, [5], [{}], "history")),
    *((lambda p, v=value: p | {"history": [p["history"][0] | v]}) for value in (
        {"epoch": 7}, {"seconds": None}, {"loss": "x"}, {"loss": float("nan")}, {"confusion": 5},
        {"confusion": [[1]] * 2}, {"confusion": [[-1]]}, {"x": {"y": 1}},
        {"flips": 0.5}, {"flips": [2.0]}, {"flips": ["a"]},
    )),
    lambda p: p | {"seed": "0"},
    lambda p: [p],
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(PROGRESS)))
def test_an_odd_progress_is_one_sentence(stopped: Path, tmp_path: Path, number: int) -> None:
    path = tmp_path / "progress.json"
    values = json.loads((stopped / "checkpoint" / "progress.json").read_text())
    path.write_text(json.dumps(values))
    assert Progress.read(path).epoch == 1
    path.write_text(json.dumps(PROGRESS[number](values)))
    with pytest.raises(CompNetError, match=f"^{path}: has no progress [^\n]+copy it again"):
        Progress.read(path)


def test_a_checkpoint_with_another_history_is_one_sentence(stopped: Path, tiny_data: Path, tmp_path: Path) -> None:
    said = resumed(stopped, tiny_data, tmp_path / "run", "checkpoint/progress.json", lambda p: p | {"history": 3})
    assert "progress.json: has no progress (history must be" in said


@pytest.mark.parametrize(
    "line", ["[" * 10**5, "5", '{"epoch": null}', '{"epoch": 1, "seconds": "x"}', '{"epoch": 1, "seconds": NaN}',
             '{"epoch": 1}', '{"epoch": 1, "seconds": 1, "confusion": [[1], [2]]}',
             '{"epoch": 1, "seconds": 1, "x": []}']
)  # fmt: skip
def test_an_odd_log_is_one_sentence_or_left_out(tmp_path: Path, line: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"epoch": 1, "seconds": 2.5}}\n{line}\n')
    with pytest.raises(CompNetError, match=f"^{path}: cannot be read [^\n]+$"):
        read_log(path)
    assert read_log(path, whole=False)[0] == {"epoch": 1, "seconds": 2.5}


@pytest.mark.parametrize("name", ["mps", "xpu", "meta", "hpu", "cuda:7", "vulkan", "xla", "nonsense", "cpu:x", ""])
def test_a_device_that_is_not_there_is_one_sentence(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    line = ["train", "--recipe", "quickstart", "--data", str(tiny_data), "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as end:
        main([*line, "--device", name])
    said = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and len(said) == 1 and said[0].startswith(f"error: --device {name}: ")
    assert not (tmp_path / "run").exists()
