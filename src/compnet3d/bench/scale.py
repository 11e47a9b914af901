"""How the loss step grows with the number of categories (figure 2 of the paper, measured)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from compnet3d.bench.loss import LossProblem, grouped_step, sparse_weights
from compnet3d.bench.result import BenchResult, megabytes, milliseconds, times
from compnet3d.bench.timing import peak_mb, time_in_turn
from compnet3d.reporting.plots import check_figure, save_figure


@dataclass(frozen=True)
class ScaleResult(BenchResult):
    """Medians and peaks of a loss step, one for each number of categories.

    Attributes:
        categories: the numbers; contrasted_pairs_per_row: other categories with a weight above 0 where omega is sparse.
        full_s, full_mb: full contrasts with all vertices, as NOVUM does.
        dense_s, dense_mb: N = 32 of each category, omega = 1 everywhere.
        sparse_s, sparse_mb: N = 32 of those with a weight above 0.
        sparsity: share of the pairs of categories with weight 0.
    """

    categories: Sequence[int]
    contrasted_pairs_per_row: float
    full_s: Sequence[float]
    full_mb: Sequence[float | None]
    dense_s: Sequence[float]
    dense_mb: Sequence[float | None]
    sparse_s: Sequence[float]
    sparse_mb: Sequence[float | None]
    sparsity: Sequence[float]

    @property
    def dense_exponent(self) -> float:
        """Slope of log time over log categories, all contrasted."""
        return float(np.polyfit(np.log(self.categories), np.log(self.dense_s), 1)[0])

    @property
    def sparse_growth(self) -> float:
        """How many times longer the last number of categories takes than `growth_base`, with sparse weights."""
        return self.sparse_s[-1] / self.sparse_s[list(self.categories).index(self.growth_base)]

    @property
    def growth_base(self) -> int:
        """The paper's 188 categories, or the first number where they were not timed."""
        return 188 if 188 in self.categories else self.categories[0]

    def rows(self) -> list[tuple[str, str]]:
        """See `BenchResult`."""
        timed = ((self.full_s, self.full_mb), (self.dense_s, self.dense_mb), (self.sparse_s, self.sparse_mb))
        found = []
        for i, count in enumerate(self.categories):
            costs = [f"{milliseconds(seconds[i])}, {megabytes(peaks[i])}" for seconds, peaks in timed]
            found.append((f"{count} categories: all vertices; N = 32; sparse", "; ".join(costs)))
        growth = f"growth from {self.growth_base} to {self.categories[-1]} categories, sparse"
        exponent = ("growth exponent, all contrasted", f"{self.dense_exponent:.2f}")
        return [*found, exponent, (growth, times(self.sparse_growth))]


def bench_scale(
    *,
    categories: tuple[int, ...] = (47, 94, 188, 376, 752, 1504),
    pairs: float = 3.0,
    rounds: int = 7,
    device: str = "cpu",
) -> ScaleResult:
    """Time and memory of the loss step for each number of categories, all timed in turn.

    Args:
        categories: the numbers; pairs: contrasted categories per row where omega is sparse; rounds: how often each is
            timed; device: where.
    """
    dense = {count: LossProblem.random(count, device=device) for count in categories}
    weights = {count: sparse_weights(count, pairs).to(device) for count in categories}
    sparse = {count: dense[count].with_weights(weights[count]) for count in categories}
    full = {count: replace(dense[count], samples_per_category=None) for count in categories}
    kinds = {"full": full, "dense": dense, "sparse": sparse}
    tasks = {f"{kind} {count}": (lambda p=problems[count]: grouped_step(p))  # fmt: skip
             for count in categories for kind, problems in kinds.items()}  # fmt: skip
    seconds = time_in_turn(tasks, rounds=rounds)
    memory = {name: peak_mb(task, device) for name, task in tasks.items()}
    return ScaleResult(
        categories=list(categories),
        contrasted_pairs_per_row=pairs,
        full_s=[seconds[f"full {count}"] for count in categories],
        full_mb=[memory[f"full {count}"] for count in categories],
        dense_s=[seconds[f"dense {count}"] for count in categories],
        dense_mb=[memory[f"dense {count}"] for count in categories],
        sparse_s=[seconds[f"sparse {count}"] for count in categories],
        sparse_mb=[memory[f"sparse {count}"] for count in categories],
        # c of the weights above 0 are on the diagonal, which is no pair
        sparsity=[1 - float((weights[c] > 0).sum() - c) / (c * (c - 1)) for c in categories],
    )


def draw_scale(result: ScaleResult, path: Path) -> None:
    """Time of the loss step over the number of categories, as a PNG or SVG file (needs matplotlib).

    Raises:
        CompNetError: see `check_figure`; or the file cannot be written.
    """
    check_figure(path, "--figure")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    lines = {
        "all vertices contrasted (NOVUM)": result.full_s,
        "N = 32 of every category": result.dense_s,
        "N = 32 of those with omega > 0": result.sparse_s,
    }
    for label, seconds in lines.items():
        axes.plot(result.categories, [1000 * s for s in seconds], "o-", label=label)
    axes.set(xscale="log", yscale="log", xlabel="categories", ylabel="loss step [ms]")
    axes.set_xticks(result.categories, [str(count) for count in result.categories], minor=False)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)
