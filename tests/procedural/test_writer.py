"""Drawn data sets on disk: layout, determinism, geometry against the images, errors."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.symmetry import sample_surface
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Camera, Pose
from compnet3d.geometry.frame import Frame
from compnet3d.geometry.mesh import load_off, save_off
from compnet3d.procedural.cad import CadFolder
from compnet3d.procedural.categories import BUILTIN, category
from compnet3d.procedural.model import corner_normals, prepare
from compnet3d.procedural.palette import random_palette
from compnet3d.procedural.scene import draw, sample_view
from compnet3d.procedural.shadow import box_blur
from compnet3d.procedural.variation import PLAIN, Variation
from compnet3d.procedural.writer import make_dataset, render_dataset
from compnet3d.rendering import MeshShape, render


def _hash(root):
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("made") / "set"
    make_dataset(root, 3, 5, 3, 48, seed=7, workers=1)
    return root


def test_same_seed_same_bytes_for_any_number_of_workers(small, tmp_path):
    make_dataset(tmp_path / "two", 3, 5, 3, 48, seed=7, workers=2)
    assert _hash(small) == _hash(tmp_path / "two")
    make_dataset(tmp_path / "other", 1, 1, 0, 48, seed=8, workers=1)
    name = "images/car/car_i000_v00.JPEG"
    assert _hash(small)[name] != _hash(tmp_path / "other")[name]


def test_layout_and_reader(small):
    data = ImageNet3D(small)
    assert data.categories == sorted(c.name for c in BUILTIN[:3])
    train, val = data.samples("train"), data.samples("val")
    assert (len(train), len(val), data.report.total_skipped) == (15, 9, 0)
    assert not {s.instance for s in train} & {s.instance for s in val}
    assert {s.instance for s in train} >= {"car_i000", "car_i001"}
    assert all(s.mask is not None and s.width == s.height == 48 for s in train)
    assert not list(small.parent.glob(".set*"))
    for name in data.categories:
        assert data.symmetry[name].mirror is True
        for mesh in data.meshes(name):
            extent = mesh.vertices.amax(0) - mesh.vertices.amin(0)
            assert extent.norm().item() == pytest.approx(1, abs=1e-5)
        indices = {s.cad_index for s in train + val if s.category == name}
        assert indices <= set(range(1, len(data.meshes(name)) + 1))


def _iou(sample, mesh):
    pose = Pose.of(sample.azimuth, sample.elevation, sample.theta, sample.distance, dtype=torch.float64)
    camera = Camera(
        focal=torch.tensor(sample.focal),
        principal_point=torch.tensor(sample.principal_point),
        height=sample.height,
        width=sample.width,
    )
    drawn = np.asarray(Image.open(sample.mask)) > 0
    fine = render(MeshShape.of(mesh), pose, camera, 0.5).foreground.numpy()
    projected = fine.reshape(sample.height, 2, sample.width, 2).mean(axis=(1, 3)) >= 0.5
    rows, columns = np.nonzero(drawn)
    assert sample.bbox == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    # and without the rasteriser: points of the surface land on the mask (or within a pixel of it)
    points = torch.from_numpy(sample_surface(mesh, 2000)).double()
    pixels = camera.project(points, pose)[0].floor().long().numpy()
    pixels = pixels[((pixels >= 0) & (pixels < sample.width)).all(axis=1)]
    near = np.asarray(Image.fromarray(drawn).convert("L").filter(ImageFilter.MaxFilter(3))) > 0
    assert near[pixels[:, 1], pixels[:, 0]].mean() > 0.99
    return (drawn & projected).sum() / (drawn | projected).sum()


def test_the_projected_cad_model_covers_the_drawn_object(tmp_path):
    make_dataset(tmp_path / "set", 6, 4, 0, 128, seed=1, workers=1, variation=Variation(views=4))
    data = ImageNet3D(tmp_path / "set")
    for sample in data.samples("train"):
        # one training instance for each category: its mesh is 01.off
        assert _iou(sample, data.meshes(sample.category)[sample.cad_index - 1]) > 0.97


def test_views_follow_the_promised_ranges():
    mesh = category(0).instance(np.random.default_rng(0)).mesh()
    rng = np.random.default_rng(0)
    views = [sample_view(rng, mesh, 128, PLAIN) for _ in range(150)]
    assert all(-10 <= np.rad2deg(v.elevation) <= 60 and abs(np.rad2deg(v.theta)) <= 25 for v in views)
    assert np.histogram([v.azimuth for v in views], 4, (0, 2 * np.pi))[0].min() > 20
    whole = 0
    for view in views:
        uv, depth = view.camera().project(mesh.vertices.double(), view.pose())
        assert depth.min() > 0
        whole += bool((uv >= 0).all() and (uv <= 128).all())
        inside = ((uv >= 0) & (uv <= 128)).all(-1).double().mean()
        assert inside > 0.6
    assert whole > 0.8 * len(views)


def test_draw_is_bright_enough_and_repeats():
    model = prepare(category(1).instance(np.random.default_rng(0)))
    palette = random_palette(np.random.default_rng(1), "car")
    view = sample_view(np.random.default_rng(2), model.mesh, 64, PLAIN)
    first, again = (draw(model, palette, view, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    assert first.image.shape == (64, 64, 3) and first.image.dtype == np.uint8
    assert first.mask.mean() > 0.03 and first.image.std() > 5


def test_box_blur_matches_a_loop():
    image = np.random.default_rng(0).random((7, 9)).astype(np.float32)
    expected = image.astype(float)
    for _ in range(2):
        padded = np.pad(expected, 2)
        expected = np.array([[padded[i : i + 5, j : j + 5].mean() for j in range(9)] for i in range(7)])
    np.testing.assert_allclose(box_blur(image, 2), expected, atol=1e-5)


def test_corner_normals_are_smooth_on_a_sphere_and_sharp_on_a_box():
    from compnet3d.procedural.parts import box, ellipsoid

    sphere = ellipsoid((1, 1, 1), segments=24, rings=16)
    normals = corner_normals(sphere.vertices.astype(np.float32), sphere.faces)
    radial = sphere.vertices[sphere.faces]
    assert np.einsum("fkd,fkd->fk", normals, radial).min() > 0.98
    cube = box((1, 1, 1))
    normals = corner_normals(cube.vertices.astype(np.float32), cube.faces)
    np.testing.assert_allclose(np.abs(normals).max(axis=-1), 1, atol=1e-6)


@pytest.fixture
def cad(tmp_path):
    for name, index, count in (("cart", 0, 2), ("stool", 1, 1)):
        folder = tmp_path / "cad" / name
        folder.mkdir(parents=True)
        for i in range(count):
            part = category(index).instance(np.random.default_rng(i))
            save_off(folder / f"{i + 1:02d}.off", part.moved(5.0, 1.0, 2.0).scaled(3, 3, 3).mesh())
    return tmp_path / "cad"


def test_render_cad_models(cad, tmp_path):
    out = tmp_path / "out"
    assert render_dataset(cad, out, 3, 2, 96, seed=0, workers=1, variation=Variation(views=2)).categories == (
        "cart",
        "stool",
    )
    data = ImageNet3D(out)
    assert {s.cad_index for s in data.samples("train") if s.category == "cart"} == {1}
    assert {s.cad_index for s in data.samples("val") if s.category == "cart"} == {2}
    for sample in data.samples("train") + data.samples("val"):
        assert _iou(sample, load_off(out / "CAD" / sample.category / f"{sample.cad_index:02d}.off")) > 0.97
    assert data.symmetry["cart"].mirror is True and data.symmetry["cart"].order == 1
    render_dataset(cad, tmp_path / "again", 3, 2, 96, seed=0, workers=2, variation=Variation(views=2))
    assert _hash(out) == _hash(tmp_path / "again")


def test_render_real_models(shared_dir, tmp_path):
    source = tmp_path / "cad"
    source.mkdir()
    (source / "teapot").symlink_to(shared_dir / "data" / "cad100" / "teapot")
    render_dataset(source, tmp_path / "out", 1, 1, 64, workers=1)
    for sample in ImageNet3D(tmp_path / "out").samples("train"):
        assert _iou(sample, load_off(tmp_path / "out" / "CAD" / "teapot" / f"{sample.cad_index:02d}.off")) > 0.97


def test_errors_are_one_clear_sentence(cad, tmp_path, small):
    def fails(match, call):
        with pytest.raises(CompNetError, match=match) as caught:
            call()
        assert "\n" not in str(caught.value)

    fails("not an empty folder", lambda: make_dataset(small, 1, 1, 0))
    fails("categories must be at least 1", lambda: make_dataset(tmp_path / "x", 0, 1, 0))
    fails("both 0", lambda: make_dataset(tmp_path / "x", 1, 0, 0))
    fails("size must be at least 16", lambda: make_dataset(tmp_path / "x", 1, 1, 0, size=4))
    fails("is not a folder", lambda: render_dataset(tmp_path / "none", tmp_path / "x"))
    (tmp_path / "bare").mkdir()
    fails("no category folder", lambda: render_dataset(tmp_path / "bare", tmp_path / "x"))
    (tmp_path / "bare" / "cup").mkdir()
    fails("cup holds no CAD model", lambda: render_dataset(tmp_path / "bare", tmp_path / "x"))
    (cad / "stool" / "01.off").write_text("")
    fails("01.off", lambda: render_dataset(cad, tmp_path / "x"))
    (cad / "stool" / "01.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n")
    fails("01.off: no face has an area", lambda: render_dataset(cad, tmp_path / "x"))
    (tmp_path / "file").write_text("")
    fails("cannot be written", lambda: make_dataset(tmp_path / "file" / "x", 1, 1, 0, workers=1))
    assert not (tmp_path / "x").exists() and not list(tmp_path.glob(".x*"))


def test_models_with_colours_and_axes_of_their_own(tmp_path):
    """A tower with y up and a red picture: drawn upright and red, in random materials where these are asked for."""
    folder = tmp_path / "cad" / "tower"
    folder.mkdir(parents=True)
    from compnet3d.procedural.parts import box

    tower = box((0.3, 2.0, 0.3))
    lines = [f"v {x} {y} {z}" for x, y, z in tower.vertices] + ["vt 0.5 0.5", "mtllib a.mtl", "usemtl m"]
    lines += ["f " + " ".join(f"{i + 1}/1" for i in face) for face in tower.faces] + ["f 1/1 1/1 2/1"]
    (folder / "01.OBJ").write_text("\n".join(lines))
    (folder / "a.mtl").write_text("newmtl m\nmap_Kd a.png\n")
    Image.new("RGB", (4, 4), (230, 20, 20)).save(folder / "a.png")
    cad = CadFolder(tmp_path / "cad", Frame("y", "z"))
    report = render_dataset(cad, tmp_path / "out", 4, 0, 64, workers=1)
    assert report.unstated == () and len(report.notes) == 1 and "1 face without area" in report.notes[0]
    for sample in ImageNet3D(tmp_path / "out").samples("train"):
        pixels = np.asarray(Image.open(sample.image), dtype=float)
        red, green, _ = pixels[np.asarray(Image.open(sample.mask)) > 0].mean(axis=0)
        assert red > 2 * green
    extents = np.ptp(load_off(tmp_path / "out" / "CAD" / "tower" / "01.off").vertices.numpy(), axis=0)
    assert extents[2] > 5 * max(extents[:2])
    view = np.asarray(Image.open(tmp_path / "out" / "views" / "tower.png").convert("RGB"), dtype=float)
    drawn = np.argwhere((view[44:, :224, 0] > 100) & (view[44:, :224, 1] < 60))
    assert np.ptp(drawn[:, 0]) > 5 * np.ptp(drawn[:, 1]) > 0
    plain = CadFolder(tmp_path / "cad", Frame("y", "z"), own_colours=False)
    assert render_dataset(CadFolder(tmp_path / "cad"), tmp_path / "flat", 1, 0, 64, workers=1).unstated == (".obj",)
    for style in ("plain", "photo"):
        for name, source in (("own", cad), ("random", plain)):
            render_dataset(source, tmp_path / style / name, 2, 0, 64, workers=1, variation=Variation(style=style))
        assert _hash(tmp_path / style / "own") != _hash(tmp_path / style / "random")
