"""The losses say which argument does not fit, once, at their entry; `python -O` leaves that out."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.losses import (
    FeatureBank,
    LossWeights,
    Queries,
    classification_loss,
    cross_category_loss,
    draw_cells,
    draw_queries,
    full_contrastive_loss,
    grouped_contrastive_loss,
    grouping_weights,
    in_category_loss,
    near_vertices,
    pose_contrastive_loss,
    sample_vertices,
)
from compnet3d.models.bank import VertexFeatureBank


def unit(*shape: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def make_bank() -> FeatureBank:
    """Categories of 4 and 6 vertices."""
    return FeatureBank.of([unit(4, 5, seed=1), unit(6, 5, seed=2)], unit(3, 5, seed=3))


def make_queries(**changes: Tensor) -> Queries:
    values = {
        "features": unit(2, 3, 5, seed=4),
        "category": torch.tensor([0, 1]),
        "vertex": torch.tensor([[0, 3, 2], [5, 0, 1]]),
        "valid": torch.ones(2, 3, dtype=torch.bool),
    }
    return Queries(**{**values, **changes})


def both_losses(queries: Queries, **options: Any) -> Iterator[Callable[[], object]]:
    yield from (
        lambda: grouped_contrastive_loss(queries, make_bank(), torch.tensor([0, 5]), **{"kappa": 10.0, **options}),
        lambda: full_contrastive_loss(queries, make_bank(), **{"kappa": 10.0, **options}),
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vertex": torch.tensor([[0, 3, 5], [5, 0, 1]])}, r"vertex \[0, 2\] is 5, but category 0 .* 0 \.\.\. 3"),
        ({"vertex": torch.tensor([[0, 3, 2], [6, 0, 1]])}, r"vertex \[1, 0\] is 6, but category 1 .* 0 \.\.\. 5"),
        ({"vertex": torch.tensor([[0, -1, 2], [5, 0, 1]])}, r"vertex \[0, 1\] is -1"),
        ({"category": torch.tensor([0, 2])}, r"category must lie in 0 \.\.\. 1, got 0 \.\.\. 2"),
        ({"features": unit(2, 3, 4)}, "features have 4 dimensions, vertex_features 5"),
    ],
)
def test_queries_that_are_not_in_the_bank_are_refused(changes: dict[str, Tensor], message: str) -> None:
    for loss in both_losses(make_queries(**changes)):
        with pytest.raises(ValueError, match=message):
            loss()


def test_padding_may_hold_any_vertex() -> None:
    valid = torch.ones(2, 3, dtype=torch.bool)
    valid[0, 2] = False
    values = []
    for vertex in (5, 2):
        queries = make_queries(vertex=torch.tensor([[0, 3, vertex], [5, 0, 1]]), valid=valid)
        loss = grouped_contrastive_loss(queries, make_bank(), torch.tensor([0, 5]), kappa=10.0).total
        assert math.isfinite(float(loss))
        values.append(float(loss))
    assert values[0] == values[1]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"features": unit(2, 5)}, "features"),
        ({"features": torch.ones(2, 3, 5, dtype=torch.int64)}, "features"),
        ({"category": torch.tensor([0, 1, 1])}, "category"),
        ({"category": torch.tensor([0.0, 1.0])}, "category"),
        ({"vertex": torch.zeros(2, 4, dtype=torch.int64)}, "vertex"),
        ({"vertex": torch.zeros(2, 3)}, "vertex"),
        ({"valid": torch.ones(2, 2, dtype=torch.bool)}, "valid"),
        ({"valid": torch.ones(2, 3)}, "valid"),
    ],
)
def test_queries_name_what_does_not_fit(changes: dict[str, Tensor], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} "):
        make_queries(**changes)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"vertex_features": unit(10, 5)[None]}, "vertex_features"),
        ({"background_features": unit(3, 4)}, "background_features"),
        ({"background_features": torch.ones(3, 5, dtype=torch.int64)}, "background_features"),
        ({"offsets": torch.tensor([0.0, 4.0, 10.0])}, "offsets"),
        ({"offsets": torch.tensor([[0, 4, 10]])}, "offsets"),
        ({"grouping_weights": torch.ones(3, 3)}, "grouping_weights"),
    ],
)
def test_a_bank_names_what_does_not_fit(changes: dict[str, Tensor], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} "):
        replace(make_bank(), **changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kappa": 0.0}, "kappa must be positive"),
        ({"kappa": -1.0}, "kappa must be positive"),
        ({"kappa": math.nan}, "kappa must be"),
        ({"kappa": 301.0}, "kappa must be at most 300"),
        ({"excluded": torch.zeros(2, 3, 4, dtype=torch.bool)}, "excluded must have K_max = 6 columns, got 4"),
        ({"excluded": torch.zeros(2, 4, 6, dtype=torch.bool)}, "excluded must have shape"),
        ({"excluded": torch.zeros(2, 3, 6)}, "excluded must be bool"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    for loss in both_losses(make_queries(), **options):
        with pytest.raises(ValueError, match=message):
            loss()


@pytest.mark.parametrize("sampled", [torch.tensor([0, 10]), torch.tensor([-1]), torch.tensor([1.0]), torch.tensor(3)])
def test_samples_that_are_no_vertices_are_refused(sampled: Tensor) -> None:
    with pytest.raises(ValueError, match="^sampled "):
        grouped_contrastive_loss(make_queries(), make_bank(), sampled, kappa=10.0)


@pytest.mark.parametrize("name", ["background", "in_category", "cross_category"])
def test_a_negative_weight_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        LossWeights(**{name: -0.1})


def test_a_bank_of_categories_joins_them() -> None:
    parts = [unit(4, 5, seed=1), unit(6, 5, seed=2)]
    bank = FeatureBank.of(parts)
    assert bank.categories == 2 and bank.offsets.tolist() == [0, 4, 10]
    assert all(torch.equal(bank.category_features(y), parts[y]) for y in range(2))
    assert bank.background_features.shape == (0, 5) and bank.grouping_weights.tolist() == [[1, 1], [1, 1]]
    with pytest.raises(FrozenInstanceError):
        bank.offsets = parts[0]  # type: ignore[misc]


def test_the_learned_bank_shows_its_filled_background_alone() -> None:
    learned = VertexFeatureBank([unit(4, 5, seed=1), unit(6, 5, seed=2)], 8)
    learned.update_background(unit(3, 5, seed=3))
    bank, expected = learned.feature_bank, make_bank()
    assert torch.equal(bank.background_features, expected.background_features)
    assert torch.equal(bank.vertex_features, expected.vertex_features)
    assert bank.grouping_weights.tolist() == [[0, 1], [1, 0]]
    losses = [grouped_contrastive_loss(make_queries(), b, torch.arange(10), kappa=10.0).total for b in (bank, expected)]
    torch.testing.assert_close(*losses)  # the diagonal is ignored


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (lambda: in_category_loss(unit(2, 5), torch.tensor([0, 4]), unit(4, 5), unit(0, 5), kappa=1.0), "vertex"),
        (lambda: in_category_loss(unit(2, 5), torch.tensor([0]), unit(4, 5), unit(0, 5), kappa=1.0), "vertex"),
        (
            lambda: in_category_loss(unit(2, 5), torch.tensor([0, 1]), unit(4, 6), unit(0, 5), kappa=1.0),
            "category_features",
        ),
        (lambda: in_category_loss(unit(2, 5), torch.tensor([0, 1]), unit(4, 5), unit(0, 5), kappa=0.0), "kappa"),
        (
            lambda: cross_category_loss(unit(2, 5), unit(3, 5), unit(4, 5), torch.zeros(2, 4), kappa=1.0),
            "positive_features",
        ),
        (lambda: cross_category_loss(unit(2, 5), unit(2, 5), unit(4, 5), torch.zeros(4), kappa=1.0), "log_weight"),
        (lambda: classification_loss(torch.zeros(2, 3), torch.tensor([0, 3])), "category"),
        (lambda: classification_loss(torch.zeros(3), torch.tensor([0, 2, 1])), "scores"),
        (lambda: pose_contrastive_loss(torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)), "negatives"),
        (lambda: grouping_weights(torch.zeros(2, 3)), "confusion"),
        (lambda: grouping_weights(torch.zeros(2, 2), floor=1.5), "floor"),
        (lambda: sample_vertices(torch.tensor([0.0, 3.0]), 2), "offsets"),
        (lambda: sample_vertices(torch.tensor([0, 3]), 0), "samples_per_category"),
        (lambda: draw_queries(torch.ones(3, dtype=torch.bool), 2), "valid"),
        (lambda: draw_queries(torch.ones(2, 3, dtype=torch.bool), 0), "count"),
        (lambda: draw_cells(torch.zeros(2, 3, 4), 2), "feature_map"),
        (lambda: near_vertices(torch.zeros(2, 4, 3), torch.zeros(3, 1, dtype=torch.int64), 0.1), "vertex"),
    ],
)
def test_every_function_names_what_does_not_fit(task: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} "):
        task()


def test_the_checks_are_off_under_python_o() -> None:
    code = (
        "import torch; from compnet3d.losses import *\n"
        "f = torch.eye(5)\n"
        "bank = FeatureBank.of([f[:4], f])\n"
        "queries = Queries(f[None, :1], torch.tensor([0]), torch.tensor([[4]]), torch.ones(1, 1, dtype=torch.bool))\n"
        "print(float(grouped_contrastive_loss(queries, bank, torch.tensor([0]), kappa=1.0).total))"
    )
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "vertex [0, 0] is 4" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
