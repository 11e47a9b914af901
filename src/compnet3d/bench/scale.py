"""How the loss step grows with the number of categories (figure 2 of the paper, measured)."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from compnet3d.bench.loss import LossProblem, grouped_step, sparse_weights
from compnet3d.bench.timing import peak_mb, time_in_turn
from compnet3d.errors import CompNetError
from compnet3d.reporting.plots import require_matplotlib
from compnet3d.utils.files import write_bytes

CATEGORIES = (47, 94, 188, 376, 752, 1504)


def bench_scale(
    *, categories: tuple[int, ...] = CATEGORIES, pairs: float = 3.0, rounds: int = 7, device: str = "cpu"
) -> dict[str, Any]:
    """Time and memory of the loss step for each number of categories, all timed in turn.

    Args:
        categories: the numbers; pairs: contrasted categories per row where omega is sparse; rounds: how often each is
            timed; device: where.

    Returns:
        categories, full_s, dense_s and sparse_s (medians; full contrasts with all vertices, as NOVUM does, dense and
        sparse with N = 32 of each category; dense is omega = 1 everywhere), full_mb, dense_mb and sparse_mb (peaks),
        dense_exponent (slope of log time over log categories), sparse_growth (last over the entry for 188, or over the
        first), sparsity (share of pairs of categories with weight 0, for each number).
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
    base = 188 if 188 in categories else categories[0]
    dense_s = [seconds[f"dense {count}"] for count in categories]
    result: dict[str, Any] = {
        "categories": list(categories),
        "full_s": [seconds[f"full {count}"] for count in categories],
        "full_mb": [memory[f"full {count}"] for count in categories],
        "dense_s": dense_s,
        "sparse_s": [seconds[f"sparse {count}"] for count in categories],
        "dense_mb": [memory[f"dense {count}"] for count in categories],
        "sparse_mb": [memory[f"sparse {count}"] for count in categories],
        "dense_exponent": float(np.polyfit(np.log(categories), np.log(dense_s), 1)[0]),
        f"sparse_growth_{base}_{categories[-1]}": seconds[f"sparse {categories[-1]}"] / seconds[f"sparse {base}"],
        "sparsity": [1 - float((weights[c] > 0).sum() - c) / (c * (c - 1)) for c in categories],
        "contrasted_pairs_per_row": pairs,
    }
    return result


def check_figure(path: Path) -> None:
    """Check that `draw_scale` will be able to draw into this file.

    Raises:
        CompNetError: if its ending is not .png or .svg, or matplotlib is not installed.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise CompNetError(f"--figure {path}: give it a name that ends in .png or .svg")
    require_matplotlib()


def draw_scale(result: dict[str, Any], path: Path) -> None:
    """Time of the loss step over the number of categories, as a PNG or SVG file (needs matplotlib).

    Raises:
        CompNetError: see `check_figure`; or the file cannot be written.
    """
    check_figure(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    labels = {
        "full_s": "all vertices contrasted (NOVUM)",
        "dense_s": "N = 32 of every category",
        "sparse_s": "N = 32 of those with omega > 0",
    }
    for key, label in labels.items():
        axes.plot(result["categories"], [1000 * s for s in result[key]], "o-", label=label)
    axes.set(xscale="log", yscale="log", xlabel="categories", ylabel="loss step [ms]")
    axes.set_xticks(result["categories"], [str(count) for count in result["categories"]], minor=False)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower(), dpi=150)
    write_bytes(path, buffer.getvalue())
