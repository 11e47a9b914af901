"""A run's explanations as files: one sheet for each object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from compnet3d.data.sources import Picture, Source
from compnet3d.data.transforms import BoxCrop
from compnet3d.errors import CompNetError
from compnet3d.models.compnet import CompNet
from compnet3d.reporting.explanations import draw_sheet
from compnet3d.reporting.overlays import encode_png
from compnet3d.reporting.plots import require_matplotlib
from compnet3d.reporting.prediction_overlays import check_replaceable, file_stems
from compnet3d.utils.files import write_bytes

if TYPE_CHECKING:
    from compnet3d.models.registry import TrainedModel


class ExplanationSheets:
    """The sheets of a run, NAME.png for the image's first object, NAME_object2.png for the second, and so on."""

    def __init__(self, folder: Path, model: TrainedModel, sources: Sequence[Source]) -> None:
        """Into a folder.

        Raises:
            CompNetError: if the model explains nothing, matplotlib is missing, a source is no image, or something else
                than a picture of ours is there already.
        """
        require_matplotlib()
        if not isinstance(model, CompNet):
            raise CompNetError(f"--explain needs a CompNet: a {model.kind} model has nothing to show")
        moving = next((source.name for source in sources if source.moving), None)
        if moving is not None:
            raise CompNetError(f"--explain takes images, not {moving}; save the frames that you want explained")
        self._model = model
        self._paths = {source.name: folder / f"{stem}.png" for source, stem in file_stems(sources).items()}
        for path in self._paths.values():
            check_replaceable(path, "--explain")

    def add(self, picture: Picture, image: Image.Image, crops: Sequence[BoxCrop]) -> None:
        """Explain each object of a picture and write its sheet."""
        first = self._paths[picture.name]
        for number, crop in enumerate(crops, 1):
            path = first if number == 1 else first.with_name(f"{first.stem}_object{number}.png")
            check_replaceable(path, "--explain")
            sheet = draw_sheet(self._model.explain_crop(image, crop))
            write_bytes(path, encode_png(np.asarray(sheet)))
