"""Object detectors of others: any of transformers, and YOLOX as ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from compnet3d.errors import CompNetError
from compnet3d.inference.detection import Detections, Detector, suppress
from compnet3d.models.onnx_files import start_session
from compnet3d.robustness.occluders import same_category
from compnet3d.utils.files import open_regular

LEAST_SCORE = 0.3  # below it, most of what detectors answer is not there

# in the order of the outputs of a network that was trained on COCO's 80 categories
COCO_NAMES = (
    "person|bicycle|car|motorcycle|airplane|bus|train|truck|boat|traffic light|fire hydrant|stop sign|parking meter|"
    "bench|bird|cat|dog|horse|sheep|cow|elephant|bear|zebra|giraffe|backpack|umbrella|handbag|tie|suitcase|frisbee|"
    "skis|snowboard|sports ball|kite|baseball bat|baseball glove|skateboard|surfboard|tennis racket|bottle|wine glass|"
    "cup|fork|knife|spoon|bowl|banana|apple|sandwich|orange|broccoli|carrot|hot dog|pizza|donut|cake|chair|couch|"
    "potted plant|bed|dining table|toilet|tv|laptop|mouse|remote|keyboard|cell phone|microwave|oven|toaster|sink|"
    "refrigerator|book|clock|vase|scissors|teddy bear|hair drier|toothbrush"
).split("|")


def load_detector(name: str | Path, categories: Sequence[str], *, device: str = "cpu") -> Detector:
    """A detector for objects of these categories.

    A detector whose labels name all of the categories answers those alone; one that does not know some of them answers
    whatever it finds. A zero-shot detector is asked for the categories.

    Args:
        name: an ONNX file of YOLOX; a folder of transformers, or a name on the Hugging Face hub, which is downloaded:
            object detection (DETR, RT-DETR, YOLOS, ...) or zero-shot object detection (OWL-ViT, Grounding DINO, ...).
        categories: the model's.
        device: where a detector of transformers runs.

    Raises:
        CompNetError: naming the detector, if it is none of these or cannot be loaded.
    """
    if str(name).lower().endswith(".onnx"):
        return YoloxDetector(name, categories)
    return TransformersDetector(str(name), categories, device)


def wanted_labels(known: Sequence[str], categories: Sequence[str]) -> frozenset[str] | None:
    """Those of a detector's labels that name one of the categories; None, for all, if some category has no label."""
    matches = [[label for label in known if same_category(label, category)] for category in categories]
    return frozenset(label for labels in matches for label in labels) if all(matches) else None


class TransformersDetector:
    """A detector of the library transformers."""

    def __init__(self, name: str, categories: Sequence[str], device: str = "cpu") -> None:
        """See `load_detector`."""
        import transformers

        self.name = name
        try:
            config = transformers.AutoConfig.from_pretrained(name)
            self._zero_shot = type(config) in transformers.MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING
            if not self._zero_shot and type(config) not in transformers.MODEL_FOR_OBJECT_DETECTION_MAPPING:
                raise ValueError(f"a {config.model_type} model detects no objects")
            task: Any = f"{'zero-shot-' * self._zero_shot}object-detection"
            self._pipeline = transformers.pipeline(task, model=name, device=device)
        # whatever loading damaged files raises, among much else
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CompNetError(
                f"{name}: cannot be loaded as a detector ({reason}); give an ONNX file of YOLOX, or an object "
                "detection model of transformers by its folder or hub name"
            ) from error
        self._categories = list(categories)
        self._wanted = None if self._zero_shot else wanted_labels(list(config.id2label.values()), categories)

    def detect(self, image: Image.Image, count: int) -> Detections:
        """See `Detector`; scores are probabilities."""
        asked = {"candidate_labels": [c.replace("_", " ") for c in self._categories]} if self._zero_shot else {}
        found: list[dict[str, Any]] = self._pipeline(image, threshold=LEAST_SCORE, **asked)
        kept = [one for one in found if self._wanted is None or one["label"] in self._wanted]
        corners = [[one["box"][side] for side in ("xmin", "ymin", "xmax", "ymax")] for one in kept]
        boxes = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
        scores = torch.tensor([float(one["score"]) for one in kept])
        return _best(boxes, scores, [str(one["label"]) for one in kept], count)


class YoloxDetector:
    """YOLOX in ONNX as its authors export it: BGR in 0..255, padded at the right and below, strides 8, 16, 32."""

    def __init__(self, path: str | Path, categories: Sequence[str]) -> None:
        """See `load_detector`."""
        try:
            import onnxruntime
        except ImportError:
            raise CompNetError(
                'detectors in ONNX need onnxruntime; install it: pip install "compnet3d[onnx]"'
            ) from None
        try:
            with open_regular(path, 2 * 2**30) as file:
                self._session = start_session(onnxruntime, file.read())
        except OSError as error:
            raise CompNetError(f"{path}: cannot be read ({error.strerror}); check the path") from None
        except CompNetError:
            raise
        # onnxruntime's errors share no base
        except Exception as error:
            raise CompNetError(f"{path}: is no ONNX model ({str(error).splitlines()[0]}); give one of YOLOX") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shapes = (inputs[0].shape, outputs[0].shape)
        try:
            (self._height, self._width), (cells, channels) = map(int, shapes[0][2:]), map(int, shapes[1][1:])
            # column and row of the cell that each row of the output is of, and its stride, [N, 2] and [N, 1]
            self._cell, self._stride = _cells_of_strides(self._height, self._width)
            fits = cells == len(self._cell) and channels > 5
        except (TypeError, ValueError):
            fits = False
        if not fits or len(inputs) > 1:
            raise CompNetError(
                f"{path}: is not laid out as YOLOX is (input {shapes[0]}, output {shapes[1]}); its output has one row "
                "for each cell of strides 8, 16 and 32, with x, y, width, height, objectness and scores of categories"
            )
        self._input = inputs[0].name
        count = channels - 5
        self._labels = COCO_NAMES if count == len(COCO_NAMES) else [f"category {i}" for i in range(count)]
        self._wanted = wanted_labels(self._labels, categories)

    def detect(self, image: Image.Image, count: int) -> Detections:
        """See `Detector`; scores are probabilities."""
        scale = min(self._width / image.width, self._height / image.height)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        padding = 114
        canvas = Image.new("RGB", (self._width, self._height), (padding,) * 3)
        canvas.paste(image.resize(size, Image.Resampling.BILINEAR))
        pixels = np.ascontiguousarray(np.asarray(canvas)[:, :, ::-1].transpose(2, 0, 1), dtype=np.float32)
        rows = torch.from_numpy(self._session.run(None, {self._input: pixels[None]})[0][0])
        boxes = self._decoded(rows[:, :4]) / scale
        # the probability that there is something, and that it is of this category
        best, number = (rows[:, 4:5] * rows[:, 5:]).max(dim=1)
        labels = [self._labels[i] for i in number.tolist()]
        wanted = torch.tensor([self._wanted is None or label in self._wanted for label in labels])
        kept = (wanted & (best >= LEAST_SCORE)).nonzero()[:, 0]
        return _best(boxes[kept], best[kept], [labels[i] for i in kept.tolist()], count)

    def _decoded(self, values: Tensor) -> Tensor:
        """Corners in pixels of the input from the network's offsets and log sizes, [N, 4]."""
        centre, half = (values[:, :2] + self._cell) * self._stride, values[:, 2:].exp() * self._stride / 2
        return torch.cat([centre - half, centre + half], dim=1)


def _cells_of_strides(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Column and row of the cells of strides 8, 16 and 32 of an input, float [N, 2], and their strides, [N, 1]."""
    cells, strides = [], []
    for stride in (8, 16, 32):
        v, u = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        cells.append(torch.stack([u, v], dim=-1).reshape(-1, 2).float())
        strides.append(torch.full((len(cells[-1]), 1), float(stride)))
    return torch.cat(cells), torch.cat(strides)


def _best(boxes: Tensor, scores: Tensor, labels: Sequence[str], count: int) -> Detections:
    most_overlap = 0.45
    kept = suppress(boxes, scores, most_overlap, count)
    return Detections(boxes[kept], scores[kept], tuple(labels[i] for i in kept.tolist()))
