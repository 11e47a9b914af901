"""`compnet3d predict`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from compnet3d.cli.evaluate import load_model
from compnet3d.cli.options import Box, Device, File, Flag, Folder, at_least
from compnet3d.errors import CompNetError

if TYPE_CHECKING:
    from compnet3d.models.registry import TrainedModel
    from compnet3d.reporting.predictions import Places

Name = Annotated[str | None, arg(metavar="FILE|FOLDER|NAME", help_behavior_hint="")]
Convention = Annotated[
    Literal["compnet3d", "opencv", "opengl", "blender", "pytorch3d"],
    arg(metavar="compnet3d|opencv|opengl|blender|pytorch3d"),
]


@dataclass(frozen=True)
class Predict:
    """Classify the objects in images and videos and estimate their poses.

    Without a box and a detector the model searches each image for the object itself.
    """

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """The model: its folder, a training run's, or a name such as quickstart."""
    images: Annotated[Positional[tuple[str, ...]], arg(metavar="IMAGE...", help_behavior_hint="(required)")]
    """Images, folders of images, quoted patterns such as "shots/*.jpg", videos, or camera (camera:1, ...)."""
    box: Box = None
    """The object's box in pixels, used for every image."""
    boxes: File = None
    """Boxes for each image: COCO JSON, JSON or JSON lines (image, box), or CSV (image,x1,y1,x2,y2)."""
    detector: Name = None
    """Find the objects with a detector: an ONNX file of YOLOX, or an object detection model of transformers, by its
    folder or its name on the Hugging Face hub, which is downloaded."""
    whole: Flag = False
    """Take each image for a crop that one object fills."""
    objects: Annotated[int, arg(metavar="N")] = 1
    """How many objects to look for in each image, with a detector or without."""
    every: Annotated[int, arg(metavar="N")] = 1
    """Of a video or a camera, take every N-th frame."""
    json: File = None
    """Write the predictions to this file; - writes them to the standard output instead of a table."""
    jsonl: File = None
    """The same with one prediction a line; - prints each at once."""
    csv: File = None
    """The same as a table."""
    coco: File = None
    """The same in the manner of COCO's annotations."""
    degrees: Flag = False
    """Write angles in degrees (azimuth_deg, ...) instead of radians."""
    convention: Convention = "compnet3d"
    """Also write the pose as another library wants it: R, t and K for opencv, ..."""
    matching: Literal["exhaustive", "pruned"] = "exhaustive"
    """How categories are compared: all of them closely (Eq. 7), or only the most likely ones (faster from 50 on)."""
    overlay: Folder = None
    """Write each image or video with the projected models drawn over it into this folder."""
    explain: Folder = None
    """Write a sheet for each object into this folder that shows why the model answers so (needs matplotlib)."""
    device: Device = "auto"
    """Where to run the model; auto takes the GPU if there is one."""

    def run(self) -> None:
        """Predict, print, write files."""
        self._check()
        from compnet3d.data.sources import find_sources
        from compnet3d.reporting.predictions import Outputs, predict_sources

        sources = find_sources(self.images)
        outputs = Outputs(self._files(), self.overlay, self.explain, self.convention, self.degrees)
        model = load_model(self.model, self.device, self.matching)
        predict_sources(model, sources, self._places(model), outputs, every=self.every)

    def _check(self) -> None:
        if not self.images:
            raise CompNetError("no image given: name at least one image file after the model")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise CompNetError("--box needs X1 Y1 X2 Y2 with X1 < X2 and Y1 < Y2, in pixels from the top-left corner")
        at_least(1, objects=self.objects, every=self.every)
        places = {"--box": self.box, "--boxes": self.boxes, "--detector": self.detector, "--whole": self.whole or None}
        given = [name for name, value in places.items() if value is not None]
        if len(given) > 1:
            raise CompNetError(f"{' and '.join(given)} both say where the objects are; give one of them")
        if self.overlay is not None and self.overlay == self.explain:
            raise CompNetError("--overlay and --explain would write the same names; give them different folders")
        if list(self._files().values()).count(Path("-")) > 1:
            raise CompNetError("two formats cannot both go to the standard output; give one of them a file")

    def _files(self) -> dict[str, Path]:
        files = {"json": self.json, "jsonl": self.jsonl, "csv": self.csv, "coco": self.coco}
        return {kind: path for kind, path in files.items() if path is not None}

    def _places(self, model: TrainedModel) -> Places:
        from compnet3d.data.box_files import read_box_file
        from compnet3d.models.detectors import load_detector
        from compnet3d.reporting.predictions import Places

        if self.whole:
            return Places()
        if self.box is not None or self.boxes is not None:
            return Places(self.box, None if self.boxes is None else read_box_file(self.boxes))
        if self.detector is None:
            return Places(detector=model.object_search(), objects=self.objects)
        detector = load_detector(self.detector, model.categories, device=str(model.device))
        return Places(detector=detector, objects=self.objects)
