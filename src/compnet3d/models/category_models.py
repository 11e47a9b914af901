"""A model taken apart into its categories and put together again: categories come, go and change their names.

All categories share one feature extractor and one ring of background features. What else a CompNet holds belongs to
one category alone (`CategoryModel`), but for the grouping weights, which are of pairs. So a model without the
category that was added last is, to the bit, the model from before.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from compnet3d.errors import CompNetError
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.geometry.mesh import Mesh, cuboid_bounds
from compnet3d.inference.confidence import Calibration
from compnet3d.models.bank import smooth_features
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from compnet3d.models.rotation_prior import RotationPrior
from compnet3d.rendering.spread import representative, spread_vertices
from compnet3d.rendering.surface import Surface, Surfaces


@dataclass(frozen=True)
class CategoryModel:
    """What a model holds of one category.

    Attributes:
        name: of the category.
        bounds: of its box, as in `CompNetConfig`.
        vertex_features: C_y, unit vectors [K, D].
        surface: its CAD surface, in models whose vertices are on it.
        prior: the buffers of its usual rotations (see `RotationPrior`), each one row; empty in models without a prior.
        cad_mesh: to draw, if there is one.
        symmetry_order: about its vertical axis, see `Calibration`.
    """

    name: str
    bounds: tuple[tuple[float, ...], ...]
    vertex_features: Tensor
    surface: Surface | None
    prior: dict[str, Tensor]
    cad_mesh: Mesh | None
    symmetry_order: int = 1

    @classmethod
    def begun(
        cls, model: CompNet, name: str, meshes: Sequence[Mesh], rotations: Tensor, symmetry_order: int = 1
    ) -> CategoryModel:
        """A category that a model is to learn: all but its vertex features, which are those that training starts from.

        Args:
            model: that it will be added to.
            name: of the category.
            meshes: its CAD models, at least one.
            rotations: object to camera of its training images, [N, 3, 3].
            symmetry_order: see the attribute.

        Raises:
            CompNetError: if the model has a category of this name.
        """
        if name in model.categories:
            raise CompNetError(
                f"the model has a category {name!r} already; remove or rename that one, or call the new one otherwise"
            )
        config, bounds = model.config, cuboid_bounds(meshes)
        cuboid = cuboid_mesh(bounds, config.vertex_count)
        surface, vertices, normals = None, cuboid.vertices, cuboid.vertex_normals()
        if model.surfaces is not None:
            surface = spread_vertices(representative(meshes), config.vertex_count)
            vertices, normals = surface.vertices, surface.normals
        prior: dict[str, Tensor] = {}
        if model.prior is not None:
            usual = RotationPrior(1)
            usual.fit([rotations])
            prior = dict(usual.state_dict())
        # by the name: two categories that are added one after the other have nothing in common
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        diagonal = torch.linalg.vector_norm(bounds[1] - bounds[0])
        features = smooth_features(
            vertices / diagonal, normals, config.backbone.dimension, config.feature_length, generator
        )
        plain = tuple(tuple(corner) for corner in bounds.tolist())
        return cls(name, plain, features, surface, prior, meshes[0], symmetry_order)


def parts_of(model: CompNet) -> list[CategoryModel]:
    """What a model holds of each of its categories, in their order, in main memory."""
    config, prior = model.config, {} if model.prior is None else model.prior.state_dict()
    surfaces = None if model.surfaces is None else deepcopy(model.surfaces).cpu()
    orders = model.calibration.orders(torch.arange(len(model.categories))).tolist()
    return [
        CategoryModel(
            name,
            config.bounds[number],
            model.bank.category_features(number).cpu(),
            None if surfaces is None else surfaces[number],
            {key: rows[number : number + 1].cpu() for key, rows in prior.items()},
            model.cad_meshes.get(name),
            orders[number],
        )
        for number, name in enumerate(model.categories)
    ]


def assembled(model: CompNet, parts: Sequence[CategoryModel], grouping_weights: Tensor) -> CompNet:
    """A model of these categories with all else from another one, in inference mode.

    Nothing is shared with that model, so that training one leaves the other alone. The confidences stay as they were
    fitted: of other categories they are approximate (see `Model.calibrate`).

    Args:
        model: gives the feature extractor, the background features and the settings.
        parts: at least one, of models with the same settings.
        grouping_weights: omega of these categories, [Y, Y].

    Raises:
        CompNetError: if there is no category, or two have one name.
    """
    surfaces = [part.surface for part in parts if part.surface is not None]
    config = _config_of(model.config, parts, surfaces)
    made = CompNet(config, deepcopy(model.feature_extractor).cpu(), surfaces or None)
    features = torch.cat([part.vertex_features for part in parts])
    learned = {"vertex_features": features, "offsets": made.bank.offsets, "grouping_weights": grouping_weights}
    made.bank.load_state_dict(model.bank.state_dict() | learned)
    if made.prior is not None:
        made.prior.load_state_dict({key: torch.cat([part.prior[key] for part in parts]) for key in parts[0].prior})
    made.cad_meshes = {part.name: part.cad_mesh for part in parts if part.cad_mesh is not None}
    made.pruning = model.pruning
    return made.to(model.device).eval()


def add_category(model: CompNet, category: CategoryModel) -> CompNet:
    """The model with one more category, the last, which is contrasted with all others; see `assembled`."""
    old = model.bank.grouping_weights
    weights = 1 - torch.eye(len(old) + 1, device=old.device)
    weights[:-1, :-1] = old
    return assembled(model, [*parts_of(model), category], weights)


def remove_categories(model: CompNet, names: Sequence[str]) -> CompNet:
    """The model without some of its categories; see `assembled`.

    Raises:
        CompNetError: if the model has no such category, or no other.
    """
    for name in names:
        _require(model, name)
    kept = [number for number, name in enumerate(model.categories) if name not in set(names)]
    if not kept:
        raise CompNetError("a model needs a category: not all of them can be removed")
    parts = parts_of(model)
    return assembled(model, [parts[number] for number in kept], model.bank.grouping_weights[kept][:, kept])


def rename_category(model: CompNet, old: str, new: str) -> CompNet:
    """The model with another name for one of its categories; see `assembled`.

    Raises:
        CompNetError: if the model has no such category, or one of the new name, or that cannot be a name.
    """
    _require(model, old)
    if new in model.categories:
        raise CompNetError(f"the model has a category {new!r} already; choose another name for {old!r}")
    parts = [replace(part, name=new) if part.name == old else part for part in parts_of(model)]
    return assembled(model, parts, model.bank.grouping_weights)


def _require(model: CompNet, name: str) -> None:
    if name not in model.categories:
        shown = ", ".join(model.categories[:8]) + (", ..." if len(model.categories) > 8 else "")
        raise CompNetError(f"the model has no category {name!r}; choose one of {shown}")


def _config_of(config: CompNetConfig, parts: Sequence[CategoryModel], surfaces: Sequence[Surface]) -> CompNetConfig:
    orders = tuple(part.symmetry_order for part in parts)
    before = config.calibration or Calibration()
    if not before.symmetry_orders and set(orders) == {1}:
        orders = ()  # nobody has stated any
    calibration = replace(before, symmetry_orders=orders)
    # one that says nothing is none: what has never been calibrated stays so
    says_nothing = replace(calibration, symmetry_orders=()) == Calibration() and set(orders) <= {1}
    return replace(
        config,
        categories=tuple(part.name for part in parts),
        bounds=tuple(part.bounds for part in parts),
        surface_sizes=Surfaces.sizes(surfaces),
        calibration=None if says_nothing else calibration,
    )
