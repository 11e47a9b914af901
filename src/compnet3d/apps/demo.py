"""The demo: a page in the browser that shows what a model says of an image, and why."""

from __future__ import annotations

import base64
import html
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
import trimesh
from fastapi import FastAPI
from PIL import Image
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compnet3d.apps.demo_answers import LARGEST, Change, Shown, answer, category_shares
from compnet3d.data.images import decode_image, encode_preview, shrink
from compnet3d.errors import CompNetError
from compnet3d.inference.prediction import shown_angles
from compnet3d.models.registry import TrainedModel
from compnet3d.reporting.terminal import percent
from compnet3d.robustness.corruption import CORRUPTIONS
from compnet3d.utils.files import Json, read_bytes

PLACES = {"the whole image": "whole", "in the box": "box", "search for it": "search"}
FIRST = "<h2>&nbsp;</h2><p>Give an image, or choose an example.</p>"


@dataclass(frozen=True)
class DemoLimits:
    """What the demo takes on: bytes of a file, pixels of an image, visitors that wait."""

    file: int = 32_000_000
    pixels: int = 50_000_000
    queue: int = 32


def build_demo(
    models: Mapping[str, TrainedModel], examples: Sequence[Path] = (), limits: DemoLimits | None = None
) -> FastAPI:
    """The page, as an app to serve.

    Args:
        models: by the names that are shown.
        examples: images to choose from.
        limits: of what it takes on.
    """
    limits = limits or DemoLimits()
    page = _Page(models, limits)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_OnThisMachine)

    blocks = page.layout(examples)
    blocks.queue(max_size=limits.queue, api_open=False)
    # fonts of the machine: the library's would be fetched
    theme = gr.themes.Soft(
        primary_hue="teal", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    return gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        max_file_size=limits.file,
        allowed_paths=[str(path.resolve()) for path in examples],
        show_error=True,
        ssr_mode=False,
        enable_monitoring=False,
        theme=theme,
        css=_part("page.css"),
    )


class _OnThisMachine:
    """Adds the policy to every answer that the browser is to keep to."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # nothing beyond this machine is asked for, whatever the library's pages name
        policy = (
            "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
            "connect-src 'self' ws: data: blob:; frame-ancestors 'self'; form-action 'self'"
        )

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = policy
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self._app(scope, receive, send_with_policy)


@dataclass(frozen=True)
class _Page:
    """The components and what happens between them."""

    models: Mapping[str, TrainedModel]
    limits: DemoLimits

    def layout(self, examples: Sequence[Path]) -> gr.Blocks:
        names = list(self.models)
        # files of an hour ago are removed: nothing that was uploaded is kept
        # files of an hour ago are removed: nothing that was uploaded is kept
        with gr.Blocks(title="compnet3d", analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
            gr.Markdown("# compnet3d: what is it, and how is it turned?")
            with gr.Row():
                with gr.Column(scale=4, min_width=340):
                    model = gr.Dropdown(names, value=names[0], label="model", visible=len(names) > 1, elem_id="model")
                    image = gr.Image(
                        label="image", sources=["upload", "webcam", "clipboard"], image_mode=None, height=210,
                        elem_id="image", buttons=[],
                    )  # fmt: skip
                    if examples:
                        paths = [str(path) for path in examples]
                        gr.Examples(paths, image, label="or one of these", elem_id="examples", examples_per_page=12)
                    place = gr.Radio(
                        list(PLACES), value="the whole image", label="where is the object?", elem_id="place"
                    )
                    box = gr.HTML(
                        html_template=_part("box_picker.html"), css_template=_part("box_picker.css"),
                        js_on_load=_part("box_picker.js"), elem_id="box", label="box", value=None,
                    )  # fmt: skip
                    button = gr.Button("predict", variant="primary", elem_id="predict")
                    with gr.Accordion("hide or spoil a part of the image", open=False, elem_id="spoil"):
                        level = gr.Slider(
                            0,
                            3,
                            step=1,
                            value=0,
                            label="occlusion",
                            info="0 none, 1: 20-40 % of the box, 2: 40-60 %, 3: 60-80 %",
                            elem_id="occlusion",
                        )
                        corruption = gr.Dropdown(["none", *CORRUPTIONS], value="none", label="corruption")
                        severity = gr.Slider(1, 5, step=1, value=3, label="severity of the corruption")
                        again = gr.Button("other occluders", size="sm")
                with gr.Column(scale=8):
                    headline = gr.HTML(FIRST, elem_id="headline")
                    with gr.Row():
                        overlay = self._picture("the model at the predicted pose", 420)
                        with gr.Column(min_width=240):
                            bars = gr.Label(num_top_classes=5, label="category", elem_id="bars")
                            solid = gr.Model3D(label="turn it", height=230, clear_color=(0, 0, 0, 0), elem_id="solid")
                    compared = gr.HTML(elem_id="compared", visible=len(names) > 1)
                    with gr.Row():
                        matches = self._picture("matched vertices", 250)
                        regions = self._picture("explained or hidden", 250)
                        sphere = self._picture("hypotheses", 250)
                    gr.HTML(_part("legend.html"), elem_id="legend")
            seed = gr.State(0)
            asked = [model, image, place, box, level, corruption, severity, seed]
            shown = [box, headline, overlay, bars, solid, matches, regions, sphere, compared]
            # one at a time over all visitors: a model's caches belong to one thread
            options: Any = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}
            # images come as the files that were uploaded: reading them, and saying what is wrong with them, is ours
            options["preprocess"] = False
            image.change(self._prepare, image, box, **options).then(self._answer, asked, shown, **options)
            box.submit(lambda: "in the box", None, place, api_visibility="private").then(
                self._answer, asked, shown, **options
            )
            again.click(lambda value: value + 1, seed, seed, api_visibility="private").then(
                self._answer, asked, shown, **options
            )
            gr.on(
                [button.click, model.change, place.input, level.change, corruption.change, severity.change],
                self._answer, asked, shown, trigger_mode="always_last", **options,
            )  # fmt: skip
        return blocks

    def _picture(self, label: str, height: int) -> gr.Image:
        return gr.Image(label=label, interactive=False, height=height, buttons=["fullscreen"], type="pil", format="png")

    def _read(self, file: Json | None) -> Image.Image | None:
        """The image of an uploaded file, smaller if need be."""
        if file is None:
            return None
        with _told():
            name = Path(file.get("orig_name") or file["path"]).name
            data = read_bytes(file["path"], self.limits.file)
            return shrink(decode_image(data, name, max_pixels=self.limits.pixels), LARGEST)

    def _prepare(self, file: Json | None) -> Json | None:
        """The image to draw the box on."""
        image = self._read(file)
        return None if image is None else {"image": _data_uri(image), "size": list(image.size), "box": None}

    def _answer(self, *asked: Any) -> list[Any]:
        name, file, place, box, level, corruption, severity, seed = asked
        image = self._read(file)
        if image is None:
            return [None, FIRST, *[None] * 6, ""]
        with _told():
            change = Change(int(level), None if corruption == "none" else corruption, int(severity), int(seed))
            given = tuple(box["box"]) if box and box.get("box") else None
            shown = answer(self.models, name, image, PLACES[place], given, change)  # type: ignore[arg-type]
        picker = {"image": _data_uri(image), "size": list(image.size), "box": list(shown.box)}
        best = shown.answers[0].answer
        temperature = self.models[name].config.temperature
        return [
            picker,
            _headline(shown),
            shown.overlay,
            category_shares(best, temperature),
            _glb(shown),
            shown.matches,
            shown.regions,
            shown.hypotheses,
            _comparison(shown),
        ]


class _told:
    """A context whose errors of the user's are shown on the page."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, CompNetError | OSError):
            raise gr.Error(html.escape(str(error)), duration=20, print_exception=False) from None


def _part(name: str) -> str:
    """A file of the page."""
    return (files("compnet3d.apps") / "pages" / "demo" / name).read_text("utf-8")


def _data_uri(image: Image.Image) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(encode_preview(image, 640)).decode()


def _glb(shown: Shown) -> str:
    """A file of the mesh as the camera sees it: x right, y up, z towards the viewer, as glTF has it."""
    vertices = shown.mesh.vertices.double() @ shown.pose.to_matrix().double().T
    mesh = trimesh.Trimesh(
        vertices.numpy(), shown.mesh.faces.numpy(), vertex_colors=shown.colours.numpy(), process=False
    )
    with tempfile.NamedTemporaryFile(suffix=".glb", delete=False, dir=os.environ.get("GRADIO_TEMP_DIR")) as file:
        file.write(mesh.export(file_type="glb"))
    return file.name


def _headline(shown: Shown) -> str:
    one = shown.answers[0]
    best, angles = one.answer, one.answer.angles(degrees=True)
    name = html.escape(best.category)
    title = f"{name}, {percent(best.confidence)} % sure"
    if best.unknown:
        title = f'<span class="unknown">unknown</span> (most like {name})'
    pose = f"azimuth {angles.azimuth:.0f}°, elevation {angles.elevation:.0f}°, in-plane rotation {angles.theta:.0f}°"
    if best.pose_confidence is not None:
        pose += f"; {percent(best.pose_confidence)} % sure to be within 30°"
    if best.runner_up is not None:
        pose += f"; the second-best pose has azimuth {shown_angles(best.runner_up, degrees=True).azimuth:.0f}°"
    times = f"predicted in {one.seconds:.2f} s"
    if shown.search_seconds is not None:
        times = f"found in {shown.search_seconds:.1f} s, {times}"
    return f'<div class="answer"><h2>{title}</h2><p>{pose}</p><p>{times}</p></div>'


def _comparison(shown: Shown) -> str:
    if len(shown.answers) == 1:
        return ""
    rows = []
    for one in shown.answers:
        angles = one.answer.angles(degrees=True)
        category = f"unknown ({one.answer.category})" if one.answer.unknown else one.answer.category
        cells = (one.name, category, f"{percent(one.answer.confidence)} %", *(f"{a:.0f}°" for a in angles))
        rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in (*cells, f"{one.seconds:.2f} s")))
    head = "".join(
        f"<th>{name}</th>"
        for name in ("model", "category", "confidence", "azimuth", "elevation", "in-plane rotation", "time")
    )
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
