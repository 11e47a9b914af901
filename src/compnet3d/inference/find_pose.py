"""The pose search for features of any network and one shape."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from compnet3d.geometry.camera import Pose
from compnet3d.inference.matching import background_similarity, cells_of
from compnet3d.inference.pose_hypotheses import InitialPoses, build_pose_hypotheses
from compnet3d.inference.pose_search import Matches, PoseEstimate, PoseSettings, estimate_pose
from compnet3d.rendering.fragments import Fragments
from compnet3d.rendering.shape import Shape, render
from compnet3d.utils.checks import check_shape


def find_pose(
    feature_map: Tensor,
    vertex_features: Tensor,
    background_features: Tensor,
    shape: Shape,
    initial: InitialPoses,
    settings: PoseSettings | None = None,
) -> PoseEstimate:
    """Eq. 8 for one shape and features of any network: the pose of the object in each image.

    Args:
        feature_map: unit vectors [B, D, H, W].
        vertex_features: C, unit vectors [K, D]; background_features: [N_b, D], N_b may be 0.
        shape: one surface of K vertices (see `compnet3d.rendering`).
        initial: where to start; its input has `height / H` pixels per cell.
        settings: how to search.

    Returns:
        Poses in the pixels of the input, [B].

    Raises:
        ValueError: if a shape does not fit.
    """
    check_shape("feature_map", feature_map, ("B", "D", "H", "W"))
    check_shape("vertex_features", vertex_features, ("K", feature_map.shape[1]))
    check_shape("background_features", background_features, ("N", feature_map.shape[1]))
    if __debug__ and shape.vertices.shape != (len(vertex_features), 3):
        raise ValueError(f"shape must be one surface of K = {len(vertex_features)} vertices")
    settings, given = settings or PoseSettings(), initial.input_config
    initial = replace(initial, device=feature_map.device)
    stride = given.height / feature_map.shape[2]

    def drawn(category: Tensor, pose: Pose, principal_point: Tensor, softness: float) -> Fragments:
        return render(shape, pose, given.camera(principal_point), stride, softness=softness)

    cells = cells_of(feature_map)
    category = torch.zeros(len(cells), dtype=torch.int64, device=cells.device)
    matches = Matches(cells @ vertex_features.T, background_similarity(cells, background_features), category)
    table = build_pose_hypotheses(drawn, 0, len(vertex_features), *initial.make(shape.vertices))
    return estimate_pose(matches, [table] * len(cells), drawn, settings, translation_known=initial.crop == "oracle")
