"""The crops of an evaluation: of shifted images, always the same for one seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from compnet3d.data.backgrounds import set_before, window_of
from compnet3d.data.images import load_image, load_mask
from compnet3d.data.loader import CropDataset
from compnet3d.data.sample import Sample
from compnet3d.data.silhouettes import object_layer
from compnet3d.data.transforms import Crop, CropMode, InputConfig, make_crop
from compnet3d.data.warp import warp_image
from compnet3d.errors import CompNetError
from compnet3d.robustness.corruption import corrupt
from compnet3d.robustness.seeds import Purpose, corruption_generator, sample_generator
from compnet3d.robustness.shift import Shift
from compnet3d.utils.distributed import current_group
from compnet3d.utils.progress import with_progress


@dataclass(frozen=True)
class Loading:
    """How an evaluation goes through the images; the metrics do not depend on it.

    Attributes:
        batch_size: images in a forward pass.
        workers: processes that read images; 0 reads them in this one.
        progress: draw a progress bar on stderr.

    Raises:
        CompNetError: for a number that is too small.
    """

    batch_size: int = 32
    workers: int = 0
    progress: bool = True

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise CompNetError(f"the batch size must be at least 1, not {self.batch_size}")
        if self.workers < 0:
            raise CompNetError(f"the number of workers must be at least 0, not {self.workers}")


class EvaluationCrops(CropDataset):
    """One crop per sample, without augmentation, of the shifted image.

    The draws of an image depend on the seed and on the image's name alone, so that they stay the same when the list
    gets longer or shorter. Backgrounds are changed and occluders pasted in the image, before the crop is cut out.

    An item is that of `CropDataset` and, of occluded images, `hidden_object` and `hidden_background`: the shares of the
    image's object and background pixels that the occluders hide, float32 []. Samples of a data set that is occluded
    already bring them along. Where it is known of some object which pixels are its own and which are hidden, an item
    has `object_mask` (with what is hidden) and `occluder_mask`, bool [H, W] in the crop; empty where it is not known.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        categories: Sequence[str],
        input_config: InputConfig,
        *,
        crop: CropMode = "oracle",
        shift: Shift | None = None,
        occluder_samples: Sequence[Sample] | None = None,
    ) -> None:
        """Prepare the crops.

        Args:
            samples, categories, input_config: as for `CropDataset`.
            crop: "oracle" or "box", as in `make_crop`.
            shift: of the images; none by default.
            occluder_samples: where objects are cut out by their masks; `samples` by default.

        Raises:
            CompNetError: if there are no such occluders, backgrounds or images of frost, an object that is to be set
                before another background has no mask, or the samples are occluded already.
        """
        self.shift = shift or Shift()
        super().__init__(samples, categories, input_config, seed=self.shift.seed)
        self.crop = crop
        if self.shift.occlusion is not None:
            _check_not_occluded(self.samples)
        self.textures = self.shift.load_textures()
        self.photographs = self.shift.find_backgrounds()
        if self.photographs:
            _check_masks(self.samples)
        self.occlusion = self.shift.load_occlusion(self.samples if occluder_samples is None else occluder_samples)
        self._hidden: tuple[float, float] | None = None
        # a batch holds the shares of all of its images or none
        self._has_hidden = self.occlusion is not None or all(s.hidden is not None for s in self.samples)
        self._masks = np.zeros((2, 0, 0), dtype=bool)
        self._has_masks = any(self._knows_masks(sample) for sample in self.samples)

    def crop_at(self, index: int, epoch: int = 0) -> Crop:
        """The crop of one sample; `epoch` changes nothing."""
        sample = self.samples[index]
        # drawn even without a rotation, from a generator that nothing else uses
        rng = sample_generator(sample, self.seed, Purpose.ROTATION)
        rotation = math.radians(self.shift.rotation) * rng.uniform(-1, 1)
        image = self._before_background(self._image_of(sample), sample)
        self._hidden, hiding = sample.hidden, None
        if self.occlusion is not None:
            occluded = self.occlusion.apply(image, sample)
            image, self._hidden = occluded.image, (occluded.hidden_object, occluded.hidden_background)
            hiding = occluded.mask
        # corrupted after the occluders are there: snow falls on them too
        image = self._corrupted(image, sample)
        crop = make_crop(image, sample, self.input_config, crop=self.crop, rotation=rotation)
        if self._has_masks:
            self._masks = self._masks_in(crop, sample, hiding)
        return crop

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        item = super().__getitem__(key)
        if self._has_hidden:
            # `crop_at` has just measured or read them for this item
            item["hidden_object"], item["hidden_background"] = torch.tensor(self._hidden, dtype=torch.float32)
        if self._has_masks:
            item["object_mask"], item["occluder_mask"] = torch.from_numpy(self._masks)
        return item

    def _knows_masks(self, sample: Sample) -> bool:
        return sample.mask is not None and (self.occlusion is not None or sample.occluder_mask is not None)

    def _masks_in(self, crop: Crop, sample: Sample, hiding: np.ndarray | None) -> np.ndarray:
        """The object and what hides it, bool [2, H, W] in a crop; `hiding` is known of pasted occluders, bool."""
        size = crop.source_size
        if not self._knows_masks(sample):
            return np.zeros((2, *crop.image.shape[:2]), dtype=bool)
        assert sample.mask is not None
        if hiding is None:
            assert sample.occluder_mask is not None
            hiding = load_mask(sample.occluder_mask, size=size)
        layers = [Image.fromarray(mask).convert("L") for mask in (load_mask(sample.mask, size=size), hiding)]
        place = (crop.matrix, (self.input_config.width, self.input_config.height), crop.scale)
        return np.stack([warp_image(layer, *place, resample=Image.Resampling.NEAREST) > 0 for layer in layers])

    def _before_background(self, image: Image.Image, sample: Sample) -> Image.Image:
        """The image with another background, if that was asked for."""
        if not self.photographs:
            return image
        rng = sample_generator(sample, self.seed, Purpose.BACKGROUND)
        path = self.photographs[int(rng.integers(len(self.photographs)))]
        background = window_of(load_image(path), image.size, rng)
        layer = object_layer(sample, image.size)
        if layer is None:
            raise CompNetError(f"{sample.mask}: is black all over; mark the object's pixels, or leave out its image")
        # an edge as soft as a photograph's
        alpha = layer.filter(ImageFilter.GaussianBlur(0.5))
        return Image.fromarray(set_before(np.asarray(image), np.asarray(alpha), background))

    def _corrupted(self, image: Image.Image, sample: Sample) -> Image.Image:
        """The image, corrupted if that was asked for."""
        if self.shift.corruption is None:
            return image
        rng = corruption_generator(sample, self.seed)
        pixels = corrupt(np.asarray(image), self.shift.corruption, self.shift.severity, rng, textures=self.textures)
        return Image.fromarray(pixels)


def _check_masks(samples: Sequence[Sample]) -> None:
    bare = next((sample for sample in samples if sample.mask is None), None)
    if bare is not None:
        raise CompNetError(f"{bare.image}: has no mask, by which its object could be set before another background")


def _check_not_occluded(samples: Sequence[Sample]) -> None:
    occluded = next((sample for sample in samples if sample.hidden is not None), None)
    if occluded is not None:
        raise CompNetError(f"{occluded.image}: is occluded already; evaluate it without occlusion, or its original")


def crop_loader(crops: EvaluationCrops, loading: Loading, *, together: int = 1) -> Iterator[Mapping[str, Tensor]]:
    """The crops in order, as batches of tensors; of several processes that have joined, each has a part of the batches.

    Args:
        crops, loading: what to go through, and how.
        together: so many batches at a time go to one process.

    Raises:
        CompNetError: if there are fewer batches than processes.
    """
    group = current_group()
    # whole batches: in another one a network's answer for an image may differ in its last bits
    step = together * loading.batch_size
    parts = group.shard(range(0, len(crops), step))
    if not parts:
        several = f"{together} batches" if together > 1 else "batches"
        raise CompNetError(
            f"{len(crops)} images in {several} of {loading.batch_size} are too few for {group.size} processes; start "
            "fewer, or lower the batch size"
        )
    own = range(parts[0], min(parts[-1] + step, len(crops)))
    loader: DataLoader[dict[str, Tensor]] = DataLoader(
        Subset(crops, own),
        batch_size=loading.batch_size,
        num_workers=loading.workers,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(with_progress(loader, len(own), enabled=loading.progress and group.is_rank_zero))
