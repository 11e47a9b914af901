"""Classification (Eq. 7) at the paper's sizes: its floor, the exhaustive matching and the pruned one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.bench.timing import peak_mb, time_in_turn
from compnet3d.inference.matching import category_scores
from compnet3d.inference.pruned_matching import Pruning, category_centroids, pruned_scores
from compnet3d.utils.matmul import BLOCK, block_size, fast_matmul


def bench_classify(
    *,
    rounds: int = 5,
    categories: int = 188,
    model: Path | None = None,
    data: Path | None = None,
    growth: tuple[int, ...] = (188, 500, 1000, 2000),
    device: str = "cpu",
) -> dict[str, Any]:
    """Time and memory for one image of 80 x 100 cells, categories of 500 vertices and 2560 background features.

    Args:
        rounds: how often each is timed; categories: Y; growth: numbers of categories for the pruned matcher's growth.
        model, data: a trained model and a data set, on whose val list the two matchers' answers are compared.
        device: where.

    Returns:
        floor_s, exhaustive_s, pruned_s (medians), exhaustive_peak_mb, pruned_peak_mb, ratios, growth (seconds by number
        of categories), agreement (None without a model).
    """
    pruning = Pruning()
    cells, bank, background = _random_scene(categories, device)
    offsets = torch.arange(categories + 1, device=device) * 500
    centroids = category_centroids(bank, offsets, pruning.centroids)
    tasks = {
        "floor_s": lambda: _lower_bound(cells, bank, background),
        "exhaustive_s": lambda: category_scores(cells, bank, offsets, background),
        "pruned_s": lambda: pruned_scores(cells, bank, offsets, background, centroids, pruning),
    }
    seconds = time_in_turn(tasks, rounds=rounds)
    result: dict[str, Any] = {
        **seconds,
        "exhaustive_peak_mb": peak_mb(tasks["exhaustive_s"], device),
        "pruned_peak_mb": peak_mb(tasks["pruned_s"], device),
        "exhaustive_over_floor": seconds["exhaustive_s"] / seconds["floor_s"],
        "exhaustive_over_pruned": seconds["exhaustive_s"] / seconds["pruned_s"],
        "growth": _growth(growth, pruning, rounds, device),
        "agreement": None,
    }
    if model is not None and data is not None:
        result |= _agreement(model, data, pruning, device)
    return result


def _random_scene(categories: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """A feature map [1, 128, 80, 100], vertex features [500 Y, 128] and background features [2560, 128]."""
    generator = torch.Generator().manual_seed(0)

    def unit(count: int) -> Tensor:
        return normalize(torch.randn(count, 128, generator=generator), dim=1).to(device)

    return unit(8000).T.reshape(1, 128, 80, 100), unit(500 * categories), unit(2560)


@fast_matmul()
def _lower_bound(cells: Tensor, bank: Tensor, background: Tensor) -> None:
    """The products of every cell with every feature, in the same blocks, and one maximum for each."""
    flat = cells.flatten(2)[0].T.contiguous()
    for features in (*bank.split(500), background):
        rows = max(1, block_size(BLOCK, cells.device) // len(features))
        for block in flat.split(rows):
            torch.mm(block, features.T).amax(dim=1)


def _growth(numbers: tuple[int, ...], pruning: Pruning, rounds: int, device: str) -> dict[str, float]:
    """Seconds of the pruned matcher for each number of categories, timed in turn."""
    cells, bank, background = _random_scene(max(numbers, default=1), device)
    tasks = {}
    for count in numbers:
        features, offsets = bank[: 500 * count], torch.arange(count + 1, device=device) * 500
        centroids = category_centroids(features, offsets, pruning.centroids, rounds=1)
        tasks[str(count)] = lambda f=features, o=offsets, c=centroids: pruned_scores(
            cells, f, o, background, c, pruning
        )
    return time_in_turn(tasks, rounds=rounds)


@torch.no_grad()
def _agreement(model: Path, data: Path, pruning: Pruning, device: str) -> dict[str, Any]:
    """How often both matchers name the same category on the val images of a data set, and what it cost."""
    from compnet3d.data.imagenet3d import ImageNet3D
    from compnet3d.data.loader import CropDataset
    from compnet3d.models.compnet import CompNet

    net = CompNet.from_pretrained(model).to(device)
    dataset = ImageNet3D(data)
    crops = CropDataset(dataset.samples("val"), net.categories, net.input_config)
    centroids = category_centroids(net.bank.vertex_features, net.bank.offsets, pruning.centroids)
    features = (net.bank.vertex_features, net.bank.offsets, net.bank.background)
    same = right = right_pruned = 0
    for batch in torch.utils.data.DataLoader(crops, batch_size=32):
        feature_map, true = net(batch["image"].to(device)), batch["category"].to(device)
        exact = category_scores(feature_map, *features).argmax(dim=1)
        pruned = pruned_scores(feature_map, *features, centroids, pruning).argmax(dim=1)
        same += int((exact == pruned).sum())
        right, right_pruned = right + int((exact == true).sum()), right_pruned + int((pruned == true).sum())
    count = len(crops)
    return {
        "agreement": same / count,
        "agreement_images": count,
        "agreement_categories": len(net.categories),
        "exhaustive_accuracy": right / count,
        "pruned_accuracy": right_pruned / count,
    }
