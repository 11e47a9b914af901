"""One step of training: the losses of a batch, down their gradient, and the update of the bank."""

from __future__ import annotations

import torch
from torch import Tensor

from compnet3d.geometry.camera import Pose
from compnet3d.losses.auxiliary import classification_loss, pose_contrastive_loss
from compnet3d.losses.blockwise import full_contrastive_loss, grouped_contrastive_loss
from compnet3d.losses.inputs import LossWeights, Queries
from compnet3d.losses.sampling import draw_cells, draw_negative_poses, draw_queries, sample_vertices
from compnet3d.models.compnet import CompNet
from compnet3d.training.recipe import CompNetRecipe, ContrastiveRecipe
from compnet3d.training.run_folder import Run

# what a training step returns, by the recipe's method
LOSSES = {
    "compnet": ("loss", "in_category_loss", "cross_category_loss", "classification_loss", "pose_contrastive_loss"),
    "novum": ("loss",),
    "dual-head": ("loss", "category_loss", "pose_loss"),
}


def train_step(run: Run, batch: dict[str, Tensor], *, seed: int) -> Tensor:
    """One gradient step, of a CompNet followed by the update of its bank (Eq. 6 and the background ring).

    Args:
        run: its model in training mode.
        batch: this process's share, as `CropDataset` collates it.
        seed: of the sampled vertices and background cells.

    Returns:
        The loss and its parts over this share, as `LOSSES` names them.
    """
    model = run.model
    batch = {name: value.to(model.device, non_blocking=True) for name, value in batch.items()}
    pose = Pose(**{name: batch[name] for name in ("azimuth", "elevation", "theta", "distance")})
    if isinstance(model, CompNet):
        return _contrastive_step(run, model, batch, pose, seed)
    losses = model.loss(batch["image"], batch["category"], pose)
    _descend(run, losses[0], torch.tensor(len(batch["category"]), device=model.device))
    return losses.detach().cpu()


def _descend(run: Run, loss: Tensor, count: Tensor) -> None:
    """One step of the optimizer down the mean loss of all shares: this one's is the mean over `count` terms."""
    run.gradients.clear()
    (count * loss).backward()
    run.gradients.average(run.group, count)
    run.gradients.clip(5.0)
    run.optimizer.step()


def _contrastive_step(run: Run, model: CompNet, batch: dict[str, Tensor], pose: Pose, seed: int) -> Tensor:
    recipe, bank = run.recipe, model.bank
    assert isinstance(recipe, ContrastiveRecipe)
    generator = torch.Generator(model.device).manual_seed(seed)
    category, principal_point = batch["category"], batch["principal_point"]
    occluded = batch.get("occluded")
    feature_map = model(batch["image"])
    seen = model.observe(feature_map, category, pose, principal_point, occluded)
    drawn = draw_queries(seen.valid, recipe.loss.queries_per_image, generator)
    vertex, queried = seen.vertex.gather(1, drawn), seen.valid.gather(1, drawn)
    features = seen.features.gather(1, drawn[..., None].expand(-1, -1, seen.features.shape[2]))
    queries, feature_bank = Queries(features, category, vertex, queried), bank.feature_bank
    excluded = model.near_vertices(category, vertex, recipe.loss.near_radius)
    if not isinstance(recipe, CompNetRecipe):
        losses = full_contrastive_loss(
            queries,
            feature_bank,
            kappa=recipe.loss.kappa,
            excluded=excluded,
            background_weight=recipe.loss.background_weight,
        )[None]
    else:
        sampled = sample_vertices(bank.offsets, recipe.loss.samples_per_category, generator, bank.contrasted(category))
        weights = LossWeights(recipe.loss.background_weight, recipe.loss.in_weight, recipe.loss.cross_weight)
        loss = grouped_contrastive_loss(
            queries, feature_bank, sampled, kappa=recipe.loss.kappa, excluded=excluded, weights=weights
        )
        classification = torch.zeros((), device=model.device)
        if recipe.loss.classification_weight > 0:
            cells = draw_cells(feature_map, recipe.loss.classification_cells, generator)
            classification = classification_loss(model.category_scores(cells), category)
        pose_contrastive = torch.zeros((), device=model.device)
        if recipe.loss.pose_contrastive_weight > 0:
            orders = run.symmetry_orders
            order = torch.ones_like(category) if orders is None else orders[category]
            poses, negatives = draw_negative_poses(pose, order, recipe.loss.negative_poses, generator)
            pose_contrastive = pose_contrastive_loss(
                model.pose_scores(feature_map, category, poses, principal_point), negatives
            )
        total = (
            loss.total
            + recipe.loss.classification_weight * classification
            + recipe.loss.pose_contrastive_weight * pose_contrastive
        )
        losses = torch.stack([total, loss.in_category, loss.cross_category, classification, pose_contrastive])
    # Eq. 5 is the mean over the queries of all shards, and shards have more or fewer of them; the classification and
    # the pose contrastive loss, means over images, are weighted alike for want of a second count
    _descend(run, losses[0], queried.sum())
    flat = (bank.offsets[category][:, None] + seen.vertex)[seen.valid]
    flat, features = run.group.gather(flat, seen.features.detach()[seen.valid])
    bank.update_vertices(flat, features, recipe.bank.momentum)
    background = model.sample_background(
        feature_map.detach(), category, pose, principal_point, recipe.bank.background_per_image, generator, occluded
    )
    bank.update_background(*run.group.gather(background))
    return losses.detach().cpu()
