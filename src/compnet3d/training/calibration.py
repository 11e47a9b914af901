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

    Returns:
        The factor; 1 where there is one category alone, whose softmax is 1 at any.
    """
    if scores.shape[1] == 1:
        return 1.0
    # The scores of Eq. 7 are a few hundredths apart, so that factors of about 100 are usual; a dual head's are
    # log-probabilities, for which about 1 will do. The grid has an end, where a gradient descent would never stop if
    # all images are classified correctly.
    candidates = torch.logspace(-2, 4, 241)
    losses = torch.stack([cross_entropy(t * scores, category) for t in candidates])
    return float(candidates[losses.argmin()])


def calibrate(run: Run, objective: Objective, held_out: CropDataset, workers: int = 0) -> Json:
    """Accuracy on the calibration split, the temperature of the confidence, the confusion matrix and from it omega.

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
    return entry


@torch.no_grad()
def _scores(run: Run, crops: CropDataset, workers: int) -> tuple[Tensor, Tensor]:
    """Scores of the categories [N, Y] and true categories [N]; the run's epoch chooses the draws of an augmentation."""
    # stays in evaluation mode: `_train_epoch` sets the training mode again
    model = run.model.eval()
    # empty rows to begin with: a process with no image at all still has something to gather
    scores, true = [torch.zeros(0, len(model.categories))], [torch.zeros(0, dtype=torch.int64)]
    sampler = EpochSampler(len(crops), run.recipe.schedule.batch_size, crops.seed, run.epoch, run.group)
    # a process that has fewer than four batches to prepare takes longer to start
    for batch in DataLoader(crops, batch_sampler=sampler, num_workers=min(workers, len(sampler) // 4)):
        scores.append(model.classify_crops(batch["image"]).cpu())
        true.append(batch["category"])
    # all members get all rows, in the same order, and thus the same temperature and omega, without a word about them
    all_scores, all_true = run.group.gather(torch.cat(scores), torch.cat(true))
    return all_scores, all_true
