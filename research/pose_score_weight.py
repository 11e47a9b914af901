"""How much of Eq. 8 there should be beside Eq. 7 in the score that classifies an object (`pose_score_weight`).

    python research/pose_score_weight.py RUN DATA OCCLUDERS [--every 1] [--weights 0 0.5 0.6667 1]

Prints the accuracy on the list val's images, clean, at each level of occlusion and in weather at severity 4, for each
weight.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from compnet3d import CompNet
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.evaluation.crops import EvaluationCrops, Loading, crop_loader
from compnet3d.robustness.occlusion import Level
from compnet3d.robustness.shift import Shift

LEVELS: tuple[Level, ...] = ("L1", "L2", "L3")
WEATHER = ("brightness", "snow", "fog")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("occluders", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--weights", type=float, nargs="+", default=[0, 1 / 2, 2 / 3, 1])
    arguments = parser.parse_args()
    model = CompNet.from_pretrained(arguments.run)
    samples = ImageNet3D(arguments.data).samples("val")[:: arguments.every]
    conditions = {"clean": Shift()}
    conditions |= {level: Shift(level, occluders=str(arguments.occluders)) for level in LEVELS}
    conditions |= {name: Shift(corruption=name, severity=4) for name in WEATHER}
    correct = {name: [0] * len(arguments.weights) for name in conditions}
    for name, shift in conditions.items():
        crops = EvaluationCrops(samples, model.categories, model.input_config, shift=shift)
        for batch in crop_loader(crops, Loading(64)):
            for number, weight in enumerate(arguments.weights):
                model.config = replace(model.config, pose_score_weight=weight)
                predicted = model.classify_crops(batch["image"]).argmax(dim=1)
                correct[name][number] += int((predicted == batch["category"]).sum())
    print("| weight | " + " | ".join(conditions) + " |")
    print("|---:|" + "---:|" * len(conditions))
    for number, weight in enumerate(arguments.weights):
        accuracies = [f"{100 * correct[name][number] / len(samples):.1f}" for name in conditions]
        print(f"| {weight:.2f} | " + " | ".join(accuracies) + " |")


if __name__ == "__main__":
    main()
