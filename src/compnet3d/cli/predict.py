"""`compnet3d predict`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from compnet3d.cli.evaluate import load_model
from compnet3d.cli.options import (
    Box,
    Device,
    File,
    Folder,
)
from compnet3d.errors import CompNetError


@dataclass(frozen=True)
class Predict:
    """Classify the object in each image and estimate its pose."""

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """The model's folder, RUN/model of a training run (RUN itself will do)."""
    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE...", help_behavior_hint="(required)")]
    """Image files, one object each."""
    box: Box = None
    """The object's box in pixels, used for every image; the whole image by default."""
    json: File = None
    """Write the predictions to this file too; - writes them to the standard output instead of a table."""
    matching: Literal["exhaustive", "pruned"] = "exhaustive"
    """How categories are compared: all of them closely (Eq. 7), or only the most likely ones (faster from 50 on)."""
    overlay: Folder = None
    """Write each image with the projected model drawn over it into this folder."""
    device: Device = "auto"
    """Where to run the model; auto takes the GPU if there is one."""

    def run(self) -> None:
        """Predict, print, write files."""
        if not self.images:
            raise CompNetError("no image given: name at least one image file after the model")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise CompNetError("--box needs X1 Y1 X2 Y2 with X1 < X2 and Y1 < Y2, in pixels from the top-left corner")
        from compnet3d.reporting.predictions import predict_files

        model = load_model(self.model, self.device, self.matching)
        predict_files(model, self.images, box=self.box, json_file=self.json, overlay=self.overlay)
