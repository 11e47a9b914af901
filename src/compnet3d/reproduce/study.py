"""A study: several methods on one data set with several seeds, under several conditions; each done once and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from compnet3d import __version__
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.sample import Sample
from compnet3d.evaluation.crops import Loading
from compnet3d.evaluation.evaluate import evaluate
from compnet3d.evaluation.result import EvaluationResult, UnseenResult
from compnet3d.evaluation.unseen import common_samples, evaluate_unseen
from compnet3d.models.registry import TrainedModel
from compnet3d.reporting.provenance import provenance
from compnet3d.reporting.tables import Spread
from compnet3d.robustness.occluders import occluder_samples
from compnet3d.robustness.occlusion import Level, Protocol
from compnet3d.robustness.shift import Shift
from compnet3d.training.recipe import Recipe
from compnet3d.training.run_folder import check_recipe, read_log, recipe_differences
from compnet3d.training.train import train_or_load
from compnet3d.utils.files import claim_folder, read_json, write_json

LEVELS: tuple[Level, ...] = ("L1", "L2", "L3")
# section 4.1: four kinds of weather and light, at level 4
CORRUPTIONS, SEVERITY = ("brightness", "frost", "snow", "fog"), 4


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
class Study:
    """Where everything is, and how it is done.

    OUT/models/METHOD/seed-N is a training run, OUT/metrics/METHOD/seed-N/CONDITION.json an evaluation. An evaluation
    notes what it was made with, and is made again when that has changed.

    Attributes:
        out: the study's folder.
        data: a data set with the lists train and val.
        seeds: of the trainings.
        occluders, occlusion_protocol, frost: see `evaluate`; "things" are cut-outs in OUT/occluders.
        batch_size: in evaluations.
        device, progress: as in `train`.
        workers: processes that prepare images for each that trains, and for each evaluation; None leaves it to `train`
            and evaluates in one process.
        command: what the user typed.
    """

    out: Path
    data: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    occluders: str = "distractors"
    occlusion_protocol: Protocol = "generator"
    frost: Path | None = None
    batch_size: int = 64
    device: str = "cpu"
    workers: int | None = None
    progress: bool = True
    command: str = ""
    _kept: list[Any] = field(default_factory=list, compare=False, repr=False)
    _origins: list[dict[str, str]] = field(default_factory=list, compare=False, repr=False)

    @property
    def occlusions(self) -> tuple[Condition, ...]:
        """L1 to L3; those of the paper's text have other names, so that one study may hold both."""
        occluders = str(self.distractors) if self.occluders == "distractors" else self.occluders
        suffix = "" if self.occlusion_protocol == "generator" else f" ({self.occlusion_protocol})"
        return tuple(
            Condition(f"{level}{suffix}", Shift(level, self.occlusion_protocol, occluders)) for level in LEVELS
        )

    @property
    def distractors(self) -> Path:
        """The folder of the cut-outs that are "things"."""
        return self.out / "occluders"

    @property
    def corruptions(self) -> tuple[Condition, ...]:
        """The paper's four, at severity 4."""
        frost = None if self.frost is None else str(self.frost)
        return tuple(
            Condition(f"{name}-{SEVERITY}", Shift(corruption=name, severity=SEVERITY, frost=frost))
            for name in CORRUPTIONS
        )

    def dataset(self) -> ImageNet3D:
        """The data set."""
        return ImageNet3D(self.data)

    def run(self, method: Method, seed: int, without: Sequence[str] = ()) -> Path:
        """The folder of a training run."""
        return self.out / "models" / _name(method, without) / f"seed-{seed}"

    def model(self, method: Method, seed: int, without: Sequence[str] = ()) -> TrainedModel:
        """The trained model: trained now, gone on with, or loaded; the last one stays at hand."""
        key = (self.run(method, seed, without), method.recipe, self.data, self.device)
        if self._kept[:-1] == [*key]:
            model: TrainedModel = self._kept[-1]
            return model
        options: dict[str, Any] = {
            "seed": seed,
            "workers": self.workers,
            "progress": self.progress,
            "device": self.device,
        }
        self._kept.clear()  # one model at a time
        model = train_or_load(
            method.recipe, self.data, self.run(method, seed, without), without=tuple(without), **options
        )
        self._kept[:] = [*key, model]
        return model

    def log(self, method: Method, seed: int) -> list[dict[str, Any]]:
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

    def metrics(self, method: Method, seed: int, condition: Condition = CLEAN) -> EvaluationResult:
        """What `evaluate` says of a trained model, from the file if that was done before."""

        def measure(model: TrainedModel) -> dict[str, Any]:
            dataset = ImageNet3D(condition.data or self.data)
            samples = dataset.samples("val")
            if condition.data is not None:
                samples = common_samples(samples, model.categories)
            result = evaluate(
                model,
                samples,
                shift=condition.shift,
                symmetry=dataset.symmetry,
                occluder_samples=self.occluder_samples(condition),
                loading=self._loading,
            )
            return result.to_dict()

        of = {
            "shift": condition.shift.to_dict(),
            "data": None if condition.data is None else str(condition.data.resolve()),
        }
        return EvaluationResult.from_dict(self._once(method, seed, (), condition.name, of, measure), condition.name)

    def unseen(self, method: Method, seed: int, names: Sequence[str]) -> UnseenResult:
        """Poses of categories that the method was not trained on (section 5.3)."""

        def measure(model: TrainedModel) -> dict[str, Any]:
            dataset = ImageNet3D(self.data, categories=names)
            samples = dataset.samples("val")
            return evaluate_unseen(model, samples, symmetry=dataset.symmetry, loading=self._loading).to_dict()

        return UnseenResult.from_dict(self._once(method, seed, names, "unseen", {}, measure), "unseen")

    def take_origins(self) -> list[dict[str, str]]:
        """Command, machine and date of each evaluation that was asked for since this was called last."""
        taken = list(self._origins)
        self._origins.clear()
        return taken

    def times(self) -> dict[str, tuple[list[float], list[float | None]]]:
        """Of each method that is there: seconds of each training's epochs; of each evaluation, None if untimed."""
        found = {}
        for folder in sorted(path for path in (self.out / "models").glob("*") if path.is_dir()):
            logs = sorted(folder.glob("seed-*/log.jsonl"))
            files = sorted((self.out / "metrics" / folder.name).glob("seed-*/*.json"))
            found[folder.name] = (
                [sum(float(entry["seconds"]) for entry in read_log(path)) for path in logs],
                [read_json(path).get("seconds") for path in files],
            )
        return found

    def spread(self, measure: Callable[[int], float]) -> Spread:
        """A figure over all seeds."""
        return Spread(tuple(measure(seed) for seed in self.seeds))

    def _once(
        self,
        method: Method,
        seed: int,
        without: Sequence[str],
        condition: str,
        of: dict[str, Any],
        measure: Callable[[TrainedModel], dict[str, Any]],
    ) -> dict[str, Any]:
        name = _name(method, without)
        path = self.out / "metrics" / name / f"seed-{seed}" / f"{condition}.json"
        weights = self.run(method, seed, without) / "model" / "model.safetensors"
        # plain values only, so that what is measured now and what is read later are the same
        noted = of | {"recipe": method.recipe.to_dict(), "without": sorted(without), "version": __version__}
        made_with = json.loads(json.dumps(noted))
        earlier = read_json(path) if path.is_file() else {}
        if not _is_of(earlier.get("made_with"), made_with, weights):
            model = self.model(method, seed, without)
            print(f"evaluating {name}, seed {seed}: {condition}", flush=True)
            metrics = json.loads(json.dumps(measure(model), default=str))
            earlier = metrics | {"made_with": made_with | {"model": _digest(weights)}, **provenance(self.command)}
            write_json(path, earlier)
        self._origins.append({key: str(earlier.get(key, "")) for key in ("command", "machine", "date")})
        result: dict[str, Any] = earlier
        return result


def _is_of(earlier: Any, made_with: dict[str, Any], weights: Path) -> bool:
    """Whether an evaluation that was made with `earlier` is one with `made_with` of the model that is there now.

    A model that was deleted is not trained again for it, and settings and digests that an earlier version did not
    write count as the same.
    """
    if not isinstance(earlier, dict) or recipe_differences(earlier, Recipe.from_dict(made_with["recipe"])):
        return False
    digest = earlier.get("model")
    same = {key: value for key, value in earlier.items() if key != "model"} | {"recipe": made_with["recipe"]}
    same = {"version": made_with["version"]} | same
    return same == made_with and (digest is None or not weights.is_file() or digest == _digest(weights))


def _digest(path: Path) -> str:
    status = path.stat()
    return _digest_of(path, status.st_mtime_ns, status.st_size)


@cache
def _digest_of(path: Path, changed: int, size: int) -> str:
    """SHA-256 of a file, computed once for each state that it had."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _name(method: Method, without: Sequence[str]) -> str:
    return f"{method.name}-without-{'+'.join(sorted(without))}" if without else method.name


def claim_study(path: Path, recipe: Recipe, settings: dict[str, Any], what: str) -> None:
    """`claim_folder` for a study of a recipe; settings that the version which began it lacked have their defaults.

    Raises:
        CompNetError: if the folder holds one of another recipe or with other settings, or something else.
    """
    earlier = read_json(path) if path.is_file() else None
    noted = recipe.to_dict()
    if isinstance(earlier, dict) and "recipe" in earlier:
        check_recipe(path, earlier, recipe)
        noted = earlier["recipe"]
    claim_folder(path, {"recipe": noted, **settings}, what)
