"""Objects of categories that the predictor was not trained on (section 5.3): the pose, and who lent the features.

The pose is that of the seen category with the lowest reconstruction loss; predictors without a reconstruction answer as
always.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from compnet3d.data.symmetry import symmetry_orders
from compnet3d.errors import CompNetError
from compnet3d.evaluation.evaluate import ANGLES, pose_rotmat, rotation_errors
from compnet3d.evaluation.metrics import summarise_pose
from compnet3d.geometry.rotations import CONTINUOUS, angles_to_rotmat
from compnet3d.utils.memory import peak_gpu_memory_mb, peak_memory_mb, restart_peak
from compnet3d.utils.progress import with_progress

if TYPE_CHECKING:
    from compnet3d.data.sample import Sample
    from compnet3d.data.symmetry import Symmetry
    from compnet3d.inference.prediction import Predictor


def evaluate_unseen(
    predictor: Predictor,
    samples: Sequence[Sample],
    *,
    crop: Literal["oracle", "box"] = "oracle",
    batch_size: int = 32,
    symmetry: Mapping[str, Symmetry] | None = None,
    workers: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Estimate the pose of every sample and compare it with the annotation.

    Args:
        predictor: the model or baseline.
        samples: annotated objects of categories that it does not know.
        crop, batch_size, symmetry, workers, progress: as for `evaluate`.

    Returns:
        `images`; `pose`: the plain metrics (acc_pi6, acc_pi18, median_deg) over the categories whose pose is defined,
        and `symmetry_aware` ones over all; `per_category`: the same for each, and `source_categories`: the share of
        its images for which a seen category lent its features, largest first; `average` and `average_symmetry_aware`:
        the means of acc_pi6 over the categories, as in table 3; `seconds` that it took, `model_images_per_second`
        without reading images (the median over the batches), `peak_memory_mb` and `peak_gpu_memory_mb`.

    Raises:
        CompNetError: if there is nothing to evaluate, or the predictor was trained on one of the categories.
    """
    from compnet3d.evaluation.crops import EvaluationCrops, crop_loader

    if not samples:
        raise CompNetError("there is nothing to evaluate: the split has no usable image; try `compnet3d data check`")
    unseen = list(dict.fromkeys(sample.category for sample in samples))
    known = sorted(set(unseen) & set(predictor.categories))
    if known:
        raise CompNetError(f"the model was trained on {known[0]}: leave it out, or train with --without {known[0]}")
    categories = [*predictor.categories, *unseen]
    crops = EvaluationCrops(samples, categories, predictor.input_config, crop=crop)
    orders = symmetry_orders(categories, symmetry)
    true: list[Tensor] = []
    source_category: list[Tensor] = []
    plain: list[Tensor] = []
    symmetric: list[Tensor] = []
    rates: list[float] = []
    restart_peak()
    start = time.perf_counter()
    for batch in with_progress(crop_loader(crops, batch_size, workers), len(samples), enabled=progress):
        begin = time.perf_counter()
        prediction = predictor.predict_crops(batch["image"], unknown=True, crop=crop)
        source_category.append(prediction.category_index.cpu())
        rates.append(len(source_category[-1]) / max(1e-9, time.perf_counter() - begin))
        target = angles_to_rotmat(*(batch[name].double() for name in ANGLES[:3]))
        errors = rotation_errors(pose_rotmat(prediction.pose), target, orders[batch["category"]])
        true.append(batch["category"])
        plain.append(errors[0])
        symmetric.append(errors[1])
    seconds = time.perf_counter() - start
    summary = _summary(
        torch.cat(true), torch.cat(source_category), torch.cat(plain), torch.cat(symmetric), categories, orders
    )
    return summary | {
        "seconds": seconds,
        "model_images_per_second": median(rates),
        "peak_memory_mb": peak_memory_mb(),
        "peak_gpu_memory_mb": peak_gpu_memory_mb(),
    }


def common_samples(samples: Sequence[Sample], categories: Sequence[str]) -> list[Sample]:
    """Those samples whose category, by name, is among these.

    Raises:
        CompNetError: if there is none.
    """
    common = [sample for sample in samples if sample.category in set(categories)]
    if not common:
        raise CompNetError(
            f"the data set has none of the model's {len(categories)} categories, such as {categories[0]}; categories "
            "are matched by their folders' names"
        )
    return common


def unseen_samples(samples: Sequence[Sample], categories: Sequence[str]) -> list[Sample]:
    """Those samples whose category, by name, is not among these.

    Raises:
        CompNetError: if there is none.
    """
    unseen = [sample for sample in samples if sample.category not in set(categories)]
    if not unseen:
        raise CompNetError("the model knows all categories of the data set; train it with --without to leave some out")
    return unseen


def _summary(
    true: Tensor, source_category: Tensor, plain: Tensor, symmetric: Tensor, categories: Sequence[str], orders: Tensor
) -> dict[str, Any]:
    def pose(rows: Tensor) -> dict[str, Any]:
        defined = rows & (orders[true] != CONTINUOUS)
        return {**summarise_pose(plain[defined]), "symmetry_aware": summarise_pose(symmetric[rows])}

    per_category: dict[str, dict[str, Any]] = {}
    for number in true.unique().tolist():
        rows = true == number
        share = torch.bincount(source_category[rows], minlength=len(categories)).double() / rows.sum()
        order = share.argsort(descending=True, stable=True).tolist()
        per_category[categories[number]] = {
            "images": int(rows.sum()),
            "pose": pose(rows),
            "source_categories": {categories[i]: float(share[i]) for i in order if share[i] > 0},
        }
    plain_metrics = [entry["pose"]["acc_pi6"] for entry in per_category.values()]
    defined = [figure for figure in plain_metrics if figure is not None]
    aware = [entry["pose"]["symmetry_aware"]["acc_pi6"] for entry in per_category.values()]
    return {
        "images": len(true),
        "pose": pose(torch.ones_like(true, dtype=torch.bool)),
        "average": sum(defined) / len(defined) if defined else None,
        "average_symmetry_aware": sum(aware) / len(aware),
        "per_category": per_category,
    }
