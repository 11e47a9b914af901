"""Where an object is in its image: by its mask, else by the silhouette of a CAD model at the annotated pose."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageFilter

from compnet3d.data.images import load_mask
from compnet3d.data.sample import Sample
from compnet3d.geometry.camera import Pose
from compnet3d.geometry.mesh import Mesh
from compnet3d.rendering.raster import rasterize


def object_layer(sample: Sample, size: tuple[int, int], mesh: Mesh | None = None) -> Image.Image | None:
    """White where the object is and black elsewhere, an image in L.

    Args:
        sample: the object; its mask counts where it has one that is not empty.
        size: (width, height) of the image and of the layer; the image may be a resized copy of the annotated one.
        mesh: a CAD model of its category, whose silhouette stands in for the mask; None for none.

    Returns:
        The layer; None where nothing says where the object is.

    Raises:
        CompNetError: if the mask cannot be read.
    """
    if sample.mask is not None:
        mask = load_mask(sample.mask, size=size)
        if mask.any():
            return Image.fromarray(mask).convert("L")
    layer = None if mesh is None else silhouette(sample, mesh)
    return layer if layer is None or layer.size == size else layer.resize(size, Image.Resampling.BILINEAR)


def silhouette(sample: Sample, mesh: Mesh, margin: float = 0.02) -> Image.Image | None:
    """The silhouette of a CAD model at a sample's annotated pose, in L of the annotated size; None if it is outside.

    Args:
        margin: by which it grows on all sides, as a fraction of the image's longer side: no CAD model has quite the
            outline of the object, and what is cut off is worse than what is left around it.
    """
    longest = 256  # cells: more would not make a wrong outline better
    scale = min(1.0, longest / max(sample.width, sample.height))
    width, height = (max(1, round(scale * extent)) for extent in (sample.width, sample.height))
    names = ("azimuth", "elevation", "theta", "distance")
    pose = Pose(**{name: torch.tensor([getattr(sample, name)], dtype=torch.float64) for name in names})
    raster = rasterize(
        pose.object_to_camera(mesh.vertices.double()),
        mesh.faces,
        focal=torch.tensor([sample.focal], dtype=torch.float64),
        principal_point=torch.tensor([sample.principal_point], dtype=torch.float64),
        height=height,
        width=width,
        # the image's sides are whole pixels, so that the cells of the two axes differ by less than one in 256
        stride=max(sample.width / width, sample.height / height),
    )
    seen = (raster.face_index[0] >= 0).numpy()
    if not seen.any():
        return None
    reach = round(margin * max(width, height))
    layer = Image.fromarray(seen).convert("L")
    if reach:  # Pillow 12.3 divides by zero in a filter of one pixel, which would change nothing
        layer = layer.filter(ImageFilter.MaxFilter(2 * reach + 1))
    return layer.resize((sample.width, sample.height), Image.Resampling.BILINEAR)


def silhouette_iou(sample: Sample, mesh: Mesh, mask: np.ndarray) -> float:
    """Intersection over union of an object's mask and the silhouette of a CAD model at the annotated pose, in [0, 1].

    Args:
        mask: bool [H, W] of the annotated size; of the whole object: what hides parts of it lowers the value.
    """
    layer = silhouette(sample, mesh, margin=0.0)
    if layer is None:
        return 0.0
    seen = np.asarray(layer) > 127
    return float((seen & mask).sum() / max(1, (seen | mask).sum()))
