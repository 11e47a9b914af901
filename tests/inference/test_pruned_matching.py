"""The pruned matcher against the exhaustive one, on banks whose categories resemble real ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.inference.matching import background_similarity, category_scores, spaced_cells
from compnet3d.inference.pruned_matching import Pruning, category_centroids, pruned_scores


def smooth_bank(categories: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Vertex features that vary smoothly over each category, 20 to 40 of them, and where each category starts."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(20, 41, (categories,), generator=generator)
    features = []
    for count in counts.tolist():
        turn = torch.linspace(0, 2 * math.pi, count)[:, None] * torch.tensor([[1.0, 2.0, 3.0]])
        waves = torch.cat([turn.cos(), turn.sin()], dim=1)
        features.append(normalize(waves @ torch.randn(6, 32, generator=generator), dim=1))
    return torch.cat(features), torch.tensor([0, *counts.tolist()]).cumsum(0)


def images_of(bank: Tensor, offsets: Tensor, category: Tensor, noise: float = 0.6) -> Tensor:
    """Noisy feature maps [B, 32, 9, 10] whose cells come from each image's category or from nowhere."""
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(len(category), 90, 32, generator=generator)
    for row, number in enumerate(category.tolist()):
        some = torch.randint(int(offsets[number]), int(offsets[number + 1]), (40,), generator=generator)
        maps[row, 20:60] = bank[some] + noise / math.sqrt(32) * torch.randn(40, 32, generator=generator)
    return normalize(maps, dim=-1).transpose(1, 2).unflatten(2, (9, 10))


@pytest.mark.parametrize("cells", [1000, 45])
def test_best_score_is_the_exhaustive_one(cells: int) -> None:
    bank, offsets = smooth_bank(60)
    background = normalize(torch.randn(30, 32, generator=torch.Generator().manual_seed(2)), dim=1)
    category = torch.arange(60)
    maps = images_of(bank, offsets, category)
    exact = category_scores(maps, bank, offsets, background)
    pruning = Pruning(centroids=4, cells=cells, shortlist=5)
    ours = pruned_scores(maps, bank, offsets, background, category_centroids(bank, offsets, 4), pruning)
    assert (exact.argmax(1) == category).all()
    assert torch.equal(ours.argmax(1), exact.argmax(1))
    torch.testing.assert_close(ours.amax(1), exact.amax(1))
    # at least the shortlist are exact, and nobody else passes them
    close = (ours - exact).abs() < 1e-6
    assert (close.sum(1) >= 5).all() and not close.all()
    lowest = ours.masked_fill(~close, 9.0).amin(1)
    assert (ours.masked_fill(close, -9.0).amax(1) <= lowest + 1e-6).all()


def test_few_categories_are_all_exact() -> None:
    bank, offsets = smooth_bank(3)
    maps, background = images_of(bank, offsets, torch.tensor([2, 0])), torch.zeros(0, 32)
    ours = pruned_scores(maps, bank, offsets, background, category_centroids(bank, offsets, 4), Pruning())
    torch.testing.assert_close(ours, category_scores(maps, bank, offsets, background))


def test_codes_match_like_vertices() -> None:
    bank, offsets = smooth_bank(5)
    centroids = category_centroids(bank, offsets, 8)
    assert centroids.shape == (5, 8, 32)
    for number in range(5):
        features = bank[offsets[number] : offsets[number + 1]]
        assert float((features @ centroids[number].T).amax(1).mean()) == pytest.approx(1.0, abs=1e-5)
    # with a code for every vertex the codes are the vertices
    single = bank[: offsets[1]]
    torch.testing.assert_close(category_centroids(single, offsets[:2], len(single))[0], single)


def test_more_codes_than_vertices_and_equal_vertices() -> None:
    """Centroids that lose all their vertices stay finite."""
    bank = normalize(torch.ones(3, 4), dim=1)
    centroids = category_centroids(bank, torch.tensor([0, 3]), 5)
    torch.testing.assert_close(centroids, bank[:1].expand(1, 5, 4))


def test_spaced_cells() -> None:
    assert spaced_cells(2, 3, 100).tolist() == [0, 1, 2, 3, 4, 5]
    assert spaced_cells(4, 6, 6).tolist() == [0, 2, 4, 12, 14, 16]
    assert spaced_cells(9, 9, 9).tolist() == [10, 13, 16, 37, 40, 43, 64, 67, 70]
    assert len(spaced_cells(80, 100, 1000)) == 27 * 33
    assert spaced_cells(1, 1, 1).tolist() == [0]


def test_no_images() -> None:
    bank, offsets = smooth_bank(12)
    maps, background = torch.zeros(0, 32, 9, 10), torch.zeros(3, 32)
    assert category_scores(maps, bank, offsets, background).shape == (0, 12)
    centroids = category_centroids(bank, offsets, 4)
    assert pruned_scores(maps, bank, offsets, background, centroids, Pruning(centroids=4, shortlist=3)).shape == (0, 12)


def test_no_background() -> None:
    assert torch.equal(background_similarity(torch.ones(2, 3, 4), torch.zeros(0, 4)), torch.zeros(2, 3))
