"""Photographs become a data set: names, what is written and when, resuming, other objects, what is refused."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compnet3d.apps.annotation_photographs import is_data_set, left_out, name_photographs
from compnet3d.apps.annotation_set import AnnotationSet, ChangedElsewhere, Item, Placement
from compnet3d.apps.annotation_shapes import cuboid_of, is_cuboid, shape_json
from compnet3d.data.check import check_dataset
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.errors import CompNetError
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.geometry.mesh import Mesh, load_off

PLACED = Placement(0.5, 0.25, 6.2, 60.0, 3000.0, (32.0, 24.0), (9.0, 4.0, 55.0, 44.0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("b c.jpg", "a.PNG", "a.jpg", "more/a.jpg"):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(folder / name)
    return folder


def opened(folder: Path, root: Path, mesh: Mesh | None = None, val_every: int | None = None) -> AnnotationSet:
    return AnnotationSet(root, "mug", name_photographs(folder, root, "mug"), mesh, val_every)


def raw(root: Path, name: str) -> list[dict]:
    """The annotations as numpy alone reads them."""
    return list(np.load(root / "annotations" / "mug" / f"{name}.npz", allow_pickle=True)["annotations"])


def test_names_are_unique_and_stay(folder, tmp_path):
    root = tmp_path / "out"
    named = name_photographs(folder, root, "mug")
    assert {name: path.relative_to(folder).as_posix() for name, path in named.items()} == {
        "a": "a.PNG",
        "a-2": "a.jpg",
        "b_c": "b c.jpg",
        "more-a": "more/a.jpg",
    }
    Image.new("RGB", (9, 9)).save(folder / "A0.jpg")
    (folder / "a.PNG").unlink()
    again = name_photographs(folder, root, "mug")
    assert again["a-2"] == folder / "a.jpg" and set(again) == {"A0", "a-2", "b_c", "more-a"}
    # another photograph of the same name gets a name of its own
    Image.new("RGB", (90, 90), "red").save(folder / "a.jpg")
    assert name_photographs(folder, root, "mug")["a-3"] == folder / "a.jpg"


def test_what_is_no_photograph_is_named(folder):
    for name in ("notes.txt", "more/x.heic", ".hidden"):
        (folder / name).write_text("x")
    assert left_out(folder) == [os.path.join("more", "x.heic"), "notes.txt"]


def test_a_folder_without_photographs_or_of_something_else_is_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CompNetError, match=r"empty: holds no photograph"):
        name_photographs(tmp_path / "empty", tmp_path / "out", "mug")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(CompNetError, match=r"full: holds something else; choose another --out"):
        name_photographs(folder, tmp_path / "full", "mug")
    assert not is_data_set(folder)


def test_one_object_is_saved_as_the_layout_says(folder, tmp_path):
    root = tmp_path / "out"
    images = opened(folder, root, cuboid_of((1.0, 2.0, 0.5)))
    item = images.items()[0]
    assert [images.status(one) for one in images.items()] == ["new"] * 4
    assert {path.name for path in root.iterdir()} == {"annotate.json"}  # nothing before the first object
    images.save(item, PLACED, "")
    assert (images.status(item), images.split(item)) == ("saved", "train")
    (entry,) = raw(root, "a")
    assert (entry["azimuth"], entry["elevation"], entry["theta"]) == (0.5, 0.25, 6.2)
    assert (entry["distance"], entry["px"], entry["py"]) == (60.0, 32.0, 24.0)
    assert math.isclose(entry["focal"] * entry["viewport"], 3000.0) and entry["viewport"] == 3000
    assert entry["bbox"].tolist() == [9.0, 4.0, 55.0, 44.0] and (entry["width"], entry["height"]) == (64, 48)
    assert (entry["class"], entry["cad_index"], entry["ignore"]) == ("mug", 1, 0)
    assert (root / "lists" / "mug_imagenet_train.txt").read_text() == "a\n"
    with Image.open(root / "images" / "mug" / "a.JPEG") as copy:
        assert copy.format == "JPEG" and copy.size == (64, 48)
    extents = load_off(root / "CAD" / "mug" / "01.off").vertices
    assert (extents.amax(0) - extents.amin(0)).tolist() == [1.0, 2.0, 0.5]
    result = check_dataset(root)
    assert [finding for finding in result.findings if "CAD model far" not in finding.problem] == []


def test_an_upright_copy_is_what_is_annotated(folder, tmp_path):
    image = Image.fromarray(np.arange(48 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(48, 64, 3))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "where I live"  # turned by a quarter; a text
    image.save(folder / "a.PNG", exif=exif)
    images = opened(folder, tmp_path / "out")
    assert images.image("a").size == (48, 64)
    images.save(Item("a"), PLACED, "")
    with Image.open(tmp_path / "out" / "images" / "mug" / "a.JPEG") as copy:
        assert copy.size == (48, 64) and len(copy.getexif()) == 0
    assert raw(tmp_path / "out", "a")[0]["width"] == 48


def test_a_later_session_goes_on(folder, tmp_path):
    root = tmp_path / "out"
    images = opened(folder, root)
    images.save(Item("b_c"), PLACED, "")
    images.skip(Item("a"), True)
    again = opened(folder, root)
    assert {one.name: again.status(one) for one in again.items()} == {
        "a": "skipped",
        "a-2": "new",
        "b_c": "saved",
        "more-a": "new",
    }
    assert again.last == Item("b_c") and not again.size_is_open
    placed = again.placement(Item("b_c"), (64, 48))
    assert placed is not None
    assert replace(placed, theta=PLACED.theta) == PLACED and math.isclose(placed.theta, PLACED.theta)
    again.save(Item("a"), PLACED, "")
    assert opened(folder, root).status(Item("a")) == "saved"
    with pytest.raises(CompNetError, match=r"mug: holds another CAD model; leave --cad and --cuboid out"):
        opened(folder, root, cuboid_of((1.0, 1.0, 3.0)))


def test_every_nth_saved_image_goes_into_the_val_list(folder, tmp_path):
    root = tmp_path / "out"
    images = opened(folder, root, val_every=2)
    for item in reversed(images.items()):
        images.save(item, PLACED, "")
        images.save(item, replace(PLACED, azimuth=1.0), images.version(item))  # a correction moves nothing
    assert (root / "lists" / "mug_imagenet_train.txt").read_text().split() == ["more-a", "a-2"]
    assert (root / "lists" / "mug_imagenet_val.txt").read_text().split() == ["b_c", "a"]


def test_the_size_is_open_until_the_first_object_is_saved(folder, tmp_path):
    root = tmp_path / "out"
    images = opened(folder, root)
    assert images.size_is_open
    images.save(Item("a"), PLACED, "", size=(2.0, 3.0, 4.0))
    images.save(Item("a-2"), PLACED, "", size=(9.0, 9.0, 9.0))
    vertices = load_off(root / "CAD" / "mug" / "01.off").vertices
    assert (vertices.amax(0) - vertices.amin(0)).tolist() == [2.0, 3.0, 4.0]
    assert not images.size_is_open


def test_two_windows_do_not_undo_each_other(folder, tmp_path):
    images = opened(folder, tmp_path / "out")
    images.save(Item("a"), PLACED, "")
    with pytest.raises(ChangedElsewhere, match=r"a\.JPEG: was changed in another window; save again"):
        images.save(Item("a"), replace(PLACED, azimuth=2.0), "")
    assert raw(tmp_path / "out", "a")[0]["azimuth"] == 0.5
    images.save(Item("a"), replace(PLACED, azimuth=2.0), images.version(Item("a")))
    assert raw(tmp_path / "out", "a")[0]["azimuth"] == 2.0


def test_what_training_cannot_use_is_refused(folder, tmp_path):
    images = opened(folder, tmp_path / "out")
    for wrong, reason in (
        ({"distance": 0.0}, "distance <= 0"),
        ({"bbox": (9.0, 4.0, 9.0, 4.0)}, "empty bbox"),
        ({"azimuth": math.nan}, "azimuth = nan is not an angle in radians"),
        ({"cad_index": 2}, "there is no CAD model 2"),
    ):
        with pytest.raises(CompNetError, match=reason):
            images.save(Item("a"), replace(PLACED, **wrong), "")
    assert not (tmp_path / "out" / "lists").exists()
    with pytest.raises(CompNetError, match="is none of these images"):
        images.save(Item("../a"), PLACED, "")
    with pytest.raises(CompNetError, match="is no object of these images"):
        Item.of("a")


def test_what_was_saved_can_be_taken_back(folder, tmp_path):
    root = tmp_path / "out"
    images = opened(folder, root)
    for name in ("a", "a-2"):
        images.save(Item(name), PLACED, "")
    with pytest.raises(ChangedElsewhere):
        images.clear(Item("a"), "0")
    images.clear(Item("a"), images.version(Item("a")))
    assert images.status(Item("a")) == "new" and images.last == Item("a-2")
    assert (root / "lists" / "mug_imagenet_train.txt").read_text() == "a-2\n"
    assert [path.stem for path in root.glob("*/mug/a*")].count("a") == 0
    assert check_dataset(root).count("note") == 0


def test_several_objects_in_one_image(folder, tmp_path):
    images = opened(folder, tmp_path / "out")
    images.save(Item("a", 0), PLACED, "")
    images.save(Item("a", 1), replace(PLACED, azimuth=1.0), "")
    assert [item.key for item in images.items()][:3] == ["a#0", "a#1", "a-2#0"]
    assert [entry["azimuth"] for entry in raw(tmp_path / "out", "a")] == [0.5, 1.0]
    with pytest.raises(CompNetError, match=r"has 2 objects"):
        images.save(Item("a", 3), PLACED, "")
    images.clear(Item("a", 0), images.version(Item("a", 0)))
    assert [entry["azimuth"] for entry in raw(tmp_path / "out", "a")] == [1.0]
    assert len(ImageNet3D(tmp_path / "out").samples("train")) == 1


def test_a_broken_photograph_is_named(folder, tmp_path):
    (folder / "a.PNG").write_text("no image")
    images = opened(folder, tmp_path / "out")
    with pytest.raises(CompNetError, match=r"a\.PNG is not an image"):
        images.image("a")
    assert images.status(Item("a")) == "unreadable" and "a.PNG" in str(images.problem(Item("a")))


def test_a_data_set_is_corrected_in_its_place(tiny_maker, tmp_path):
    root = tiny_maker(tmp_path / "tiny", categories=("brick",), images=2)
    images = AnnotationSet(root, "brick", None)
    names = [item.name for item in images.items()]
    assert names == ["brick_i000_v00", "brick_i000_v01", "brick_i100_v00", "brick_i100_v01"]
    assert [images.status(item) for item in images.items()] == ["saved"] * 4
    item, before = images.items()[2], sorted(path for path in root.rglob("*"))
    placed = images.placement(item, (48, 48))
    assert placed is not None
    pixels = (root / "images" / "brick" / f"{item.name}.JPEG").read_bytes()
    images.save(item, replace(placed, azimuth=1.25), images.version(item))
    (entry,) = np.load(root / "annotations" / "brick" / f"{item.name}.npz", allow_pickle=True)["annotations"]
    assert entry["azimuth"] == 1.25 and entry["dense"] == "dense_yes"  # what else it said stays
    assert (root / "images" / "brick" / f"{item.name}.JPEG").read_bytes() == pixels
    assert {path for path in root.rglob("*")} - {*before} == {root / "annotate.json"}
    assert images.split(item) == "val"


def test_an_annotation_that_cannot_be_read_is_not_replaced(tiny_maker, tmp_path):
    root = tiny_maker(tmp_path / "tiny", categories=("brick",), images=2)
    path = root / "annotations" / "brick" / "brick_i000_v00.npz"
    path.write_bytes(b"broken")
    (root / "lists" / "brick_imagenet_train.txt").write_text("../../secret\nbrick_i000_v00\n")
    images = AnnotationSet(root, "brick", None)
    assert "../../secret" not in images.names
    assert images.status(Item("brick_i000_v00")) == "unreadable"
    assert str(path) in str(images.problem(Item("brick_i000_v00")))


def test_notes_of_something_else_are_refused(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "annotate.json").write_text(json.dumps([1]))
    with pytest.raises(CompNetError, match=r"annotate\.json: is no file of"):
        name_photographs(folder, tmp_path / "out", "mug")


def test_cuboids_and_what_is_drawn_of_a_mesh():
    cuboid = cuboid_of((1.0, 2.0, 3.0))
    assert is_cuboid(cuboid) and shape_json(cuboid)["size"] == [1.0, 2.0, 3.0]
    ball = cuboid_mesh(torch.tensor([1.0, 1.0, 1.0]), 300).mesh
    drawn = shape_json(ball)
    assert not drawn["cuboid"] and len(drawn["hull"]) >= 8
    used = torch.tensor(drawn["vertices"])[torch.tensor(drawn["faces"])]
    torch.testing.assert_close(used, ball.vertices[ball.faces].double(), check_dtype=False)
    flat = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
    assert len(shape_json(flat)["hull"]) == 3
    for wrong in ((1.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, math.nan), (1.0, 1.0, 2000.0)):
        with pytest.raises(CompNetError, match="width, depth and height"):
            cuboid_of(wrong)
