"""Measure the corruptions against the reference package's images and fill the tables of docs/results/corruptions.md.

python tools/corruption_table.py REFERENCE FROST docs/results/corruptions.md
python tools/corruption_table.py REFERENCE FROST docs/results/corruptions.md --package

REFERENCE holds clean.png and {name}_{1,4}.png, made by imagecorruptions-imaug 1.1.5 after numpy.random.seed(0); FROST
holds the six textures. With --package the images of all severities are made by that package, which must be installed
(numpy, scipy, pillow and this package's source are enough beside it), with a seed for the two corruptions that
otherwise draw from the system's entropy. Without a page, the table is printed.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from compnet3d.robustness.corruption import (  # fmt: skip
    CORRUPTIONS,
    DETERMINISTIC,
    corrupt,
    load_textures,
)
from compnet3d.robustness.corruption.strengths import Strengths

SEED_UNKNOWN = ("impulse_noise", "glass_blur")
DRAWS = 20
WHAT: dict[str, tuple[str, object]] = {
    "gaussian_noise": ("normal noise; deviation", Strengths.GAUSSIAN_NOISE),
    "shot_noise": ("Poisson noise; photons in white", Strengths.SHOT_NOISE),
    "impulse_noise": ("salt and pepper; share of the values", Strengths.IMPULSE_NOISE),
    "defocus_blur": ("disk; radius, softness of its edge", Strengths.DEFOCUS_BLUR),
    "glass_blur": ("pixels wander between two blurs; sigma, reach, rounds", Strengths.GLASS_BLUR),
    "motion_blur": ("along a line; half length, sigma", Strengths.MOTION_BLUR),
    "zoom_blur": ("mean of enlargements; last one (exclusive), step", Strengths.ZOOM_BLUR),
    "snow": ("flakes: mean, deviation, size, threshold, half length, sigma; colour kept", Strengths.SNOW),
    "frost": ("ice added; weight of image, of ice", Strengths.FROST),
    "fog": ("plasma fractal; thickness, decay", Strengths.FOG),
    "brightness": ("value of HSV raised by", Strengths.BRIGHTNESS),
    "contrast": ("drawn to the mean; what is left", Strengths.CONTRAST),
    "elastic_transform": ("smooth random displacement; factor", Strengths.ELASTIC_TRANSFORM),
    "pixelate": ("large pixels; size of the small image", Strengths.PIXELATE),
    "jpeg_compression": ("JPEG; quality", Strengths.JPEG_COMPRESSION),
    "speckle_noise": ("normal noise in proportion to the value; deviation", Strengths.SPECKLE_NOISE),
    "gaussian_blur": ("sigma", Strengths.GAUSSIAN_BLUR),
    "spatter": ("water, then mud: mean, deviation, sigma, threshold, strength", Strengths.SPATTER),
    "saturate": ("saturation of HSV; factor, offset", Strengths.SATURATE),
}


class Legacy:
    """The numbers of numpy.random.seed behind the names of a Generator, to draw what the reference package drew."""

    def __init__(self, seed: int = 0) -> None:
        self._state = np.random.RandomState(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, {"integers": "randint", "random": "random_sample"}.get(name, name))


def read(path: Path) -> np.ndarray:
    """An image, uint8 [H, W, 3]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def compare(reference: Path, frost: Path) -> str:
    """The table of all corruptions beside the images of severities 1 and 4."""
    clean, textures = read(reference / "clean.png"), load_textures(frost)
    lines = [
        "| corruption | what it does; its numbers in severities 1 to 5 | drawn again | largest difference | mean "
        "difference | values that differ | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in CORRUPTIONS:
        what, numbers = WHAT[name]
        head = f"| `{name}` | {what}: {shown(numbers)}"
        if name in SEED_UNKNOWN:
            lines.append(f"{head} | no | - | - | - | statistically equal, see below |")
            continue
        pairs = [(corrupt(clean, name, s, Legacy(), textures=textures), read(reference / f"{name}_{s}.png"))  # type: ignore[arg-type]
                 for s in (1, 4)]  # fmt: skip
        drawn = "nothing drawn" if name in DETERMINISTIC else "yes"
        lines.append(f"{head} | {drawn} | {difference(pairs)} |")
    return "\n".join([*lines, "", *statistics(reference, clean)])


def shown(numbers: object) -> str:
    """Numbers of the severities, those of one severity in brackets."""
    assert isinstance(numbers, tuple)
    parts = ["(" + ", ".join(f"{n:g}" for n in entry) + ")" if isinstance(entry, tuple) else f"{entry:g}"
             for entry in numbers]  # fmt: skip
    return ", ".join(parts)


def difference(pairs: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """Cells: the largest and the mean difference in grey levels, the share of values that differ, the verdict."""
    off = np.stack([np.abs(ours.astype(int) - theirs) for ours, theirs in pairs])
    level = int(off.max())
    verdict = "pixel-exact" if not level else f"within {level} grey level{'s' if level > 1 else ''}"
    return f"{level} | {off.mean():.4f} | {100 * (off > 0).mean():.3f} % | {verdict}"


def statistics(reference: Path, clean: np.ndarray) -> list[str]:
    """A table of the corruptions whose random numbers are not known: the reference's figures beside our draws."""
    metrics: dict[str, Callable[[np.ndarray], float]] = {
        "mean change": lambda image: float((image - clean).mean()),
        "deviation of the change": lambda image: float((image - clean).std()),
        "roughness down": lambda image: float(np.abs(np.diff(image, axis=0)).mean()),
        "roughness across": lambda image: float(np.abs(np.diff(image, axis=1)).mean()),
    }
    lines = [
        f"| corruption, severity | {' | '.join(f'{name}: theirs, ours' for name in metrics)} |",
        f"|---|{'---|' * len(metrics)}",
    ]
    for name in SEED_UNKNOWN:
        for severity in (1, 4):
            theirs = read(reference / f"{name}_{severity}.png").astype(float)
            ours = [corrupt(clean, name, severity, np.random.default_rng(k)).astype(float) for k in range(DRAWS)]
            cells = []
            for figure in metrics.values():
                values = [figure(image) for image in ours]
                cells.append(f"{figure(theirs):.2f}, {np.mean(values):.2f} ± {np.std(values):.2f}")
            lines.append(f"| `{name}`, {severity} | {' | '.join(cells)} |")
    return lines


def compare_package(reference: Path, frost: Path) -> str:
    """The table of all corruptions beside the installed reference package, in all severities."""
    from imagecorruptions import corruptions as package  # type: ignore[import-not-found]

    clean, textures = read(reference / "clean.png"), load_textures(frost)
    lines = [
        "| corruption | largest difference | mean difference | values that differ | verdict |",
        "|---|---|---|---|---|",
    ]
    for name in CORRUPTIONS:
        pairs = []
        for severity in range(1, 6):
            np.random.seed(severity)
            seeded = {"seed": severity} if name in SEED_UNKNOWN else {}
            theirs = np.asarray(getattr(package, name)(Image.fromarray(clean), severity, **seeded)).astype(np.uint8)
            rng = np.random.default_rng(severity) if name == "impulse_noise" else Legacy(severity)
            pairs.append((corrupt(clean, name, severity, rng, textures=textures), theirs))  # type: ignore[arg-type]
        lines.append(f"| `{name}` | {difference(pairs)} |")
    return "\n".join(lines)


def fill(page: Path, marker: str, table: str) -> None:
    """Replace what stands between <!-- marker --> and <!-- /marker -->."""
    text = page.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {marker} -->\n).*?(<!-- /{marker} -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"{page} has no place for {marker}")
    page.write_text(pattern.sub(lambda match: f"{match[1]}{table}\n{match[2]}", text), encoding="utf-8")


def main() -> None:
    """Measure, and print or fill in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    parser.add_argument("frost", type=Path)
    parser.add_argument("page", type=Path, nargs="?")
    parser.add_argument("--package", action="store_true")
    options = parser.parse_args()
    measure, marker = (compare_package, "package") if options.package else (compare, "pictures")
    table = measure(options.reference, options.frost)
    if options.page is None:
        print(table)
    else:
        fill(options.page, marker, table)


if __name__ == "__main__":
    main()
