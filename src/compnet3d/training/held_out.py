"""Fitting how probable answers are on the calibration split: images as they are, and the same ones partly covered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from compnet3d.data.augment import Augmentation
from compnet3d.data.loader import CropDataset
from compnet3d.data.sample import Sample, draw_images, split_calibration
from compnet3d.errors import CompNetError
from compnet3d.evaluation.evaluate import ANGLES, pose_rotmat, rotation_errors
from compnet3d.geometry.rotations import angles_to_rotmat
from compnet3d.inference.confidence import (
    TEMPERATURE_ALONE,
    Calibration,
    category_log_odds,
    fit_logistic,
    fit_temperature,
    least_evidence,
)
from compnet3d.models.registry import TrainedModel
from compnet3d.training.builtin_recipes import get_recipe
from compnet3d.training.run_checks import RunNotes
from compnet3d.utils.files import read_json


@dataclass(frozen=True)
class Answers:
    """What a model answered on N images, and what is right; nan where a model does not tell.

    Attributes:
        scores: of the categories, [N, Y]; category: the true one, int64 [N].
        log_odds, reconstruction: of the pose, and its reconstruction score, [N].
        pose_right: whether the pose is within pi/6, over the object's symmetry, bool [N].
        evidence: see `Prediction`, [N].
    """

    scores: Tensor
    category: Tensor
    log_odds: Tensor
    reconstruction: Tensor
    pose_right: Tensor
    evidence: Tensor

    @classmethod
    def cat(cls, parts: Iterable[Answers]) -> Answers:
        """One after the other."""
        return cls(*(torch.cat(columns) for columns in zip(*(part.columns() for part in parts), strict=True)))

    def columns(self) -> tuple[Tensor, ...]:
        """The tensors, in the order of the attributes."""
        return self.scores, self.category, self.log_odds, self.reconstruction, self.pose_right, self.evidence


@torch.no_grad()
def answers(model: TrainedModel, batches: Iterable[Mapping[str, Tensor]], orders: Tensor) -> Answers:
    """Ask a model in evaluation mode about batches of crops, as `CropDataset` has them; `orders`: symmetries, [Y]."""
    nothing = torch.zeros(0)
    # empty rows to begin with: a process with no image at all still has something to gather
    parts = [Answers(torch.zeros(0, len(orders)), nothing.long(), nothing, nothing, nothing.bool(), nothing)]
    for batch in batches:
        found, category = model.predict_crops(batch["image"]), batch["category"]
        target = angles_to_rotmat(*(batch[name].double() for name in ANGLES[:3]))
        _, error, _ = rotation_errors(pose_rotmat(found.pose), target, orders[category])
        optional = (found.pose_log_odds, found.reconstruction_score, found.evidence)
        log_odds, reconstruction, evidence = (
            torch.full(category.shape, math.nan) if value is None else value.cpu() for value in optional
        )
        parts.append(Answers(found.scores.cpu(), category, log_odds, reconstruction, error < math.pi / 6, evidence))
    return Answers.cat(parts)


def fit_calibration(plain: Answers, covered: Answers, orders: Tensor) -> tuple[float, Calibration]:
    """The temperature, from plain images, and the rest, from both kinds together, each half of it.

    Args:
        plain, covered: of the same images as they are and covered, at least one each.
        orders: symmetry order of each category, int64 [Y].
    """
    temperature = fit_temperature(plain.scores, plain.category)
    both = Answers.cat([plain, covered])
    share = torch.cat([torch.full((len(x.category),), 1.0 / len(x.category)) for x in (plain, covered)])
    category = TEMPERATURE_ALONE
    if both.scores.shape[1] > 1:
        features = torch.stack([category_log_odds(both.scores, temperature), both.scores.amax(dim=1).double()], dim=1)
        right = both.scores.argmax(dim=1) == both.category
        category = _three(fit_logistic(features, right, TEMPERATURE_ALONE, share))
    pose = None
    features = torch.stack([both.log_odds, both.reconstruction], dim=1)
    if features.isfinite().all():
        pose = _three(fit_logistic(features, both.pose_right, (0.0, 0.0, 0.0), share))
    least = least_evidence(plain.evidence) if plain.evidence.isfinite().all() else None
    return temperature, Calibration(category, pose, least, tuple(orders.tolist()))


def calibrate_confidence(model: TrainedModel, crops: CropDataset, orders: Tensor, *, batch_size: int = 32) -> None:
    """Fit a model's confidences on held-out images, at least one, in this process.

    Args:
        model: in evaluation mode; it is changed.
        crops: of the images, which it was not trained on; their augmentation is not looked at.
        orders: symmetry order of each category, int64 [Y].
    """

    def ask(settings: Augmentation | None, draws: int) -> Answers:
        some = crops.augmented(settings)
        keys = [(draw, index) for draw in range(draws) for index in range(len(some))]
        batches = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
        return answers(model, DataLoader(some, batch_sampler=batches), orders)

    calibrate_by(model, orders, ask)


def calibrate_by(model: TrainedModel, orders: Tensor, ask: Callable[[Augmentation | None, int], Answers]) -> None:
    """Fit a model's confidences on what it answers for images as they are, and for so many draws of covered ones.

    Args:
        model: is changed; orders: symmetry order of each category, int64 [Y].
        ask: gives the answers for all images under an augmentation, each drawn so many times.
    """
    # random shapes over 5 to 65 % of a crop, as recipes for occlusion train with; no benchmark's occluders are among
    # them
    covered = Augmentation(erasing=1.0, dead_leaves=1.0)
    draws = 2  # of each image; together these count as much as the images as they are
    # the symmetries by which poses are compared while answers are measured
    model.calibrate(model.config.temperature, Calibration(symmetry_orders=tuple(orders.tolist())))
    model.calibrate(*fit_calibration(ask(None, 1), ask(covered, draws), orders))


def held_out_samples(run: str | Path, samples: Sequence[Sample]) -> tuple[list[Sample], int]:
    """The part of a train list that a run held out for calibration, and how many last epochs trained on it, too.

    Raises:
        CompNetError: if the folder holds no run, one of another number of images, or one that held nothing out.
    """
    path = Path(run) / "config.json"
    if not path.is_file() or "recipe" not in read_json(path):
        raise CompNetError(f"{run}: is no run's folder, which would tell what was held out; choose a list with --split")
    schedule, notes = get_recipe(str(path)).schedule, RunNotes.read(path)
    kept, seed = [sample for sample in samples if sample.category not in notes.without], notes.seed or 0
    if notes.images_per_category is not None:
        kept = draw_images(kept, notes.images_per_category, seed)
    trained = notes.counts.get("samples", len(kept))
    if len(kept) != trained:
        raise CompNetError(
            f"{run}: was trained on {trained} images, but the train list has {len(kept)}, so what was held out is not "
            "known; give the data that it was trained on, or a list of your own with --split"
        )
    _, held_out = split_calibration(kept, schedule.calibration_fraction, seed)
    if not held_out:
        raise CompNetError(f"{run}: held nothing out of the train list; choose another list with --split")
    return held_out, schedule.epochs - schedule.last_held_out_epoch


def _three(weights: tuple[float, ...]) -> tuple[float, float, float]:
    constant, first, second = weights
    return constant, first, second
