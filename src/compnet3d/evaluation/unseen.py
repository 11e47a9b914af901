"""Objects of categories that the predictor was not trained on (section 5.3): the pose, and its source category.

The source category is the seen category with the lowest reconstruction loss, whose features give the pose. Predictors
without a reconstruction answer as always.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from compnet3d.data.symmetry import symmetry_orders
from compnet3d.errors import CompNetError
from compnet3d.evaluation.evaluate import ANGLES, pose_rotmat, resources, rotation_errors
from compnet3d.evaluation.metrics import summarise_pose
from compnet3d.evaluation.result import Resources
from compnet3d.evaluation.unseen_result import UnseenCategory, UnseenPose, UnseenResult
from compnet3d.geometry.rotations import CONTINUOUS, angles_to_rotmat
from compnet3d.utils.distributed import current_group
from compnet3d.utils.memory import restart_peak
from compnet3d.utils.workers import explaining_lost_loaders

if TYPE_CHECKING:
    from compnet3d.data.sample import Sample
    from compnet3d.data.symmetry import Symmetry
    from compnet3d.evaluation.crops import Loading
    from compnet3d.inference.prediction import Predictor


@explaining_lost_loaders()
def evaluate_unseen(
    predictor: Predictor,
    samples: Sequence[Sample],
    *,
    crop: Literal["oracle", "box"] = "oracle",
    symmetry: Mapping[str, Symmetry] | None = None,
    loading: Loading | None = None,
) -> UnseenResult:
    """Estimate the pose of every sample and compare it with the annotation.

    Args:
        predictor: the model or baseline.
        samples: annotated objects of categories that it does not know.
        crop, symmetry, loading: as for `evaluate`.

    Raises:
        CompNetError: if there is nothing to evaluate, or the predictor was trained on one of the categories.
    """
    from compnet3d.evaluation.crops import EvaluationCrops, Loading, crop_loader

    if not samples:
        raise CompNetError("there is nothing to evaluate: the split has no usable image; try `compnet3d data check`")
    unseen = list(dict.fromkeys(sample.category for sample in samples))
    known = sorted(set(unseen) & set(predictor.categories))
    if known:
        raise CompNetError(f"the model was trained on {known[0]}: leave it out, or train with --without {known[0]}")
    # the model's first, so that its indices stay what they are; it never answers with one of the rest
    categories = [*predictor.categories, *unseen]
    crops = EvaluationCrops(samples, categories, predictor.input_config, crop=crop)
    orders = symmetry_orders(categories, symmetry)
    parts, rates = [], []
    restart_peak()
    start = time.perf_counter()
    for batch in crop_loader(crops, loading or Loading()):
        begin = time.perf_counter()
        prediction = predictor.predict_crops(batch["image"], unseen=True, crop=crop)
        source = prediction.category_index.cpu()
        rates.append(len(source) / max(1e-9, time.perf_counter() - begin))
        target = angles_to_rotmat(*(batch[name].double() for name in ANGLES[:3]))
        plain, symmetric, _ = rotation_errors(pose_rotmat(prediction.pose), target, orders[batch["category"]])
        parts.append((batch["category"], source, plain, symmetric))
    heard = current_group().hear((parts, median(rates)))
    rows = _Rows(*(torch.cat(columns) for columns in zip(*(row for some, _ in heard for row in some), strict=True)))
    return _summary(rows, categories, orders, resources(start, len(samples), sum(rate for _, rate in heard)))


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


@dataclass(frozen=True)
class _Rows:
    """True category, source category, plain and symmetric error of each image, [N] each."""

    true: Tensor
    source: Tensor
    plain: Tensor
    symmetric: Tensor


def _summary(rows: _Rows, categories: Sequence[str], orders: Tensor, used: Resources) -> UnseenResult:
    def pose(chosen: Tensor) -> UnseenPose:
        defined = chosen & (orders[rows.true] != CONTINUOUS)
        return UnseenPose(summarise_pose(rows.plain[defined]), summarise_pose(rows.symmetric[chosen]))

    per_category: dict[str, UnseenCategory] = {}
    for number in rows.true.unique().tolist():
        chosen = rows.true == number
        # [Y]: how often each seen category gave the features
        share = torch.bincount(rows.source[chosen], minlength=len(categories)).double() / chosen.sum()
        # stable: of equal shares the first category comes first, in every run
        order = share.argsort(descending=True, stable=True).tolist()
        per_category[categories[number]] = UnseenCategory(
            images=int(chosen.sum()),
            pose=pose(chosen),
            source_categories={categories[i]: float(share[i]) for i in order if share[i] > 0},
        )
    plain = [metrics.pose.plain.acc_pi6 for metrics in per_category.values()]
    # means over categories and not over images, as table 3 has them
    defined = [accuracy for accuracy in plain if accuracy is not None]
    aware = [metrics.pose.symmetry_aware.acc_pi6 or 0.0 for metrics in per_category.values()]
    return UnseenResult(
        images=len(rows.true),
        pose=pose(torch.ones_like(rows.true, dtype=torch.bool)),
        average=sum(defined) / len(defined) if defined else None,
        average_symmetry_aware=sum(aware) / len(aware),
        per_category=per_category,
        resources=used,
    )
