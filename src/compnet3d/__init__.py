"""compnet3d: 3D compositional models for robust classification and pose estimation.

Importing the package is cheap: the names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compnet3d import data, evaluation, geometry, inference, losses, models, rendering, training
    from compnet3d.data.sample import Sample
    from compnet3d.errors import CompNetError
    from compnet3d.evaluation.evaluate import evaluate
    from compnet3d.geometry.camera import Camera, Pose
    from compnet3d.geometry.mesh import Mesh
    from compnet3d.inference.prediction import Prediction, Predictor
    from compnet3d.models.compnet import CompNet
    from compnet3d.models.registry import load_predictor
    from compnet3d.reporting.publishing import push_to_hub
    from compnet3d.training.builtin_recipes import get_recipe
    from compnet3d.training.data import TrainingData
    from compnet3d.training.recipe import CompNetRecipe, Recipe
    from compnet3d.training.train import train


__version__ = "0.1.0"

_HOMES = {
    "Camera": "compnet3d.geometry.camera",
    "CompNet": "compnet3d.models.compnet",
    "CompNetError": "compnet3d.errors",
    "CompNetRecipe": "compnet3d.training.recipe",
    "Mesh": "compnet3d.geometry.mesh",
    "Pose": "compnet3d.geometry.camera",
    "Prediction": "compnet3d.inference.prediction",
    "Predictor": "compnet3d.inference.prediction",
    "Recipe": "compnet3d.training.recipe",
    "Sample": "compnet3d.data.sample",
    "TrainingData": "compnet3d.training.data",
    "evaluate": "compnet3d.evaluation.evaluate",
    "get_recipe": "compnet3d.training.builtin_recipes",
    "load_predictor": "compnet3d.models.registry",
    "push_to_hub": "compnet3d.reporting.publishing",
    "train": "compnet3d.training.train",
}
_PACKAGES = ("data", "evaluation", "geometry", "inference", "losses", "models", "rendering", "training")

__all__ = [
    "Camera",
    "CompNet",
    "CompNetError",
    "CompNetRecipe",
    "Mesh",
    "Pose",
    "Prediction",
    "Predictor",
    "Recipe",
    "Sample",
    "TrainingData",
    "__version__",
    "data",
    "evaluate",
    "evaluation",
    "geometry",
    "get_recipe",
    "inference",
    "load_predictor",
    "losses",
    "models",
    "push_to_hub",
    "rendering",
    "train",
    "training",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it (PEP 562)."""
    if name in _PACKAGES:
        return import_module(f"compnet3d.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
