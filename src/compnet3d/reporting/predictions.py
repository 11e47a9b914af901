"""Predictions for image files: a table, JSON, and images with the projected model drawn over the image."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from compnet3d.data.images import load_image
from compnet3d.data.transforms import BoxCrop, InputConfig, crop_box
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Camera
from compnet3d.inference.prediction import SinglePrediction, predict_boxes
from compnet3d.reporting.terminal import new_table, percent, terminal
from compnet3d.utils.exclusive import exclusive
from compnet3d.utils.files import Json, read_bytes, write_bytes, write_json
from compnet3d.utils.text import printable

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
        overlay: folder for the images, made if need be. Of what it holds, only earlier overlays are replaced.

    Raises:
        CompNetError: if an overlay would replace something else, or another process writes into that folder; after
            everything else is done, if a file could not be read or predicted.
    """
    with nullcontext() if overlay is None else exclusive(overlay):
        _predict_files(model, paths, box, json_file, overlay)


def _predict_files(
    model: TrainedModel,
    paths: Sequence[Path],
    box: Sequence[float] | None,
    json_file: Path | None,
    overlay: Path | None,
) -> None:
    """`predict_files` in a folder of overlays that is ours."""
    answers: list[Json] = []
    failures: list[str] = []
    if overlay is not None:
        _check_overlays([overlay / name for name in _overlay_names(paths).values()])
    try:
        for found in _predicted(model, paths, box, overlay, failures):
            answers += found
    except BaseException:
        # whatever stops it, Ctrl-C or a fault of ours: what has been predicted is not lost
        if answers:
            _report(answers, json_file, overlay)
        raise
    _report(answers, json_file, overlay)
    if failures:
        raise CompNetError(f"{len(failures)} of {len(paths)} images could not be predicted: {failures[0]}")


def _predicted(
    model: TrainedModel, paths: Sequence[Path], box: Sequence[float] | None, overlay: Path | None, failures: list[str]
) -> Iterator[list[Json]]:
    """The answers batch by batch; what cannot be read is reported and joins the `failures`."""
    names = _overlay_names(paths)
    batch = 16
    for start in range(0, len(paths), batch):
        cut: dict[Path, _Cut] = {}
        # a path that is named twice is predicted once
        for path in dict.fromkeys(paths[start : start + batch]):
            try:
                cut[path] = _Cut.of(path, box, model.input_config, keep=overlay is not None)
            except CompNetError as error:
                # nothing else to go on with: the error itself is the answer
                if len(paths) == 1:
                    raise
                failures.append(str(error))
                print(f"skipped: {printable(str(error))}", file=sys.stderr)
        if not cut:
            continue
        prediction = predict_boxes(model, [one.crop for one in cut.values()])
        rows = zip(cut.items(), prediction, prediction.to_dicts(), strict=True)
        answers = []
        for (path, one), single, answer in rows:
            if overlay is not None:
                _save_overlay(overlay / names[path], model, one, single)
            answers.append({"image": str(path)} | answer)
        yield answers


@dataclass(frozen=True)
class _Cut:
    """What is kept of an image: its crop, its (width, height) and, for the overlay, a copy of at most 1600 pixels."""

    crop: BoxCrop
    size: tuple[int, int]
    small: Image.Image | None

    @classmethod
    def of(cls, path: Path, box: Sequence[float] | None, config: InputConfig, keep: bool) -> _Cut:
        """Read an image and cut the box out; with `keep` the small copy is made.

        Raises:
            CompNetError: naming the file, if it cannot be read or has nothing in the box.
        """
        image = load_image(path)
        try:
            crop = crop_box(image, box, config)
        except CompNetError as error:
            raise CompNetError(f"{path}: {error}") from None
        return cls(crop, image.size, _shrunk(image) if keep else None)


def _shrunk(image: Image.Image) -> Image.Image:
    largest_overlay = 1600
    # an image of 50 megapixels would take long to draw and to look at
    shrink = min(1.0, largest_overlay / max(image.size))
    size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
    return image if shrink == 1.0 else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _report(answers: Sequence[Json], json_file: Path | None, overlay: Path | None) -> None:
    if json_file == Path("-"):
        print(json.dumps(list(answers), indent=2))
        return
    try:
        if json_file is not None:
            # before the table, which a broken pipe or an odd terminal may stop
            write_json(json_file, list(answers))
    finally:
        # also where the file cannot be written
        print_predictions(answers)
    if json_file is not None:
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
        words = (Text(printable(answer[name])) for name in ("image", "category"))
        table.add_row(*words, percent(answer["confidence"]), *angles)
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


def _check_overlays(paths: Sequence[Path]) -> None:
    """Check that none of them stands where something else than an overlay is, such as the image itself."""
    for path in paths:
        if os.path.lexists(path) and not _is_overlay(path):
            raise CompNetError(f"{path}: is there already and is no overlay; give --overlay another folder")


def _is_overlay(path: Path) -> bool:
    try:
        with Image.open(io.BytesIO(read_bytes(path)), formats=("PNG",)) as image:
            return image.info.get("Software") == "compnet3d"
    except (CompNetError, OSError, ValueError, SyntaxError):
        return False


def _save_overlay(path: Path, model: TrainedModel, cut: _Cut, answer: SinglePrediction) -> None:
    from compnet3d.reporting import overlays

    assert cut.small is not None
    (width, height), size = cut.size, cut.small.size
    camera = Camera(
        focal=torch.tensor(answer.focal) * (max(size) / max(cut.size)),
        principal_point=answer.principal_point.cpu() * torch.tensor([size[0] / width, size[1] / height]),
        height=size[1],
        width=size[0],
    )
    drawn = overlays.draw_overlay(cut.small, model.mesh(answer.category), answer.pose.to("cpu"), camera)
    write_bytes(path, overlays.encode_png(drawn))
