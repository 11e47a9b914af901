"""The loss step: its lower bound, ours, the exact full contrast, and the straightforward full contrast of NOVUM."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.bench.result import BenchResult, megabytes, milliseconds, times
from compnet3d.bench.timing import peak_mb, time_in_turn
from compnet3d.losses.blockwise import COLUMNS, grouped_contrastive_loss
from compnet3d.losses.inputs import Queries
from compnet3d.losses.sampling import near_vertices, sample_vertices
from compnet3d.models.bank import VertexFeatureBank
from compnet3d.utils.matmul import BLOCK, block_size, fast_matmul


@dataclass(frozen=True)
class LossProblem:
    """One training batch's share in the loss, at random: everything that the extractor and the data would give.

    Attributes:
        bank: vertex and background features, omega.
        observed: [B, Q, D], f_k of the visible vertices.
        category: [B]; vertex: [B, Q]; vertices: positions of the categories' vertices [B, K, 3].
        samples_per_category: N; kappa, momentum: of the loss and of the bank; near: vertices that are no negatives.
    """

    bank: VertexFeatureBank
    observed: Tensor
    category: Tensor
    vertex: Tensor
    vertices: Tensor
    samples_per_category: int | None = 32
    kappa: float = 1 / 0.07
    momentum: float = 0.9
    near: float = 0.1

    @classmethod
    def random(
        cls,
        categories: int = 188,
        *,
        vertex_count: int = 500,
        dimension: int = 128,
        background: int = 2560,
        images: int = 4,
        visible: int = 250,
        seed: int = 0,
        device: str = "cpu",
    ) -> LossProblem:
        """The paper's sizes by default, with omega = 1 for all pairs."""
        generator = torch.Generator().manual_seed(seed)

        def unit(*shape: int) -> Tensor:
            return normalize(torch.randn(*shape, dimension, generator=generator), dim=-1)

        bank = VertexFeatureBank([unit(vertex_count) for _ in range(categories)], background)
        bank.update_background(unit(background))
        draw = torch.rand(images, vertex_count, generator=generator)
        return cls(
            bank.to(device),
            unit(images, visible).to(device),
            torch.randperm(categories, generator=generator)[torch.arange(images) % categories].to(device),
            draw.topk(visible, dim=1).indices.to(device),
            # in a cube of unit diagonal: `near` is a fraction of the box's diagonal
            torch.rand(images, vertex_count, 3, generator=generator).to(device) / 3**0.5,
        )

    def with_weights(self, omega: Tensor) -> LossProblem:
        """The same problem with other grouping weights, [Y, Y]."""
        # without its constructor: all tensors but omega are shared, as a copy of a large bank would change the memory
        # that is measured
        bank = VertexFeatureBank.__new__(VertexFeatureBank)
        torch.nn.Module.__init__(bank)
        for name, tensor in self.bank.named_buffers():
            bank.register_buffer(name, omega if name == "grouping_weights" else tensor)
        return replace(self, bank=bank)


def grouped_step(problem: LossProblem) -> Tensor:
    """Eq. 5 with its gradient with respect to the features, and the update of the bank (Eq. 6); the loss."""
    bank, category, vertex = problem.bank, problem.category, problem.vertex
    observed = problem.observed.detach().requires_grad_(True)
    valid = torch.ones_like(vertex, dtype=torch.bool)
    generator = torch.Generator(observed.device)
    sampled = sample_vertices(bank.offsets, problem.samples_per_category, generator, bank.contrasted(category))
    loss = grouped_contrastive_loss(
        Queries(observed, category, vertex, valid),
        bank.feature_bank,
        sampled,
        kappa=problem.kappa,
        excluded=near_vertices(problem.vertices, vertex, problem.near),
    )
    # the gradient ends at the features: the extractor is timed in bench/step.py
    loss.total.backward()
    flat = bank.offsets[category][:, None] + vertex
    bank.update_vertices(flat.flatten(), observed.detach().flatten(0, 1), problem.momentum)
    return loss.total.detach()


@fast_matmul()
def lower_bound_step(problem: LossProblem) -> None:
    """What Eq. 5 cannot do without: the products of its logits and of their gradient, and one exponential each.

    In the same type and the same blocks; no weights, no masks, no sums, no positives, no bank.
    """
    bank, samples = problem.bank, problem.samples_per_category
    if samples is None:
        others = bank.vertex_features
    else:
        others = bank.vertex_features[: samples * (bank.categories - 1)]
    own = bank.vertex_features[: problem.vertices.shape[1]]
    wide, block = (block_size(size, others.device) for size in (COLUMNS, BLOCK))
    on_cpu = problem.observed.device.type == "cpu"
    # an accelerator is busy only with all images at once; the vertices of their own categories are the lesser part
    for image in problem.observed if on_cpu else [problem.observed.flatten(0, 1)]:
        for features in (own, bank.background, others):
            for columns in features.split(wide):
                for rows in image.split(max(1, block // len(columns))):
                    torch.mm(torch.mm(rows, columns.T).exp_(), columns)


def novum_step(problem: LossProblem) -> Tensor:
    """The full contrast as it is usually written: all K vertices are queries, against the whole bank, masked.

    One softmax over the vertices of all categories and the background, near vertices left out by a mask as large as
    the similarities [B, K, Y K + N_b]; invisible vertices are weighed by 0. The bank is updated for all vertices.
    """
    bank, category = problem.bank, problem.category
    count, images = problem.vertices.shape[1], len(category)
    # features of all K vertices: the visible ones' in their places
    queries = torch.zeros(images, count, problem.observed.shape[2], device=category.device)
    place = problem.vertex[..., None].expand_as(problem.observed)
    queries = queries.scatter(1, place, problem.observed).requires_grad_(True)
    visible = torch.zeros(images, count, device=category.device).scatter_(1, problem.vertex, 1.0)
    negatives = torch.cat([bank.vertex_features, bank.background])
    similarity = problem.kappa * (queries @ negatives.T)
    mask = torch.zeros_like(similarity)
    everything = torch.arange(count, device=category.device)
    near = near_vertices(problem.vertices, everything.expand(images, -1), problem.near)
    # near vertices are left out as negatives, but not the positive itself
    near &= ~torch.eye(count, dtype=torch.bool, device=category.device)
    for image, start in enumerate(bank.offsets[category].tolist()):
        mask[image, :, start : start + count] = near[image] * -1e5
    target = bank.offsets[category][:, None] + everything
    loss = torch.nn.functional.cross_entropy(
        (similarity + mask).flatten(0, 1), target.flatten(), reduction="none"
    ).reshape(images, count)
    total = (loss * visible).sum() / visible.sum()
    total.backward()
    seen = visible.flatten() > 0
    bank.update_vertices(target.flatten()[seen], queries.detach().flatten(0, 1)[seen], problem.momentum)
    return total.detach()


def count_operations(task: Callable[[], object]) -> int:
    """Floating-point operations of a task's matrix products, two for each multiply-add, as PyTorch's profiler sees."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        task()
    total = 0
    for event in seen.key_averages(group_by_input_shape=True):
        shapes = [shape for shape in event.input_shapes if shape]
        # shapes [.., m, k] and [.., k, n]: 2 m k n operations for each of the batch
        if event.key in ("aten::mm", "aten::bmm"):
            left, right = shapes[:2]
        elif event.key in ("aten::addmm", "aten::addmm_"):
            left, right = shapes[1:3]
        else:
            continue
        total += 2 * event.count * math.prod(left) * right[-1]
    return total


def sparse_weights(categories: int, pairs: float, seed: int = 0) -> Tensor:
    """Grouping weights [Y, Y] with on average `pairs` other categories above 0 in each row, of 0.05 to 0.3.

    A row of the confusion matrix adds up to 1 and weights below 0.05 are 0, so no row has more than 20, however many
    categories there are.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(categories, categories, generator=generator) < pairs / max(1, categories - 1)
    weights = 0.05 + 0.25 * torch.rand(categories, categories, generator=generator)
    # the diagonal of a confusion matrix is large; the loss does not read it
    return (chosen * weights).fill_diagonal_(0.9)


@dataclass(frozen=True)
class LossResult(BenchResult):
    """Medians and peaks of one loss step.

    Attributes:
        images: in the batch; contrasted_pairs_per_row: other categories with a weight above 0 where omega is sparse.
        lower_bound_s: what Eq. 5 cannot do without; grouped_s, sparse_s: Eq. 5, with omega = 1 and with sparse omega.
        full_lower_bound_s, full_fused_s: the same with all vertices of all categories.
        novum_s: the full contrast as it is usually written.
        grouped_peak_mb, full_fused_peak_mb, novum_peak_mb: most memory beyond what was there.
    """

    images: int
    contrasted_pairs_per_row: float
    lower_bound_s: float
    grouped_s: float
    sparse_s: float
    full_lower_bound_s: float
    full_fused_s: float
    novum_s: float
    grouped_peak_mb: float | None
    full_fused_peak_mb: float | None
    novum_peak_mb: float | None

    @property
    def grouped_over_lower_bound(self) -> float:
        """How near the grouped step is to what it cannot do without."""
        return self.grouped_s / self.lower_bound_s

    @property
    def full_fused_over_lower_bound(self) -> float:
        """The same of the full contrast."""
        return self.full_fused_s / self.full_lower_bound_s

    @property
    def full_fused_over_grouped(self) -> float:
        """What grouping saves."""
        return self.full_fused_s / self.grouped_s

    @property
    def novum_over_grouped(self) -> float:
        """What it saves beside the usual way of writing."""
        return self.novum_s / self.grouped_s

    @property
    def grouped_over_sparse(self) -> float:
        """What sparse weights save."""
        return self.grouped_s / self.sparse_s

    def rows(self) -> list[tuple[str, str]]:
        """See `BenchResult`."""
        sparse = f"grouped step with {self.contrasted_pairs_per_row:g} contrasted categories per image"
        exact = "exact full contrast"
        return [
            ("images in the batch", str(self.images)),
            ("lower bound: the matrix products and one exponential per logit", milliseconds(self.lower_bound_s)),
            ("grouped loss step (Eq. 5, gradient, bank)", _cost(self.grouped_s, self.grouped_peak_mb)),
            ("grouped over lower bound", times(self.grouped_over_lower_bound)),
            (sparse, f"{milliseconds(self.sparse_s)}, {times(self.grouped_over_sparse)} faster"),
            (f"{exact}, all vertices of all categories", _cost(self.full_fused_s, self.full_fused_peak_mb)),
            (f"{exact} over its own lower bound", times(self.full_fused_over_lower_bound)),
            (f"{exact} over grouped", times(self.full_fused_over_grouped)),
            ("full contrast as usually written (NOVUM)", _cost(self.novum_s, self.novum_peak_mb)),
            ("NOVUM over grouped", times(self.novum_over_grouped)),
        ]


def _cost(seconds: float, peak: float | None) -> str:
    return f"{milliseconds(seconds)}, {megabytes(peak)}"


def bench_loss(
    *,
    rounds: int = 7,
    pairs: float = 3.0,
    images: int = 4,
    device: str = "cpu",
    problem: LossProblem | None = None,
) -> LossResult:
    """Time and memory of the loss step.

    Args:
        rounds: how often each is timed; pairs: contrasted categories per row where omega is sparse; images: in the
            batch; device: where.
        problem: the batch and the bank; by default random ones of the paper's sizes.
    """
    problem = problem or LossProblem.random(images=images, device=device)
    full = replace(problem, samples_per_category=None)
    sparse = problem.with_weights(sparse_weights(problem.bank.categories, pairs).to(device))
    seconds = time_in_turn(
        {
            "lower_bound_s": lambda: lower_bound_step(problem),
            "grouped_s": lambda: grouped_step(problem),
            "sparse_s": lambda: grouped_step(sparse),
            "full_lower_bound_s": lambda: lower_bound_step(full),
            "full_fused_s": lambda: grouped_step(full),
            "novum_s": lambda: novum_step(problem),
        },
        rounds=rounds,
    )
    return LossResult(
        images=len(problem.category),
        contrasted_pairs_per_row=pairs,
        **seconds,
        grouped_peak_mb=peak_mb(lambda: grouped_step(problem), device),
        full_fused_peak_mb=peak_mb(lambda: grouped_step(full), device),
        novum_peak_mb=peak_mb(lambda: novum_step(problem), device),
    )
