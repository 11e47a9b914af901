"""How probable it is that an answer is right, from what the model computes anyway; and fitting that on held-out images.

Each probability is a logistic regression over few numbers (Platt 1999), with the softmax of one temperature (Guo et al.
2017) as a special case. What a number alone cannot tell under occlusion is how well the winner explains the image:
scores of a hidden object are close together by chance as well as by doubt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from compnet3d.utils.checks import check_shape
from compnet3d.utils.settings import check_ranges, setting

# the softmax of the temperature, unchanged
TEMPERATURE_ALONE = (0.0, 1.0, 0.0)


@dataclass(frozen=True)
class Calibration:
    """What held-out images have told of a model's answers.

    Attributes:
        category: weights of 1, of the log odds of the best category in the softmax of the temperature, and of its
            score: the logistic function of their sum is the probability that the category is right.
        pose: weights of 1, of the log odds of the pose among all hypotheses (see `PoseEstimate`), and of the
            reconstruction score, for the probability that the pose is within pi/6; None for a model that has no
            hypotheses.
        least_evidence: of less evidence (see `Prediction`) the answer is unknown; None where that is not known.
        symmetry_orders: of each category about its vertical axis: 1 none, n n-fold, 0 continuous; empty for none.

    Raises:
        ValueError: naming what is out of range.
    """

    category: tuple[float, float, float] = setting(TEMPERATURE_ALONE, least=-1e6, most=1e6)
    pose: tuple[float, float, float] | None = setting(None, least=-1e6, most=1e6)
    least_evidence: float | None = setting(None, least=-1e6, most=1e6)
    symmetry_orders: tuple[int, ...] = setting((), least=0, most=1_000_000)

    def __post_init__(self) -> None:
        check_ranges(self)

    def orders(self, category: Tensor) -> Tensor:
        """The symmetry orders of categories int64 [B]."""
        if not self.symmetry_orders:
            return torch.ones_like(category)
        return torch.tensor(self.symmetry_orders, device=category.device)[category]

    def pose_confidence(self, log_odds: Tensor, score: Tensor) -> Tensor | None:
        """Probability that poses are within pi/6, from their log odds and reconstruction scores [B], or None."""
        return None if self.pose is None else logistic(self.pose, log_odds, score).to(score.dtype)

    def is_unknown(self, evidence: Tensor | None) -> Tensor | None:
        """Which images show too little evidence [B] of any category, bool [B]; None where that cannot be told."""
        if evidence is None or self.least_evidence is None:
            return None
        return evidence < self.least_evidence


def category_log_odds(scores: Tensor, temperature: float) -> Tensor:
    """log p / (1 - p) of the best category in the softmax of `temperature` times the scores [B, Y], Y > 1: [B]."""
    scaled = temperature * scores.double()
    best = scaled.argmax(dim=-1, keepdim=True)
    # not of the probability itself, which rounds to 1 where the best is far ahead
    others = scaled.scatter(-1, best, -math.inf).logsumexp(dim=-1)
    return scaled.gather(-1, best)[..., 0] - others


def category_confidence(scores: Tensor, temperature: float, weights: tuple[float, float, float]) -> Tensor:
    """Probability that the category with the largest score is right, [B]; 1 where there is one category alone.

    Args:
        scores: [B, Y]; temperature: factor on them; weights: see `Calibration.category`.
    """
    if scores.shape[-1] == 1:
        return torch.ones_like(scores[..., 0])
    return logistic(weights, category_log_odds(scores, temperature), scores.amax(dim=-1)).to(scores.dtype)


def logistic(weights: tuple[float, ...], *features: Tensor) -> Tensor:
    """The logistic function of weights[0] + sum of weights[i] features[i - 1], each [B]: float64 [B]."""
    # one product of [B, F] with [F]
    design = torch.stack([x.double() for x in features], dim=-1)
    return (design @ design.new_tensor(weights[1:]) + weights[0]).sigmoid()


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


def fit_logistic(
    features: Tensor, hit: Tensor, prior: tuple[float, ...], share: Tensor | None = None
) -> tuple[float, ...]:
    """The weights of `logistic` with the lowest negative log likelihood on held-out images.

    Args:
        features: [N, F]; hit: whether the answer was right, bool [N].
        prior: weights [1 + F] to stay at where the images say nothing: N images weigh as much as N / 4 standard
            deviations squared away from it, so that a few, or all of them right, give no boundless weights.
        share: how much each image counts, [N]; all alike by default.

    Returns:
        The constant and F factors; the prior without an image.
    """
    check_shape("hit", hit, (len(features),))
    if not len(features):
        return prior
    x, y = features.double(), hit.double()
    share = torch.ones_like(y) if share is None else share.double()
    share = share / share.sum()
    # in units of the features' spread, so that the prior means the same for all of them
    mean = share @ x
    spread = (share @ (x - mean).square()).sqrt()
    spread = torch.where(spread > 1e-6, spread, torch.ones_like(spread))
    start = torch.tensor(prior, dtype=torch.float64)
    start = torch.cat([(start[:1] + (start[1:] * mean).sum()), start[1:] * spread])
    design = torch.cat([torch.ones_like(x[:, :1]), (x - mean) / spread], dim=1)
    weights = start.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        fit = (share * binary_cross_entropy_with_logits(design @ weights, y, reduction="none")).sum()
        total = fit + 2 / len(x) * (weights - start).square().mean()
        torch.autograd.backward(total)
        return total.detach()

    optimizer.step(loss)
    scaled = weights.detach()
    factors = scaled[1:] / spread
    return tuple([float(scaled[0] - factors @ mean), *factors.tolist()])


def least_evidence(evidence: Tensor, false_alarms: float = 0.05) -> float | None:
    """The evidence that all but a share `false_alarms` of known objects have, of theirs [N]; None without one."""
    return float(evidence.double().quantile(false_alarms)) if len(evidence) else None
