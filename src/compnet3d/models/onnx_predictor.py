"""Exported ONNX files as a `Predictor`, so that they are evaluated like the model that they came from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from compnet3d.data.transforms import CropMode, InputConfig
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Pose
from compnet3d.inference.prediction import Prediction
from compnet3d.models.export_graphs import Answers
from compnet3d.models.onnx_files import OnnxSession
from compnet3d.utils.settings import read


class OnnxPredictor:
    """The files that `export_model` wrote, run by onnxruntime on the CPU; poses are the best initial ones, not refined.

    Attributes:
        about: what the files say of themselves (see `describe`).
    """

    def __init__(self, folder: str | Path, *, int8: bool = False) -> None:
        """Open the files of a folder, or those of them that are quantised.

        Raises:
            CompNetError: if there is none, onnxruntime is not installed, or a file cannot be loaded.
        """
        self._folder, self._ending = Path(folder), ".int8.onnx" if int8 else ".onnx"
        names = [name for name in ("matching", "dual-head") if self._path(name).is_file()]
        if not names:
            raise CompNetError(f"{folder}: has no matching{self._ending}; give a folder that `compnet3d export` wrote")
        self._scores = OnnxSession(self._path(names[0]))
        self._poses: dict[str, OnnxSession] = {}
        self.about = self._scores.about

    @property
    def categories(self) -> tuple[str, ...]:
        """See `Predictor`."""
        return tuple(self.about["categories"])

    @property
    def input_config(self) -> InputConfig:
        """See `Predictor`."""
        return read(InputConfig, {name: value for name, value in self.about["crop"].items() if name != "mode"})

    def predict_crops(
        self, images: Tensor, *, category: Tensor | None = None, unseen: bool = False, crop: CropMode = "oracle"
    ) -> Prediction:
        """See `Predictor.predict_crops`; images uint8, and `crop` as the files were exported for.

        Raises:
            CompNetError: if they were exported for other crops, or the pose search of a category was not.
        """
        if crop != self.about["crop"]["mode"]:
            raise CompNetError(f"{self._folder}: was exported for {self.about['crop']['mode']} crops, not {crop} ones")
        if unseen:
            raise CompNetError(f"{self._folder}: exported files cannot search all categories; use the model itself")
        found = self._scores(images)
        chosen = found["scores"].argmax(dim=1) if category is None else category
        pose = found if "angles" in found else self._search(images, chosen)
        azimuth, elevation, theta = pose["angles"].unbind(1)
        return Prediction(
            categories=self.categories,
            category_index=chosen,
            scores=found["scores"],
            confidence=found["confidence"],
            pose=Pose(azimuth=azimuth, elevation=elevation, theta=theta, distance=pose["distance"]),
            focal=torch.full_like(azimuth, self.input_config.focal),
            principal_point=pose["principal_point"],
        )

    def scores(self, images: Tensor) -> Answers:
        """What the file of the scores answers for crops uint8 [B, 3, height, width]."""
        return self._scores(images)

    def _search(self, images: Tensor, chosen: Tensor) -> Answers:
        """Each image's answer of its category's file."""
        names = ("angles", "distance", "principal_point")
        rows: Answers = {}
        for number in chosen.unique().tolist():
            mine = chosen == number
            answers = self._session(self.categories[number])(images[mine])
            for name in names:
                whole = rows.setdefault(name, answers[name].new_zeros(len(chosen), *answers[name].shape[1:]))
                whole[mine] = answers[name]
        return rows

    def _session(self, category: str) -> OnnxSession:
        if category not in self._poses:
            path = self._path(f"pose-{category}")
            if not path.is_file():
                raise CompNetError(f"{path}: is missing; export the pose search of {category} too")
            self._poses[category] = OnnxSession(path)
        return self._poses[category]

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{self._ending}"
