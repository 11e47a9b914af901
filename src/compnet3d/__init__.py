"""compnet3d: 3D compositional models for robust classification and pose estimation.

Importing the package is cheap: the names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compnet3d.errors import CompNetError
    from compnet3d.geometry.camera import Camera, Pose
    from compnet3d.geometry.mesh import Mesh
    from compnet3d.inference.prediction import Prediction, Predictor
    from compnet3d.models.compnet import CompNet
    from compnet3d.models.registry import load_predictor


__version__ = "0.1.0"

_HOMES = {
    "Camera": "compnet3d.geometry.camera",
    "CompNet": "compnet3d.models.compnet",
    "CompNetError": "compnet3d.errors",
    "Mesh": "compnet3d.geometry.mesh",
    "Pose": "compnet3d.geometry.camera",
    "load_predictor": "compnet3d.models.registry",
    "Prediction": "compnet3d.inference.prediction",
    "Predictor": "compnet3d.inference.prediction",
}

__all__ = [
    "Camera",
    "CompNet",
    "CompNetError",
    "Mesh",
    "Pose",
    "Prediction",
    "Predictor",
    "__version__",
    "load_predictor",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
