"""Eq. 8 of rendered poses, in score space: f_i . C^_i is gathered from the similarities, no feature map is drawn."""

from __future__ import annotations

from torch import Tensor

from compnet3d.rendering.fragments import Fragments
from compnet3d.utils.checks import check_shape


def reconstruction_loss(
    similarity: Tensor, background: Tensor, fragments: Fragments, *, truncation: float | None = None
) -> tuple[Tensor, Tensor]:
    """Eq. 8 averaged over the cells, differentiable in the fragments' weights and foreground.

    Args:
        similarity: [N, H W, K]; background: [N, H W]; fragments: N renderings of shape [N, H, W].
        truncation: see `PoseSettings`.

    Returns:
        The loss [N], and by how much the object beats the background in each covered cell [N, H W] (0 elsewhere).

    Raises:
        ValueError: if a shape does not fit.
    """
    index, weight = fragments.vertex_index.flatten(1, 2), fragments.weight.flatten(1, 2)
    foreground = fragments.foreground.flatten(1)
    check_shape("similarity", similarity, (*foreground.shape, "K"))
    check_shape("background", background, foreground.shape)
    # f_i . C^_i, since C^_i is the sum of the weights times the vertices' features: J numbers instead of D
    matched = (similarity.gather(2, index) * weight).sum(-1)
    loss, gain = loss_of_matches(matched, background, foreground, truncation)
    # the gain is for showing which cells are explained, not for learning
    return loss, foreground.detach() * gain.detach()


def loss_of_matches(
    matched: Tensor, background: Tensor, foreground: Tensor, truncation: float | None
) -> tuple[Tensor, Tensor]:
    """Eq. 8 averaged over the cells, from what each cell would match if the object covered it.

    Args:
        matched: f_i . C^_i, [..., H W]; background: max_n f_i . beta_n and foreground, broadcast to it.
        truncation: see `PoseSettings`.

    Returns:
        The loss [...], and by how much the object beats the background in each cell [..., H W].
    """
    # Eq. 8 is - sum of background + foreground (matched - background): matched where the object covers, background
    # elsewhere, and in between linear, so a soft silhouette has a gradient
    gain = matched - background
    limited = gain if truncation is None else gain.clamp_min(-truncation)
    return -(background + foreground * limited).mean(dim=-1), gain


def pose_scores(similarity: Tensor, background: Tensor, seen: Fragments, truncation: float | None) -> Tensor:
    """- L(alpha) of Eq. 8, the mean over cells, of images at several poses each; differentiable in the similarities.

    Args:
        similarity: f_i . C_k of each image's category, [B, H W, K]; background: max_n f_i . beta_n, [B, H W].
        seen: P renderings of each image, one image after the other, [B P, H, W].
        truncation: see `PoseSettings`.

    Returns:
        [B, P].
    """
    check_shape("similarity", similarity, (*background.shape, "K"))
    shape = (len(similarity), len(seen.foreground) // max(1, len(similarity)))
    # cells first, so that one gather serves all poses of an image
    index, weight = (x.flatten(1, 2).unflatten(0, shape).transpose(1, 2) for x in (seen.vertex_index, seen.weight))
    matched = (similarity.gather(2, index.flatten(2)).unflatten(2, index.shape[2:]) * weight).sum(dim=-1)
    foreground = seen.foreground.flatten(1).unflatten(0, shape)
    return -loss_of_matches(matched.transpose(1, 2), background[:, None], foreground, truncation)[0]
