"""A walk round an object: its box from cameras and points, poses from the box, and all of it from photographs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from compnet3d.cli.main import main
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.images import load_mask
from compnet3d.data.importers.import_data import import_data
from compnet3d.data.importers.walk import WalkRound
from compnet3d.data.importers.walk_box import UprightBox, facing, find_box, looked_at
from compnet3d.data.importers.walk_cameras import Walk, WalkFrame, _frames_of, place_cameras
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Camera, Pose
from compnet3d.procedural.categories import BUILTIN
from tests.data.importers.walk_scene import MIDDLE, SIZE, Floats, Views, draw, film, points_of, views_round

FOCAL, WIDTH, HEIGHT = 520.0, 480, 360


def walk_of(views: Views, points: Floats, folder: Path) -> Walk:
    """A walk as `place_cameras` would read it, in the scene's own world."""
    intrinsics = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1.0]])
    frames = [
        WalkFrame(f"{k:03d}", f"images/{k:03d}.jpg", WIDTH, HEIGHT, intrinsics, rotation, -rotation @ centre)
        for k, (rotation, centre) in enumerate(zip(views.rotations, views.centres, strict=True))
    ]
    return Walk(folder, tuple(frames), points, ("999",))


def errors(samples: list[Sample], views: Views) -> Floats:
    """How far annotated azimuth and elevation (degrees) and distance (per cent) are off the cameras', [N, 3]."""
    found = np.array([[np.degrees(s.azimuth), np.degrees(s.elevation), s.distance] for s in samples])
    off = found - views.angles()
    off[:, 0] = (off[:, 0] + 180) % 360 - 180
    off[:, 2] *= 100 / views.angles()[:, 2]
    return np.abs(off)


@given(
    st.floats(0.01, 100), st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.floats(-100, 100), st.integers(0, 23)
)
@settings(max_examples=10, deadline=None)
def test_the_box_is_found_in_any_world(scale: float, vector: list[float], shift: float, front: int) -> None:
    views, points = views_round(24), points_of()
    # a reconstruction's world is turned, moved and scaled as it happens
    turn = Rotation.from_rotvec(vector).as_matrix()
    box = find_box(
        views.rotations @ turn.T, scale * views.centres @ turn.T + shift, scale * points @ turn.T + shift, front
    )
    # of any front, the side that is nearest to that camera: in degrees from it, at most half a right angle
    forward = turn.T @ -box.axes[1]
    away = views.centres[front] - MIDDLE
    away[2] = 0
    assert forward @ away >= np.cos(np.pi / 4) * np.linalg.norm(away) * 0.99
    size = SIZE if abs(forward[1]) > 0.7 else SIZE[[1, 0, 2]]
    assert box.size / scale == pytest.approx(size, rel=0.05)
    assert turn.T @ (box.centre - shift) / scale == pytest.approx(MIDDLE, abs=0.01)
    assert turn.T @ box.axes[2] == pytest.approx([0, 0, 1], abs=0.01)
    assert np.linalg.det(box.axes) == pytest.approx(1)


def test_the_place_that_cameras_look_at() -> None:
    rng = np.random.default_rng(0)
    target = np.array([3.0, -2.0, 1.0])
    centres = target + rng.normal(size=(5, 3)) * 4
    forward = target - centres
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    # only the third row is a viewing axis
    rotations = np.stack([np.stack([f, f, f]) for f in forward])
    assert looked_at(rotations, centres) == pytest.approx(target)
    with pytest.raises(CompNetError, match="look away from one another"):
        looked_at(-rotations, centres)
    with pytest.raises(CompNetError, match="do not look at one place from different sides"):
        looked_at(np.repeat(rotations[:1], 5, axis=0), centres)


def test_the_front_is_the_side_that_is_nearest() -> None:
    for k in range(4):
        axes = Rotation.from_euler("z", 90 * k, degrees=True).as_matrix()
        assert facing(axes, np.array([0.1, -1.0, 5.0])) == pytest.approx(np.eye(3), abs=1e-12)


def test_a_box_is_adjusted_along_its_own_axes() -> None:
    box = UprightBox(np.array([1.0, 2.0, 3.0]), np.eye(3), np.array([2.0, 3.0, 6.0]))
    # a diagonal of 7; a quarter turn takes x to y
    turned = box.adjusted(turn=np.pi / 2, shift=(1.0, 0.0, 0.0), scale=(1.0, 2.0, 0.5))
    assert turned.axes == pytest.approx(np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]]), abs=1e-12)
    assert turned.centre == pytest.approx([1, 9, 3])
    assert turned.size == pytest.approx([2, 6, 3])
    assert box.corners().min(axis=0) == pytest.approx([0, 0.5, 0])
    assert box.corners().max(axis=0) == pytest.approx([2, 3.5, 6])


def test_too_few_points_are_no_object() -> None:
    views, points = views_round(24), points_of()
    with pytest.raises(CompNetError, match="only 0 points were found where the cameras look"):
        find_box(views.rotations, views.centres, points[points[:, 2] < 0.01], 0)


def test_a_walk_is_written_with_the_cameras_poses(tmp_path: Path) -> None:
    views = views_round(12)
    folder = tmp_path / "mug.walk"
    (folder / "images").mkdir(parents=True)
    for k in range(12):
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "images" / f"{k:03d}.jpg")
    source = WalkRound.of(walk_of(views, points_of(), folder), "brick")
    # several processes, each with a copy of the walk
    report = import_data(source, tmp_path / "out", workers=2)
    assert report.left_out == {"camera could not be placed": 1}
    dataset = ImageNet3D(tmp_path / "out")
    samples = dataset.samples("train")
    assert len(samples) == 12 and {sample.instance for sample in samples} == {"mug_i000"}
    assert errors(samples, views).max(axis=0) == pytest.approx([0, 0, 0], abs=1.0)
    (mesh,) = dataset.meshes("brick")
    extent = mesh.vertices.max(0).values - mesh.vertices.min(0).values
    assert extent.tolist() == pytest.approx((SIZE / np.linalg.norm(SIZE)).tolist(), rel=0.05)
    assert float(extent.norm()) == pytest.approx(1, abs=1e-6)
    # the same box at the annotated pose, by our own camera: where the real camera sees it
    for sample, rotation, centre in zip(samples, views.rotations, views.centres, strict=True):
        corners = source.box.corners() @ rotation.T - rotation @ centre
        seen = FOCAL * corners[:, :2] / corners[:, 2:] + [WIDTH / 2, HEIGHT / 2]
        assert sample.bbox == pytest.approx((*seen.min(0).clip(0), *seen.max(0).clip(0, (WIDTH, HEIGHT))))
        mask = load_mask(sample.mask) if sample.mask is not None else np.zeros(0)
        rows, columns = np.nonzero(mask)
        assert [columns.min(), rows.min()] == pytest.approx(seen.min(0), abs=1.5)
        pose = Pose.of(sample.azimuth, sample.elevation, sample.theta, sample.distance)
        u, v = sample.principal_point
        principal_point, focal = torch.tensor([u, v]), torch.tensor(sample.focal)
        camera = Camera(focal=focal, principal_point=principal_point, height=HEIGHT, width=WIDTH)
        ours = camera.project(mesh.vertices, pose)[0].numpy()
        # the camera that looks at the object is turned against the real one by up to a degree or two
        assert ours.min(0) == pytest.approx(seen.min(0), abs=2.5)
        assert ours.max(0) == pytest.approx(seen.max(0), abs=2.5)


def test_frames_that_do_not_see_the_object_are_left_out(tmp_path: Path) -> None:
    views = views_round(12)
    walk = walk_of(views, points_of(), tmp_path)
    first, second, *others = walk.frames
    behind = replace(first, rotation=np.diag([-1.0, 1.0, -1.0]) @ first.rotation)
    behind = replace(behind, translation=-behind.rotation @ first.centre)
    beside = replace(second, translation=second.translation + [50.0, 0, 0])
    source = WalkRound.of(walk, "brick", "001")
    assert source.read(behind) == ((), [("object behind the camera", "000")])
    assert source.read(beside) == ((), [("object outside the image", "001")])
    assert len(source.read(others[0])[0]) == 1 and source.blind() == []
    # the box is found already
    source.walk = replace(walk, frames=(behind, beside, *others))
    assert source.blind() == ["000", "001"]


def test_the_front_is_named_by_a_part_of_a_frames_name(tmp_path: Path) -> None:
    walk = walk_of(views_round(12), points_of(), tmp_path)
    assert WalkRound.of(walk, "brick").front == "000"
    assert WalkRound.of(walk, "brick", "11").front == "011"
    with pytest.raises(CompNetError, match="--front 00: several frames of the walk are called so"):
        WalkRound.of(walk, "brick", "00")
    with pytest.raises(CompNetError, match="--front 77: no frame of the walk"):
        WalkRound.of(walk, "brick", "77")


def test_what_is_no_walk_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycolmap")
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for k in range(3):
        Image.new("RGB", (40, 30), (k, k, k)).save(photographs / f"{k}.png")
    with pytest.raises(CompNetError, match="has 3 images; at least 8 are needed"):
        place_cameras(photographs, tmp_path / "out.walk")
    for k in range(3, 9):
        Image.new("RGB", (40, 30), (k, k, k)).save(photographs / f"{k}.png")
    with pytest.raises(CompNetError, match="only 0 of 9 images could be placed; take more of them"):
        place_cameras(photographs, tmp_path / "out.walk")
    # nothing half-made is left
    assert not (tmp_path / "out.walk").exists()
    with pytest.raises(CompNetError, match="is no video and no folder"):
        place_cameras(photographs / "0.png", tmp_path / "out.walk")
    with pytest.raises(SystemExit):
        main(["data", "import", "walk", str(photographs / "0.png"), str(tmp_path / "out"), "--category", "mug"])
    assert re.search("does not look like a walk round an object", capsys.readouterr().err)


def place(k: int) -> dict[str, object]:
    """What the file of cameras says of a frame."""
    return {
        "name": str(k), "file": f"images/{k}.jpg", "width": 480, "height": 360, "translation": [0.0, 0.0, 4.0],
        "intrinsics": [[500.0, 0.0, 240.0], [0.0, 500.0, 180.0], [0.0, 0.0, 1.0]], "rotation": np.eye(3).tolist(),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rotation", [[1, 0, 0], [0, 1, 0], [0, 0, 1.1]]),
        ("rotation", [[1, 0, 0], [0, 1, 0], [0, 0, -1]]),
        ("rotation", [[1, 0], [0, 1]]),
        ("intrinsics", [[500, 0, 240], [0, float("nan"), 180], [0, 0, 1]]),
        ("intrinsics", [[500, 0, 240], [0, 500, 180], [0, 1, 1]]),
        ("translation", [0, 0, 1e300]),
        ("translation", None),
        ("width", 480.5),
        ("height", 0),
        ("file", ["images"]),
        ("file", "../../secret.jpg"),
        ("file", "/etc/hosts"),
        ("name", "1"),
        ("name", None),
    ],
)
def test_broken_cameras_are_one_sentence(tmp_path: Path, key: str, value: object) -> None:
    entries = [place(k) for k in range(8)]
    values = {"source": str((tmp_path / "photographs").resolve()), "frames": 60, "points": [], "lost": []}
    path = tmp_path / "a.walk" / "cameras.json"
    path.parent.mkdir()
    path.write_text(json.dumps(values | {"placed": entries}))
    assert len(place_cameras(tmp_path / "photographs", path.parent).frames) == 8
    entries[0][key] = value
    path.write_text(json.dumps(values | {"placed": entries}))
    with pytest.raises(CompNetError, match="holds no cameras of this version; remove its folder"):
        place_cameras(tmp_path / "photographs", path.parent)
    for odd in ({"points": [[1, 2]]}, {"points": 3}, {"lost": [1]}, {"placed": entries[1:]}):
        path.write_text(json.dumps(values | {"placed": [place(k) for k in range(8)]} | odd))
        with pytest.raises(CompNetError, match="holds no cameras of this version"):
            place_cameras(tmp_path / "photographs", path.parent)


def test_photographs_of_one_name_stay_apart(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "1.png", tmp_path / "b" / "1.png", tmp_path / "a_1.png", tmp_path / "2.png"]
    for grey, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (8, 6), grey).save(path)
    frames = dict(_frames_of(tmp_path, 60, progress=False))
    assert sorted(image.getpixel((0, 0))[0] for image in frames.values()) == [0, 1, 2, 3]
    # one photograph in two, the first and the last among them
    assert len(dict(_frames_of(tmp_path, 2, progress=False))) == 2


@pytest.mark.slow
def test_photographs_become_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycolmap")
    views = views_round(24)
    (tmp_path / "photographs").mkdir()
    draw(tmp_path / "photographs", views)
    command = ["data", "import", "walk", str(tmp_path / "photographs"), str(tmp_path / "brick"), "--category", "brick"]
    main(command)
    found = WalkRound.of(place_cameras(tmp_path / "photographs", tmp_path / "brick.walk"), "brick").box.size
    # to a hundredth of the brick's; what is said has two digits, and the last one depends on the processor
    width, depth = found[:2] / found.max()
    assert [width, depth] == pytest.approx(list(SIZE[:2] / SIZE[1]), rel=0.01)
    said = f"24 of 24 cameras placed; the box is {width:.2f} wide, {depth:.2f} deep"
    assert said in capsys.readouterr().out
    assert (tmp_path / "brick.walk" / "box.jpg").stat().st_size > 10_000
    assert not (tmp_path / "brick").exists()
    main([*command, "--confirm"])
    # elevations hang on the plane of the ground, which few points tell
    assert (errors(ImageNet3D(tmp_path / "brick").samples("train"), views).max(axis=0) < [1.0, 1.5, 1.0]).all()
    # another front is another azimuth: frame 6 stands a quarter round
    main([*command, "--front", "006"])
    walk = place_cameras(tmp_path / "photographs", tmp_path / "brick.walk")
    entry = WalkRound.of(walk, "brick", "006").read(walk.frames[6])[0][0].entries[0][1]
    assert np.degrees(entry["azimuth"] + 0.1) % 360 == pytest.approx(np.degrees(0.1), abs=1.0)
    with pytest.raises(CompNetError, match="holds another walk"):
        place_cameras(tmp_path / "photographs", tmp_path / "brick.walk", frames=20)


@pytest.mark.slow
def test_a_film_becomes_a_data_set(tmp_path: Path) -> None:
    """A model of a car on a table, drawn by our rasteriser, compressed: azimuths against the true ones."""
    pytest.importorskip("pycolmap")
    pytest.importorskip("av")
    views = views_round(72)
    car = next(made for made in BUILTIN if made.name == "car").instance(np.random.default_rng(0)).normalised().mesh()
    film(tmp_path / "film.mp4", car, views)
    command = ["data", "import", "walk", str(tmp_path / "film.mp4"), str(tmp_path / "out"), "--category", "car"]
    main([*command, "--frames", "36", "--confirm"])
    walk = place_cameras(tmp_path / "film.mp4", tmp_path / "out.walk", frames=36)
    numbers = [int(frame.name) for frame in walk.frames]
    assert len(numbers) >= 34
    samples = ImageNet3D(tmp_path / "out").samples("train")
    found = np.degrees([sample.azimuth for sample in samples])
    true = views.angles()[numbers, 0]
    # against the first frame's, since the front is what that one sees
    off = (found - found[0] - (true - true[0]) + 180) % 360 - 180
    print(f"relative azimuths off by {np.abs(off).mean():.2f} degrees on average, {np.abs(off).max():.2f} at most")
    assert np.abs(off).max() < 1.0
