"""Every equation of the paper against plain loops written from the paper, values and gradients, in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.evaluation.metrics import confusion_matrix
from compnet3d.inference.matching import category_matches, category_scores
from compnet3d.inference.reconstruction import reconstruction_loss
from compnet3d.losses.auxiliary import pose_contrastive_loss
from compnet3d.losses.blockwise import full_contrastive_loss, grouped_contrastive_loss
from compnet3d.losses.contrastive import ContrastiveLoss, cross_category_loss, in_category_loss, log_omega
from compnet3d.losses.grouping import grouping_weights
from compnet3d.losses.inputs import FeatureBank, LossWeights, Queries
from compnet3d.losses.sampling import draw_cells, draw_queries, near_vertices, sample_vertices
from compnet3d.models.bank import VertexFeatureBank
from compnet3d.rendering.fragments import Fragments

KAPPA = 1 / 0.07


def unit(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def dot(a: Tensor, b: Tensor) -> Tensor:
    return sum((a[i] * b[i] for i in range(len(a))), torch.zeros((), dtype=torch.float64))


def eq2(
    f: Tensor,
    k: int,
    own: Tensor,
    background: Tensor,
    excluded: list[bool],
    weight: float = 1.0,
    kappa: float = KAPPA,
    own_weights: list[float] | None = None,
) -> Tensor:
    denominator = torch.exp(kappa * dot(f, own[k]))
    for number in range(len(own)):
        if number != k and not excluded[number]:
            factor = 1.0 if own_weights is None else own_weights[number]
            denominator = denominator + factor * torch.exp(kappa * dot(f, own[number]))
    for beta in background:
        denominator = denominator + weight * torch.exp(kappa * dot(f, beta))
    return -torch.log(torch.exp(kappa * dot(f, own[k])) / denominator)


def eq4(f: Tensor, positive: Tensor, negatives: Tensor, omega: list[float]) -> Tensor:
    top = torch.exp(KAPPA * dot(f, positive))
    denominator = top
    for weight, negative in zip(omega, negatives, strict=True):
        denominator = denominator + weight * torch.exp(KAPPA * dot(f, negative))
    return -torch.log(top / denominator)


@pytest.mark.parametrize("background_count", [0, 1, 5])
@pytest.mark.parametrize("weight", [1.0, 0.005, 0.0])
def test_eq2_against_loops(background_count: int, weight: float) -> None:
    own, background = unit(7, 6, seed=1), unit(background_count, 6, seed=2)
    vertex = torch.tensor([0, 3, 6, 3])
    excluded = torch.rand(4, 7, generator=torch.Generator().manual_seed(3)) < 0.3
    observed = unit(4, 6, seed=4).requires_grad_(True)
    ours = in_category_loss(observed, vertex, own, background, kappa=KAPPA, excluded=excluded, background_weight=weight)
    (gradient,) = torch.autograd.grad(ours.sum(), observed)
    used = background if weight else background[:0]
    plain = torch.stack([eq2(observed[q], int(vertex[q]), own, used, excluded[q].tolist(), weight) for q in range(4)])
    (expected,) = torch.autograd.grad(plain.sum(), observed)
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-10)


def test_eq4_against_loops_and_zero_rows() -> None:
    observed = unit(3, 5, seed=1).requires_grad_(True)
    positive, negatives = unit(3, 5, seed=2), unit(8, 5, seed=3)
    omega = torch.rand(3, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    omega[0, :5] = 0
    omega[2] = 0
    ours = cross_category_loss(observed, positive, negatives, log_omega(omega), kappa=KAPPA)
    (gradient,) = torch.autograd.grad(ours.sum(), observed)
    plain = torch.stack([eq4(observed[q], positive[q], negatives, omega[q].tolist()) for q in range(3)])
    (expected,) = torch.autograd.grad(plain.sum(), observed)
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-10)
    assert ours[2] == 0 and (gradient[2] == 0).all()


def test_eq4_without_any_negatives() -> None:
    observed = unit(2, 4).requires_grad_(True)
    loss = cross_category_loss(
        observed, unit(2, 4, seed=1), unit(0, 4), torch.zeros(2, 0, dtype=torch.float64), kappa=KAPPA
    )
    (gradient,) = torch.autograd.grad(loss.sum(), observed)
    assert (loss == 0).all() and (gradient == 0).all()


def test_eq3_is_eq4_with_weights_of_one() -> None:
    observed, positive, negatives = unit(2, 4), unit(2, 4, seed=1), unit(6, 4, seed=2)
    ours = cross_category_loss(observed, positive, negatives, torch.zeros(2, 6, dtype=torch.float64), kappa=KAPPA)
    for q in range(2):
        denominator = math.exp(KAPPA * float(observed[q] @ positive[q]))
        top = denominator
        for m in range(6):
            denominator += math.exp(KAPPA * float(observed[q] @ negatives[m]))
        assert float(ours[q]) == pytest.approx(-math.log(top / denominator), rel=1e-10)


def _problem() -> dict[str, Tensor]:
    counts = [4, 6, 5]
    return {
        "offsets": torch.tensor([0, *counts]).cumsum(0),
        "vertex_features": unit(sum(counts), 5, seed=1),
        "background_features": unit(3, 5, seed=2),
        "category": torch.tensor([2, 0, 2]),
        "vertex": torch.tensor([[1, 4, 0], [3, 2, 0], [0, 0, 0]]),
        "valid": torch.tensor([[True, True, True], [True, True, False], [False, False, False]]),
        "grouping_weights": torch.tensor([[0.9, 0.2, 0.0], [0.3, 0.9, 0.4], [0.0, 0.7, 0.9]], dtype=torch.float64),
    }


def queries_and_bank(p: dict[str, Tensor], observed: Tensor) -> tuple[Queries, FeatureBank]:
    names = ("vertex_features", "offsets", "background_features", "grouping_weights")
    return Queries(observed, p["category"], p["vertex"], p["valid"]), FeatureBank(*(p[name] for name in names))


def eq5(p: dict[str, Tensor], observed: Tensor, sampled: Tensor, **options: Any) -> ContrastiveLoss:
    return grouped_contrastive_loss(*queries_and_bank(p, observed), sampled, **options)


@pytest.mark.parametrize("weight", [1.0, 3.5, 0.0])
def test_eq5_against_loops(weight: float) -> None:
    p = _problem()
    observed = unit(3, 3, 5, seed=7).requires_grad_(True)
    sampled = sample_vertices(p["offsets"], 2, torch.Generator().manual_seed(5))
    excluded = torch.rand(3, 3, 6, generator=torch.Generator().manual_seed(6)) < 0.3
    emphasised = torch.rand(3, 3, 6, generator=torch.Generator().manual_seed(9)) < 0.5
    weights = LossWeights(emphasised=weight)
    ours = eq5(p, observed, sampled, kappa=KAPPA, excluded=excluded, emphasised=emphasised, weights=weights)
    (gradient,) = torch.autograd.grad(ours.total, observed)
    terms_in, terms_cross = [], []
    for b in range(3):
        y = int(p["category"][b])
        start, end = int(p["offsets"][y]), int(p["offsets"][y + 1])
        own = p["vertex_features"][start:end]
        for q in range(3):
            if not p["valid"][b, q]:
                continue
            k = int(p["vertex"][b, q])
            factors = [weight if e else 1.0 for e in emphasised[b, q]]
            without = excluded[b, q].tolist()
            terms_in.append(eq2(observed[b, q], k, own, p["background_features"], without, own_weights=factors))
            omega, negatives = [], []
            for m in sampled.tolist():
                other = next(c for c in range(3) if p["offsets"][c] <= m < p["offsets"][c + 1])
                if other != y:
                    omega.append(float(p["grouping_weights"][y, other]))
                    negatives.append(p["vertex_features"][m])
            terms_cross.append(eq4(observed[b, q], own[k], torch.stack(negatives), omega))
    plain = torch.stack(terms_in).mean() + torch.stack(terms_cross).mean()
    (expected,) = torch.autograd.grad(plain, observed)
    torch.testing.assert_close(ours.total, plain, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ours.in_category, torch.stack(terms_in).mean(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("in_one_pass", [False, True])
@pytest.mark.parametrize(("kappa", "dtype"), [(14.0, torch.float64), (39.0, torch.float32), (120.0, torch.float32)])
def test_eq5_of_one_category_is_eq2_alone(
    monkeypatch: pytest.MonkeyPatch, kappa: float, dtype: torch.dtype, in_one_pass: bool
) -> None:
    """Whatever omega has on its diagonal; a query opposite to its vertex has the smallest exponentials there are."""
    monkeypatch.setattr("compnet3d.losses.blockwise._in_one_pass", lambda _: in_one_pass)
    p, own = _problem(), unit(4, 5, seed=1).to(dtype)
    background = p["background_features"].to(dtype)
    queries = Queries(
        torch.cat([unit(3, 2, 5, seed=7).to(dtype), -own[:1].expand(3, 1, 5)], dim=1).requires_grad_(True),
        torch.zeros(3, dtype=torch.int64),
        torch.tensor([[1, 3, 0]] * 3),
        p["valid"],
    )
    terms = []
    for b, q in p["valid"].nonzero().tolist():
        f, k = queries.features[b, q].double(), int(queries.vertex[b, q])
        terms.append(eq2(f, k, own.double(), background.double(), [False] * 4, kappa=kappa))
    plain = torch.stack(terms).mean()
    (expected,) = torch.autograd.grad(plain, queries.features)
    for omega in (0.0, 1.0):
        bank = FeatureBank.of([own], background, torch.full((1, 1), omega, dtype=dtype))
        for sampled in (torch.zeros(0, dtype=torch.int64), torch.arange(4)):
            ours = grouped_contrastive_loss(queries, bank, sampled, kappa=kappa)
            (gradient,) = torch.autograd.grad(ours.total, queries.features)
            assert float(ours.cross_category.detach()) == 0
            assert float(ours.total.detach()) == pytest.approx(float(plain.detach()), rel=1e-5)
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)
        everything = full_contrastive_loss(queries, bank, kappa=kappa).detach()
        assert float(everything) == pytest.approx(float(plain.detach()), rel=1e-5)


@pytest.mark.parametrize(("in_weight", "cross_weight"), [(1.0, 1.0), (0.7, 0.0), (0.0, 1.3)])
@pytest.mark.parametrize(("kappa", "dtype"), [(14.0, torch.float64), (14.0, torch.float32), (120.0, torch.float32)])
@pytest.mark.parametrize("in_one_pass", [False, True])  # as on a processor and as on an accelerator
def test_eq5_is_the_mean_of_eq2_and_eq4_block_by_block(
    monkeypatch: pytest.MonkeyPatch,
    in_weight: float,
    cross_weight: float,
    kappa: float,
    dtype: torch.dtype,
    in_one_pass: bool,
) -> None:
    """Against the readable functions and autograd in float64; also a kappa whose exponentials leave float32's range."""
    monkeypatch.setattr("compnet3d.losses.blockwise.BLOCK", 40)
    monkeypatch.setattr("compnet3d.losses.blockwise.COLUMNS", 5)
    monkeypatch.setattr("compnet3d.losses.blockwise._in_one_pass", lambda device: in_one_pass)
    offsets = torch.tensor([0, 7, 19, 28])
    features, background = unit(28, 8, seed=1), unit(13, 8, seed=2)
    category, valid = torch.tensor([1, 2, 1]), torch.rand(3, 9, generator=torch.Generator().manual_seed(3)) < 0.7
    vertex = torch.randint(7, (3, 9), generator=torch.Generator().manual_seed(4))
    omega = torch.tensor([[0.5, 0.1, 0.2], [0.0, 0.7, 0.3], [0.6, 0.0, 0.9]], dtype=torch.float64)
    sampled = sample_vertices(offsets, 4, torch.Generator().manual_seed(5))
    observed = unit(3, 9, 8, seed=6).requires_grad_(True)
    expected = torch.zeros((), dtype=torch.float64)
    for image, y in enumerate(category.tolist()):
        f, k = observed[image][valid[image]], vertex[image][valid[image]]
        own = features[offsets[y] : offsets[y + 1]]
        eq2s = in_category_loss(f, k, own, background, kappa=kappa, background_weight=0.3)
        others = sampled[(sampled < offsets[y]) | (sampled >= offsets[y + 1])]
        owner = torch.bucketize(others, offsets, right=True) - 1
        weights = log_omega(omega[y, owner]).expand(len(f), -1)
        eq4s = cross_category_loss(f, own[k], features[others], weights, kappa=kappa)
        expected = expected + (in_weight * eq2s + cross_weight * eq4s).sum() / valid.sum()
    (expected_gradient,) = torch.autograd.grad(expected, observed)
    given = observed.detach().to(dtype).requires_grad_(True)
    p = {
        "category": category,
        "vertex": vertex,
        "valid": valid,
        "vertex_features": features.to(dtype),
        "offsets": offsets,
        "background_features": background.to(dtype),
        "grouping_weights": omega.to(dtype),
    }
    weights = LossWeights(background=0.3, in_category=in_weight, cross_category=cross_weight)
    ours = eq5(p, given, sampled, kappa=kappa, weights=weights)
    (gradient,) = torch.autograd.grad(2 * ours.total, given)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    assert ours.total.dtype == gradient.dtype == dtype
    torch.testing.assert_close(ours.total.double(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(gradient.double(), 2 * expected_gradient, rtol=tolerance, atol=tolerance * kappa)


@pytest.mark.parametrize("weight", [1.0, 0.005, 0.0])
def test_full_contrast_is_one_softmax_over_everything(weight: float) -> None:
    p = _problem()
    observed = unit(3, 3, 5, seed=7).requires_grad_(True)
    excluded = torch.rand(3, 3, 6, generator=torch.Generator().manual_seed(6)) < 0.3
    given = queries_and_bank(p, observed)
    ours = full_contrastive_loss(*given, kappa=KAPPA, excluded=excluded, background_weight=weight)
    (gradient,) = torch.autograd.grad(ours, observed)
    terms = []
    for b, q in p["valid"].nonzero().tolist():
        start, end = p["offsets"][p["category"][b]].item(), p["offsets"][p["category"][b] + 1].item()
        k = start + int(p["vertex"][b, q])
        denominator = torch.zeros((), dtype=torch.float64)
        for number in range(len(p["vertex_features"])):
            near = start <= number < end and number != k and bool(excluded[b, q, number - start])
            if not near:
                denominator = denominator + torch.exp(KAPPA * dot(observed[b, q], p["vertex_features"][number]))
        for beta in p["background_features"]:
            denominator = denominator + weight * torch.exp(KAPPA * dot(observed[b, q], beta))
        terms.append(torch.log(denominator) - KAPPA * dot(observed[b, q], p["vertex_features"][k]))
    expected = torch.stack(terms).mean()
    (expected_gradient,) = torch.autograd.grad(expected, observed)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-12)


def test_the_loss_compiles_to_one_graph() -> None:
    p = _problem()
    sampled = torch.tensor([0, 5, 11])

    def loss(observed: Tensor) -> Tensor:
        return eq5(p, observed, sampled, kappa=KAPPA).total

    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):  # a break would raise
        observed = unit(3, 3, 5, seed=7).requires_grad_(True)
        value = function(observed)
        value.backward()
        results.append((value.detach(), observed.grad))
    torch.testing.assert_close(results[0], results[1])


def test_a_kappa_beyond_the_range_of_numbers_is_refused() -> None:
    p = _problem()
    with pytest.raises(ValueError, match="kappa must be at most 300, not 400"):
        eq5(p, unit(3, 3, 5), sample_vertices(p["offsets"], None), kappa=400)


def test_eq5_with_nothing_visible_is_zero_with_zero_gradient() -> None:
    p = _problem()
    observed = unit(3, 3, 5, seed=7).requires_grad_(True)
    nothing = {
        **p,
        "valid": torch.zeros_like(p["valid"]),
        "grouping_weights": torch.zeros(3, 3, dtype=torch.float64),
    }
    loss = eq5(nothing, observed, sample_vertices(p["offsets"], None), kappa=KAPPA)
    (gradient,) = torch.autograd.grad(loss.total, observed)
    assert loss.total == 0 and (gradient == 0).all()


def test_sampled_vertices_are_uniform_without_replacement() -> None:
    offsets = torch.tensor([0, 4, 10, 11])
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(11)
    for _ in range(600):
        picks = sample_vertices(offsets, 3, generator)
        assert len(picks.unique()) == len(picks) == 3 + 3 + 1
        counts[picks] += 1
    torch.testing.assert_close(counts[:4] / 600, torch.full((4,), 0.75), atol=0.07, rtol=0)
    torch.testing.assert_close(counts[4:10] / 600, torch.full((6,), 0.5), atol=0.07, rtol=0)
    assert counts[10] == 600
    assert sample_vertices(offsets, None).tolist() == list(range(11))


def test_sampled_vertices_come_from_the_given_categories_alone() -> None:
    offsets, generator = torch.tensor([0, 4, 10, 11]), torch.Generator().manual_seed(0)
    picks = sample_vertices(offsets, 2, generator, torch.tensor([0, 2]))
    assert len(picks) == 3 and (picks[:2] < 4).all() and picks[2] == 10
    assert sample_vertices(offsets, None, categories=torch.tensor([1])).tolist() == list(range(4, 10))
    assert sample_vertices(offsets, 2, categories=torch.tensor([], dtype=torch.int64)).tolist() == []


def test_drawing_from_the_contrasted_categories_alone_leaves_nothing_out() -> None:
    """Categories of weight 0 add nothing: with all vertices drawn the loss and its gradient are the same."""
    p = _problem()
    bank = VertexFeatureBank(list(p["vertex_features"].split([4, 6, 5])), 3).double()
    bank.set_grouping_weights(p["grouping_weights"])
    assert bank.contrasted(p["category"]).tolist() == [1]
    assert bank.contrasted(torch.tensor([1])).tolist() == [0, 2]
    observed = unit(3, 3, 5, seed=7).requires_grad_(True)
    some = sample_vertices(p["offsets"], None, categories=bank.contrasted(p["category"]))
    losses = [eq5(p, observed, sampled, kappa=KAPPA).total for sampled in (some, sample_vertices(p["offsets"], None))]
    assert len(some) == 6 and losses[0] > 0
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss, observed)[0] for loss in losses))


def test_the_loss_does_not_depend_on_the_queries_layout_in_memory() -> None:
    p = _problem()
    observed = unit(3, 3, 5, seed=7)
    turned = observed.transpose(1, 2).contiguous().transpose(1, 2)
    assert not turned.is_contiguous()
    everything = sample_vertices(p["offsets"], None)
    torch.testing.assert_close(
        eq5(p, turned, everything, kappa=KAPPA).total, eq5(p, observed, everything, kappa=KAPPA).total
    )


def test_drawn_queries_are_valid_distinct_and_uniform() -> None:
    valid = torch.tensor([[True] * 6 + [False] * 2, [True] * 2 + [False] * 6])
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(8)
    for _ in range(500):
        drawn = draw_queries(valid, 3, generator)
        assert drawn.shape == (2, 3) and all(len(row.unique()) == 3 for row in drawn)
        assert valid[0][drawn[0]].all() and valid[1][drawn[1]].sum() == 2
        counts[drawn[0]] += 1
    torch.testing.assert_close(counts[:6] / 500, torch.full((6,), 0.5), atol=0.08, rtol=0)
    assert torch.equal(draw_queries(valid, None), torch.arange(8).expand(2, 8))


def test_near_vertices_against_loops() -> None:
    vertices = torch.rand(2, 6, 3, generator=torch.Generator().manual_seed(0))
    vertex = torch.tensor([[0, 5], [3, 3]])
    near = near_vertices(vertices, vertex, 0.5)
    for b in range(2):
        for q in range(2):
            for k in range(6):
                distance = math.dist(vertices[b, vertex[b, q]].tolist(), vertices[b, k].tolist())
                assert bool(near[b, q, k]) == (distance < 0.5)


def test_eq6_momentum_update_against_loops() -> None:
    bank = VertexFeatureBank([unit(3, 4).float(), unit(2, 4, seed=9).float()], background_size=5)
    before = bank.vertex_features.clone()
    vertex, observed = torch.tensor([1, 4, 1, 1]), unit(4, 4, seed=3).float()
    bank.update_vertices(vertex, observed, momentum=0.9)
    for k in range(5):
        rows = [q for q in range(4) if vertex[q] == k]
        expected = before[k]
        if rows:
            mean = sum(observed[q] for q in rows) / len(rows)
            expected = 0.9 * before[k] + 0.1 * mean
            expected = expected / expected.square().sum().sqrt()
        torch.testing.assert_close(bank.vertex_features[k], expected)
    torch.testing.assert_close(bank.vertex_features.norm(dim=1), torch.ones(5))


def test_background_ring_drops_the_oldest() -> None:
    bank = VertexFeatureBank([unit(2, 3).float()], background_size=4)
    features = unit(9, 3, seed=1).float()
    assert len(bank.background) == 0
    expected: list[Tensor] = []
    for start, end in ((0, 3), (3, 6), (6, 6), (6, 9)):
        bank.update_background(features[start:end])
        expected = (expected + list(features[start:end]))[-4:]
        held = {tuple(row.tolist()) for row in bank.background}
        assert held == {tuple(row.tolist()) for row in expected}
    bank.update_background(features)
    assert {tuple(r.tolist()) for r in bank.background} == {tuple(r.tolist()) for r in features[-4:]}


def test_gradient_of_eq7_goes_to_the_best_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compnet3d.inference.matching.BLOCK", 35)
    features, vertices, background = unit(2, 3, 4, 5, seed=1), unit(9, 5, seed=2), unit(3, 5, seed=3)
    bank = FeatureBank.of(vertices.split([4, 5]), background)
    offsets, weight = torch.tensor([0, 4, 9]), torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)
    maps = features.permute(0, 3, 1, 2).clone().requires_grad_()
    (weight * category_scores(maps, bank)).sum().backward()
    expected = torch.zeros_like(maps)
    for b in range(2):
        for y in range(2):
            negatives = [*vertices[offsets[y] : offsets[y + 1]], *background]
            for i in range(3):
                for j in range(4):
                    best = max(negatives, key=lambda rival: float(features[b, i, j] @ rival))  # noqa: B023
                    expected[b, :, i, j] += weight[b, y] * best / 12
    assert maps.grad is not None
    torch.testing.assert_close(maps.grad, expected)
    with torch.no_grad():
        plain = category_scores(maps, bank)
    torch.testing.assert_close(category_scores(maps, bank), plain)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_best_match_searched_in_bfloat16_has_its_float32_similarity(
    bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compnet3d.inference.matching.bf16_is_fast", lambda: bfloat16)
    monkeypatch.setattr("compnet3d.inference.matching.BLOCK", 35)  # more cells than one block holds
    cells, bank = unit(300, 16, seed=1).float().requires_grad_(), unit(50, 16, seed=2).float()
    found = category_matches(cells, bank, [0, 20, 50])
    (gradient,) = torch.autograd.grad(found.sum(), cells)
    similarity = cells.detach() @ bank.T
    exact = torch.stack([similarity[:, :20].amax(1), similarity[:, 20:].amax(1)], dim=1)
    assert (found <= exact + 1e-6).all() and (found > exact - 0.01).all()
    assert (found > exact - 1e-6).float().mean() > 0.9
    # each value is the similarity of the vertex that the gradient names
    torch.testing.assert_close((gradient * cells.detach()).sum(1), found.detach().sum(1))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_pose_contrastive_loss_against_loops(weighted: bool) -> None:
    scores, negatives = unit(3, 5, seed=7), torch.rand(3, 4, generator=torch.Generator().manual_seed(8)) < 0.6
    negatives[2] = False  # nothing to be told from
    given = scores.clone().requires_grad_()
    weights = 1 + 9 * torch.rand(3, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    ours = pose_contrastive_loss(given, negatives, factor=3.0, weights=weights if weighted else None)
    if not weighted:
        weights = torch.ones(3, 4)
    total = 0.0
    for row in range(3):
        true = math.exp(3 * float(scores[row, 0]))
        terms = [float(weights[row, n]) * math.exp(3 * float(scores[row, 1 + n])) for n in range(4)]
        others = sum(term for term, counts in zip(terms, negatives[row], strict=True) if counts)
        total -= math.log(true / (true + others))
    assert float(ours.detach()) == pytest.approx(total / 3, rel=1e-12) and negatives[:2].any(dim=1).all()
    (gradient,) = torch.autograd.grad(ours, given)
    assert (gradient[2] == 0).all() and (gradient[:, 1:][~negatives] == 0).all()
    torch.testing.assert_close(gradient.sum(dim=1), torch.zeros(3, dtype=torch.float64))


def test_drawn_cells_are_some_of_the_map_and_average_to_it() -> None:
    maps = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)
    assert draw_cells(maps, None) is maps and draw_cells(maps, 20) is maps
    drawn = draw_cells(maps, 7, torch.Generator().manual_seed(0))
    assert drawn.shape == (2, 3, 7, 1)
    cells = [tuple(cell) for cell in maps.flatten(2)[0].T.tolist()]
    picked = [tuple(cell) for cell in drawn[0, :, :, 0].T.tolist()]
    assert len(set(picked)) == 7 and set(picked) <= set(cells)
    assert torch.equal(drawn[1] - drawn[0], torch.full((3, 7, 1), 60.0))
    generator = torch.Generator().manual_seed(1)
    means = torch.stack([draw_cells(maps, 7, generator).mean(dim=(2, 3)) for _ in range(400)])
    torch.testing.assert_close(means.mean(0), maps.mean(dim=(2, 3)), atol=0.5, rtol=0)


def test_eq7_against_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compnet3d.inference.matching.BLOCK", 35)
    features, vertices, background = unit(2, 3, 4, 5, seed=1), unit(9, 5, seed=2), unit(3, 5, seed=3)
    offsets = torch.tensor([0, 4, 9])
    bank = FeatureBank.of(vertices.split([4, 5]), background)
    ours = category_scores(features.permute(0, 3, 1, 2), bank)
    for b in range(2):
        for y in range(2):
            total = 0.0
            for i in range(3):
                for j in range(4):
                    best = max(float(features[b, i, j] @ vertices[k]) for k in range(offsets[y], offsets[y + 1]))
                    total += max(best, *(float(features[b, i, j] @ beta) for beta in background))
            assert float(ours[b, y]) == pytest.approx(total / 12, rel=1e-10)


@pytest.mark.parametrize("cost", [None, 0.0, 0.2])
def test_eq8_against_loops(cost: float | None) -> None:
    features, bank, beta = unit(6, 5, seed=1), unit(4, 5, seed=2), unit(3, 5, seed=3)
    generator = torch.Generator().manual_seed(4)
    index = torch.randint(0, 4, (1, 2, 3, 2), generator=generator)
    weight = torch.rand(1, 2, 3, 2, generator=generator, dtype=torch.float64)
    weight = weight / weight.sum(-1, keepdim=True)
    foreground = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]], dtype=torch.float64)
    background = (features @ beta.T).amax(1)
    loss, _ = reconstruction_loss(
        (features @ bank.T)[None], background[None], Fragments(index, weight, foreground), truncation=cost
    )
    total = 0.0
    for cell in range(6):
        i, j = divmod(cell, 3)
        best_background = max(float(features[cell] @ b) for b in beta)
        if foreground[0, i, j] == 0:
            total -= best_background
            continue
        rendered = sum(weight[0, i, j, n] * bank[index[0, i, j, n]] for n in range(2))
        similarity = float(features[cell] @ rendered)
        total -= similarity if cost is None else max(similarity, best_background - cost)
    assert float(loss[0]) == pytest.approx(total / 6, rel=1e-10)


def test_grouping_weights_normalise_over_the_true_category() -> None:
    true = torch.tensor([0] * 20 + [1] * 10 + [2] * 4)
    predicted = torch.tensor([0] * 15 + [1] * 4 + [2] * 1 + [1] * 10 + [2, 2, 0, 1])
    confusion = confusion_matrix(predicted, true, 4)
    assert confusion[0].tolist() == [15, 4, 1, 0]
    omega = grouping_weights(confusion, threshold=0.06)
    assert omega[0].tolist() == pytest.approx([0, 0.2, 0, 0])
    assert omega[1].tolist() == [0, 0, 0, 0]
    assert omega[2].tolist() == pytest.approx([0.25, 0.25, 0, 0])
    assert omega[3].tolist() == [1, 1, 1, 0]
    # a floor lifts every pair to at least itself, and nothing contrasts a category with itself
    lifted = grouping_weights(confusion, threshold=0.06, floor=0.1)
    assert lifted[0].tolist() == pytest.approx([0, 0.2, 0.1, 0.1])
    assert lifted[1].tolist() == pytest.approx([0.1, 0, 0.1, 0.1])
