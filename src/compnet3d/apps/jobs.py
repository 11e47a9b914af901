"""What a service is asked, and the answers of a batch of it, in the words of `predict --json`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from PIL import Image

from compnet3d.apps.batching import Waiting
from compnet3d.data.images import decode_image
from compnet3d.errors import CompNetError
from compnet3d.inference.detection import Box, Detector
from compnet3d.inference.prediction import Predictor, SinglePrediction, predict_boxes
from compnet3d.reporting.prediction_files import Convention, answer_entry
from compnet3d.reporting.predictions import CutObjects, detected_boxes
from compnet3d.utils.files import Json


@dataclass(frozen=True)
class JobImage:
    """One image of a request.

    Attributes:
        name: in the answer; title: in errors.
        data: the bytes of an image file.
        boxes: where its objects are, "whole", or None where they are to be found.
    """

    name: str
    title: str
    data: bytes
    boxes: Sequence[Box] | Literal["whole"] | None = None


@dataclass(frozen=True)
class Job:
    """One request; `objects`: how many are looked for in an image without boxes; the rest as in `Outputs`."""

    images: tuple[JobImage, ...]
    objects: int = 1
    degrees: bool = False
    convention: Convention = "compnet3d"


@dataclass(frozen=True)
class _Cut:
    """What is kept of an image: what the entries of its objects begin with, and the objects."""

    shown: Json
    objects: CutObjects


@dataclass(frozen=True)
class JobPredictor:
    """Answers jobs in batches: the work of a `Batcher`.

    Attributes:
        model: the model.
        detector: for images without boxes; where it is None, these are refused.
        batch_size: crops computed at a time.
        max_pixels: of an image.
    """

    model: Predictor
    detector: Detector | None
    batch_size: int
    max_pixels: int

    def __call__(self, waiting: Sequence[Waiting[Job, list[Json]]]) -> list[list[Json] | Exception]:
        """An entry for each object of each job; or a CompNetError that names the image, or a fault."""
        cuts = [_tried(lambda one=one: self._cut(one)) for one in waiting]  # type: ignore[misc]
        usable = [(one.task, cut) for one, cut in zip(waiting, cuts, strict=True) if not isinstance(cut, Exception)]
        together = _tried(lambda: self._entries(usable))
        if isinstance(together, Exception):
            # the fault is that of one of them, which the others need not bear
            ready = iter([_tried(lambda one=one: self._entries([one])[0]) for one in usable])  # type: ignore[misc]
        else:
            ready = iter(together)
        return [cut if isinstance(cut, Exception) else next(ready) for cut in cuts]

    def _cut(self, waiting: Waiting[Job, list[Json]]) -> list[_Cut]:
        """Image after image, of which the crops alone are kept."""
        cuts = []
        for image in waiting.task.images:
            if waiting.given_up:
                raise TimeoutError
            pixels = decode_image(image.data, image.title, max_pixels=self.max_pixels)
            places = self._places(image, pixels, waiting.task.objects)
            objects = CutObjects.of(pixels, places, self.model.input_config, image.title)
            cuts.append(_Cut({"image": image.name, "image_size": list(pixels.size)}, objects))
        return cuts

    def _places(self, image: JobImage, pixels: Image.Image, objects: int) -> list[tuple[Box | None, Json]]:
        if image.boxes == "whole":
            return [(None, {})]
        if image.boxes is not None:
            return [(box, {}) for box in image.boxes]
        if self.detector is None:
            raise CompNetError(f'{image.title}: has no boxes, and this model cannot search; give boxes, or "whole"')
        return detected_boxes(self.detector, pixels, objects)

    def _entries(self, jobs: Sequence[tuple[Job, list[_Cut]]]) -> list[list[Json]]:
        """The entries of each job, which are computed together."""
        crops = [crop for _, cuts in jobs for cut in cuts for crop in cut.objects.crops]
        if not crops:
            return [[] for _ in jobs]
        answers = iter(predict_boxes(self.model, crops, batch_size=self.batch_size))
        return [list(_entries_of(job, cuts, answers)) for job, cuts in jobs]


def _entries_of(job: Job, cuts: Sequence[_Cut], answers: Iterator[SinglePrediction]) -> Iterator[Json]:
    for cut in cuts:
        for answer, details in zip(list(islice(answers, len(cut.objects.crops))), cut.objects.details, strict=True):
            yield answer_entry(cut.shown, answer, details, job.convention, degrees=job.degrees)


def _tried(compute: Callable[[], Any]) -> Any:
    """A value, or why there is none."""
    try:
        return compute()
    except Exception as error:
        return error
