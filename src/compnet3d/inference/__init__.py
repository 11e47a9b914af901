"""From features to answers: Eq. 7 tells the category, Eq. 8 the pose."""

from compnet3d.inference.category_search import CategorySearch, reconstructing_category, search_categories
from compnet3d.inference.explanation import CategoryExplanation, Explanation, HypothesisMap
from compnet3d.inference.find_pose import find_pose
from compnet3d.inference.matching import (
    CropFeatures,
    background_similarity,
    category_matches,
    category_scores,
    vertex_similarities,
)
from compnet3d.inference.pose_hypotheses import (
    InitialPoses,
    PoseGrid,
    PoseHypotheses,
    PoseSearch,
    build_pose_hypotheses,
    search_hypotheses,
)
from compnet3d.inference.pose_search import Matches, PoseEstimate, PoseSettings, estimate_pose, refine
from compnet3d.inference.prediction import Prediction, Predictor, SinglePrediction, predict_images
from compnet3d.inference.pruned_matching import Pruning, category_centroids, pruned_scores
from compnet3d.inference.reconstruction import pose_scores, reconstruction_loss
from compnet3d.inference.render_and_compare import RenderAndCompare

__all__ = [
    "CategoryExplanation",
    "CategorySearch",
    "CropFeatures",
    "Explanation",
    "HypothesisMap",
    "InitialPoses",
    "Matches",
    "PoseEstimate",
    "PoseGrid",
    "PoseHypotheses",
    "PoseSearch",
    "PoseSettings",
    "Prediction",
    "Predictor",
    "Pruning",
    "RenderAndCompare",
    "SinglePrediction",
    "background_similarity",
    "build_pose_hypotheses",
    "category_centroids",
    "category_matches",
    "category_scores",
    "estimate_pose",
    "find_pose",
    "pose_scores",
    "predict_images",
    "pruned_scores",
    "reconstructing_category",
    "reconstruction_loss",
    "refine",
    "search_categories",
    "search_hypotheses",
    "vertex_similarities",
]
