"""The benchmarks' results as rows of text, for the terminal and the docs."""

from __future__ import annotations

from typing import Any


def rows(kind: str, result: dict[str, Any]) -> list[tuple[str, str]]:
    """What a benchmark has found: (what, how much), no two named alike.

    Args:
        kind: "loss", "classify", "pose", "step" or "scale"; result: as its `bench_*` function returned it.
    """
    return {"loss": _loss, "classify": _classify, "pose": _pose, "step": _step, "scale": _scale}[kind](result)


def _loss(r: dict[str, Any]) -> list[tuple[str, str]]:
    images = [("images in the batch", str(r["images"]))] if "images" in r else []  # 4 in files of an earlier version
    return [
        *images,
        ("floor: the matrix products and one exponential per logit", _ms(r["floor_s"])),
        ("grouped loss step (Eq. 5, gradient, bank)", f"{_ms(r['grouped_s'])}, {_mb(r['grouped_peak_mb'])}"),
        ("grouped over floor", _times(r["grouped_over_floor"])),
        (
            f"grouped step with {r['contrasted_pairs_per_row']:g} contrasted categories per image",
            f"{_ms(r['sparse_s'])}, {_times(r['grouped_over_sparse'])} faster",
        ),
        (
            "exact full contrast, all vertices of all categories",
            f"{_ms(r['full_fused_s'])}, {_mb(r['full_fused_peak_mb'])}",
        ),
        ("exact full contrast over its own floor", _times(r["full_fused_over_floor"])),
        ("exact full contrast over grouped", _times(r["full_fused_over_grouped"])),
        (
            "full contrast as usually written (NOVUM)",
            f"{_ms(r['novum_s'])}, {_mb(r['novum_peak_mb'])}",
        ),
        ("NOVUM over grouped", _times(r["novum_over_grouped"])),
    ]


def _classify(r: dict[str, Any]) -> list[tuple[str, str]]:
    found = [
        ("floor: the matrix products and one maximum per similarity", _ms(r["floor_s"])),
        ("exhaustive matching (Eq. 7)", f"{_ms(r['exhaustive_s'])}, {_mb(r['exhaustive_peak_mb'])}"),
        ("exhaustive over floor", _times(r["exhaustive_over_floor"])),
        ("pruned matching", f"{_ms(r['pruned_s'])}, {_mb(r['pruned_peak_mb'])}"),
        ("exhaustive over pruned", _times(r["exhaustive_over_pruned"])),
        *((f"pruned matching, {count} categories", _ms(seconds)) for count, seconds in r["growth"].items()),
    ]
    if r["agreement"] is not None:
        found += [
            (
                f"same category, {r['agreement_images']} images of {r['agreement_categories']} categories",
                f"{100 * r['agreement']:.2f} %",
            ),
            (
                "category right, exhaustive and pruned",
                f"{100 * r['exhaustive_accuracy']:.2f} %, {100 * r['pruned_accuracy']:.2f} %",
            ),
        ]
    return found


def _pose(r: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("search over 144 starts, similarities given, per image", _ms(r["search_s"])),
        ("one category: similarities and search, per image", _ms(r["category_s"])),
        ("whole estimate with 30 refinement steps, per image", f"{_ms(r['estimate_s'])}, {_mb(r['estimate_peak_mb'])}"),
        (f"search over all {r['categories']} categories, per image", _ms(r["all_categories_s"])),
        ("all categories over one", _times(r["all_categories_ratio"])),
        ("start table of a category", _mb(r["start_table_mb"])),
        (
            "the estimate by rendering feature maps, one image",
            f"{_ms(r['rendered_maps_s'])}, {_mb(r['rendered_maps_peak_mb'])}",
        ),
        ("rendering feature maps over ours, one image", _times(r["rendered_maps_over_estimate"])),
    ]


def _step(r: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for name in r["overhead"]:
        # files of an earlier version say how many images only once, and nothing of memory
        images = r["batch"][name] if "batch" in r else r["images"]
        found.append((f"{name}: extractor forward and backward, {images} images", _ms(r["bare_s"][name])))
        more = f"{100 * r['overhead'][name]:+.1f} %" + (f", {_mb(r['peak_mb'][name])}" if "peak_mb" in r else "")
        found.append((f"{name}: whole training step", f"{_ms(r['step_s'][name])}, {more}"))
    return [*found, (f"waiting for images, {r['workers']} workers", f"{100 * r['input_wait']:.1f} % of an epoch")]


def _scale(r: dict[str, Any]) -> list[tuple[str, str]]:
    keys = ("categories", "full_s", "full_mb", "dense_s", "dense_mb", "sparse_s", "sparse_mb")
    columns = zip(*(r[key] for key in keys), strict=True)
    found = [
        (
            f"{count} categories: all vertices; N = 32; sparse",
            f"{_ms(a)}, {_mb(b)}; {_ms(c)}, {_mb(d)}; {_ms(e)}, {_mb(f)}",
        )
        for count, a, b, c, d, e, f in columns
    ]
    growth = next(key for key in r if key.startswith("sparse_growth_"))
    first, last = growth.split("_")[-2:]
    return [
        *found,
        ("growth exponent, all contrasted", f"{r['dense_exponent']:.2f}"),
        (f"growth from {first} to {last} categories, sparse", _times(r[growth])),
    ]


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.1f} ms"


def _mb(megabytes: float | None) -> str:
    return "memory unknown" if megabytes is None else f"{megabytes:,.1f} MB"


def _times(ratio: float) -> str:
    return f"{ratio:.2f} x"
