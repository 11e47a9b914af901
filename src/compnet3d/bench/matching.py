"""Classification (Eq. 7) at the paper's sizes: its lower bound, the exhaustive matching and the pruned one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.bench.result import BenchResult, megabytes, milliseconds, times
from compnet3d.bench.timing import peak_mb, time_in_turn
from compnet3d.inference.matching import category_scores
from compnet3d.inference.pruned_matching import Pruning, category_centroids, pruned_scores
from compnet3d.losses.inputs import FeatureBank
from compnet3d.utils.matmul import BLOCK, block_size, fast_matmul


@dataclass(frozen=True)
class Agreement:
    """How often both matchers predict the same category, and their top-1 accuracies; shares of 1.

    Attributes:
        share: of the images with the same answer; images: how many; categories: between which.
        exhaustive_accuracy, pruned_accuracy: top-1.
    """

    share: float
    images: int
    categories: int
    exhaustive_accuracy: float
    pruned_accuracy: float


@dataclass(frozen=True)
class MatchingResult(BenchResult):
    """Medians and peaks for one image.

    Attributes:
        lower_bound_s: what Eq. 7 cannot do without; exhaustive_s, pruned_s: the two matchers.
        exhaustive_peak_mb, pruned_peak_mb: most memory beyond what was there.
        growth: seconds of the pruned matcher by the number of categories.
        agreement: of the two matchers; None without a model.
    """

    lower_bound_s: float
    exhaustive_s: float
    pruned_s: float
    exhaustive_peak_mb: float | None
    pruned_peak_mb: float | None
    growth: Mapping[str, float]
    agreement: Agreement | None = None

    @property
    def exhaustive_over_lower_bound(self) -> float:
        """How near the exhaustive matcher is to what it cannot do without."""
        return self.exhaustive_s / self.lower_bound_s

    @property
    def exhaustive_over_pruned(self) -> float:
        """What pruning saves."""
        return self.exhaustive_s / self.pruned_s

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MatchingResult:
        """See `BenchResult`."""
        found = super().from_dict(values)
        agreement = values["agreement"]
        return found if agreement is None else replace(found, agreement=Agreement(**agreement))

    def rows(self) -> list[tuple[str, str]]:
        """See `BenchResult`."""
        found = [
            ("lower bound: the matrix products and one maximum per similarity", milliseconds(self.lower_bound_s)),
            ("exhaustive matching (Eq. 7)", f"{milliseconds(self.exhaustive_s)}, {megabytes(self.exhaustive_peak_mb)}"),
            ("exhaustive over lower bound", times(self.exhaustive_over_lower_bound)),
            ("pruned matching", f"{milliseconds(self.pruned_s)}, {megabytes(self.pruned_peak_mb)}"),
            ("exhaustive over pruned", times(self.exhaustive_over_pruned)),
            *((f"pruned matching, {count} categories", milliseconds(s)) for count, s in self.growth.items()),
        ]
        if self.agreement is not None:
            same, where = self.agreement, f"{self.agreement.images} images of {self.agreement.categories} categories"
            both = f"{100 * same.exhaustive_accuracy:.2f} %, {100 * same.pruned_accuracy:.2f} %"
            found += [
                (f"same category, {where}", f"{100 * same.share:.2f} %"),
                ("top-1 accuracy, exhaustive and pruned", both),
            ]
        return found


def bench_matching(
    *,
    rounds: int = 5,
    categories: int = 188,
    model: Path | None = None,
    data: Path | None = None,
    growth: tuple[int, ...] = (188, 500, 1000, 2000),
    device: str = "cpu",
) -> MatchingResult:
    """Time and memory for one image of 80 x 100 cells, categories of 500 vertices and 2560 background features.

    Args:
        rounds: how often each is timed; categories: Y; growth: numbers of categories for the pruned matcher's growth.
        model, data: a trained model and a data set, on whose val list the two matchers' answers are compared.
        device: where.
    """
    pruning = Pruning()
    cells, bank = _random_scene(categories, device)
    centroids = category_centroids(bank, pruning.centroids)
    tasks = {
        "lower_bound_s": lambda: _lower_bound(cells, bank),
        "exhaustive_s": lambda: category_scores(cells, bank),
        "pruned_s": lambda: pruned_scores(cells, bank, centroids, pruning),
    }
    return MatchingResult(
        **time_in_turn(tasks, rounds=rounds),
        exhaustive_peak_mb=peak_mb(tasks["exhaustive_s"], device),
        pruned_peak_mb=peak_mb(tasks["pruned_s"], device),
        growth=_growth(growth, pruning, rounds, device),
        agreement=None if model is None or data is None else _agreement(model, data, pruning, device),
    )


def _random_scene(categories: int, device: str) -> tuple[Tensor, FeatureBank]:
    """A feature map [1, 128, 80, 100] and a bank of 500 vertices a category and 2560 background features."""
    generator = torch.Generator().manual_seed(0)

    def unit(count: int) -> Tensor:
        return normalize(torch.randn(count, 128, generator=generator), dim=1).to(device)

    return unit(8000).T.reshape(1, 128, 80, 100), _bank(unit(500 * categories), unit(2560))


def _bank(vertex_features: Tensor, background_features: Tensor) -> FeatureBank:
    count = len(vertex_features) // 500
    offsets = torch.arange(count + 1, device=vertex_features.device) * 500
    return FeatureBank(vertex_features, offsets, background_features, vertex_features.new_ones(count, count))


@fast_matmul()
def _lower_bound(cells: Tensor, bank: FeatureBank) -> None:
    """The products of every cell with every feature, in the same blocks, and one maximum for each."""
    flat = cells.flatten(2)[0].T.contiguous()
    for features in (*bank.vertex_features.split(500), bank.background_features):
        rows = max(1, block_size(BLOCK, cells.device) // len(features))
        for block in flat.split(rows):
            torch.mm(block, features.T).amax(dim=1)


def _growth(numbers: tuple[int, ...], pruning: Pruning, rounds: int, device: str) -> dict[str, float]:
    """Seconds of the pruned matcher for each number of categories, timed in turn."""
    cells, bank = _random_scene(max(numbers, default=1), device)
    tasks = {}
    for count in numbers:
        some = _bank(bank.vertex_features[: 500 * count], bank.background_features)
        centroids = category_centroids(some, pruning.centroids, rounds=1)
        tasks[str(count)] = lambda b=some, c=centroids: pruned_scores(cells, b, c, pruning)
    return time_in_turn(tasks, rounds=rounds)


@torch.no_grad()
def _agreement(model: Path, data: Path, pruning: Pruning, device: str) -> Agreement:
    """How often both matchers predict the same category on the val images of a data set, and what it cost."""
    from compnet3d.data.imagenet3d import ImageNet3D
    from compnet3d.data.loader import CropDataset
    from compnet3d.models.compnet import CompNet

    net = CompNet.from_pretrained(model).to(device)
    dataset = ImageNet3D(data)
    crops = CropDataset(dataset.samples("val"), net.categories, net.input_config)
    bank = net.bank.feature_bank
    centroids = category_centroids(bank, pruning.centroids)
    same = correct = correct_pruned = 0
    for batch in torch.utils.data.DataLoader(crops, batch_size=32):
        feature_map, true = net(batch["image"].to(device)), batch["category"].to(device)
        exact = category_scores(feature_map, bank).argmax(dim=1)
        pruned = pruned_scores(feature_map, bank, centroids, pruning).argmax(dim=1)
        same += int((exact == pruned).sum())
        correct, correct_pruned = correct + int((exact == true).sum()), correct_pruned + int((pruned == true).sum())
    count = len(crops)
    return Agreement(same / count, count, len(net.categories), correct / count, correct_pruned / count)
