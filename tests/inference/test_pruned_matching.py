"""The pruned matcher against the exhaustive one, on banks whose categories resemble real ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.inference.matching import (
    CropFeatures,
    background_similarity,
    category_scores,
    spaced_cells,
    vertex_similarities,
)
from compnet3d.inference.pruned_matching import Pruning, category_centroids, pruned_scores
from compnet3d.losses.inputs import FeatureBank


def smooth_bank(categories: int, background: Tensor | None = None, seed: int = 0) -> FeatureBank:
    """Vertex features that vary smoothly over each category, 20 to 40 of them."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(20, 41, (categories,), generator=generator)
    features = []
    for count in counts.tolist():
        turn = torch.linspace(0, 2 * math.pi, count)[:, None] * torch.tensor([[1.0, 2.0, 3.0]])
        waves = torch.cat([turn.cos(), turn.sin()], dim=1)
        features.append(normalize(waves @ torch.randn(6, 32, generator=generator), dim=1))
    return FeatureBank.of(features, background)


def images_of(bank: FeatureBank, category: Tensor, noise: float = 0.6) -> Tensor:
    """Noisy feature maps [B, 32, 9, 10] whose cells come from each image's category or from nowhere."""
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(len(category), 90, 32, generator=generator)
    for row, number in enumerate(category.tolist()):
        features = bank.category_features(number)
        some = torch.randint(len(features), (40,), generator=generator)
        maps[row, 20:60] = features[some] + noise / math.sqrt(32) * torch.randn(40, 32, generator=generator)
    return normalize(maps, dim=-1).transpose(1, 2).unflatten(2, (9, 10))


@pytest.mark.parametrize("cells", [1000, 45])
def test_best_score_is_the_exhaustive_one(cells: int) -> None:
    bank = smooth_bank(60, normalize(torch.randn(30, 32, generator=torch.Generator().manual_seed(2)), dim=1))
    category = torch.arange(60)
    maps = images_of(bank, category)
    exact = category_scores(maps, bank)
    pruning = Pruning(centroids=4, cells=cells, shortlist=5)
    ours = pruned_scores(maps, bank, category_centroids(bank, 4), pruning)
    assert (exact.argmax(1) == category).all()
    assert torch.equal(ours.argmax(1), exact.argmax(1))
    torch.testing.assert_close(ours.amax(1), exact.amax(1))
    # at least the shortlist are exact, and nobody else passes them
    close = (ours - exact).abs() < 1e-6
    assert (close.sum(1) >= 5).all() and not close.all()
    lowest = ours.masked_fill(~close, 9.0).amin(1)
    assert (ours.masked_fill(close, -9.0).amax(1) <= lowest + 1e-6).all()


def test_few_categories_are_all_exact() -> None:
    bank = smooth_bank(3)
    maps = images_of(bank, torch.tensor([2, 0]))
    ours = pruned_scores(maps, bank, category_centroids(bank, 4), Pruning())
    torch.testing.assert_close(ours, category_scores(maps, bank))


def test_centroids_match_like_vertices() -> None:
    bank = smooth_bank(5)
    centroids = category_centroids(bank, 8)
    assert centroids.shape == (5, 8, 32)
    for number in range(5):
        features = bank.category_features(number)
        assert float((features @ centroids[number].T).amax(1).mean()) == pytest.approx(1.0, abs=1e-5)
    # with a centroid for every vertex the centroids are the vertices
    single = bank.category_features(0)
    torch.testing.assert_close(category_centroids(FeatureBank.of([single]), len(single))[0], single)


def test_more_centroids_than_vertices_and_equal_vertices() -> None:
    """Centroids that lose all their vertices stay finite."""
    bank = normalize(torch.ones(3, 4), dim=1)
    centroids = category_centroids(FeatureBank.of([bank]), 5)
    torch.testing.assert_close(centroids, bank[:1].expand(1, 5, 4))


def test_spaced_cells() -> None:
    assert spaced_cells(2, 3, 100).tolist() == [0, 1, 2, 3, 4, 5]
    assert spaced_cells(4, 6, 6).tolist() == [0, 2, 4, 12, 14, 16]
    assert spaced_cells(9, 9, 9).tolist() == [10, 13, 16, 37, 40, 43, 64, 67, 70]
    assert len(spaced_cells(80, 100, 1000)) == 27 * 33
    assert spaced_cells(1, 1, 1).tolist() == [0]


def test_no_images() -> None:
    bank = smooth_bank(12, torch.zeros(3, 32))
    maps = torch.zeros(0, 32, 9, 10)
    assert category_scores(maps, bank).shape == (0, 12)
    centroids = category_centroids(bank, 4)
    assert pruned_scores(maps, bank, centroids, Pruning(centroids=4, shortlist=3)).shape == (0, 12)


def test_no_background() -> None:
    assert torch.equal(background_similarity(torch.ones(2, 3, 4), torch.zeros(0, 4)), torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda bank: category_scores(torch.zeros(2, 31, 9, 10), bank), "feature_map"),
        (lambda bank: category_scores(torch.zeros(2, 32, 90), bank), "feature_map"),
        (lambda bank: category_scores(torch.zeros(2, 32, 9, 10, dtype=torch.uint8), bank), "feature_map"),
        (lambda bank: category_scores(torch.zeros(2, 32, 9, 10), bank, torch.zeros(2, 89)), "background"),
        (
            lambda bank: pruned_scores(torch.zeros(2, 31, 9, 10), bank, category_centroids(bank, 4), Pruning()),
            "feature_map",
        ),
        (lambda bank: pruned_scores(torch.zeros(2, 32, 9, 10), bank, torch.zeros(4, 4, 32), Pruning()), "centroids"),
        (
            lambda bank: pruned_scores(
                torch.zeros(2, 32, 9, 10), bank, category_centroids(bank, 4), Pruning(), torch.zeros(2, 3)
            ),
            "background",
        ),
        (lambda bank: category_centroids(bank, 0), "count"),
        (lambda bank: Pruning(shortlist=0), "shortlist"),
        (lambda bank: CropFeatures(torch.zeros(2, 32, 9, 10), torch.zeros(2, 9)), "background"),
        (lambda bank: vertex_similarities(torch.zeros(2, 32, 9, 10), bank, torch.tensor([0, 3])), "category"),
        (lambda bank: vertex_similarities(torch.zeros(2, 32, 9, 10), bank, torch.tensor([0.0, 1.0])), "category"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call: Callable[[FeatureBank], object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must"):
        call(smooth_bank(3))


def test_similarities_against_loops() -> None:
    bank = smooth_bank(3)
    maps, category = images_of(bank, torch.tensor([2, 0])), torch.tensor([1, 2])
    found = vertex_similarities(maps, bank, category)
    widest = max(len(bank.category_features(number)) for number in range(3))
    assert found.shape == (2, 90, widest)
    for image, number in enumerate(category.tolist()):
        features = bank.category_features(number)
        for cell in (0, 13, 89):
            f = maps[image, :, cell // 10, cell % 10]
            for k in range(widest):
                expected = float(f @ features[k]) if k < len(features) else -1.0
                assert float(found[image, cell, k]) == pytest.approx(expected, abs=1e-6)
