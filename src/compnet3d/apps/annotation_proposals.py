"""What a trained model proposes for the images that are annotated, computed in a thread of its own."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache

import torch

from compnet3d.apps.annotation_set import AnnotationSet, Item
from compnet3d.data.transforms import crop_box
from compnet3d.errors import CompNetError
from compnet3d.geometry.rotations import angles_to_rotmat, symmetric_rotation_error
from compnet3d.inference.detection import Box, Detector
from compnet3d.inference.prediction import Predictor
from compnet3d.utils.files import Json
from compnet3d.utils.text import printable


@dataclass(frozen=True)
class Proposal:
    """A model's answer for one object.

    Attributes:
        azimuth, elevation, theta: radians.
        box: that it holds for, x1, y1, x2, y2 in pixels of the image; None: the whole image, the object was not found.
        confidence: that the pose is within pi/6; None where the model does not tell.
    """

    azimuth: float
    elevation: float
    theta: float
    box: Box | None
    confidence: float | None

    def to_json(self) -> Json:
        """For the page."""
        return asdict(self)


class Proposer:
    """A model and how it answers for one category."""

    def __init__(self, model: Predictor, detector: Detector | None, category: str) -> None:
        """See `propose`.

        Raises:
            CompNetError: if the model does not know the category.
        """
        if category not in model.categories:
            known = ", ".join(model.categories[:12])
            raise CompNetError(
                f"the model does not know {category}, but {known}; leave --model out or rename --category"
            )
        self._model, self._detector = model, detector
        self._index = model.categories.index(category)

    @torch.no_grad()
    def propose(self, images: AnnotationSet, item: Item, box: Box | None) -> Proposal:
        """The pose in a box, or where the detector finds the object."""
        pixels = images.image(item.name)
        if box is None and self._detector is not None:
            found = self._detector.detect(pixels, 1).boxes.tolist()
            box = tuple(found[0]) if found else None
        crop = crop_box(pixels, box, self._model.input_config)
        batch = torch.from_numpy(crop.image.copy()).permute(2, 0, 1)[None]
        answer = self._model.predict_crops(batch, category=torch.tensor([self._index]), crop="box")[0]
        pose = answer.pose.wrapped()
        angles = (float(pose.azimuth), float(pose.elevation), float(pose.theta))
        return Proposal(*angles, box=box, confidence=answer.pose_confidence)


class Proposals:
    """Proposals for all images: those that are asked for first, then those that come next, then all others."""

    def __init__(self, proposer: Proposer, images: AnnotationSet) -> None:
        """Start the thread."""
        self._proposer, self._images = proposer, images
        self._ready: dict[Item, Proposal | None] = {}  # None: there is none
        self._asked: list[tuple[Item, Box | None, Future[Proposal]]] = []
        self._next: list[Item] = []
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="proposals", daemon=True)
        self._thread.start()

    def ask(self, item: Item, box: Box | None) -> Future[Proposal]:
        """What the model says of an object, in this box if one is given."""
        future: Future[Proposal] = Future()
        ready = self._ready.get(item)
        if ready is not None and box is None:
            future.set_result(ready)
            return future
        with self._wake:
            self._asked.append((item, box, future))
            self._wake.notify()
        return future

    def prefer(self, items: Sequence[Item]) -> None:
        """Make these first of those that nobody waits for."""
        with self._wake:
            self._next = list(items)
            self._wake.notify()

    def forget(self, item: Item) -> None:
        """Compute it anew, in the box that is saved by now."""
        with self._wake:
            self._ready.pop(item, None)
            self._wake.notify()

    def ready(self, item: Item) -> Proposal | None:
        """What has been computed."""
        return self._ready.get(item)

    def disagreement(self, item: Item) -> float | None:
        """The angle between the saved pose and the model's, in radians."""
        saved, proposal = self._images.angles(item), self._ready.get(item)
        if saved is None or proposal is None:
            return None
        return _angle_between(
            saved, (proposal.azimuth, proposal.elevation, proposal.theta), self._images.symmetry_order
        )

    def close(self) -> None:
        """End the thread after what it computes now."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._closing and not self._asked and self._background() is None:
                    self._wake.wait()
                if self._closing:
                    for _, _, waiting in self._asked:
                        waiting.cancel()
                    return
                asked = self._asked.pop(0) if self._asked else None
                item = self._background() if asked is None else asked[0]
            assert item is not None
            self._answer(item, asked)

    def _answer(self, item: Item, asked: tuple[Item, Box | None, Future[Proposal]] | None) -> None:
        box = self._saved_box(item) if asked is None else asked[1]
        try:
            proposal = self._proposer.propose(self._images, item, box)
        except Exception as error:
            if not isinstance(error, CompNetError):
                print(printable("".join(traceback.format_exception(error))), end="", file=sys.stderr, flush=True)
            self._ready.setdefault(item, None)
            if asked is not None:
                asked[2].set_exception(error)
            return
        self._ready[item] = proposal
        if asked is not None:
            asked[2].set_result(proposal)

    def _saved_box(self, item: Item) -> Box | None:
        with suppress(CompNetError):
            saved = self._images.placement(item, self._images.image(item.name).size)
            return None if saved is None else saved.bbox
        return None

    def _background(self) -> Item | None:
        """The next object that nobody waits for."""
        order = [*self._next, *self._images.items()]
        return next((item for item in order if item not in self._ready and not self._images.problem(item)), None)


@lru_cache(maxsize=2**16)  # asked for all objects every other second
def _angle_between(first: tuple[float, ...], second: tuple[float, ...], order: int) -> float:
    angles = (torch.tensor(pair, dtype=torch.float64) for pair in zip(first, second, strict=True))
    rotations = angles_to_rotmat(*angles)
    return float(symmetric_rotation_error(rotations[:1], rotations[1:], torch.tensor([order])))
