"""The paper's object volume: a Gaussian at every vertex, rendered along rays (section 3.4).

A ray meets Gaussian k with peak density exp(-d_k^2 / (2 sigma^2)) at depth l_k, where d_k is the ray's distance from
the vertex. What it sees of vertex k is that density times the transmittance up to l_k, in closed form through the
error function; the sum of the densities decides whether the cell is foreground.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from compnet3d.geometry.camera import Camera, Pose, feature_grid
from compnet3d.rendering.fragments import Fragments
from compnet3d.rendering.shape import Shape


@dataclass(frozen=True)
class GaussianShape:
    """The paper's object volume around the vertices of another shape.

    Attributes:
        surface: carries the vertices, and hides those behind it.
        foreground_threshold: theta of the paper: total density above which a cell is foreground.
        sigma: standard deviation of the Gaussians in units of the vertices' spacing.
        absorption: how fast density swallows light; higher is more opaque.
        per_ray: Gaussians considered on each ray, the densest ones.
        keep: J, vertices kept in each cell, the heaviest ones.

    Raises:
        ValueError: if a number is not positive.
    """

    surface: Shape
    foreground_threshold: float = 0.5
    sigma: float = 0.5
    absorption: float = 2.0
    per_ray: int = 16
    keep: int = 4

    def __post_init__(self) -> None:
        for name in ("foreground_threshold", "sigma", "absorption", "per_ray", "keep"):
            if __debug__ and not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    @property
    def shape(self) -> torch.Size:
        """The surface's batch shape."""
        return self.surface.shape

    @property
    def vertices(self) -> Tensor:
        """[..., K, 3]."""
        return self.surface.vertices

    @property
    def real(self) -> Tensor:
        """bool [..., K]."""
        return self.surface.real

    @property
    def spacing(self) -> Tensor:
        """[...]."""
        return self.surface.spacing

    def visible(self, pose: Pose) -> Tensor:
        """Vertices that the surface does not hide, bool [..., K]."""
        return self.surface.visible(pose)

    def draw(self, pose: Pose, camera: Camera, stride: float, softness: float) -> Fragments:
        """See `render`; a soft edge is `softness` wide in units of the threshold, not of cells.

        Returns:
            Fragments with J = min(keep, K).
        """
        batch = pose.shape
        vertices = self.vertices.to(pose.azimuth.dtype).expand(*batch, -1, 3)
        real = self.real.expand(*batch, -1)
        sigma = self.spacing.to(pose.azimuth.dtype).expand(batch) * self.sigma
        height, width = int(camera.height // stride), int(camera.width // stride)
        grid = feature_grid(height, width, stride, device=vertices.device, dtype=vertices.dtype).reshape(-1, 2)
        offset = (grid - camera.principal_point.reshape(-1, 1, 2)) / camera.focal.reshape(-1, 1, 1)
        ray = torch.stack([offset[..., 0], -offset[..., 1], -torch.ones_like(offset[..., 0])], dim=-1)
        ray = ray / torch.linalg.vector_norm(ray, dim=-1, keepdim=True)
        points = pose.object_to_camera(vertices)
        # l_k: where the unit ray is nearest to vertex k, and so where it meets the Gaussian's peak, [B, HW, K]
        depth = ray @ points.transpose(1, 2)
        # |p|^2 - (p . ray)^2 loses every digit far away, so it is taken from the object's centre: `miss` is the (small)
        # vector from there to the ray
        centre = points.new_tensor([0.0, 0.0, -1.0]) * pose.distance[:, None, None]
        local = (points - centre).transpose(1, 2)
        miss = (centre * ray).sum(-1, keepdim=True) * ray - centre
        # d_k^2 = |local - miss|^2 - (ray . local)^2, since miss is at right angles to the ray. Written out in sums and
        # products, so that no vectors [B, HW, K, 3] are made
        squared = (local.square().sum(1, keepdim=True) + miss.square().sum(-1, keepdim=True) - 2 * miss @ local) - (
            ray @ local
        ).square()
        exponent = -squared / (2 * sigma.reshape(-1, 1, 1) ** 2)
        # a padded vertex has density 0 and comes last among the densest
        exponent = exponent.masked_fill(~real[:, None, :], -torch.inf)

        count = min(self.per_ray, vertices.shape[1])
        # the exponents have the order of the densities and do not underflow to ties at 0. Far Gaussians add next to
        # nothing, and the pairs below would grow with K^2 for each ray
        exponent, index = exponent.topk(count, dim=-1)
        density, depth = exponent.exp(), depth.gather(-1, index)
        # [..., k, j]: how far vertex k is behind j, in the units of erf
        behind = (depth[..., :, None] - depth[..., None, :]) / (math.sqrt(2) * sigma.reshape(-1, 1, 1, 1))
        # the integral of Gaussian j up to l_k is its density times (erf + 1) / 2 times sqrt(2 pi) sigma, of which the
        # last factor is taken as part of `absorption`. j = k stays in: half of the own Gaussian lies before its peak
        passed = (density[..., None, :] * (torch.erf(behind) + 1) / 2).sum(-1)
        seen = density * torch.exp(-self.absorption * passed)
        seen, order = seen.topk(min(self.keep, count), dim=-1)
        # far from the object all densities may underflow: 0 / tiny is 0, 0 / 0 would be NaN in the gradient, too
        weight = seen / seen.sum(-1, keepdim=True).clamp_min(torch.finfo(seen.dtype).tiny)
        # sum of rho_k > theta, below Eq. 8: of densities, not of what is left of them behind others
        margin = density.sum(-1) - self.foreground_threshold
        if softness > 0:
            foreground = torch.sigmoid(margin / (softness * self.foreground_threshold))
        else:
            foreground = (margin > 0).to(weight.dtype)
        shape = (vertices.shape[0], height, width)
        return Fragments(
            index.gather(-1, order).reshape(*shape, -1), weight.reshape(*shape, -1), foreground.reshape(shape)
        )
