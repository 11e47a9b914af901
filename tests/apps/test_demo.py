"""The demo in a real browser, and what it hands to the browser."""

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

gradio = pytest.importorskip("gradio")
trimesh = pytest.importorskip("trimesh")

from compnet3d.apps import demo  # noqa: E402
from compnet3d.apps.demo_answers import Change, answer  # noqa: E402
from compnet3d.cli.demo import _named  # noqa: E402
from compnet3d.errors import CompNetError  # noqa: E402
from compnet3d.models.dual_head import DualHead, DualHeadConfig  # noqa: E402
from tests.networks import TINY_CONFIG, random_compnet  # noqa: E402

BOX = (10.0, 20.0, 70.0, 60.0)


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (90, 120, 3), dtype=np.uint8))


def test_the_mesh_is_turned_as_the_camera_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    shown = answer({"one": random_compnet(TINY_CONFIG)}, "one", picture(), "box", BOX, Change())
    path = Path(demo._glb(shown))
    assert path.parent == tmp_path
    mesh = trimesh.load(path, force="mesh", process=False)
    seen = torch.einsum("ij,vj->vi", shown.pose.to_matrix(), shown.mesh.vertices)
    assert np.allclose(mesh.vertices, seen.numpy(), atol=1e-5)
    # the camera looks along -z: the nearest vertex of the object is the one with the largest z
    direction = shown.pose.camera_centre() / shown.pose.camera_centre().norm()
    assert int((shown.mesh.vertices @ direction).argmax()) == int(mesh.vertices[:, 2].argmax())
    assert np.array_equal(mesh.visual.vertex_colors[:, :3], shown.colours.numpy())


def test_models_have_short_names_that_differ() -> None:
    assert list(_named([Path("runs/a/run"), Path("runs/b/model"), Path("toys")])) == ["a", "b", "toys"]
    assert list(_named([Path("x/a/run"), Path("y/a/run")])) == ["x/a/run", "y/a/run"]
    with pytest.raises(CompNetError, match="named twice"):
        _named([Path("a"), Path("a")])


# -- in the browser --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, and images good and bad."""
    folder = tmp_path_factory.mktemp("demo")
    torch.manual_seed(0)
    random_compnet(TINY_CONFIG).save_pretrained(folder / "first" / "model")
    heads = DualHeadConfig(TINY_CONFIG.categories, TINY_CONFIG.bounds, TINY_CONFIG.backbone, TINY_CONFIG.input_config)
    DualHead(heads).save_pretrained(folder / "heads" / "model")
    (folder / "examples").mkdir()
    picture(1).save(folder / "examples" / "one.png")
    picture(2).save(folder / "good.png")
    picture(3).save(folder / "other.png")
    (folder / "broken.png").write_bytes(b"no image at all")
    (folder / "words.txt").write_text("words")
    Image.new("L", (3000, 2000)).save(folder / "huge.png")
    (folder / "fat.png").write_bytes(b"\0" * 3_000_000)
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """A running demo."""
    line = [sys.executable, "-m", "compnet3d", "demo", str(folder / "first"), str(folder / "heads"), "--port", "0"]
    line += ["--examples", str(folder / "examples"), "--no-browser", "--megapixels", "4", "--file-mb", "2"]
    with subprocess.Popen([*line, "--device", "cpu"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found is not None
        yield found[0]
        process.terminate()
        assert process.wait(timeout=30) in (0, 143)


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, freshly opened, which must not ask for anything beyond this machine."""
    outside: list[str] = []
    context = browser.new_context(viewport={"width": 1366, "height": 900})
    opened = open_page(context, address, outside)
    yield opened
    context.close()
    assert outside == []


def open_page(context: Any, address: str, outside: list[str]) -> Any:
    opened = context.new_page()
    opened.on("request", lambda request: outside.append(request.url) if is_outside(request.url, address) else None)
    opened.goto(address)
    opened.wait_for_selector("#predict", timeout=60_000)
    return opened


def is_outside(url: str, address: str) -> bool:
    return not url.startswith((address, address.replace("http", "ws"), "data:", "blob:"))


def upload(page: Any, path: Path) -> None:
    page.set_input_files("#image input[type=file]", str(path))


def headline(page: Any, *, other_than: str = "") -> str:
    """The answer, once there is another than before."""
    page.wait_for_function(
        "before => { const shown = document.querySelector('#headline .answer');"
        " return shown && shown.innerText !== before; }",
        arg=other_than,
        timeout=60_000,
    )
    return str(page.inner_text("#headline .answer"))


@pytest.mark.slow
def test_upload_predict_and_explain(page: Any, folder: Path) -> None:
    upload(page, folder / "good.png")
    before = headline(page)
    page.click("#place label:has-text('search for it')")
    text = headline(page, other_than=before)
    assert re.search(r"(brick|tower), [\d.]+ % sure", text) and "azimuth" in text and "found in" in text
    # bars, overlay, three pictures of the explanation, and the mesh in 3D
    assert {"brick", "tower"} <= set(re.findall(r"brick|tower", page.inner_text("#bars")))
    page.wait_for_function(
        "[...document.querySelectorAll('button img, .image-frame img')].filter(i => i.naturalWidth > 200).length >= 4",
        timeout=30_000,
    )
    page.wait_for_selector("#solid canvas", timeout=30_000)
    # the dual head beside it
    rows = page.inner_text("#compared").splitlines()
    assert any(row.startswith("first") for row in rows) and any(row.startswith("heads") for row in rows)


@pytest.mark.slow
def test_a_box_is_dragged_or_typed(page: Any, folder: Path) -> None:
    upload(page, folder / "good.png")
    before = headline(page)
    seen = page.query_selector("#box canvas").bounding_box()
    page.mouse.move(seen["x"] + 0.25 * seen["width"], seen["y"] + 0.2 * seen["height"])
    page.mouse.down()
    page.mouse.move(seen["x"] + 0.75 * seen["width"], seen["y"] + 0.9 * seen["height"], steps=4)
    page.mouse.up()
    before = headline(page, other_than=before)
    fields = page.query_selector_all("#box input")
    assert np.allclose([float(field.input_value()) for field in fields], (30, 18, 90, 81), atol=1.5)
    assert page.query_selector("#place input:checked").get_attribute("value") == "in the box"
    fields[0].fill("5")
    fields[0].press("Tab")
    headline(page, other_than=before)


@pytest.mark.slow
def test_the_slider_hides_a_part(page: Any, folder: Path) -> None:
    upload(page, folder / "good.png")
    headline(page)
    before = page.inner_text("#compared")
    page.click("#spoil button")
    page.focus("#occlusion input[type=range]")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "before => document.querySelector('#compared').innerText !== before",
        arg=before,
        timeout=30_000,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("broken.png", "broken.png is not an image that can be read"),
        ("words.txt", "words.txt"),
        ("huge.png", "huge.png has 3000 x 2000 pixels, more than the limit of 4 megapixels"),
        ("fat.png", "maximum allowed size"),
    ],
)
def test_wrong_files_are_one_sentence_and_the_page_goes_on(page: Any, folder: Path, name: str, sentence: str) -> None:
    upload(page, folder / name)
    page.wait_for_function("text => document.body.innerText.includes(text)", arg=sentence, timeout=30_000)
    remove = page.query_selector("#image button[aria-label='Clear'], #image button[aria-label='Remove Image']")
    if remove is not None:
        remove.click()
    upload(page, folder / "good.png")
    headline(page)


@pytest.mark.slow
def test_two_users_at_once_get_their_own_answers(browser: Any, address: str, folder: Path) -> None:
    contexts = [browser.new_context() for _ in range(2)]
    pages = [open_page(context, address, []) for context in contexts]
    for one, name in zip(pages, ("good.png", "other.png"), strict=True):
        upload(one, folder / name)
    together = [headline(one).split("\n")[0] for one in pages]
    for one, name in zip(pages, ("other.png", "good.png"), strict=True):
        remove = one.query_selector("#image button[aria-label='Clear'], #image button[aria-label='Remove Image']")
        remove.click()
        upload(one, folder / name)
    swapped = [headline(one, other_than=one.inner_text("#headline .answer")).split("\n")[0] for one in pages]
    assert together == swapped[::-1]
    for context in contexts:
        context.close()


@pytest.mark.slow
def test_the_keyboard_alone_will_do(page: Any) -> None:
    def tab_to(what: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("what => document.activeElement.matches(what)", what):
                return
        pytest.fail(f"{what} cannot be reached")

    tab_to(".gallery-item, .gallery button, button.gallery-item")
    page.keyboard.press("Enter")
    before = headline(page)
    tab_to("#place input[value='search for it']")
    page.keyboard.press("Space")
    assert "found in" in headline(page, other_than=before)
    tab_to("#box input")
    page.keyboard.press("Control+a")
    page.keyboard.type("7")
    page.keyboard.press("Tab")
    page.wait_for_function("document.querySelector('#place input:checked').value === 'in the box'", timeout=30_000)
    tab_to("#predict")
    page.keyboard.press("Enter")
    headline(page)
