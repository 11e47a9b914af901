"""The annotation page's server: what it answers, and to whom."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compnet3d.cli import main as cli
from compnet3d.data.transforms import InputConfig
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Pose
from compnet3d.geometry.rotations import rotmat_geodesic_distance
from compnet3d.inference.detection import Detections
from compnet3d.inference.prediction import Prediction

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient  # noqa: E402

from compnet3d.apps.annotation import Annotator, build_annotation_app  # noqa: E402
from compnet3d.apps.annotation_photographs import name_photographs  # noqa: E402
from compnet3d.apps.annotation_proposals import Proposals, Proposer  # noqa: E402
from compnet3d.apps.annotation_set import AnnotationSet, Item  # noqa: E402

ORIGIN = "http://127.0.0.1:8010"
PLACED = {"azimuth": 0.5, "elevation": 0.25, "theta": 0.0, "distance": 60.0, "focal": 3000.0, "u": 32.0, "v": 24.0}
SAVED = {**PLACED, "item": "a#0", "version": "", "box": [9.0, 4.0, 55.0, 44.0]}


class FixedModel:
    """Its azimuth is how red the crop's middle is."""

    categories = ("bowl", "mug")
    input_config = InputConfig(height=32, width=32, focal=40.0, distance=4.0, box_fill=0.7)

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.let_on = threading.Event()
        self.let_on.set()

    def predict_crops(self, images, *, category=None, unseen=False, crop="oracle"):
        assert self.let_on.wait(timeout=30) and crop == "box"
        self.asked += category.tolist()
        red = images[:, 0, 16, 16].double() / 255
        return Prediction(
            categories=self.categories,
            category_index=category,
            scores=torch.zeros(1, 2),
            confidence=torch.ones(1),
            pose=Pose.of(red, 0.25, 0.0, 4.0, torch.float64),
            focal=torch.full((1,), 40.0),
            principal_point=torch.full((1, 2), 16.0),
            pose_confidence=torch.tensor([0.75]),
        )


class MiddleDetector:
    """Finds the middle of every image."""

    def detect(self, image, count):
        quarter = torch.tensor([[image.width / 4, image.height / 4, image.width * 3 / 4, image.height * 3 / 4]])
        return Detections(quarter, torch.tensor([0.5])).first(count)


@pytest.fixture
def images(tmp_path: Path) -> AnnotationSet:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name, red in (("a", 51), ("b", 102), ("c", 153)):
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[..., 0] = red
        Image.fromarray(pixels).save(folder / f"{name}.png")
    (folder / "d.jpg").write_text("no image")
    root = tmp_path / "out"
    return AnnotationSet(root, "mug", name_photographs(folder, root, "mug"))


def client_of(images: AnnotationSet, proposals: Proposals | None = None) -> TestClient:
    app = build_annotation_app(Annotator(images, proposals, {"left_out": ["notes.txt"]}), 8010)
    return TestClient(app, base_url=ORIGIN, headers={"Origin": ORIGIN})


@pytest.fixture
def client(images: AnnotationSet) -> TestClient:
    return client_of(images)


def test_the_page_and_its_files_come_from_here_alone(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html") and "annotate.js" in page.text
    for name, kind in (("annotate.js", "javascript"), ("projection.js", "javascript"), ("annotate.css", "css")):
        answer = client.get(f"/{name}")
        assert answer.status_code == 200 and kind in answer.headers["content-type"]
        assert "http://" not in answer.text and "https://" not in answer.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
    for path in ("/annotate.html", "/../annotation.py", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8010", "127.0.0.1", "127.0.0.1:80", "0.0.0.0:8010"])
def test_a_name_that_leads_here_is_no_way_in(images, host):
    for path in ("/", "/api/items", "/api/image?name=a"):
        answer = client_of(images).get(path, headers={"Host": host})
        assert answer.status_code == 403 and answer.json()["detail"] == f"this page is at {ORIGIN} alone"


@pytest.mark.parametrize(
    "origin", [None, "http://evil.example", "null", "http://127.0.0.1:80", "https://127.0.0.1:8010"]
)
def test_no_other_page_can_write(images, origin):
    client = client_of(images)
    del client.headers["Origin"]
    headers = {} if origin is None else {"Origin": origin}
    for path in ("/api/save", "/api/skip", "/api/clear", "/api/propose"):
        answer = client.post(path, json=SAVED, headers=headers)
        assert answer.status_code == 403
    assert images.status(Item("a")) == "new"
    local = {"Host": "localhost:8010", "Origin": "http://localhost:8010"}
    assert client.post("/api/save", json=SAVED, headers=local).status_code == 200


def test_an_object_is_opened_saved_and_opened_again(client, images):
    session = client.get("/api/session").json()
    assert session["category"] == "mug" and session["left_out"] == ["notes.txt"] and not session["model"]
    assert session["shapes"]["1"]["cuboid"] and session["focal"] == 3000
    listing = client.get("/api/items").json()
    assert [one["item"] for one in listing["items"]] == ["a#0", "b#0", "c#0", "d#0"]
    assert listing["last"] is None and listing["size_is_open"]
    opened = client.get("/api/item", params={"item": "a#0"}).json()
    assert (opened["width"], opened["height"], opened["placement"], opened["status"]) == (64, 48, None, "new")
    assert client.get("/api/image", params={"name": "a"}).headers["content-type"] == "image/jpeg"
    assert client.get("/api/thumbnail", params={"name": "a"}).status_code == 200
    state = client.post("/api/save", json={**SAVED, "size": [1.0, 2.0, 3.0]}).json()
    assert state["status"] == "saved" and state["split"] == "train" and state["version"]
    opened = client.get("/api/item", params={"item": "a#0"}).json()
    assert opened["placement"] == {**PLACED, "box": SAVED["box"], "cad": 1}
    listing = client.get("/api/items").json()
    assert listing["last"] == "a#0" and not listing["size_is_open"]
    conflict = client.post("/api/save", json=SAVED)
    assert conflict.status_code == 409 and "another window" in conflict.json()["detail"]
    listing = client.post("/api/clear", json={"item": "a#0", "version": state["version"]}).json()
    assert listing["items"][0]["status"] == "new"
    assert client.post("/api/skip", json={"item": "b#0"}).json()["status"] == "skipped"


def test_what_cannot_be_saved_is_told_in_a_sentence(client, images):
    for wrong, status, word in (
        ({"box": [1.0, 2.0]}, 422, "box"),
        ({"azimuth": "east"}, 422, "azimuth"),
        ({"distance": -1.0}, 422, "distance"),
        ({"size": [0.0, 1.0, 1.0]}, 422, "width, depth and height"),
        ({"item": "z#0"}, 422, "none of these images"),
        ({"nonsense": 1}, 422, "nonsense"),
        ({"version": "x" * 70000}, 413, "65536 bytes"),
    ):
        answer = client.post("/api/save", json={**SAVED, **wrong})
        assert (answer.status_code, word in answer.json()["detail"]) == (status, True), answer.text
    assert client.post("/api/propose", json={"item": "a#0"}).json()["detail"].startswith("there is no model")
    assert not (images.root / "lists").exists()


def test_a_photograph_that_cannot_be_read_is_named(client, capsys):
    for _ in range(2):
        answer = client.get("/api/item", params={"item": "d#0"})
        assert answer.status_code == 422 and "d.jpg is not an image" in answer.json()["detail"]
    assert capsys.readouterr().err.count("skipped:") == 1
    assert client.get("/api/items").json()["items"][3]["status"] == "unreadable"


def test_a_model_proposes_and_disagrees(images):
    model = FixedModel()
    proposals = Proposals(Proposer(model, MiddleDetector(), "mug"), images)
    try:
        with client_of(images, proposals) as client:
            assert client.get("/api/session").json()["model"]
            found = client.post("/api/propose", json={"item": "b#0"}).json()
            assert found["azimuth"] == pytest.approx(0.4) and found["confidence"] == 0.75
            assert found["box"] == [16.0, 12.0, 48.0, 36.0]
            boxed = client.post("/api/propose", json={"item": "b#0", "box": [1, 2, 30, 40]}).json()
            assert boxed["box"] == [1.0, 2.0, 30.0, 40.0] and set(model.asked) == {1}
            client.post("/api/save", json={**SAVED, "item": "b#0"})
            # computed anew, in the box that was saved
            again = client.post("/api/propose", json={"item": "b#0"}).json()
            assert again["box"] in ([16.0, 12.0, 48.0, 36.0], SAVED["box"])
            state = next(one for one in client.get("/api/items").json()["items"] if one["item"] == "b#0")
            first, second = (Pose.of(a, 0.25, dtype=torch.float64).to_matrix() for a in (0.4, 0.5))
            assert state["disagreement"] == pytest.approx(float(rotmat_geodesic_distance(first, second)), abs=1e-6)
    finally:
        proposals.close()


def test_proposals_are_made_ahead_and_those_asked_for_come_first(images):
    model = FixedModel()
    model.let_on.clear()
    proposals = Proposals(Proposer(model, MiddleDetector(), "mug"), images)
    asked = [proposals.ask(Item("c"), None)]
    model.let_on.set()
    assert asked[0].result(timeout=30).azimuth == pytest.approx(0.6)
    wait = threading.Event()
    for _ in range(300):
        if all(proposals.ready(Item(name)) for name in "abc"):
            break
        wait.wait(0.05)
    assert [proposals.ready(Item(name)) is not None for name in "abcd"] == [True, True, True, False]
    proposals.close()


def test_a_model_that_does_not_know_the_category_is_refused():
    with pytest.raises(CompNetError, match=r"the model does not know cup, but bowl, mug; leave --model out"):
        Proposer(FixedModel(), None, "cup")


def test_a_fault_of_the_model_is_told_and_others_go_on(images, capsys):
    class Faulty(FixedModel):
        def predict_crops(self, images, **settings):
            if int(images[0, 0, 16, 16]) == 51:
                raise ZeroDivisionError("a fault")
            return super().predict_crops(images, **settings)

    proposals = Proposals(Proposer(Faulty(), None, "mug"), images)
    with pytest.raises(ZeroDivisionError):
        proposals.ask(Item("a"), None).result(timeout=30)
    assert proposals.ask(Item("b"), None).result(timeout=30).box is None
    proposals.close()
    assert "a fault" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "missing: does not exist"),
        (["photographs"], "--category is missing"),
        (["photographs", "--category", "a/b"], "--category a/b: is no name of a folder"),
        (["photographs", "--category", "mug", "--cuboid", "1", "2", "0"], "width, depth and height"),
        (["photographs", "--category", "mug", "--cuboid", "1", "2", "1", "--cad", "x.off"], "two shapes"),
        (["photographs", "--category", "mug", "--cad", "x.off"], "x.off"),
        (["photographs", "--category", "mug", "--val-every", "1"], "--val-every must be at least 2"),
        (["photographs", "--category", "mug", "--model", "none"], "none: does not exist"),
        (["empty", "--category", "mug"], "empty: holds no photograph"),
        (["tiny", "--out", "x"], "tiny: is a data set, corrected in its place"),
        (["tiny"], "tiny: has brick, tower; choose one by --category"),
        (["tiny", "--category", "cup"], "has no list for cup"),
    ],
)
def test_what_was_asked_wrongly_is_one_sentence(images, tiny_data, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "tiny").symlink_to(tiny_data)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as end:
        cli.main(["annotate", *arguments, "--port", "0", "--no-browser"])
    error = capsys.readouterr().err
    assert end.value.code == 2 and message in error.replace("\n", " "), error
    assert {path.name for path in {*tmp_path.rglob("*")} - {*before}} <= {"annotate.json", "photographs-annotated"}
