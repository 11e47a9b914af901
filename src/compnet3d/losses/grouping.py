"""Grouping weights omega: which categories are contrasted, from the confusion matrix (section 3.3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from compnet3d.utils.checks import check_shape


def refreshed_weights(
    confusion: Tensor, accuracy: float, *, least_accuracy: float, threshold: float = 0.05, floor: float = 0.0
) -> Tensor | None:
    """What training sets omega to after a look at the calibration split; None where it stays as it is.

    Args:
        confusion, threshold, floor: as of `grouping_weights`.
        accuracy: on the calibration split; below `least_accuracy` the model still guesses, and its confusions say
            nothing about which categories are alike.
    """
    return None if accuracy < least_accuracy else grouping_weights(confusion, threshold, floor)


def grouping_weights(confusion: Tensor, threshold: float = 0.05, floor: float = 0.0) -> Tensor:
    """omega of Eq. 4: the confusion matrix normalised over the true category, 0 below the threshold.

    Args:
        confusion: counts [Y, Y], row = true category; a category without calibration images (a row of zeros) is
            contrasted with all others, because nothing is known about it.
        threshold: confusion below this is not contrasted.
        floor: least weight of any two categories, in [0, 1]; 0 in the paper.

    Returns:
        omega [Y, Y] in [0, 1], zero on the diagonal.
    """
    check_shape("confusion", confusion, (len(confusion), len(confusion)))
    if __debug__ and not 0 <= floor <= 1:
        raise ValueError(f"floor must lie in [0, 1], got {floor}")
    confusion = confusion.float()
    total = confusion.sum(dim=1, keepdim=True)
    # counts are whole numbers, so the limit of 1 changes nothing but 0 / 0 in rows that are not taken
    omega = torch.where(total > 0, confusion / total.clamp_min(1), torch.ones_like(confusion))
    omega = torch.where(omega < threshold, torch.zeros_like(omega), omega)
    # the floor comes after the threshold, which would set it back to 0; the own category is contrasted by Eq. 2
    return omega.clamp_min(floor).fill_diagonal_(0)
