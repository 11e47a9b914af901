from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from compnet3d.cli import main as cli
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.transforms import InputConfig
from compnet3d.errors import CompNetError
from compnet3d.evaluation.crops import Loading
from compnet3d.evaluation.metrics import FlipMetrics, PoseMetrics
from compnet3d.evaluation.result import Confusion, EvaluationResult, Flips, PoseForm, PoseSummary, Resources, Settings
from compnet3d.evaluation.unseen import common_samples, evaluate_unseen, unseen_samples
from compnet3d.geometry.camera import Pose
from compnet3d.inference.prediction import Prediction
from compnet3d.reporting import plots
from compnet3d.reporting.tables import Row, Spread, Table
from compnet3d.reproduce import distractors, figures
from compnet3d.reproduce import runner as run_module
from compnet3d.reproduce.ablation import table6
from compnet3d.reproduce.accuracy_tables import table2, table4, table5
from compnet3d.reproduce.cost_tables import LossSizes, table1, times
from compnet3d.reproduce.distractors import make_occluders
from compnet3d.reproduce.experiments import Experiments
from compnet3d.reproduce.measures import Evaluated, mean_of
from compnet3d.reproduce.paper_numbers import Paper
from compnet3d.reproduce.report import write_page
from compnet3d.reproduce.runner import reproduce
from compnet3d.reproduce.study import Condition, Method, Study, _is_of
from compnet3d.training.builtin_recipes import RECIPES
from compnet3d.training.recipe import NovumRecipe, recipe_like
from compnet3d.training.recipe_parts import (
    CompNetLossSettings,
    CompNetSearchSettings,
    ScheduleSettings,
)
from compnet3d.utils.files import read_json, write_json
from tests.networks import TINY_RECIPE
from tests.training.ranks import in_ranks

TINY = replace(
    TINY_RECIPE,
    loss=CompNetLossSettings(classification_weight=0.1, pose_contrastive_weight=0.1, negative_poses=3),
    schedule=ScheduleSettings(
        epochs=1, batch_size=8, learning_rate=3e-3, head_learning_rate=3e-3, calibration_fraction=0.25
    ),
    search=CompNetSearchSettings(steps=1, starts=1),
)


def result_of(share: float) -> Evaluated[EvaluationResult]:
    """An evaluation in which every accuracy is `share`."""
    metrics = PoseMetrics(acc_pi6=share, acc_pi18=share, median_deg=None)
    form = PoseForm(1, metrics, metrics, metrics)
    result = EvaluationResult(
        1, share, PoseSummary(form, form, form), (), {}, None, Confusion((), ()), Resources(1.0, 1.0, 1.0), Settings()
    )
    return Evaluated(result)


@pytest.fixture(scope="module")
def experiments(tmp_path_factory: pytest.TempPathFactory, tiny_maker: Callable[..., Path]) -> Experiments:
    root = tmp_path_factory.mktemp("study")
    data = tiny_maker(root / "data", ("brick", "tower", "slab"))
    study = Study(root / "out", data, seeds=(0, 1), workers=0, progress=False, command="compnet3d reproduce")
    experiments = Experiments(study, TINY, unseen=("slab",))
    run_module.claim(experiments)
    make_small_occluders(experiments.study.distractors)
    return experiments


def make_small_occluders(folder: Path) -> None:
    """Two coloured squares in place of rendered distractors."""
    for number, colour in enumerate(("red", "blue")):
        path = folder / "distractor" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGBA", (12, 9), colour).save(path)


def test_tables_and_figures_are_written_and_joined(experiments: Experiments) -> None:
    out = experiments.study.out
    names = ["table2", "table3", "table4", "table5", "table6", "table7", "figure1", "figure4", "figure5", "figure8"]
    reproduce(experiments, [*names, "figure10"])
    for name in names:
        assert (out / f"{name}.png").is_file() if name.startswith("figure") else (out / f"{name}.md").is_file()
    cells = json.loads((out / "table2.json").read_text())["tables"][0]["rows"][-1]["cells"]["classification"]
    by_hand = [
        json.loads((out / "metrics" / "tiny" / f"seed-{seed}" / "clean.json").read_text())["classification"]["accuracy"]
        for seed in (0, 1)
    ]
    assert cells["values"] == pytest.approx(by_hand) and cells["mean"] == pytest.approx(sum(by_hand) / 2)
    source_categories = json.loads((out / "table3.json").read_text())["tables"][1]["rows"]
    assert [row["label"] for row in source_categories] == ["slab"]
    parts = json.loads((out / "table6.json").read_text())["tables"][0]["rows"]
    labels = [
        "in-category only",
        "cross-category only",
        "both",
        "both and classification",
        "both, classification and pose contrastive",
    ]
    assert [row["label"] for row in parts] == labels
    for name, weights in {"both": (0, 0), "both-and-classification": (0.1, 0)}.items():
        trained = read_json(out / "models" / f"tiny-{name}" / "seed-0" / "config.json")["recipe"]["loss"]
        assert (trained["classification_weight"], trained["pose_contrastive_weight"]) == weights
    robust = {table["key"]: table["rows"] for table in json.loads((out / "table4.json").read_text())["tables"]}
    posed = {row["label"]: row["cells"]["occluded, mean"]["values"] for row in robust["predicted_category"]}
    ahead = {row["label"]: row["cells"]["occluded, mean"]["values"] for row in robust["lead"]}
    expected = [ours - theirs for ours, theirs in zip(posed["3D-CompNets"], posed["dual head (40 bins)"], strict=True)]
    assert ahead["pose pi/6, predicted category, over dual head (40 bins)"] == pytest.approx(expected)
    assert len(ahead) == 15  # five figures, three baselines
    write_page(out, out / "report.html")
    page = (out / "report.html").read_text()
    assert page.count("<h2>Table") == 6 and page.count("<h2>Figure") == 5 and page.count("<h2>Time") == 1
    assert '<span class="word">compnet3d</span> <span class="word">reproduce;</span>' in page
    labels = [row["label"] for row in read_json(out / "times.json")["tables"][0]["rows"]]
    assert len(labels) == 12 and labels[-1] == "all" and "tiny-without-slab" in labels
    trainings, evaluations = experiments.study.times()["tiny"]
    assert len(trainings) == 2 and len(evaluations) == 16
    for seed, took in enumerate(trainings):
        log = (out / "models" / "tiny" / f"seed-{seed}" / "log.jsonl").read_text().splitlines()
        assert took == pytest.approx(sum(json.loads(line)["seconds"] for line in log)) and took > 0
    assert read_json(out / "metrics" / "tiny" / "seed-1" / "L3.json")["seconds"] in evaluations
    (unseen,) = {name: times for name, times in experiments.study.times().items() if "heads-without" in name}.values()
    assert all(seconds is not None and seconds > 0 for seconds in unseen[1])


def test_processes_of_a_group_train_and_evaluate_a_study_together(
    experiments: Experiments, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    together = replace(experiments, study=replace(experiments.study, out=tmp_path / "out", seeds=(0,), batch_size=1))
    found = in_ranks(2, lambda group: reproduce(together, ["table2", "table3"]) or group.rank)
    assert found == [0, 1]
    said = capfd.readouterr().out
    assert said.count("evaluating tiny, seed 0: clean") == said.count("[2/2] table3") == 1
    # trained by both, in one run each
    for name in ("tiny", "tiny-without-slab"):
        notes = read_json(tmp_path / "out" / "models" / name / "seed-0" / "config.json")
        assert [process["rank"] for process in notes["processes"]] == [0, 1]
    # by one process alone, of the same models
    alone = replace(together.study, out=tmp_path / "alone")
    shutil.copytree(tmp_path / "out", alone.out, ignore=shutil.ignore_patterns("metrics"))
    reproduce(replace(together, study=alone), ["table2", "table3"])
    for path in sorted((tmp_path / "out" / "metrics").rglob("*.json")):
        one, other = read_json(path), read_json(alone.out / path.relative_to(tmp_path / "out"))
        for name in ("classification", "pose", "per_category", "confusion"):
            assert one.get(name) == other.get(name), (path, name)


def test_times_are_summed_and_those_that_are_not_known_left_out(experiments: Experiments, tmp_path: Path) -> None:
    for name, logs, files in (
        ("ours", [[100, 20], [60]], [60.0, 30.0]),
        ("theirs", [[300]], [240.0, None]),
    ):
        for seed, epochs in enumerate(logs):
            log = tmp_path / "models" / name / f"seed-{seed}" / "log.jsonl"
            log.parent.mkdir(parents=True)
            log.write_text("".join(f'{{"epoch": 1, "seconds": {seconds}}}\n' for seconds in epochs))
        for number, seconds in enumerate(files):
            evaluation = {} if seconds is None else {"seconds": seconds}  # as `evaluate_unseen` was
            write_json(tmp_path / "metrics" / name / "seed-0" / f"{number}.json", evaluation)
    (tmp_path / "models" / "stray.txt").touch()
    (table,) = times(replace(experiments, study=replace(experiments.study, out=tmp_path)))
    assert [(row.label, row.cells) for row in table.rows] == [
        ("ours", ("2", "3.0", "2", "1.5", "4.5")),
        ("theirs", ("1", "5.0", "1", "4.0", "9.0")),
        ("all", ("3", "8.0", "3", "5.5", "13.5")),
    ]
    assert any(note.endswith("unseen categories, 1.") for note in table.notes)


def test_what_is_done_is_not_done_again(experiments: Experiments, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = experiments.method()
    first = experiments.study.metrics(ours, 0)
    for name in ("evaluate", "train_or_load"):
        monkeypatch.setattr(f"compnet3d.reproduce.study.{name}", lambda *_, **__: pytest.fail("done again"))
    assert experiments.study.metrics(ours, 0) == first


def test_another_study_in_the_same_folder_is_refused(experiments: Experiments) -> None:
    other = Experiments(experiments.study, TINY.with_settings({"schedule.epochs": 2}), unseen=("slab",))
    with pytest.raises(CompNetError, match=r"study.json: .* other settings \(schedule.epochs\)"):
        reproduce(other, ["table5"])
    elsewhere = replace(experiments, study=replace(experiments.study, data=experiments.study.out))
    with pytest.raises(CompNetError, match=r"a study with other settings \(data\)"):
        run_module.claim(elsewhere)


def test_a_study_of_an_earlier_version_goes_on(experiments: Experiments, tmp_path: Path) -> None:
    """Settings that a version did not have yet have their defaults."""
    study = replace(experiments.study, out=tmp_path)
    noted = read_json(experiments.study.out / "study.json")
    del noted["recipe"]["loss"]["classification_cells"]
    write_json(tmp_path / "study.json", noted)
    run_module.claim(replace(experiments, study=study))
    assert read_json(tmp_path / "study.json") == noted
    of = {"shift": {}, "recipe": experiments.method().recipe.to_dict(), "without": [], "version": "2.0"}
    made_with = json.loads(json.dumps(of))
    earlier = {key: value for key, value in made_with.items() if key != "version"} | {"recipe": noted["recipe"]}
    assert _is_of(earlier, made_with, tmp_path / "none")
    assert _is_of(earlier | {"version": "2.0"}, made_with, tmp_path / "none")
    assert not _is_of(earlier | {"version": "1.9"}, made_with, tmp_path / "none")
    assert not _is_of(made_with | {"shift": {"rotate_deg": 90.0}}, made_with, tmp_path / "none")
    assert not _is_of(None, made_with, tmp_path / "none") and not _is_of({}, made_with, tmp_path / "none")


def test_an_evaluation_of_another_model_is_made_again(experiments: Experiments) -> None:
    study, ours = experiments.study, experiments.method()
    study.metrics(ours, 0)
    path = study.out / "metrics" / "tiny" / "seed-0" / "clean.json"
    stored = read_json(path)
    weights = study.run(ours, 0) / "model" / "model.safetensors"
    assert stored["made_with"]["model"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    write_json(path, stored | {"images": -1})
    assert study.metrics(ours, 0).result.images == -1
    write_json(path, stored | {"images": -1, "made_with": stored["made_with"] | {"model": "0" * 64}})
    assert study.metrics(ours, 0).result.images > 0


def test_evaluations_by_other_commands_and_on_other_days_are_reported(experiments: Experiments, tmp_path: Path) -> None:
    study, ours = experiments.study, experiments.method()
    origin = study.metrics(ours, 0).origin
    assert origin.command == "compnet3d reproduce"
    spread = experiments.spread(ours, Condition("clean"), lambda metrics: 0.5)
    assert spread.origins == {origin} and len(spread.values) == 2
    elsewhere = origin._replace(date="2001-02-03", machine="an abacus", command="compnet3d reproduce table4")
    other = Spread((0.25, 0.25), frozenset({elsewhere}))
    assert spread.over(other).origins == mean_of([spread, other]).origins == {origin, elsewhere}

    def written(*cells: Spread) -> dict[str, str]:
        table = Table("table2", "", ("method", *map(str, range(len(cells)))), (Row("ours", cells),))
        assert table.origins == frozenset().union(*(cell.origins for cell in cells))
        run_module.write_tables(tmp_path, "table2", [table], origin.command)
        return read_json(tmp_path / "table2.json")["settings"]

    assert "evaluated" not in written(spread, spread)
    settings = written(spread, other)
    told = settings["evaluated"]
    assert told.startswith("2001-02-03 to ") and "an abacus" in told and "by `compnet3d reproduce table4`" in told
    assert f"Evaluated {told}." in (tmp_path / "table2.md").read_text()


def test_the_papers_levels_of_occlusion_are_kept_apart(
    experiments: Experiments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Experiments] = []
    monkeypatch.setattr("compnet3d.reproduce.runner.reproduce", lambda experiments, names: asked.append(experiments))
    cli.main(["reproduce", "table4", "--data", str(tmp_path), "--occlusion-protocol", "paper"])
    text = replace(experiments.study, occlusion_protocol=asked[0].study.occlusion_protocol).occlusions
    assert [condition.name for condition in text] == ["L1 (paper)", "L2 (paper)", "L3 (paper)"]
    assert {condition.shift.protocol for condition in text} == {"paper"}
    assert [condition.shift.occlusion for condition in text] == ["L1", "L2", "L3"]
    assert not {c.name for c in experiments.study.occlusions} & {c.name for c in text}


def test_backbones_are_looked_for_before_anything_is_trained(experiments: Experiments, tmp_path: Path) -> None:
    study = replace(experiments.study, out=tmp_path)
    missing = replace(
        experiments, study=study, recipe=TINY.with_settings({"backbone.pretrained": (str(tmp_path / "backbone"),)})
    )
    with pytest.raises(CompNetError, match="backbone: no backbone there"):
        run_module.check(missing, ["table2"])
    assert run_module.check(missing, ["figure2"]) == ("figure2",)  # trains nothing
    for method in missing.methods:
        for seed in study.seeds:
            (study.run(method, seed) / "model").mkdir(parents=True)
    assert run_module.check(missing, ["table2"]) == ("table2",)  # all is trained


def test_loss_parts_are_compared_under_occlusion_and_with_novum(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every figure is made up of the method's and the condition's name, so the means can be told by hand."""

    def value(name: str, seed: int, condition: str) -> float:
        return len(name) / 100 + (seed + 1) * len(condition) / 1000

    def metrics_of(study: Study, method: Method, seed: int, condition: Condition) -> Evaluated[EvaluationResult]:
        return result_of(value(method.name, seed, condition.name))

    monkeypatch.setattr(Study, "metrics", metrics_of)
    tables = {table.key: table for table in table6(experiments)}
    assert list(tables) == ["clean", "robust", "lead"]
    rows = {row.label: row.cells for row in tables["robust"].rows}
    labels = [
        "in-category only",
        "cross-category only",
        "both",
        "both and classification",
        "both, classification and pose contrastive",
    ]
    assert list(rows) == [*labels, "NOVUM (full contrast)"]
    weather = [f"{name}-4" for name in ("brightness", "frost", "snow", "fog")]
    for group, names in (("occluded", ["L1", "L2", "L3"]), ("corrupted", weather)):
        cell = rows["NOVUM (full contrast)"][tables["robust"].columns.index(f"classification, {group}") - 1]
        expected = [sum(value("tiny-novum", seed, name) for name in names) / len(names) for seed in (0, 1)]
        assert isinstance(cell, Spread) and cell.values == pytest.approx(expected)
    ahead = (len("tiny-both") - len("tiny-novum")) / 100  # under every condition, with every seed
    for row in tables["lead"].rows:
        for cell in row.cells:
            assert isinstance(cell, Spread) and cell.values == pytest.approx([ahead, ahead])
    base, resnet = RECIPES["imagenet3d-vitb14"], RECIPES["imagenet3d-resnet50"]
    at_scale = table6(Experiments(experiments.study, base, resnet=resnet))
    assert [table.key for table in at_scale] == ["clean", "robust"]  # NOVUM has a ResNet-50 only
    without = table6(replace(experiments, baselines=("heads",)))
    assert [table.key for table in without] == ["clean", "robust"] and len(without[1].rows) == 5


def test_table_1_counts_and_times_and_shows_the_trained(experiments: Experiments) -> None:
    counted, steps, trained = table1(experiments, LossSizes(categories=40, vertices=(100,)))
    operations = [float(str(row.cells[0])) for row in counted.rows]
    labels = ["full, exact", "N = 64", "N = 32", "NOVUM as it is usually written"]
    assert [row.label for row in counted.rows] == labels
    assert operations[2] < operations[1] < operations[0] < operations[3]
    assert [row.label for row in steps.rows] == ["NOVUM (full contrast)", "3D-CompNets", "3D-CompNets, Eq. 5 alone"]
    for row in steps.rows:
        whole, beyond = (float(str(cell)) for cell in row.cells[:2])
        assert whole > 0 and beyond <= whole
    assert [row.label for row in trained.rows] == ["NOVUM (full contrast)", "3D-CompNets"]


def test_unknown_names_are_reported(experiments: Experiments) -> None:
    with pytest.raises(CompNetError, match="experiment 'table8' is unknown"):
        reproduce(experiments, ["table8"])
    with pytest.raises(CompNetError, match="no experiment given"):
        reproduce(experiments, [])
    with pytest.raises(CompNetError, match="no category 'unicorn'"):
        Experiments(experiments.study, TINY, unseen=("unicorn",)).unseen_categories()
    with pytest.raises(CompNetError, match="none of the paper's unseen categories"):
        Experiments(experiments.study, TINY).unseen_categories()
    with pytest.raises(CompNetError, match="leaves none of its 3 categories"):
        Experiments(experiments.study, TINY, unseen=("slab", "brick", "tower")).unseen_categories()
    assert Experiments(experiments.study, TINY, unseen=("slab", "slab")).unseen_categories() == ["slab"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"occluders": "no/such/folder"}, "no/such/folder"),
        ({"frost": Path("no/such/ice")}, "no/such/ice"),
        ({"data": Path("no/such/data")}, "no/such/data"),
    ],
)
def test_what_is_missing_is_reported_before_anything_is_trained(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("compnet3d.reproduce.study.train_or_load", lambda *_, **__: pytest.fail("trained"))
    study = replace(experiments.study, **changes)
    with pytest.raises(CompNetError, match=message):
        reproduce(replace(experiments, study=study), ["table4"])


def test_what_an_experiment_needs_is_looked_for_first(
    experiments: Experiments, tmp_path: Path, tiny_maker: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CompNetError, match="no object can be cut out as an occluder"):
        run_module.check(replace(experiments, study=replace(experiments.study, occluders="objects")), ["table4"])
    other = tiny_maker(tmp_path / "other", ("brick", "cone"))
    (other / "lists" / "brick_imagenet_val.txt").unlink()
    with pytest.raises(CompNetError, match="other: has no test image of brick"):
        run_module.check(replace(experiments, synthetic=other), ["table2"])
    data = tiny_maker(tmp_path / "data", ("brick", "tower", "slab"))
    (data / "lists" / "slab_imagenet_val.txt").unlink()
    with pytest.raises(CompNetError, match="no test image of 'slab'"):
        run_module.check(replace(experiments, study=replace(experiments.study, data=data)), ["table3"])
    uncalibrated = replace(experiments, recipe=TINY.with_settings({"schedule.calibration_fraction": 0.0}))
    with pytest.raises(CompNetError, match="no calibration split"):
        run_module.check(uncalibrated, ["table5"])
    assert set(run_module.NAMES) - set(run_module.check(uncalibrated, ["all"])) == {"table5", "figure4"}

    def absent() -> None:
        raise CompNetError("plots need matplotlib")

    monkeypatch.setattr(run_module, "require_matplotlib", absent)
    with pytest.raises(CompNetError, match="matplotlib"):
        run_module.check(experiments, ["figure1"])
    assert run_module.check(experiments, ["table2"]) == ("table2",)


def test_the_papers_figures_stand_beside_its_own_data_only(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch
) -> None:
    def holding(names: Sequence[str]) -> None:
        monkeypatch.setattr(Study, "dataset", lambda self: SimpleNamespace(categories=list(names)))

    at_scale = replace(experiments, paper_scale=True)
    assert not at_scale.comparable
    named = [*Paper.PROTOCOL.unseen, *Paper.PROTOCOL.elongated]
    holding([name.replace("_", " ").title() for name in named])
    assert at_scale.comparable and not experiments.comparable
    holding(named[1:])
    assert not at_scale.comparable


def test_table_5_is_the_mean_of_the_trainings(experiments: Experiments, monkeypatch: pytest.MonkeyPatch) -> None:
    confusions = ([[8, 2, 0], [0, 10, 0], [1, 0, 3]], [[6, 4, 0], [0, 10, 0], [0, 0, 4]])
    monkeypatch.setattr(Study, "log", lambda self, method, seed: [{"epoch": 1, "confusion": confusions[seed]}])
    (table,) = table5(experiments)
    found = [(row.label, row.cells[0], row.cells[1].values) for row in table.rows]  # type: ignore[union-attr]
    brick, slab, tower = experiments.study.dataset().categories
    assert found == [(brick, slab, pytest.approx((0.2, 0.4))), (tower, brick, pytest.approx((0.25, 0.0)))]
    monkeypatch.setattr(Study, "log", lambda *_: [{"epoch": 1}])
    with pytest.raises(CompNetError, match="had no calibration split"):
        table5(experiments)


def test_a_baseline_is_no_base(experiments: Experiments) -> None:
    with pytest.raises(CompNetError, match="is a baseline"):
        reproduce(replace(experiments, recipe=recipe_like(NovumRecipe, TINY)), ["table5"])


def test_all_leaves_out_what_the_data_does_not_allow(
    experiments: Experiments, capsys: pytest.CaptureFixture[str]
) -> None:
    static = replace(experiments, recipe=TINY.with_settings({"grouping.dynamic": False}), unseen=())
    wanted = run_module.check(static, ["all"])
    assert set(run_module.NAMES) - set(wanted) == {"table3", "figure5", "figure4"}
    told = capsys.readouterr().out
    assert "left out table3 and figure5" in told and "left out figure4" in told
    assert run_module.check(experiments, ["all"]) == run_module.NAMES


def test_a_changed_baseline_is_not_taken_for_the_old_one(experiments: Experiments) -> None:
    """The evaluation is made again with what changed, and a model of another recipe is refused."""
    study, ours = experiments.study, experiments.method()
    study.metrics(ours, 0)
    changed = replace(ours, recipe=ours.recipe.with_settings({"loss.kappa": 5.0}))
    with pytest.raises(CompNetError, match=r"other settings \(loss.kappa\)"):
        study.metrics(changed, 0)
    path = study.out / "metrics" / "tiny" / "seed-0" / "clean.json"
    stored = json.loads(path.read_text())
    stored["made_with"]["options"] = {"rotate": 90.0}
    path.write_text(json.dumps(stored | {"images": -1}))
    assert study.metrics(ours, 0).result.images > 0


def test_epochs_hold_for_every_method(experiments: Experiments) -> None:
    short = Experiments(
        experiments.study, RECIPES["imagenet3d-vitb14"], epochs=1, resnet=RECIPES["imagenet3d-resnet50"]
    )
    assert {method.recipe.schedule.epochs for method in short.methods} == {1} and len(short.methods) == 7


def test_only_the_baselines_asked_for_are_compared(experiments: Experiments) -> None:
    base = RECIPES["imagenet3d-vitb14"]
    one = Experiments(experiments.study, base, baselines=("novum", "heads"))
    assert [method.name for method in one.methods] == [f"{base.name}-heads", f"{base.name}-novum", base.name]
    both = Experiments(experiments.study, base, resnet=RECIPES["imagenet3d-resnet50"], baselines=("novum",))
    assert [method.name for method in both.methods] == ["imagenet3d-resnet50-novum", "imagenet3d-resnet50", base.name]


@pytest.mark.parametrize(
    ("options", "recipe", "seeds", "methods"),
    [
        ([], "robust", (0, 1, 2), 4),
        (["--recipe", "eth80", "--seeds", "2", "--baselines", "heads"], "eth80", (0, 1), 2),
        (["--scale", "paper"], "imagenet3d-vitb14", (0,), 7),
    ],
)
def test_recipe_and_seeds_follow_the_scale(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    recipe: str,
    seeds: tuple[int, ...],
    methods: int,
) -> None:
    asked: list[Experiments] = []
    monkeypatch.setattr("compnet3d.reproduce.runner.reproduce", lambda experiments, names: asked.append(experiments))
    cli.main(["reproduce", "table4", "--data", str(tmp_path), *options])
    (experiments,) = asked
    assert (experiments.recipe.name, experiments.study.seeds, len(experiments.methods)) == (recipe, seeds, methods)


def test_leads_are_over_baselines_with_the_same_backbone(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch
) -> None:
    def metrics_of(study: Study, method: Method, seed: int, condition: Condition) -> Evaluated[EvaluationResult]:
        return result_of((len(method.name) + seed * len(condition.name)) / 100)

    monkeypatch.setattr(Study, "metrics", metrics_of)
    base, resnet = RECIPES["imagenet3d-vitb14"], RECIPES["imagenet3d-resnet50"]
    table = table4(Experiments(experiments.study, base, resnet=resnet))[0]
    found = {r.label: r.cells for r in table.rows if r.label.startswith("classification")}
    assert table.key == "lead" and len(found) == 5  # NOVUM has a ResNet-50 only
    heads = [cells for label, cells in found.items() if "dual head (40 bins)" in label]
    novum = [cells for label, cells in found.items() if "NOVUM" in label]
    # a baseline's name is longer by its suffix, with every seed and condition
    for cells, suffix in ((heads[0], "-heads"), (heads[1], "-heads"), (novum[0], "-novum")):
        for cell in cells:
            assert isinstance(cell, Spread) and cell.values == pytest.approx([-len(suffix) / 100] * 2)
    alone = table4(Experiments(experiments.study, base, baselines=()))
    assert "lead" not in [table.key for table in alone]


def test_flips_have_a_block_unless_an_evaluation_did_not_count_them(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: dict[str, FlipMetrics | None] = {}

    def metrics_of(study: Study, method: Method, seed: int, condition: Condition) -> Evaluated[EvaluationResult]:
        found = shares.get(condition.name, FlipMetrics(0.25 + seed / 10, 0.5))
        flips = None if found is None else Flips(1, found, FlipMetrics(None, None))
        evaluated = result_of(0.5)
        return replace(evaluated, result=replace(evaluated.result, pose=replace(evaluated.result.pose, flips=flips)))

    monkeypatch.setattr(Study, "metrics", metrics_of)
    columns = table2(experiments)[0].columns.index("flipped poses, true category given") - 1
    cells = table2(experiments)[0].rows[-1].cells[columns : columns + 2]
    assert cells == (Spread((0.25, 0.35)), Spread((0.5, 0.5)))
    blocks = {table.key: table for table in table4(experiments)}
    assert blocks["flips_share"].rows[-1].cells[0] == Spread((0.25, 0.35))
    assert set(blocks["flips_of_errors"].rows[-1].cells) == {Spread((0.5, 0.5))}
    assert not any("flipped" in row.label for row in blocks["lead"].rows), "fewer are better"
    shares[experiments.study.corruptions[-1].name] = FlipMetrics(0.25, None)  # nothing but right poses
    assert "flips_share" in (keys := [t.key for t in table4(experiments)]) and "flips_of_errors" not in keys
    shares["clean"] = None  # evaluated by an earlier version
    assert not any("flips" in table.key for table in table4(experiments))
    assert table2(experiments)[0].rows[-1].cells[columns : columns + 2] == (None, None)


def test_a_method_keeps_its_colour_whichever_others_are_drawn(experiments: Experiments) -> None:
    def lines(labels: Sequence[str]) -> dict[str, tuple[str, str]]:
        figure = figures.plot_radar(["a", "b", "c"], dict.fromkeys(labels, (0.1, 0.2, 0.3)))(plots.LIGHT)
        return {line.get_label(): (line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}

    everything = lines([method.label for method in experiments.methods])
    assert len({colour for colour, _ in everything.values()}) == len(everything) == 4
    alone = lines([experiments.method("novum").label, experiments.method().label])
    assert alone == {label: everything[label] for label in alone}
    networks = replace(experiments, resnet=RECIPES["imagenet3d-resnet50"], recipe=RECIPES["imagenet3d-vitb14"])
    two = lines([method.label for method in networks.methods])
    assert len(set(two.values())) == len(two) == 7
    for label, (colour, _) in two.items():
        assert colour == everything[label.partition(", ")[0]][0]


def test_omega_of_figure_4_is_what_training_used(experiments: Experiments, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("compnet3d.reproduce.figures.plot_weights", lambda history, *_: drawn.append(history))
    monkeypatch.setattr("compnet3d.reproduce.figures.plots.render_plot", lambda plot, theme: b"")
    confusion = [[8, 1, 1], [0, 10, 0], [0, 0, 10]]
    log = [
        {"epoch": 1, "confusion": confusion, "calibration_accuracy": 0.4},
        {"epoch": 2, "confusion": confusion, "calibration_accuracy": 0.9},
    ]
    monkeypatch.setattr(Study, "log", lambda *_: log)
    figures.figure4(experiments)
    (first, confused, before), (second, _, after) = drawn[0]
    assert (first, second) == (1, 2)
    assert confused == pytest.approx(torch.tensor([[0.8, 0.1, 0.1], [0, 1, 0], [0, 0, 1]]).numpy())
    assert before.tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]  # a model that guesses contrasts everything
    assert after == pytest.approx(torch.tensor([[0, 0.1, 0.1], [0, 0, 0], [0, 0, 0]]).numpy())


def test_a_page_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompNetError, match="holds no table and no figure"):
        write_page(tmp_path, tmp_path / "report.html")


def test_categories_of_two_data_sets_are_matched_by_name(
    experiments: Experiments, tmp_path: Path, tiny_maker: Callable[..., Path]
) -> None:
    data = tiny_maker(tmp_path / "other", ("brick", "cone"))
    condition = Condition("synthetic", data=data)
    metrics = experiments.study.metrics(experiments.method(), 0, condition).result
    assert list(metrics.per_category) == ["brick"]
    assert metrics.images == len(ImageNet3D(data, categories=["brick"]).samples("val"))
    with pytest.raises(CompNetError, match="none of the model's 1 categories"):
        common_samples(ImageNet3D(data).samples("val"), ["sphere"])
    assert {s.category for s in unseen_samples(ImageNet3D(data).samples("val"), ["brick"])} == {"cone"}
    with pytest.raises(CompNetError, match="knows all categories"):
        unseen_samples(ImageNet3D(data).samples("val"), ["brick", "cone"])


def test_the_paper_beside_ours(experiments: Experiments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Experiments, "comparable", True)
    table = table2(experiments)[0]
    printed = {row.label: row.cells[0] for row in table.rows if "(paper)" in row.label}
    assert printed["DINOv2 (paper)"] == pytest.approx(0.924)
    confused = table5(experiments)[1].rows[0]
    assert (confused.label, *confused.cells) == ("jar", "pot", 0.55)
    posed = {table.key: [row.label for row in table.rows] for table in table4(experiments)}
    assert "3D-CompNets (paper)" in posed["true_category"] and "3D-CompNets (paper)" not in posed["joint"]
    drawn: list[dict[str, list[float]]] = []
    monkeypatch.setattr(figures, "plot_radar", lambda names, series: drawn.append(series) or (lambda theme: None))
    monkeypatch.setattr(plots, "render_plot", lambda plot, theme: b"")
    figures.figure1(
        experiments
    )  # the paper's rows, of which the table of the predicted category has none, are left out
    table = next(table for table in table4(experiments) if table.key == "predicted_category")
    cells = {row.label: row.cells for row in table.rows}
    assert list(drawn[0]) == list(cells) == [method.label for method in experiments.methods]
    clean = cells["3D-CompNets"][0]
    assert isinstance(clean, Spread) and drawn[0]["3D-CompNets"][3] == clean.mean


def test_occluders_are_of_other_categories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = distractors.make_dataset

    def few(root: Path, **options: int) -> object:
        return small(root, **{**options, "categories": 4, "size": 32, "train": 1}, workers=1)

    monkeypatch.setattr(distractors, "make_dataset", few)
    folder = make_occluders(tmp_path / "distractors", ["Car", "air-plane"])  # as data sets write them
    assert {path.name for path in folder.iterdir()} == {"chair", "teapot"}
    stamp = folder.stat().st_mtime_ns
    assert make_occluders(folder, []) == folder and folder.stat().st_mtime_ns == stamp


class Oracle:
    """Knows the azimuth up to a constant error, and classifies each image by its mean brightness."""

    categories = ("dark", "light")
    input_config = InputConfig(height=48, width=48, focal=80.0, distance=3.0, box_fill=0.7)

    def __init__(self, poses: dict[int, tuple[float, float, float]]) -> None:
        self.poses, self.next = poses, 0

    def predict_crops(
        self, images: torch.Tensor, *, category: object = None, unseen: bool = False, crop: str = "oracle"
    ) -> Prediction:
        assert unseen and category is None
        angles = torch.tensor([self.poses[self.next + i] for i in range(len(images))])
        first, self.next = self.next, self.next + len(images)
        source_category = torch.arange(first, self.next) % 3 // 2
        return Prediction(
            categories=self.categories,
            category_index=source_category,
            scores=torch.zeros(len(images), 2),
            confidence=torch.ones(len(images)),
            pose=Pose.of(*angles.unbind(1)),
            focal=torch.ones(len(images)),
            principal_point=torch.zeros(len(images), 2),
        )


def test_unseen_categories_by_hand(tiny_data: Path) -> None:
    samples = ImageNet3D(tiny_data).samples("val")
    off = [0.0, 0.4, 0.7]  # radians of azimuth: right, right within pi/6, wrong
    poses = {i: (s.azimuth + off[i % 3], s.elevation, s.theta) for i, s in enumerate(samples)}
    metrics = evaluate_unseen(Oracle(poses), samples, loading=Loading(3, progress=False))
    for name in ("brick", "tower"):
        own = [i for i, s in enumerate(samples) if s.category == name]
        entry = metrics.per_category[name]
        # a turn about the vertical axis is a rotation by that very angle
        assert entry.pose.plain.acc_pi6 == pytest.approx(sum(off[i % 3] < torch.pi / 6 for i in own) / len(own))
        assert entry.pose.plain.acc_pi18 == pytest.approx(sum(off[i % 3] < torch.pi / 18 for i in own) / len(own))
        dark = sum(i % 3 < 2 for i in own) / len(own)
        assert entry.source_categories == pytest.approx({"dark": dark, "light": 1 - dark})
        assert list(entry.source_categories)[0] == "dark"
    both = [metrics.per_category[name].pose.plain.acc_pi6 for name in ("brick", "tower")]
    assert metrics.average == pytest.approx(sum(both) / 2) and metrics.images == len(samples)


def test_known_categories_are_not_unseen(tiny_data: Path) -> None:
    class Knows(Oracle):
        categories = ("brick", "light")

    with pytest.raises(CompNetError, match="was trained on brick"):
        evaluate_unseen(Knows({}), ImageNet3D(tiny_data).samples("val"), loading=Loading(progress=False))
    with pytest.raises(CompNetError, match="nothing to evaluate"):
        evaluate_unseen(Oracle({}), [], loading=Loading(progress=False))


def test_a_model_knows_nothing_of_what_was_left_out(experiments: Experiments) -> None:
    from compnet3d.training.train import train

    study = experiments.study
    model = study.model(experiments.method(), 0, ["slab"])
    assert model.categories == ("brick", "tower")
    folder = study.run(experiments.method(), 0, ["slab"])
    assert json.loads((folder / "config.json").read_text())["without"] == ["slab"]
    with pytest.raises(CompNetError, match=r"started without slab"):
        train(TINY, study.data, folder, resume=True, progress=False)
    with pytest.raises(CompNetError, match="unicorn"):
        train(TINY, study.data, folder.parent / "new", without=["unicorn"], progress=False)
