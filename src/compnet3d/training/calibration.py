"""What the calibration split tells: temperature of the confidence, confusions, grouping weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from compnet3d.data.loader import CropDataset
from compnet3d.evaluation.metrics import confusion_matrix
from compnet3d.training.run_folder import (
    Run,
)
from compnet3d.training.sampler import EpochSampler
from compnet3d.training.step import Objective
from compnet3d.utils.files import Json


def fit_temperature(scores: Tensor, category: Tensor) -> float:
    """The factor on the scores whose softmax has the lowest negative log likelihood on held-out images.

    Args:
        scores: [N, Y]; category: the true ones, int64 [N].
    """
    candidates = torch.logspace(-2, 4, 241)
    losses = torch.stack([cross_entropy(t * scores, category) for t in candidates])
    return float(candidates[losses.argmin()])


def calibrate(run: Run, objective: Objective, held_out: CropDataset, workers: int = 0) -> Json:
    """Accuracy on the calibration split, the temperature of the confidence, the confusion matrix and from it omega.

    The confusions are counted over plain crops and over as many augmented ones (some of them partly covered): a small
    calibration split would otherwise show no confusion at all long before the categories are safely apart.
    """
    scores, true = _scores(run, held_out.plain(), workers)
    run.model.calibrate(fit_temperature(scores, true))
    hard_scores, hard_true = _scores(run, held_out, workers)
    accuracy = float((scores.argmax(dim=1) == true).float().mean())
    count = len(run.model.categories)
    predicted = torch.cat([scores, hard_scores]).argmax(dim=1)
    confusion = confusion_matrix(predicted, torch.cat([true, hard_true]), count)
    entry: Json = {"calibration_accuracy": accuracy}
    entry.update(objective.regroup(run.model, confusion, accuracy))
    entry["confusion"] = confusion.tolist()
    return entry


@torch.no_grad()
def _scores(run: Run, crops: CropDataset, workers: int) -> tuple[Tensor, Tensor]:
    """Scores of the categories [N, Y] and true categories [N]; the run's epoch chooses the draws of an augmentation."""
    model = run.model.eval()
    scores, true = [torch.zeros(0, len(model.categories))], [torch.zeros(0, dtype=torch.int64)]
    sampler = EpochSampler(len(crops), run.recipe.schedule.batch_size, crops.seed, run.epoch, run.group)
    # a process that has fewer than four batches to prepare takes longer to start
    for batch in DataLoader(crops, batch_sampler=sampler, num_workers=min(workers, len(sampler) // 4)):
        scores.append(model.classify_crops(batch["image"]).cpu())
        true.append(batch["category"])
    all_scores, all_true = run.group.gather(torch.cat(scores), torch.cat(true))
    return all_scores, all_true
