"""How much of Eq. 8 there should be beside Eq. 7 in the score that names an object (`reconstruction_share`).

    python research/names_by_reconstruction.py RUN DATA OCCLUDERS [--every 1] [--shares 0 0.5 0.6667 1]

Prints the share of the list val's images that are named right, clean, at each level of occlusion and in weather at
severity 4, for each share.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from compnet3d import CompNet
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.evaluation.crops import EvaluationViews, view_loader

WEATHER = ("brightness", "snow", "fog")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("occluders", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 1 / 2, 2 / 3, 1])
    arguments = parser.parse_args()
    model = CompNet.from_pretrained(arguments.run)
    samples = ImageNet3D(arguments.data).samples("val")[:: arguments.every]
    conditions: dict[str, dict[str, Any]] = {"clean": {}}
    conditions |= {level: {"occlusion": level, "occluders": arguments.occluders} for level in ("L1", "L2", "L3")}
    conditions |= {name: {"corruption": name, "severity": 4} for name in WEATHER}
    right = {name: [0] * len(arguments.shares) for name in conditions}
    for name, options in conditions.items():
        for batch in view_loader(EvaluationViews(samples, model.categories, model.spec, **options), 64):
            for number, share in enumerate(arguments.shares):
                model.config = replace(model.config, reconstruction_share=share)
                named = model.classify_views(batch["image"]).argmax(dim=1)
                right[name][number] += int((named == batch["category"]).sum())
    print("| share | " + " | ".join(conditions) + " |")
    print("|---:|" + "---:|" * len(conditions))
    for number, share in enumerate(arguments.shares):
        figures = [f"{100 * right[name][number] / len(samples):.1f}" for name in conditions]
        print(f"| {share:.2f} | " + " | ".join(figures) + " |")


if __name__ == "__main__":
    main()
