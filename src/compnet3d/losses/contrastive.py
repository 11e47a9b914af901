"""The contrastive losses of the paper as they are written there, Eq. 2 to 4: the readable reference."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from compnet3d.losses.inputs import check_kappa
from compnet3d.utils.checks import check_index, check_integer, check_shape, reads_values


@dataclass(frozen=True)
class ContrastiveLoss:
    """Eq. 5 and its two parts, each the mean over all queries (0 where there are none).

    Attributes:
        total: in_category + cross_category, each with its weight.
        in_category: Eq. 2.
        cross_category: Eq. 4.
    """

    total: Tensor
    in_category: Tensor
    cross_category: Tensor


def in_category_loss(
    observed: Tensor,
    vertex: Tensor,
    category_features: Tensor,
    background_features: Tensor,
    *,
    kappa: float,
    excluded: Tensor | None = None,
    background_weight: float = 1.0,
) -> Tensor:
    """Eq. 2: contrast each observed feature with the other vertices of its category and with the background.

    Args:
        observed: f_k, unit vectors [..., Q, D].
        vertex: k of each query, int64 [..., Q], in 0 .. K - 1.
        category_features: C_y, unit vectors [..., K, D].
        background_features: B, unit vectors [N_b, D]; N_b may be 0.
        kappa: concentration of the von Mises-Fisher distribution, positive.
        excluded: bool [..., Q, K], negatives to leave out (vertices near k, padding); k itself always stays.
        background_weight: weight of each background term in the denominator; 1 in the paper, 0.005 in NOVUM, 0 leaves
            the background out.

    Returns:
        - log L_in(k) for each query, [..., Q], non-negative.
    """
    dimension = observed.shape[-1]
    check_shape("category_features", category_features, (..., "K", dimension))
    check_shape("background_features", background_features, ("N", dimension))
    check_kappa(kappa)
    check_integer(vertex=vertex)
    if __debug__ and vertex.shape != observed.shape[:-1]:
        raise ValueError(f"vertex must have shape {list(observed.shape[:-1])}, got {list(vertex.shape)}")
    if __debug__ and reads_values(vertex):
        check_index("vertex", vertex, category_features.shape[-2])
    observed = kappa * observed
    logits = observed @ category_features.transpose(-1, -2)
    positive = logits.gather(-1, vertex[..., None])[..., 0]
    if excluded is not None:
        # with its own vertex left out, a ratio could be above 1 and its loss negative
        own = torch.nn.functional.one_hot(vertex, category_features.shape[-2]).bool()
        logits = logits.masked_fill(excluded & ~own, -torch.inf)
    denominator = logits.logsumexp(dim=-1)
    if background_weight > 0 and len(background_features):
        # one flat product: a batched one with a shared right side is several times slower on the CPU
        background = observed.flatten(0, -2) @ background_features.transpose(-1, -2)
        # a weight on every term is its logarithm on their logsumexp
        background = background.logsumexp(dim=-1).reshape(denominator.shape) + math.log(background_weight)
        denominator = torch.logaddexp(denominator, background)
    return denominator - positive


def cross_category_loss(
    observed: Tensor,
    positive_features: Tensor,
    negative_features: Tensor,
    log_weight: Tensor,
    *,
    kappa: float,
) -> Tensor:
    """Eq. 4 (and Eq. 3 with weights of 0 and 1): contrast with vertices sampled from the other categories.

    Args:
        observed: f_k, unit vectors [Q, D].
        positive_features: C_k of each query, unit vectors [Q, D].
        negative_features: the sampled C_m, unit vectors [M, D]; M may be 0.
        log_weight: log omega of each pair, [Q, M], see `log_omega`. A row of zero weights gives a loss of exactly 0.
        kappa: concentration, positive.

    Returns:
        - log L_cross(k) for each query, [Q], non-negative.
    """
    check_shape("observed", observed, ("Q", "D"))
    check_shape("positive_features", positive_features, observed.shape)
    check_shape("negative_features", negative_features, ("M", observed.shape[1]))
    check_shape("log_weight", log_weight, (len(observed), len(negative_features)))
    check_kappa(kappa)
    observed = kappa * observed
    positive = (observed * positive_features).sum(-1)
    if not len(negative_features):
        return positive - positive
    negative = (observed @ negative_features.T + log_weight).logsumexp(dim=1)
    return torch.logaddexp(positive, negative) - positive


def log_omega(omega: Tensor) -> Tensor:
    """log omega, with -10,000 for the logarithm of 0.

    It is far below any logit, so such a pair adds exactly 0 to a sum of exponentials; and it is finite, so a row of
    nothing else has a gradient of exactly 0 where -inf would give none at all.
    """
    return omega.log().clamp_min(-1e4)
