"""Draw the README's picture: predictions of a model on the val list, one image of each of the first categories.

python tools/make_picture.py runs/quickstart/run runs/quickstart/data docs/images/quickstart.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.evaluation.crops import EvaluationViews
from compnet3d.evaluation.evaluate import evaluate
from compnet3d.models.compnet import CompNet
from compnet3d.reporting import overlays
from compnet3d.reporting.evaluation_report import draw_prediction

SIDE, COLUMNS, CAPTION = 180, 6, 22


def main() -> None:
    """Take one image of each category, whatever the prediction, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=12)
    options = parser.parse_args()
    model, dataset = CompNet.from_pretrained(options.model), ImageNet3D(options.data)
    samples = dataset.samples("val")
    first = {sample.category: sample for sample in reversed(samples)}
    chosen = [first[name] for name in dataset.categories[: options.count]]
    _, records = evaluate(model, chosen, return_records=True, symmetry=dataset.symmetry, progress=False)
    views = EvaluationViews(chosen, model.categories, model.spec)
    rows = -(-len(chosen) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * SIDE, rows * (2 * SIDE + CAPTION)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for record in records:
        row, column = divmod(record.index, COLUMNS)
        left, top = column * SIDE, row * (2 * SIDE + CAPTION)
        image = views.view(record.index).image
        pictures = [overlays.enlarge(image, min_side=SIDE), draw_prediction(model, image, record)]
        for number, picture in enumerate(pictures):
            tile = Image.fromarray(np.asarray(picture)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(tile, (left, top + number * SIDE))
        text = f"{record.predicted}, {np.degrees(record.symmetric_error_predicted_category):.0f}° off"
        colour = "black" if record.right else "#b00020"
        draw.text((left + 4, top + 2 * SIDE + 3), text, fill=colour, font=font)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out, optimize=True)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
