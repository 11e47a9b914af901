"""This process's share of a batch, what it shows of the vertices, and the whole batch that it is a part of."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from compnet3d.geometry.camera import Pose
from compnet3d.models.compnet import CompNet
from compnet3d.models.observation import Observation, observe
from compnet3d.utils.distributed import ProcessGroup


@dataclass(frozen=True)
class Batch:
    """This process's share of a batch, where the model is.

    Attributes:
        images: uint8 [B, 3, height, width]; category: int64 [B]; pose: [B]; principal_point: [B, 2] in pixels.
        occluded: bool [B, height, width], the pixels that the augmentation covers; None where nobody knows.
    """

    images: Tensor
    category: Tensor
    pose: Pose
    principal_point: Tensor
    occluded: Tensor | None

    @classmethod
    def of(cls, values: dict[str, Tensor], device: torch.device) -> Batch:
        """From what `CropDataset` collates."""
        # the loader has pinned the tensors for an accelerator, so the copies need not wait for each other
        values = {name: value.to(device, non_blocking=True) for name, value in values.items()}
        pose = Pose(**{name: values[name] for name in ("azimuth", "elevation", "theta", "distance")})
        return cls(values["image"], values["category"], pose, values["principal_point"], values.get("occluded"))


@dataclass(frozen=True)
class WholeBatch:
    """A batch of which the members of a process group have a share each.

    Attributes:
        category: int64 [B]; pose: [B].
        visible: how many vertices each image shows, int64 [B].
        rank: which process has each image, int64 [B]; they follow each other in the order of the ranks.
        group: the processes.
    """

    category: Tensor
    pose: Pose
    visible: Tensor
    rank: Tensor
    group: ProcessGroup

    @cached_property
    def own(self) -> slice:
        """The images that this process has."""
        images = self.of_ranks(torch.ones_like(self.rank))
        before = sum(images[: self.group.rank])
        return slice(before, before + images[self.group.rank])

    def of_ranks(self, numbers: Tensor) -> list[int]:
        """The sum over the images of each process, of a number for each image, int64 [B]."""
        sums: list[int] = numbers.new_zeros(self.group.size).index_add_(0, self.rank, numbers).tolist()
        return sums

    @property
    def weight_of_images(self) -> float:
        """What to multiply a mean over this share's images by, so that the members' mean is that over all images."""
        return self.group.size * (self.own.stop - self.own.start) / len(self.category)

    def weight_of_queries(self, count: int | None) -> Tensor:
        """The same for a mean over the queries, of which an image has `count` at most."""
        queries = self.visible if count is None else self.visible.clamp_max(count)
        return self.group.size * queries[self.own].sum() / queries.sum().clamp_min(1)


@dataclass(frozen=True)
class Seen:
    """A share's feature map [B, D, H, W], what it shows of the vertices, and the batch that it is of."""

    feature_map: Tensor
    vertices: Observation
    whole: WholeBatch


def observed(model: CompNet, feature_map: Tensor, batch: Batch) -> Observation:
    """What a batch's feature map shows of the vertices."""
    shape, camera = model.shape(batch.category), model.input_config.camera(batch.principal_point)
    return observe(feature_map, shape, batch.pose, camera, batch.occluded)


def observe_batch(model: CompNet, batch: Batch, group: ProcessGroup) -> Seen:
    """Look at this process's share, and hear from the other members what they see."""
    feature_map = model(batch.images)
    vertices = observed(model, feature_map, batch)
    return Seen(feature_map, vertices, _whole(batch, vertices, group))


def _whole(batch: Batch, vertices: Observation, group: ProcessGroup) -> WholeBatch:
    angles = {entry.name: getattr(batch.pose, entry.name) for entry in fields(Pose)}
    rank = torch.full_like(batch.category, group.rank)
    category, visible, rank, *values = group.gather(batch.category, vertices.valid.sum(dim=1), rank, *angles.values())
    return WholeBatch(category, Pose(**dict(zip(angles, values, strict=True))), visible, rank, group)
