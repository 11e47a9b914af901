"""The one evaluator: any Predictor, any list of samples, one dictionary of metrics that json can write.

Three pose metrics are kept apart: with the true category given, with the category the model predicted, and joint
(right category and right pose). Each comes in three forms. The plain one is over the images of the categories
whose pose is defined at all: where an object turns about its vertical axis without changing, its azimuth is
arbitrary, so such categories are left out and listed. The symmetry-aware one is over all images, with the error
taken over the object's symmetry. `all_images` is the plain error over all images, nothing left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor

from compnet3d.data.symmetry import symmetry_orders
from compnet3d.errors import CompNetError
from compnet3d.evaluation.summary import HIDDEN, Errors, Outcome, Record, summarise, to_records
from compnet3d.geometry.camera import Pose
from compnet3d.geometry.rotations import (
    angles_to_rotmat,
    rotmat_geodesic_distance,
    symmetric_rotation_error,
)
from compnet3d.utils.memory import peak_gpu_memory_mb, peak_memory_mb, restart_peak
from compnet3d.utils.progress import with_progress

if TYPE_CHECKING:
    from compnet3d.data.sample import Sample
    from compnet3d.data.symmetry import Symmetry
    from compnet3d.inference.prediction import Prediction, Predictor

ANGLES = ("azimuth", "elevation", "theta", "distance")


@overload
def evaluate(
    predictor: Predictor, samples: Sequence[Sample], *, return_records: Literal[False] = False, **options: Any
) -> dict[str, Any]: ...
@overload
def evaluate(
    predictor: Predictor, samples: Sequence[Sample], *, return_records: Literal[True], **options: Any
) -> tuple[dict[str, Any], list[Record]]: ...
def evaluate(  # type: ignore[misc]  # the overloads pass every option through
    predictor: Predictor,
    samples: Sequence[Sample],
    *,
    return_records: bool = False,
    crop: Literal["oracle", "box"] = "oracle",
    batch_size: int = 32,
    occlusion: Literal["L1", "L2", "L3"] | None = None,
    occlusion_protocol: Literal["generator", "paper"] = "generator",
    occluders: str | Path = "blobs",
    occluder_samples: Sequence[Sample] | None = None,
    rotate: float = 0.0,
    seed: int = 0,
    symmetry: Mapping[str, Symmetry] | None = None,
    unknown: bool = False,
    workers: int = 0,
    progress: bool = True,
    corruption: str | None = None,
    severity: int = 4,
    frost: str | Path | None = None,
) -> dict[str, Any] | tuple[dict[str, Any], list[Record]]:
    """Classify every sample's crop, estimate its pose, and compare both with the annotation.

    Args:
        predictor: the model or baseline.
        samples: annotated objects; each one's category must be among the predictor's.
        return_records: also return one Record per image, in the order of `samples`.
        crop: how crops are cut: "oracle" uses the annotated distance and principal point, "box" the bounding box.
        batch_size: images per forward pass.
        occlusion: paste occluders over each image, at this level; None for images as they are.
        occlusion_protocol: whose levels: of the generator of Occluded-PASCAL3D+, or of the paper's text.
        occluders: what is pasted: coloured "blobs", "objects" of other categories cut out by their masks (harder for
            the classification, since the model may know the occluder), or the cut-outs of a folder.
        occluder_samples: where objects are cut out; `samples` by default, but those of a train list are better.
        rotate: turn each crop in the plane by an angle drawn uniformly from -rotate to rotate degrees.
        seed: of the occluders and the rotations; an image's draw depends on the seed and its name alone.
        symmetry: the table of the data set's symmetric categories; None if it has none.
        unknown: also estimate the pose as for an unknown category (slow: every category is tried on every image).
        workers: processes that read images; 0 reads in this one.
        progress: draw a progress bar on stderr.
        corruption: corrupt each image before its crop is cut out; one of `benchmarks.corruption.CORRUPTIONS`.
        severity: of the corruption, 1 to 5.
        frost: folder with images of ice for the corruption "frost"; procedural ice without it.

    Returns:
        The metrics, with None for a figure over no images; `settings` repeats the options.

    Raises:
        CompNetError: there is nothing to evaluate, a sample's category is foreign to the predictor, there is nothing to
            occlude with, or no such corruption.
    """
    from compnet3d.evaluation.crops import EvaluationCrops, crop_loader
    from compnet3d.robustness.corruption import load_textures

    _check(predictor, samples, batch_size, rotate)
    crops = EvaluationCrops(
        samples,
        predictor.categories,
        predictor.input_config,
        crop=crop,
        occlusion=occlusion,
        occlusion_protocol=occlusion_protocol,
        occluders=occluders,
        occluder_samples=occluder_samples,
        rotate=rotate,
        seed=seed,
        corruption=corruption,
        severity=severity,
        textures=load_textures(frost) if corruption == "frost" and frost is not None else (),
    )
    batches = with_progress(crop_loader(crops, batch_size, workers), len(samples), enabled=progress)
    orders = symmetry_orders(predictor.categories, symmetry)
    restart_peak()
    start = time.perf_counter()
    outcome, rate = measure(predictor, batches, orders, unknown=unknown, crop=crop)
    seconds = time.perf_counter() - start
    metrics = summarise(outcome, predictor.categories, orders)
    metrics |= {
        "seconds": seconds,
        "images_per_second": len(samples) / seconds,
        "model_images_per_second": rate,
        "peak_memory_mb": peak_memory_mb(),
        "peak_gpu_memory_mb": peak_gpu_memory_mb(),
        "settings": {
            "crop": crop,
            "occlusion": occlusion,
            "occlusion_protocol": None if occlusion is None else occlusion_protocol,
            "occluders": None if occlusion is None else str(occluders),
            "rotate_deg": rotate,
            "seed": seed,
            "batch_size": batch_size,
            "corruption": corruption,
            "severity": None if corruption is None else severity,
            "frost": str(frost) if corruption == "frost" and frost is not None else None,
        },
    }
    return (metrics, to_records(outcome, samples, predictor.categories)) if return_records else metrics


def measure(
    predictor: Predictor,
    batches: Iterable[Mapping[str, Tensor]],
    orders: Tensor,
    *,
    unknown: bool = False,
    crop: Literal["oracle", "box"] = "oracle",
) -> tuple[Outcome, float]:
    """Run the predictor over batches of crops; return the rows and images per second, the median over the batches.

    A batch holds image [B, 3, H, W], category [B], azimuth, elevation, theta, distance [B] and index [B].
    `orders` [Y] is each category's symmetry order. Images are gone through once for the category and the pose that
    goes with it; a second time, with the true category, only where the category is wrong.
    """
    parts: list[Outcome] = []
    # images named wrong wait until there is a batch of them: a few take nearly as long as many
    images, categories = torch.zeros(0, 3, 0, 0), torch.zeros(0, dtype=torch.int64)
    rotations: list[Tensor] = []

    def look_again(images: Tensor, true: Tensor) -> Tensor:
        return pose_rotmat(predictor.predict_crops(images, category=true, crop=crop).pose)

    rates = []
    for batch in batches:
        start = time.perf_counter()
        prediction = predictor.predict_crops(batch["image"], crop=crop)
        index = prediction.category_index.cpu()
        rates.append(len(index) / max(1e-9, time.perf_counter() - start))
        lowest = predictor.predict_crops(batch["image"], unknown=True, crop=crop) if unknown else None
        parts.append(_compare(batch, prediction, lowest, orders))
        wrong = index != parts[-1].true
        images = torch.cat([images, batch["image"][wrong]]) if len(images) else batch["image"][wrong]
        categories = torch.cat([categories, parts[-1].true[wrong]])
        if len(images) >= len(index):
            rotations.append(look_again(images[: len(index)], categories[: len(index)]))
            images, categories = images[len(index) :], categories[len(index) :]
    if len(images):
        rotations.append(look_again(images, categories))
    outcome = _concatenate(parts)
    if rotations:
        wrong = outcome.predicted != outcome.true
        target = angles_to_rotmat(*outcome.true_pose[wrong, :3].unbind(-1))
        plain, symmetric = rotation_errors(torch.cat(rotations), target, orders[outcome.true[wrong]])
        outcome.plain.true_category[wrong], outcome.symmetric.true_category[wrong] = plain, symmetric
    return outcome, median(rates)


def _compare(batch: Mapping[str, Tensor], prediction: Prediction, lowest: Prediction | None, orders: Tensor) -> Outcome:
    """The rows of one batch; where the category is wrong, the pose for the true one is not known yet."""
    true = batch["category"].cpu().long()
    rotmat = pose_rotmat(prediction.pose)
    true_pose = torch.stack([batch[name].cpu().double() for name in ANGLES], dim=-1)
    target = angles_to_rotmat(*true_pose[:, :3].unbind(-1))
    plain, symmetric = rotation_errors(rotmat, target, orders[true])
    unknown = (None, None) if lowest is None else rotation_errors(pose_rotmat(lowest.pose), target, orders[true])
    return Outcome(
        index=batch["index"].cpu(),
        true=true,
        predicted=prediction.category_index.cpu(),
        confidence=prediction.confidence.detach().cpu().double(),
        plain=Errors(plain, plain, unknown[0]),
        symmetric=Errors(symmetric, symmetric, unknown[1]),
        unknown_category=None if lowest is None else lowest.category_index.cpu(),
        hidden=torch.stack([batch[n] for n in HIDDEN], dim=-1) if HIDDEN[0] in batch else None,
        pose=torch.stack([getattr(prediction.pose, name).detach().cpu().double() for name in ANGLES], dim=-1),
        principal_point=prediction.principal_point.detach().cpu().double(),
        true_pose=true_pose,
    )


def rotation_errors(rotmat: Tensor, target: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    """Plain and symmetric errors [N]; a wrongly named object is judged by the symmetry `orders` [N] it really has."""
    return rotmat_geodesic_distance(rotmat, target), symmetric_rotation_error(rotmat, target, orders)


def pose_rotmat(pose: Pose) -> Tensor:
    """Rotations [B, 3, 3] in double precision on the CPU, where they are compared."""
    return angles_to_rotmat(*(getattr(pose, name).detach().cpu().double() for name in ANGLES[:3]))


def _concatenate(parts: Sequence[Outcome]) -> Outcome:
    def joined(values: Sequence[Any]) -> Any:
        if isinstance(values[0], Errors):
            return Errors(*(joined([getattr(v, f) for v in values]) for f in Errors.__dataclass_fields__))
        return None if values[0] is None else torch.cat(list(values))

    return Outcome(**{name: joined([getattr(p, name) for p in parts]) for name in Outcome.__dataclass_fields__})


def _check(predictor: Predictor, samples: Sequence[Sample], batch_size: int, rotate: float) -> None:
    if not samples:
        raise CompNetError("there is nothing to evaluate: the split has no usable image; try `compnet3d data check`")
    if batch_size < 1:
        raise CompNetError(f"the batch size must be at least 1, not {batch_size}")
    if not 0 <= rotate <= 180:
        raise CompNetError(f"the largest rotation must lie between 0 and 180 degrees, not {rotate:g}")
    foreign = sorted({sample.category for sample in samples} - set(predictor.categories))
    if foreign:
        names = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
        raise CompNetError(
            f"the model was not trained on {names} (it knows {len(predictor.categories)} categories): "
            "evaluate the data set that it was trained for"
        )
