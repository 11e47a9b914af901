"""What a training starts with, made from a recipe: the model with its pretrained backbone, and the optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compnet3d.data.sample import Sample
from compnet3d.data.transforms import InputConfig
from compnet3d.geometry.mesh import Mesh, cuboid_bounds
from compnet3d.geometry.rotations import angles_to_rotmat
from compnet3d.models.backbones import BackboneConfig, FeatureExtractor, build_extractor
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from compnet3d.models.dual_head import DualHead, DualHeadConfig
from compnet3d.models.pretrained import find_weights, load_extractor
from compnet3d.models.registry import TrainedModel
from compnet3d.training.recipe import Recipe


def make_extractor(
    recipe: Recipe, data: str | Path, weights: str | Path | None, from_scratch: bool
) -> FeatureExtractor:
    """A recipe's feature extractor: with the pretrained backbone where it has one, else random.

    Args:
        data: the data set, near which the pretrained backbone is looked for (see `find_weights`); weights: a folder
            with one to take instead; from_scratch: the pretrained backbone's architecture with random weights.

    Raises:
        CompNetError: if there is no such backbone.
    """
    if weights is None and recipe.pretrained and not from_scratch:
        weights = find_weights(recipe.pretrained, data)
    options: dict[str, Any] = {
        "dimension": recipe.dimension,
        "upsampling": recipe.upsampling,
        "stages": recipe.stages,
        "layers": recipe.pretrained_layers,
    }
    if weights is not None and not from_scratch:
        return load_extractor(weights, **options)
    architecture = recipe.architecture
    mean_std: dict[str, Any] = {}
    if not architecture and recipe.pretrained:
        config = load_extractor(weights or find_weights(recipe.pretrained, data), **options).config
        architecture, mean_std = config.architecture, {"mean": config.mean, "std": config.std}
    return build_extractor(
        BackboneConfig(recipe.family, architecture, recipe.dimension, recipe.upsampling, recipe.stages, **mean_std)
    )


def make_model(
    recipe: Recipe, meshes: Mapping[str, Sequence[Mesh]], training: Sequence[Sample], extractor: FeatureExtractor
) -> TrainedModel:
    """A recipe's model over a feature extractor, not trained yet.

    Args:
        meshes: CAD models of each category; training: the training images; the input is fitted to their objects, a
            prior over rotations to their poses.
    """
    common: dict[str, Any] = {
        "categories": tuple(meshes),
        "bounds": tuple(tuple(tuple(c) for c in cuboid_bounds(models).tolist()) for models in meshes.values()),
        "backbone": extractor.config,
        "input_config": InputConfig.fitted(training, recipe.height, recipe.width, recipe.fill),
        "mirrored_scores": recipe.mirrored_scores,
    }
    if recipe.method == "dual-head":
        return DualHead(DualHeadConfig(**common, pose_head=recipe.pose_head, bins=recipe.pose_bins), extractor)
    settings = ("vertex_count", "background_size", "kappa", "pose_score_weight", "pose", "grid")
    common |= {name: getattr(recipe, name) for name in settings}
    model = CompNet(CompNetConfig(**common), extractor)
    if model.prior is not None:
        model.fit_prior([_rotations(training, category) for category in model.categories])
    return model


def _rotations(samples: Sequence[Sample], category: str) -> Tensor:
    """Object-to-camera rotations of a category's samples, [N, 3, 3]."""
    angles = [(s.azimuth, s.elevation, s.theta) for s in samples if s.category == category]
    return angles_to_rotmat(*torch.tensor(angles).reshape(-1, 3).unbind(-1))


def make_optimizer(model: TrainedModel, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with the recipe's rates, and weight decay for matrices alone."""
    head = {id(p) for p in model.head_parameters()}
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for parameter in model.parameters():
        rate = recipe.head_learning_rate if id(parameter) in head else recipe.learning_rate
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": ps, "lr": rate, "base_lr": rate, "weight_decay": decay} for (rate, decay), ps in groups.items()],
        fused=True,
    )
