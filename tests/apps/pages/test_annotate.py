"""The annotation page in a real browser: a user drags, types and saves, and numpy reads what is on the disk."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from compnet3d.data.check import check_dataset
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.images import load_image
from compnet3d.data.transforms import crop_box
from compnet3d.geometry.camera import Camera, Pose
from compnet3d.geometry.mesh import load_off
from compnet3d.geometry.rotations import rotmat_geodesic_distance
from compnet3d.models.compnet import CompNet
from tests.networks import TINY_CONFIG

pytest.importorskip("playwright.sync_api")
pytest.importorskip("fastapi")
pytestmark = pytest.mark.slow

READY = "#save:not([disabled])"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        Image.fromarray(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)).save(folder / f"{name}.jpg")
    (folder / "aa.jpg").write_text("no image")
    (folder / "notes.txt").write_text("x")
    return folder


class Server:
    """The command, and its page's address."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "compnet3d", "annotate", *arguments, "--port", "0", "--no-browser"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found is not None, line + self.process.communicate()[1]
        self.address = found[0]

    def end(self) -> tuple[str, str]:
        self.process.terminate()
        return self.process.communicate(timeout=60)


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[Server]:
    started = Server(str(folder), "--category", "mug", "--out", str(tmp_path / "out"))
    yield started
    started.process.kill()
    started.process.communicate()


def opened(browser: Any, address: str, size: tuple[int, int] = (1280, 800)) -> Any:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(address)
    page.wait_for_selector(READY)
    return page


def pose_of(page: Any) -> list[float]:
    return [float(page.input_value(f"#{name}")) for name in ("azimuth", "elevation", "theta")]


def title(page: Any) -> str:
    return page.text_content('#list [aria-current="true"] .title')


def drag(page: Any, dx: float, dy: float, button: str = "left", start: tuple[float, float] = (0.0, 0.0)) -> None:
    box = page.locator("#view").bounding_box()
    x, y = box["x"] + box["width"] / 2 + start[0], box["y"] + box["height"] / 2 + start[1]
    page.mouse.move(x, y)
    page.mouse.down(button=button)
    page.mouse.move(x + dx, y + dy, steps=5)
    page.mouse.up(button=button)


def save(page: Any, done: str, key: str = "Enter") -> None:
    page.keyboard.press(key)
    page.wait_for_selector(f"#count:text-is('{done} done')")
    page.wait_for_selector(READY)


def entry_of(root: Path, name: str) -> dict[str, Any]:
    """As numpy alone reads it."""
    (entry,) = np.load(root / "annotations" / "mug" / f"{name}.npz", allow_pickle=True)["annotations"]
    return entry


def test_dragged_saved_and_on_the_disk(browser, server, tmp_path):
    page, root = opened(browser, server.address), tmp_path / "out"
    assert title(page) == "a" and pose_of(page) == [30.0, 20.0, 0.0]
    assert page.text_content("#left-out") == "1 left out: notes.txt"
    drag(page, -60, 20)
    azimuth, elevation, theta = pose_of(page)
    assert azimuth > 35 and elevation > 22 and theta == 0
    drag(page, 40, -30, button="right")
    page.mouse.wheel(0, -300)
    page.keyboard.press("q")
    assert pose_of(page)[2] == 2.0
    for i, side in enumerate((1.0, 2.0, 0.5)):
        page.fill(f"#size-{i}", str(side))
    page.press("#size-2", "Enter")
    page.fill("#azimuth", "75.5")
    page.press("#azimuth", "Enter")
    save(page, "1 of 3")
    assert title(page) == "b"
    entry = entry_of(root, "a")
    assert np.degrees(entry["azimuth"]) == pytest.approx(75.5, abs=0.06)
    assert np.degrees(entry["elevation"]) == pytest.approx(elevation, abs=0.06)
    assert np.degrees(entry["theta"]) == pytest.approx(2.0, abs=1e-6)
    assert (entry["width"], entry["height"], entry["viewport"] * entry["focal"]) == (640, 480, 3000.0)
    mesh = load_off(root / "CAD" / "mug" / "01.off")
    assert (mesh.vertices.amax(0) - mesh.vertices.amin(0)).tolist() == [1.0, 2.0, 0.5]
    # the box is that of the shape as the library projects it
    camera = Camera(
        focal=torch.tensor(3000.0, dtype=torch.float64),
        principal_point=torch.tensor([entry["px"], entry["py"]], dtype=torch.float64),
        height=480,
        width=640,
    )
    angles = (entry[name] for name in ("azimuth", "elevation", "theta", "distance"))
    pixels, _ = camera.project(mesh.vertices.double(), Pose.of(*angles, dtype=torch.float64))
    box = torch.cat([pixels.amin(0), pixels.amax(0)]).clamp_min(0)
    limits = torch.tensor([640.0, 480.0, 640.0, 480.0], dtype=torch.float64)
    np.testing.assert_allclose(entry["bbox"], torch.minimum(box, limits).numpy(), atol=0.01)
    assert (root / "lists" / "mug_imagenet_train.txt").read_text() == "a\n"
    assert check_dataset(root).summary().endswith("0 errors, 0 warnings, 0 notes")
    assert page.faults == []


def test_the_next_starts_from_the_last_and_a_reload_goes_on(browser, server, tmp_path):
    page = opened(browser, server.address)
    drag(page, -200, 50)
    drag(page, 30, 20, button="right")
    first = pose_of(page)
    save(page, "1 of 3")
    assert title(page) == "b" and pose_of(page) == first
    page.keyboard.press("ArrowLeft")
    assert pose_of(page)[0] == pytest.approx(first[0] + 5, abs=0.11)
    second = pose_of(page)
    save(page, "2 of 3")
    before, after = entry_of(tmp_path / "out", "a"), entry_of(tmp_path / "out", "b")
    assert (before["px"], before["py"], before["distance"]) == (after["px"], after["py"], after["distance"])
    page.reload()
    page.wait_for_selector(READY)
    assert title(page) == "c" and pose_of(page) == second
    page.keyboard.press("s")
    page.wait_for_selector("#list .skipped")
    assert page.text_content("#count") == "2 of 3 done"
    # the command itself is started anew, too
    out, err = server.end()
    assert "2 of 4 are annotated" in out and "aa.jpg is not an image" in err and "left out: notes.txt" in err
    again = Server(str(tmp_path / "photographs"), "--category", "mug", "--out", str(tmp_path / "out"))
    try:
        page.goto(again.address)
        page.wait_for_selector(READY)
        page.wait_for_selector("#count:text-is('2 of 3 done')")
        assert pose_of(page)[0] == first[0] and page.is_disabled("#size-0")
    finally:
        again.end()


def test_undo_redo_and_a_box_by_hand(browser, server, tmp_path):
    page = opened(browser, server.address)
    start = pose_of(page)
    boxes = lambda: [int(page.input_value(f"#box-{i}")) for i in range(4)]  # noqa: E731
    before = boxes()
    drag(page, -80, 0)
    turned = pose_of(page)
    page.click("#round")
    assert abs(abs(pose_of(page)[0] - turned[0]) - 180) < 0.11
    page.keyboard.press("Control+z")
    assert pose_of(page) == turned
    page.keyboard.press("Control+z")
    assert pose_of(page) == start and boxes() == before and page.is_disabled("#undo")
    page.keyboard.press("Control+Shift+Z")
    assert pose_of(page) == turned
    page.click("#undo")
    page.fill("#box-0", str(before[0] + 40))
    page.press("#box-0", "Enter")
    assert boxes() == [before[0] + 40, *before[1:]]
    page.keyboard.press("Shift+ArrowRight")  # what was drawn by hand is the object's
    page.keyboard.press("+")
    assert boxes() == [before[0] + 40, *before[1:]]
    save(page, "1 of 3")
    assert entry_of(tmp_path / "out", "a")["bbox"][0] == before[0] + 40
    page.keyboard.press("PageUp")  # not to aa, which cannot be read
    page.wait_for_selector('#list [aria-current="true"] .title:text-is("a")')
    page.wait_for_selector(READY)
    assert boxes()[0] == before[0] + 40
    page.click('#list .title:text-is("b")')
    page.wait_for_selector('#list [aria-current="true"] .title:text-is("b")')
    page.wait_for_selector(READY)
    save(page, "2 of 3")  # Enter is not one more click on the list
    page.click('#list .title:text-is("a")')
    page.wait_for_selector('#list [aria-current="true"] .title:text-is("a")')
    page.wait_for_selector(READY)
    page.keyboard.press("b")
    assert abs(boxes()[0] - before[0]) < 12
    page.keyboard.press("r")
    drag(page, 150, 120, start=(-50, -50))
    x1, y1, x2, y2 = drawn = boxes()
    page.keyboard.press("b")  # the shape fills what was drawn
    fitted = boxes()
    assert max(fitted[2] - fitted[0], fitted[3] - fitted[1]) == pytest.approx(max(x2 - x1, y2 - y1), abs=2)
    assert fitted[0] + fitted[2] == pytest.approx(drawn[0] + drawn[2], abs=3)
    view = page.locator("#view").bounding_box()
    scale = min(view["width"] / 640, view["height"] / 480)
    assert max(x2 - x1, y2 - y1) == pytest.approx(150 / scale, abs=2)


def test_a_handle_of_the_box_is_dragged(browser, server):
    page = opened(browser, server.address)
    view = page.locator("#view").bounding_box()
    scale = min(view["width"] / 640, view["height"] / 480)
    box = [int(page.input_value(f"#box-{i}")) for i in range(4)]
    corner = ((box[2] - 320) * scale, (box[3] - 240) * scale)
    azimuth = pose_of(page)[0]
    drag(page, 20 * scale, 10 * scale, start=corner)
    after = [int(page.input_value(f"#box-{i}")) for i in range(4)]
    assert after == pytest.approx([*box[:2], box[2] + 20, box[3] + 10], abs=1) and pose_of(page)[0] == azimuth


def test_two_tabs(browser, server, tmp_path):
    first, second = opened(browser, server.address), opened(browser, server.address)
    drag(first, -80, 0)
    save(first, "1 of 3")
    kept = entry_of(tmp_path / "out", "a")["azimuth"]
    drag(second, 80, 0)
    mine = pose_of(second)[0]
    second.keyboard.press("Enter")
    second.wait_for_selector("#message.bad")
    assert "was changed in another window" in second.text_content("#message")
    assert entry_of(tmp_path / "out", "a")["azimuth"] == kept and pose_of(second)[0] == mine
    save(second, "1 of 3")
    assert np.degrees(entry_of(tmp_path / "out", "a")["azimuth"]) == pytest.approx(mine % 360, abs=0.06)


def test_keys_alone_are_enough(browser, server, tmp_path):
    page = opened(browser, server.address)
    for key in ("ArrowLeft", "ArrowDown", "Shift+ArrowUp", "+", "q", "Alt+ArrowLeft", "]", "f"):
        page.keyboard.press(key)
    # a quarter and a half turn, 5 and 1 degrees
    assert pose_of(page) == pytest.approx([30 + 5 + 1 + 90 + 180 - 360, 25, 2], abs=0.11)
    save(page, "1 of 3")
    save(page, "2 of 3", key="Control+Enter")
    save(page, "3 of 3")
    assert page.text_content("#message").startswith("All photographs are done.")
    assert len((tmp_path / "out" / "lists" / "mug_imagenet_train.txt").read_text().split()) == 3


@pytest.mark.parametrize("size", [(1280, 800), (1366, 657)])
def test_nothing_overlaps_or_is_cut_off(browser, server, size):
    page = opened(browser, server.address, size)
    inside = page.evaluate(
        """() => [...document.querySelectorAll("header *, main button, nav label, .legend, .legend *, .steps")]
          .filter((one) => one.checkVisibility())
          .map((one) => [one.id || one.className || one.tagName, one.getBoundingClientRect()])
          .filter(([name, box]) => box.right > innerWidth + 1 || box.bottom > innerHeight + 1 || box.left < 0)
          .map(([name]) => name)"""
    )
    assert inside == []
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    assert page.evaluate(
        "[...document.querySelectorAll('button, input, select')].every((one) => one.textContent.trim() || one.title"
        " || one.labels?.length)"
    )


@pytest.mark.parametrize("width", [360, 683])
def test_a_narrow_window_has_all_below_each_other(browser, server, width):
    page = opened(browser, server.address, (width, 800))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    main, photographs, side = (page.locator(name).bounding_box() for name in ("main", "nav", "aside"))
    assert (
        main["y"] + main["height"] <= photographs["y"] + 1 and photographs["y"] + photographs["height"] <= side["y"] + 1
    )
    stage = page.locator("#view").bounding_box()
    assert stage["width"] > 0.9 * width and stage["height"] > 300


def test_several_objects_and_taking_one_back(browser, server, tmp_path):
    page = opened(browser, server.address)
    save(page, "1 of 3")
    page.click("#list li:first-child button")
    page.wait_for_selector("#clear:not([disabled])")
    page.click("#another")
    page.wait_for_selector('#list [aria-current="true"] .title:text-is("a, object 2")')
    page.wait_for_selector(READY)
    drag(page, 100, 0, button="right")
    page.keyboard.press("Enter")
    page.wait_for_selector('#list [aria-current="true"] .title:text-is("b")')
    objects = np.load(tmp_path / "out" / "annotations" / "mug" / "a.npz", allow_pickle=True)["annotations"]
    assert len(objects) == 2 and objects[1]["px"] > objects[0]["px"] + 50
    page.click("#list li:first-child button")
    page.wait_for_selector("#clear:not([disabled])")
    page.click("#clear")
    page.wait_for_selector("#message:text-is('deleted')")
    assert entry_of(tmp_path / "out", "a")["px"] == objects[1]["px"]


def test_a_model_proposes_and_a_data_set_is_corrected(browser, tiny_maker, tmp_path):
    root = tiny_maker(tmp_path / "tiny", images=2)
    model = CompNet(TINY_CONFIG).eval()
    model.save_pretrained(tmp_path / "model")
    expected, poses = {}, {}
    for sample in ImageNet3D(root, ["brick"]).samples("train") + ImageNet3D(root, ["brick"]).samples("val"):
        crop = crop_box(load_image(sample.image), sample.bbox, model.input_config)
        pixels = torch.from_numpy(crop.image.copy()).permute(2, 0, 1)[None]
        answer = model.predict_crops(pixels, category=torch.tensor([0]), crop="box")
        true = Pose.of([sample.azimuth], sample.elevation, sample.theta)
        poses[sample.name] = answer[0].angles(degrees=True)
        expected[sample.name] = np.degrees(float(rotmat_geodesic_distance(answer.pose.to_matrix(), true.to_matrix())))
    started = Server(str(root), "--category", "brick", "--model", str(tmp_path / "model"), "--device", "cpu")
    try:
        page = opened(browser, started.address)
        assert page.text_content("#count") == "4 of 4 done"
        for name in expected:
            page.wait_for_selector(f"#list button:has(.title:text-is('{name}')) .state:has-text('off')")
            state = page.text_content(f"#list button:has(.title:text-is('{name}')) .state")
            assert int(re.findall(r"(\d+)\u00b0", state)[0]) == pytest.approx(expected[name], abs=1)
        page.select_option("#order", "disagreement")
        shown = page.locator("#list .title").all_text_contents()
        assert shown == sorted(expected, key=lambda name: -expected[name])
        worst = shown[0]
        page.click(f"#list .title:text-is('{worst}')")
        page.wait_for_selector(f"#list [aria-current='true'] .title:text-is('{worst}')")
        page.wait_for_selector(READY)
        page.keyboard.press("p")
        page.wait_for_selector("#message:has-text('check the front')")
        assert page.text_content("#opinion").startswith("Agrees with this pose")
        assert pose_of(page) == pytest.approx(poses[worst], abs=0.11)
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#list button:has(.title:text-is('{worst}')) .state:has-text(' 0\u00b0 off')")
        assert page.faults == []
    finally:
        started.end()
    (entry,) = np.load(root / "annotations" / "brick" / f"{worst}.npz", allow_pickle=True)["annotations"]
    assert np.degrees(entry["azimuth"]) == pytest.approx(poses[worst].azimuth % 360, abs=0.11)
    assert check_dataset(root).count("error") == 0
