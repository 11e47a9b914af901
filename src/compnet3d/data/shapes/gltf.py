"""glTF 2.0, in one file (.glb) or with others beside it (.gltf).

trimesh reads what is in the buffers and places the nodes. It gets the document without anything that it would open or
pass over in silence: pictures, other files, compressed or sparse numbers.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compnet3d.data.shapes.siblings import Siblings
from compnet3d.data.shapes.soup import Soup, join_soups
from compnet3d.errors import CompNetError
from compnet3d.geometry.frame import Frame
from compnet3d.geometry.polygons import Polygons
from compnet3d.utils.files import Json

_FRAME = Frame.with_up("y", metres=1.0)
# triangles of all instances; bytes of all numbers as they are unpacked; nodes, and how deep one lies in others
_MOST_TRIANGLES, _MOST_BYTES, _MOST_NODES, _DEEPEST = 4_000_000, 256 * 2**20, 50_000, 200
_FLOAT, _TRIANGLES, _STRIP, _FAN = 5126, 4, 5, 6
_BYTES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, _FLOAT: 4}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
# they change how numbers are packed, not how things look
_PACKED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_mesh_quantization")


def read_glb(path: Path, data: bytes) -> Soup:
    """What a binary glTF file holds.

    Raises:
        CompNetError: as `read_gltf`, and if the file is cut short.
    """
    if data[:4] != b"glTF" or len(data) < 20:
        raise CompNetError(f"{path}: is no binary glTF file (.glb); export the model again")
    version, length, first, kind = (int.from_bytes(data[i : i + 4], "little") for i in (4, 8, 12, 16))
    if version != 2:
        raise CompNetError(f"{path}: is glTF of version {version}; export the model as glTF 2.0")
    if length != len(data) or 20 + first > length or kind != 0x4E4F534A:
        problem = "too long" if len(data) > length else "cut short"
        raise CompNetError(f"{path}: {problem}: promises {length} bytes but has {len(data)}; export the model again")
    at = 20 + first
    size = int.from_bytes(data[at : at + 4], "little")
    binary = data[at + 8 : at + 8 + size] if data[at + 4 : at + 8] == b"BIN\0" else None
    if binary is not None and len(binary) < size:
        raise CompNetError(f"{path}: cut short: its numbers end after {len(binary)} of {size} bytes; export it again")
    return _read(path, data[20:at], binary)


def read_gltf(path: Path, data: bytes) -> Soup:
    """What a glTF file and the files that it names hold.

    Raises:
        CompNetError: naming the file, if it is broken, needs what is not read, or names files that are not beside it.
    """
    return _read(path, data, None)


@dataclass(frozen=True)
class _Document:
    """A glTF document with its buffers."""

    path: Path
    tree: Json
    buffers: list[bytes]

    def all(self, name: str) -> list[Json]:
        """One of the lists of the document."""
        found = self.tree.get(name, [])
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise CompNetError(f"{self.path}: its {name} are no list of objects; export the model again")
        return found

    def view(self, number: int) -> bytes:
        """The bytes of a view of a buffer."""
        view = self.all("bufferViews")[number]
        start = int(view.get("byteOffset", 0))
        return self.buffers[view["buffer"]][start : start + int(view["byteLength"])]


def _read(path: Path, data: bytes, binary: bytes | None) -> Soup:
    siblings = Siblings(path)
    try:
        tree = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise CompNetError(f"{path}: its JSON is broken ({error}); export the model again") from None
    try:
        if not isinstance(tree, dict) or not str(tree.get("asset", {}).get("version", "")).startswith("2"):
            raise CompNetError(f"{path}: is no glTF 2.0; export the model as glTF 2.0")
        document = _Document(path, tree, _buffers(path, tree, binary, siblings))
        _check_numbers(document)
        plain = _without_looks(document)
        materials = [_material(document, number, siblings) for number in range(len(document.all("materials")))]
        return _scene(document, plain, materials, siblings)
    except CompNetError:
        raise
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # trimesh trusts its files: whatever it stumbles over
        reason = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}" if str(error) else type(error).__name__
        raise CompNetError(f"{path}: is damaged ({reason}); export the model again") from None


def _buffers(path: Path, tree: Json, binary: bytes | None, siblings: Siblings) -> list[bytes]:
    """The bytes of each buffer: in the file, in its text, or in a file beside it."""
    found = []
    for number, buffer in enumerate(tree.get("buffers", [])):
        uri = buffer.get("uri")
        if uri is None:
            if number or binary is None:
                raise CompNetError(f"{path}: buffer {number} is not in the file; export the model again")
            data = binary
        else:
            data = _of_uri(path, str(uri), siblings)
        if len(data) < int(buffer.get("byteLength", 0)):
            raise CompNetError(
                f"{path}: buffer {number} has {len(data)} bytes and not {buffer['byteLength']}; export the model again"
            )
        found.append(data)
    return found


def _of_uri(path: Path, uri: str, siblings: Siblings) -> bytes:
    if not uri.startswith("data:"):
        return siblings.read(uri)
    try:
        return base64.b64decode(uri.partition(",")[2], validate=True)
    except binascii.Error:
        raise CompNetError(f"{path}: data in its text are damaged; export the model again") from None


def _check_numbers(document: _Document) -> None:
    """Refuse what trimesh would read as zeros, or what would take too much memory."""
    path = document.path
    needed = {*document.tree.get("extensionsRequired", ())}
    packed = [name for name in _PACKED if name in needed]
    if packed:
        raise CompNetError(f"{path}: is packed by {packed[0]}, which is not read; export the model without compression")
    total = 0
    for number, accessor in enumerate(document.all("accessors")):
        if "sparse" in accessor or "bufferView" not in accessor:
            raise CompNetError(f"{path}: accessor {number} is sparse or compressed; export the model without that")
        count = accessor["count"]
        if not isinstance(count, int) or count < 1:
            raise CompNetError(f"{path}: accessor {number} has a count of {count}; export the model again")
        total += count * _WIDTHS[accessor["type"]] * _BYTES[accessor["componentType"]]
    if total > _MOST_BYTES:
        raise CompNetError(f"{path}: its numbers take {total:,} bytes, more than {_MOST_BYTES:,}; simplify the model")


def _without_looks(document: _Document) -> Json:
    """Nodes, meshes and numbers alone, under names of ours; materials become their numbers, -1 for none."""
    meshes: list[Json] = []
    materials = document.all("materials")
    for mesh in document.all("meshes"):
        primitives = [
            _primitive(document, primitive, materials)
            for primitive in mesh["primitives"]
            if primitive.get("mode", _TRIANGLES) in (_TRIANGLES, _STRIP, _FAN)
        ]
        meshes.append({"name": f"mesh{len(meshes)}", "primitives": primitives})
    keys = ("mesh", "children", "matrix", "translation", "rotation", "scale")
    nodes = [{key: node[key] for key in keys if key in node} for node in document.all("nodes")]
    nodes = nodes or [{"mesh": number} for number in range(len(meshes))]
    roots = _roots(document, nodes)
    _check_tree(document, nodes, roots, meshes)
    named = [{"name": f"node{number}", **node} for number, node in enumerate(nodes)]
    names = [{"name": str(number)} for number in range(-1, len(materials))]
    plain = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": roots}], "nodes": named, "meshes": meshes}
    buffers = [{"uri": str(number)} for number in range(len(document.buffers))]
    return {
        **plain,
        "materials": names,
        "accessors": document.all("accessors"),
        "bufferViews": document.all("bufferViews"),
        "buffers": buffers,
    }


def _primitive(document: _Document, primitive: Json, materials: list[Json]) -> Json:
    if primitive.get("mode") == _FAN:
        raise CompNetError(f"{document.path}: holds fans of triangles, which are not read; export plain triangles")
    attributes, accessors = primitive["attributes"], document.all("accessors")
    if accessors[attributes["POSITION"]]["componentType"] != _FLOAT:
        raise CompNetError(f"{document.path}: its vertices are packed in whole numbers; export it without compression")
    number = primitive.get("material", -1)
    kept = {"POSITION": attributes["POSITION"]}
    if number >= 0:
        texture = materials[number].get("pbrMetallicRoughness", {}).get("baseColorTexture", {})
        place = attributes.get(f"TEXCOORD_{texture.get('texCoord', 0)}")
        if place is not None and accessors[place]["componentType"] == _FLOAT:
            kept["TEXCOORD_0"] = place
    if "COLOR_0" in attributes:
        kept["COLOR_0"] = attributes["COLOR_0"]
    made = {"attributes": kept, "mode": primitive.get("mode", _TRIANGLES), "material": number + 1}
    return made | ({"indices": primitive["indices"]} if "indices" in primitive else {})


def _roots(document: _Document, nodes: list[Json]) -> list[int]:
    scenes = document.all("scenes")
    if scenes:
        roots: list[int] = scenes[document.tree.get("scene", 0)].get("nodes", [])
        return roots
    children = {child for node in nodes for child in node.get("children", ())}
    return [number for number in range(len(nodes)) if number not in children]


def _check_tree(document: _Document, nodes: list[Json], roots: list[int], meshes: list[Json]) -> None:
    """Refuse nodes in a circle or of two parents, and scenes that are too large."""
    path, accessors = document.path, document.all("accessors")
    sizes = [
        sum(accessors[p.get("indices", p["attributes"]["POSITION"])]["count"] for p in mesh["primitives"])
        for mesh in meshes
    ]
    seen: set[int] = set()
    left, total = [(root, 0) for root in roots], 0
    while left:
        number, depth = left.pop()
        if number in seen or depth > _DEEPEST or len(seen) > _MOST_NODES:
            raise CompNetError(f"{path}: its nodes are no tree, or too many; export the model again")
        seen.add(number)
        total += sizes[nodes[number]["mesh"]] if "mesh" in nodes[number] else 0
        left += [(child, depth + 1) for child in nodes[number].get("children", ())]
    if total > 3 * _MOST_TRIANGLES:
        raise CompNetError(f"{path}: its scene has more than {_MOST_TRIANGLES:,} triangles; simplify it")


@dataclass(frozen=True)
class _Material:
    """Colour (sRGB) [3] or None, the number of a picture or -1, and where in it places [3, 3] are."""

    colour: npt.NDArray[np.float32] | None = None
    picture: int = -1
    placing: npt.NDArray[np.float64] | None = None


def _material(document: _Document, number: int, siblings: Siblings) -> _Material:
    surface = document.all("materials")[number].get("pbrMetallicRoughness")
    if surface is None:
        return _Material()
    factor = np.array(surface.get("baseColorFactor", (1, 1, 1, 1)), dtype=np.float64)[:3]
    # factors are light, pictures sRGB
    colour = (np.clip(np.nan_to_num(factor), 0, 1) ** (1 / 2.2)).astype(np.float32)
    texture = surface.get("baseColorTexture")
    if texture is None:
        return _Material(colour)
    transform = texture.get("extensions", {}).get("KHR_texture_transform", {})
    placing = None
    if transform:
        (du, dv), (su, sv) = transform.get("offset", (0, 0)), transform.get("scale", (1, 1))
        c, s = np.cos(transform.get("rotation", 0.0)), np.sin(transform.get("rotation", 0.0))
        placing = np.array([[c * su, s * sv, du], [-s * su, c * sv, dv], [0, 0, 1]], dtype=np.float64)
    entry = document.all("textures")[texture["index"]]
    webp = entry.get("extensions", {}).get("EXT_texture_webp", {})
    source = webp.get("source", entry.get("source"))
    return _Material(colour, -1 if source is None else _picture(document, source, siblings), placing)


def _picture(document: _Document, number: int, siblings: Siblings) -> int:
    image = document.all("images")[number]
    if "bufferView" in image:
        return siblings.packed_picture(number, document.view(image["bufferView"]))
    uri = str(image.get("uri", ""))
    if uri.startswith("data:"):
        return siblings.packed_picture(number, _of_uri(document.path, uri, siblings))
    return siblings.picture(uri)


class _Buffers(Mapping[str, bytes]):
    """What trimesh asks for by name: the buffers, by their numbers."""

    def __init__(self, buffers: list[bytes]) -> None:
        self._buffers = buffers

    def __getitem__(self, name: str) -> bytes:
        return self._buffers[int(name)]

    def __iter__(self) -> Any:
        return iter(map(str, range(len(self._buffers))))

    def __len__(self) -> int:
        return len(self._buffers)


def _scene(document: _Document, plain: Json, materials: list[_Material], siblings: Siblings) -> Soup:
    # here, as it takes a second to import
    import trimesh

    stream = io.BytesIO(json.dumps(plain).encode())
    scene = trimesh.load_scene(stream, file_type="gltf", resolver=_Buffers(document.buffers), process=False)
    parts = []
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        mesh = scene.geometry[name]
        if len(mesh.faces):
            parts.append(_part(mesh, np.asarray(transform, dtype=np.float64), materials, siblings))
    if not parts:
        raise CompNetError(f"{document.path}: holds no triangles; export the model as a mesh")
    return join_soups(parts, _FRAME, siblings)


def _part(mesh: Any, transform: npt.NDArray[np.float64], materials: list[_Material], siblings: Siblings) -> Soup:
    vertices = np.asarray(mesh.vertices, dtype=np.float64) @ transform[:3, :3].T + transform[:3, 3]
    faces = np.asarray(mesh.faces, dtype=np.int64)
    if np.linalg.det(transform[:3, :3]) < 0:  # mirrored: what was outside would be inside
        faces = faces[:, ::-1]
    corners = np.ascontiguousarray(faces).reshape(-1)
    polygons = Polygons(vertices, corners, np.full(len(faces), 3, dtype=np.int64))
    if corners.min() < 0 or corners.max() >= len(vertices):
        return Soup(polygons)  # which is refused, with the place
    number = int(mesh.visual.material.name)
    material = materials[number] if number >= 0 else _Material()
    tint = mesh.visual.vertex_attributes.get("color")
    if tint is not None and len(tint) == len(vertices):
        full = 1.0 if tint.dtype.kind == "f" else float(np.iinfo(tint.dtype).max)
        colours = (np.clip(np.nan_to_num(tint[:, :3] / full), 0, 1) ** (1 / 2.2)).astype(np.float32)[corners]
        colours = colours if material.colour is None else colours * material.colour
    elif material.colour is None:
        return Soup(polygons)
    else:
        colours = np.tile(material.colour, (len(corners), 1))
    uv = mesh.visual.uv
    if material.picture < 0 or uv is None or len(uv) != len(vertices):
        return Soup(polygons, colours, pictures=siblings.pictures)
    places = _placed(np.asarray(uv, dtype=np.float64), material.placing)[corners].astype(np.float32)
    chosen = np.full(len(faces), material.picture, dtype=np.int64)
    return Soup(polygons, colours, places, chosen, siblings.pictures)


def _placed(uv: npt.NDArray[np.float64], placing: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64]:
    """Places [N, 2] moved in the picture; glTF counts from its top, trimesh and we from its bottom."""
    if placing is None:
        return uv
    top = np.stack([uv[:, 0], 1 - uv[:, 1], np.ones(len(uv))], axis=1) @ placing.T
    return np.stack([top[:, 0], 1 - top[:, 1]], axis=1)
