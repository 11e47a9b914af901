"""Any shape file as triangles in the object frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np

from compnet3d.data.shapes.collada import read_collada
from compnet3d.data.shapes.gltf import read_glb, read_gltf
from compnet3d.data.shapes.obj import read_obj
from compnet3d.data.shapes.ply import read_ply
from compnet3d.data.shapes.soup import Soup
from compnet3d.data.shapes.stl import read_stl
from compnet3d.errors import CompNetError
from compnet3d.geometry.frame import Frame
from compnet3d.geometry.mesh import Mesh, float_mesh, read_model
from compnet3d.geometry.off import parse_off
from compnet3d.geometry.polygons import Doubles, Integers, check_polygons, triangulate
from compnet3d.rendering.skin import Skin
from compnet3d.utils.files import copy_file, is_clutter


def _read_off(path: Path, data: bytes) -> Soup:
    return Soup(parse_off(path, data))


_READERS: dict[str, Callable[[Path, bytes], Soup]] = {
    ".off": _read_off,
    ".obj": read_obj,
    ".ply": read_ply,
    ".stl": read_stl,
    ".glb": read_glb,
    ".gltf": read_gltf,
    ".dae": read_collada,
}
SUFFIXES = tuple(_READERS)


@dataclass(frozen=True)
class Shape:
    """A model in the object frame (x right, y backward, z up).

    Attributes:
        vertices: float64 [V, 3], in the file's units, or in metres where the file states its unit.
        faces: int64 [F, 3], as the file winds them.
        skin: the colours that the file gives, None for none.
        frame: the axes of the file that were turned; stated: whether the format or the file states them.
        notes: what could not be read of its looks, one sentence each.
        files: that the model's file names, such as pictures, by where they lie relative to it.
    """

    vertices: Doubles
    faces: Integers
    skin: Skin | None
    frame: Frame
    stated: bool
    notes: Sequence[str] = ()
    files: Mapping[str, Path] = field(default_factory=dict)


def load_shape(path: str | Path, frame: Frame | None = None) -> Shape:
    """Read a model file of any format in `SUFFIXES`.

    Scenes are merged, instances placed, and polygons cut into triangles. glTF is y up and in metres by definition,
    COLLADA states both; other formats state nothing and are taken to be in the object frame.

    Args:
        path: the file; its suffix, in any case, tells the format.
        frame: the file's axes, whatever it states.

    Raises:
        CompNetError: naming the file and what is wrong with it.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise CompNetError(f"{path}: is no shape file that can be read; convert it to one of {', '.join(SUFFIXES)}")
    soup = reader(path, read_model(path))
    check_polygons(path, soup.polygons)
    places, owner = triangulate(path, soup.polygons)
    used = frame or soup.frame or Frame()
    vertices = used.turned(soup.polygons.vertices) * (used.metres or 1.0)
    faces = soup.polygons.corners[places]
    stated = soup.frame is not None
    return Shape(vertices, faces, soup.skin(places, owner), used, stated, tuple(soup.notes), soup.files)


def load_mesh(path: str | Path) -> Mesh:
    """The surface of a model file of any format in single precision; see `load_shape`.

    Raises:
        CompNetError: as `load_shape`, or if the model is too far from its origin for single precision.
    """
    shape = load_shape(path)
    return float_mesh(Path(path), shape.vertices, shape.faces)


def find_shapes(folder: Path) -> list[Path]:
    """The model files in a folder, numbered ones first and in their order, then by name; empty without a folder.

    Suffixes may be in capitals; hidden files are left out.

    Raises:
        CompNetError: if two have one number or name and differ in the suffix.
    """
    if not folder.is_dir():
        return []
    found: dict[tuple[bool, int, str], Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _READERS and not is_clutter(PurePath(path.name)) and not path.is_dir():
            number = int(path.stem) if path.stem.isdecimal() else 0
            key = (not path.stem.isdecimal(), number, "" if path.stem.isdecimal() else path.stem)
            if key in found:
                raise CompNetError(
                    f"{folder}: {found[key].name} and {path.name} are two files for one model; keep one of them"
                )
            found[key] = path
    return [found[key] for key in sorted(found)]


def indexed_shapes(folder: Path) -> dict[int, Path]:
    """Those of `find_shapes` that are numbered, by their number, which is what `cad_index` names."""
    return {int(path.stem): path for path in find_shapes(folder) if path.stem.isdecimal()}


def copy_shape(path: Path, target: Path) -> None:
    """Copy a model's file, with those in its folder that it names; of a broken model the file alone."""
    copy_file(path, target)
    if path.suffix.lower() in (".off", ".stl", ".ply"):
        return
    with suppress(CompNetError):
        for name, file in load_shape(path).files.items():
            copy_file(file, target.parent / name)


def copy_shapes(folder: Path, out: Path) -> int:
    """Copy the models of a folder, with whatever else is in it where formats name other files; how many models."""
    paths = find_shapes(folder)
    alone = {".off", ".stl", ".glb"}
    if all(path.suffix.lower() in alone for path in paths):
        found = paths
    else:
        below = (path for path in sorted(folder.rglob("*")) if path.is_file())
        found = [path for path in below if not is_clutter(path.relative_to(folder))]
    for path in found:
        copy_file(path, out / path.relative_to(folder))
    return len(paths)


def degenerate(vertices: Doubles, faces: Integers) -> np.ndarray:
    """Which faces [F] have no area to speak of."""
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    diagonal = float(np.linalg.norm(np.ptp(vertices[np.unique(faces)], axis=0))) if len(faces) else 0.0
    flat: np.ndarray = area <= 1e-12 * diagonal**2
    return flat
