"""How often the answer is `unknown`: for objects that the model knows, for others, and where there is no object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from compnet3d.data.backgrounds import beside, window_of
from compnet3d.data.images import image_tensor, load_image
from compnet3d.data.transforms import CropMode
from compnet3d.errors import CompNetError
from compnet3d.robustness.seeds import Purpose, sample_generator
from compnet3d.utils.distributed import current_group
from compnet3d.utils.files import Json
from compnet3d.utils.settings import known, read, setting

if TYPE_CHECKING:
    from compnet3d.data.sample import Sample
    from compnet3d.evaluation.crops import Loading
    from compnet3d.inference.prediction import Predictor


@dataclass(frozen=True, kw_only=True)
class UnknownRates:
    """Shares of images whose object is called unknown.

    Attributes:
        false_alarms: of objects of the model's categories; their number is that of the evaluation.
        objects: number of images with an object of another category; missed: the share of them that is taken for a
            known one, None without such an image.
        backgrounds: number of crops without an object, cut beside one; missed_backgrounds: as `missed`.
    """

    false_alarms: float = setting(least=0, most=1)
    objects: int = setting(least=0)
    missed: float | None = setting(None, least=0, most=1)
    backgrounds: int = setting(least=0)
    missed_backgrounds: float | None = setting(None, least=0, most=1)

    @classmethod
    def from_dict(cls, values: Json) -> UnknownRates:
        """From the dictionary of `dataclasses.asdict`."""
        return read(cls, known(cls, values))


def measure_unknown(
    predictor: Predictor,
    samples: Sequence[Sample],
    false_alarms: float | None,
    *,
    crop: CropMode = "oracle",
    loading: Loading | None = None,
    seed: int = 0,
) -> UnknownRates:
    """Ask for images that show nothing that the model knows.

    Args:
        predictor: the model or baseline.
        samples: of a data set. Of those of categories that the model does not know, the object is taken; beside the
            object of each, a window as large as fits is cut out of the background, where there is room.
        false_alarms: among objects that it knows, as `EvaluationResult.called_unknown` has it.
        crop, loading: as for `evaluate`; seed: of the windows.

    Raises:
        CompNetError: if the predictor does not tell what is unknown.
    """
    from compnet3d.evaluation.crops import EvaluationCrops, Loading, crop_loader

    if false_alarms is None:
        raise CompNetError("the model does not tell what is unknown; run `compnet3d calibrate` on it first")
    loading = loading or Loading()
    others = [sample for sample in samples if sample.category not in predictor.categories]
    names = [*predictor.categories, *sorted({sample.category for sample in others})]
    missed: list[torch.Tensor] = []
    if others:
        crops = EvaluationCrops(others, names, predictor.input_config, crop=crop)
        own = [_known(predictor, batch["image"], crop) for batch in crop_loader(crops, loading)]
        missed = [called for some in current_group().hear(own) for called in some]
    windows = [window for sample in samples if (window := _background(predictor, sample, seed)) is not None]
    bare = [
        _known(predictor, torch.stack(windows[start : start + loading.batch_size]), crop)
        for start in range(0, len(windows), loading.batch_size)
    ]
    return UnknownRates(
        false_alarms=false_alarms,
        objects=len(others),
        missed=float(torch.cat(missed).double().mean()) if missed else None,
        backgrounds=len(windows),
        missed_backgrounds=float(torch.cat(bare).double().mean()) if bare else None,
    )


def _known(predictor: Predictor, images: torch.Tensor, crop: CropMode) -> torch.Tensor:
    """Which crops are taken for an object that the model knows, bool [B]."""
    unknown = predictor.predict_crops(images, crop=crop).unknown
    assert unknown is not None  # as the false alarms were counted
    return ~unknown.cpu()


def _background(predictor: Predictor, sample: Sample, seed: int) -> torch.Tensor | None:
    """A window of the sample's image without its object, uint8 [3, H, W]; None where there is no room for one."""
    strip = beside(load_image(sample.image, size=(sample.width, sample.height)), sample.bbox)
    if strip is None:
        return None
    size = predictor.input_config.width, predictor.input_config.height
    window = window_of(strip, size, sample_generator(sample, seed, Purpose.BACKGROUND))
    return image_tensor(window)
