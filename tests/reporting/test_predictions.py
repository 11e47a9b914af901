"""Predictions for pictures: tables, files, overlays, videos."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compnet3d.data.box_files import read_box_file
from compnet3d.data.sources import find_sources
from compnet3d.data.transforms import InputConfig
from compnet3d.data.video import VideoWriter, read_video
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Camera, Pose
from compnet3d.geometry.mesh import Mesh
from compnet3d.inference.detection import Detections
from compnet3d.inference.prediction import Prediction, predict_boxes
from compnet3d.reporting.prediction_files import pose_in
from compnet3d.reporting.predictions import Outputs, Places, predict_sources


class FakeModel:
    """Takes every crop for a cube, seen in its middle."""

    categories = ("cube",)
    input_config = InputConfig(height=32, width=32, focal=40.0, distance=4.0, box_fill=0.7)

    def predict_crops(self, images, *, unseen=False, crop="oracle"):
        count = len(images)
        return Prediction(
            categories=("cube",),
            category_index=torch.zeros(count, dtype=torch.long),
            scores=torch.ones(count, 1),
            confidence=torch.full((count,), 0.8),
            pose=Pose.of(torch.full((count,), 0.5), 0.25, 6.2, 4.0),
            focal=torch.full((count,), 40.0),
            principal_point=torch.full((count, 2), 16.0),
            reconstruction_score=torch.zeros(count),
            foreground=torch.zeros(count, 2, 2, dtype=torch.bool),
        )

    def mesh(self, category):
        corners = torch.tensor([[-1.0, -1, -1], [1, -1, -1], [0, 1, -1], [0, 0, 1]])
        return Mesh(corners, torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]))


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "other" / "a.png", tmp_path / "wide.png"]
    paths[1].parent.mkdir()
    for path, size in zip(paths, [(40, 30), (30, 40), (4000, 10)], strict=True):
        Image.new("RGB", size).save(path)
    return paths


def test_predictions_as_table_json_and_overlays(images, tmp_path, capsys):
    predict(images, {"json": tmp_path / "p.json"}, tmp_path / "drawn")
    out = capsys.readouterr().out
    assert out.count("cube") == 3 and "80.0" in out and "confidence" in out and "[%]" in out
    answers = json.loads((tmp_path / "p.json").read_text())
    assert [a["image"] for a in answers] == [str(p) for p in images]
    assert answers[0]["category"] == "cube" and answers[0]["azimuth"] == pytest.approx(0.5)
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == ["a-2.png", "a.png", "wide.png"]
    with Image.open(tmp_path / "drawn" / "wide.png") as image:
        assert image.width <= 1600


def test_json_on_standard_output_is_nothing_but_json(images, capsys):
    predict(images[:1], {"json": Path("-")})
    assert json.loads(capsys.readouterr().out)[0]["category"] == "cube"


def test_a_broken_image_does_not_stop_the_others(images, tmp_path, capsys):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    with pytest.raises(CompNetError, match=r"1 of 3 images could not be predicted: .*broken\.jpg"):
        predict([images[0], broken, images[1]], {"json": tmp_path / "p.json"})
    assert len(json.loads((tmp_path / "p.json").read_text())) == 2
    assert "skipped: " in capsys.readouterr().err


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), ZeroDivisionError()])
def test_what_has_been_predicted_is_not_lost(stop, images, tmp_path, capsys, monkeypatch):
    paths = [tmp_path / f"{number}.png" for number in range(20)]
    for path in paths:
        path.write_bytes(images[0].read_bytes())
    calls = []

    def predict_some(model, crops):
        calls.append(len(crops))
        if len(calls) == 2:
            raise stop
        return predict_boxes(model, crops)

    monkeypatch.setattr("compnet3d.reporting.predictions.predict_boxes", predict_some)
    with pytest.raises(type(stop)):
        predict(paths, {"json": tmp_path / "p.json"})
    assert [answer["image"] for answer in json.loads((tmp_path / "p.json").read_text())] == [str(p) for p in paths[:16]]
    assert calls == [16, 4] and "0.png" in capsys.readouterr().out


def test_predictions_are_shown_where_their_file_cannot_be_written(images, tmp_path, capsys):
    with pytest.raises(CompNetError, match=f"^{tmp_path}: cannot be written"):
        predict(images[:1], {"json": tmp_path})
    assert "cube" in capsys.readouterr().out


def test_a_files_name_does_not_steer_the_terminal(images, tmp_path, capsys):
    odd, broken = tmp_path / "\x1b[2Jodd.png", tmp_path / "\x1b[31mbroken.png"
    odd.write_bytes(images[0].read_bytes())
    broken.write_bytes(b"none")
    with pytest.raises(CompNetError):
        predict([odd, broken], {"json": tmp_path / "p.json"})
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err and "\\x1b" in "".join(shown.out.split()) and "\\x1b[31m" in shown.err
    assert json.loads((tmp_path / "p.json").read_text())[0]["image"] == str(odd)


def test_a_name_that_the_terminal_cannot_show_loses_nothing(images, tmp_path, monkeypatch):
    odd = tmp_path / os.fsdecode(b"bad_\xff.png")
    odd.write_bytes(images[0].read_bytes())
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stream)
    predict([images[0], odd], {"json": tmp_path / "p.json"})
    assert json.loads((tmp_path / "p.json").read_text())[1]["image"] == str(odd)
    stream.flush()
    assert b"udcff" in b"".join(stream.buffer.getvalue().split())


def test_a_box_outside_the_image_is_named(images):
    with pytest.raises(CompNetError, match="lies outside the image of 40 x 30 pixels"):
        predict(images[:1], places=Places((100, 0, 120, 10)))


def test_a_box_of_three_numbers_is_not_called_empty(images):
    with pytest.raises(CompNetError, match=r"the box \(1, 2, 30\) does not have four numbers"):
        predict(images[:1], places=Places((1, 2, 30)))


def predict(images, files=None, overlay=None, places=None, every=1, **outputs):
    predict_sources(FakeModel(), find_sources(images), places, Outputs(files or {}, overlay, **outputs), every=every)


class FakeDetector:
    """Finds nothing in wide images, and two objects in others."""

    def detect(self, image, count):
        boxes = [[1.0, 2, 21, 22], [5, 5, 30, 50]] if image.width < 100 else []
        scores = torch.tensor([0.9, 0.5][: len(boxes)])
        return Detections(torch.tensor(boxes).reshape(-1, 4), scores, ("cup", "car")[: len(boxes)]).first(count)


def test_several_objects_of_a_detector(images, tmp_path, capsys):
    predict(images, {"json": tmp_path / "p.json"}, tmp_path / "o", Places(detector=FakeDetector(), objects=2))
    answers = json.loads((tmp_path / "p.json").read_text())
    assert [(a["image"], a["box"][0], a["detection"]["label"]) for a in answers] == [
        (str(path), left, label) for path in images[:2] for left, label in ((1, "cup"), (5, "car"))
    ]
    shown = capsys.readouterr()
    assert f"{images[2]}: no object was found" in shown.err
    # the second box of the first image, 25 x 45, reaches 20 pixels below its 30 rows
    assert answers[1]["box_beyond_image"] == pytest.approx(20 / 45) and "box_beyond_image" not in answers[0]
    assert "beyond" not in shown.err
    assert "detection" in answers[0] and answers[0]["detection"]["score"] == pytest.approx(0.9)


def test_a_given_box_beyond_the_image_is_said_to_be(images, capsys):
    predict(images[:1], places=Places((5, 5, 30, 50)))
    assert capsys.readouterr().err == f"{images[0]}: 44 % of the box lies beyond the image\n"


def test_boxes_of_a_file_and_one_image_that_has_none(images, tmp_path):
    table = tmp_path / "boxes.csv"
    table.write_text(f"image,x1,y1,x2,y2\n{images[0]},1,2,20,22\nwide.png,0,0,9,9\nwide.png,30,0,50,9\n")
    with pytest.raises(CompNetError, match=f"1 of 3 images could not be predicted: {table}: has no box for"):
        predict(images, {"jsonl": tmp_path / "p.jsonl"}, places=Places(file=read_box_file(table)))
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [line["box"] for line in lines] == [[1, 2, 20, 22], [0, 0, 9, 9], [30, 0, 50, 9]]


def test_the_same_answers_in_every_format(images, tmp_path):
    files = {kind: tmp_path / f"p.{kind}" for kind in ("json", "jsonl", "csv", "coco")}
    predict(images[:2], files, places=Places((3, 4, 20, 24)), degrees=True)
    answers = json.loads(files["json"].read_text())
    assert [json.loads(line) for line in files["jsonl"].read_text().splitlines()] == answers
    rows = list(csv.DictReader(io.StringIO(files["csv"].read_text())))
    assert [float(row["azimuth_deg"]) for row in rows] == [a["azimuth_deg"] for a in answers]
    assert [rows[0][name] for name in ("x1", "y2", "width", "height")] == ["3.0", "24.0", "40", "30"]
    coco = json.loads(files["coco"].read_text())
    assert [(i["file_name"], i["width"]) for i in coco["images"]] == [(str(images[0]), 40), (str(images[1]), 30)]
    first = coco["annotations"][0]
    assert first["bbox"] == [3, 4, 17, 20] and first["score"] == answers[0]["confidence"]
    assert coco["categories"] == [{"id": first["category_id"], "name": "cube"}]
    assert first["pose"]["azimuth_deg"] == answers[0]["azimuth_deg"]
    # what was written says where the objects are, if it is read again
    assert read_box_file(files["json"]).of(str(images[0])) == read_box_file(files["coco"]).of(str(images[0]))


@pytest.mark.parametrize("convention", ["opencv", "opengl", "blender", "pytorch3d"])
def test_poses_of_other_libraries_project_the_object_to_the_same_pixels(convention):
    """Each library's own camera, written out here, against ours."""
    pose, size = Pose.of(0.7, 0.4, -0.2, 5.0, dtype=torch.float64), (120, 80)
    answer = FakeModel().predict_crops(torch.zeros(1, 3, 32, 32))[0]
    object.__setattr__(answer, "pose", pose)
    object.__setattr__(answer, "principal_point", torch.tensor([71.0, 33.0], dtype=torch.float64))
    object.__setattr__(answer, "focal", 900.0)
    told = {name: np.array(value) for name, value in pose_in(convention, answer, size).items()}
    point = np.array([0.3, -0.2, 0.1])
    if convention == "opencv":
        seen = told["R"] @ point + told["t"]
        u, v, w = told["K"] @ seen
        found = np.array([u / w, v / w]) + 0.5  # its pixel centres are whole numbers
    elif convention == "pytorch3d":
        x, y, z = np.array([point[0], point[2], -point[1]]) @ told["R"] + told["T"]
        u, v, w = told["K"] @ np.array([-x, -y, z])
        found = np.array([u / w, v / w])
    else:
        view = told["view_matrix"] if convention == "opengl" else np.linalg.inv(told["matrix_world"])
        x, y, z, _ = view @ np.append(point, 1.0)
        u, v, w = told["K"] @ np.array([x, -y, -z])
        found = np.array([u / w, v / w])
    focal = torch.tensor(900.0, dtype=torch.float64)
    camera = Camera(focal=focal, principal_point=answer.principal_point, height=80, width=120)
    ours, _ = camera.project(torch.from_numpy(point)[None], pose)
    # a turn of the camera stands for the shift of the principal point: equal at the origin, nearly so beside it
    assert found == pytest.approx(ours[0].numpy(), abs=1.5)
    assert pose_in("compnet3d", answer, size) == {}


@pytest.fixture
def video(tmp_path):
    pytest.importorskip("av")
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 10) as writer:
        for level in range(0, 240, 20):
            writer.write(Image.new("RGB", (64, 48), (level,) * 3))
    return path


def test_a_video_becomes_a_drawn_video(video, tmp_path, capsys):
    predict([video], {"json": tmp_path / "p.json"}, tmp_path / "o", every=4)
    answers = json.loads((tmp_path / "p.json").read_text())
    assert [(a["frame"], round(a["time"], 3)) for a in answers] == [(0, 0.0), (4, 0.4), (8, 0.8)]
    assert len(list(read_video(tmp_path / "o" / "clip.mp4"))) == 3 and "0.40 s" in capsys.readouterr().out
    predict([video], overlay=tmp_path / "o", every=6)  # an earlier overlay is replaced
    assert len(list(read_video(tmp_path / "o" / "clip.mp4"))) == 2


def test_a_video_that_cannot_be_opened_is_one_failure_and_no_table(tmp_path, capsys):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(CompNetError, match=r"1 of 1 images could not be predicted: .*broken\.mp4"):
        predict([broken])
    assert capsys.readouterr().out == ""


def test_a_video_that_is_none_of_ours_is_not_replaced(video, tmp_path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "clip.mp4").write_bytes(b"somebody's")
    with pytest.raises(CompNetError, match=r"clip\.mp4: is there already and is no overlay"):
        predict([video], overlay=tmp_path / "o")
    assert (tmp_path / "o" / "clip.mp4").read_bytes() == b"somebody's"


def test_json_lines_come_one_by_one(images, capsys):
    predict(images, {"jsonl": Path("-")})
    assert [json.loads(line)["image"] for line in capsys.readouterr().out.splitlines()] == [str(p) for p in images]
