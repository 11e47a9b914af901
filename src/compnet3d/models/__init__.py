"""The method and its baseline: what is learned, how it is kept, and loading a saved model of any kind."""

from compnet3d.models.backbones import BackboneConfig, FeatureExtractor, build_extractor
from compnet3d.models.bank import VertexFeatureBank, smooth_features
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from compnet3d.models.dual_head import DualHead, DualHeadConfig
from compnet3d.models.observation import Observation, observe, sample_background
from compnet3d.models.registry import TrainedModel, load_predictor
from compnet3d.models.rotation_prior import RotationPrior

__all__ = [
    "BackboneConfig",
    "CompNet",
    "CompNetConfig",
    "DualHead",
    "DualHeadConfig",
    "FeatureExtractor",
    "Observation",
    "RotationPrior",
    "TrainedModel",
    "VertexFeatureBank",
    "build_extractor",
    "load_predictor",
    "observe",
    "sample_background",
    "smooth_features",
]
