"""Predictions for pictures: a table, files, and pictures with the projected models drawn over them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from compnet3d.data.box_files import BoxFile
from compnet3d.data.sources import Picture, Source
from compnet3d.data.transforms import BoxCrop, InputConfig, crop_box
from compnet3d.errors import CompNetError
from compnet3d.inference.detection import Box, Detector
from compnet3d.inference.prediction import SinglePrediction, predict_boxes
from compnet3d.reporting.explanation_sheets import ExplanationSheets
from compnet3d.reporting.prediction_files import FORMATS, Convention, answer_entry, as_json_lines
from compnet3d.reporting.prediction_overlays import Drawn, PictureOverlays
from compnet3d.reporting.terminal import new_table, percent, shown_category, terminal
from compnet3d.utils.exclusive import exclusive
from compnet3d.utils.files import Json, write_text
from compnet3d.utils.progress import tracked
from compnet3d.utils.text import printable

if TYPE_CHECKING:
    from compnet3d.models.registry import TrainedModel

STANDARD_OUTPUT = Path("-")


@dataclass(frozen=True)
class Places:
    """Where the objects are in a picture: the first of these that is set says it; without any it is taken as a whole.

    Attributes:
        box: (x1, y1, x2, y2) in pixels, the same in every picture.
        file: boxes of each picture.
        detector: finds them, `objects` at most.
    """

    box: tuple[float, float, float, float] | None = None
    file: BoxFile | None = None
    detector: Detector | None = None
    objects: int = 1

    def of(self, picture: Picture, image: Image.Image) -> list[tuple[Box | None, Json]]:
        """The boxes, and what a detector says of each.

        Raises:
            CompNetError: if the file of boxes has none for the picture.
        """
        if self.box is not None:
            return [(self.box, {})]
        if self.file is not None:
            return [(box, {}) for box in self.file.of(picture.name, picture.frame)]
        if self.detector is None:
            return [(None, {})]
        return detected_boxes(self.detector, image, self.objects)


def detected_boxes(detector: Detector, image: Image.Image, count: int) -> list[tuple[Box | None, Json]]:
    """At most so many boxes that a detector finds in an image, and what it says of each."""
    found = detector.detect(image, count)
    labels = found.labels or (None,) * len(found)
    rows = zip(found.boxes.tolist(), found.scores.tolist(), labels, strict=True)
    return [(box, {"detection": {"score": score, "label": label}}) for box, score, label in rows]


@dataclass(frozen=True)
class CutObjects:
    """What is kept of the objects of a picture: their crops, and what goes into the answer of each beside it."""

    crops: list[BoxCrop]
    details: list[Json]

    @classmethod
    def of(
        cls, image: Image.Image, places: Sequence[tuple[Box | None, Json]], config: InputConfig, title: str
    ) -> CutObjects:
        """Cut out the boxes; None stands for the whole image.

        Raises:
            CompNetError: with the picture's title, if there is nothing in a box.
        """
        try:
            return cls([crop_box(image, box, config) for box, _ in places], [more for _, more in places])
        except CompNetError as error:
            raise CompNetError(f"{title}: {error}") from None


@dataclass(frozen=True)
class Outputs:
    """What is made of the predictions, beside the table.

    Attributes:
        files: by their format (`prediction_files.FORMATS`); "-" is the standard output, which then has no table.
        overlay: folder for pictures and videos with the projected models drawn over them, made if need be. Of what it
            holds, only earlier overlays are replaced.
        explain: folder for a sheet for each object that shows why the model answers so, likewise.
        convention: also gives poses as that library wants them.
        degrees: angles in degrees (azimuth_deg, ...) instead of radians.
    """

    files: dict[str, Path] = field(default_factory=dict)
    overlay: Path | None = None
    explain: Path | None = None
    convention: Convention = "compnet3d"
    degrees: bool = False

    @property
    def on_standard_output(self) -> str | None:
        """The format that is written there."""
        return next((name for name, path in self.files.items() if path == STANDARD_OUTPUT), None)


def predict_sources(
    model: TrainedModel,
    sources: Sequence[Source],
    places: Places | None = None,
    outputs: Outputs | None = None,
    *,
    every: int = 1,
) -> None:
    """Predict every picture and print, write and draw what was asked for.

    Of several pictures, one that cannot be read is reported on stderr and left out; the others are predicted all the
    same. Whatever stops it, Ctrl-C at a camera or a fault of ours, what has been predicted is not lost.

    Args:
        model: the model.
        sources: images, videos, cameras.
        places: where the objects are; without it pictures are taken as a whole.
        outputs: what is made of the predictions; without it a table.
        every: of a video or camera, every so many-th frame.

    Raises:
        CompNetError: if an overlay would replace something else, or another process writes into that folder; after
            everything else is done, if a picture could not be read or predicted.
    """
    outputs = outputs or Outputs()
    with ExitStack() as held:
        for folder in dict.fromkeys(path for path in (outputs.overlay, outputs.explain) if path is not None):
            held.enter_context(exclusive(folder))
        run = _Run(model, places or Places(), outputs, every)
        try:
            run.predict(sources)
        except BaseException:
            # whatever stops it: what has been predicted is not lost
            if run.answers:
                _report(run.answers, outputs)
            raise
        _report(run.answers, outputs)
    if run.failures:
        raise CompNetError(f"{len(run.failures)} of {run.seen} images could not be predicted: {run.failures[0]}")


@dataclass
class _Run:
    """One run of `predict_sources` and what it has come to."""

    model: TrainedModel
    places: Places
    outputs: Outputs
    every: int
    answers: list[Json] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seen: int = 0
    overlays: PictureOverlays | None = None
    sheets: ExplanationSheets | None = None

    def predict(self, sources: Sequence[Source]) -> None:
        """Batch by batch; what cannot be read is reported and joins the `failures`."""
        alone = len(sources) == 1 and not sources[0].moving
        moving = any(source.moving for source in sources)
        pictures = (picture for source in sources for picture in self._pictures(source, alone))
        shown = sys.stderr.isatty() and not alone and self.outputs.on_standard_output is None
        steps = iter(tracked(pictures, "predicting", enabled=shown, total=None if moving else len(sources)))
        batch = 1 if any(source.live for source in sources) else 16
        overlay, explain = self.outputs.overlay, self.outputs.explain
        with ExitStack() as stack:
            if overlay is not None:
                self.overlays = PictureOverlays(overlay, self.model, stack)
                self.overlays.claim(sources, self.every)
            if explain is not None:
                self.sheets = ExplanationSheets(explain, self.model, sources)
            while some := list(islice(steps, batch)):
                self._predict_batch(some, alone)

    def _pictures(self, source: Source, alone: bool) -> Iterator[Picture]:
        try:
            yield from source.pictures(self.every)
        except CompNetError as error:
            self.seen += 1  # what could not be opened counts as one
            self._fail(error, alone)

    def _fail(self, error: CompNetError, alone: bool) -> None:
        # nothing else to go on with: the error itself is the answer
        if alone:
            raise error
        self.failures.append(str(error))
        print(f"skipped: {printable(str(error))}", file=sys.stderr)

    def _predict_batch(self, pictures: Sequence[Picture], alone: bool) -> None:
        cut: list[_Cut] = []
        for picture in pictures:
            self.seen += 1
            try:
                cut.append(_Cut.of(picture, self.places, self.model.input_config, keep=self.overlays is not None))
            except CompNetError as error:
                self._fail(error, alone)
        prediction = predict_boxes(self.model, [crop for one in cut for crop in one.objects.crops])
        answers = iter(prediction)
        for one in cut:
            found = list(islice(answers, len(one.objects.crops)))
            if not found:
                print(f"{printable(one.picture.title)}: no object was found", file=sys.stderr)
            entries = [self._entry(one, number, answer) for number, answer in enumerate(found)]
            if self.overlays is not None and one.small is not None:
                self.overlays.add(
                    one.picture, Drawn(one.small, one.size, [crop.box for crop in one.objects.crops], found)
                )
            if self.sheets is not None:
                self.sheets.add(one.picture, one.picture.load(), one.objects.crops)
            if self.outputs.on_standard_output == "jsonl":
                print(as_json_lines(entries), end="", flush=True)
            self.answers += entries

    def _entry(self, one: _Cut, number: int, answer: SinglePrediction) -> Json:
        picture, outputs = one.picture, self.outputs
        shown: Json = {"image": picture.name, "image_size": list(one.size)}
        if picture.frame is not None:
            shown |= {"frame": picture.frame, "time": picture.time}
        entry = answer_entry(shown, answer, one.objects.details[number], outputs.convention, degrees=outputs.degrees)
        beyond = entry.get("box_beyond_image")
        # of a box that was given: it may be in other pixels than was thought
        if beyond and not one.objects.details[number]:
            share = f"{100 * beyond:.0f} % of the box lies beyond the image"
            print(f"{printable(picture.title)}: {share}", file=sys.stderr)
        return entry


@dataclass(frozen=True)
class _Cut:
    """What is kept of a picture.

    Attributes:
        picture: it; size: its (width, height).
        objects: that were cut out.
        small: for the overlay, a copy of at most 1600 pixels.
    """

    picture: Picture
    size: tuple[int, int]
    objects: CutObjects
    small: Image.Image | None

    @classmethod
    def of(cls, picture: Picture, places: Places, config: InputConfig, keep: bool) -> _Cut:
        """Load a picture and cut its objects out; with `keep` the small copy is made.

        Raises:
            CompNetError: naming the file, if it cannot be read or has nothing in a box.
        """
        image = picture.load()
        objects = CutObjects.of(image, places.of(picture, image), config, picture.title)
        return cls(picture, image.size, objects, _shrunk(image) if keep else None)


def _shrunk(image: Image.Image) -> Image.Image:
    largest_overlay = 1600
    # an image of 50 megapixels would take long to draw and to look at
    shrink = min(1.0, largest_overlay / max(image.size))
    size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
    return image if shrink == 1.0 else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _report(answers: Sequence[Json], outputs: Outputs) -> None:
    quiet = outputs.on_standard_output
    try:
        # before the table, which a broken pipe or an odd terminal may stop
        for kind, path in outputs.files.items():
            if path != STANDARD_OUTPUT:
                write_text(path, FORMATS[kind](answers))
    finally:
        # also where a file cannot be written
        if quiet is None:
            if answers:
                print_predictions(answers)
        elif quiet != "jsonl":  # which has been printed line by line
            print(FORMATS[quiet](answers), end="")
    if quiet is None:
        for path in outputs.files.values():
            print(f"wrote {path}")
        if outputs.overlay is not None and answers:
            print(f"wrote overlays to {outputs.overlay}")
        if outputs.explain is not None and answers:
            print(f"wrote explanations to {outputs.explain}")


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
    most = 200  # lines: a video has thousands
    for answer in answers[:most]:
        angles = [_shown_angle(answer, name) for name in ("azimuth", "elevation", "theta")]
        image = answer["image"] if answer.get("frame") is None else f"{answer['image']}, {answer['time']:.2f} s"
        category = shown_category(answer["category"], answer.get("unknown"))
        words = (Text(printable(word)) for word in (image, category))
        table.add_row(*words, percent(answer["confidence"]), *angles)
    terminal().print(table)
    if len(answers) > most:
        print(f"and {len(answers) - most} more; --json, --jsonl, --csv or --coco writes all")


def _shown_angle(answer: Json, name: str) -> str:
    return shown_degrees(math.radians(answer[f"{name}_deg"]) if f"{name}_deg" in answer else answer[name])


def shown_degrees(angle: float) -> str:
    """An angle of -pi ... pi in degrees with one decimal, in (-180, 180]: what rounds to -180 is the same as 180."""
    rounded = round(math.degrees(angle), 1)
    return f"{180.0 if rounded == -180 else rounded + 0.0:.1f}"  # adding zero drops the sign of -0.0
