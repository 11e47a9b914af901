"""What the demo shows for one image: the answer of every model, and how one of them comes to it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image

from compnet3d.data.transforms import BoxCrop, crop_box
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Pose
from compnet3d.geometry.mesh import Mesh
from compnet3d.inference.detection import Box
from compnet3d.inference.prediction import SinglePrediction, predict_boxes
from compnet3d.models.compnet import CompNet
from compnet3d.models.registry import TrainedModel
from compnet3d.reporting.explanations import draw_hypotheses, draw_matches, draw_regions, vertex_colours
from compnet3d.reporting.prediction_overlays import Drawn
from compnet3d.robustness.corruption import corrupt
from compnet3d.robustness.occlusion import Level, box_region, occlude

Place = Literal["search", "box", "whole"]
LARGEST = 1280  # pixels of the longer side that are looked at: crops have some hundreds


@dataclass(frozen=True)
class Change:
    """What is done to the image before the models see it.

    Attributes:
        level: of occlusion, 0 for none to 3 for L3.
        corruption: one of `CORRUPTIONS`, or None; severity: 1 to 5.
        seed: of all draws.
    """

    level: int = 0
    corruption: str | None = None
    severity: int = 3
    seed: int = 0

    def apply(self, image: Image.Image, box: Box) -> Image.Image:
        """An RGB image with the object in a box hidden in part, then corrupted; it is not changed itself."""
        rng = np.random.default_rng([self.seed, self.level])
        if self.level:
            levels: tuple[Level, ...] = ("L1", "L2", "L3")
            image = occlude(image, box_region(box, image.size), rng, levels[self.level - 1]).image
        if self.corruption is not None:
            image = Image.fromarray(corrupt(np.asarray(image), self.corruption, self.severity, rng))
        return image


@dataclass(frozen=True)
class ModelAnswer:
    """What one model says: its name, the answer, and the seconds that it took."""

    name: str
    answer: SinglePrediction
    seconds: float


@dataclass(frozen=True)
class Shown:
    """What is shown for one image.

    Attributes:
        image: as the models saw it; box: of the object in it.
        answers: of every model, the one that is explained first.
        search_seconds: that looking for the object took; None where it was given.
        overlay: the image with the model's mesh, box and category.
        mesh, pose, colours: to be turned in 3D, with a colour for each vertex, uint8 [V, 3].
        matches, regions, hypotheses: pictures of the explanation; None of a model that has none.
    """

    image: Image.Image
    box: Box
    answers: Sequence[ModelAnswer]
    search_seconds: float | None
    overlay: Image.Image
    mesh: Mesh
    pose: Pose
    colours: torch.Tensor
    matches: Image.Image | None = None
    regions: Image.Image | None = None
    hypotheses: Image.Image | None = None


def answer(
    models: Mapping[str, TrainedModel], chosen: str, image: Image.Image, place: Place, box: Box | None, change: Change
) -> Shown:
    """Ask all models about the object in an image, and one of them why.

    Args:
        models: by name.
        chosen: the name of the one that searches and explains.
        image: RGB, at most `LARGEST` pixels a side.
        place: where the object is: in `box`, somewhere, or all over the image.
        box: (x1, y1, x2, y2) in pixels.
        change: is done to the image once the object has been found.

    Raises:
        CompNetError: if the box is empty or missing, or nothing is found.
    """
    model, seconds = models[chosen], None
    if place == "whole":
        box = (0.0, 0.0, float(image.width), float(image.height))
    elif place == "search":
        started = time.perf_counter()
        box = _search(model, image)
        seconds = time.perf_counter() - started
    elif box is None:
        raise CompNetError("draw a box around the object, or let the model search for it")
    crop_box(image, box, model.input_config)  # a box that is none is refused before anything is drawn into it
    image = change.apply(image, box)
    given = None if place == "whole" else box
    crops = {name: crop_box(image, given, one.input_config) for name, one in models.items()}
    names = [chosen, *(name for name in models if name != chosen)]
    answers = [_timed(name, models[name], crops[name]) for name in names]
    best = answers[0].answer
    mesh = model.mesh(best.category)
    drawn = Drawn(image, image.size, [box], [best])
    pictures = {}
    if isinstance(model, CompNet):
        explanation = model.explain_crop(image, crops[chosen])
        pictures = {
            "matches": draw_matches(explanation),
            "regions": draw_regions(explanation),
            "hypotheses": draw_hypotheses(explanation.best),
        }
    return Shown(
        image=image,
        box=box,
        answers=answers,
        search_seconds=seconds,
        overlay=Image.fromarray(drawn.pixels(model)),
        mesh=mesh,
        pose=best.pose.to("cpu"),
        colours=vertex_colours(mesh.vertices),
        **pictures,
    )


def _search(model: TrainedModel, image: Image.Image) -> Box:
    found = model.object_search().detect(image, 1).boxes.tolist()
    if not found:
        raise CompNetError("no object was found; draw a box around it, or take the whole image")
    x1, y1, x2, y2 = found[0]
    return x1, y1, x2, y2


def _timed(name: str, model: TrainedModel, crop: BoxCrop) -> ModelAnswer:
    started = time.perf_counter()
    prediction = predict_boxes(model, [crop])[0]
    return ModelAnswer(name, prediction, time.perf_counter() - started)


def category_shares(answered: SinglePrediction, temperature: float) -> dict[str, float]:
    """A bar for each category: the calibrated confidence for the best; what is left goes to the others by softmax."""
    names = list(answered.scores)
    best = names.index(max(names, key=lambda name: answered.scores[name]))
    shares = (temperature * torch.tensor([answered.scores[name] for name in names], dtype=torch.float64)).softmax(0)
    shares[best] = 0
    shares *= (1 - answered.confidence) / shares.sum().clamp_min(1e-300)
    shares[best] = answered.confidence
    return dict(zip(names, shares.tolist(), strict=True))
