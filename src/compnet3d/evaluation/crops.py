"""The crops that an evaluation looks at: occluded, cut out and turned in the plane, always the same for one seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from compnet3d.data.loader import CropDataset
from compnet3d.data.sample import Sample
from compnet3d.data.transforms import Crop, CropMode, InputConfig, make_crop
from compnet3d.errors import CompNetError
from compnet3d.robustness.corruption import check_corruption, corrupt
from compnet3d.robustness.occluders import gather_occluders
from compnet3d.robustness.occlusion import Level, Occlusion, Protocol
from compnet3d.robustness.seeds import _ROTATION, corruption_generator, sample_generator


class EvaluationCrops(CropDataset):
    """One crop per sample, without augmentation, optionally of a corrupted image, turned and occluded.

    The angle and the occluders of an image depend on the seed and on the image's name alone, so that they stay the
    same when the list gets longer or shorter. Occluders are pasted on the image, before the crop is cut out.

    An item is that of `CropDataset` and, of occluded crops, `hidden_object` and `hidden_background`: the shares of the
    image's object and background pixels that the occluders hide, float32 []. Samples of a data set that is
    occluded already tell theirs.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        categories: Sequence[str],
        input_config: InputConfig,
        *,
        crop: CropMode = "oracle",
        occlusion: Level | None = None,
        occlusion_protocol: Protocol = "generator",
        occluders: str | Path = "blobs",
        occluder_samples: Sequence[Sample] | None = None,
        rotate: float = 0.0,
        seed: int = 0,
        corruption: str | None = None,
        severity: int = 4,
        textures: Sequence[np.ndarray] = (),
    ) -> None:
        """Prepare the crops.

        Args:
            samples, categories, spec, crop: as for `CropDataset`.
            occlusion: level of the occlusion; None for clean crops.
            occlusion_protocol: whose levels, "generator" or "paper" (see `occlusion.RANGES`).
            occluders: paste coloured "blobs", "objects" of other categories, or the cut-outs of this folder.
            occluder_samples: where objects are cut out by their masks; `samples` by default.
            rotate: the largest angle of the uniform draw, in degrees.
            seed: of the draws.
            corruption: of the images, the occluders on them as well; one of `CORRUPTIONS`, or None.
            severity: of the corruption, 1 to 5.
            textures: images of ice for the corruption "frost" (see `corrupt`).

        Raises:
            CompNetError: if there are no such occluders, the samples are occluded already, or there is no such
                corruption or severity.
        """
        if corruption is not None:
            check_corruption(corruption, severity)
        super().__init__(samples, categories, input_config, crop, seed=seed)
        self.rotate, self.occlusion = rotate, None
        self.corruption, self.severity, self.textures = corruption, severity, tuple(textures)
        self._hidden: tuple[float, float] | None = None
        if occlusion is not None:
            _check_not_occluded(self.samples)
            source = self.samples if occluder_samples is None else occluder_samples
            cutouts = gather_occluders(occluders, source, seed=seed)
            self.occlusion = Occlusion(occlusion, occlusion_protocol, seed, cutouts)
        # a batch holds the shares of all of its images or none
        self._tells_hidden = self.occlusion is not None or all(s.hidden is not None for s in self.samples)

    def view(self, index: int, epoch: int = 0) -> Crop:
        """The crop of one sample; `epoch` changes nothing."""
        sample = self.samples[index]
        turn = math.radians(self.rotate) * self._generator(sample, _ROTATION).uniform(-1, 1)
        image = self._image_of(sample)
        self._hidden = sample.hidden
        if self.occlusion is not None:
            occluded = self.occlusion.apply(image, sample)
            image, self._hidden = occluded.image, (occluded.hidden_object, occluded.hidden_background)
        return make_crop(self._corrupted(image, sample), sample, self.input_config, crop=self.crop, rotation=turn)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        item = super().__getitem__(key)
        if self._tells_hidden:
            # `crop` has just measured or read them for this item
            item["hidden_object"], item["hidden_background"] = torch.tensor(self._hidden, dtype=torch.float32)
        return item

    def _corrupted(self, image: Image.Image, sample: Sample) -> Image.Image:
        """The image, corrupted if that was asked for."""
        if self.corruption is None:
            return image
        rng = corruption_generator(sample, self.seed)
        pixels = corrupt(np.asarray(image), self.corruption, self.severity, rng, textures=self.textures)
        return Image.fromarray(pixels)

    def _generator(self, sample: Sample, purpose: int) -> np.random.Generator:
        return sample_generator(sample, self.seed, purpose)


def _check_not_occluded(samples: Sequence[Sample]) -> None:
    occluded = next((sample for sample in samples if sample.hidden is not None), None)
    if occluded is not None:
        raise CompNetError(f"{occluded.image}: is occluded already; evaluate it without occlusion, or its original")


def crop_loader(crops: EvaluationCrops, batch_size: int, workers: int = 0) -> Iterator[dict[str, Tensor]]:
    """The crops in order, as batches of tensors; `workers` processes read images (0: this one does)."""
    loader: DataLoader[dict[str, Tensor]] = DataLoader(
        crops, batch_size=batch_size, num_workers=workers, pin_memory=torch.cuda.is_available()
    )
    return iter(loader)
