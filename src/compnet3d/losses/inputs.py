"""What the contrastive losses are given: queries, the bank they are compared with, the weights of the parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compnet3d.utils.checks import check_floating, check_index, check_integer, check_shape, reads_values


@dataclass(frozen=True)
class FeatureBank:
    """What features are compared with: vertices of all categories, background, and which categories are contrasted.

    The categories lie one after the other and may have different numbers of vertices K.

    Attributes:
        vertex_features: C, unit vectors [sum of K, D].
        offsets: int64 [Y + 1], where each category starts; the last is the sum of K.
        background_features: B, unit vectors [N_b, D]; N_b may be 0.
        grouping_weights: omega [Y, Y] in [0, 1], row = the image's category; the diagonal is ignored. All ones (Eq. 3)
            by default.

    Raises:
        ValueError: if a shape or a type does not fit; it names the attribute.
    """

    vertex_features: Tensor
    offsets: Tensor
    background_features: Tensor
    grouping_weights: Tensor

    def __post_init__(self) -> None:
        check_shape("vertex_features", self.vertex_features, ("V", "D"))
        check_shape("background_features", self.background_features, ("N", self.vertex_features.shape[1]))
        check_floating(vertex_features=self.vertex_features, background_features=self.background_features)
        check_shape("offsets", self.offsets, ("Y + 1",))
        check_integer(offsets=self.offsets)
        check_shape("grouping_weights", self.grouping_weights, (self.categories, self.categories))

    @classmethod
    def of(
        cls,
        vertex_features: Sequence[Tensor],
        background_features: Tensor | None = None,
        grouping_weights: Tensor | None = None,
    ) -> FeatureBank:
        """From one tensor of unit vectors [K, D] for each category; no background and weights of 1 by default."""
        flat = torch.cat(list(vertex_features))
        counts = torch.tensor([0, *(len(features) for features in vertex_features)], device=flat.device)
        categories = len(vertex_features)
        return cls(
            flat,
            counts.cumsum(0),
            flat[:0] if background_features is None else background_features,
            flat.new_ones(categories, categories) if grouping_weights is None else grouping_weights,
        )

    @property
    def categories(self) -> int:
        """Y."""
        return len(self.offsets) - 1

    def category_features(self, category: int) -> Tensor:
        """C_y, [K, D]."""
        return self.vertex_features[int(self.offsets[category]) : int(self.offsets[category + 1])]


@dataclass(frozen=True)
class Queries:
    """The observed features of a batch of images, padded where an image shows fewer vertices than others.

    Attributes:
        features: f_k, unit vectors [B, Q, D]. Losses have a gradient with respect to them alone.
        category: y of each image, int64 [B].
        vertex: k of each query within its category, int64 [B, Q] (in 0 ... K_max - 1 where padded).
        valid: which queries are real, bool [B, Q].

    Raises:
        ValueError: if a shape or a type does not fit; it names the attribute.
    """

    features: Tensor
    category: Tensor
    vertex: Tensor
    valid: Tensor

    def __post_init__(self) -> None:
        check_shape("features", self.features, ("B", "Q", "D"))
        images, count, _ = self.features.shape
        check_floating(features=self.features)
        check_shape("category", self.category, (images,))
        check_shape("vertex", self.vertex, (images, count))
        check_shape("valid", self.valid, (images, count))
        check_integer(category=self.category, vertex=self.vertex)
        if __debug__ and self.valid.dtype != torch.bool:
            raise ValueError(f"valid must be bool, got {self.valid.dtype}")


@dataclass(frozen=True)
class LossWeights:
    """Weights within Eq. 5; all 1 in the paper.

    Attributes:
        background: of each background term in the denominator of Eq. 2; 0.005 in NOVUM, 0 leaves the background out.
        in_category, cross_category: of the two parts; a part of weight 0 is not computed.
        emphasised: of each term of Eq. 2 whose vertex is emphasised (see `grouped_contrastive_loss`).

    Raises:
        ValueError: if one is negative.
    """

    background: float = 1.0
    in_category: float = 1.0
    cross_category: float = 1.0
    emphasised: float = 1.0

    def __post_init__(self) -> None:
        for name in ("background", "in_category", "cross_category", "emphasised"):
            if __debug__ and not getattr(self, name) >= 0:
                raise ValueError(f"the weight {name} must be at least 0, got {getattr(self, name)}")


def check_kappa(kappa: float) -> None:
    """Raise unless 0 < kappa <= 300."""
    if not 0 < kappa <= 300:
        limit = "positive" if kappa <= 300 else "at most 300"
        raise ValueError(f"kappa must be {limit}, not {kappa}: its exponentials leave the range of float64")


def check_queries(queries: Queries, bank: FeatureBank, **chosen: Tensor | None) -> None:
    """Raise unless the queries' categories and vertices are in the bank; for CPU tensors alone, others would wait.

    Args:
        queries, bank: what is compared; chosen: masks of the category's vertices by name, bool [B, Q, K_max].
    """
    if not __debug__:
        return
    if queries.features.shape[2] != bank.vertex_features.shape[1]:
        raise ValueError(
            f"features have {queries.features.shape[2]} dimensions, vertex_features {bank.vertex_features.shape[1]}"
        )
    for name, mask in chosen.items():
        if mask is not None:
            check_shape(name, mask, (*queries.vertex.shape, "K"))
            if mask.dtype != torch.bool:
                raise ValueError(f"{name} must be bool, got {mask.dtype}")
    # the checks below read numbers, for which an accelerator would have to finish its work first
    if not reads_values(queries.category):
        return
    check_index("category", queries.category, bank.categories)
    counts = bank.offsets.diff()
    for name, mask in chosen.items():
        if mask is not None and mask.shape[2] != int(counts.max()):
            raise ValueError(f"{name} must have K_max = {int(counts.max())} columns, got {mask.shape[2]}")
    most = counts[queries.category][:, None]
    wrong = (queries.valid & ((queries.vertex < 0) | (queries.vertex >= most))).nonzero()
    if len(wrong):
        image, query = wrong[0].tolist()
        raise ValueError(
            f"vertex [{image}, {query}] is {int(queries.vertex[image, query])}, but category "
            f"{int(queries.category[image])} has the vertices 0 ... {int(most[image]) - 1}"
        )


def check_sampled(sampled: Tensor, bank: FeatureBank) -> None:
    """Raise unless these are flat vertex numbers of the bank, int64 [M]."""
    check_shape("sampled", sampled, ("M",))
    check_integer(sampled=sampled)
    if __debug__ and reads_values(sampled):
        check_index("sampled", sampled, len(bank.vertex_features))
