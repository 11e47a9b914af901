"""Pictures and videos with the predicted models drawn over them."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from compnet3d.data.sources import Picture, Source
from compnet3d.data.video import VideoWriter, frame_rate, is_own_video
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Camera
from compnet3d.inference.prediction import SinglePrediction
from compnet3d.reporting.overlays import draw_label, draw_overlay, encode_png, enlarge
from compnet3d.reporting.terminal import percent, shown_category
from compnet3d.utils.files import read_bytes, write_bytes

if TYPE_CHECKING:
    from compnet3d.models.registry import TrainedModel


@dataclass(frozen=True)
class Drawn:
    """What is drawn over one picture.

    Attributes:
        image: the picture or a smaller copy; size: (width, height) of the picture.
        boxes: of its objects, pixels of the picture; answers: for each.
    """

    image: Image.Image
    size: tuple[int, int]
    boxes: Sequence[Sequence[float]]
    answers: Sequence[SinglePrediction]

    def pixels(self, model: TrainedModel) -> np.ndarray:
        """The picture with each object's model, box, category and confidence, uint8 [H, W, 3]."""
        canvas = enlarge(np.asarray(self.image))
        height, width = canvas.shape[:2]
        scale = torch.tensor([width / self.size[0], height / self.size[1]])
        for answer in self.answers:
            camera = Camera(
                focal=torch.tensor(answer.focal) * float(scale.mean()),
                principal_point=answer.principal_point.cpu() * scale,
                height=height,
                width=width,
            )
            canvas = draw_overlay(canvas, model.mesh(answer.category), answer.pose.to("cpu"), camera)
        # over all models, so that none covers a label
        for box, answer in zip(self.boxes, self.answers, strict=True):
            seen = [side * float(scale[number % 2]) for number, side in enumerate(box)]
            sure = f" {percent(answer.confidence)} %"
            canvas = draw_label(canvas, seen, shown_category(answer.category, answer.unknown, sure))
        return canvas


class PictureOverlays:
    """The overlays of a run: one image for each image, one video for each video or camera."""

    def __init__(self, folder: Path, model: TrainedModel, stack: ExitStack) -> None:
        """Into a folder; videos are finished when the stack ends."""
        self._folder, self._model, self._stack = folder, model, stack
        self._paths: dict[str, Path] = {}
        self._rates: dict[str, float] = {}
        self._videos: dict[str, VideoWriter] = {}

    def claim(self, sources: Sequence[Source], every: int) -> None:
        """Choose a file for each source.

        Raises:
            CompNetError: if something else than an overlay is there already, such as the image itself.
        """
        for source, stem in file_stems(sources).items():
            path = self._folder / f"{stem}{'.mp4' if source.moving else '.png'}"
            check_replaceable(path, "--overlay")
            self._paths[source.name] = path
            if source.moving:
                self._rates[source.name] = (25.0 if source.live else frame_rate(source.name)) / every

    def add(self, picture: Picture, drawn: Drawn) -> None:
        """Draw and write one picture."""
        name, pixels = picture.name, drawn.pixels(self._model)
        if picture.frame is None:
            write_bytes(self._paths[name], encode_png(pixels))
            return
        if name not in self._videos:
            writer = VideoWriter(self._paths[name], self._rates[name])
            self._videos[name] = self._stack.enter_context(writer)
        self._videos[name].write(Image.fromarray(pixels))


def file_stems(sources: Sequence[Source]) -> dict[Source, str]:
    """A file name for each source: its own stem, numbered where several share it."""
    stems: dict[Source, str] = {}
    taken: set[str] = set()
    for source in sources:
        stem = "camera" if source.live else PurePath(source.name).stem
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        stems[source] = name
    return stems


def check_replaceable(path: Path, option: str) -> None:
    """Check that nothing is there, or a picture of ours.

    Raises:
        CompNetError: if something else is there, such as the image itself.
    """
    if os.path.lexists(path) and not _is_overlay(path):
        raise CompNetError(f"{path}: is there already and is no overlay; give {option} another folder")


def _is_overlay(path: Path) -> bool:
    if path.suffix == ".mp4":
        return is_own_video(path)
    try:
        with Image.open(io.BytesIO(read_bytes(path)), formats=("PNG",)) as image:
            return image.info.get("Software") == "compnet3d"
    except (CompNetError, OSError, ValueError, SyntaxError):
        return False
