"""The annotation page: its files, and what it asks of the server. Only pages of this server may ask."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from compnet3d.apps.annotation_proposals import Proposals
from compnet3d.apps.annotation_set import VIEWPORT, AnnotationSet, ChangedElsewhere, Item, Placement
from compnet3d.apps.annotation_shapes import cuboid_of, shape_json
from compnet3d.data.images import encode_preview
from compnet3d.errors import CompNetError
from compnet3d.utils.files import Json
from compnet3d.utils.text import printable


class Asked(BaseModel):
    """A request about one object; `version`: what the page last saw of it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    item: str = Field(max_length=300)
    version: str = Field("", max_length=20)


class Saved(Asked):
    """An object to save, in the words of `Placement`; angles in radians, `size` of the cuboid."""

    azimuth: float
    elevation: float
    theta: float
    distance: float
    focal: float
    u: float
    v: float
    box: tuple[float, float, float, float]
    cad: int = 1
    size: tuple[float, float, float] | None = None

    def placement(self) -> Placement:
        """Where the object is."""
        angles = (self.azimuth, self.elevation, self.theta)
        return Placement(*angles, self.distance, self.focal, (self.u, self.v), self.box, self.cad)


class Wanted(Asked):
    """An object that the model is to propose a pose for, in a box or where it finds it."""

    box: tuple[float, float, float, float] | None = None


class Annotator:
    """What the page asks for; blocking, so that every request has a thread."""

    def __init__(self, images: AnnotationSet, proposals: Proposals | None, notes: Json) -> None:
        """`notes` are shown as they are: see `session`."""
        self.images, self.proposals, self.notes = images, proposals, notes
        # a photograph takes a hundred megabytes, and the one that is looked at does not wait for those in the list
        self._thumbnails, self._pictures = threading.Semaphore(1), threading.Semaphore(2)
        self._told: set[str] = set()
        self.thumbnail = lru_cache(maxsize=2000)(self._thumbnail)
        self.picture = lru_cache(maxsize=8)(self._picture)

    def session(self) -> Json:
        """What stays the same."""
        shapes = {index: shape_json(mesh) for index, mesh in self.images.meshes.items()}
        return {
            "category": self.images.category,
            "root": str(self.images.root),
            "shapes": shapes,
            "focal": VIEWPORT,
            "model": self.proposals is not None,
            "symmetry": int(self.images.symmetry_order),
            **self.notes,
        }

    def listing(self) -> Json:
        """How far every object is."""
        last = self.images.last
        return {
            "items": [self.state(item) for item in self.images.items()],
            "last": None if last is None else last.key,
            "size_is_open": self.images.size_is_open,
        }

    def state(self, item: Item) -> Json:
        """How far an object is."""
        images, proposals = self.images, self.proposals
        return {
            "item": item.key,
            "name": item.name,
            "title": images.title(item),
            "status": images.status(item),
            "problem": images.problem(item),
            "split": images.split(item),
            "version": images.version(item),
            "disagreement": None if proposals is None else proposals.disagreement(item),
            "proposed": proposals is not None and proposals.ready(item) is not None,
        }

    def open(self, item: Item) -> Json:
        """All of an object; the model goes on with those that follow it."""
        width, height = self.picture(item.name)[1]
        placed = self.images.placement(item, (width, height))
        proposal = None
        if self.proposals is not None:
            items = self.images.items()
            place = items.index(item) if item in items else 0
            new = [other for other in items[place:] + items[:place] if self.images.status(other) == "new"]
            self.proposals.prefer(new[:4])
            ready = self.proposals.ready(item)
            proposal = None if ready is None else ready.to_json()
        placement = None if placed is None else placed.to_json()
        return {**self.state(item), "width": width, "height": height, "placement": placement, "proposal": proposal}

    def save(self, asked: Saved) -> Json:
        """Save an object."""
        item = Item.of(asked.item)
        if asked.size is not None and self.images.size_is_open:
            cuboid_of(asked.size)  # to be refused before anything is written
        self.images.save(item, asked.placement(), asked.version, asked.size)
        if self.proposals is not None:
            self.proposals.forget(item)
        return self.state(item)

    def propose(self, asked: Wanted) -> Json:
        """The model's answer, as soon as there is one."""
        if self.proposals is None:
            raise CompNetError("there is no model; start `compnet3d annotate` with --model")
        return self.proposals.ask(Item.of(asked.item), asked.box).result(timeout=300).to_json()

    def _thumbnail(self, name: str) -> bytes:
        with self._thumbnails:
            return encode_preview(self._decoded(name), 160)

    def _picture(self, name: str) -> tuple[bytes, tuple[int, int]]:
        """An image for the screen, and its full size."""
        with self._pictures:
            image = self._decoded(name)
            return encode_preview(image, 2000), image.size

    def _decoded(self, name: str) -> Image.Image:
        try:
            return self.images.image(name)
        except CompNetError as error:
            if name not in self._told:
                print(f"skipped: {printable(str(error))}", file=sys.stderr, flush=True)
            self._told.add(name)
            raise


def build_annotation_app(annotator: Annotator, port: int) -> FastAPI:
    """The page and what it asks, for 127.0.0.1 at this port alone."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if annotator.proposals is not None:
            await asyncio.to_thread(annotator.proposals.close)

    app = FastAPI(title="compnet3d annotate", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    kept = {"Cache-Control": "private, max-age=300"}
    _guard(app, port)
    _add_pages(app)

    @app.exception_handler(CompNetError)
    async def refuse(_: Request, error: CompNetError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 409 if isinstance(error, ChangedElsewhere) else 422)

    @app.exception_handler(RequestValidationError)
    async def misread(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:]) or "body"  # after where it was sent
        return JSONResponse({"detail": f"{field}: {first['msg']}; correct it"}, 422)

    @app.get("/api/session")
    def session() -> Json:
        return annotator.session()

    @app.get("/api/items")
    def listing() -> Json:
        return annotator.listing()

    @app.get("/api/item")
    def opened(item: str) -> Json:
        return annotator.open(Item.of(item))

    @app.get("/api/image")
    def image(name: str) -> Response:
        return Response(annotator.picture(name)[0], media_type="image/jpeg", headers=kept)

    @app.get("/api/thumbnail")
    def thumbnail(name: str) -> Response:
        return Response(annotator.thumbnail(name), media_type="image/jpeg", headers=kept)

    @app.post("/api/save")
    def save(asked: Saved) -> Json:
        return annotator.save(asked)

    @app.post("/api/clear")
    def clear(asked: Asked) -> Json:
        annotator.images.clear(Item.of(asked.item), asked.version)
        return annotator.listing()

    @app.post("/api/skip")
    def skip(asked: Asked) -> Json:
        annotator.images.skip(Item.of(asked.item), True)
        return annotator.state(Item.of(asked.item))

    @app.post("/api/propose")
    def propose(asked: Wanted) -> Json:
        return annotator.propose(asked)

    return app


def _add_pages(app: FastAPI) -> None:
    """The files of the page: those in `pages`, and no others."""
    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
    folder = files("compnet3d.apps") / "pages" / "annotate"
    for file in folder.iterdir():
        kind = kinds.get(file.name[file.name.rfind(".") :])
        if kind is None:
            continue
        response = Response(file.read_bytes(), media_type=kind, headers={"Cache-Control": "no-cache"})

        async def page(_: Request, response: Response = response) -> Response:
            return response

        app.add_route("/" if file.name == "annotate.html" else f"/{file.name}", page)


def _guard(app: FastAPI, port: int) -> None:
    """Answer nobody but pages of this server: another page in the same browser could ask, too, and write files."""
    largest = 65536  # bytes of a request
    hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
    protection = {
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }

    def problem(request: Request) -> tuple[int, str] | None:
        host = request.headers.get("host", "")
        if host not in hosts:
            return 403, f"this page is at http://127.0.0.1:{port} alone"
        if request.method in ("GET", "HEAD"):
            return None
        if request.headers.get("origin") != f"http://{host}":
            return 403, "only the annotation page itself may ask for this"
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > largest:
            return 413, f"the request has more than {largest} bytes"
        return None

    @app.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        refused = problem(request)
        response = await answer(request) if refused is None else JSONResponse({"detail": refused[1]}, refused[0])
        response.headers.update(protection)
        return response
