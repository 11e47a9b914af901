"""Why a model answers as it does: what each cell matched, what explains it, and how well every hypothesis fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from compnet3d.data.images import image_tensor
from compnet3d.data.transforms import BoxCrop, InputConfig
from compnet3d.data.warp import warp_image
from compnet3d.geometry.camera import Pose
from compnet3d.geometry.mesh import Mesh
from compnet3d.inference.matching import CropFeatures, vertex_similarities
from compnet3d.inference.pose_search import Matches, start_losses
from compnet3d.inference.prediction import SinglePrediction
from compnet3d.inference.render_and_compare import RenderAndCompare


@dataclass(frozen=True)
class HypothesisMap:
    """How well each initial pose of a category fits.

    Attributes:
        azimuth, elevation, theta: of the pose grid, radians, [A], [E] and [T].
        loss: what the search compares initial poses by, [A, E, T]: Eq. 8 averaged over the cells with the truncation,
            the foreground bonus and the prior of `PoseSettings`. The lowest fit best.
    """

    azimuth: Tensor
    elevation: Tensor
    theta: Tensor
    loss: Tensor

    @classmethod
    def of(cls, pose: Pose, loss: Tensor) -> HypothesisMap:
        """From the poses of `pose_grid` [P], theta fastest, and their losses [P]."""
        azimuth = pose.azimuth.unique_consecutive()
        turn = len(loss) // len(azimuth)
        elevation = pose.elevation[:turn].unique_consecutive()
        theta = pose.theta[: turn // len(elevation)]
        return cls(azimuth, elevation, theta, loss.reshape(len(azimuth), len(elevation), len(theta)))

    @property
    def sphere(self) -> Tensor:
        """The lowest loss over theta in each direction, [A, E]."""
        return self.loss.amin(dim=-1)


@dataclass(frozen=True)
class CategoryExplanation:
    """How one category explains a crop whose feature map has H x W cells.

    Attributes:
        category: its name.
        mesh: to draw it; vertices: of the shape that carries the features, [K, 3]. Both in the object frame.
        pose: the estimate, shape []; principal_point: in pixels of the network's input, [2].
        runner_up: the second-best pose, shape []; None where no other fits nearly as well (see `Prediction`).
        reconstruction_score: - L(alpha) of Eq. 8 at that pose as an average over cells; higher is better.
        matched_vertex: the vertex whose features each cell is most similar to, int64 [H, W]; -1 where the background is
            more similar (the two sides of Eq. 7).
        similarity: to the best vertex, f . C in [-1, 1], [H, W], wherever the background is better, too.
        rendered_vertex: the vertex that weighs most in each cell at the pose, int64 [H, W]; -1 where the object does
            not cover the cell.
        explained, occluded: covered cells that the object's features explain better than the background, and those
            that the background explains better, bool [H, W]; see `Prediction`.
        hypotheses: the losses of all initial poses.
    """

    category: str
    mesh: Mesh
    vertices: Tensor
    pose: Pose
    principal_point: Tensor
    runner_up: Pose | None
    reconstruction_score: float
    matched_vertex: Tensor
    similarity: Tensor
    rendered_vertex: Tensor
    explained: Tensor
    occluded: Tensor
    hypotheses: HypothesisMap


@dataclass(frozen=True)
class Explanation:
    """What a model saw in one image, as plain tensors on the CPU.

    Attributes:
        answer: the prediction, in pixels of the image.
        input_config: the network's input.
        crop: what the network saw, uint8 [3, z height, z width], with z times its pixels where the image has them.
        best: how the best-scoring category explains the crop.
        runner_up: how the next one does, or the category that was asked about; None of a model with one category.
    """

    answer: SinglePrediction
    input_config: InputConfig
    crop: Tensor
    best: CategoryExplanation
    runner_up: CategoryExplanation | None = None


@dataclass(frozen=True)
class Subject:
    """A category that may explain a crop: its number, and see `CategoryExplanation`."""

    number: int
    category: str
    mesh: Mesh
    vertices: Tensor


@torch.no_grad()
def explain_category(method: RenderAndCompare, features: CropFeatures, subject: Subject) -> CategoryExplanation:
    """How a category explains one crop.

    Args:
        method: the search of the model.
        features: of the crop, B = 1.
        subject: the category.
    """
    if __debug__ and len(features) != 1:
        raise ValueError(f"features must be of one crop, got {len(features)}")
    number = torch.tensor([subject.number], device=features.feature_map.device)
    matches = Matches(vertex_similarities(features.feature_map, method.bank, number), features.background, number)
    table = method.hypotheses(subject.number, features.crop)
    (losses,) = start_losses(matches, [table], method.settings, method.bonus)
    estimate = method.estimate_poses(features, number)
    seen = method.render(number, estimate.pose, estimate.principal_point, 0.0)
    heaviest = seen.weight.argmax(dim=-1, keepdim=True)
    rendered = seen.vertex_index.gather(-1, heaviest)[..., 0]
    size = features.feature_map.shape[2:]
    similarity, matched = matches.similarity[0].max(dim=-1)
    second = estimate.runner_up[0].wrapped().to("cpu")
    return CategoryExplanation(
        category=subject.category,
        mesh=subject.mesh,
        vertices=subject.vertices.cpu(),
        pose=estimate.pose[0].wrapped().to("cpu"),
        principal_point=estimate.principal_point[0].cpu(),
        runner_up=None if bool(second.azimuth.isnan()) else second,
        reconstruction_score=-float(estimate.loss),
        matched_vertex=matched.where(similarity > features.background[0], -1).reshape(size).cpu(),
        similarity=similarity.reshape(size).cpu(),
        rendered_vertex=rendered.where(seen.foreground > 0.5, -1)[0].cpu(),
        explained=estimate.foreground[0].cpu(),
        occluded=estimate.occluded[0].cpu(),
        hypotheses=HypothesisMap.of(table.pose.to("cpu"), losses.cpu()),
    )


def fine_crop(image: Image.Image, crop: BoxCrop, input_config: InputConfig) -> Tensor:
    """The window of a crop with up to z times its pixels, as far as the image has them: `Explanation.crop`.

    Args:
        image: that it was cut out of, in RGB.
        crop: by `crop_box`.
        input_config: the network's input.
    """
    largest = 480  # pixels: enough to look at
    height, width = input_config.height, input_config.width
    zoom = max(1, min(largest // max(height, width), round(1 / crop.scale)))
    # a pixel is a zoom-th of one before, and the corner stays where it is
    matrix = crop.matrix / np.array([zoom, zoom, 1])
    size, scale = (zoom * width, zoom * height), zoom * crop.scale
    return image_tensor(warp_image(image, matrix, size, scale, input_config.fill, border=input_config.border))
