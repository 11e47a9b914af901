"""What the calibration split tells: temperature of the confidence, confusions, grouping weights, flips."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from compnet3d.data.augment import Augmentation
from compnet3d.data.loader import CropDataset
from compnet3d.evaluation.evaluate import ANGLES, pose_rotmat, rotation_errors
from compnet3d.evaluation.metrics import confusion_matrix, is_flipped
from compnet3d.geometry.rotations import angles_to_rotmat, half_turn_shows
from compnet3d.inference.confidence import fit_temperature
from compnet3d.models.compnet import CompNet
from compnet3d.training.held_out import Answers, answers, calibrate_by
from compnet3d.training.objectives import CompNetObjective, Objective
from compnet3d.training.run_folder import Run
from compnet3d.utils.files import Json


def calibrate(run: Run, objective: Objective, held_out: CropDataset, workers: int = 0) -> Json:
    """Accuracy on the calibration split, temperature of the confidence, confusion matrix and omega; flips if asked for.

    The confusions are counted over plain crops and over as many augmented ones (some of them partly covered): a small
    calibration split would otherwise show no confusion at all long before the categories are safely apart.
    """
    # the plain crops alone say how good and how sure the model is; the augmented ones only where it is confused
    scores, true = _scores(run, held_out.plain(), workers)
    run.model.calibrate(fit_temperature(scores, true))
    hard_scores, hard_true = _scores(run, held_out, workers)
    accuracy = float((scores.argmax(dim=1) == true).float().mean())
    count = len(run.model.categories)
    predicted = torch.cat([scores, hard_scores]).argmax(dim=1)
    confusion = confusion_matrix(predicted, torch.cat([true, hard_true]), count)
    entry: Json = {"calibration_accuracy": accuracy}
    entry.update(objective.regroup(run.model, confusion, accuracy))
    # kept in the log for table 5 and figure 4, which are drawn from it without another pass
    entry["confusion"] = confusion.tolist()
    if isinstance(objective, CompNetObjective) and objective.measures_flips:
        flips = flip_shares(run, objective, held_out.plain(), workers)
        objective.learn_flips(flips)
        entry["flips"] = flips.tolist()
    return entry


def calibrate_run(run: Run, held_out: CropDataset, orders: Tensor, workers: int = 0) -> None:
    """Fit the confidences on the calibration split (see `fit_calibration`); `orders`: symmetry of each category [Y]."""

    def ask(settings: Augmentation | None, draws: int) -> Answers:
        crops = held_out.augmented(settings)
        parts = [answers(run.model, _batches(run, crops, workers, draw), orders) for draw in range(draws)]
        # all members get all rows, and thus the same fit
        return Answers(*run.group.gather(*Answers.cat(parts).columns()))

    calibrate_by(run.model, orders, ask)


@torch.no_grad()
def _scores(run: Run, crops: CropDataset, workers: int) -> tuple[Tensor, Tensor]:
    """Scores of the categories [N, Y] and true categories [N]; the run's epoch chooses the draws of an augmentation."""
    model = run.model
    # empty rows to begin with: a process with no image at all still has something to gather
    scores, true = [torch.zeros(0, len(model.categories))], [torch.zeros(0, dtype=torch.int64)]
    for batch in _batches(run, crops, workers):
        scores.append(model.classify_crops(batch["image"]).cpu())
        true.append(batch["category"])
    # all members get all rows, in the same order, and thus the same temperature and omega, without a word about them
    all_scores, all_true = run.group.gather(torch.cat(scores), torch.cat(true))
    return all_scores, all_true


@torch.no_grad()
def flip_shares(run: Run, objective: CompNetObjective, crops: CropDataset, workers: int = 0) -> Tensor:
    """How many of each category's poses are flipped with the true category given, float64 [Y] in [0, 1].

    0 for categories without an image, and for those that half a turn leaves as they are.
    """
    model = run.model
    assert isinstance(model, CompNet)  # what the objective is of
    flipped, true = [torch.zeros(0, dtype=torch.bool)], [torch.zeros(0, dtype=torch.int64)]
    for batch in _batches(run, crops, workers):
        category = batch["category"].to(model.device)
        order = objective.orders_of(category).cpu()
        estimate = model.render_and_compare.estimate_poses(model.features(batch["image"].to(model.device)), category)
        target = angles_to_rotmat(*(batch[name].double() for name in ANGLES[:3]))
        _, error, half_turn = rotation_errors(pose_rotmat(estimate.pose), target, order)
        flipped.append(is_flipped(half_turn, error) & half_turn_shows(order))
        true.append(batch["category"])
    all_flipped, all_true = run.group.gather(torch.cat(flipped), torch.cat(true))
    count = len(model.categories)
    hits = torch.bincount(all_true, weights=all_flipped.double(), minlength=count)
    return hits / torch.bincount(all_true, minlength=count).clamp_min(1)


def _batches(run: Run, crops: CropDataset, workers: int, draw: int | None = None) -> Iterator[dict[str, Tensor]]:
    """This process's share of the crops, for the model in evaluation mode; `draw` is the run's epoch by default."""
    # it stays so: `_train_epoch` sets the training mode again
    run.model.eval()
    # one part after the other, so that what is gathered is in the order of the crops for any number of processes; whole
    # batches, as in an evaluation
    size, epoch = run.recipe.schedule.batch_size, run.epoch if draw is None else draw
    starts = run.group.shard(range(0, len(crops), size))
    batches = [[(epoch, index) for index in range(start, min(start + size, len(crops)))] for start in starts]
    # a process that has fewer than four batches to prepare takes longer to start
    yield from DataLoader(crops, batch_sampler=batches, num_workers=min(workers, len(batches) // 4))
