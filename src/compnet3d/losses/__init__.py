"""Contrastive losses over vertex features, Eq. 2 to 5, with what they draw: functions of tensors."""

from compnet3d.losses.auxiliary import classification_loss, pose_contrastive_loss
from compnet3d.losses.blockwise import full_contrastive_loss, grouped_contrastive_loss
from compnet3d.losses.contrastive import ContrastiveLoss, cross_category_loss, in_category_loss, log_omega
from compnet3d.losses.grouping import grouping_weights, refreshed_weights
from compnet3d.losses.inputs import FeatureBank, LossWeights, Queries
from compnet3d.losses.sampling import draw_cells, draw_negative_poses, draw_queries, near_vertices, sample_vertices

__all__ = [
    "ContrastiveLoss",
    "FeatureBank",
    "LossWeights",
    "Queries",
    "classification_loss",
    "cross_category_loss",
    "draw_cells",
    "draw_negative_poses",
    "draw_queries",
    "full_contrastive_loss",
    "grouped_contrastive_loss",
    "grouping_weights",
    "in_category_loss",
    "log_omega",
    "near_vertices",
    "pose_contrastive_loss",
    "refreshed_weights",
    "sample_vertices",
]
