"""A study: several methods on one data set with several seeds, under several conditions; each done once and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from compnet3d import __version__
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError
from compnet3d.evaluation.crops import Loading
from compnet3d.evaluation.evaluate import evaluate
from compnet3d.evaluation.result import EvaluationResult
from compnet3d.evaluation.unseen import common_samples, evaluate_unseen
from compnet3d.evaluation.unseen_result import UnseenResult
from compnet3d.models.registry import TrainedModel
from compnet3d.reporting.provenance import provenance
from compnet3d.reporting.tables import Origin
from compnet3d.reproduce.measures import Evaluated
from compnet3d.robustness.occluders import occluder_samples
from compnet3d.robustness.occlusion import Level, Protocol
from compnet3d.robustness.shift import Shift
from compnet3d.training.recipe import Recipe
from compnet3d.training.run_checks import check_recipe, recipe_differences
from compnet3d.training.run_folder import read_log
from compnet3d.training.train import train_or_load
from compnet3d.utils.distributed import current_group
from compnet3d.utils.files import Json, claim_folder, read_json, recover_folder, write_json
from compnet3d.utils.settings import shown


@dataclass(frozen=True)
class Method:
    """What a table has a row for.

    Attributes:
        name: of its folder.
        label: in the tables.
        recipe: how it is trained.
    """

    name: str
    label: str
    recipe: Recipe


@dataclass(frozen=True)
class Condition:
    """What is done to the images, and on which data.

    Attributes:
        name: of its file.
        shift: of the images.
        data: another data set than the study's, of which the categories that the model knows are taken.
    """

    name: str
    shift: Shift = Shift()
    data: Path | None = None


CLEAN = Condition("clean")


@dataclass(frozen=True)
class _Task:
    """Of which model, trained where that is missing, all processes measure what: a condition, or unseen categories."""

    method: Method
    seed: int
    without: tuple[str, ...] = ()
    measured: Condition | tuple[str, ...] | None = None


class KeptModel:
    """The model that was asked for last: tables ask for the same one many times, and memory is for one at a time."""

    def __init__(self) -> None:
        self._key: object = None
        self._model: TrainedModel | None = None

    def get(self, key: object, make: Callable[[], TrainedModel]) -> TrainedModel:
        """The model that `key` stands for: the kept one, or one that is made now, after the kept one has gone."""
        # compared and not hashed: recipes hold dictionaries
        if self._model is None or self._key != key:
            # freed first: two models of the paper's size need not fit
            self._model = None
            self._key, self._model = key, make()
        return self._model


@dataclass(frozen=True)
class Study:
    """Where everything is, and how it is done.

    OUT/models/METHOD/seed-N is a training run, OUT/metrics/METHOD/seed-N/CONDITION.json an evaluation. An evaluation
    notes what it was made with, and is made again when that has changed.

    Of processes that have joined in a group (see `joined`) rank 0 runs the study, and the others `help`: all train and
    evaluate together.

    Attributes:
        out: the study's folder.
        data: a data set with the lists train and val.
        seeds: of the trainings.
        occluders, occlusion_protocol, frost, backgrounds: see `evaluate`; "distractors" are cut-outs in OUT/occluders.
        batch_size: in evaluations.
        device, progress: as in `train`.
        workers: processes that prepare images for each that trains, and for each evaluation; None leaves it to `train`
            and evaluates in one process.
        command: what the user typed.
        kept: the model at hand.
    """

    out: Path
    data: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    occluders: str = "distractors"
    occlusion_protocol: Protocol = "generator"
    frost: Path | None = None
    backgrounds: Path | None = None
    batch_size: int = 64
    device: str = "cpu"
    workers: int | None = None
    progress: bool = True
    command: str = ""
    kept: KeptModel = field(default_factory=KeptModel, compare=False, repr=False)

    @property
    def occlusions(self) -> tuple[Condition, ...]:
        """L1 to L3; those of the paper's text have other names, so that one study may hold both."""
        occluders = str(self.distractors) if self.occluders == "distractors" else self.occluders
        # in the file's name, since an evaluation under another protocol is another one and not an outdated one
        suffix = "" if self.occlusion_protocol == "generator" else f" ({self.occlusion_protocol})"
        levels: tuple[Level, ...] = ("L1", "L2", "L3")
        return tuple(
            Condition(f"{level}{suffix}", Shift(level, self.occlusion_protocol, occluders)) for level in levels
        )

    @property
    def distractors(self) -> Path:
        """The folder of the cut-outs that are "distractors"."""
        return self.out / "occluders"

    @property
    def corruptions(self) -> tuple[Condition, ...]:
        """The paper's four kinds of weather and light (section 4.1), at severity 4."""
        frost = None if self.frost is None else str(self.frost)
        return tuple(
            Condition(f"{name}-4", Shift(corruption=name, severity=4, frost=frost))
            for name in ("brightness", "frost", "snow", "fog")
        )

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Those of table 4: clean, each level of occlusion, each corruption."""
        return (CLEAN, *self.occlusions, *self.corruptions)

    @property
    def other_backgrounds(self) -> Condition | None:
        """The test objects before other backgrounds, where there are photographs for it."""
        if self.backgrounds is None:
            return None
        return Condition("backgrounds", Shift(backgrounds=str(self.backgrounds)))

    def dataset(self) -> ImageNet3D:
        """The data set."""
        return ImageNet3D(self.data)

    def run(self, method: Method, seed: int, without: Sequence[str] = ()) -> Path:
        """The folder of a training run."""
        return self.out / "models" / _name(method, without) / f"seed-{seed}"

    def model(self, method: Method, seed: int, without: Sequence[str] = ()) -> TrainedModel:
        """The trained model: trained now, gone on with, or loaded; the last one stays at hand."""
        # by one process alone, before the others look
        recover_folder(self.run(method, seed, without) / "model")
        _tell(_Task(method, seed, tuple(without)))
        return self._model(method, seed, without)

    def help(self) -> None:
        """Train and evaluate with rank 0 until it is done; what another process than that does."""
        while (task := _tell(None)) is not None:
            model = self._model(task.method, task.seed, task.without)
            if task.measured is not None:
                self._measure(model, task.measured)

    def end(self) -> None:
        """Tell the other processes that all is done."""
        _tell(None)

    def _model(self, method: Method, seed: int, without: Sequence[str]) -> TrainedModel:
        folder = self.run(method, seed, without)

        def make() -> TrainedModel:
            return train_or_load(
                method.recipe,
                self.data,
                folder,
                without=tuple(without),
                seed=seed,
                workers=self.workers,
                progress=self.progress,
                device=self.device,
            )

        return self.kept.get((folder, method.recipe, self.data, self.device), make)

    def log(self, method: Method, seed: int) -> list[Json]:
        """One entry per epoch of a training, which is done first if need be.

        Raises:
            CompNetError: if the log is missing or broken.
        """
        if not (self.run(method, seed) / "model").is_dir():
            self.model(method, seed)
        return read_log(self.run(method, seed) / "log.jsonl")

    def occluder_samples(self, condition: Condition) -> list[Sample] | None:
        """Where a condition's occluding objects are cut out; None for other occluders."""
        return occluder_samples(self.dataset(), "val") if condition.shift.occluders == "objects" else None

    @property
    def _loading(self) -> Loading:
        """How evaluations of every kind go through the images."""
        return Loading(self.batch_size, self.workers or 0, self.progress)

    def metrics(self, method: Method, seed: int, condition: Condition = CLEAN) -> Evaluated[EvaluationResult]:
        """What `evaluate` says of a trained model, from the file if that was done before."""
        of = {
            "shift": condition.shift.to_dict(),
            "data": None if condition.data is None else str(condition.data.resolve()),
        }
        # through JSON even when measured just now: tables of a first run and of a second one are then the same
        values = self._once(_Task(method, seed, (), condition), condition.name, of)
        with _made_again():
            result = EvaluationResult.from_dict(values, str(self._file(method, seed, (), condition.name)))
        return Evaluated(result, _origin(values))

    def is_evaluated(self, method: Method, seed: int, condition: Condition = CLEAN) -> bool:
        """Whether there is an evaluation of a trained model, which `metrics` would read or make again."""
        return self._file(method, seed, (), condition.name).is_file()

    def unseen(self, method: Method, seed: int, names: Sequence[str]) -> Evaluated[UnseenResult]:
        """Poses of categories that the method was not trained on (section 5.3)."""
        values = self._once(_Task(method, seed, tuple(names), tuple(names)), "unseen", {})
        path = self._file(method, seed, names, "unseen")
        with _made_again():
            result = UnseenResult.from_dict(values, str(path))
            if missing := sorted(set(names) - set(result.per_category)):
                raise CompNetError(f"{path}: has no per_category of {missing[0]!r}")
        return Evaluated(result, _origin(values))

    def times(self) -> dict[str, tuple[list[float], list[float | None]]]:
        """Of each method that is there: seconds of each training's epochs; of each evaluation, None if untimed."""
        found = {}
        for folder in sorted(path for path in (self.out / "models").glob("*") if path.is_dir()):
            logs = sorted(folder.glob("seed-*/log.jsonl"))
            files = sorted((self.out / "metrics" / folder.name).glob("seed-*/*.json"))
            found[folder.name] = (
                [sum(float(entry["seconds"]) for entry in read_log(path)) for path in logs],
                [_seconds(path) for path in files],
            )
        return found

    def _file(self, method: Method, seed: int, without: Sequence[str], condition: str) -> Path:
        return self.out / "metrics" / _name(method, without) / f"seed-{seed}" / f"{condition}.json"

    def _measure(self, model: TrainedModel, what: Condition | tuple[str, ...]) -> Json:
        """What `evaluate` says of a model under a condition, or `evaluate_unseen` for categories."""
        if isinstance(what, tuple):
            dataset = ImageNet3D(self.data, categories=what)
            samples = dataset.samples("val")
            return evaluate_unseen(model, samples, symmetry=dataset.symmetry, loading=self._loading).to_dict()
        dataset = ImageNet3D(what.data or self.data)
        samples = dataset.samples("val")
        if what.data is not None:
            # a second data set may have other categories; the model's own data set must not
            samples = common_samples(samples, model.categories)
        return evaluate(
            model,
            samples,
            shift=what.shift,
            symmetry=dataset.symmetry,
            occluder_samples=self.occluder_samples(what),
            loading=self._loading,
        ).to_dict()

    def _once(self, task: _Task, condition: str, of: Json) -> Json:
        """An evaluation from its file, or made now if there is none of this model `of` these settings."""
        method, seed, without = task.method, task.seed, task.without
        path = self._file(method, seed, without, condition)
        weights = self.run(method, seed, without) / "model" / "model.safetensors"
        # plain values only, so that what is measured now and what is read later are the same
        noted = of | {"recipe": method.recipe.to_dict(), "without": sorted(without), "version": __version__}
        made_with = json.loads(json.dumps(noted))
        earlier = _read_evaluation(path) if path.exists() else {}
        if not _is_of(earlier.get("made_with"), made_with, weights):
            # before the digest below: this may train the model, and write the file that is digested
            model = self.model(method, seed, without)
            print(f"evaluating {_name(method, without)}, seed {seed}: {condition}", flush=True)
            # default=str: settings may hold paths
            assert task.measured is not None
            _tell(task)
            metrics = json.loads(json.dumps(self._measure(model, task.measured), default=str))
            earlier = metrics | {"made_with": made_with | {"model": _digest(weights)}, **provenance(self.command)}
            write_json(path, earlier)
        return earlier


def _tell(task: _Task | None) -> _Task | None:
    """Have the other processes help, with None where all is done; what rank 0 says."""
    return current_group().hear(task)[0]


@contextmanager
def _made_again() -> Iterator[None]:
    """While an evaluation that was kept is read: if it is broken, it need not be repaired."""
    try:
        yield
    except CompNetError as error:
        raise CompNetError(f"{error}; delete the file, the evaluation is made again") from None


def _read_evaluation(path: Path) -> Json:
    with _made_again():
        values = read_json(path)
        if not isinstance(values, dict):
            raise CompNetError(f"{path}: is no evaluation")
    return values


def _seconds(path: Path) -> float | None:
    """How long a kept evaluation took; None if it was not timed."""
    seconds = _read_evaluation(path).get("seconds")
    if seconds is None or (isinstance(seconds, int | float) and 0 <= seconds < 1e12):
        return seconds
    with _made_again():
        raise CompNetError(f"{path}: seconds must be a number, not {shown(seconds)}")


def _is_of(earlier: Any, made_with: Json, weights: Path) -> bool:
    """Whether an evaluation that was made with `earlier` is one with `made_with` of the model that is there now.

    A model that was deleted is not trained again for it, and settings and digests that an earlier version did not
    write count as the same.
    """
    if not isinstance(earlier, dict) or recipe_differences(earlier, Recipe.from_dict(made_with["recipe"])):
        return False
    digest = earlier.get("model")
    # the recipe has been compared setting by setting, which allows for settings that came later; here it is taken as
    # equal
    same = {key: value for key, value in earlier.items() if key != "model"} | {"recipe": made_with["recipe"]}
    same = {"version": made_with["version"]} | same
    return same == made_with and (digest is None or not weights.is_file() or digest == _digest(weights))


def _origin(values: Json) -> Origin:
    return Origin(*(str(values.get(key, ""))[:1000] for key in Origin._fields))


def _digest(path: Path) -> str:
    status = path.stat()
    # a large model takes seconds to digest, and dozens of cells of a table ask for it; time and size tell whether the
    # file has changed since
    return _digest_of(path, status.st_mtime_ns, status.st_size)


@cache
def _digest_of(path: Path, changed: int, size: int) -> str:
    """SHA-256 of a file, computed once for each state that it had."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _name(method: Method, without: Sequence[str]) -> str:
    return f"{method.name}-without-{'+'.join(sorted(without))}" if without else method.name


def claim_study(path: Path, recipe: Recipe, settings: dict[str, str], what: str) -> None:
    """`claim_folder` for a study of a recipe; settings that the version which began it lacked have their defaults.

    Raises:
        CompNetError: if the folder holds one of another recipe or with other settings, or something else.
    """
    earlier = read_json(path) if path.is_file() else None
    noted = recipe.to_dict()
    if isinstance(earlier, dict) and "recipe" in earlier:
        check_recipe(path, earlier, recipe)
        # as the file has it, so that `claim_folder`, which compares every value, finds it unchanged
        noted = earlier["recipe"]
    claim_folder(path, {"recipe": noted, **settings}, what)
