"""Draw a model's predictions on test images: correct ones for the README, or wrong ones.

python tools/readme_image.py runs/quickstart/run runs/quickstart/data docs/images/quickstart.jpg
python tools/readme_image.py runs/cars runs/cars/data wrong.jpg --wrong [--crop box] [--backgrounds DIR]

The rule for correct ones: of every n-th category that has one, the first test image on which the category is right and
the rotation less than pi/18 off, both clean and occluded (L1, blobs). For wrong ones, whose category is wrong or whose
rotation is more than pi/6 off: every n-th of all of them in the order of the list. Each column is one image, as it is
and with the predicted category's model drawn at the predicted pose, first clean, then occluded (correct ones only).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.sample import Sample
from compnet3d.data.transforms import CropMode
from compnet3d.evaluation.crops import EvaluationCrops
from compnet3d.evaluation.evaluate import evaluate
from compnet3d.evaluation.result import Record
from compnet3d.evaluation.unseen import common_samples
from compnet3d.models.compnet import CompNet
from compnet3d.reporting.evaluation_report import draw_prediction
from compnet3d.reporting.overlays import enlarge
from compnet3d.robustness.shift import Shift

SIDE, GAP, CAPTION = 160, 4, 20
LARGEST_ERROR, WRONG_FROM = math.pi / 18, math.pi / 6


def main() -> None:
    """Evaluate both conditions, choose the images by the rule, write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--wrong", action="store_true")
    parser.add_argument("--crop", choices=["oracle", "box"], default="oracle")
    parser.add_argument("--backgrounds", type=Path)
    options = parser.parse_args()
    model, dataset = CompNet.from_pretrained(options.model), ImageNet3D(options.data)
    samples = common_samples(dataset.samples("val"), model.categories)
    backgrounds = None if options.backgrounds is None else str(options.backgrounds)
    plain = Shift(backgrounds=backgrounds)
    views = [
        View(shift, options.crop) for shift in ((plain,) if options.wrong else (plain, replace(plain, occlusion="L1")))
    ]
    conditions = [
        evaluate(model, samples, shift=view.shift, crop=view.crop, symmetry=dataset.symmetry).records for view in views
    ]
    chosen = choose_wrong(conditions[0], options.columns) if options.wrong else choose(conditions, options.columns)
    sheet = draw_sheet(model, samples, list(zip(views, conditions, strict=True)), chosen)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out, optimize=True, quality=92)
    print(f"wrote {options.out}: {', '.join(samples[index].name for index in chosen)}")


@dataclass(frozen=True)
class View:
    """How the test images are looked at."""

    shift: Shift
    crop: CropMode


def choose_wrong(records: Sequence[Record], count: int) -> list[int]:
    """Numbers of images whose answer is wrong, `count` of them, spread evenly over all of these."""
    found = [index for index, record in enumerate(records) if is_wrong(record)]
    return found[:: max(1, len(found) // count)][:count]


def is_wrong(record: Record) -> bool:
    """Whether the category is wrong or the rotation far off, symmetric turns of the object allowed."""
    return not record.correct or record.symmetric_error_predicted_category > WRONG_FROM


def choose(conditions: Sequence[Sequence[Record]], count: int) -> list[int]:
    """Numbers of the images that the rule takes, `count` of them, spread evenly over the categories."""
    first: dict[str, int] = {}
    for index, records in enumerate(zip(*conditions, strict=True)):
        if all(is_correct(record) for record in records):
            first.setdefault(records[0].category, index)
    found = list(first.values())
    return found[:: max(1, len(found) // count)][:count]


def is_correct(record: Record) -> bool:
    """Whether the category is right and the rotation nearly so, symmetric turns of the object allowed."""
    return record.correct and record.symmetric_error_predicted_category < LARGEST_ERROR


def draw_sheet(
    model: CompNet, samples: Sequence[Sample], rows: Sequence[tuple[View, Sequence[Record]]], chosen: Sequence[int]
) -> Image.Image:
    """One column for each image; for each condition the crop, below it the prediction and its error."""
    pair = 2 * (SIDE + GAP) + CAPTION
    sheet = Image.new("RGB", (len(chosen) * (SIDE + GAP) - GAP, len(rows) * pair), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, (view, records) in enumerate(rows):
        crops = EvaluationCrops(samples, model.categories, model.input_config, crop=view.crop, shift=view.shift)
        for column, index in enumerate(chosen):
            image, record = crops.crop_at(index).image, records[index]
            left, top = column * (SIDE + GAP), row * pair
            for number, pixels in enumerate([enlarge(image, min_side=SIDE), draw_prediction(model, image, record)]):
                tile = Image.fromarray(np.asarray(pixels)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
                sheet.paste(tile, (left, top + number * (SIDE + GAP)))
            error = math.degrees(record.symmetric_error_predicted_category)
            # of another category than the true one no pose is right
            text = (
                f"{record.predicted}, {error:.0f}° off"
                if record.correct
                else f"{record.predicted}, is {record.category}"
            )
            draw.text((left + 4, top + 2 * (SIDE + GAP)), text, fill="black", font=font)
    return sheet


if __name__ == "__main__":
    main()
