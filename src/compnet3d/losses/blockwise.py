"""The vertex-contrastive losses of the paper, Eq. 2 to 5, as functions of tensors.

Notation: f_k is an observed feature (a query), C_k the vertex feature it belongs to, C_y all vertex features of its
category, B the background features. All features are unit vectors and every similarity is multiplied by kappa.

Each function returns one value per query, - log of the equation's ratio. Padding lets queries of several images with
different numbers of visible vertices share a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compnet3d.losses.contrastive import ContrastiveLoss
from compnet3d.losses.inputs import FeatureBank, LossWeights, Queries, check_kappa, check_queries, check_sampled
from compnet3d.utils.matmul import BLOCK, block_size, fast_matmul, gather_rows

COLUMNS = 2048  # features that a block of similarities is with, at most (`block_size` on an accelerator)


def grouped_contrastive_loss(
    queries: Queries,
    bank: FeatureBank,
    sampled: Tensor,
    *,
    kappa: float,
    excluded: Tensor | None = None,
    emphasised: Tensor | None = None,
    weights: LossWeights | None = None,
) -> ContrastiveLoss:
    """Eq. 5 over a batch of images: the mean over all visible vertices of Eq. 2 plus Eq. 4.

    The same values as `in_category_loss` and `cross_category_loss`, at little more than the cost of the matrix
    products: the gradient is computed along with the value, and similarities with the background and with other
    categories are computed block by block.

    Args:
        queries: f_k of each image's visible vertices, [B, Q, D]; there is a gradient with respect to them alone.
        bank: what they are compared with.
        sampled: flat vertex numbers that serve as negatives (see `sample_vertices`), int64 [M].
        kappa: concentration, in (0, 300].
        excluded: bool [B, Q, K_max], in-category negatives to leave out (see `near_vertices`).
        emphasised: bool [B, Q, K_max], in-category negatives that have a weight of their own; none by default.
        weights: of the parts, of the background and of those vertices; all 1 by default.

    Returns:
        The loss and its parts, scalars.

    Raises:
        ValueError: if a query's vertex is none of its category's, or a shape, a type or kappa does not fit.
    """
    check_queries(queries, bank, excluded=excluded, emphasised=emphasised)
    check_sampled(sampled, bank)
    weights = weights or LossWeights()
    compared = _Comparison.of(queries, bank, kappa)
    # a part that is left out still is a zero with a graph, so that backward works
    in_category = cross_category = queries.features.sum() * 0.0
    if weights.in_category > 0:
        in_category = compared.mean_loss(*compared.in_category_terms(excluded, emphasised, weights))
    if weights.cross_category > 0:
        cross_category = compared.mean_loss(*compared.cross_category_terms(bank.grouping_weights, sampled))
    total = weights.in_category * in_category + weights.cross_category * cross_category
    return ContrastiveLoss(total, in_category, cross_category)


def full_contrastive_loss(
    queries: Queries,
    bank: FeatureBank,
    *,
    kappa: float,
    excluded: Tensor | None = None,
    background_weight: float = 1.0,
) -> Tensor:
    """NOVUM's loss (Jesslen et al. 2024): one softmax over the vertices of all categories and the background.

    The exact mean over all visible vertices, computed block by block like `grouped_contrastive_loss`.

    Args:
        queries, bank, kappa, excluded: as there; the bank's grouping weights are ignored.
        background_weight: see `LossWeights`.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: as there.
    """
    check_queries(queries, bank, excluded=excluded)
    compared = _Comparison.of(queries, bank, kappa)
    # NOVUM's denominator is that of Eq. 2 plus all vertices of all other categories. Both sums are relative to kappa,
    # so they can be added as they are
    total, pull = compared.in_category_terms(excluded, None, LossWeights(background_weight))
    everything = torch.arange(len(bank.vertex_features), device=bank.offsets.device)
    alike = bank.vertex_features.new_ones(bank.categories, bank.categories)
    more, more_pull = compared.cross_category_terms(alike, everything)
    return compared.mean_loss(total + more, pull + more_pull)


@dataclass(frozen=True)
class _Comparison:
    """A batch of queries with what they are compared with, in the type that holds their exponentials.

    Exponentials are taken relative to the largest possible logit, kappa; the smallest is 2 kappa below.

    Attributes:
        queries: as given; features: the same without their gradient, in that type, [B, Q, D].
        vertex_features, background_features: of the bank, in that type; offsets: the bank's.
        positive: C_k of each query, [B, Q, D]; log_own: kappa f . C_k - kappa, [B, Q].
        weight: of each query in the mean, [B, Q].
    """

    queries: Queries
    features: Tensor
    vertex_features: Tensor
    background_features: Tensor
    offsets: Tensor
    positive: Tensor
    log_own: Tensor
    weight: Tensor
    kappa: float

    @classmethod
    def of(cls, queries: Queries, bank: FeatureBank, kappa: float) -> _Comparison:
        check_kappa(kappa)
        # no graph over the similarities: the gradient comes in closed form with the value
        features = queries.features.detach()
        vertex_features, background_features = bank.vertex_features, bank.background_features
        # float32 reaches down to e^-87, and the smallest exponential is e^(-2 kappa): beyond 40 a query far from
        # everything, its own vertex too, would have a sum of 0. float64 reaches e^-708, enough for the 300 that
        # `check_kappa` allows
        if kappa > 40 and features.dtype == torch.float32:
            features, vertex_features, background_features = (
                x.double() for x in (features, vertex_features, background_features)
            )
        own = bank.offsets[queries.category][:, None] + queries.vertex
        positive = gather_rows(vertex_features, own)
        # kept as a logarithm, since it is subtracted as one; the shift by kappa is that of all the other terms and
        # cancels in the ratio
        log_own = kappa * (features * positive).sum(-1) - kappa
        # the mean over all visible vertices of the batch and not over each image's; padding has weight 0 in value and
        # gradient
        weight = queries.valid.to(features.dtype) / queries.valid.sum().clamp_min(1)
        return cls(
            queries, features, vertex_features, background_features, bank.offsets, positive, log_own, weight, kappa
        )

    def mean_loss(self, total: Tensor, pull: Tensor) -> Tensor:
        """The mean of log (own + total) - log own, whose gradient follows from the sums alone."""
        # d log(whole) / df = kappa (own C_k + pull) / whole and d log(own) / df = kappa C_k. Their difference is kappa
        # (pull - total C_k) / whole, because own - whole = - total
        whole = self.log_own.exp() + total
        gradient = (self.kappa * self.weight / whole)[..., None] * (pull - total[..., None] * self.positive)
        value: Tensor = _WithGradient.apply(
            self.queries.features, ((whole.log() - self.log_own) * self.weight).sum(), gradient
        )
        return value

    def in_category_terms(
        self, excluded: Tensor | None, emphasised: Tensor | None, weights: LossWeights
    ) -> tuple[Tensor, Tensor]:
        return _in_category_terms(
            self.features, self.queries.category, self.queries.vertex, self.queries.valid, self.vertex_features,
            self.offsets, self.background_features, self.kappa, excluded, emphasised,
            weights.background, weights.emphasised,
        )  # fmt: skip

    def cross_category_terms(self, grouping_weights: Tensor, sampled: Tensor) -> tuple[Tensor, Tensor]:
        return _cross_category_terms(
            self.features, self.queries.category, self.queries.valid, self.vertex_features, self.offsets,
            grouping_weights, sampled, self.kappa,
        )  # fmt: skip


class _WithGradient(torch.autograd.Function):
    """A value whose gradient is known already."""

    @staticmethod
    def forward(ctx: Any, observed: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.to(observed.dtype)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (outer[0] * gradient).to(outer[0].dtype), None, None


# The two sums are operators of their own, so that torch.compile sees the loss as one graph without breaks: which
# queries and categories there are to compute depends on the data, and is decided within them.
@torch.library.custom_op(
    "compnet3d::in_category_terms",
    mutates_args=(),
    schema="(Tensor queries, Tensor category, Tensor vertex, Tensor valid, Tensor vertex_features, Tensor offsets, "
    "Tensor background_features, float kappa, Tensor? excluded, Tensor? emphasised, float background_weight, "
    "float emphasised_weight) -> (Tensor, Tensor)",
)
@fast_matmul()
def _in_category_terms(
    queries: Tensor,
    category: Tensor,
    vertex: Tensor,
    valid: Tensor,
    vertex_features: Tensor,
    offsets: Tensor,
    background_features: Tensor,
    kappa: float,
    excluded: Tensor | None,
    emphasised: Tensor | None,
    background_weight: float,
    emphasised_weight: float,
) -> tuple[Tensor, Tensor]:
    """Eq. 2's denominator without the own vertex, [B, Q], and the same sum of features, [B, Q, D].

    Both are sums over e_m = exp(kappa f . C_m - kappa), of e_m and of e_m C_m. Queries that are not `valid` are spared
    the background.
    """
    # each image against its own category: with all categories padded to K_max it is one batched product, [B, Q, K_max]
    own, padding = padded_category_features(vertex_features, offsets, category)
    # in place from here on: one array of this size and no temporary ones. The logits are at most kappa, so no
    # exponential overflows, and no maximum has to be found first
    terms = torch.bmm(kappa * queries, own.transpose(1, 2)).sub_(kappa).exp_()
    # a zero among exponentials is what minus infinity is among logits: padding and near vertices are in no sum
    terms.masked_fill_(padding[:, None] if excluded is None else excluded | padding[:, None], 0.0)
    if emphasised is not None:
        terms.mul_(torch.where(emphasised, emphasised_weight, 1.0).to(terms.dtype))
    # the own vertex is added back where the logarithm is taken (`mean_loss`), whether it is excluded or not
    terms.scatter_(2, vertex[..., None], 0.0)
    total, pull = terms.sum(-1), torch.bmm(terms, own)
    if background_weight > 0 and len(background_features):
        # the background is the same for all images, so all real queries make one flat product with it
        rows = valid.flatten().nonzero()[:, 0]
        more, more_pull = _weighted_terms(queries.flatten(0, 1).index_select(0, rows), background_features, kappa)
        total.view(-1).index_add_(0, rows, more, alpha=background_weight)
        pull.view(-1, pull.shape[-1]).index_add_(0, rows, more_pull, alpha=background_weight)
    return total, pull


@torch.library.custom_op(
    "compnet3d::cross_category_terms",
    mutates_args=(),
    schema="(Tensor queries, Tensor category, Tensor valid, Tensor vertex_features, Tensor offsets, "
    "Tensor grouping_weights, Tensor sampled, float kappa) -> (Tensor, Tensor)",
)
@fast_matmul()
def _cross_category_terms(
    queries: Tensor,
    category: Tensor,
    valid: Tensor,
    vertex_features: Tensor,
    offsets: Tensor,
    grouping_weights: Tensor,
    sampled: Tensor,
    kappa: float,
) -> tuple[Tensor, Tensor]:
    """Eq. 4's sums over the other categories' sampled vertices (see `_in_category_terms`), weighted by omega.

    Categories of weight 0 are not computed at all.
    """
    total, pull = queries.new_zeros(queries.shape[:-1]), queries.new_zeros(queries.shape)
    # offsets are where categories start, so a vertex belongs to the last category that starts at or before it
    sampled_category = torch.searchsorted(offsets, sampled, right=True) - 1
    if _in_one_pass(queries.device):
        # the own category is Eq. 2's affair: its weight is 0, whatever the diagonal says
        omega = grouping_weights.to(queries.dtype)[category].scatter(1, category[:, None], 0.0)
        return _weighted_terms_of_images(queries, vertex_features, kappa, sampled, omega[:, sampled_category])
    # images of one category have the same negatives with the same weights: one product for all of them, over the
    # samples whose omega is above 0 alone
    for present in category.unique().tolist():
        omega = grouping_weights[present].to(queries.dtype).clone()
        omega[present] = 0
        weights = omega[sampled_category]
        wanted = weights > 0
        if not wanted.any():
            continue
        # a query belongs to one category, so each row is written at most once; padding stays 0
        rows = ((category == present)[:, None] & valid).flatten().nonzero()[:, 0]
        some, some_pull = _weighted_terms(
            queries.flatten(0, 1).index_select(0, rows), vertex_features, kappa, sampled[wanted], weights[wanted]
        )
        total.view(-1).index_copy_(0, rows, some)
        pull.view(-1, pull.shape[-1]).index_copy_(0, rows, some_pull)
    return total, pull


def _in_one_pass(device: torch.device) -> bool:
    """Whether all images are compared with all samples at once; else each category's with its own.

    On an accelerator the many kernels of the latter cost more than the products of pairs that have weight 0.
    """
    return device.type != "cpu"


@torch.library.register_fake("compnet3d::in_category_terms")
@torch.library.register_fake("compnet3d::cross_category_terms")
def _shapes_of_terms(queries: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return queries.new_empty(queries.shape[:-1]), queries.new_empty(queries.shape)


def _weighted_terms(
    queries: Tensor, features: Tensor, kappa: float, chosen: Tensor | None = None, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sums over m of w_m e_m and of w_m e_m C_m, e_m = exp(kappa f . C_m - kappa): [Q] and [Q, D].

    Block by block, so that the exponentials of a block stay in the processor's cache, and nothing as large as all
    similarities, or as the bank, is ever stored.

    Args:
        queries: [Q, D]; features: [M, D]; chosen: rows of them to take, int64, all by default; weights: of the rows
            taken, 1 by default.
    """
    queries = kappa * queries
    total, pull = queries.new_zeros(len(queries)), queries.new_zeros(queries.shape)
    count = len(features) if chosen is None else len(chosen)
    wide = block_size(COLUMNS, queries.device)
    rows = max(1, block_size(BLOCK, queries.device) // max(1, min(count, wide)))
    # features outside, queries inside: a block of chosen rows is gathered once and serves all queries
    for first in range(0, count, wide):
        columns = slice(first, first + wide)
        some = features[columns] if chosen is None else features.index_select(0, chosen[columns])
        weight = None if weights is None else weights[columns]
        for start in range(0, len(queries), rows):
            block = slice(start, start + rows)
            terms = torch.mm(queries[block], some.T).sub_(kappa).exp_()
            if weight is not None:
                terms.mul_(weight)
            total[block] += terms.sum(1)
            # adds to the sum in place; terms @ some would be one more array of the size of the queries' block
            pull[block].addmm_(terms, some)
    return total, pull


def _weighted_terms_of_images(
    queries: Tensor, features: Tensor, kappa: float, chosen: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """`_weighted_terms` where each image has its own weights: [B, Q] and [B, Q, D].

    Args:
        queries: [B, Q, D]; features: [M, D]; chosen: rows of them to take, int64 [N]; weights: of these, [B, N].
    """
    images, count, _ = queries.shape
    flat = kappa * queries.flatten(0, 1)
    total, pull = flat.new_zeros(len(flat)), flat.new_zeros(flat.shape)
    wide = max(1, block_size(BLOCK, queries.device) // max(1, len(flat)))
    for first in range(0, len(chosen), wide):
        columns = slice(first, first + wide)
        some = features.index_select(0, chosen[columns])
        terms = torch.mm(flat, some.T).sub_(kappa).exp_()
        # rows are image by image, so one view gives each image its own weights
        terms.view(images, count, -1).mul_(weights[:, None, columns])
        total += terms.sum(1)
        pull.addmm_(terms, some)
    return total.view(images, count), pull.view(queries.shape)


def padded_category_features(vertex_features: Tensor, offsets: Tensor, category: Tensor) -> tuple[Tensor, Tensor]:
    """The vertex features of each image's category, padded to the largest K: [B, K, D] and the padding mask [B, K]."""
    counts = offsets.diff()[category]
    within = torch.arange(int(offsets.diff().max()), device=offsets.device)
    padding = within >= counts[:, None]
    # past the end of a category would be the next one's vertices, or past the end of the bank; row 0 stands in, and the
    # mask keeps it out of every sum
    index = (offsets[category][:, None] + within).masked_fill(padding, 0)
    return gather_rows(vertex_features, index), padding
