"""The numbers of a training, how features are read off a map, and the equations, one query at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.training.reference.geometry import Shape


@dataclass(frozen=True)
class Settings:
    """The numbers of a training, by the words of the docs."""

    method: str
    pose_head: str
    pose_bins: int
    background_size: int
    background_per_image: int
    kappa: float
    momentum: float
    samples_per_category: int
    queries_per_image: int | None
    near_radius: float
    background_weight: float
    in_weight: float
    cross_weight: float
    classification_weight: float
    classification_cells: int | None
    pose_weight: float
    negative_poses: int
    flip_negatives: float
    flip_vertex_weight: float
    truncation: float | None
    foreground_bonus: float
    pose_score_weight: float
    mirrored_scores: bool
    azimuths: int
    elevations: int
    thetas: int
    elevation_range: tuple[float, float]
    theta_range: tuple[float, float]
    dynamic_weights: bool
    regroup_every: int
    grouping_threshold: float
    grouping_accuracy: float
    grouping_floor: float
    epochs: int
    batch_size: int
    learning_rate: float
    head_learning_rate: float
    weight_decay: float
    warmup_epochs: float
    held_out_epochs: int | None


def unit(x: Tensor, dim: int = 0) -> Tensor:
    """Divided by its length."""
    return x / x.square().sum(dim=dim, keepdim=True).sqrt()


def feature_maps(network: Any, images: Tensor) -> Tensor:
    """Phi_w of uint8 images, unit vectors [B, D, H, W]."""
    pixels = (images.double() / 255 - network.mean) / network.std
    return unit(network.centre(network.projection(network.backbone(pixels).feature_maps[-1])), dim=1)


def read(feature_map: Tensor, u: float, v: float, stride: int) -> Tensor:
    """The feature at a pixel: bilinear between the cells' centres, the outermost one's beyond them; a unit vector."""
    _, height, width = feature_map.shape
    x, y = (min(max(at / stride - 0.5, 0.0), size - 1.0) for at, size in ((u, width), (v, height)))
    left, top = min(int(x), width - 2), min(int(y), height - 2)
    right, down = x - left, y - top
    upper = (1 - right) * feature_map[:, top, left] + right * feature_map[:, top, left + 1]
    lower = (1 - right) * feature_map[:, top + 1, left] + right * feature_map[:, top + 1, left + 1]
    return unit((1 - down) * upper + down * lower)


def first_features(shapes: Sequence[Shape], dimension: int, length: float = 0.12) -> list[Tensor]:
    """What the vertex features start from: random waves over the box that is blown up by a little."""
    generator = torch.Generator().manual_seed(0)
    features = []
    for shape in shapes:
        outward = np.zeros_like(shape.vertices)
        close = 1e-5 * (shape.bounds[1] - shape.bounds[0])
        outward += shape.vertices > shape.bounds[1] - close
        outward -= shape.vertices < shape.bounds[0] + close
        outward /= np.sqrt((outward**2).sum(axis=1, keepdims=True))
        points = torch.from_numpy(shape.vertices / shape.diagonal + length * outward)
        frequencies = torch.randn(3, dimension, generator=generator).double() / length
        phases = 2 * math.pi * torch.rand(dimension, generator=generator).double()
        features.append(unit(torch.cos(points @ frequencies + phases), dim=1))
    return features


def exponentials(kappa: float, f: Tensor, features: Tensor) -> Tensor:
    """Sum of exp(kappa f . C) over some features [N, D]."""
    return torch.exp(kappa * (features @ f)).sum()


def eq2(
    settings: Settings, f: Tensor, own: Tensor, weighted: Sequence[tuple[float, Tensor]], background: Tensor
) -> Tensor:
    """- log L_in: against the category's other vertices, but those nearby, with their weights, and the background."""
    top = torch.exp(settings.kappa * (f @ own))
    below = top
    for weight, negatives in weighted:
        below = below + weight * exponentials(settings.kappa, f, negatives)
    return -torch.log(top / (below + settings.background_weight * exponentials(settings.kappa, f, background)))


def eq4(settings: Settings, f: Tensor, own: Tensor, sampled: Sequence[tuple[float, Tensor]]) -> Tensor:
    """- log L_cross: against each other category's sampled vertices, weighted by omega."""
    top = torch.exp(settings.kappa * (f @ own))
    below = top
    for omega, negatives in sampled:
        below = below + omega * exponentials(settings.kappa, f, negatives)
    return -torch.log(top / below)


def cross_entropy(logits: Tensor, true: int) -> Tensor:
    """- log of the softmax at the true one."""
    return -torch.log(torch.exp(logits[true] - logits.max()) / torch.exp(logits - logits.max()).sum())


def best_match(f: Tensor, features: Tensor) -> Tensor:
    """The largest f . C over some features [N, D]; 0 where there is none yet."""
    return (features @ f).max() if len(features) else torch.zeros((), dtype=torch.float64)


def spread(limits: tuple[float, float], count: int) -> list[float]:
    """Evenly, both ends included; a single one in the middle."""
    low, high = limits
    return [(low + high) / 2] if count == 1 else [low + (high - low) * n / (count - 1) for n in range(count)]
