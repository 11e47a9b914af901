"""The usual rotations of each category, kept with the model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Widths of the kernels, radians. The initial poses are 30 degrees apart: a narrower kernel would be noise to them.
WIDTHS = (0.25, 0.5)
# Parts of the mixture: the uniform density, the kernels of each width, those averaged over all azimuths.
PARTS = 1 + 2 * len(WIDTHS)
# The least share of the uniform density: an object may lie as none did in training.
UNIFORM_SHARE = 0.05


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
    # a kernel density in logarithms: the kernels' exponentials reach e^16 and their tails e^-16
    means = torch.logsumexp(log_kernels(rotmat[..., None, :, :], centres) + log_share[..., None], dim=-2)
    return torch.logsumexp(_with_uniform(means) + weights.log(), dim=-1)


def fit_weights(rotmat: Tensor, rounds: int = 50) -> Tensor:
    """The weights of the parts, [PARTS], for the rotations of a category's training images, [N, 3, 3].

    They maximise the likelihood of each rotation under the kernels of all others, by expectation maximisation; the
    uniform density keeps at least UNIFORM_SHARE, and all of it where there are fewer than two rotations.
    """
    uniform = rotmat.new_zeros(PARTS)
    uniform[0] = 1
    count = len(rotmat)
    if count < 2:
        return uniform
    # leave one out: with its own kernel each rotation would be explained best by the narrowest width
    own = torch.eye(count, dtype=torch.bool, device=rotmat.device)[..., None]
    kernels = log_kernels(rotmat[:, None], rotmat).masked_fill(own, -torch.inf)
    parts = _with_uniform(torch.logsumexp(kernels, dim=1) - math.log(count - 1))
    weights = torch.full_like(uniform, 1 / PARTS)
    for _ in range(rounds):
        # expectation and maximisation in one line: the softmax is each part's share in a rotation, its mean the new
        # weight
        weights = (parts + weights.log()).softmax(dim=1).mean(dim=0)
    # no rotation may become impossible: log p of an unusual pose stays above log UNIFORM_SHARE
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
        # a vMF kernel with kappa = 1 / width^2 falls off like a Gaussian of that width: cos(angle) is about 1 - angle^2
        # / 2
        kappa = torch.tensor(width**-2, dtype=rotmat.dtype, device=rotmat.device)
        # the mean of exp(kappa cos(angle)) over all rotations is I0(kappa) - I1(kappa)
        # log(I0 - I1) = kappa + log(i0e - i1e): the scaled functions cannot overflow
        level = (upright - 1) * kappa / 2 - kappa - (torch.special.i0e(kappa) - torch.special.i1e(kappa)).log()
        reach = radius * kappa / 2
        plain.append(level + a * kappa / 2)
        turned.append(level + reach + torch.special.i0e(reach).log())
    return torch.stack(plain + turned, dim=-1)


def _with_uniform(parts: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(parts[..., :1]), parts], dim=-1)


# Rotations kept of each category; drawn ones where the training list has more.
KEPT = 256


class RotationPrior(nn.Module):
    """log p(R | y), made of the training images' rotations; uniform until `fit`.

    Buffers: centres [Y, KEPT, 3, 3]; log_share [Y, KEPT], minus infinity where a category has fewer; weights
    [Y, PARTS] of the mixture (see `compnet3d.models.rotation_prior`).
    """

    centres: Tensor
    log_share: Tensor
    weights: Tensor

    def __init__(self, categories: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.empty(categories, KEPT, 3, 3))
        self.register_buffer("log_share", torch.empty(categories, KEPT))
        self.register_buffer("weights", torch.empty(categories, PARTS))
        self._forget()

    @torch.no_grad()
    def fit(self, rotations: Sequence[Tensor]) -> None:
        """Take the place of what was fitted before with the rotations of each category's training images.

        Args:
            rotations: object to camera, [N_y, 3, 3] in the categories' order. A category with fewer than two is
                uniform; of more than KEPT as many are drawn, the same each time.

        Raises:
            ValueError: naming the category's number, if they are of another shape or not finite.
        """
        if len(rotations) != len(self.centres):
            raise ValueError(f"{len(rotations)} lists of rotations for {len(self.centres)} categories")
        for category, rotmat in enumerate(rotations):
            if rotmat.ndim != 3 or rotmat.shape[1:] != (3, 3) or not rotmat.isfinite().all():
                raise ValueError(f"category {category}: rotations must be finite [N, 3, 3], got {list(rotmat.shape)}")
        self._forget()
        for category, rotmat in enumerate(rotations):
            # drawn, since the list's order may go along with the crops: every 41st image shows the same one
            drawn = torch.randperm(len(rotmat), generator=torch.Generator().manual_seed(0))[:KEPT].sort().values
            kept = rotmat[drawn.to(rotmat.device)].to(self.centres)
            self.weights[category] = fit_weights(kept)
            if len(kept):
                self.centres[category, : len(kept)] = kept
                # what a category leaves of its row is out of every logsumexp
                self.log_share[category] = -torch.inf
                self.log_share[category, : len(kept)] = -math.log(len(kept))

    def forward(self, category: Tensor, rotmat: Tensor) -> Tensor:
        """Logarithm of the density relative to the uniform one, [N], of rotations [N, 3, 3] of categories int64 [N]."""
        return log_density(rotmat, self.centres[category], self.log_share[category], self.weights[category])

    def _forget(self) -> None:
        # any rotations will do: with weights of 1, 0, 0, ... the uniform part is all, and the kernels only have to be
        # finite
        self.centres.copy_(torch.eye(3))
        self.log_share.fill_(-math.log(KEPT))
        self.weights.copy_(torch.eye(PARTS)[0])
