"""What exported ONNX files lose and gain against their model: accuracy on a data set, time for a crop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from compnet3d.bench.timing import time_in_turn
from compnet3d.data.sample import Sample
from compnet3d.data.symmetry import Symmetry, symmetry_orders
from compnet3d.data.transforms import CropMode
from compnet3d.errors import CompNetError
from compnet3d.evaluation.crops import EvaluationCrops, Loading, crop_loader
from compnet3d.evaluation.evaluate import ANGLES, pose_rotmat
from compnet3d.evaluation.metrics import PoseMetrics, summarise_pose
from compnet3d.geometry.rotations import angles_to_rotmat, symmetric_rotation_error
from compnet3d.inference.prediction import Predictor
from compnet3d.models.compnet import CompNet
from compnet3d.models.onnx_predictor import OnnxPredictor
from compnet3d.models.registry import TrainedModel


@dataclass(frozen=True)
class RuntimeResult:
    """Of one way to run a model.

    Attributes:
        name: of the way.
        images: that were classified; posed: those of them whose pose was searched.
        accuracy: share of images whose category is right.
        pose: of the true category's best initial pose, without refinement, symmetric turns allowed for.
        single_s, batch_s: seconds for the scores of one crop, alone and in a batch of 32.
    """

    name: str
    images: int
    posed: int
    accuracy: float
    pose: PoseMetrics
    single_s: float
    batch_s: float


def compare_exported(
    model: TrainedModel,
    folder: Path,
    samples: Sequence[Sample],
    *,
    crop: CropMode,
    posed: Collection[str],
    symmetry: Mapping[str, Symmetry] | None = None,
    int8: bool = False,
) -> list[RuntimeResult]:
    """The model in PyTorch, and its exported files in float32 and, if asked for, in int8.

    Args:
        model: the files came from it; it runs on the CPU, in bfloat16 where that is its way.
        folder: of the files.
        samples: annotated objects; crop: how the files were exported; symmetry: of the data set.
        posed: the categories whose pose search is among the files.
        int8: there are such files.

    Raises:
        CompNetError: if there are no samples, or a file is missing.
    """
    if not samples:
        raise CompNetError("there is nothing to compare: the val list has no usable image of the model's categories")
    ways: dict[str, Predictor] = {"PyTorch": _unrefined(model), "ONNX float32": OnnxPredictor(folder)}
    if int8:
        ways["ONNX int8"] = OnnxPredictor(folder, int8=True)
    crops = EvaluationCrops(samples, model.categories, model.input_config, crop=crop)
    orders = symmetry_orders(model.categories, symmetry)
    numbers = torch.tensor([number for number, name in enumerate(model.categories) if name in posed])
    hits: dict[str, list[Tensor]] = {name: [] for name in ways}
    errors: dict[str, list[Tensor]] = {name: [] for name in ways}
    for batch in crop_loader(crops, Loading()):
        true = batch["category"].long()
        target = angles_to_rotmat(*(batch[name].double() for name in ANGLES[:3]))
        searched = torch.isin(true, numbers)
        for name, predictor in ways.items():
            hits[name].append(_classifier(model, predictor)(batch["image"]).argmax(dim=1) == true)
            if searched.any():
                found = predictor.predict_crops(batch["image"][searched], category=true[searched], crop=crop)
                rotmat = pose_rotmat(found.pose)
                errors[name].append(symmetric_rotation_error(rotmat, target[searched], orders[true[searched]]))
    images = torch.stack([crops[number % len(crops)]["image"] for number in range(32)])
    alone, together = _times(model, ways, images[:1]), _times(model, ways, images)
    return [
        RuntimeResult(
            name,
            len(samples),
            sum(map(len, errors[name])),
            float(torch.cat(hits[name]).double().mean()),
            summarise_pose(torch.cat([torch.zeros(0), *errors[name]])),
            alone[name],
            together[name] / len(images),
        )
        for name in ways
    ]


def _times(model: TrainedModel, ways: Mapping[str, Predictor], images: Tensor) -> dict[str, float]:
    """Seconds for the scores of these crops."""
    tasks = {name: partial(_classifier(model, predictor), images) for name, predictor in ways.items()}
    return time_in_turn(tasks)


def _classifier(model: TrainedModel, predictor: Predictor) -> Callable[[Tensor], Tensor]:
    """Crops to the scores [B, Y] of a way to run the model."""
    if isinstance(predictor, OnnxPredictor):
        return lambda images: predictor.scores(images)["scores"]
    return model.classify_crops


def _unrefined(model: TrainedModel) -> TrainedModel:
    """The model whose poses are the best initial ones, as the files have them."""
    if not isinstance(model, CompNet):
        return model
    # shares all tensors with the model
    unrefined = copy.copy(model)
    unrefined.config = replace(model.config, pose=replace(model.config.pose, starts=1, steps=0))
    return unrefined
