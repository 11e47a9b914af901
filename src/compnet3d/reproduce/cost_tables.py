"""Table 1: what the loss costs at the paper's sizes, counted, timed and weighed; and how long a study took."""

from __future__ import annotations

from dataclasses import dataclass, replace

from compnet3d.bench.loss import LossProblem, count_operations, grouped_step, novum_step
from compnet3d.bench.step import training_step
from compnet3d.bench.timing import peak_mb, time_in_turn
from compnet3d.reporting.tables import Cell, Row, Table
from compnet3d.reproduce.experiments import Experiments
from compnet3d.reproduce.measures import COST, classification, training_seconds
from compnet3d.reproduce.paper_numbers import Paper
from compnet3d.reproduce.study import CLEAN
from compnet3d.training.recipe import CompNetRecipe


@dataclass(frozen=True)
class LossSizes:
    """How large the loss steps of table 1 are: as the paper's by default.

    Attributes:
        categories: Y; images: in the batch; vertices: K, one table each; samples: N, one row each (None: all).
    """

    categories: int = 188
    images: int = 4
    vertices: tuple[int, ...] = (500, 1120)
    samples: tuple[int | None, ...] = (None, 64, 32)


def table1(experiments: Experiments, sizes: LossSizes | None = None) -> list[Table]:
    """Operations, time and memory of a loss step with full contrast and with N = 64 and 32, for K = 500 and 1120."""
    sizes = sizes or LossSizes()
    tables = [_loss_table(experiments, sizes, count) for count in sizes.vertices]
    return [*tables, _steps(experiments), _accuracies(experiments)]


def _loss_table(experiments: Experiments, sizes: LossSizes, vertices: int) -> Table:
    """Loss steps with K = `vertices`, timed in turn."""
    device = experiments.study.device
    problem = LossProblem.random(
        sizes.categories, vertex_count=vertices, images=sizes.images, visible=vertices // 2, device=device
    )
    problems = {samples: replace(problem, samples_per_category=samples) for samples in sizes.samples}
    # p=p: without it every task would time the last problem
    tasks = {_label(n): (lambda p=p: grouped_step(p)) for n, p in problems.items()}
    if vertices == sizes.vertices[0]:
        tasks["NOVUM as it is usually written"] = lambda p=problem: novum_step(p)
    seconds = time_in_turn(tasks, rounds=5)
    # counted and weighed apart from the timing, which the profiler would slow down
    most = count_operations(tasks[_label(None)])
    rows = []
    for label, task in tasks.items():
        operations = count_operations(task)
        change = operations / most - 1
        cells: list[Cell] = [
            f"{operations / 1e9:.2f}",
            f"{100 * change:+.0f} %" if change else "",
            f"{1000 * seconds[label]:.0f}",
            f"{peak_mb(task, device) or 0.0:.0f}",
        ]
        rows.append(Row(label, tuple(cells)))
    if experiments.paper_scale and vertices == sizes.vertices[-1]:
        for samples, (gigaflop, _, _) in Paper.TABLE1.items():
            rows.append(Row(f"{samples} (paper)", (f"{gigaflop:.2f}", "", "", "")))
    columns = ("contrast", "GFLOP of a step", "against full", "ms", "peak memory [MB]")
    title = (
        f"loss step at Y = {sizes.categories}, K = {vertices}, D = 128, N_b = 2560, {sizes.images} images of "
        f"{vertices // 2} vertices"
    )
    notes = (
        "Value and gradient; operations of all matrix products as PyTorch's profiler counts them. The paper counts "
        "the logits of one image alone, with K = 1120.",
    )
    return Table("table1", title, columns, tuple(rows), notes, f"K{vertices}")


def times(experiments: Experiments) -> list[Table]:
    """How long the trainings and evaluations in the study's folder took, method by method."""
    rows, totals, untimed = [], [0.0] * 4, 0
    for name, (trainings, evaluations) in experiments.study.times().items():
        timed = [seconds for seconds in evaluations if seconds is not None]
        untimed += len(evaluations) - len(timed)
        took = [len(trainings), sum(trainings) / 60, len(timed), sum(timed) / 60]
        totals = [a + b for a, b in zip(totals, took, strict=True)]
        rows.append(_times_row(name, took))
    rows.append(_times_row("all", totals))
    notes = [
        "Epochs and evaluations as they were timed, whenever and wherever they ran; without setting up, the loss alone "
        "(table 1, figure 2) and drawing."
    ]
    if untimed:
        notes.append(f"Left out, as an earlier version did not time them: evaluations of unseen categories, {untimed}.")
    columns = ("method", "trainings", "minutes of training", "evaluations", "minutes of evaluation", "minutes in all")
    return [Table("times", "what it took", columns, tuple(rows), (*notes, experiments.source()))]


def _times_row(label: str, took: list[float]) -> Row:
    trainings, training, evaluations, evaluation = took
    cells = (f"{trainings:.0f}", f"{training:.1f}", f"{evaluations:.0f}", f"{evaluation:.1f}")
    return Row(label, (*cells, f"{training + evaluation:.1f}"))


def _label(samples: int | None) -> str:
    return "full, exact" if samples is None else f"N = {samples}"


def _steps(experiments: Experiments) -> Table:
    """What a training step takes with each objective, on the study's own data, timed in turn in this process."""
    base, study = experiments.resnet, experiments.study
    ours = experiments.method("", base)
    methods = {method.label: method.recipe for method in (experiments.method("novum", base), ours)}
    own = base or experiments.recipe
    if own.loss.classification_weight > 0 or own.loss.pose_contrastive_weight > 0:
        alone = own.without_pose_contrastive().with_settings({"loss.classification_weight": 0.0})
        methods |= {f"{ours.label}, Eq. 5 alone": alone}
    steps = {label: training_step(recipe, study.data, device=study.device) for label, recipe in methods.items()}
    extractors = {f"{label}, bare": step.bare for label, step in steps.items()}
    seconds = time_in_turn({**{label: step.whole for label, step in steps.items()}, **extractors}, rounds=9)
    rows = []
    for label in methods:
        whole, bare = seconds[label], seconds[f"{label}, bare"]
        rows.append(Row(label, (f"{1000 * whole:.0f}", f"{1000 * (whole - bare):.0f}", f"{whole / bare - 1:+.0%}")))
    images = next(iter(steps.values())).images
    title = f"a training step on {study.data}: {images} images, {len(study.dataset().categories)} categories"
    notes = (
        "One process, medians of nine rounds in turn, all categories contrasted. Beyond the extractor: the step less a "
        "forward and a backward pass of the feature extractor; losses, vertex bank and optimizer.",
    )
    columns = ("method", "ms", "beyond the extractor [ms]", "beyond the extractor")
    return Table("table1", title, columns, tuple(rows), notes, "step")


def _accuracies(experiments: Experiments) -> Table:
    """The trained methods: accuracy and minutes of training."""
    rows = []
    base = experiments.resnet  # the paper's table is of the ResNet-50
    for method in (experiments.method("novum", base), experiments.method("", base)):
        measured = experiments.spread(method, CLEAN, classification)
        minutes = [training_seconds(experiments.study.log(method, s)) / 60 for s in experiments.study.seeds]
        recipe = method.recipe
        contrast = str(recipe.loss.samples_per_category) if isinstance(recipe, CompNetRecipe) else "full"
        took = f"{sorted(minutes)[len(minutes) // 2]:.1f}"
        rows.append(Row(method.label, (contrast, measured, took, *experiments.cost(method, CLEAN))))
    if experiments.comparable:
        for samples, (_, hours, accuracy) in Paper.TABLE1.items():
            rows.append(Row(f"{'NOVUM' if samples == 'full' else '3D-CompNets'} (paper)",
                            (samples, accuracy / 100, f"{60 * hours:.0f}", None, None)))  # fmt: skip
    columns = ("method", "N", "classification", "minutes of training", *COST)
    return Table("table1", "the trained methods", columns, tuple(rows), experiments.notes(), "trained")
