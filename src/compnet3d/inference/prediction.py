"""What a model answers, and the one protocol that models, baselines and benchmarks meet at."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, cast, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from compnet3d.data.images import image_tensor, read_rgb
from compnet3d.data.transforms import BoxCrop, CropMode, InputConfig, crop_box
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Pose
from compnet3d.geometry.rotations import wrap_signed
from compnet3d.inference.detection import Box, Detector

ImageLike = str | Path | Image.Image | np.ndarray | Tensor
# one box for each image, or several for each; the word for images that are crops already
Boxes = Sequence[Box] | Sequence[Sequence[Box]] | Box | np.ndarray | Tensor | Literal["whole"] | None


class Angles(NamedTuple):
    """Angles of a pose as they are shown: azimuth and theta in (-pi, pi] or (-180, 180]."""

    azimuth: float
    elevation: float
    theta: float


@dataclass(frozen=True)
class SinglePrediction:
    """The answer for one image: `prediction[i]`.

    Attributes:
        category: its name.
        confidence: calibrated probability that the best-scoring category is right.
        scores: by category, see `Prediction.scores`.
        pose: of the camera whose focal length and principal point follow, shape [].
        focal: in pixels.
        principal_point: where the object's origin is seen, pixels (u, v), [2].
        reconstruction_score, foreground, occluded: see `Prediction`; the latter two are bool [H, W].
        pose_confidence: calibrated probability that the pose is within pi/6; None where that is not known.
        runner_up: the second-best pose, of the same camera, shape []; None where no other fits nearly as well.
        unknown: whether the image shows too little of any category; None where that cannot be told.
        image_index, box: see `Prediction`; box is [4].
    """

    category: str
    confidence: float
    scores: dict[str, float]
    pose: Pose
    focal: float
    principal_point: Tensor
    reconstruction_score: float | None = None
    foreground: Tensor | None = None
    pose_confidence: float | None = None
    runner_up: Pose | None = None
    unknown: bool | None = None
    occluded: Tensor | None = None
    image_index: int | None = None
    box: Tensor | None = None

    def angles(self, *, degrees: bool = False) -> Angles:
        """Azimuth, elevation and theta; azimuth and theta in (-pi, pi], or (-180, 180] with `degrees`."""
        return shown_angles(self.pose, degrees)

    def to_dict(self, *, degrees: bool = False) -> dict[str, Any]:
        """A plain dictionary for JSON: `azimuth`, ... in radians, or `azimuth_deg`, ... with `degrees`."""
        unit = "_deg" if degrees else ""
        second = None
        if self.runner_up is not None:
            second = {f"{name}{unit}": x for name, x in shown_angles(self.runner_up, degrees)._asdict().items()}
        return {
            "box": None if self.box is None else self.box.tolist(),
            "category": self.category,
            "confidence": self.confidence,
            "unknown": self.unknown,
            **{f"{name}{unit}": angle for name, angle in self.angles(degrees=degrees)._asdict().items()},
            "pose_confidence": self.pose_confidence,
            "distance": float(self.pose.distance),
            "focal": self.focal,
            "principal_point": [float(x) for x in self.principal_point],
            "runner_up": second,
            "reconstruction_score": self.reconstruction_score,
            "scores": self.scores,
        }


@dataclass(frozen=True)
class Prediction:
    """The answers for a batch of objects, one in each image unless more were asked for.

    `prediction[0]` is the answer for the first object, `prediction[2:5]` a smaller batch; iterating gives one answer
    after the other.

    Attributes:
        categories: all category names, Y of them.
        category_index: the category whose pose is given: the best score's, unless it was prescribed, int64 [B].
        scores: the largest classifies the object, [B, Y]: S_y of Eq. 7, or what the model makes of it (see
            `CompNetConfig.pose_score_weight`); log-probabilities of a dual head.
        confidence: calibrated probability that the best-scoring category is right, [B]; 1 with one category alone.
        pose: of the camera whose focal length and principal point follow, [B].
        focal: focal length in pixels, [B].
        principal_point: where the object's origin is seen, pixels (u, v), [B, 2]. `predict_crops` answers in pixels of
            the crop, `CompNet.predict` in pixels of the image that it was given.
        reconstruction_score: - L(alpha) of Eq. 8 as an average over cells, [B]; higher is better. None for a predictor
            that reconstructs nothing.
        foreground: cells that the object explains better than the background, bool [B, H, W]; None like the former.
        pose_log_odds: how the likelihood of the hypotheses near the pose compares with that of all others, [B] (see
            `compnet3d.inference.ambiguity`); None for a predictor that has no hypotheses.
        pose_confidence: calibrated probability that the pose is within pi/6, [B]; None where that is not known.
        runner_up: the second-best pose, more than pi/6 from the best one, [B]; NaN where none fits nearly as well.
        evidence: what tells unknown objects, [B]: the reconstruction score, how well object and background together
            explain the image; of a predictor that reconstructs nothing the log odds of the best category.
        unknown: which images have less evidence than known objects have, bool [B]; None where that cannot be told.
        occluded: cells that the object covers at its pose and that the background explains better, bool [B, H, W]: what
            hides the object, or what its shape covers beyond the object itself. None like the former.
        image_index: number of the image that the object is in, int64 [B]; None for crops.
        box: that it was looked for in, x1, y1, x2, y2 in pixels of its image, [B, 4]; None for crops.
    """

    categories: tuple[str, ...]
    category_index: Tensor
    scores: Tensor
    confidence: Tensor
    pose: Pose
    focal: Tensor
    principal_point: Tensor
    reconstruction_score: Tensor | None = None
    foreground: Tensor | None = None
    pose_log_odds: Tensor | None = None
    pose_confidence: Tensor | None = None
    runner_up: Pose | None = None
    evidence: Tensor | None = None
    unknown: Tensor | None = None
    occluded: Tensor | None = None
    image_index: Tensor | None = None
    box: Tensor | None = None

    def __len__(self) -> int:
        return len(self.category_index)

    @overload
    def __getitem__(self, index: int) -> SinglePrediction: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | Tensor | np.ndarray) -> Prediction: ...

    def __getitem__(self, index: Any) -> SinglePrediction | Prediction:
        """The answer for one image, or a `Prediction` of those that a slice, indices or a mask choose."""
        if isinstance(index, slice | Sequence) or (isinstance(index, Tensor | np.ndarray) and index.ndim):
            return replace(self, **{name: value[index] for name, value in self._batched().items()})
        number = operator.index(index)
        chosen = {name: value[number] for name, value in self._batched().items()}
        score, sure, second = (chosen.get(n) for n in ("reconstruction_score", "pose_confidence", "runner_up"))
        image = chosen.get("image_index")
        return SinglePrediction(
            category=self.categories[int(chosen["category_index"])],
            confidence=float(chosen["confidence"]),
            scores=dict(zip(self.categories, chosen["scores"].tolist(), strict=True)),
            pose=chosen["pose"],
            focal=float(chosen["focal"]),
            principal_point=chosen["principal_point"],
            reconstruction_score=None if score is None else float(score),
            foreground=chosen.get("foreground"),
            pose_confidence=None if sure is None else float(sure),
            runner_up=None if second is None or second.azimuth.isnan() else second,
            unknown=bool(chosen["unknown"]) if "unknown" in chosen else None,
            occluded=chosen.get("occluded"),
            image_index=None if image is None else int(image),
            box=chosen.get("box"),
        )

    def __iter__(self) -> Iterator[SinglePrediction]:
        return (self[i] for i in range(len(self)))

    @classmethod
    def cat(cls, parts: Sequence[Prediction]) -> Prediction:
        """Join the answers of several batches of one model."""
        batches = [part._batched() for part in parts]
        joined: dict[str, Any] = {}
        for name, first in batches[0].items():
            values = [batch[name] for batch in batches]
            joined[name] = Pose.cat(values) if isinstance(first, Pose) else torch.cat(values)
        return cls(categories=parts[0].categories, **joined)

    def to_dicts(self, *, degrees: bool = False) -> list[dict[str, Any]]:
        """One plain dictionary per image, for JSON; see `SinglePrediction.to_dict`."""
        return [answer.to_dict(degrees=degrees) for answer in self]

    def _batched(self) -> dict[str, Any]:
        """The fields that have one entry per image, those that are None left out."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "categories"}
        return {name: value for name, value in values.items() if value is not None}


def shown_angles(pose: Pose, degrees: bool = False) -> Angles:
    """The angles of a single pose: azimuth and theta in (-pi, pi], or (-180, 180] with `degrees`."""
    wrapped = pose.wrapped()
    signed = (wrap_signed(wrapped.azimuth), wrapped.elevation, wrap_signed(wrapped.theta))
    # the float32 next to pi is a little above it
    shown = [min(float(x), math.pi) for x in signed]
    return Angles(*(math.degrees(x) if degrees else x for x in shown))


class Predictor(Protocol):
    """Anything that classifies the object and its pose in a batch of crops."""

    @property
    def categories(self) -> tuple[str, ...]:
        """Category names, in the order of the scores."""
        ...

    @property
    def input_config(self) -> InputConfig:
        """The network's input."""
        ...

    def predict_crops(
        self, images: Tensor, *, category: Tensor | None = None, unseen: bool = False, crop: CropMode = "oracle"
    ) -> Prediction:
        """Answer for crops [B, 3, height, width], uint8 or float in 0 .. 1.

        Args:
            images: the crops.
            category: int64 [B]; if given, the pose is that of this category (scores stay the classification's).
            unseen: take the pose of the category with the lowest reconstruction loss over all.
            crop: how the crops were cut, which tells what is known of distance and principal point.
        """
        ...


def predict_images(
    predictor: Predictor,
    images: ImageLike | Sequence[ImageLike],
    *,
    boxes: Boxes = None,
    detector: Detector | None = None,
    objects: int = 1,
    batch_size: int = 32,
    unseen: bool = False,
) -> Prediction:
    """Classify the objects in each image and estimate their poses.

    Args:
        predictor: the model or baseline.
        images: one image or several: paths, PIL images, numpy arrays (any that `as_rgb` takes) or tensors [3, H, W] or
            [B, 3, H, W] (uint8, or floats in 0..1).
        boxes: where the objects are, (x1, y1, x2, y2) in pixels: one box for each image, or a list of boxes for each;
            "whole" takes each image for a crop of one object.
        detector: finds the objects where no boxes are given; without either, images are taken as a whole.
        objects: how many the detector is asked for in each image.
        batch_size: crops computed at a time.
        unseen: pose of the category with the lowest reconstruction loss instead of the best-scoring one.

    Returns:
        One answer per object, image by image (`image_index`); pose, focal length and principal point are in pixels of
        its image. An image in which the detector finds nothing has none.

    Raises:
        CompNetError: if an image cannot be read, a box is empty or a number is out of range; the message names it.
    """
    for name, number in (("objects", objects), ("batch_size", batch_size)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
            raise CompNetError(f"{name} must be a whole number of at least 1, not {number!r}")
    listed = _listed(images)
    if not listed:
        raise CompNetError("there is no image to predict; give at least one")
    given = _boxes_of_each(boxes, len(listed))

    def cut(image: ImageLike, places: list[Box] | None) -> list[BoxCrop]:
        pixels = read_rgb(image)
        if places is None and detector is not None:
            places = detector.detect(pixels, objects).boxes.tolist()
        return [crop_box(pixels, box, predictor.input_config) for box in ([None] if places is None else places)]

    # one after the other: of a large image only its crops are kept
    parts = [cut(image, places) for image, places in zip(listed, given, strict=True)]
    crops = [crop for part in parts for crop in part]
    numbers = [number for number, part in enumerate(parts) for _ in part]
    prediction = predict_boxes(predictor, crops, batch_size=batch_size, unseen=unseen)
    return replace(prediction, image_index=torch.tensor(numbers, device=prediction.scores.device))


def _listed(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """The images one by one; a batch in one array or tensor is several."""
    if isinstance(images, np.ndarray | Tensor) and images.ndim == 4:
        return list(images)
    return list(images) if isinstance(images, Sequence) and not isinstance(images, str | bytes) else [images]


def _boxes_of_each(boxes: Boxes, count: int) -> list[list[Box] | None]:
    """The boxes of each image; None for an image without any given, or, as a box, for the whole image."""
    if isinstance(boxes, str):
        if boxes != "whole":
            raise CompNetError(f'boxes must be numbers or "whole", not {boxes!r}')
        return [[cast(Box, None)] for _ in range(count)]
    if boxes is None:
        return [None] * count
    try:
        return _listed_boxes(list(boxes), count)
    except TypeError:
        given = repr(boxes)[:80]
        raise CompNetError(
            f"boxes must be x1 y1 x2 y2 in pixels, or a list of these for each image; not {given}"
        ) from None


def _listed_boxes(entries: list[Any], count: int) -> list[list[Box] | None]:
    """The boxes of each image, from one entry for each; a TypeError where one is neither a box nor a list of them."""
    if any(isinstance(entry, str) for entry in entries):
        raise TypeError
    # the box of a single image need not be put into a list
    if count == 1 and entries and all(_is_number(x) for x in entries):
        entries = [entries]
    if len(entries) != count:
        raise CompNetError(f"boxes for {len(entries)} images were given for {count} images; give one entry for each")
    listed: list[Any] = [
        [entry] if len(entry) and all(_is_number(x) for x in entry) else list(entry) for entry in entries
    ]
    if any(len(box) == 0 for boxes in listed for box in boxes):
        raise TypeError
    return listed


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) or (isinstance(value, Tensor | np.ndarray) and value.ndim == 0)


def predict_boxes(
    predictor: Predictor, crops: Sequence[BoxCrop], *, batch_size: int = 32, unseen: bool = False
) -> Prediction:
    """Answer for crops that `crop_box` cut, in pixels of their images; see `predict_images`."""
    if not crops:
        # what an answer consists of is the predictor's to say: one for an empty crop is taken and dropped
        size = (predictor.input_config.width, predictor.input_config.height)
        return predict_boxes(predictor, [crop_box(Image.new("RGB", size), None, predictor.input_config)])[:0]
    batch = torch.stack([image_tensor(crop.image) for crop in crops])
    whole = Prediction.cat(
        [predictor.predict_crops(part, unseen=unseen, crop="box") for part in batch.split(batch_size)]
    )
    device = whole.principal_point.device
    scale = torch.tensor([crop.scale for crop in crops], device=device)
    matrix = torch.tensor(np.stack([crop.matrix for crop in crops]), dtype=torch.float32, device=device)
    # pixels of the crop become pixels of the image. A crop is a similarity of its image, which a camera of another
    # focal length and principal point would have taken: angles and distance stay
    principal_point = (matrix[:, :, :2] @ whole.principal_point[..., None])[..., 0] + matrix[:, :, 2]
    boxes = torch.tensor([crop.box for crop in crops], device=device)
    return replace(whole, focal=whole.focal / scale, principal_point=principal_point, box=boxes)
