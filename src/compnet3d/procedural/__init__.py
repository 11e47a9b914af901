"""Data sets that need no download: parametric everyday objects, a shape grammar, and renderings of CAD models.

`make_dataset` and `render_dataset` write the ImageNet3D raw layout.
"""

from __future__ import annotations

from compnet3d.procedural.categories import category_names
from compnet3d.procedural.writer import make_dataset, render_dataset

__all__ = ["category_names", "make_dataset", "render_dataset"]
