"""How sure a pose is: how well the hypotheses near it fit beside all others, and the second-best pose."""

from __future__ import annotations

import math
from dataclasses import fields

import torch
from torch import Tensor

from compnet3d.geometry.camera import Pose
from compnet3d.geometry.rotations import symmetric_rotation_error
from compnet3d.utils.checks import check_shape

# as the pose contrastive loss has it, 100 (- L) tells in logarithms how much likelier a pose is than others
POSE_SCALE = 100.0
# e^20 to 1 is as sure as a grid of poses can be
MOST = 20.0


def pose_log_odds(answer: Tensor, rotations: Tensor, losses: Tensor, order: Tensor) -> Tensor:
    """log p / (1 - p), with p the share of the hypotheses' likelihood exp(- `POSE_SCALE` L) within pi/6 of the answer.

    Args:
        answer: object-to-camera rotations [B, 3, 3].
        rotations: of P hypotheses, [B, P, 3, 3]; losses: theirs, [B, P].
        order: of the objects' symmetries, int64 [B]: hypotheses that differ by it are one.

    Returns:
        [B], in +- `MOST`.

    Raises:
        ValueError: if a shape does not fit.
    """
    apart = _apart(answer, rotations, order)
    check_shape("losses", losses, apart.shape)
    score = -POSE_SCALE * losses.double()
    near, far = (score.masked_fill(chosen, -torch.inf).logsumexp(dim=1) for chosen in (apart, ~apart))
    # an infinity where no hypothesis is on the one side; one of each grid is on some side
    return (near - far).clamp(-MOST, MOST).to(losses.dtype)


def runner_up(pose: Pose, losses: Tensor, order: Tensor) -> Pose:
    """The best of other poses that is more than pi/6 from the best one and fits nearly as well; NaN where none is.

    Args:
        pose: N refined poses of each image, [B, N]; losses: theirs, [B, N].
        order: see `pose_log_odds`.

    Returns:
        [B].

    Raises:
        ValueError: if a shape does not fit.
    """
    # a second pose is told where the first is less than ten times as likely
    nearly_as_well = math.log(10) / POSE_SCALE
    rotations, rows = pose.to_matrix(), torch.arange(len(losses), device=losses.device)
    best = losses.argmin(dim=1)
    apart = _apart(rotations[rows, best], rotations, order)
    check_shape("losses", losses, apart.shape)
    apart &= losses <= losses[rows, best, None] + nearly_as_well
    second = losses.masked_fill(~apart, torch.inf).argmin(dim=1)
    found = pose[rows, second]
    nothing = ~apart.any(dim=1)
    return Pose(**{f.name: getattr(found, f.name).masked_fill(nothing, torch.nan) for f in fields(Pose)})


def _apart(answer: Tensor, rotations: Tensor, order: Tensor) -> Tensor:
    """Which rotations [B, P, 3, 3] are more than pi/6 from the answers [B, 3, 3], bool [B, P]."""
    # poses within it of each other are one answer, as the accuracy at pi/6 has it
    limit = math.pi / 6
    count = rotations.shape[1]
    repeated = answer[:, None].expand_as(rotations).flatten(0, 1)
    error = symmetric_rotation_error(rotations.flatten(0, 1), repeated, order.repeat_interleave(count))
    return error.unflatten(0, (len(answer), count)) > limit
