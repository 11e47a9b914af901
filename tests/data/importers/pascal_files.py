"""Files of PASCAL3D+, ObjectNet3D and OOD-CV as MATLAB holds them, written by SciPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.io import savemat

from compnet3d.geometry.mesh import Mesh, save_off

WIDTH, HEIGHT = 120, 90


def struct(**fields: Any) -> np.ndarray:
    """A 1x1 MATLAB struct as savemat writes it from the arrays that MATLAB itself would hold."""
    cell = np.empty((1, 1), dtype=[(name, object) for name in fields])
    for name, value in fields.items():
        cell[name][0, 0] = value
    return cell


def viewpoint(**changes: Any) -> np.ndarray:
    values = {
        "azimuth_coarse": 45, "elevation_coarse": 10, "azimuth": 90.0, "elevation": 0.0, "distance": 50.0,
        "focal": 1, "px": 60.0, "py": 45.0, "theta": 0.0, "error": 0.1, "interval_azimuth": 5,
        "interval_elevation": 5, "num_anchor": 9, "viewport": 3000,
    }  # fmt: skip
    values |= changes
    return struct(**{key: value for key, value in values.items() if value is not None})


def mat_object(category: str = "car", **changes: Any) -> dict[str, Any]:
    view = {k: v for k, v in changes.items() if k not in ("bbox", "cad_index", "truncated", "viewpoint")}
    return {
        "class": category,
        "bbox": changes.get("bbox", np.array([[20.0, 30.0, 100.0, 60.0]])),
        "anchors": np.zeros((0, 0)),
        "viewpoint": changes.get("viewpoint", viewpoint(**view)),
        "cad_index": changes.get("cad_index", np.uint8(2)),
        "truncated": changes.get("truncated", np.uint8(0)),
        "occluded": np.uint8(0),
        "difficult": np.uint8(0),
    }


def write_record(path: Path, *objects: dict[str, Any], size: tuple[int, ...] = (WIDTH, HEIGHT, 3)) -> None:
    array = np.empty((1, len(objects)), dtype=[(name, object) for name in mat_object()])
    for i, entry in enumerate(objects):
        for name, value in entry.items():
            array[name][0, i] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    record = struct(
        filename=f"{path.stem}.JPEG", folder="x", imgsize=np.array([size], dtype=np.int32), objects=array, imgname="x"
    )
    savemat(path, {"record": record})


def write_models(folder: Path, numbers: tuple[int, ...] = (1, 2)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    corners = torch.tensor([[-0.2, -0.5, -0.1], [0.2, -0.5, -0.1], [0.2, 0.5, -0.1], [-0.2, 0.5, 0.1]])
    mesh = Mesh(corners, torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]]))
    for number in numbers:
        save_off(folder / f"{number:02d}.off", mesh)


def write_set(root: Path, images: dict[str, tuple[dict[str, Any], ...]], category: str = "car") -> Path:
    """PASCAL3D+ of one category: the first image is the train list's, the others are the val list's."""
    (root / "Image_sets").mkdir(parents=True, exist_ok=True)
    (root / "Images" / f"{category}_imagenet").mkdir(parents=True, exist_ok=True)
    write_models(root / "CAD" / category)
    for name, objects in images.items():
        write_record(root / "Annotations" / f"{category}_imagenet" / f"{name}.mat", *objects)
        pixels = np.full((HEIGHT, WIDTH, 3), 99, np.uint8)
        Image.fromarray(pixels).save(root / "Images" / f"{category}_imagenet" / f"{name}.JPEG")
    names = list(images)
    for split, part in (("train", names[:1]), ("val", names[1:])):
        (root / "Image_sets" / f"{category}_imagenet_{split}.txt").write_text("".join(f"{n}\n" for n in part))
    return root
