"""What every trained model is besides its network: a configuration, meshes to draw, a folder on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from typing_extensions import Self

from compnet3d.data.transforms import CropMode, InputConfig
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh
from compnet3d.inference.confidence import Calibration
from compnet3d.inference.detection import Box, Detector
from compnet3d.inference.explanation import Explanation
from compnet3d.inference.prediction import Boxes, ImageLike, Prediction, predict_images
from compnet3d.models.backbones import FeatureExtractor
from compnet3d.models.checkpoint import load_model, save_model
from compnet3d.models.tensors import TensorShape
from compnet3d.utils.files import Json


class Model(nn.Module):
    """A `Predictor` that is kept as a folder.

    Attributes:
        kind: what config.json calls the class.
        config: everything but the tensors; a dataclass with `categories`, `input_config`, `temperature`
            and `calibration`.
        cad_meshes: one CAD model for some categories, for drawing.
    """

    kind: ClassVar[str]
    config: Any
    cad_meshes: dict[str, Mesh]

    @classmethod
    def from_config(cls, values: Json, feature_extractor: FeatureExtractor | None = None) -> Self:
        """With random tensors, from config.json; over that feature extractor, or over a new one."""
        raise TypeError(f"{cls.__name__} does not say how it is built")

    @classmethod
    def tensor_shapes(cls, values: Json, feature_extractor: FeatureExtractor | None = None) -> dict[str, TensorShape]:
        """Of the tensors of the model that `from_config` gives, found without taking memory for it."""
        raise TypeError(f"{cls.__name__} does not say how large it is")

    def check_loaded(self) -> None:
        """Check that loaded tensors go together.

        Raises:
            ValueError: naming what does not.
        """

    def predict_crops(
        self, images: Tensor, *, category: Tensor | None = None, unseen: bool = False, crop: CropMode = "oracle"
    ) -> Prediction:
        """Classify the objects in crops and estimate their poses; see `Predictor.predict_crops`."""
        raise TypeError(f"{type(self).__name__} does not say how it predicts")

    @property
    def categories(self) -> tuple[str, ...]:
        """Category names."""
        names: tuple[str, ...] = self.config.categories
        return names

    @property
    def input_config(self) -> InputConfig:
        """The network's input."""
        input_config: InputConfig = self.config.input_config
        return input_config

    def predict(
        self,
        images: ImageLike | Sequence[ImageLike],
        *,
        boxes: Boxes = None,
        detector: Detector | None = None,
        objects: int = 1,
        batch_size: int = 32,
        unseen: bool = False,
    ) -> Prediction:
        """Classify the objects in each image and estimate their poses; see `predict_images`.

        Without boxes and detector the model searches the image itself (`object_search`).
        """
        finder = self.object_search() if boxes is None and detector is None else detector
        return predict_images(
            self, images, boxes=boxes, detector=finder, objects=objects, batch_size=batch_size, unseen=unseen
        )

    def object_search(self) -> Detector:
        """A detector made of the model alone.

        Raises:
            CompNetError: if this kind of model cannot tell where an object is.
        """
        raise CompNetError(
            f"a {self.kind} model cannot search for objects; give boxes, a detector, or take images as a whole"
        )

    @property
    def calibration(self) -> Calibration:
        """What held-out images have told of the answers; the softmax of the temperature where they were not asked."""
        return self.config.calibration or Calibration()

    def calibrate(self, temperature: float, calibration: Calibration | None = None) -> None:
        """Set how answers become probabilities."""
        self.config = replace(self.config, temperature=temperature, calibration=calibration)

    def explain(
        self, image: ImageLike, *, box: Box | Literal["whole"] | None = None, against: str | None = None
    ) -> Explanation:
        """Why the model answers as it does for one object, as tensors; `compnet3d.reporting.explanations` draws them.

        Args:
            image: a path, a PIL image, an array or a tensor (any that `as_rgb` takes).
            box: of the object, (x1, y1, x2, y2) in pixels; "whole" takes the image for a crop of one object. Without
                it the model searches the image itself.
            against: the category that the best one is compared with; the runner-up by default.

        Raises:
            CompNetError: if the model is no CompNet, the image cannot be read, the box is empty, nothing is found, or
                the model does not know the category.
        """
        raise CompNetError(
            f"a model of the kind {self.kind!r} matches and renders nothing that could explain its answers; "
            "explain those of a CompNet"
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Save the model as a folder (see `compnet3d.models.checkpoint.save_model`)."""
        save_model(self, folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path, feature_extractor: nn.Module | None = None) -> Self:
        """Load a model from a folder, ready for inference (see `compnet3d.models.checkpoint.load_model`)."""
        return load_model(folder, cls, feature_extractor)
