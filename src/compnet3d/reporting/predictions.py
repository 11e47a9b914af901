"""Predictions for image files: a table, JSON, and images with the projected model drawn over the image."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from compnet3d.data.images import load_image
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Camera
from compnet3d.inference.prediction import Prediction
from compnet3d.reporting.terminal import new_table, percent, terminal
from compnet3d.utils.files import Json, write_bytes, write_json

if TYPE_CHECKING:
    from compnet3d.models.registry import TrainedModel


def predict_files(
    model: TrainedModel,
    paths: Sequence[Path],
    *,
    box: Sequence[float] | None = None,
    json_file: Path | None = None,
    overlay: Path | None = None,
) -> None:
    """Predict every file and print, write and draw what was asked for.

    Of several files, one that cannot be read is reported on stderr and left out; the others are predicted all the same.

    Args:
        model: the model.
        paths: image files.
        box: (x1, y1, x2, y2) in pixels, used for every image; None takes whole images.
        json_file: where to write the predictions; "-" for the standard output, which then replaces the table.
        overlay: folder for the images, made if need be.

    Raises:
        CompNetError: after everything else is done, if a file could not be read or predicted.
    """
    answers: list[Json] = []
    failures: list[str] = []
    names = _overlay_names(paths)
    batch = 16
    for start in range(0, len(paths), batch):
        images: dict[Path, Image.Image] = {}
        # a path that is named twice is predicted once
        for path in dict.fromkeys(paths[start : start + batch]):
            try:
                image = load_image(path)
                _check_box(path, image, box)
                images[path] = image
            except CompNetError as error:
                # nothing else to go on with: the error itself is the answer
                if len(paths) == 1:
                    raise
                failures.append(str(error))
                print(f"skipped: {error}", file=sys.stderr)
        if not images:
            continue
        boxes = None if box is None else [list(box)] * len(images)
        prediction = model.predict(list(images.values()), boxes=boxes)
        rows = zip(images.items(), prediction.to_dicts(), strict=True)
        for i, ((path, image), answer) in enumerate(rows):
            answers.append({"image": str(path)} | answer)
            if overlay is not None:
                _save_overlay(overlay / names[path], model, image, prediction, i)
    _report(answers, json_file, overlay)
    if failures:
        raise CompNetError(f"{len(failures)} of {len(paths)} images could not be predicted: {failures[0]}")


def _check_box(path: Path, image: Image.Image, box: Sequence[float] | None) -> None:
    if box is not None and (box[2] <= 0 or box[3] <= 0 or box[0] >= image.width or box[1] >= image.height):
        raise CompNetError(
            f"{path}: the box {' '.join(f'{x:g}' for x in box)} lies outside the image of "
            f"{image.width} x {image.height} pixels"
        )


def _report(answers: Sequence[Json], json_file: Path | None, overlay: Path | None) -> None:
    if json_file == Path("-"):
        print(json.dumps(list(answers), indent=2))
        return
    print_predictions(answers)
    if json_file is not None:
        write_json(json_file, list(answers))
        print(f"wrote {json_file}")
    if overlay is not None and answers:
        print(f"wrote {len(answers)} images to {overlay}")


def print_predictions(answers: Sequence[Json]) -> None:
    """Print one line per image: category, confidence, pose in degrees."""
    from rich.text import Text

    numbers = ("confidence\n[%]", "azimuth\n[deg]", "elevation\n[deg]", "in-plane\nrotation\n(theta)\n[deg]")
    caption = (
        "azimuth 0 shows the front, 90 the side that is on the right then; "
        "in-plane rotation turns the image counter-clockwise"
    )
    table = new_table("", ["image", "category"], numbers, caption)
    longest = max((len(answer["category"]) for answer in answers), default=0)
    table.columns[1].min_width = min(longest, 24)  # folds the image's path, not the category
    for answer in answers:
        angles = [shown_degrees(answer[name]) for name in ("azimuth", "elevation", "theta")]
        table.add_row(Text(answer["image"]), Text(answer["category"]), percent(answer["confidence"]), *angles)
    terminal().print(table)


def shown_degrees(angle: float) -> str:
    """An angle of -pi ... pi in degrees with one decimal, in (-180, 180]: what rounds to -180 is the same as 180."""
    rounded = round(math.degrees(angle), 1)
    return f"{180.0 if rounded == -180 else rounded + 0.0:.1f}"  # adding zero drops the sign of -0.0


def _overlay_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A file name for each image: the image's own stem, numbered where several images share it."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in dict.fromkeys(paths):
        name, number = path.stem, 1
        while name in taken:
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name)
        names[path] = f"{name}.png"
    return names


def _save_overlay(path: Path, model: TrainedModel, image: Image.Image, prediction: Prediction, i: int) -> None:
    largest_overlay = 1600
    from compnet3d.reporting import overlays

    # an image of 50 megapixels would take long to draw and to look at
    shrink = min(1.0, largest_overlay / max(image.size))
    size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
    camera = Camera(
        focal=prediction.focal[i].cpu() * shrink,
        principal_point=prediction.principal_point[i].cpu()
        * torch.tensor([size[0] / image.width, size[1] / image.height]),
        height=size[1],
        width=size[0],
    )
    small = image if shrink == 1.0 else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    drawn = overlays.draw_overlay(small, model.mesh(prediction[i].category), prediction.pose[i].to("cpu"), camera)
    write_bytes(path, overlays.encode_png(drawn))
