"""What a training starts with, made from a recipe: the model with its pretrained backbone, and the optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compnet3d.data.sample import Sample
from compnet3d.data.transforms import InputConfig
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh, cuboid_bounds
from compnet3d.geometry.rotations import angles_to_rotmat
from compnet3d.models.backbones import BackboneConfig, FeatureExtractor, build_extractor
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from compnet3d.models.dual_head import DualHead, DualHeadConfig
from compnet3d.models.layers import parameter_depths
from compnet3d.models.pretrained import find_weights, load_extractor
from compnet3d.models.registry import TrainedModel
from compnet3d.rendering.spread import representative, spread_vertices
from compnet3d.rendering.surface import Surfaces
from compnet3d.training.recipe import CompNetRecipe, ContrastiveRecipe, DualHeadRecipe, Recipe
from compnet3d.training.recipe_parts import BackboneSettings


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
    settings = recipe.backbone
    # with `from_scratch` a given folder still tells the architecture below
    weights = backbone_source(settings, data, weights, from_scratch) or weights
    options: dict[str, Any] = {
        "dimension": settings.dimension,
        "upsampling": settings.upsampling,
        "stages": settings.stages,
        "layers": settings.pretrained_layers,
    }
    if weights is not None and not from_scratch:
        return load_extractor(weights, **options)
    config = BackboneConfig(
        settings.family, settings.architecture, settings.dimension, settings.upsampling, settings.stages
    )
    # from scratch, the recipe names only the pretrained backbone: its configuration is read, and its tensors are
    # dropped. The normalisation of its input belongs to the architecture.
    if not settings.architecture and settings.pretrained:
        found = load_extractor(weights or find_weights(settings.pretrained, data), **options).config
        config = replace(found, freeze_statistics=False)
    return build_extractor(config)


def backbone_source(
    settings: BackboneSettings, data: str | Path | None, weights: str | Path | None, from_scratch: bool
) -> str | Path | None:
    """Where the pretrained backbone is taken from: a folder or a hub name, None for random weights.

    Args:
        data, weights, from_scratch: as in `make_extractor`; without a data set's folder, the current one.
    """
    if from_scratch or not (weights or settings.pretrained):
        return None
    return weights or find_weights(settings.pretrained, data or Path())


def extractor_of(model: TrainedModel) -> FeatureExtractor:
    """A copy of a model's feature extractor; of a dual head the backbone, with a new projection."""
    if isinstance(model, CompNet):
        # a copy: training must not change the model that the user handed over
        return deepcopy(model.feature_extractor)
    # a dual head has no projection to D dimensions that could be taken over
    extractor = build_extractor(model.config.backbone)
    extractor.backbone.load_state_dict(model.encoder.backbone.state_dict())
    return extractor


def start_from(model: TrainedModel, other: TrainedModel) -> None:
    """Take over what another model of the same categories has learned: every tensor that fits.

    A model of other categories gives its feature extractor alone, which is there already (see `extractor_of`).
    """
    if model.categories != other.categories:
        return
    state, learned = model.state_dict(), other.state_dict()
    # usual rotations are those of the new training images
    # the same names and shapes: the other model may have other vertex counts, or be of another method
    fitting = {n: t for n, t in learned.items() if n in state and state[n].shape == t.shape and "prior." not in n}
    model.load_state_dict(state | fitting)


def make_model(
    recipe: Recipe, meshes: Mapping[str, Sequence[Mesh]], training: Sequence[Sample], extractor: FeatureExtractor
) -> TrainedModel:
    """A recipe's model over a feature extractor, not trained yet.

    Args:
        meshes: CAD models of each category; training: the training images; the input is fitted to their objects, a
            prior over rotations to their poses.

    Raises:
        CompNetError: if the backbone takes no input of the recipe's size.
    """
    extractor.check_input(recipe.input.height, recipe.input.width)
    common: dict[str, Any] = {
        "categories": tuple(meshes),
        # plain numbers, as a configuration is written to JSON
        "bounds": tuple(tuple(tuple(c) for c in cuboid_bounds(models).tolist()) for models in meshes.values()),
        "backbone": extractor.config,
        "input_config": InputConfig.fitted(training, recipe.input.height, recipe.input.width, recipe.input.fill),
    }
    if isinstance(recipe, DualHeadRecipe):
        heads = recipe.model
        common |= {"mirrored_scores": heads.mirrored_scores, "pose_head": heads.pose_head, "bins": heads.pose_bins}
        return DualHead(DualHeadConfig(**common), extractor)
    assert isinstance(recipe, ContrastiveRecipe)
    if isinstance(recipe, CompNetRecipe):
        common["pose_score_weight"] = recipe.search.pose_score_weight
    surfaces = None
    if recipe.model.shape == "mesh":
        # one CAD model carries the vertices of its whole category, where a cuboid is the box of them all
        surfaces = [spread_vertices(representative(models), recipe.model.vertex_count) for models in meshes.values()]
        common |= {"shape": "mesh", "surface_sizes": Surfaces.sizes(surfaces)}
    config = CompNetConfig(
        **common,
        mirrored_scores=recipe.model.mirrored_scores,
        vertex_count=recipe.model.vertex_count,
        background_size=recipe.bank.background_size,
        kappa=recipe.loss.kappa,
        pose=recipe.search.settings,
        grid=recipe.search.grid,
    )
    model = CompNet(config, extractor, surfaces)
    if model.prior is not None:
        # from the training part alone: the calibration split has to stay unseen until it has done its work
        model.fit_prior([rotations_of(training, category) for category in model.categories])
    return model


def rotations_of(samples: Sequence[Sample], category: str) -> Tensor:
    """Object-to-camera rotations of a category's samples, [N, 3, 3]."""
    angles = [(s.azimuth, s.elevation, s.theta) for s in samples if s.category == category]
    # reshaped for categories without a sample, whose list is empty and would have one dimension only
    return angles_to_rotmat(*torch.tensor(angles).reshape(-1, 3).unbind(-1))


def make_optimizer(model: TrainedModel, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with the recipe's rates, and weight decay for matrices alone; what is frozen is left out.

    Raises:
        CompNetError: if nothing is left to learn, or the rate is to decay over layers that are not known.
    """
    schedule, factors = recipe.schedule, _layer_factors(model, recipe.backbone.layer_decay)
    # by identity: comparing parameters with == compares their values
    head = {id(p) for p in model.head_parameters()}
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for parameter in filter(lambda p: p.requires_grad, model.parameters()):
        rate = schedule.head_learning_rate if id(parameter) in head else schedule.learning_rate
        # biases and the scales of normalisation layers are vectors, which are usually not shrunk
        decay = schedule.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate * factors.get(id(parameter), 1.0), decay), []).append(parameter)
    if not groups:
        raise CompNetError(
            "backbone.frozen leaves nothing to learn: this feature extractor has nothing beside its backbone; set it "
            "to false, or let the module freeze a part of itself"
        )
    return torch.optim.AdamW(
        [{"params": ps, "lr": rate, "base_lr": rate, "weight_decay": decay} for (rate, decay), ps in groups.items()],
        # one kernel over all parameters instead of several for each: small networks have many small parameters
        fused=True,
    )


def _layer_factors(model: TrainedModel, decay: float) -> dict[int, float]:
    """By which the learning rates of a backbone's parameters (by id) are multiplied: `decay` once for each later layer.

    See Bao et al., BEiT, 2021, who take it over from Clark et al., ELECTRA, 2020.
    """
    if decay == 1:
        return {}
    network = model.feature_extractor if isinstance(model, CompNet) else model.encoder
    depths = parameter_depths(model.config.backbone.family, network.backbone)
    last = max(depths.values(), default=0)
    if last == 0:
        raise CompNetError(
            "the layers of a module of your own are not known, over which the learning rate would decay; set "
            "backbone.layer_decay to 1"
        )
    return {parameter: decay ** (last - depth) for parameter, depth in depths.items()}
