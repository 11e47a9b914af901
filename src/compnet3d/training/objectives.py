"""What each method trains for: the losses of a batch, and what it learns beside their gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from compnet3d.geometry.camera import Pose
from compnet3d.geometry.rotations import half_turn_shows
from compnet3d.inference.matching import background_similarity, category_scores, cells_of
from compnet3d.inference.reconstruction import pose_scores
from compnet3d.losses.auxiliary import classification_loss, pose_contrastive_loss
from compnet3d.losses.blockwise import full_contrastive_loss, grouped_contrastive_loss, padded_category_features
from compnet3d.losses.inputs import LossWeights, Queries
from compnet3d.losses.sampling import (
    draw_cells,
    draw_negative_poses,
    draw_queries,
    flipped_poses,
    near_vertices,
    sample_vertices,
    uniform,
)
from compnet3d.models.compnet import CompNet
from compnet3d.models.dual_head import DualHead
from compnet3d.models.observation import sample_background
from compnet3d.training.batch import Batch, Seen, observe_batch
from compnet3d.training.recipe import CompNetRecipe, DualHeadRecipe, NovumRecipe, Recipe
from compnet3d.training.recipe_parts import BankSettings, CompNetLossSettings, LossSettings
from compnet3d.utils.distributed import ProcessGroup


@dataclass(frozen=True)
class Losses:
    """What a batch costs.

    Attributes:
        by_name: scalars, as the log has them; the gradient step goes down "loss". Their means over all members of the
            process group are those of the whole batch, however it is shared out.
        learn: what follows the gradient step.
        watched: by name, the features that must be finite when that is done.
    """

    by_name: dict[str, Tensor]
    learn: Callable[[], None] = lambda: None
    watched: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """What a method trains for."""

    def loss(self, model: Any, batch: Batch, generator: torch.Generator, group: ProcessGroup) -> Losses:
        """The losses of a batch.

        Args:
            model: of the method, in training mode.
            batch: this process's share.
            generator: source of randomness, where the model is, in the same state for all members of the group.
            group: the processes that share the batch.
        """
        ...

    def regroup(self, model: Any, confusion: Tensor, accuracy: float) -> dict[str, float]:
        """Learn from a look at the calibration split, and say what the log is to hold of it.

        Args:
            confusion: counts [Y, Y], row = true category; accuracy: on the plain crops.
        """
        ...


class NovumObjective:
    """NOVUM: each query against all vertices and the background in one softmax."""

    def __init__(self, loss: LossSettings, bank: BankSettings) -> None:
        self.settings, self.bank = loss, bank

    def loss(self, model: CompNet, batch: Batch, generator: torch.Generator, group: ProcessGroup) -> Losses:
        """See `Objective.loss`."""
        settings = self.settings
        seen = observe_batch(model, batch, group)
        queries = _draw(seen, batch, settings, generator)
        loss = seen.whole.weight_of_queries(settings.queries_per_image) * full_contrastive_loss(
            queries,
            model.bank.feature_bank,
            kappa=settings.kappa,
            excluded=excluded_vertices(model, queries, settings.near_radius),
            background_weight=settings.background_weight,
        )
        # The draws of the update come after those of the loss, from one generator: the order of calls is part of what a
        # seed stands for.
        learn = _update_of_bank(model, batch, seen, self.bank, generator)
        return Losses({"loss": loss}, learn, _watched(model, seen))

    def regroup(self, model: CompNet, confusion: Tensor, accuracy: float) -> dict[str, float]:
        """Nothing: all categories stay contrasted."""
        return {}


class CompNetObjective:
    """The grouped contrastive loss (Eq. 5), the classification loss and the pose contrastive loss."""

    def __init__(
        self, recipe: CompNetRecipe, symmetry_orders: Tensor | None = None, flips: Tensor | None = None
    ) -> None:
        """Keep the settings.

        Args:
            recipe: of the method.
            symmetry_orders: int [Y], those of `symmetric_rotation_error`; None if all are 1.
            flips: share of each category's poses that are flipped, [Y] (see `learn_flips`); None if nobody has looked.
        """
        self.settings, self.bank, self.grouping = recipe.loss, recipe.bank, recipe.grouping
        self.symmetry_orders, self.flips = symmetry_orders, flips

    def loss(self, model: CompNet, batch: Batch, generator: torch.Generator, group: ProcessGroup) -> Losses:
        """See `Objective.loss`."""
        settings, bank = self.settings, model.bank
        seen = observe_batch(model, batch, group)
        queries = _draw(seen, batch, settings, generator)
        excluded = excluded_vertices(model, queries, settings.near_radius)
        # categories whose omega is zero for every image of the batch are not drawn from: their terms would not count
        sampled = sample_vertices(
            bank.offsets, settings.samples_per_category, generator, bank.contrasted(seen.whole.category)
        )
        weights = LossWeights(
            settings.background_weight, settings.in_weight, settings.cross_weight, settings.flip_vertex_weight
        )
        emphasised = None
        if settings.flip_vertex_weight != 1:
            shows = half_turn_shows(self.orders_of(batch.category))[:, None, None]
            emphasised = shows & excluded_vertices(model, queries, settings.near_radius, half_turn=True)
        contrast = grouped_contrastive_loss(
            queries,
            bank.feature_bank,
            sampled,
            kappa=settings.kappa,
            excluded=excluded,
            emphasised=emphasised,
            weights=weights,
        )
        # the contrastive loss is a mean over queries, the others are means over images
        of_queries, of_images = seen.whole.weight_of_queries(settings.queries_per_image), seen.whole.weight_of_images
        classification = of_images * _classification(model, seen.feature_map, batch, settings, generator)
        pose_contrastive = of_images * self._pose_contrastive(model, seen, batch, generator)
        total = (
            of_queries * contrast.total
            + settings.classification_weight * classification
            + settings.pose_contrastive_weight * pose_contrastive
        )
        by_name = {
            "loss": total,
            "in_category_loss": of_queries * contrast.in_category,
            "cross_category_loss": of_queries * contrast.cross_category,
            "classification_loss": classification,
            "pose_contrastive_loss": pose_contrastive,
        }
        learn = _update_of_bank(model, batch, seen, self.bank, generator)
        return Losses(by_name, learn, _watched(model, seen))

    def _pose_contrastive(self, model: CompNet, seen: Seen, batch: Batch, generator: torch.Generator) -> Tensor:
        """The pose contrastive loss; zero, and nothing is drawn, where it has no weight."""
        if self.settings.pose_contrastive_weight == 0:
            return torch.zeros((), device=model.device)
        category, count, whole = batch.category, self.settings.negative_poses, seen.whole
        # a turn that changes nothing gives no other pose: negatives that look like the true pose do not count
        order = self.orders_of(whole.category)
        flips = round(self.settings.flip_negatives * count)
        # of the whole batch, whose poses they are drawn from
        poses, negatives = draw_negative_poses(whole.pose, order, count, generator, flips)
        poses, negatives, order = poses[whole.own], negatives[whole.own], order[whole.own]
        scores = scores_of_poses(model, seen.feature_map, category, poses, batch.principal_point)
        weights = None
        if self.measures_flips and self.flips is not None:
            gain = (self.settings.flip_gain * self.flips).to(scores)[category]
            weights = 1 + gain[:, None] * flipped_poses(poses, order)
        return pose_contrastive_loss(scores, negatives, weights=weights)

    @property
    def measures_flips(self) -> bool:
        """Whether the calibration split is to be asked for `learn_flips`."""
        return self.settings.pose_contrastive_weight > 0 and self.settings.flip_gain > 0

    def learn_flips(self, flips: Tensor) -> None:
        """Weigh negative poses that are turned round by how often each category's are on the calibration split, [Y]."""
        self.flips = flips

    def orders_of(self, category: Tensor) -> Tensor:
        """Symmetry orders of categories, int64 [N]."""
        orders = self.symmetry_orders
        return torch.ones_like(category) if orders is None else orders[category]

    def regroup(self, model: CompNet, confusion: Tensor, accuracy: float) -> dict[str, float]:
        """Refresh omega from the confusions; the share of pairs of categories that are contrasted."""
        omega = self.grouping.refreshed(confusion, accuracy)
        if omega is not None:
            model.bank.set_grouping_weights(omega)
        return {"contrasted_pairs": model.bank.contrasted_share(self.grouping.floor)}


class DualHeadObjective:
    """Cross-entropy of the category plus the pose head's loss."""

    def loss(self, model: DualHead, batch: Batch, generator: torch.Generator, group: ProcessGroup) -> Losses:
        """See `Objective.loss`; nothing is drawn."""
        total, category, pose = model.loss(batch.images, batch.category, batch.pose)
        by_name = {"loss": total, "category_loss": category, "pose_loss": pose}
        (every,) = group.gather(batch.category)
        weight = group.size * len(batch.category) / len(every)
        return Losses({name: weight * loss for name, loss in by_name.items()})

    def regroup(self, model: DualHead, confusion: Tensor, accuracy: float) -> dict[str, float]:
        """Nothing: there is nothing to contrast."""
        return {}


def objective_of(recipe: Recipe, symmetry_orders: Tensor | None = None, flips: Tensor | None = None) -> Objective:
    """What a recipe's method trains for; `symmetry_orders` and `flips` as in `CompNetObjective`."""
    match recipe:
        case CompNetRecipe():
            return CompNetObjective(recipe, symmetry_orders, flips)
        case NovumRecipe():
            return NovumObjective(recipe.loss, recipe.bank)
        case DualHeadRecipe():
            return DualHeadObjective()
    raise TypeError(f"no method has recipes of type {type(recipe).__name__}")


# -- parts of the contrastive objectives ---------------------------------------------------------------------------


def _watched(model: CompNet, seen: Seen) -> dict[str, Tensor]:
    """What `Losses` has of the network and the bank."""
    return {
        "the network's output": seen.feature_map,
        "a vertex feature": model.bank.vertex_features,
        "a background feature": model.bank.background_features,
    }


def _draw(seen: Seen, batch: Batch, settings: LossSettings, generator: torch.Generator) -> Queries:
    """The visible vertices that are queries in this step."""
    every, whole = seen.vertices, seen.whole
    # drawn for the whole batch, so that an image has the same queries however it is shared out; of an image's columns
    # the visible ones come first
    columns = torch.arange(max(1, int(whole.visible.max())), device=every.valid.device)
    drawn = draw_queries(columns < whole.visible[:, None], settings.queries_per_image, generator)[whole.own]
    valid = drawn < whole.visible[whole.own, None]
    # other shares may show more vertices than there are columns here
    drawn = drawn.clamp_max(every.valid.shape[1] - 1)
    # [B, Q, D] from [B, all visible, D]
    features = every.features.gather(1, drawn[..., None].expand(-1, -1, every.features.shape[2]))
    return Queries(features, batch.category, every.vertex.gather(1, drawn), valid)


def excluded_vertices(model: CompNet, queries: Queries, radius: float, *, half_turn: bool = False) -> Tensor:
    """See `near_vertices`, bool [B, Q, K_max]; `radius` in fractions of the diagonal of the category's box."""
    # relative to the object's size: CAD units differ between categories
    diagonal = model.cuboids.diagonals()[queries.category]
    vertices = model.shape(queries.category).vertices / diagonal[:, None, None]
    return near_vertices(vertices, queries.vertex, radius, half_turn=half_turn)


def scores_of_poses(
    model: CompNet, feature_map: Tensor, category: Tensor, pose: Pose, principal_point: Tensor
) -> Tensor:
    """- L(alpha) of Eq. 8 of images [B] at poses [B, P], with one principal point [B, 2] each: [B, P]."""
    # the poses of an image follow each other, [B P]: renderers take one batch dimension
    image = torch.arange(len(category), device=model.device).repeat_interleave(pose.shape[1])
    place = torch.arange(pose.shape[1], device=model.device).repeat(len(category))
    with torch.no_grad():
        # the poses are given, so that nothing is learned through the rendering; the gradient goes through the features
        # alone
        seen = model.render(category[image], pose[image, place], principal_point[image])
    cells, bank = cells_of(feature_map), model.bank
    # [B, K_max, D]; padded rows are never gathered, since fragments name vertices that there are
    own, _ = padded_category_features(bank.vertex_features, bank.offsets, category)
    background = background_similarity(cells, bank.background)
    return pose_scores(torch.bmm(cells, own.transpose(1, 2)), background, seen, model.config.pose.truncation)


def _classification(
    model: CompNet, feature_map: Tensor, batch: Batch, settings: CompNetLossSettings, generator: torch.Generator
) -> Tensor:
    """The classification loss; zero, and nothing is drawn, where it has no weight."""
    if settings.classification_weight == 0:
        return torch.zeros((), device=model.device)
    cells = draw_cells(feature_map, settings.classification_cells, generator)
    return classification_loss(category_scores(cells, model.bank.feature_bank), batch.category)


def _update_of_bank(
    model: CompNet, batch: Batch, seen: Seen, settings: BankSettings, generator: torch.Generator
) -> Callable[[], None]:
    """Eq. 6 for the vertices that were seen, queries or not, and the background ring: after the gradient step."""
    bank, vertices, whole = model.bank, seen.vertices, seen.whole
    with torch.no_grad():
        # background is what lies outside the projected object; a vertex is three or four cells from the next, so that
        # being away from vertices would not be enough
        covered = model.render(batch.category, batch.pose, batch.principal_point).foreground > 0
    draw = uniform((len(whole.category), covered[0].numel()), generator, model.device)[whole.own]
    cells, free = sample_background(
        seen.feature_map.detach(), covered, settings.background_per_image, draw, batch.occluded
    )
    # flat numbers in the bank; cells have numbers below zero, and those that are not free travel with them, so that all
    # members know how many there are
    flat = (bank.offsets[batch.category][:, None] + vertices.vertex)[vertices.valid]
    flat = torch.cat([flat, free.flatten().long() - 2])
    features = vertices.features.detach()[vertices.valid]
    features = torch.cat([features, cells.flatten(0, 1).to(features.dtype)])
    counts = whole.of_ranks(whole.visible + free.shape[1])
    # all shares together: each process keeps a whole bank, and all banks must stay the same; they travel during the
    # backward pass
    every = whole.group.gather_later(flat, features, counts=counts)

    def learn() -> None:
        flat, features = every()
        bank.update_vertices(flat[flat >= 0], features[flat >= 0], settings.momentum)
        bank.update_background(features[flat == -1])

    return learn
