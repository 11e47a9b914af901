r"""Changes the training on purpose, one fault at a time, in a copy, and says which of them no test notices.

    python tools/mutations.py                     # all, in two copies at once; status 1 if any survives
    python tools/mutations.py --only "no warm-up"
    python tools/mutations.py --list

Each fault replaces a text that stands exactly once in a file; where it does not any more, nothing runs and the list
must be fixed (status 2). Beside each stand the tests that should notice it: they must pass without the fault.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("src", "tests", "docs", "pyproject.toml", "README.md")

_BASE = "tests/training/test_reference.py::test_a_training_is_the_reference"
_SETTING = "tests/training/test_reference.py::test_a_setting_does_what_it_does_in_the_reference"
_FLIPS = "tests/training/test_flips.py"
_SEARCH = "tests/inference/test_refinement.py::test_a_setting_of_the_search_does_what_it_does_in_the_reference"
TRAINING = (f"{_BASE}[compnet]",)
NOVUM = (f"{_BASE}[novum]",)
BINS = (f"{_BASE}[bins]",)
REGRESSION = (f"{_BASE}[regression]",)
_DISTRIBUTED = "tests/training/test_distributed.py::test_a_step_is_the_same_for_any_number_of_processes"
TWO_PROCESSES = (f"{_DISTRIBUTED}[compnet-2]",)
TWO_PROCESSES_OF_HEADS = (f"{_DISTRIBUTED}[bins-4]",)
FLIP_NEGATIVES = (f"{_SETTING}[compnet-loss.flip_negatives-0.6]",)
REFINEMENT = (f"{_SEARCH}[starts-3]",)


@dataclass(frozen=True)
class Mutation:
    """A fault: `old` in a file below src/compnet3d becomes `new`, and `tests` (pytest's names) should notice."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = TRAINING


MUTATIONS = (
    # what a step contrasts
    Mutation(
        "near-vertex exclusion skipped",
        "training/objectives.py",
        "excluded = excluded_vertices(model, queries, settings.near_radius)",
        "excluded = None",
    ),
    Mutation("near-vertex exclusion in CAD units", "training/objectives.py", "/ diagonal[:, None, None]", ""),
    Mutation(
        "background weight 1",
        "training/objectives.py",
        "settings.background_weight, settings.in_weight",
        "1.0, settings.in_weight",
    ),
    Mutation(
        "NOVUM's background weight 0.005",
        "training/objectives.py",
        "background_weight=settings.background_weight",
        "background_weight=0.005",
        NOVUM,
    ),
    Mutation(
        "kappa ignored",
        "training/objectives.py",
        "            sampled,\n            kappa=settings.kappa",
        "            sampled,\n            kappa=1 / 0.07",
    ),
    Mutation(
        "NOVUM's kappa ignored",
        "training/objectives.py",
        "model.bank.feature_bank,\n            kappa=settings.kappa",
        "model.bank.feature_bank,\n            kappa=1 / 0.07",
        NOVUM,
    ),
    Mutation(
        "weights of the two parts swapped",
        "training/objectives.py",
        "settings.in_weight, settings.cross_weight",
        "settings.cross_weight, settings.in_weight",
    ),
    Mutation(
        "all vertices sampled",
        "training/objectives.py",
        "bank.offsets, settings.samples_per_category, generator",
        "bank.offsets, None, generator",
    ),
    Mutation(
        "all visible vertices queried",
        "training/objectives.py",
        "draw_queries(columns < whole.visible[:, None], settings.queries_per_image, generator)",
        "draw_queries(columns < whole.visible[:, None], None, generator)",
    ),
    Mutation(
        "occluded vertices queried",
        "training/batch.py",
        "shape, batch.pose, camera, batch.occluded)",
        "shape, batch.pose, camera)",
    ),
    Mutation("features of the nearest cell", "models/observation.py", 'mode="bilinear"', 'mode="nearest"'),
    # the parts that the paper does not have
    Mutation(
        "classification weight 1",
        "training/objectives.py",
        "settings.classification_weight * classification",
        "1.0 * classification",
    ),
    Mutation(
        "classification looks at all cells",
        "training/objectives.py",
        "draw_cells(feature_map, settings.classification_cells, generator)",
        "draw_cells(feature_map, None, generator)",
    ),
    Mutation(
        "pose contrastive weight 1",
        "training/objectives.py",
        "settings.pose_contrastive_weight * pose_contrastive",
        "1.0 * pose_contrastive",
    ),
    Mutation(
        "symmetry ignored among negative poses",
        "training/objectives.py",
        "return torch.ones_like(category) if orders is None else orders[category]",
        "return torch.ones_like(category)",
    ),
    Mutation("negative poses from 10 degrees", "losses/sampling.py", "math.radians(25)", "math.radians(10)"),
    Mutation(
        "negative poses of the own elevation",
        "losses/sampling.py",
        "elevation, theta = pose.elevation[donor]",
        "elevation, theta = pose.elevation[:, None].expand_as(turn)",
    ),
    Mutation(
        "flipped negatives where half a turn changes nothing",
        "losses/sampling.py",
        "shows, last = half_turn_shows(order)",
        "shows, last = (order >= 0)",
        FLIP_NEGATIVES,
    ),
    Mutation("flipped negatives of 5 degrees", "losses/sampling.py", "radians(10)", "radians(5)", FLIP_NEGATIVES),
    Mutation(
        "flips of the calibration split ignored",
        "training/objectives.py",
        "weights = 1 + gain[:, None] * flipped",
        "weights = 1 + 0 * gain[:, None] * flipped",
        (f"{_FLIPS}::test_flipped_negatives_weigh_as_the_calibration_split_says",),
    ),
    Mutation(
        "flips forgotten when a run goes on",
        "training/loop.py",
        "job.data.symmetry_orders.to(job.device), last_flips(run))",
        "job.data.symmetry_orders.to(job.device))",
        (f"{_FLIPS}::test_a_resumed_run_weighs_with_the_same_flips",),
    ),
    Mutation(
        "emphasised vertices where half a turn changes nothing",
        "training/objectives.py",
        "emphasised = shows & excluded",
        "emphasised = excluded",
        (f"{_SETTING}[compnet-loss.flip_vertex_weight-4.0]",),
    ),
    Mutation(
        "no truncation among negative poses",
        "training/objectives.py",
        "seen, model.config.pose.truncation",
        "seen, None",
    ),
    # Eq. 6 and the background
    Mutation(
        "momentum 0.8 handed on",
        "training/objectives.py",
        "bank.update_vertices(flat[flat >= 0], features[flat >= 0], settings.momentum)",
        "bank.update_vertices(flat[flat >= 0], features[flat >= 0], 0.8)",
    ),
    Mutation(
        "the bank learns from the queries alone",
        "training/objectives.py",
        "_update_of_bank(model, batch, seen, self.bank, generator)\n        return Losses(by_name",
        "_update_of_bank(model, batch, _Seen(seen.feature_map, Observation("
        "queries.features, queries.vertex, queries.valid)), self.bank, generator)\n        return Losses(by_name",
    ),
    Mutation("the bank learns sums, not means", "models/bank.py", "        mean /= seen[:, None]\n", ""),
    Mutation(
        "background beside the object",
        "models/observation.py",
        "max_pool2d(covered[:, None].float(), 3, stride=1, padding=1)",
        "max_pool2d(covered[:, None].float(), 1)",
    ),
    Mutation("hidden cells are no background", "models/observation.py", "< 0.9", "< 2.0"),
    Mutation(
        "background of 5 cells an image",
        "training/objectives.py",
        "settings.background_per_image, draw",
        "5, draw",
    ),
    Mutation(
        "the newest background is replaced",
        "models/bank.py",
        "self.background_cursor.copy_((self.background_cursor + len(features)) % max(size, 1))",
        "self.background_cursor.zero_()",
    ),
    # the optimiser and its schedule
    Mutation("no warm-up", "training/loop.py", "if epoch < schedule.warmup_epochs:", "if False:"),
    Mutation("a cosine that rises", "training/loop.py", "0.5 * (1 + float(", "0.5 * (1 - float("),
    Mutation(
        "one learning rate an epoch",
        "training/loop.py",
        "schedule, run.epoch + number / steps",
        "schedule, run.epoch",
    ),
    Mutation("weight decay on one dimension", "training/build.py", "if parameter.ndim > 1", "if parameter.ndim > 0"),
    Mutation("no weight decay", "training/build.py", "schedule.weight_decay if", "0.0 if"),
    Mutation("learning rates swapped", "training/build.py", "if id(parameter) in head", "if id(parameter) not in head"),
    Mutation("gradients not clipped", "training/step.py", "parameters(), 5.0)", "parameters(), 1e9)"),
    Mutation("clipped to half the length", "training/step.py", "parameters(), 5.0)", "parameters(), 2.5)", BINS),
    Mutation(
        "the seed without the epoch",
        "training/loop.py",
        "seed = mix_seed(run.seed, run.epoch, number, 0, 2)",
        "seed = mix_seed(run.seed, number, 0, 2)",
    ),
    Mutation(
        "the seed without the step",
        "training/loop.py",
        "seed = mix_seed(run.seed, run.epoch, number, 0, 2)",
        "seed = mix_seed(run.seed, run.epoch, 0, 2)",
    ),
    Mutation(
        "one order for all epochs",
        "training/sampler.py",
        "mix_seed(self.seed, self.epoch, 1)",
        "mix_seed(self.seed, 0, 1)",
    ),
    # several processes
    Mutation(
        "queries weighted by the shares' images",
        "training/batch.py",
        "self.group.size * queries[self.own].sum() / queries.sum().clamp_min(1)",
        "torch.tensor(self.weight_of_images)",
        TWO_PROCESSES,
    ),
    Mutation(
        "shares of unlike size weighted alike",
        "training/objectives.py",
        "weight = group.size * len(batch.category) / len(every)",
        "weight = len(every) / len(every)",
        TWO_PROCESSES_OF_HEADS,
    ),
    Mutation(
        "the bank learns from the own share alone",
        "training/objectives.py",
        "        flat, features = every()\n        bank",
        "        bank",
        TWO_PROCESSES,
    ),
    Mutation(
        "negative poses of the own share alone",
        "training/objectives.py",
        "negatives[whole.own], order[whole.own]",
        "negatives[: len(category)], order[whole.own]",
        TWO_PROCESSES,
    ),
    Mutation(
        "statistics of the own share alone",
        "training/batch_statistics.py",
        "if group.size == 1:",
        "if group.size >= 1:",
        TWO_PROCESSES,
    ),
    Mutation(
        "gradients of the own share alone",
        "training/data_parallel.py",
        "    group.add_up(gradients)\n",
        "    gradients.mul_(group.size)\n",
        TWO_PROCESSES,
    ),
    # the calibration split
    Mutation(
        "confusions of plain crops alone",
        "training/calibration.py",
        "predicted = torch.cat([scores, hard_scores]).argmax(dim=1)\n"
        "    confusion = confusion_matrix(predicted, torch.cat([true, hard_true]), count)",
        "confusion = confusion_matrix(scores.argmax(dim=1), true, count)",
    ),
    Mutation(
        "temperature of augmented crops",
        "training/calibration.py",
        "_scores(run, held_out.plain(), workers)\n    run.model.calibrate(fit_temperature(scores, true))",
        "_scores(run, held_out.plain(), workers)\n"
        "    run.model.calibrate(fit_temperature(*_scores(run, held_out, workers)))",
    ),
    Mutation("calibrated in training mode", "training/calibration.py", "    run.model.eval()\n", ""),
    Mutation(
        "omega turned round", "losses/grouping.py", "confusion = confusion.float()", "confusion = confusion.T.float()"
    ),
    Mutation(
        "omega refreshed by a model that guesses",
        "losses/grouping.py",
        "return None if accuracy < least_accuracy else grouping_weights(",
        "return grouping_weights(",
        (f"{_SETTING}[compnet-grouping.least_accuracy-0.6]",),
    ),
    Mutation(
        "omega without its floor",
        "losses/grouping.py",
        "omega.clamp_min(floor).fill_diagonal_(0)",
        "omega.fill_diagonal_(0)",
    ),
    Mutation(
        "omega refreshed every epoch",
        "training/loop.py",
        "run.epoch % schedule.calibrate_every == 0",
        "True",
        (f"{_SETTING}[compnet-schedule.calibrate_every-2]",),
    ),
    Mutation(
        "the calibration split never joins",
        "training/loop.py",
        "crops.of(job.epoch_samples(held_out=False))",
        "crops.of(job.epoch_samples(held_out=True))",
    ),
    # what is handed on to the crops and to the model
    Mutation("no augmentation", "training/loop.py", "augmentation=job.recipe.augmentation,", "augmentation=None,"),
    Mutation(
        "one seed for all augmentations",
        "training/loop.py",
        "        seed=job.seed,\n        # every worker",
        "        # every worker",
    ),
    Mutation(
        "every category mirrored",
        "training/loop.py",
        "mirror_categories=job.data.mirror_categories",
        "mirror_categories=frozenset(job.data.categories)",
    ),
    Mutation(
        "the input's fill ignored", "training/build.py", "recipe.input.width, recipe.input.fill)", "recipe.input.width)"
    ),
    Mutation(
        "one side alone classified",
        "training/build.py",
        "mirrored_scores=recipe.model.mirrored_scores",
        "mirrored_scores=False",
        (f"{_SETTING}[compnet-model.mirrored_scores-True]",),
    ),
    # the dual heads
    Mutation(
        "bins of half the circle",
        "models/dual_head.py",
        "angles.remainder(2 * math.pi)",
        "angles.remainder(math.pi)",
        BINS,
    ),
    Mutation(
        "one angle's loss for three",
        "models/dual_head.py",
        "of_pose = 3 * cross_entropy(",
        "of_pose = cross_entropy(",
        BINS,
    ),
    Mutation(
        "the sine of the error",
        "models/dual_head.py",
        "(1 - (output - angles).cos())",
        "(output - angles).sin().abs()",
        REGRESSION,
    ),
    # the search of poses
    Mutation(
        "the betas exchanged",
        "inference/pose_search.py",
        "beta1, beta2 = settings.betas",
        "beta2, beta1 = settings.betas",
        REFINEMENT,
    ),
    Mutation(
        "steps that do not shrink",
        "inference/pose_search.py",
        "settings.learning_rate * decay",
        "settings.learning_rate",
        REFINEMENT,
    ),
    Mutation(
        "the shift's unit ignored",
        "inference/pose_search.py",
        "settings.shift_unit * values",
        "10.0 * values",
        REFINEMENT,
    ),
    Mutation(
        "a hard silhouette",
        "inference/pose_search.py",
        "*unpack(values), settings.softness)",
        "*unpack(values), 0.1)",
        REFINEMENT,
    ),
    Mutation(
        "one initial pose refined", "inference/pose_search.py", "min(settings.starts, len(loss))", "1", REFINEMENT
    ),
)


def problems(mutations: Sequence[Mutation] = MUTATIONS, root: Path = ROOT) -> list[str]:
    """What keeps the list from being tried: texts that do not stand exactly once, faults that are no Python."""
    found = [f"{m.name!r} is there twice" for i, m in enumerate(mutations) if m.name in {n.name for n in mutations[:i]}]
    for mutation in mutations:
        path = root / "src" / "compnet3d" / mutation.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        times = text.count(mutation.old)
        if times != 1:
            found.append(f"{mutation.name!r}: its text stands {times} times in {mutation.file}")
            continue
        try:
            compile(text.replace(mutation.old, mutation.new), mutation.file, "exec")
        except SyntaxError as error:
            found.append(f"{mutation.name!r}: {error}")
    return found


def preload() -> None:
    """Import what the tests need and is no part of the package, once for all the processes that are forked."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import hypothesis.strategies  # noqa: F401
    import pytest  # noqa: F401
    import scipy.linalg  # noqa: F401
    import torch
    from transformers import ResNetBackbone, ViTModel  # noqa: F401

    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], fused=True)  # the first one imports much


@contextmanager
def copies(count: int) -> Iterator[list[Path]]:
    """Copies of the package and its tests."""
    with tempfile.TemporaryDirectory(prefix="compnet3d-mutations-", ignore_cleanup_errors=True) as folder:
        made = [Path(folder, str(number)) for number in range(count)]
        for copy in made:
            copy.mkdir()
            for name in COPIED:
                source, ignored = ROOT / name, shutil.ignore_patterns("__pycache__")
                if source.is_dir():
                    shutil.copytree(source, copy / name, ignore=ignored)
                else:
                    shutil.copy(source, copy / name)
        yield made


def start_tests(copy: Path, tests: Sequence[str]) -> int:
    """The number of a process that ends with pytest's status; what it says goes to the copy's said.txt."""
    if child := os.fork():
        return child
    status = 3
    try:
        with (copy / "said.txt").open("wb") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        os.chdir(copy)
        os.environ["PYTHONPATH"] = str(copy / "src")
        sys.dont_write_bytecode = True
        sys.path[:0] = [str(copy / "src"), str(copy)]
        import pytest

        status = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
        package = sys.modules.get("compnet3d")
        if package is None or not str(package.__file__).startswith(str(copy)):
            status = 3  # it was not the copy that was tested
    finally:
        sys.stdout.flush()
        os._exit(status)


def mutate(mutation: Mutation, copy: Path) -> str:
    """Put the fault into a copy; what its file held before."""
    path = copy / "src" / "compnet3d" / mutation.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    return text


def try_all(chosen: Sequence[Mutation], jobs: int) -> int:
    """Try them, each in a copy that has no other fault, and print what becomes of them; the status of `main`."""
    preload()
    survivors: list[str] = []
    broken: list[str] = []
    with copies(jobs) as free:
        _, ended = os.waitpid(start_tests(free[0], sorted({test for m in chosen for test in m.tests})), 0)
        if ended:
            print(f"the tests do not pass without any fault:\n{(free[0] / 'said.txt').read_text()}", file=sys.stderr)
            return 2
        waiting = list(reversed(chosen))
        running: dict[int, tuple[Mutation, Path, str]] = {}
        while waiting or running:
            while waiting and free:
                mutation, copy = waiting.pop(), free.pop()
                text = mutate(mutation, copy)
                running[start_tests(copy, mutation.tests)] = mutation, copy, text
            child, ended = os.wait()
            mutation, copy, text = running.pop(child)
            status = os.waitstatus_to_exitcode(ended)
            verdict = {0: "SURVIVES", 1: "noticed"}.get(status, "BREAKS")
            print(f"{verdict:9} {mutation.name}", flush=True)
            if status not in (0, 1):
                print((copy / "said.txt").read_text(), file=sys.stderr)
                broken.append(mutation.name)
            survivors += [] if status else [mutation.name]
            (copy / "src" / "compnet3d" / mutation.file).write_text(text, encoding="utf-8")
            free.append(copy)
    print(f"{len(chosen) - len(survivors) - len(broken)} of {len(chosen)} faults noticed")
    for names, what in ((survivors, "no test notices"), (broken, "the tests do not even run with")):
        if names:
            print(f"{what}: {'; '.join(names)}")
    return 2 if broken else 1 if survivors else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The status: 0 where every fault is noticed, 1 where some survive, 2 where the list or its tests are broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="this one alone; may be given several times")
    parser.add_argument("--list", action="store_true", help="name them and their tests, and run nothing")
    parser.add_argument("--jobs", type=int, default=2, help="copies to work in at once")
    options = parser.parse_args(arguments)
    broken = problems()
    unknown = set(options.only or ()) - {m.name for m in MUTATIONS}
    for problem in (*broken, *(f"{name!r} is not in the list" for name in sorted(unknown))):
        print(problem, file=sys.stderr)
    if broken or unknown:
        return 2
    chosen = [m for m in MUTATIONS if not options.only or m.name in options.only]
    if options.list:
        for mutation in chosen:
            print(f"{mutation.name}: {mutation.file}\n    {' '.join(mutation.tests)}")
        return 0
    return try_all(chosen, max(1, options.jobs))


if __name__ == "__main__":
    sys.exit(main())
