"""What is learned besides the feature extractor: vertex features, background features, grouping weights (Eq. 6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from compnet3d.losses.inputs import FeatureBank
from compnet3d.utils.checks import check_index, check_shape, reads_values
from compnet3d.utils.devices import deterministic


def smooth_features(
    vertices: Tensor, normals: Tensor, dimension: int, length: float, generator: torch.Generator
) -> Tensor:
    """Unit features to start from whose similarity falls off smoothly with the distance over the surface.

    They are random Fourier features of the vertex positions (Rahimi and Recht 2007), so the inner product of two
    vertices at distance r is about exp(-r^2 / (2 length^2)), and that of two categories' vertices about 0. Starting
    from unrelated vectors, the momentum update would first average all features of a category into one and then have to
    part them again; starting from these, the map from image to surface is learned at once.

    Args:
        vertices: [K, 3], in units of the box's diagonal; normals: unit vectors [K, 3], so that the two sides of a thin
            box differ.
        dimension: D.
        length: correlation length in units of the diagonal.
        generator: of the random frequencies.
    """
    # the two sides of a thin box come 2 lengths apart, a similarity of e^-2 instead of 1
    inflated = vertices + length * normals
    # the mean of cos(w x + b) cos(w y + b) over b uniform and w normal with deviation 1 / length is exp(-|x - y|^2 / (2
    # length^2)) / 2; normalising takes care of the 2. Each category draws its own w and b, so two categories have
    # nothing in common
    frequencies = torch.randn(3, dimension, generator=generator) / length
    phases = torch.rand(dimension, generator=generator) * 2 * torch.pi
    return normalize(torch.cos(inflated @ frequencies + phases), dim=-1)


class Carrier(Protocol):
    """The vertices of all categories with their normals, padded: `Cuboids` or `Surfaces`.

    Attributes:
        vertices, normals: [Y, K_max, 3]; real: False where padded, bool [Y, K_max].
    """

    vertices: Tensor
    normals: Tensor
    real: Tensor


def starting_features(shapes: Carrier, diagonals: Tensor, dimension: int, length: float) -> list[Tensor]:
    """`smooth_features` of each category, the same each time; `diagonals` of the boxes [Y] are the units of length."""
    generator = torch.Generator().manual_seed(0)
    return [
        smooth_features(vertices[real] / diagonal, normals[real], dimension, length, generator)
        for vertices, normals, real, diagonal in zip(
            shapes.vertices, shapes.normals, shapes.real, diagonals, strict=True
        )
    ]


class VertexFeatureBank(nn.Module):
    """Vertex features of all categories, the ring of background features and the grouping weights.

    All state is in persistent buffers, takes no gradient and changes only through the explicit methods.

    Attributes:
        vertex_features: C, unit vectors [sum of K, D], the categories one after the other.
        offsets: int64 [Y + 1], where each category starts.
        background_features: B, unit vectors [N_b, D]; rows that were never filled are zero.
        background_cursor: next row of the ring to be replaced, int64 scalar.
        background_count: rows filled so far, int64 scalar.
        grouping_weights: omega [Y, Y].
    """

    vertex_features: Tensor
    offsets: Tensor
    background_features: Tensor
    background_cursor: Tensor
    background_count: Tensor
    grouping_weights: Tensor

    def __init__(
        self,
        start: Sequence[Tensor],
        background_size: int = 2560,
    ) -> None:
        """Start from given vertex features, one tensor of unit vectors [K, D] for each category."""
        super().__init__()
        offsets = torch.tensor([0, *(len(features) for features in start)]).cumsum(0)
        categories, dimension = len(start), start[0].shape[1]
        self.register_buffer("vertex_features", torch.cat(list(start)))
        self.register_buffer("offsets", offsets)
        self.register_buffer("background_features", torch.zeros(background_size, dimension))
        # the ring's state is saved with it, so that resumed training replaces the same rows
        self.register_buffer("background_cursor", torch.zeros((), dtype=torch.int64))
        self.register_buffer("background_count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("grouping_weights", 1 - torch.eye(categories))

    def check_loaded(self, counts: Tensor) -> None:
        """Check that the numbers that others count with are right, for categories with so many vertices, int64 [Y].

        Raises:
            ValueError: naming the buffer that is not.
        """
        if not torch.equal(self.offsets, torch.cat([counts.new_zeros(1), counts.cumsum(0)])):
            raise ValueError("tensor bank.offsets does not fit the categories' vertices")
        size = len(self.background_features)
        if not (0 <= int(self.background_cursor) < max(size, 1) and 0 <= int(self.background_count) <= size):
            raise ValueError(
                f"tensors bank.background_cursor and background_count do not fit a ring of {size} features"
            )

    @property
    def categories(self) -> int:
        """Y."""
        return len(self.offsets) - 1

    @property
    def background(self) -> Tensor:
        """The background features that have been filled, [<= N_b, D]."""
        return self.background_features[: int(self.background_count)]

    @property
    def feature_bank(self) -> FeatureBank:
        """What the losses and Eq. 7 take: the same tensors, of the background those that have been filled."""
        return FeatureBank(self.vertex_features, self.offsets, self.background, self.grouping_weights)

    def category_features(self, category: int) -> Tensor:
        """C_y, [K, D]."""
        return self.vertex_features[int(self.offsets[category]) : int(self.offsets[category + 1])]

    def contrasted(self, category: Tensor) -> Tensor:
        """Categories that images of `category` [B] are contrasted with: omega > 0 for any of them; int64, rising."""
        present = category.unique()
        wanted = self.grouping_weights[present] > 0
        # of an image's own category there are no negatives in Eq. 4; but another image of the batch may want it
        wanted[torch.arange(len(present), device=wanted.device), present] = False
        return wanted.any(dim=0).nonzero()[:, 0]

    def contrasted_share(self, floor: float = 0.0) -> float:
        """Share of the pairs of different categories whose omega is above the `floor` that all have, in [0, 1]."""
        pairs = self.categories * (self.categories - 1)
        return float((self.grouping_weights > floor).sum()) / max(1, pairs)

    @torch.no_grad()
    def update_vertices(self, vertex: Tensor, observed: Tensor, momentum: float) -> None:
        """Eq. 6: C_k <- normalise(momentum C_k + (1 - momentum) mean of this batch's features of vertex k).

        Args:
            vertex: flat vertex numbers of the visible vertices, int64 [Q]; a vertex may appear several times.
            observed: their features, unit vectors [Q, D].
            momentum: sigma, in [0, 1]. Vertices that are not named keep their features.
        """
        check_shape("vertex", vertex, ("Q",))
        check_shape("observed", observed, (len(vertex), self.vertex_features.shape[1]))
        if __debug__ and reads_values(vertex):
            check_index("vertex", vertex, len(self.vertex_features))
        if __debug__ and not 0 <= momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1], got {momentum}")
        observed = observed.to(self.vertex_features.dtype)
        # an assignment to repeated rows keeps one of the values; so the features of a vertex that several images show
        # are averaged first and written once
        rows, place, seen = vertex.unique(return_inverse=True, return_counts=True)
        mean = observed.new_zeros(len(rows), observed.shape[1])
        with deterministic(observed.device):
            mean.index_add_(0, place, observed)
        mean /= seen[:, None]
        self.vertex_features[rows] = normalize(momentum * self.vertex_features[rows] + (1 - momentum) * mean, dim=-1)

    @torch.no_grad()
    def update_background(self, features: Tensor) -> None:
        """Replace the oldest background features by new ones.

        Args:
            features: unit vectors [T, D]; if there are more than the ring holds, the last ones stay.
        """
        check_shape("features", features, ("T", self.background_features.shape[1]))
        size = len(self.background_features)
        # more than the ring holds would write some rows twice, in no defined order; of an empty ring, [-0:] would be
        # all
        features = features[-size:] if size else features[:0]
        rows = (self.background_cursor + torch.arange(len(features), device=features.device)) % max(size, 1)
        self.background_features[rows] = features.to(self.background_features.dtype)
        self.background_cursor.copy_((self.background_cursor + len(features)) % max(size, 1))
        self.background_count.copy_((self.background_count + len(features)).clamp_max(size))

    @torch.no_grad()
    def set_grouping_weights(self, weights: Tensor) -> None:
        """Replace omega, [Y, Y] in [0, 1]."""
        if weights.shape != self.grouping_weights.shape:
            raise ValueError(f"expected omega of shape {list(self.grouping_weights.shape)}, got {list(weights.shape)}")
        self.grouping_weights.copy_(weights)
