"""The style "photo": poses and masks against the images, light against integrals, and what is asked for."""

from __future__ import annotations

import hashlib
import math
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.images import load_mask
from compnet3d.data.symmetry import measure_mirror
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Camera, Pose
from compnet3d.geometry.mesh import load_off, save_off
from compnet3d.procedural.cad import CadFile, load_cad
from compnet3d.procedural.categories import category
from compnet3d.procedural.deform import deformed
from compnet3d.procedural.model import prepare
from compnet3d.procedural.parts import Role, box, cylinder, ellipsoid, join
from compnet3d.procedural.photo.environment import Environment, drawn_environment, photograph_environment
from compnet3d.procedural.photo.openness import Openness
from compnet3d.procedural.photo.picture import sample_photo_view
from compnet3d.procedural.photo.pieces import Pieces
from compnet3d.procedural.photo.sensor import expose
from compnet3d.procedural.photo.surfaces import random_decals, random_surfaces
from compnet3d.procedural.photo.vehicle import random_vehicle
from compnet3d.procedural.scene import sample_view
from compnet3d.procedural.variation import Variation
from compnet3d.procedural.writer import make_dataset, render_dataset
from compnet3d.rendering import MeshShape, render


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for i in range(4):
        small = Image.fromarray(rng.integers(0, 255, (6, 9, 3), dtype=np.uint8))
        small.resize((180 + 10 * i, 120), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def cad(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cad") / "stool"
    folder.mkdir()
    save_off(folder / "01.off", category(1).instance(np.random.default_rng(0)).mesh())
    return folder.parent


def _hashes(root):
    return {p.relative_to(root): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()}


def _silhouette(sample, mesh):
    pose = Pose.of(sample.azimuth, sample.elevation, sample.theta, sample.distance, dtype=torch.float64)
    focal, principal_point = torch.tensor(sample.focal), torch.tensor(sample.principal_point)
    camera = Camera(focal=focal, principal_point=principal_point, height=sample.height, width=sample.width)
    fine = render(MeshShape.of(mesh), pose, camera, 0.5).foreground.numpy()
    return fine.reshape(sample.height, 2, sample.width, 2).mean(axis=(1, 3)) >= 0.5


def test_poses_and_boxes_are_exact_and_masks_are_what_is_seen(cad, photographs, tmp_path):
    variation = Variation(style="photo", backgrounds=photographs, elevation=(-5, 20))
    render_dataset(cad, tmp_path / "set", 24, 0, 72, seed=2, workers=1, variation=variation)
    data = ImageNet3D(tmp_path / "set")
    whole = occluded = 0
    for sample in data.samples("train"):
        projected = _silhouette(sample, load_off(tmp_path / "set" / "CAD" / "stool" / f"{sample.cad_index:02d}.off"))
        rows, columns = np.nonzero(projected)
        expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_allclose(sample.bbox, expected, atol=1.01)
        mask = load_mask(sample.mask)
        near = np.asarray(Image.fromarray(projected).convert("L").filter(ImageFilter.MaxFilter(3))) > 0
        assert not (mask & ~near).any()
        overlap = (mask & projected).sum() / (mask | projected).sum()
        whole += overlap > 0.97
        occluded += overlap < 0.9
    # a third has things in front, and not all of them lie on the object
    assert whole >= 12 and occluded >= 2 and whole + occluded <= 24


def test_wide_fields_of_view_are_exact_too(cad, photographs, tmp_path):
    render_dataset(
        cad, tmp_path / "set", 30, 0, 64, workers=1, variation=Variation(style="photo", backgrounds=photographs)
    )
    samples = [s for s in ImageNet3D(tmp_path / "set").samples("train") if s.distance < 1.3]
    assert len(samples) >= 5
    overlaps = []
    for sample in samples:
        projected = _silhouette(sample, load_off(tmp_path / "set" / "CAD" / "stool" / "01.off"))
        mask = load_mask(sample.mask)
        overlaps.append((mask & projected).sum() / (mask | projected).sum())
    assert np.median(overlaps) > 0.98


def test_deformed_instances_have_exact_poses_too(cad, photographs, tmp_path):
    variation = Variation(style="photo", backgrounds=photographs, deform=0.2)
    render_dataset(cad, tmp_path / "set", 10, 0, 72, seed=4, workers=1, variation=variation)
    rest = load_off(tmp_path / "set" / "CAD" / "stool" / "01.off")
    model = prepare(load_cad(CadFile(cad / "stool" / "01.off")).part)
    exact, unlike = [], []
    for instance, sample in enumerate(ImageNet3D(tmp_path / "set").samples("train")):
        rng = np.random.default_rng([4, zlib.crc32(b"stool"), instance, 3])
        mask = load_mask(sample.mask)
        for mesh, overlaps in ((deformed(rng, model, 0.2).mesh, exact), (rest, unlike)):
            projected = _silhouette(sample, mesh)
            overlaps.append((mask & projected).sum() / (mask | projected).sum())
    assert np.median(exact) > 0.97 and np.median(unlike) < 0.93


def test_deformation_keeps_symmetry_floor_and_size():
    model = prepare(category(0).instance(np.random.default_rng(0)))
    before = model.mesh.vertices
    ratios = []
    for seed in range(20):
        changed = deformed(np.random.default_rng(seed), model, 0.15)
        after = changed.mesh.vertices
        extent = after.amax(dim=0) - after.amin(dim=0)
        assert extent.norm().item() == pytest.approx(1, abs=1e-5)
        assert (after.amax(dim=0) + after.amin(dim=0)).abs().max() < 1e-5
        floor = before[:, 2] < before[:, 2].min() + 1e-6
        assert (after[floor, 2] - changed.floor).abs().max() < 1e-5
        assert measure_mirror([changed.mesh]) == measure_mirror([model.mesh]) is True
        ratios.append((extent / (before.amax(dim=0) - before.amin(dim=0))).numpy())
    assert 0.65 < np.min(ratios) < 0.9 and 1.1 < np.max(ratios) < 1.5
    same = deformed(np.random.default_rng(0), model, 0.0).mesh.vertices
    torch.testing.assert_close(same, before, atol=1e-6, rtol=0)


def test_places_are_carried_from_one_shape_to_another():
    part = ellipsoid((1, 1, 1), segments=12, rings=8).normalised()
    small, large = prepare(part), prepare(part.scaled(1, 2, 1))
    hits = small.seen(sample_photo_view(np.random.default_rng(0), small.mesh, 32, Variation()))
    moved = hits.on(large)
    np.testing.assert_allclose(moved.points, hits.points * [1, 2, 1], atol=1e-6)
    assert (np.einsum("nd,nd->n", moved.normals, hits.normals) >= 0).all()
    # the normal of an ellipsoid is its gradient: (x, y / 4, z) after the stretching
    gradient = moved.points * np.array([1, 0.25, 1], dtype=np.float32)
    gradient /= np.linalg.norm(gradient, axis=1, keepdims=True)
    assert np.median(np.abs(np.einsum("nd,nd->n", moved.normals, gradient))) > 0.99
    np.testing.assert_array_equal(moved.towards, hits.towards)


def test_bytes_depend_on_the_seed_alone(cad, photographs, tmp_path):
    variation = Variation(views=2, style="photo", backgrounds=photographs)
    for name, workers, seed in (("one", 1, 5), ("two", 2, 5), ("other", 1, 6)):
        render_dataset(cad, tmp_path / name, 3, 1, 48, seed=seed, workers=workers, variation=variation)
    one, two, other = (_hashes(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    images = [path for path in one if path.suffix == ".JPEG"]
    assert len(images) == 4 and all(one[path] != other[path] for path in images)


def test_built_in_categories_without_photographs(tmp_path):
    make_dataset(tmp_path / "set", 2, 3, 1, 48, workers=1, variation=Variation(style="photo"))
    samples = ImageNet3D(tmp_path / "set").samples("train")
    assert len(samples) == 6
    assert all(load_mask(sample.mask).any() for sample in samples)


@pytest.mark.parametrize("sample", [sample_view, sample_photo_view])
def test_angles_keep_to_the_variation(sample):
    mesh = category(0).instance(np.random.default_rng(0)).mesh()
    rng = np.random.default_rng(0)
    views = [sample(rng, mesh, 64, Variation(elevation=(3, 9), tilt=5)) for _ in range(60)]
    elevations = np.degrees([view.elevation for view in views])
    assert 3 <= elevations.min() < 4 and 8 < elevations.max() <= 9
    tilts = np.degrees([view.theta for view in views])
    assert -5 <= tilts.min() < -2 and 2 < tilts.max() <= 5


def test_cameras_are_near_and_far():
    mesh = box((0.01, 1, 0.01)).normalised().mesh()
    rng = np.random.default_rng(0)
    views = [sample_photo_view(rng, mesh, 100, Variation()) for _ in range(300)]
    fields = np.degrees([2 * math.atan(0.5 / view.distance) for view in views])
    assert 10 - 0.1 < fields.min() < 12 and 55 < fields.max() < 60.1
    inside = 0
    for view in views:
        uv, depth = view.camera().project(mesh.vertices.double(), view.pose())
        assert depth.min() > 0.3
        longest = (uv[0].amax(dim=0) - uv[0].amin(dim=0)).max()
        assert 59.9 < longest < 100.1
        inside += bool((uv > -1e-6).all() and (uv < 100 + 1e-6).all())
    assert 0.8 < inside / 300 < 0.95


def test_light_from_everywhere_is_the_same_everywhere():
    environment = Environment.from_map(np.full((64, 128, 3), 0.3, dtype=np.float32), turn=0.7, brightness=0.5)
    directions = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    np.testing.assert_allclose(environment.diffuse(directions), 0.5, atol=0.01)
    for level in range(3):
        np.testing.assert_allclose(environment.reflected(directions, level), 0.5, atol=0.01)


@pytest.mark.parametrize("kind", ["photograph", "drawn"])
def test_diffuse_light_is_the_cosine_integral_of_what_is_reflected(kind):
    rng = np.random.default_rng(3)
    if kind == "photograph":
        environment = photograph_environment(rng, Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)))
    else:
        environment = drawn_environment(rng)
    # points even over the sphere, by equal steps of height
    count = 4000
    z, turn = 1 - (2 * np.arange(count) + 1) / count, np.arange(count) * math.pi * (3 - math.sqrt(5))
    flat = np.sqrt(1 - z * z)
    directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1).astype(np.float32)
    radiance = environment.reflected(directions, 0)
    for normal in np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32):
        expected = (np.maximum(directions @ normal, 0)[:, None] * radiance).sum(axis=0) * 4 / count
        # order 2 holds all but a few percent of it (Ramamoorthi and Hanrahan)
        np.testing.assert_allclose(environment.diffuse(normal[None])[0], expected, rtol=0.1, atol=0.03)


def test_the_brightest_direction_is_where_the_lamp_is():
    radiance = np.full((64, 128, 3), 0.1, dtype=np.float32)
    radiance[10:14, 40:46] = (30, 10, 5)
    environment = Environment.from_map(radiance, turn=1.1, brightness=0.5)
    direction, hue = environment.brightest()
    assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-5)
    polar, around = 12 / 64 * math.pi, (43 / 128 - 0.5) * 2 * math.pi - 1.1
    expected = [math.sin(polar) * math.cos(around), math.sin(polar) * math.sin(around), math.cos(polar)]
    assert direction @ expected > math.cos(math.radians(12))
    assert hue[0] > hue[1] > hue[2] and hue.mean() == pytest.approx(1, abs=1e-5)
    brighter = environment.reflected(np.stack([direction, -direction]), 2)
    assert brighter[0].mean() > 3 * brighter[1].mean()


def test_openness_outside_and_inside_of_a_box():
    openness = Openness(box((1, 1, 1)).normalised().mesh())
    axes = np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32)
    wall = np.float32(0.5 / math.sqrt(3))
    # a map's cells are coarse where a direction grazes a face
    assert openness.at(axes * wall, axes).min() > 0.93
    np.testing.assert_allclose(openness.at(axes * wall * np.float32(0.3), axes), 0, atol=1e-3)


def _cart():
    wheels = [
        cylinder(0.2, 0.1, segments=16).turned("y", 90).moved(x, y, 0.2) for x in (-0.5, 0.5) for y in (-0.6, 0.6)
    ]
    return join([box((0.9, 2, 0.7), at=(0, 0, 0.3)), *wheels]).normalised()


def test_pieces_tell_wheels_and_what_is_inside():
    seat = box((0.2, 0.3, 0.2), at=(0, 0, 0.65)).normalised()
    cart = _cart()
    hidden = seat.scaled(0.1, 0.1, 0.1).moved(z=0.06)
    model = prepare(join([cart, hidden]))
    pieces = Pieces.of(model, Openness(model.mesh))
    assert len(pieces.share) == 3 and pieces.share.sum() == pytest.approx(1)
    assert list(np.bincount(pieces.group)) == [12, len(cart.faces) - 12, len(hidden.faces)]
    assert list(pieces.wheel) == [False, True, False] and list(pieces.inside) == [False, False, True]
    ball = prepare(ellipsoid((1, 1, 1), segments=12, rings=8).normalised())
    assert not Pieces.of(ball, Openness(ball.mesh)).wheel.any()
    rng = np.random.default_rng(0)
    drawn = [pieces.random_roles(rng) for _ in range(40)]
    # one surface for each group, all four wheels alike
    assert all(len(set(roles[pieces.group == g])) == 1 for roles in drawn for g in range(3))
    assert len({tuple(roles) for roles in drawn}) > 3


def test_vehicles_get_windows_and_rims_where_they_belong():
    model = prepare(_cart())
    pieces = Pieces.of(model, Openness(model.mesh))
    assert pieces.vehicle
    # the radius of each wheel, from the box of its piece
    low, high = model.mesh.vertices.numpy().min(axis=0), model.mesh.vertices.numpy().max(axis=0)
    scale = 1 / math.hypot(1.1, 2, 1)
    np.testing.assert_allclose(pieces.axle[pieces.group == 1, 2], 0.2 * scale, atol=1e-3)
    np.testing.assert_allclose(pieces.axle[pieces.group == 1, 1], low[2] + 0.2 * scale, atol=1e-3)
    assert (pieces.axle[pieces.group == 0, 2] == 0).all()
    rng = np.random.default_rng(0)
    body, wheel = (int(np.flatnonzero(pieces.group == group)[0]) for group in (0, 1))
    for _ in range(20):
        vehicle = random_vehicle(rng, pieces.axle, high)
        height = np.linspace(low[2], high[2], 50, dtype=np.float32)
        points = np.stack([np.full(50, high[0]), np.full(50, 0.9 * high[1]), height], axis=1).astype(np.float32)
        face, normals = np.full(50, body), np.tile(np.array([1, 0, 0], dtype=np.float32), (50, 1))
        roles = vehicle.roles(face, points, normals, np.full(50, Role.MAIN))
        glass = roles == Role.GLASS
        np.testing.assert_array_equal(glass, (height > vehicle.belt) & (height < vehicle.top))
        assert glass.any() and not glass[height < 0].any()
        # a roof has no windows, and pieces of other roles have none
        assert not (vehicle.roles(face, points, normals[:, [1, 2, 0]], np.full(50, Role.MAIN)) == Role.GLASS).any()
        assert (vehicle.roles(face, points, normals, np.full(50, Role.LIGHT)) == Role.LIGHT).all()
        y, z, radius = pieces.axle[wheel]
        around = np.array([[0.3, y, z], [0.3, y, z + 0.95 * radius]], dtype=np.float32)
        assert list(vehicle.roles(np.full(2, wheel), around, normals[:2], np.zeros(2, dtype=int))) == [
            Role.ACCENT,
            Role.DARK,
        ]


def test_surfaces_stay_in_range(photographs):
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (200, 3)).astype(np.float32)
    normals = points / np.linalg.norm(points, axis=1, keepdims=True)
    decals = 0
    for _ in range(20):
        for surface in random_surfaces(rng, photographs).values():
            colour = surface.albedo(points, normals)
            assert colour.shape == (200, 3) and colour.min() >= 0 and colour.max() <= 1.0001
            for decal in random_decals(rng, np.full(3, 0.3, dtype=np.float32), photographs):
                changed = (decal.apply(colour, points, normals) != colour).any(axis=1)
                assert (normals[changed, decal.axis] * decal.side > 0.5).all()
                decals += 1
    assert decals > 20


def test_exposure_keeps_shape_and_order_of_brightness():
    light = np.full((48, 48, 3), 0.03, dtype=np.float32)
    light[:, 24:] = 0.6
    images = [expose(np.random.default_rng(seed), light) for seed in range(30)]
    assert all(image.shape == (48, 48, 3) and image.dtype == np.uint8 for image in images)
    assert all(image[:, 30:].mean() > image[:, :18].mean() + 10 for image in images)
    means = [image.mean() for image in images]
    assert max(means) > min(means) + 60


def test_errors_name_the_setting(cad, tmp_path):
    for match, settings in (
        ("views must be at least 1", {"views": 0}),
        ("style must be plain or photo", {"style": "oil"}),
        ("backgrounds are for the style photo", {"backgrounds": tmp_path}),
        ("elevation must be two numbers from -90 to 90", {"elevation": (5, 2)}),
        ("tilt must be from 0 to 180", {"tilt": -1}),
        ("deform must be from 0 to 0.5", {"deform": 0.7}),
    ):
        with pytest.raises(CompNetError, match=match):
            Variation(**settings)
    (tmp_path / "empty").mkdir()
    for match, folder in (("is not a folder", tmp_path / "none"), ("holds no photograph", tmp_path / "empty")):
        with pytest.raises(CompNetError, match=match):
            render_dataset(cad, tmp_path / "x", 1, 0, variation=Variation(style="photo", backgrounds=folder))
    assert not (tmp_path / "x").exists()
