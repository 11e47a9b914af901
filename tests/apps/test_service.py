"""The service over HTTP: what it answers, what it refuses, many clients at once, limits, the end."""

from __future__ import annotations

import base64
import io
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from compnet3d.cli import main as cli
from compnet3d.data.transforms import InputConfig
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Pose
from compnet3d.inference.detection import Detections
from compnet3d.inference.prediction import Prediction
from compnet3d.models.backbones import BackboneConfig
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from tests.networks import TINY_RESNET

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")
pydantic = pytest.importorskip("pydantic")

from compnet3d.apps.jobs import JobPredictor  # noqa: E402
from compnet3d.apps.service import Limits, Service, build_app, listen  # noqa: E402
from compnet3d.apps.service_schema import ObjectAnswer  # noqa: E402


class GreyModel:
    """Its confidence is how light the crop's middle is; it refuses black ones, and can be held."""

    categories = ("grey",)
    input_config = InputConfig(height=32, width=32, focal=40.0, distance=4.0, box_fill=0.7)

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.let_on = threading.Event()
        self.let_on.set()

    def predict_crops(self, images, *, category=None, unseen=False, crop="oracle"):
        self.begun.release()
        assert self.let_on.wait(timeout=30)
        light = images[:, 0, 16, 16].float() / 255
        if (light == 0).any():
            raise ZeroDivisionError("a fault on black")
        count = len(images)
        return Prediction(
            categories=self.categories,
            category_index=torch.zeros(count, dtype=torch.long),
            scores=light[:, None],
            confidence=light,
            pose=Pose.of(torch.full((count,), 0.5), 0.25, 6.2, 4.0),
            focal=torch.full((count,), 40.0),
            principal_point=torch.full((count, 2), 16.0),
        )


class HalfDetector:
    """Finds the left half, and nothing in a white image."""

    def detect(self, image, count):
        boxes = torch.tensor([[0.0, 0, image.width / 2, image.height]])
        return Detections(boxes, torch.tensor([0.75])).first(0 if image.getpixel((0, 0)) == (255, 255, 255) else count)


def picture(grey: int, size: tuple[int, int] = (20, 16)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size, grey).save(file, "PNG")
    return file.getvalue()


def huge_picture() -> bytes:
    """The first bytes of a PNG of 60000 x 60000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\x0aIDAT" + b"\0" * 14


Start = Callable[..., "Running"]


class Running:
    """A service that listens."""

    def __init__(self, limits: Limits, detector: Any = None, batch: int = 4) -> None:
        self.model = GreyModel()
        self.service = Service(JobPredictor(self.model, detector, batch, 1_000_000), limits)
        self.socket = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.server = uvicorn.Server(uvicorn.Config(build_app(self.service, "grey"), log_level="error"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def post(self, *images: bytes, **fields: str) -> Any:
        files = [("image", (f"{number}.png", data)) for number, data in enumerate(images)]
        return self.client.post("/v1/predict", files=files, data=fields)

    def post_json(self, **request: Any) -> Any:
        return self.client.post("/v1/predict", json=request)

    def inside(self) -> int:
        text = self.client.get("/metrics").text
        return int(text.split("\ncompnet3d_queue_length ")[1].split("\n")[0])

    def stop(self) -> None:
        self.model.let_on.set()
        self.server.should_exit = True
        self.thread.join(timeout=60)
        self.client.close()


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Running] = []

    def begin(*arguments: Any, **settings: Any) -> Running:
        running.append(Running(*arguments, **settings))
        return running[-1]

    yield begin
    for one in running:
        one.stop()


def encoded(grey: int) -> str:
    return base64.b64encode(picture(grey)).decode()


def greys(response: Any) -> list[int]:
    assert response.status_code == 200, response.text
    return [round(255 * answer["confidence"]) for answer in response.json()]


def refusal(response: Any) -> tuple[int, str]:
    assert list(response.json()) == ["detail"]
    return response.status_code, response.json()["detail"]


def test_files_and_json_give_the_same_and_it_fits_the_schema(start):
    service = start(Limits(), HalfDetector())
    boxes: list[Any] = ["whole", [[2, 2, 18, 14], [-10, 0, 10, 16]], None]
    form = service.post(
        *map(picture, (10, 20, 30)), boxes=json.dumps(boxes), degrees="true", objects="2", convention="opencv"
    )
    images = [
        {"data": encoded(grey), "name": f"{number}.png", "boxes": where}
        for number, (grey, where) in enumerate(zip((10, 20, 30), boxes, strict=True))
    ]
    same = service.post_json(images=images, degrees=True, objects=2, convention="opencv")
    assert form.json() == same.json()
    assert greys(form) == [10, 20, 20, 30]
    answers = form.json()
    assert [answer["image"] for answer in answers] == ["0.png", "1.png", "1.png", "2.png"]
    assert answers[0]["box"] == [0, 0, 20, 16] and answers[1]["box"] == [2, 2, 18, 14]
    assert answers[2]["box_beyond_image"] == 0.5 and "box_beyond_image" not in answers[1]
    assert answers[3]["box"] == [0, 0, 10, 16] and answers[3]["detection"] == {"score": 0.75, "label": None}
    assert answers[0]["azimuth_deg"] == pytest.approx(np.degrees(0.5), abs=1e-4)
    assert np.linalg.det(answers[0]["R"]) == pytest.approx(1.0) and answers[0]["K"][0][2] == 9.5
    pydantic.TypeAdapter(list[ObjectAnswer]).validate_json(form.text)


def test_an_image_in_which_nothing_is_found_has_no_answer(start):
    service = start(Limits(), HalfDetector())
    assert greys(service.post(picture(255))) == []
    assert greys(service.post(picture(255), picture(9))) == [9]


@pytest.mark.parametrize(
    ("fields", "images", "status", "sentence"),
    [
        ({}, [b"no image"], 422, "image 1 (0.png) is not an image that can be read"),
        ({}, [picture(5), picture(5)[:45]], 422, "image 2 (1.png) is damaged"),
        ({}, [b""], 422, "image 1 (0.png) is not an image"),
        ({}, [picture(5), huge_picture()], 422, "image 2 (1.png) has 60000 x 60000 pixels, more than the limit of 1 "),
        ({"boxes": "[[[3, 3, 2, 9]]]"}, [picture(5)], 422, "image 1 (0.png): the box (3.0, 3.0, 2.0, 9.0) is empty"),
        ({"boxes": '["whole"]'}, [picture(5)] * 2, 422, "boxes: has 1 entries for 2 images"),
        ({"boxes": "[null, 7]"}, [picture(5)] * 2, 422, "boxes.2: an image has a list of boxes"),
        ({"boxes": "[" * 100_000}, [picture(5)], 422, "boxes: is not valid JSON"),
        ({"boxes": "[[[NaN, 0, 1, 1]]]"}, [picture(5)], 422, "boxes.1: an image has"),
        ({"degrees": "yes"}, [picture(5)], 422, "degrees: is not valid JSON"),
        ({"degrees": "1"}, [picture(5)], 422, "degrees: Input should be a valid boolean"),
        ({"objects": "0"}, [picture(5)], 422, "objects: Input should be greater than or equal to 1"),
        ({"objects": "40"}, [picture(5)] * 2, 422, "80 objects are asked for, more than the limit of 64"),
        ({"convention": "opengl3"}, [picture(5)], 422, "convention: Input should be"),
        ({"degree": "true"}, [picture(5)], 422, "degree: Extra inputs are not permitted"),
        ({}, [picture(5)] * 65, 400, "Too many files"),
        ({}, [picture(0)], 500, "a fault of compnet3d"),
    ],
)
def test_what_is_wrong_with_a_form_is_said(start, fields, images, status, sentence):
    service = start(Limits(), HalfDetector())
    found = refusal(service.post(*images, **fields))
    assert found[0] == status and found[1].startswith(sentence)
    assert greys(service.post(picture(77))) == [77]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("{", "Invalid JSON"),
        ("[]", "Input should be an object"),
        ('{"images": []}', "images: List should have at least 1 item"),
        ('{"images": [{"data": "????"}]}', "image 1: its data is not base64"),
        ('{"images": [{"data": "AAAA", "name": "a.jpg"}]}', "image 1 (a.jpg) is not an image"),
        ('{"images": [{"data": "AAAA", "boxes": [[1, 2, 3]]}]}', "images.1.boxes: an image has a list of boxes"),
        ('{"images": [{"data": "AAAA"}], "objects": "2"}', "objects: Input should be a valid integer"),
        ('{"images": [{"data": "AAAA", "url": "http://x"}]}', "images.1.url: Extra inputs are not permitted"),
    ],
)
def test_what_is_wrong_with_json_is_said(start, body, sentence):
    service = start(Limits(), HalfDetector())
    found = service.client.post("/v1/predict", content=body, headers={"content-type": "application/json"})
    assert refusal(found)[0] == 422 and refusal(found)[1].startswith(sentence)


def test_other_bodies_and_fields_are_refused(start):
    service = start(Limits(), None)
    text = {"content-type": "text/plain"}
    assert refusal(service.client.post("/v1/predict", content=b"a", headers=text))[0] == 415
    no_form = {"content-type": "multipart/form-data"}
    assert refusal(service.client.post("/v1/predict", content=b"a", headers=no_form))[0] == 400
    assert refusal(service.client.post("/v1/predict", files={"file": b"a"}))[1].startswith(
        "file: files are sent as image"
    )
    assert refusal(service.client.post("/v1/predict", data={"image": "a"}, files={"x": b""}))[0] == 422
    assert "no boxes, and this model cannot search" in refusal(service.post(picture(4)))[1]
    assert refusal(service.client.get("/v1/predict"))[0] == 405 and refusal(service.client.get("/none"))[0] == 404


def test_a_large_body_is_refused_whether_or_not_its_size_is_told(start):
    service = start(Limits(body=20_000), None)
    assert greys(service.post(picture(9), boxes='["whole"]')) == [9]
    assert refusal(service.post(b"\0" * 100_000)) == (413, "the body has more than 0.02 MB; send less at once")
    pieces = (b"\0" * 1000 for _ in range(100))
    kind = {"content-type": "application/json"}
    assert refusal(service.client.post("/v1/predict", content=pieces, headers=kind))[0] == 413


def test_answers_of_many_clients_are_their_own(start):
    service = start(Limits(), HalfDetector(), batch=8)

    def ask(thread: int) -> None:
        draw = np.random.default_rng(thread)
        with httpx.Client(base_url=service.url, timeout=60) as client:
            for _ in range(12):
                kind, shades = draw.integers(5), [int(grey) for grey in draw.integers(1, 255, size=draw.integers(1, 4))]
                files = [("image", (f"{thread}-{grey}.png", picture(grey))) for grey in shades]
                bad = {0: b"broken", 1: huge_picture(), 2: picture(0)}.get(int(kind))
                if bad is not None:
                    files.append(("image", ("bad.png", bad)))
                response = client.post("/v1/predict", files=files)
                if bad is None:
                    assert greys(response) == shades
                    assert [answer["image"] for answer in response.json()] == [name for _, (name, _) in files]
                else:
                    expected = 500 if kind == 2 else 422
                    assert response.status_code == expected
                    assert kind == 2 or f"image {len(files)} (bad.png)" in response.json()["detail"]

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(ask, range(16)))
    found = service.client.get("/metrics").text
    answered = sum(int(line.split()[-1]) for line in found.splitlines() if line.startswith("compnet3d_requests_total"))
    assert answered == 16 * 12 and service.inside() == 0


def ask_in_threads(service: Running, greys_asked: list[int]) -> tuple[ThreadPoolExecutor, list[Any]]:
    threads = ThreadPoolExecutor(len(greys_asked))

    def ask(grey: int) -> Any:
        with httpx.Client(base_url=service.url, timeout=60) as client:
            return client.post("/v1/predict", files={"image": picture(grey)})

    return threads, [threads.submit(ask, grey) for grey in greys_asked]


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_a_full_queue_tells_when_to_come_again(start):
    service = start(Limits(requests=3), HalfDetector())
    service.model.let_on.clear()
    threads, waiting = ask_in_threads(service, [40, 50, 60])
    until(lambda: service.inside() == 3)
    refused = service.post(picture(70))
    assert refusal(refused) == (503, "3 requests are waiting already; try again later")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert service.client.get("/healthz").json() == {"status": "ok"}
    service.model.let_on.set()
    assert [greys(one.result()) for one in waiting] == [[40], [50], [60]]
    assert greys(service.post(picture(70))) == [70]
    threads.shutdown()


def test_what_takes_too_long_is_given_up(start):
    service = start(Limits(seconds=0.3), HalfDetector())
    service.model.let_on.clear()
    assert refusal(service.post(picture(40)))[0] == 504
    assert service.inside() == 0
    service.model.let_on.set()
    assert greys(service.post(picture(50))) == [50]


def test_a_body_that_never_ends_is_given_up(start):
    service = start(Limits(seconds=0.3), HalfDetector())
    head = "POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
    with socket.create_connection(service.socket.getsockname(), timeout=30) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 504 ")


def test_the_end_answers_what_waits(start):
    service = start(Limits(), HalfDetector(), batch=1)
    service.model.let_on.clear()
    threads, waiting = ask_in_threads(service, [40, 50, 60, 70])
    until(lambda: service.inside() == 4)
    service.server.should_exit = True
    service.model.let_on.set()
    assert [greys(one.result()) for one in waiting] == [[40], [50], [60], [70]]
    service.thread.join(timeout=60)
    assert not service.thread.is_alive() and not service.service.alive
    threads.shutdown()


def test_pages_load_nothing_from_elsewhere(start):
    service = start(Limits(), None)
    page = service.client.get("/").text
    assert "/v1/predict" in page and "/healthz" in page and "http" not in page.lower().replace("over http", "")
    assert "<script" not in page and service.client.get("/docs").status_code == 404
    described = service.client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/v1/predict", "/healthz", "/metrics"}
    post = described["paths"]["/v1/predict"]["post"]
    assert set(post["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert "#/$defs" not in json.dumps(described)


def test_a_service_whose_model_has_ended_is_not_well(start):
    service = start(Limits(), None)
    service.service.close()
    assert refusal(service.client.get("/healthz"))[0] == 503


def test_an_address_in_use_is_named():
    with listen("127.0.0.1", 0) as taken, pytest.raises(CompNetError, match=r"127\.0\.0\.1:\d+: cannot be listened on"):
        listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(CompNetError, match="99999: cannot be listened on"):
        listen("127.0.0.1", 99999)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_the_command_serves_what_predict_writes_and_ends_well(tmp_path, capsys, number):
    config = CompNetConfig(
        categories=("brick", "tower"),
        bounds=(((-0.5, -0.2, -0.2), (0.5, 0.2, 0.2)), ((-0.2, -0.2, -0.5), (0.2, 0.2, 0.5))),
        backbone=BackboneConfig(family="resnet", architecture=TINY_RESNET, dimension=16),
        input_config=InputConfig(height=64, width=64, focal=120.0, distance=3.0, box_fill=0.7),
        vertex_count=40,
        background_size=8,
    )
    CompNet(config).save_pretrained(tmp_path / "model")
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    command = [sys.executable, "-m", "compnet3d", "serve", str(tmp_path / "model"), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split(" on ")[1].split()[0]
        assert url.startswith("http://127.0.0.1:")
        files = {"image": (str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes())}
        answer = httpx.post(f"{url}/v1/predict", files=files, data={"boxes": "[[[5, 5, 50, 35]]]"}, timeout=60)
        process.send_signal(number)
        assert process.wait(timeout=60) == 0
        assert process.stdout.read() == "ended: all that was asked has been answered\n"
    box = ["--box", "5", "5", "50", "35"]
    cli.main(["predict", str(tmp_path / "model"), str(tmp_path / "a.png"), "--json", "-", *box])
    same(answer.json(), json.loads(capsys.readouterr().out))


def same(found: Any, expected: Any) -> None:
    """Equal but for rounding."""
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-4, rel=1e-4)
    else:
        assert found == expected


def test_what_is_missing_is_named_with_its_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    with pytest.raises(SystemExit) as end:
        cli.main(["serve", "nowhere"])
    assert end.value.code == 2
    assert 'the service needs python_multipart; install what serves: pip install "compnet3d[serve]"' in " ".join(
        capsys.readouterr().err.split()
    )
