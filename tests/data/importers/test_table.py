"""Tables: every way of stating a pose gives the pixels that its definition gives, worked out here with plain numpy."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from compnet3d.cli import main as cli
from compnet3d.data.annotations import SkipObject, read_annotation
from compnet3d.data.check import check_dataset
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.images import load_mask
from compnet3d.data.importers.columns import read_table
from compnet3d.data.importers.import_data import import_data
from compnet3d.data.importers.posed_row import RowForm, place_row
from compnet3d.data.importers.shapes import Shapes, fitted_size
from compnet3d.data.importers.table import Table
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Camera, Pose
from tests.data.importers.pascal_files import write_models

# no symmetry: a wrong sign or a swapped axis moves some of them
POINTS = np.array([[0.5, 0.1, 0.2], [-0.3, 0.6, 0.1], [0.2, -0.4, 0.7], [0.1, 0.2, -0.8], [-0.6, -0.3, -0.2]])
WIDTH, HEIGHT = 64, 48


def turn(axis: int, angle: float) -> np.ndarray:
    """The right-handed rotation about an axis, by its definition."""
    c, s = math.cos(angle), math.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def look_at(azimuth: float, elevation: float, theta: float) -> np.ndarray:
    """Object-to-camera rotation from where the camera stands and what is up in it, axes right, up and backward."""
    backward = np.array(
        [math.cos(elevation) * math.sin(azimuth), -math.cos(elevation) * math.cos(azimuth), math.sin(elevation)]
    )
    right = np.cross([0, 0, 1], backward)
    right /= np.linalg.norm(right)
    upright = np.stack([right, np.cross(backward, right), backward])
    return turn(2, theta) @ upright  # the image turns counter-clockwise


def pixels_of(rotmat: np.ndarray, distance: float, focal: float, centre: tuple[float, float]) -> np.ndarray:
    """Where the points are seen by a camera with axes right, up and backward that looks at the origin."""
    seen = POINTS @ rotmat.T - [0, 0, distance]
    return np.stack([centre[0] - focal * seen[:, 0] / seen[:, 2], centre[1] + focal * seen[:, 1] / seen[:, 2]], axis=1)


def project(sample: Sample) -> np.ndarray:
    """Pixels of the points by our reader and our camera."""
    pose = Pose.of(sample.azimuth, sample.elevation, sample.theta, sample.distance, dtype=torch.float64)
    camera = Camera(
        focal=torch.tensor(sample.focal, dtype=torch.float64),
        principal_point=torch.tensor(sample.principal_point, dtype=torch.float64),
        height=sample.height,
        width=sample.width,
    )
    return camera.project(torch.tensor(POINTS, dtype=torch.float64), pose)[0].numpy()


def write_image(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 150)).save(path)


def write_csv(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def row(**changes: Any) -> dict[str, Any]:
    values = {"image": "a.png", "category": "mug", "x1": 10, "y1": 8, "x2": 50, "y2": 40}
    return {key: value for key, value in (values | changes).items() if value is not None}


def read_all(out: Path) -> dict[str, Sample]:
    dataset = ImageNet3D(out)
    return {sample.name: sample for split in dataset.splits for sample in dataset.samples(split)}


AZIMUTH, ELEVATION, THETA, DISTANCE, FOCAL = 0.7, 0.3, -0.2, 6.0, 300.0
ROTMAT = look_at(AZIMUTH, ELEVATION, THETA)
CENTRE = (30.5, 20.25)
FLIP = np.diag([1.0, -1.0, -1.0])  # right, up, backward to right, down, forward
# PyTorch3D: x left, y up, z forward; rows; the world has y up, and the object's (x, y, z) is (x, z, -y) there
WORLD = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
PYTORCH3D = (np.diag([-1.0, 1, -1]) @ ROTMAT @ WORLD.T).T


def quaternion(rotmat: np.ndarray) -> list[float]:
    """(w, x, y, z) from the axis, which the rotation leaves as it is, and the angle."""
    values, vectors = np.linalg.eig(rotmat)
    axis = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    skew = rotmat - rotmat.T
    sine = np.array([skew[2, 1], skew[0, 2], skew[1, 0]]) @ axis / 2
    angle = math.atan2(sine, (np.trace(rotmat) - 1) / 2)
    return [math.cos(angle / 2), *(math.sin(angle / 2) * axis)]


W, X, Y, Z = quaternion(ROTMAT)
BACK = [0.0, 0.0, -DISTANCE]
POSES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "degrees by name": (
        {"azimuth_deg": math.degrees(AZIMUTH), "elevation_deg": math.degrees(ELEVATION),
         "theta_deg": math.degrees(THETA)},
        {},
    ),
    "radians by name": ({"az_rad": AZIMUTH, "Elevation Rad": ELEVATION, "roll_rad": THETA}, {}),
    "degrees by option": (
        {"azimuth": math.degrees(AZIMUTH), "elevation": math.degrees(ELEVATION), "theta": math.degrees(THETA)},
        {"angles": "degrees"},
    ),
    "radians by option": ({"azimuth": AZIMUTH, "el": ELEVATION, "theta": THETA}, {"angles": "radians"}),
    "our rotation": ({"rotation": json.dumps(ROTMAT.tolist())}, {"convention": "compnet3d"}),
    "opengl": ({"R": " ".join(map(repr, ROTMAT.ravel().tolist()))}, {"convention": "opengl"}),
    "opencv cells": (
        {f"r{i + 1}{j + 1}": (FLIP @ ROTMAT)[i, j] for i in range(3) for j in range(3)},
        {"convention": "opencv"},
    ),
    "opencv cells from 0": (
        {f"r{i}{j}": (FLIP @ ROTMAT)[i, j] for i in range(3) for j in range(3)},
        {"convention": "opencv"},
    ),
    "blender": ({"rotation": json.dumps(ROTMAT.T.ravel().tolist())}, {"convention": "blender"}),
    "pytorch3d": ({"rotation": json.dumps(PYTORCH3D.tolist()), "convention": "PyTorch3D"}, {}),
    "quaternion wxyz": ({"quaternion": json.dumps([W, X, Y, Z])}, {"convention": "opengl", "quaternion": "wxyz"}),
    "quaternion xyzw": ({"quaternion_xyzw": f"{X} {Y} {Z} {W}"}, {"convention": "compnet3d"}),
    "quaternion cells": ({"qx": -X, "qy": -Y, "qz": -Z, "qw": -W}, {"convention": "opengl"}),
    "quaternion opencv": (
        {"quat_wxyz": json.dumps(quaternion(FLIP @ ROTMAT))},
        {"convention": "opencv"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", POSES)
def test_a_stated_pose_is_seen_where_its_definition_says(name: str, tmp_path: Path) -> None:
    pose, form = POSES[name]
    write_image(tmp_path / "a.png")
    whole = {"distance": DISTANCE, "focal": FOCAL, "px": CENTRE[0], "py": CENTRE[1]}
    path = write_csv(tmp_path / "t.csv", [row(**pose, **whole)])
    import_data(Table(path, RowForm(**form)), tmp_path / "out")
    (sample,) = read_all(tmp_path / "out").values()
    assert project(sample) == pytest.approx(pixels_of(ROTMAT, DISTANCE, FOCAL, CENTRE), abs=1e-6)
    assert (sample.distance, sample.focal, sample.bbox) == (DISTANCE, FOCAL, (10.0, 8.0, 50.0, 40.0))


def opencv_pixels(rotation: np.ndarray, translation: np.ndarray, K: np.ndarray) -> np.ndarray:
    """K (R X + t), where pixel centres are at whole numbers, in our pixels."""
    seen = (POINTS @ rotation.T + translation) @ K.T
    return seen[:, :2] / seen[:, 2:] + 0.5


K = np.array([[FOCAL, 0, 29.0], [0, FOCAL, 21.0], [0, 0, 1]])
FULL: dict[str, dict[str, Any]] = {
    "opencv": {"R": (FLIP @ ROTMAT).tolist(), "t": [0.0, 0.0, DISTANCE], "K": K.tolist()},
    "opengl": {"R": ROTMAT.tolist(), "tx": 0.0, "ty": 0.0, "tz": -DISTANCE, "fx": FOCAL, "fy": FOCAL, "cx": 29.5,
               "cy": 21.5},
    "blender": {"rotation": ROTMAT.T.tolist(), "translation": (DISTANCE * ROTMAT[2]).tolist(), "focal": FOCAL,
                "cx": 29.5, "cy": 21.5},
    "pytorch3d": {"R": PYTORCH3D.tolist(), "T": [0.0, 0.0, DISTANCE], "focal": FOCAL, "cx": 29.5, "cy": 21.5},
}  # fmt: skip


@pytest.mark.parametrize("convention", FULL)
def test_a_camera_on_the_axis_gives_exact_pixels(convention: Any, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    line = {**row(), **FULL[convention]}
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(line) + "\n\n")
    import_data(Table(path, RowForm(convention=convention)), tmp_path / "out")
    (sample,) = read_all(tmp_path / "out").values()
    wanted = opencv_pixels(FLIP @ ROTMAT, np.array([0, 0, DISTANCE]), K)
    assert project(sample) == pytest.approx(wanted, abs=1e-6)


ANGLE = st.floats(-3.1, 3.1)


@settings(max_examples=40)
@given(ANGLE, st.floats(-1.5, 1.5), ANGLE, st.floats(-2, 2), st.floats(-2, 2), st.floats(3, 9), st.floats(0.8, 1.3))
def test_no_part_of_a_six_dimensional_pose_is_lost(
    azimuth: float, elevation: float, theta: float, x: float, y: float, z: float, aspect: float
) -> None:
    """Off the axis, with fx unlike fy and a skew: R and t come back from what is written, with the camera matrix."""
    rotation, t = FLIP @ look_at(azimuth, elevation, theta), np.array([x, y, z])
    camera = np.array([[FOCAL, 3.0, 29.0], [0, FOCAL * aspect, 21.0], [0, 0, 1]])
    values = {"rotation": rotation.tolist(), "translation": t.tolist(), "camera": camera.tolist()}
    placed = place_row(values, RowForm(convention="opencv"), (WIDTH, HEIGHT))
    assert placed.camera is not None and placed.distance == pytest.approx(np.linalg.norm(t))
    assert placed.camera[:2, 2] == pytest.approx([29.5, 21.5])
    pose = Pose.from_matrix(placed.rotmat, placed.distance)
    back = placed.camera - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    R, again = pose.to_opencv(np.array(placed.principal_point), back)
    assert R.numpy() == pytest.approx(rotation, abs=1e-6) and again.numpy() == pytest.approx(t, abs=1e-6)
    origin = camera @ t
    assert placed.principal_point == pytest.approx(tuple(origin[:2] / origin[2] + 0.5))


def test_what_is_not_stated_follows_from_the_shape(tmp_path: Path) -> None:
    """Without distance, the stated size fills the box; with it, the box's middle is that of the projected shape."""
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    sizes = write_csv(tmp_path / "sizes.csv", [{"category": "mug", "width": 0.8, "depth": 1.2, "height": 0.6}])
    angles = {"azimuth_deg": 40, "elevation_deg": 20}
    lines = [row(**angles), row(image="b.png", **angles) | {"distance": 9.0}]
    lines[0]["distance"] = ""
    import_data(
        Table(write_csv(tmp_path / "t.csv", lines), RowForm(focal=200.0), Shapes(sizes=sizes)), tmp_path / "out"
    )
    corners = np.array([[x, y, z] for x in (-0.4, 0.4) for y in (-0.6, 0.6) for z in (-0.3, 0.3)])
    samples = read_all(tmp_path / "out")
    assert samples["b"].distance == 9.0
    for sample in samples.values():
        seen = corners @ look_at(sample.azimuth, sample.elevation, 0.0).T - [0, 0, sample.distance]
        u = sample.principal_point[0] - 200 * seen[:, 0] / seen[:, 2]
        v = sample.principal_point[1] + 200 * seen[:, 1] / seen[:, 2]
        assert [(u.min() + u.max()) / 2, (v.min() + v.max()) / 2] == pytest.approx([30, 24], abs=0.05)
        if sample.name == "a":
            assert max(np.ptp(u), np.ptp(v)) == pytest.approx(40, rel=1e-3)
    assert check_dataset(tmp_path / "out").count("error") == 0


@given(st.tuples(*[st.floats(0.3, 1.0)] * 3), st.integers(0, 99))
@settings(max_examples=20)
def test_fitted_sizes_are_those_of_the_box_that_was_seen(size: tuple[float, float, float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * np.array(size) / 2
    views = []
    for _ in range(40):
        rotmat = look_at(rng.uniform(0, 6.28), rng.uniform(-0.2, 1.0), rng.uniform(-0.3, 0.3))
        seen = corners @ rotmat.T * rng.uniform(20, 200)  # from afar, of any size in the image
        low, high = seen.min(axis=0), seen.max(axis=0)
        views.append((rotmat, (low[0], low[1], high[0], high[1]), None))
    wanted = np.array(size) / np.linalg.norm(size)
    assert fitted_size(views) == pytest.approx(tuple(wanted), abs=0.02)
    with_distance = [(rotmat, box, 1 / 50) for rotmat, box, _ in views[:1]]
    corner = (np.abs(views[0][0][:2]) @ np.array(size)).sum()
    box = with_distance[0][1]
    scaled = fitted_size([*views[1:], with_distance[0]])
    assert np.linalg.norm(scaled) == pytest.approx(
        np.linalg.norm(size) * (box[2] - box[0] + box[3] - box[1]) / 50 / corner, rel=0.05
    )


def test_bad_lines_are_left_out_with_their_numbers(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    good = "a.png,mug,10,8,50,40,30,20"
    lines = [
        "image,category,x1,y1,x2,y2,azimuth_deg,elevation_deg", good, "", "b.png,mug,10,8,50,40,30,20",
        ",mug,10,8,50,40,30,20", "a.png,,10,8,50,40,30,20", "a.png,mug,50,8,10,40,30,20",
        "a.png,mug,10,8,50,40,left,20", "a.png,mug,10,8,50,40,30", "a.png,mug,10,8,50,40,nan,20",
        "a.png,mug,10,8,50,,30,20",
        "a.png,mug,0.1,0.1,0.5,0.4,30,20", "a.png,mug,10,8,50,40,,20", "a.png,mug,10,8,50,40,1e9,20",
    ]  # fmt: skip
    path = tmp_path / "t.csv"
    path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    report = import_data(Table(path), tmp_path / "out")
    assert report.kept == 1 and report.left_out == {
        "missing image": 1, "no image": 1, "no category": 1, "empty box": 1, "azimuth_deg is not a number": 1,
        "line has another number of fields than the header": 1, "azimuth_deg is not finite": 1, "no y2": 1,
        "box of less than a pixel: is it in shares of the image (--relative)?": 1, "no pose": 1,
        "azimuth_deg is out of range": 1,
    }  # fmt: skip
    assert report.examples["azimuth_deg is not a number"] == [f"{path}:8"]
    assert report.examples["line has another number of fields than the header"] == [f"{path}:9"]


@pytest.mark.parametrize(
    ("wrong", "form", "reason"),
    [
        ({"azimuth_rad": 130}, RowForm(), "degrees in the place of radians"),
        ({"azimuth_rad": -30}, RowForm(), "degrees in the place of radians"),
        ({"azimuth": 7}, RowForm(angles="radians"), "degrees in the place of radians"),
        ({"elevation_rad": 20}, RowForm(), "degrees in the place of radians"),
        ({"elevation_deg": 95}, RowForm(), "elevation is beyond .-90 degrees: a polar angle"),
        ({"elevation_deg": 200}, RowForm(), "elevation is beyond"),
        ({"azimuth_deg": "130,5"}, RowForm(), "azimuth_deg has a comma: write numbers with a decimal point"),
        ({"box": "20 10 12 9"}, RowForm(), "x, y, width, height .--box xywh."),
        ({"box": "2 3 20 30"}, RowForm(relative=True), "not in shares of the image: is it in pixels"),
    ],
)
def test_numbers_in_another_unit_are_no_poses_and_no_boxes(wrong: Any, form: RowForm, reason: str) -> None:
    values = {"azimuth_deg": 30, "elevation_deg": 10, "box": "2 3 20 30", **wrong}
    for key in wrong:
        if key.startswith(("azimuth", "elevation")):
            values = {name: value for name, value in values.items() if name == key or name[:5] != key[:5]}
    with pytest.raises(SkipObject, match=reason):
        place_row(values, form, (WIDTH, HEIGHT))


def test_angles_and_boxes_that_only_look_odd_are_taken() -> None:
    box = [2.0, 3.0, 20.0, 30.0]
    for elevation in (350, -10):
        placed = place_row({"azimuth_deg": 390, "elevation_deg": elevation, "box": box}, RowForm(), (64, 48))
        assert placed.rotmat == pytest.approx(look_at(math.radians(30), math.radians(-10), 0.0))
    # a box that the border cuts, in shares; lists as numpy and Python print them
    beyond = {"azimuth_deg": 0, "elevation_deg": 0, "box": [-0.5, 0.25, 1.5, 2.0]}
    assert place_row(beyond, RowForm(relative=True), (64, 48)).box == (-32.0, 12.0, 96.0, 96.0)
    for text in ("[ 2.  3. 20. 30.]", "(2.0, 3.0, 20.0, 30.0)", "[[2, 3], [20, 30]]"):
        assert place_row({"azimuth_deg": 0, "elevation_deg": 0, "box": text}, RowForm(), (64, 48)).box == tuple(box)


def test_tables_come_in_every_text(tmp_path: Path) -> None:
    plain = "image,category,azimuth_deg,elevation_deg\na.png,mug,30,-10\n\nb.png,mug,40,5\n"
    wanted = [{"image": "a.png", "category": "mug", "azimuth_deg": "30", "elevation_deg": "-10"},
              {"image": "b.png", "category": "mug", "azimuth_deg": "40", "elevation_deg": "5"}]  # fmt: skip
    texts = {
        "utf-8": plain, "utf-8-sig": plain, "utf-16": plain.replace(",", "\t"), "utf-16-be": "\ufeff" + plain,
        "ascii": "sep=;\r\n" + plain.replace(",", ";").replace("\n", "\r\n"), "latin-1": "\n \n" + plain,
    }  # fmt: skip
    for encoding, text in texts.items():
        (tmp_path / "t.csv").write_bytes(text.encode(encoding))
        lines, left_out = read_table(tmp_path / "t.csv")
        assert [values for _, values in lines] == wanted and not left_out, encoding
        # the numbers of the lines are those that an editor shows
        shown = text.replace("\r\n", "\n").split("\n")
        assert [int(where.rpartition(":")[2]) for where, _ in lines] == [
            number for number, line in enumerate(shown, start=1) if ".png" in line
        ], encoding
    (tmp_path / "t.csv").write_text(plain.replace("0\n", "0,\n").replace("5\n", "5,\n"))
    with pytest.raises(CompNetError, match="t.csv:2: line has another number of fields than the header"):
        read_table(tmp_path / "t.csv")


def test_what_a_table_leaves_open_is_asked_for(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")

    def refused(match: str, line: dict[str, Any], **options: Any) -> None:
        path = write_csv(tmp_path / "t.csv", [line])
        with pytest.raises(CompNetError, match=match):
            import_data(Table(path, **options), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    angles = {"azimuth_deg": 1, "elevation_deg": 2}
    refused("azimuth has no unit; name it azimuth_deg or azimuth_rad, or give --angles", row(azimuth=1, elevation=2))
    refused("rotation has no convention; give --convention compnet3d|opencv", row(rotation="1 0 0 0 1 0 0 0 1"))
    refused("quaternion has no order", row(quaternion="1 0 0 0"), form=RowForm(convention="opencv"))
    refused("has no pose; it needs columns azimuth_deg", row())
    refused("has no column of images", row(image=None, photo_number=3, **angles))
    refused("has no column of categories; .* give --category NAME", row(category=None, **angles))
    refused("both mean category; say which with --columns category=COLUMN", row(label="x", **angles))
    refused(r"has no column 'heading' \(--columns\); it has image", row(**angles), columns=("azimuth_deg=heading",))
    refused("write MEANING=COLUMN", row(**angles), columns=("colour=a",))
    (tmp_path / "t.csv").write_text("image,category\n")
    with pytest.raises(CompNetError, match="holds no line below its header"):
        import_data(Table(tmp_path / "t.csv"), tmp_path / "out")
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CompNetError, match="is not in UTF-8"):
        import_data(Table(tmp_path / "t.csv"), tmp_path / "out")


def test_boxes_splits_objects_masks_and_names(tmp_path: Path) -> None:
    for name in ("red/1.png", "blue/1.png", "both.png", "2.png", "3.png"):
        write_image(tmp_path / "photos" / name)
    for name, columns in (("left", slice(0, 20)), ("right", slice(30, 50))):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[:, columns] = 200
        Image.fromarray(mask).save(tmp_path / "photos" / f"{name}.png")
    write_models(tmp_path / "cad" / "mug")
    write_models(tmp_path / "cad" / "bowl")
    common = {"azimuth_deg": "10", "elevation_deg": "5", "split": "Training", "mask": "", "cad": 2}
    lines = [
        {"photo": "red/1.png", "class": "mug", "bbox": "[10, 8, 40, 32]", **common},
        {"photo": "blue\\1.png", "class": "mug", "bbox": "10 8 40 32", **common, "split": "validation"},
        {"photo": "both.png", "class": "mug", "bbox": "0 0 20 48", **common, "mask": "left.png"},
        {"photo": "both.png", "class": "mug", "bbox": "30 0 20 48", **common, "mask": "right.png"},
        {"photo": "both.png", "class": "bowl", "bbox": "0 0 20 48", **common},
        {"photo": "2.png", "class": "bowl", "bbox": "0 0 20 48", **common},
        {"photo": "2.png", "class": "bowl", "bbox": "5 0 20 48", **common},
    ]
    path = write_csv(tmp_path / "t.tsv", lines, delimiter="\t")
    table = Table(path, RowForm(box="xywh"), Shapes(cad=tmp_path / "cad"), tmp_path / "photos")
    report = import_data(table, tmp_path / "out")
    assert report.kept == 7 and not report.left_out and report.objects["mug"] == {"all": 4, "train": 3, "val": 1}
    samples = read_all(tmp_path / "out")
    assert {(s.category, s.name) for s in samples.values()} >= {
        ("mug", "red_1"),
        ("mug", "blue_1"),
        ("mug", "both_object1"),
    }
    assert samples["red_1"].bbox == (10, 8, 50, 40) and samples["red_1"].cad_index == 2
    assert len(read_annotation(tmp_path / "out/annotations/bowl/2.npz")) == 2
    mask = samples["both_object1"].mask
    assert mask is not None and (load_mask(mask).nonzero()[1].min(), load_mask(mask).nonzero()[1].max()) == (30, 49)


def test_models_of_any_format_are_taken_with_their_files(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    (tmp_path / "cad" / "mug").mkdir(parents=True)
    for name, sides in (("01.gltf", (1.0, 1.0, 1.0)), ("02.gltf", (1.0, 4.0, 1.0))):
        folder = tmp_path / "cad" / "mug"
        for file, data in trimesh.Scene(trimesh.creation.box(sides)).export(file_type="gltf").items():
            text = data.replace(b"gltf_buffer", name[:2].encode())
            (folder / (name if file == "model.gltf" else file.replace("gltf_buffer", name[:2]))).write_bytes(text)
    lines = [
        {"image": "a.png", "category": "mug", "box": "10 8 40 32", "azimuth_deg": 0, "elevation_deg": 0, "cad": number}
        for number in (1, 2)
    ]
    table = Table(write_csv(tmp_path / "t.csv", lines), RowForm(), Shapes(cad=tmp_path / "cad"))
    report = import_data(table, tmp_path / "out")
    assert report.kept == 2
    # glTF is y up: the second model is four times as high
    heights = [np.ptp(mesh.vertices[:, 2].numpy()) for mesh in ImageNet3D(tmp_path / "out").meshes("mug")]
    assert heights == pytest.approx([1.0, 4.0])
    # in the same box, the one that is higher is farther away
    near, far = (entry["distance"] for entry in read_annotation(tmp_path / "out/annotations/mug/a.npz"))
    assert far > 2 * near


def test_objects_keep_together_where_no_split_is_stated(tmp_path: Path) -> None:
    lines = []
    for thing in range(10):
        for view in range(3):
            write_image(tmp_path / f"{thing}_{view}.png")
            lines.append(row(image=f"{thing}_{view}.png", object=f"no {thing}", azimuth_deg=view * 50, elevation_deg=9))
    report = import_data(Table(write_csv(tmp_path / "t.csv", lines)), tmp_path / "out")
    data = ImageNet3D(tmp_path / "out")
    train, val = ({s.instance for s in data.samples(split)} for split in ("train", "val"))
    assert (len(train), len(val), train & val) == (8, 2, set())
    assert any("a fifth of each category's objects is val" in note for note in report.notes)


def test_the_upright_image_is_what_boxes_are_about(tmp_path: Path) -> None:
    """A camera held on its side: viewers show the turned image, and boxes are drawn on that."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.jpg", exif=exif)
    path = write_csv(tmp_path / "t.csv", [row(image="a.jpg", azimuth_deg=1, elevation_deg=2)])
    import_data(Table(path), tmp_path / "out")
    (sample,) = read_all(tmp_path / "out").values()
    assert (sample.width, sample.height) == (HEIGHT, WIDTH)


def test_the_command_says_what_was_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "a.png")
    path = write_csv(tmp_path / "t.csv", [row(azimuth=350, elevation=20)])
    cli.main(["data", "import", "table", str(path), str(tmp_path / "out"), "--angles", "degrees", "--focal", "500"])
    text = " ".join(capsys.readouterr().out.split())
    assert "1 objects on 1 images of 1 categories taken, 0 left out" in text and "were fitted to the boxes" in text
    assert "note: no distances are stated" in text and "no focal length" not in text
    with pytest.raises(SystemExit):
        cli.main(["data", "import", "pascal3d", str(path), str(tmp_path / "other")])
    assert "looks like a table; use `data import table`" in " ".join(capsys.readouterr().err.split())
