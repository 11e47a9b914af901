"""How usual a rotation is for a category: a density over SO(3) made of the rotations of its training images.

A mixture of the uniform density, of kernels around the training rotations, and of the same kernels averaged over all
azimuths. Its weights are those that make each training rotation likeliest under the kernels of the others. So objects
that face any way get a density of elevation and theta alone, and those that face the camera say so. All densities are
relative to the uniform one, whose logarithm is 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Widths of the kernels, radians. The starting poses are 30 degrees apart: a narrower kernel would be noise to them.
WIDTHS = (0.25, 0.5)
# Parts of the mixture: the uniform density, the kernels of each width, those averaged over all azimuths.
PARTS = 1 + 2 * len(WIDTHS)
# The least share of the uniform density: an object may lie as none did in training.
UNIFORM_SHARE = 0.05
ROUNDS = 50


def log_density(rotmat: Tensor, centres: Tensor, log_share: Tensor, weights: Tensor) -> Tensor:
    """Logarithm of the density at rotations, relative to the uniform one.

    Args:
        rotmat: object to camera, [..., 3, 3].
        centres: training rotations, [..., N, 3, 3]; log_share: logarithms of their shares, which sum to 1, [..., N]
            (minus infinity where padded).
        weights: of the parts, summing to 1, [..., PARTS].

    Returns:
        [...].
    """
    means = torch.logsumexp(log_kernels(rotmat[..., None, :, :], centres) + log_share[..., None], dim=-2)
    return torch.logsumexp(_with_uniform(means) + weights.log(), dim=-1)


def fit_weights(rotmat: Tensor) -> Tensor:
    """The weights of the parts, [PARTS], for the rotations of a category's training images, [N, 3, 3].

    They maximise the likelihood of each rotation under the kernels of all others, by expectation maximisation; the
    uniform density keeps at least UNIFORM_SHARE, and all of it where there are fewer than two rotations.
    """
    uniform = rotmat.new_zeros(PARTS)
    uniform[0] = 1
    count = len(rotmat)
    if count < 2:
        return uniform
    own = torch.eye(count, dtype=torch.bool, device=rotmat.device)[..., None]
    kernels = log_kernels(rotmat[:, None], rotmat).masked_fill(own, -torch.inf)
    parts = _with_uniform(torch.logsumexp(kernels, dim=1) - math.log(count - 1))
    weights = torch.full_like(uniform, 1 / PARTS)
    for _ in range(ROUNDS):
        weights = (parts + weights.log()).softmax(dim=1).mean(dim=0)
    return (1 - UNIFORM_SHARE) * weights + UNIFORM_SHARE * uniform


def log_kernels(rotmat: Tensor, centre: Tensor) -> Tensor:
    """Logarithms of von Mises-Fisher kernels on SO(3), exp(cos(angle) / width^2), and of their means over all azimuths.

    The matrix von Mises-Fisher distribution (Khatri and Mardia 1977) with the same concentration about all axes.

    Args:
        rotmat, centre: [..., 3, 3], broadcast against each other.

    Returns:
        Relative to the uniform density, [..., PARTS - 1]: the kernels of all widths, then their means.
    """
    relative = centre.transpose(-1, -2) @ rotmat
    # cos(angle) = (trace - 1) / 2. Another azimuth turns `relative` about z: by t, the trace is
    # upright + a cos(t) - b sin(t), of which exp has the mean exp(upright) I0(|(a, b)|)
    upright = relative[..., 2, 2]
    a, b = relative[..., 0, 0] + relative[..., 1, 1], relative[..., 0, 1] - relative[..., 1, 0]
    radius = torch.hypot(a, b)
    plain, turned = [], []
    for width in WIDTHS:
        kappa = torch.tensor(width**-2, dtype=rotmat.dtype, device=rotmat.device)
        # the mean of exp(kappa cos(angle)) over all rotations is I0(kappa) - I1(kappa)
        level = (upright - 1) * kappa / 2 - kappa - (torch.special.i0e(kappa) - torch.special.i1e(kappa)).log()
        reach = radius * kappa / 2
        plain.append(level + a * kappa / 2)
        turned.append(level + reach + torch.special.i0e(reach).log())
    return torch.stack(plain + turned, dim=-1)


def _with_uniform(parts: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(parts[..., :1]), parts], dim=-1)
