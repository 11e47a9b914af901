"""Pose by render and compare in score space (Eq. 8).

Eq. 8 needs f_i . C^_i(alpha), and C^_i is a weighted sum of vertex features; so the similarities of all cells with all
vertices of the category are computed once per image, and rendering a pose means gathering from them. No map of
D-dimensional features is ever drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compnet3d.geometry.camera import Pose
from compnet3d.inference.ambiguity import pose_log_odds, runner_up
from compnet3d.inference.pose_hypotheses import PoseHypotheses, Renderer, search_hypotheses
from compnet3d.inference.reconstruction import reconstruction_loss
from compnet3d.utils.checks import check_integer, check_shape
from compnet3d.utils.settings import setting

# category numbers [N], poses [N] -> what Eq. 8 is lowered by because such a rotation is usual, [N]
Bonus = Callable[[Tensor, Pose], Tensor]


@dataclass(frozen=True)
class PoseSettings:
    """How poses are searched.

    Attributes:
        starts: how many of the best initial poses are refined.
        steps: gradient steps (Adam).
        learning_rate: step size of the angles in radians, of log distance, and of the principal point in units of
            `shift_unit` pixels.
        betas: Adam's momenta.
        shift_unit: pixels that the principal point moves for a unit step.
        softness: width of the silhouette's soft edge in cells while refining.
        truncation: the most that a covered cell may lose against the background; beyond it the cell counts as
            hidden by something else (the latent z of Eq. 1, at a price, because a free one would let the silhouette
            grow over the background). None is Eq. 8 to the letter.
        foreground_bonus: added to the similarity of every covered cell while initial poses are compared. They are 30
            degrees apart, so even the best one fits badly, and would lose to those that cover little. 0 is Eq. 8 to
            the letter.
        prior_weight: of log p(R | y), how usual a rotation is in the category's training images; at least 0. It is
            subtracted from the loss where poses of one category are compared, before and after the gradient steps.
            After the pose contrastive loss 100 (- L) tells in logarithms how much likelier a pose is than others, and
            1 / 100 weighs both alike. 0 is Eq. 8 to the letter, for which all rotations are alike. Names do not depend
            on it.

    Raises:
        ValueError: if `prior_weight` is negative or not finite.
    """

    starts: int = setting(3, least=1, most=1000)
    steps: int = setting(30, least=0, most=10_000)
    learning_rate: float = setting(0.05, least=0, most=100)
    betas: tuple[float, float] = setting((0.4, 0.6), least=0, below=1)
    shift_unit: float = setting(40.0, least=0, most=1e6)
    softness: float = setting(0.5, least=0, most=1000)
    truncation: float | None = setting(0.3, least=0, most=1000)
    foreground_bonus: float = setting(0.3, least=-1000, most=1000)
    prior_weight: float = setting(0.0, most=1e6)

    def __post_init__(self) -> None:
        if not 0 <= self.prior_weight < math.inf:
            raise ValueError(f"prior_weight must be at least 0 and finite, got {self.prior_weight}")


@dataclass(frozen=True)
class PoseEstimate:
    """Poses of a batch of images.

    Attributes:
        pose: [B]; principal_point: [B, 2]; loss: L(alpha) of Eq. 8 averaged over the cells, [B].
        foreground: cells that the rendered object covers and explains better than the background, bool [B, H, W].
        occluded: cells that it covers and the background explains better, bool [B, H, W].
        log_odds: of the pose among all hypotheses, [B] (see `pose_log_odds`).
        runner_up: the second-best pose where there is one, [B] (see `runner_up`).
    """

    pose: Pose
    principal_point: Tensor
    loss: Tensor
    foreground: Tensor
    occluded: Tensor
    log_odds: Tensor
    runner_up: Pose

    @classmethod
    def cat(cls, parts: Sequence[PoseEstimate]) -> PoseEstimate:
        """Join the estimates of several batches."""
        return cls(
            Pose.cat([p.pose for p in parts]),
            torch.cat([p.principal_point for p in parts]),
            torch.cat([p.loss for p in parts]),
            torch.cat([p.foreground for p in parts]),
            torch.cat([p.occluded for p in parts]),
            torch.cat([p.log_odds for p in parts]),
            Pose.cat([p.runner_up for p in parts]),
        )


@dataclass(frozen=True)
class Matches:
    """How well the cells of each image match its category.

    Attributes:
        similarity: f_i . C_k, [B, H W, K_max], -1 where a category has fewer vertices.
        background: max_n f_i . beta_n, [B, H W].
        category: the number that the renderer is given, int64 [B].
        order: of the objects' symmetries, int64 [B], see `pose_log_odds`; none has any by default.

    Raises:
        ValueError: if a shape does not fit.
    """

    similarity: Tensor
    background: Tensor
    category: Tensor
    order: Tensor | None = None

    def __post_init__(self) -> None:
        check_shape("similarity", self.similarity, ("B", "H W", "K"))
        check_shape("background", self.background, self.similarity.shape[:2])
        check_shape("category", self.category, (len(self.similarity),))
        check_integer(category=self.category)

    def __getitem__(self, image: Tensor) -> Matches:
        """Those of some images, int64 [N]."""
        return Matches(self.similarity[image], self.background[image], self.category[image], self.orders[image])

    @property
    def orders(self) -> Tensor:
        """`order`, int64 [B]."""
        return torch.ones_like(self.category) if self.order is None else self.order


def estimate_pose(
    matches: Matches,
    tables: Sequence[PoseHypotheses],
    render: Renderer,
    settings: PoseSettings,
    *,
    bonus: Bonus | None = None,
    translation_known: bool = False,
) -> PoseEstimate:
    """Eq. 8: the best initial poses, refined by gradient descent, the best of which is the answer.

    Args:
        matches: of B images.
        tables: the starts of each image's category, B of them.
        render: the renderer.
        settings: how to search.
        bonus: of a category's poses, `PoseSettings.prior_weight` log p(R | y); None is 0 for all.
        translation_known: keep distance and principal point as the starts have them (an oracle crop tells them).
    """
    if __debug__ and len(tables) != len(matches.category):
        raise ValueError(f"tables must be one for each of the {len(matches.category)} images, got {len(tables)}")
    category = matches.category
    starts = []
    initial = start_losses(matches, tables, settings, bonus)
    for loss, table in zip(initial, tables, strict=True):
        best = loss.topk(min(settings.starts, len(loss)), largest=False).indices
        starts.append((table.pose[best], table.principal_point[best]))
    # all categories have the grid's number of poses, so every image has as many starts
    count = len(starts[0][1])
    pose = Pose.cat([p for p, _ in starts])
    principal_point = torch.cat([x for _, x in starts])
    repeat = torch.arange(len(category), device=category.device).repeat_interleave(count)
    pose, principal_point = refine(
        matches, pose, principal_point, repeat, render, settings, translation_known=translation_known
    )
    # the soft edge served the gradient; what counts is Eq. 8 with the exact silhouette
    fragments = render(category[repeat], pose, principal_point, 0.0)
    each = matches[repeat]
    loss, gain = reconstruction_loss(each.similarity, each.background, fragments, truncation=settings.truncation)
    total = loss if bonus is None else loss - bonus(category[repeat], pose)
    winner = total.reshape(-1, count).argmin(dim=1) + torch.arange(len(category), device=loss.device) * count
    covered = fragments.foreground[winner] > 0.5
    explained = (gain[winner] > 0).reshape(covered.shape)
    matrix = {number: table.pose.to_matrix() for number, table in zip(category.tolist(), tables, strict=True)}
    rotations = torch.stack([matrix[number] for number in category.tolist()])
    return PoseEstimate(
        pose[winner],
        principal_point[winner],
        loss[winner],
        explained,
        covered & ~explained,
        pose_log_odds(pose[winner].to_matrix(), rotations, torch.stack(initial), matches.orders),
        runner_up(pose[torch.arange(len(total)).reshape(-1, count)], total.reshape(-1, count), matches.orders),
    )


def start_losses(
    matches: Matches, tables: Sequence[PoseHypotheses], settings: PoseSettings, bonus: Bonus | None = None
) -> list[Tensor]:
    """What the initial poses of each image are compared by, [P] for each: Eq. 8 as the settings have it.

    Args:
        matches, tables, settings, bonus: see `estimate_pose`.
    """
    losses = []
    gains: dict[int, Tensor] = {}  # of the starts of each category
    for row, (number, table) in enumerate(zip(matches.category.tolist(), tables, strict=True)):
        loss = search_hypotheses(
            matches.similarity[row : row + 1],
            matches.background[row : row + 1],
            table,
            truncation=settings.truncation,
            margin=settings.foreground_bonus,
        )[0]
        if bonus is not None:
            if number not in gains:
                gains[number] = bonus(matches.category[row].expand(len(loss)), table.pose)
            loss = loss - gains[number]
        losses.append(loss)
    return losses


def image_chunks(feature_map: Tensor, cells: int = 64 * 12 * 12) -> Iterator[slice]:
    """Slices of a batch of feature maps [B, D, H, W] whose poses are searched together, which bounds the memory.

    Of 16 images or, where their maps are small, as many as have `cells` cells together (32 times as many on an
    accelerator): a step of the refinement costs about the same for a few cells as for these, 64 maps of the quickstart.
    """
    most = cells if feature_map.device.type == "cpu" else 32 * cells
    count = max(16, most // math.prod(feature_map.shape[2:]))
    for start in range(0, len(feature_map), count):
        yield slice(start, start + count)


def refine(
    matches: Matches,
    pose: Pose,
    principal_point: Tensor,
    image: Tensor,
    render: Renderer,
    settings: PoseSettings,
    *,
    translation_known: bool = False,
) -> tuple[Pose, Tensor]:
    """Gradient descent on Eq. 8 from each initial pose; the best pose met on the way is returned.

    Args:
        matches: of B images.
        pose: [N]; principal_point: [N, 2]; image: which image each start belongs to, int64 [N].
        render, settings, translation_known: see `estimate_pose`.

    Returns:
        Poses [N] and principal points [N, 2] with the lowest soft loss along each path.
    """
    if settings.steps == 0:
        return pose, principal_point
    each = matches[image]
    zeros = torch.zeros_like(pose.azimuth)
    # the distance as the logarithm of a factor: it stays positive, and a step means the same share at any distance
    start = torch.stack([pose.azimuth, pose.elevation, pose.theta, zeros, zeros, zeros], dim=-1)
    # a factor on the step and not a smaller vector, so that both kinds of crop take the same path
    free = start.new_tensor([1, 1, 1] + 3 * [0 if translation_known else 1])

    def unpack(values: Tensor) -> tuple[Pose, Tensor]:
        moved = Pose(
            azimuth=values[:, 0],
            elevation=values[:, 1],
            theta=values[:, 2],
            distance=pose.distance * values[:, 3].exp(),
        )
        return moved, principal_point + settings.shift_unit * values[:, 4:]

    values = start.clone()
    first, second = torch.zeros_like(values), torch.zeros_like(values)
    best_loss, best = torch.full_like(zeros, torch.inf), values
    beta1, beta2 = settings.betas
    # one round more than steps: the last one tells what the last step has led to, and its own step has length 0
    for step in range(settings.steps + 1):
        with torch.enable_grad():
            values = values.detach().requires_grad_(True)
            fragments = render(each.category, *unpack(values), settings.softness)
            loss, _ = reconstruction_loss(each.similarity, each.background, fragments, truncation=settings.truncation)
            # each row's loss depends on that row alone, so the gradient of the sum holds every row's own
            (gradient,) = torch.autograd.grad(loss.sum(), values)
        values, loss = values.detach(), loss.detach()
        # steps of this size overshoot at times, and each start keeps the best point of its path
        better = loss < best_loss
        best_loss = torch.where(better, loss, best_loss)
        best = torch.where(better[:, None], values, best)
        # Adam, per row: written out because each row is an independent problem with its own best point
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient.square()
        unbiased = first / (1 - beta1 ** (step + 1)) / ((second / (1 - beta2 ** (step + 1))).sqrt() + 1e-8)
        # a cosine from 1 to 0: large steps find the valley, small ones settle in it
        decay = 0.5 * (1 + torch.cos(torch.tensor(step / settings.steps * torch.pi)))
        values = values - settings.learning_rate * decay * unbiased * free
    return unpack(best)
