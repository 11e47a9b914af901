"""Shapes of every format, written by trimesh or by hand, against what they were made from."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from compnet3d.data.shapes.read import (
    SUFFIXES,
    copy_shape,
    copy_shapes,
    find_shapes,
    indexed_shapes,
    load_mesh,
    load_shape,
)
from compnet3d.errors import CompNetError
from compnet3d.geometry.frame import Frame

SIDES = np.array([1.0, 2.0, 3.0])
# files of these state their axes: y up, the front faces z
TURNED = (".glb", ".gltf", ".dae")


def box() -> trimesh.Trimesh:
    made = trimesh.creation.box(SIDES)
    made.apply_translation((0.1, 0.2, 0.3))
    return made


def write(folder: Path, mesh: Any, suffix: str, name: str = "01") -> Path:
    path = folder / f"{name}{suffix}"
    if suffix == ".dae":
        pytest.importorskip("collada")
    if suffix == ".gltf":
        for file, data in trimesh.Scene(mesh).export(file_type="gltf").items():
            (folder / (path.name if file == "model.gltf" else file)).write_bytes(data)
    else:
        mesh.export(path)
    return path


def corner_sets(vertices: np.ndarray, faces: np.ndarray) -> list[tuple[Any, ...]]:
    """Triangles as places, beginning with their least corner: the order of corners and faces does not matter."""
    triangles = [[tuple(np.round(vertices[i], 5) + 0.0) for i in face] for face in faces]
    return sorted(tuple(t[(k := t.index(min(t))) :] + t[:k]) for t in triangles)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_box_in_every_format(tmp_path: Path, suffix: str) -> None:
    made = box()
    shape = load_shape(write(tmp_path, made, suffix))
    expected = np.asarray(made.vertices)
    if suffix in TURNED:  # y up becomes z up, what faces z faces -y
        expected = expected @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
        assert shape.stated and shape.frame.up == "y"
    assert corner_sets(shape.vertices, shape.faces) == corner_sets(expected, made.faces)
    mesh = load_mesh(tmp_path / f"01{suffix}")
    assert corner_sets(mesh.vertices.double().numpy(), mesh.faces.numpy()) == corner_sets(expected, made.faces)
    given_axes = load_shape(tmp_path / f"01{suffix}", Frame("x", "y"))
    assert np.ptp(given_axes.vertices, axis=0) == pytest.approx([3, 2, 1], abs=1e-5)


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".glb", ".gltf"])
def test_colours_of_vertices(tmp_path: Path, suffix: str) -> None:
    made = box()
    colours = np.random.default_rng(0).integers(0, 255, (8, 4), dtype=np.uint8)
    made.visual.vertex_colors = colours
    shape = load_shape(write(tmp_path, made, suffix))
    assert shape.skin is not None and shape.skin.known.all()
    expected = colours[:, :3] / 255
    if suffix in TURNED:  # glTF's are light, not sRGB
        expected = expected ** (1 / 2.2)
    found = {tuple(np.round(c, 2)) for c in shape.skin.colours.reshape(-1, 3)}
    assert found <= {tuple(np.round(c, 2)) for c in expected.astype(np.float32)} and len(found) == 8


def picture() -> Image.Image:
    """Red and green above, blue and white below."""
    pixels = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], dtype=np.uint8)
    return Image.fromarray(np.kron(pixels, np.ones((8, 8, 1), dtype=np.uint8)))


@pytest.mark.parametrize("suffix", [".obj", ".glb", ".gltf"])
def test_pictures_are_the_right_way_up(tmp_path: Path, suffix: str) -> None:
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    white = trimesh.visual.material.PBRMaterial(baseColorTexture=picture(), baseColorFactor=[255] * 4)
    visual = trimesh.visual.TextureVisuals(uv=square[:, :2], material=white)
    made = trimesh.Trimesh(square, [[0, 1, 2], [0, 2, 3]], process=False, visual=visual)
    shape = load_shape(write(tmp_path, made, suffix))
    assert shape.skin is not None and not shape.notes
    # between each corner and the middle of its triangle, well inside one of the four fields
    for weight in ((0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8)):
        face = np.arange(2)
        colours = shape.skin.at(face, np.array([weight] * 2, dtype=np.float32))
        points = np.einsum("k,fkd->fd", weight, shape.vertices[shape.faces])
        for point, colour in zip(points, colours, strict=True):
            right, above = point[0] > 0.5, (point[1] if suffix == ".obj" else point[2]) > 0.5
            wanted = {(0, 1): (1, 0, 0), (1, 1): (0, 1, 0), (0, 0): (0, 0, 1), (1, 0): (1, 1, 1)}[(right, above)]
            np.testing.assert_allclose(colour, wanted, atol=0.02)


def test_scenes_are_merged_and_mirrored_parts_stay_outward(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    scene.add_geometry(box(), transform=np.diag([-1.0, 1, 1, 1]))
    scene.add_geometry(box(), transform=trimesh.transformations.translation_matrix((5, 0, 0)))
    scene.export(tmp_path / "a.glb")
    shape = load_shape(tmp_path / "a.glb")
    assert len(shape.faces) == 24
    a, b, c = (shape.vertices[shape.faces[:, k]] for k in range(3))
    assert np.einsum("ij,ij->", np.cross(a, b), c) / 6 == pytest.approx(2 * SIDES.prod(), rel=1e-5)
    assert shape.vertices[:, 0].min() == pytest.approx(-0.6, abs=1e-5)
    assert shape.vertices[:, 0].max() == pytest.approx(5.6, abs=1e-5)


# -- OBJ -------------------------------------------------------------------------------------------------------------

TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"


def load_text(folder: Path, text: str, name: str = "a.obj") -> Any:
    (folder / name).write_text(text)
    return load_shape(folder / name)


def test_obj_counts_backwards_from_where_it_is(tmp_path: Path) -> None:
    shape = load_text(tmp_path, TRIANGLE + "f -3 -2 -1\nv 5 0 0\nv 6 0 0\nv 5 1 0\nf -3 -2 -1\nf 1//1 2//1 6//1\n")
    assert shape.faces.tolist() == [[0, 1, 2], [3, 4, 5], [0, 1, 5]]


def test_obj_polygons_and_lines_that_go_on(tmp_path: Path) -> None:
    outline = "v 0 0 0\nv 2 0 0\nv 2 2 0\nv 1 0.5 0\nv 0 2 0\n"
    shape = load_text(tmp_path, "# x\ng part\n" + outline + "s off\nf 1 2 \\\n3 4 5\nl 1 2\n")
    a, b, c = (shape.vertices[shape.faces[:, k]] for k in range(3))
    areas = np.cross(b - a, c - a)[:, 2] / 2
    # 4 less the dent of base 2 and height 1.5
    assert (areas > 0).all() and areas.sum() == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TRIANGLE + "f 1 2 4\n", "line 4: a face names vertex 4, but the file has 3"),
        (TRIANGLE + "f 0 1 2\n", "line 4: a face names vertex '0'"),
        (TRIANGLE + "f -4 1 2\n", "line 4: a face names vertex '-4'"),
        (TRIANGLE + "f 1 2 x\n", "line 4: a face names vertex 'x'"),
        ("v 0 0\nf 1 1 1\n", "line 1: a vertex is not three numbers"),
        ("v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "vertex 0 is not finite"),
        (TRIANGLE, "holds no faces"),
        ("", "holds no faces"),
    ],
)
def test_broken_obj(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(CompNetError, match=words):
        load_text(tmp_path, text)


def test_obj_materials_that_are_missing_or_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "cad"
    folder.mkdir()
    picture().save(tmp_path / "secret.png")
    shape = load_text(folder, "mtllib none.mtl\nusemtl red\n" + TRIANGLE + "f 1 2 3\n")
    assert shape.skin is None and "none.mtl" in shape.notes[0] and "not there" in shape.notes[0]
    library = "newmtl red\nKd 1 0 0\nnewmtl wood\nmap_Kd -s 1 1 1 ../secret.png\n"
    (folder / "a.mtl").write_text(library)
    text = "mtllib a.mtl\n" + TRIANGLE + "usemtl red\nf 1 2 3\nusemtl wood\nf 1 3 2\n"
    shape = load_text(folder, text)
    assert shape.skin is not None and shape.skin.known.tolist() == [True, False]
    assert shape.skin.colours[0].tolist() == [[1, 0, 0]] * 3
    assert len(shape.notes) == 1 and "outside its folder" in shape.notes[0]
    (folder / "a.mtl").write_text(library.replace("../secret.png", "C:\\textures\\wood.png"))
    assert "not there" in load_text(folder, text).notes[0]


# -- STL -------------------------------------------------------------------------------------------------------------


def test_stl_that_begins_like_text_or_lies(tmp_path: Path) -> None:
    data = bytearray(box().export(file_type="stl"))
    data[:5] = b"solid"
    path = tmp_path / "a.stl"
    path.write_bytes(data)
    assert len(load_shape(path).faces) == 12 and len(load_shape(path).vertices) == 8
    for promised in (11, 13, 2**32 - 1):
        data[80:84] = struct.pack("<I", promised)
        path.write_bytes(data)
        with pytest.raises(CompNetError, match=f"promises {promised} triangles, but its 684 bytes hold 12"):
            load_shape(path)


def test_stl_as_text(tmp_path: Path) -> None:
    text = box().export(file_type="stl_ascii")
    path = tmp_path / "a.STL"
    path.write_text(text.upper())
    assert len(load_shape(path).faces) == 12
    for broken, words in (
        (text[: len(text) // 2], "cut short"),
        (text.replace("vertex", "vertx", 1), "12 facets but 35 vertices"),
        (text.replace("vertex 0", "vertex zero", 1).replace("vertex -0", "vertex zero", 1), "not three numbers"),
        ("solid a\nendsolid a\n", "no triangles"),
    ):
        path.write_text(broken)
        with pytest.raises(CompNetError, match=words):
            load_shape(path)


# -- PLY -------------------------------------------------------------------------------------------------------------


def ply(form: str, lists: tuple[str, str] = ("uchar", "int"), faces: str = "2") -> str:
    return (
        f"ply\nformat {form} 1.0\ncomment x\nelement vertex 4\n"
        "property double x\nproperty double y\nproperty double z\n"
        f"element face {faces}\nproperty uchar flags\nproperty list {lists[0]} {lists[1]} vertex_indices\nend_header\n"
    )


@pytest.mark.parametrize("lists", [("uchar", "int"), ("int", "uint"), ("ushort", "uchar"), ("uint", "short")])
@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_of_mixed_polygons(tmp_path: Path, form: str, lists: tuple[str, str]) -> None:
    points = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, 1.0, 0.5)]
    faces = [(0, 1, 2, 3), (2, 1, 0)]
    header = ply(form, lists).encode()
    if form == "ascii":
        body = "\n".join(" ".join(map(str, p)) for p in points) + "\n"
        body += "\n".join(f"7 {len(f)} " + " ".join(map(str, f)) for f in faces) + "\n"
        data = header + body.encode()
    else:
        order = "<" if "little" in form else ">"
        code = {"uchar": "B", "int": "i", "uint": "I", "ushort": "H", "short": "h"}
        data = header + b"".join(struct.pack(f"{order}3d", *p) for p in points)
        for f in faces:
            data += struct.pack(f"{order}B{code[lists[0]]}{len(f)}{code[lists[1]]}", 7, len(f), *f)
    (tmp_path / "a.ply").write_bytes(data)
    shape = load_shape(tmp_path / "a.ply")
    assert shape.vertices.tolist() == [list(p) for p in points] and len(shape.faces) == 3
    (tmp_path / "a.ply").write_bytes(data[:-5])
    with pytest.raises(CompNetError, match="cut short: it promises 2 of face"):
        load_shape(tmp_path / "a.ply")
    # more faces than promised, which would be left out without a word
    (tmp_path / "a.ply").write_bytes(data.replace(b"element face 2", b"element face 1"))
    with pytest.raises(CompNetError, match=r"holds \d+ (values|bytes) more than it promises .4 of vertex, 1 of face"):
        load_shape(tmp_path / "a.ply")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ply("ascii") + "0 0 0 1 0 0 1 1 0 0 1 0 7 3 0 1 2 7 3 0 1 2 9", "holds 1 values more than it promises"),
        (ply("ascii") + "0 0 0 1 0 0 1 1 0 0 x 0 7 3 0 1 2", "'x' is not a number"),
        (ply("ascii", faces="99999999999") + "0 0 0 1 0 0 1 1 0 0 1 0 7 3 0 1 2", "cut short"),
        (ply("ascii", faces="1") + "0 0 0 1 0 0 1 1 0 0 1 0 7 3 0 1 4", "face 0 names vertices"),
        (ply("ascii", faces="1") + "0 0 0 1 0 0 1 1 0 0 1 0 7 -3 0 1 2", "has -3 values"),
        (ply("ascii", faces="0") + "0 0 0 1 0 0 1 1 0 0 1 0", "no faces"),
        (ply("ascii").replace("double", "doubel") + "0", "a line that means nothing"),
        ("ply\nformat ascii 1.0\n", "header does not end"),
        ("OFF\n", "is no PLY file"),
    ],
)
def test_broken_ply(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(CompNetError, match=words):
        load_text(tmp_path, text, "a.ply")


def test_ply_strips(tmp_path: Path) -> None:
    header = ply("ascii", faces="1").replace("element face", "element tristrips").replace("property uchar flags\n", "")
    shape = load_text(tmp_path, header + "0 0 0 1 0 0 0 1 0 1 1 0 8 0 1 2 3 -1 0 1 2", "a.ply")
    assert shape.faces.tolist() == [[0, 1, 2], [2, 1, 3], [0, 1, 2]]


# -- glTF ------------------------------------------------------------------------------------------------------------


def gltf(folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    path = write(folder, box(), ".gltf")
    tree = json.loads(path.read_text())
    edit(tree)
    path.write_text(json.dumps(tree))
    return path


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t["buffers"][0].update(uri="none.bin"), "names 'none.bin', which is not there"),
        (lambda t: t["buffers"][0].update(uri="../outside.bin"), "outside its folder"),
        (lambda t: t["buffers"][0].update(uri="%2e%2e/outside.bin"), "outside its folder"),
        (lambda t: t["buffers"][0].update(uri="/etc/hostname"), "outside its folder"),
        (lambda t: t["buffers"][0].update(uri="https://example.org/a.bin"), "not in its folder"),
        (lambda t: t["buffers"][0].update(uri="data:;base64,!!"), "data in its text are damaged"),
        (lambda t: t["buffers"][0].update(byteLength=10**9), "has 96|has [0-9]+ bytes and not 1000000000"),
        (lambda t: t.update(extensionsRequired=["KHR_draco_mesh_compression"]), "packed by KHR_draco"),
        (lambda t: t["accessors"][0].update(sparse={}), "sparse or compressed"),
        (lambda t: t["accessors"][0].update(count=10**9), "its numbers take"),
        (lambda t: t["accessors"][0].update(count=-1), "count of -1"),
        (lambda t: t["nodes"][t["scenes"][0]["nodes"][0]].update(children=t["scenes"][0]["nodes"]), "no tree"),
        (lambda t: t["asset"].update(version="1.0"), "no glTF 2.0"),
        (lambda t: t.update(meshes=[]), "damaged|no triangles"),
        (lambda t: t.update(accessors=3), "no list of objects"),
    ],
)  # fmt: skip
def test_broken_gltf(tmp_path: Path, edit: Callable[[dict[str, Any]], object], words: str) -> None:
    folder = tmp_path / "cad"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(bytes(1000))
    with pytest.raises(CompNetError, match=words) as caught:
        load_shape(gltf(folder, edit))
    assert "01.gltf" in str(caught.value) and "\n" not in str(caught.value)


def test_glb_cut_short(tmp_path: Path) -> None:
    data = write(tmp_path, box(), ".glb").read_bytes()
    for end in (10, 30, len(data) - 1):
        (tmp_path / "a.glb").write_bytes(data[:end])
        with pytest.raises(CompNetError, match="cut short|is no binary glTF"):
            load_shape(tmp_path / "a.glb")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "cad"
    folder.mkdir()
    path = gltf(folder, lambda tree: tree["buffers"][0].update(uri="link.bin"))
    (tmp_path / "outside.bin").write_bytes(bytes(1000))
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(CompNetError, match="outside its folder"):
        load_shape(path)


# -- COLLADA ---------------------------------------------------------------------------------------------------------


def test_collada_states_its_axes_and_unit(tmp_path: Path) -> None:
    path = write(tmp_path, box(), ".dae")
    text = path.read_text()
    for axis, sides in (("X_UP", (2, 3, 1)), ("Y_UP", (1, 3, 2)), ("Z_UP", (1, 2, 3))):
        info = f'<asset><unit name="inch" meter="0.0254"/><up_axis>{axis}</up_axis></asset>'
        start, end = text.index("<asset"), text.index("</asset>") + len("</asset>")
        path.write_text(text[:start] + info + text[end:])
        shape = load_shape(path)
        assert np.ptp(shape.vertices, axis=0) == pytest.approx(0.0254 * np.array(sides), rel=1e-4)
    path.write_text('<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]>' + text[text.index("<COLLADA") :])
    with pytest.raises(CompNetError, match="no plain COLLADA"):
        load_shape(path)
    path.write_text(text[: len(text) // 2])
    with pytest.raises(CompNetError, match="01.dae: is damaged COLLADA"):
        load_shape(path)


# -- folders ---------------------------------------------------------------------------------------------------------


def test_any_suffix_is_found_and_no_number_twice(tmp_path: Path) -> None:
    for name in ("10.off", "02.OBJ", "1.Glb", "draft.ply", "._01.off", ".DS_Store", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.off").mkdir()
    assert [path.name for path in find_shapes(tmp_path)] == ["1.Glb", "02.OBJ", "10.off", "draft.ply"]
    assert sorted(indexed_shapes(tmp_path)) == [1, 2, 10]
    assert find_shapes(tmp_path / "none") == []
    (tmp_path / "01.stl").touch()
    with pytest.raises(CompNetError, match=r"01.stl and 1.Glb are two files for one model"):
        find_shapes(tmp_path)


def test_models_are_copied_with_what_they_name(tmp_path: Path) -> None:
    source = tmp_path / "cad"
    (source / "textures").mkdir(parents=True)
    write(source, box(), ".gltf")
    (source / "textures" / "a.png").touch()
    (source / ".DS_Store").touch()
    assert copy_shapes(source, tmp_path / "out") == 1
    assert len(load_shape(tmp_path / "out" / "01.gltf").faces) == 12
    assert (tmp_path / "out" / "textures" / "a.png").is_file() and not (tmp_path / "out" / ".DS_Store").exists()


def test_a_model_is_copied_with_the_files_that_it_names_and_no_others(tmp_path: Path) -> None:
    source, out = tmp_path / "cad", tmp_path / "out"
    (source / "looks").mkdir(parents=True)
    for place in (source / "looks" / "wood.png", source / "unused.png", tmp_path / "secret.png"):
        Image.new("RGB", (4, 4), "red").save(place)
    library = "newmtl wood\nmap_Kd looks\\wood.png\nnewmtl stolen\nmap_Kd ../secret.png\n"
    (source / "looks" / "a.mtl").write_text(library)
    corners = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\n"
    text = f"mtllib ./looks/a.mtl\n{corners}usemtl wood\nf 1/1 2/1 3/1\nusemtl stolen\nf 1/1 3/1 2/1\n"
    (source / "01.obj").write_text(text)
    copy_shape(source / "01.obj", out / "01.obj")
    copied = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert copied == {"01.obj", "looks/a.mtl", "looks/wood.png"} and not (tmp_path / "looks").exists()
    skin = load_shape(out / "01.obj").skin
    assert skin is not None and len(skin.pictures) == 1

    write(source, box(), ".gltf", "02")
    copy_shape(source / "02.gltf", out / "02.gltf")
    assert len(load_shape(out / "02.gltf").faces) == 12

    (source / "03.gltf").write_text('{"asset": {"version": "2.0"}, "buffers": [{"uri": "../secret.png"}]}')
    copy_shape(source / "03.gltf", out / "03.gltf")  # broken, as the check says
    assert (out / "03.gltf").is_file() and not list(tmp_path.glob("**/out/**/secret.png"))


def test_unknown_suffixes_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.fbx").touch()
    with pytest.raises(CompNetError, match="a.fbx: is no shape file that can be read; convert it to one of .off"):
        load_shape(tmp_path / "a.fbx")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_changed_bytes_give_a_model_or_one_sentence(tmp_path: Path, suffix: str, places: list[tuple[int, int]]) -> None:
    path = tmp_path / f"whole{suffix}"
    if not path.exists():
        write(tmp_path, box(), suffix, "whole")
    data = bytearray(path.read_bytes())
    for place, value in places:
        data[place % len(data)] = value
    changed = tmp_path / f"changed{suffix}"
    changed.write_bytes(data)
    try:
        assert np.isfinite(load_shape(changed).vertices).all()
    except CompNetError as error:
        assert str(changed) in str(error) and "\n" not in str(error)


def test_pictures_that_are_bombs_are_left_out(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("1", (20000, 20000)).save(stream, "PNG")
    (tmp_path / "big.png").write_bytes(stream.getvalue())
    (tmp_path / "a.mtl").write_text("newmtl m\nmap_Kd big.png\n")
    shape = load_text(tmp_path, "mtllib a.mtl\nusemtl m\nvt 0 0\n" + TRIANGLE + "f 1/1 2/1 3/1\n")
    assert shape.skin is None and "megapixels" in shape.notes[0]
