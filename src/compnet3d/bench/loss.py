"""The loss step: its floor, ours, the exact full contrast, and the straightforward full contrast of NOVUM."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.bench.timing import peak_mb, time_in_turn
from compnet3d.losses.blockwise import COLUMNS, grouped_contrastive_loss
from compnet3d.losses.inputs import Queries
from compnet3d.losses.sampling import near_vertices, sample_vertices
from compnet3d.models.bank import VertexFeatureBank
from compnet3d.utils.matmul import BLOCK, block_size, fast_matmul

KAPPA, MOMENTUM, NEAR = 1 / 0.07, 0.9, 0.1


@dataclass(frozen=True)
class LossProblem:
    """One training batch's share in the loss, at random: everything that the extractor and the data would give.

    Attributes:
        bank: vertex and background features, omega.
        observed: [B, Q, D], f_k of the visible vertices.
        category: [B]; vertex: [B, Q]; vertices: positions of the categories' vertices [B, K, 3].
        samples_per_category: N.
    """

    bank: VertexFeatureBank
    observed: Tensor
    category: Tensor
    vertex: Tensor
    vertices: Tensor
    samples_per_category: int | None = 32

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
            torch.rand(images, vertex_count, 3, generator=generator).to(device) / 3**0.5,
        )

    def with_weights(self, omega: Tensor) -> LossProblem:
        """The same problem with other grouping weights, [Y, Y]."""
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
        kappa=KAPPA,
        excluded=near_vertices(problem.vertices, vertex, NEAR),
    )
    loss.total.backward()
    flat = bank.offsets[category][:, None] + vertex
    bank.update_vertices(flat.flatten(), observed.detach().flatten(0, 1), MOMENTUM)
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
    similarity = KAPPA * (queries @ negatives.T)
    mask = torch.zeros_like(similarity)
    everything = torch.arange(count, device=category.device)
    near = near_vertices(problem.vertices, everything.expand(images, -1), NEAR)
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
    bank.update_vertices(target.flatten()[seen], queries.detach().flatten(0, 1)[seen], MOMENTUM)
    return total.detach()


def count_operations(task: Callable[[], object]) -> int:
    """Floating-point operations of a task's matrix products, two for each multiply-add, as PyTorch's profiler sees."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        task()
    total = 0
    for event in seen.key_averages(group_by_input_shape=True):
        shapes = [shape for shape in event.input_shapes if shape]
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
    return (chosen * weights).fill_diagonal_(0.9)


def bench_loss(
    *,
    rounds: int = 7,
    pairs: float = 3.0,
    images: int = 4,
    device: str = "cpu",
    problem: LossProblem | None = None,
) -> dict[str, Any]:
    """Time and memory of the loss step.

    Args:
        rounds: how often each is timed; pairs: contrasted categories per row where omega is sparse; images: in the
            batch; device: where.
        problem: the batch and the bank; by default random ones of the paper's sizes.

    Returns:
        floor_s, grouped_s, full_floor_s, full_fused_s, sparse_s, novum_s (medians), grouped_peak_mb, novum_peak_mb, and
        ratios.
    """
    problem = problem or LossProblem.random(images=images, device=device)
    full = replace(problem, samples_per_category=None)
    sparse = problem.with_weights(sparse_weights(problem.bank.categories, pairs).to(device))
    seconds = time_in_turn(
        {
            "floor_s": lambda: lower_bound_step(problem),
            "grouped_s": lambda: grouped_step(problem),
            "sparse_s": lambda: grouped_step(sparse),
            "full_floor_s": lambda: lower_bound_step(full),
            "full_fused_s": lambda: grouped_step(full),
            "novum_s": lambda: novum_step(problem),
        },
        rounds=rounds,
    )
    memory = {
        "grouped_peak_mb": peak_mb(lambda: grouped_step(problem), device),
        "full_fused_peak_mb": peak_mb(lambda: grouped_step(full), device),
        "novum_peak_mb": peak_mb(lambda: novum_step(problem), device),
    }
    ratios = {
        "grouped_over_floor": seconds["grouped_s"] / seconds["floor_s"],
        "novum_over_grouped": seconds["novum_s"] / seconds["grouped_s"],
        "full_fused_over_floor": seconds["full_fused_s"] / seconds["full_floor_s"],
        "full_fused_over_grouped": seconds["full_fused_s"] / seconds["grouped_s"],
        "grouped_over_sparse": seconds["grouped_s"] / seconds["sparse_s"],
    }
    return {**seconds, **memory, **ratios, "contrasted_pairs_per_row": pairs, "images": len(problem.category)}
