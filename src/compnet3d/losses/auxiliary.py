"""Losses that the paper does not have: classification by Eq. 7 and pose by Eq. 8, each as a cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from compnet3d.utils.checks import check_index, check_integer, check_shape, reads_values


def classification_loss(scores: Tensor, category: Tensor, factor: float = 100.0) -> Tensor:
    """The cross-entropy of the softmax of the categories' scores; not in the paper (decision 28).

    Args:
        scores: S_y of Eq. 7, [B, Y], see `category_scores`.
        category: the true ones, int64 [B].
        factor: on the scores, which differ by hundredths. The calibrated confidence of trained models has 80 to 150.

    Returns:
        The mean over the images.
    """
    check_shape("scores", scores, ("B", "Y"))
    check_shape("category", category, (len(scores),))
    check_integer(category=category)
    if __debug__ and reads_values(category):
        check_index("category", category, scores.shape[1])
    return torch.nn.functional.cross_entropy(factor * scores, category)


def pose_contrastive_loss(
    scores: Tensor, negatives: Tensor, factor: float = 100.0, weights: Tensor | None = None
) -> Tensor:
    """The cross-entropy of the softmax of one category's scores at several poses; not in the paper (decision 29).

    Args:
        scores: - L(alpha) of Eq. 8 averaged over the cells, at the true pose first and then at others, [B, 1 + P].
        negatives: which of the others count, bool [B, P].
        factor: on the scores, as in `classification_loss`.
        weights: of the others' terms in the softmax's sum, positive [B, P]; all 1 by default.

    Returns:
        The mean over the images.
    """
    check_shape("scores", scores, ("B", "1 + P"))
    check_shape("negatives", negatives, (len(scores), scores.shape[1] - 1))
    logits = factor * scores[:, 1:]
    if weights is not None:
        check_shape("weights", weights, negatives.shape)
        # a weight on a term is its logarithm on the logit, as omega's in Eq. 4
        logits = logits + weights.log()
    # minus infinity is out of the sum; the true pose is always in it, so that it is finite even where no other counts
    others = logits.masked_fill(~negatives, -torch.inf)
    true = factor * scores[:, :1]
    return (torch.cat([true, others], dim=1).logsumexp(dim=1) - true[:, 0]).mean()
