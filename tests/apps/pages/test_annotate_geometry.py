"""The page's geometry, run by node, against `compnet3d.geometry`."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

import compnet3d.apps
from compnet3d.apps.annotation_shapes import shape_json
from compnet3d.geometry.camera import Camera, Pose, fit_to_box
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.geometry.rotations import rotmat_geodesic_distance, symmetric_rotation_error

PAGES = Path(compnet3d.apps.__file__).parent / "pages" / "annotate"
ANGLES = [(0.0, 0.0, 0.0), (0.7, 0.4, -0.3), (3.9, -1.2, 2.0), (6.1, math.pi / 2, 0.1), (2.2, 0.9, 5.0)]
POINTS = cuboid_mesh(torch.tensor([0.9, 2.3, 0.7]), 60).mesh.vertices.double() + torch.tensor([0.1, -0.2, 0.3])


def run_js(code: str, **values: Any) -> Any:
    """What the expression `code` gives, with the functions of projection.js as `g` and the other modules' by name."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    modules = "".join(
        f"import * as {name} from {json.dumps((PAGES / file).as_uri())};\n"
        for name, file in (("g", "projection.js"), ("work", "work.js"), ("list", "list.js"))
    )
    constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    text = f"{modules}{constants}console.log(JSON.stringify({code}));"
    command = [node, "--no-warnings", "--experimental-default-type=module", "--input-type=module", "-e", text]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def placements(focal: float = 900.0, distance: float = 7.0) -> list[dict[str, float]]:
    shared = {"distance": distance, "focal": focal, "u": 310.5, "v": 222.25}
    return [dict(zip(("azimuth", "elevation", "theta"), angles, strict=True)) | shared for angles in ANGLES]


def camera_of(placed: dict[str, Any]) -> tuple[Camera, Pose]:
    camera = Camera(
        focal=torch.tensor(placed["focal"], dtype=torch.float64),
        principal_point=torch.tensor([placed["u"], placed["v"]], dtype=torch.float64),
        height=480,
        width=640,
    )
    angles = (placed[name] for name in ("azimuth", "elevation", "theta", "distance"))
    return camera, Pose.of(*angles, dtype=torch.float64)


def projected(placed: dict[str, Any]) -> torch.Tensor:
    camera, pose = camera_of(placed)
    pixels, depth = camera.project(POINTS, pose)
    return torch.cat([pixels, depth[:, None]], dim=1)


def box_of(placed: dict[str, Any]) -> torch.Tensor:
    pixels = projected(placed)[:, :2]
    return torch.cat([pixels.amin(0), pixels.amax(0)])


def test_points_are_where_the_camera_module_sees_them():
    every = placements() + placements(focal=3000.0, distance=2.5)
    found = run_js("every.map((one) => g.project(points, one))", every=every, points=POINTS.tolist())
    for placed, points in zip(every, found, strict=True):
        torch.testing.assert_close(torch.tensor(points, dtype=torch.float64), projected(placed), atol=1e-6, rtol=0)


def test_the_box_is_tight_and_none_behind_the_camera():
    found = run_js("every.map((one) => g.boxOf(g.project(points, one)))", every=placements(), points=POINTS.tolist())
    for placed, box in zip(placements(), found, strict=True):
        torch.testing.assert_close(torch.tensor(box, dtype=torch.float64), box_of(placed), atol=1e-6, rtol=0)
    near = placements(distance=0.5)[0]
    assert run_js("g.boxOf(g.project(points, near))", near=near, points=POINTS.tolist()) is None
    cut = run_js("[g.boxInImage([-5, 10, 700, 90], 640, 480), g.boxInImage([-50, 10, -5, 90], 640, 480)]")
    assert cut == [[0, 10, 640, 90], [-50, 10, -5, 90]]


def test_the_hull_that_the_page_gets_has_the_box_of_all_vertices():
    ball = cuboid_mesh(torch.tensor([0.9, 2.3, 0.7]), 500).mesh
    hull = shape_json(ball)["hull"]
    assert len(hull) < len(ball.vertices)
    found = run_js("every.map((one) => g.boxOf(g.project(hull, one)))", every=placements(), hull=hull)
    for placed, box in zip(placements(), found, strict=True):
        camera, pose = camera_of(placed)
        pixels, _ = camera.project(ball.vertices.double(), pose)
        expected = torch.cat([pixels.amin(0), pixels.amax(0)])
        torch.testing.assert_close(torch.tensor(box, dtype=torch.float64), expected, atol=1e-6, rtol=0)


def test_a_shape_fills_a_box_as_fit_to_box_says():
    box = [120.0, 60.0, 420.0, 300.0]
    every = placements(focal=3000.0, distance=20.0)
    found = run_js("every.map((one) => g.fitToBox(points, one, box))", every=every, points=POINTS.tolist(), box=box)
    for placed, fitted in zip(every, found, strict=True):
        low, high = box_of(fitted)[:2], box_of(fitted)[2:]
        assert math.isclose(float((high - low).max()), 300.0, abs_tol=1e-6)
        torch.testing.assert_close((low + high) / 2, torch.tensor([270.0, 180.0]).double(), atol=0.01, rtol=0)
        camera, pose = camera_of(placed)
        start = Pose.of(*(x[None] for x in (pose.azimuth, pose.elevation, pose.theta, pose.distance)), torch.float64)
        reference, _ = fit_to_box(POINTS, start, camera, 300.0)
        assert math.isclose(fitted["distance"], float(reference.distance), rel_tol=1e-3)


def test_a_drag_moves_the_near_surface_with_the_mouse():
    """A point in the middle of the visible surface follows a short drag in direction, however the image is tilted."""
    for theta in (0.0, 0.8, -2.5):
        placed = {"azimuth": 0.3, "elevation": 0.4, "theta": theta, "distance": 100.0, "focal": 1e4, "u": 0.0, "v": 0.0}
        camera, pose = camera_of(placed)
        towards = pose.camera_centre() / 100.0  # the surface point that faces the camera
        for drag in ((2.0, 0.0), (0.0, 2.0), (-1.0, -1.0)):
            moved = run_js("g.turned(placed, ...drag, 100)", placed=placed, drag=drag)
            after = camera_of(moved)[0].project(towards[None], camera_of(moved)[1])[0][0]
            before = camera.project(towards[None], pose)[0][0]
            step = after - before
            cosine = torch.nn.functional.cosine_similarity(step, torch.tensor(drag, dtype=torch.float64), dim=0)
            assert cosine > 0.95, (theta, drag, step)


def test_size_and_tilt_keep_the_middle_and_another_lens_the_box():
    for placed in placements():
        values = {"one": placed, "points": POINTS.tolist()}
        larger = run_js("g.scaled(points, one, 1.25)", **values)
        tilted = run_js("g.tilted(points, one, 0.2)", **values)
        lens = run_js("g.refocused(points, one, 2400)", **values)
        middle = (box_of(placed)[:2] + box_of(placed)[2:]) / 2
        for after in (larger, tilted, lens):
            torch.testing.assert_close((box_of(after)[:2] + box_of(after)[2:]) / 2, middle, atol=0.01, rtol=0)
        sides = [float((box_of(x)[2:] - box_of(x)[:2]).max()) for x in (placed, larger, lens)]
        assert 1.15 < sides[1] / sides[0] < 1.45 and math.isclose(sides[0], sides[2], rel_tol=1e-3)
        turn = rotmat_geodesic_distance(camera_of(placed)[1].to_matrix(), camera_of(tilted)[1].to_matrix())
        assert math.isclose(float(turn), 0.2, abs_tol=1e-6)


def test_a_pose_is_carried_to_an_image_of_another_size():
    placed = placements()[1]
    after = run_js(
        "g.carried(points, one, {width: 640, height: 480}, {width: 1280, height: 960})",
        one=placed,
        points=POINTS.tolist(),
    )
    before, box = 2 * box_of(placed), box_of(after)
    torch.testing.assert_close(box[:2] + box[2:], before[:2] + before[2:], atol=0.01, rtol=0)
    assert math.isclose(float((box[2:] - box[:2]).max()), float((before[2:] - before[:2]).max()), rel_tol=1e-6)
    same = "g.carried(points, one, {width: 640, height: 480}, {width: 640, height: 480})"
    assert run_js(same, one=placed, points=POINTS.tolist()) == placed


@pytest.mark.parametrize("order", [1, 2, 0])
def test_disagreement_is_the_evaluations_error(order):
    poses = placements()
    first, second = poses[1:], poses[:-1]
    found = run_js(
        "first.map((one, i) => g.disagreement(one, second[i], order))", first=first, second=second, order=order
    )
    rotations = [torch.stack([camera_of(one)[1].to_matrix() for one in some]) for some in (first, second)]
    expected = symmetric_rotation_error(*rotations, torch.full((len(first),), order))
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), expected, atol=1e-6, rtol=0)


def test_undo_and_redo():
    code = """(() => {
      const one = new work.Work({version: "", proposal: null, placement: null}, 0);
      const seen = [one.dirty];
      one.change(1, "turn", 1000); one.change(2, "turn", 1300); one.change(3, "turn", 9000); one.change(4);
      one.undo(); seen.push(one.now);
      one.undo(); seen.push(one.now);
      one.undo(); seen.push(one.now);
      one.undo(); seen.push(one.now);
      one.redo(); seen.push(one.now);
      one.change(9, "turn", 9100); one.redo(); seen.push(one.now, one.dirty);
      one.settle("v"); seen.push(one.dirty);
      one.undo(); seen.push(one.now, one.dirty);
      return seen;
    })()"""
    assert run_js(code) == [False, 3, 2, 0, 0, 2, 9, True, False, 2, True]


def test_the_next_photograph_and_the_order():
    items = [
        {"item": "a", "status": "saved", "disagreement": 0.1},
        {"item": "b", "status": "new", "disagreement": None},
        {"item": "c", "status": "saved", "disagreement": 2.0},
        {"item": "d", "status": "skipped", "disagreement": None},
        {"item": "e", "status": "new", "disagreement": None},
    ]
    code = (
        '["name", "status", "disagreement"].map((order) => list.ordered(items, order).map((one) => one.item).join(""))'
    )
    orders = run_js(code, items=items)
    assert orders == ["abcde", "bedac", "cabde"]
    following = run_js('["a", "b", "e"].map((key) => list.nextNew(items, key).item).join("")', items=items)
    assert following == "beb"
    assert run_js('list.nextNew([{item: "a", status: "new"}], "a") === undefined')
