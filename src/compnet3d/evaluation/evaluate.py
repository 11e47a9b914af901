"""The one evaluator: any Predictor, any list of samples, one `EvaluationResult` (see there for the pose metrics)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from compnet3d.data.symmetry import symmetry_orders
from compnet3d.errors import CompNetError
from compnet3d.evaluation.occlusion_map import occlusion_ious
from compnet3d.evaluation.result import EvaluationResult, Resources, Settings
from compnet3d.evaluation.summary import HIDDEN, Errors, Outcome, summarise
from compnet3d.geometry.camera import Pose
from compnet3d.geometry.rotations import (
    angles_to_rotmat,
    half_turned,
    rotmat_geodesic_distance,
    symmetric_rotation_error,
)
from compnet3d.robustness.shift import Shift
from compnet3d.utils.distributed import current_group
from compnet3d.utils.memory import peak_gpu_memory_mb, peak_memory_mb, restart_peak
from compnet3d.utils.workers import explaining_lost_loaders

if TYPE_CHECKING:
    from compnet3d.data.sample import Sample
    from compnet3d.data.symmetry import Symmetry
    from compnet3d.evaluation.crops import Loading
    from compnet3d.inference.prediction import Prediction, Predictor

ANGLES = ("azimuth", "elevation", "theta", "distance")
BATCHES_UNTIL_SECOND_LOOK = 4


@explaining_lost_loaders()
def evaluate(
    predictor: Predictor,
    samples: Sequence[Sample],
    *,
    shift: Shift | None = None,
    crop: Literal["oracle", "box"] = "oracle",
    symmetry: Mapping[str, Symmetry] | None = None,
    unseen: bool = False,
    occluder_samples: Sequence[Sample] | None = None,
    loading: Loading | None = None,
) -> EvaluationResult:
    """Classify every sample's crop, estimate its pose, and compare both with the annotation.

    Processes that have joined in a group (see `joined`) go through a part of the samples each; all return the result.

    Args:
        predictor: the model or baseline.
        samples: annotated objects; each one's category must be among the predictor's.
        shift: of the images; None for images as they are.
        crop: how crops are cut: "oracle" uses the annotated distance and principal point, "box" the bounding box.
        symmetry: the table of the data set's symmetric categories; None if it has none.
        unseen: also estimate the pose as for an unseen category (slow: every category is tried on every image).
        occluder_samples: where occluding objects are cut out; `samples` by default, but those of a train list are
            better.
        loading: batch size, processes that read images, and progress bar; see `Loading` for the defaults.

    Raises:
        CompNetError: if there is nothing to evaluate, the predictor does not know a sample's category, or there is
            nothing to occlude with.
    """
    from compnet3d.evaluation.crops import EvaluationCrops, Loading, crop_loader

    shift, loading = shift or Shift(), loading or Loading()
    _check(predictor, samples)
    crops = EvaluationCrops(
        samples,
        predictor.categories,
        predictor.input_config,
        crop=crop,
        shift=shift,
        occluder_samples=occluder_samples,
    )
    orders = symmetry_orders(predictor.categories, symmetry)
    # after the model and the samples are loaded, before the first crop is cut
    restart_peak()
    start = time.perf_counter()
    batches = crop_loader(crops, loading, together=BATCHES_UNTIL_SECOND_LOOK)
    outcome, rate = measure(predictor, batches, orders, unseen=unseen, crop=crop)
    # each process has seen its share, and all of them get to know everything
    heard = current_group().hear((outcome, rate))
    outcome, rate = _concatenate([rows for rows, _ in heard]), sum(one for _, one in heard)
    settings = Settings(crop, loading.batch_size, shift)
    return summarise(outcome, predictor.categories, orders, samples, resources(start, len(samples), rate), settings)


def resources(start: float, images: int, rate: float) -> Resources:
    """Time since `start` (`time.perf_counter`) for some images, and peak memory; `rate` is the model's own."""
    seconds = time.perf_counter() - start
    return Resources(seconds, images / seconds, rate, peak_memory_mb(), peak_gpu_memory_mb())


def measure(
    predictor: Predictor,
    batches: Iterable[Mapping[str, Tensor]],
    orders: Tensor,
    *,
    unseen: bool = False,
    crop: Literal["oracle", "box"] = "oracle",
) -> tuple[Outcome, float]:
    """Run the predictor over batches of crops; return the rows and images per second, the median over the batches.

    A batch holds image [B, 3, H, W], category [B], azimuth, elevation, theta, distance [B] and index [B].
    `orders` [Y] is each category's symmetry order. Images are gone through once for the category and the pose that
    goes with it; a second time, with the true category, only where the category is wrong.
    """
    parts: list[Outcome] = []
    # misclassified images wait for each other: a few take nearly as long as many. They do so for a fixed number of
    # batches: which ones meet in a batch, and so their last bits, does not depend on how many processes there are
    images, categories = torch.zeros(0, 3, 0, 0), torch.zeros(0, dtype=torch.int64)
    rotations: list[Tensor] = []

    def look_again(images: Tensor, true: Tensor) -> Tensor:
        return pose_rotmat(predictor.predict_crops(images, category=true, crop=crop).pose)

    rates = []
    for number, batch in enumerate(batches, 1):
        start = time.perf_counter()
        prediction = predictor.predict_crops(batch["image"], crop=crop)
        # waits for an accelerator to finish, so that the rate is of work that is done
        index = prediction.category_index.cpu()
        rates.append(len(index) / max(1e-9, time.perf_counter() - start))
        lowest = predictor.predict_crops(batch["image"], unseen=True, crop=crop) if unseen else None
        parts.append(_compare(batch, prediction, lowest, orders))
        wrong = index != parts[-1].true
        images = torch.cat([images, batch["image"][wrong]]) if len(images) else batch["image"][wrong]
        categories = torch.cat([categories, parts[-1].true[wrong]])
        # a batch of them and no more, so that the second look takes no more memory than the first
        if len(images) >= len(index):
            rotations.append(look_again(images[: len(index)], categories[: len(index)]))
            images, categories = images[len(index) :], categories[len(index) :]
        if len(images) and number % BATCHES_UNTIL_SECOND_LOOK == 0:
            rotations.append(look_again(images, categories))
            images, categories = images[:0], categories[:0]
    if len(images):
        rotations.append(look_again(images, categories))
    outcome = _concatenate(parts)
    if rotations:
        wrong = outcome.predicted != outcome.true
        # rows in their order, which is the order in which the images have waited
        target = angles_to_rotmat(*outcome.true_pose[wrong, :3].unbind(-1))
        found = rotation_errors(torch.cat(rotations), target, orders[outcome.true[wrong]])
        # until here this was the error for the predicted category; joining the batches has made two tensors of the one
        for errors, again in zip((outcome.plain, outcome.symmetric, outcome.half_turn), found, strict=True):
            errors.true_category[wrong] = again
    # the median: the first batch loads kernels and makes the pose hypotheses
    return outcome, median(rates)


def _compare(batch: Mapping[str, Tensor], prediction: Prediction, lowest: Prediction | None, orders: Tensor) -> Outcome:
    """The rows of one batch; where the category is wrong, the pose for the true one is not known yet."""
    true = batch["category"].cpu().long()
    rotmat = pose_rotmat(prediction.pose)
    true_pose = torch.stack([batch[name].cpu().double() for name in ANGLES], dim=-1)
    target = angles_to_rotmat(*true_pose[:, :3].unbind(-1))
    # the symmetry is the true object's, whatever it was taken for
    given = rotation_errors(rotmat, target, orders[true])
    unseen = (None,) * 3 if lowest is None else rotation_errors(pose_rotmat(lowest.pose), target, orders[true])
    plain, symmetric, half_turn = (Errors(a, a, b) for a, b in zip(given, unseen, strict=True))
    return Outcome(
        index=batch["index"].cpu(),
        true=true,
        predicted=prediction.category_index.cpu(),
        confidence=prediction.confidence.detach().cpu().double(),
        plain=plain,
        symmetric=symmetric,
        half_turn=half_turn,
        unseen_category=None if lowest is None else lowest.category_index.cpu(),
        occlusion_ious=None
        if prediction.occluded is None or "object_mask" not in batch
        else occlusion_ious(prediction.occluded, batch),
        hidden=torch.stack([batch[n] for n in HIDDEN], dim=-1) if HIDDEN[0] in batch else None,
        pose=torch.stack([getattr(prediction.pose, name).detach().cpu().double() for name in ANGLES], dim=-1),
        principal_point=prediction.principal_point.detach().cpu().double(),
        true_pose=true_pose,
        pose_confidence=None if prediction.pose_confidence is None else prediction.pose_confidence.cpu().double(),
        unknown=None if prediction.unknown is None else prediction.unknown.cpu(),
    )


def rotation_errors(rotmat: Tensor, target: Tensor, orders: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Plain and symmetric errors [N], and the symmetric ones against the target after half a turn about z.

    `orders` [N] are the symmetry orders of the true categories.
    """
    return (
        rotmat_geodesic_distance(rotmat, target),
        symmetric_rotation_error(rotmat, target, orders),
        symmetric_rotation_error(rotmat, half_turned(target), orders),
    )


def pose_rotmat(pose: Pose) -> Tensor:
    """Rotations [B, 3, 3] in double precision on the CPU, where they are compared."""
    return angles_to_rotmat(*(getattr(pose, name).detach().cpu().double() for name in ANGLES[:3]))


def _concatenate(parts: Sequence[Outcome]) -> Outcome:
    def joined(values: Sequence[Any]) -> Any:
        if isinstance(values[0], Errors):
            return Errors(*(joined([getattr(v, f) for v in values]) for f in Errors.__dataclass_fields__))
        return None if values[0] is None else torch.cat(list(values))

    return Outcome(**{name: joined([getattr(p, name) for p in parts]) for name in Outcome.__dataclass_fields__})


def _check(predictor: Predictor, samples: Sequence[Sample]) -> None:
    if not samples:
        raise CompNetError("there is nothing to evaluate: the split has no usable image; try `compnet3d data check`")
    unknown = sorted({sample.category for sample in samples} - set(predictor.categories))
    if unknown:
        names = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise CompNetError(
            f"the model was not trained on {names} (it knows {len(predictor.categories)} categories): "
            "evaluate the data set that it was trained for"
        )
