"""The service: predictions over HTTP."""

from __future__ import annotations

import asyncio
import html
import math
import socket
import sys
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from compnet3d import __version__
from compnet3d.apps.batching import Batcher
from compnet3d.apps.jobs import Job, JobPredictor
from compnet3d.apps.service_metrics import Metrics
from compnet3d.apps.service_requests import discard_body, read_job
from compnet3d.apps.service_schema import Health, ObjectAnswer, Problem, request_body
from compnet3d.errors import CompNetError
from compnet3d.reporting.page import CSS
from compnet3d.utils.files import Json
from compnet3d.utils.text import printable


@dataclass(frozen=True)
class Limits:
    """What a service takes on.

    Attributes:
        requests: that are read, wait or are computed at once.
        body: bytes of a request.
        seconds: from a request to its answer.
    """

    requests: int = 64
    body: int = 32_000_000
    seconds: float = 60.0


class Service:
    """Predictions for requests, batch by batch; all but the model's work runs in the thread of the event loop."""

    def __init__(self, predictor: JobPredictor, limits: Limits) -> None:
        """Start the thread of the model."""
        self.limits = limits
        self.metrics = Metrics()
        self._batcher: Batcher[Job, list[Json]] = Batcher(predictor, size=predictor.batch_size)

    @property
    def alive(self) -> bool:
        """Whether the thread of the model is."""
        return self._batcher.alive

    def close(self) -> None:
        """Answer what waits, and end."""
        self._batcher.close()

    async def answer(self, request: Request) -> Response:
        """The answer of a request for predictions, or why there is none."""
        started = time.perf_counter()
        try:
            response = JSONResponse(await self._admitted(request))
        except HTTPException as refusal:
            response = JSONResponse({"detail": refusal.detail}, refusal.status_code, refusal.headers)
        self.metrics.count(response.status_code, time.perf_counter() - started)
        return response

    async def _admitted(self, request: Request) -> list[Json]:
        if self.metrics.inside >= self.limits.requests:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(discard_body(request, self.limits.body), 5.0)
            sentence = f"{self.limits.requests} requests are waiting already; try again later"
            raise HTTPException(503, sentence, {"Retry-After": str(self._retry_after())})
        self.metrics.inside += 1
        try:
            return await asyncio.wait_for(self._entries(request), self.limits.seconds)
        except asyncio.TimeoutError:
            sentence = f"there was no answer within {self.limits.seconds:g} s; send less at once, or try again later"
            raise HTTPException(504, sentence) from None
        except CompNetError as error:
            raise HTTPException(422, str(error)) from None
        except HTTPException:
            raise
        except Exception as error:
            print(printable("".join(traceback.format_exception(error))), end="", file=sys.stderr, flush=True)
            raise HTTPException(500, "a fault of compnet3d; the service has printed what to report") from None
        finally:
            self.metrics.inside -= 1

    async def _entries(self, request: Request) -> list[Json]:
        job = await read_job(request, self.limits.body)
        self.metrics.images += len(job.images)
        # where this is cancelled, as the time limit does, the job is given up
        return await asyncio.wrap_future(self._batcher.submit(job, len(job.images)))

    def _retry_after(self) -> int:
        """After how many seconds a half of the queue should be done, going by the mean of all requests."""
        answered = sum(self.metrics.requests.values())
        return min(60, max(1, math.ceil(self.metrics.seconds / max(1, answered) / 2)))


def build_app(service: Service, name: str) -> FastAPI:
    """The service's pages; `name` tells which model it is."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    # FastAPI's own pages load programs from elsewhere; ours shows the same and needs none
    app = FastAPI(title="compnet3d", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.description = f"Categories and 3D poses of objects in images, by the model {name}."
    problems = {
        400: "The body is not what its type says.",
        413: "The body is too large.",
        415: "The body is of another type.",
        422: "The request does not fit the schema, or an image cannot be read; the sentence names it.",
        500: "A fault of compnet3d.",
        503: "Too many requests are waiting, see the header Retry-After.",
        504: "There was no answer within the time limit.",
    }

    @app.post(
        "/v1/predict",
        response_model=list[ObjectAnswer],
        response_description="One entry for each object, image by image in the order of the request.",
        responses={status: {"model": Problem, "description": text} for status, text in problems.items()},
        openapi_extra={"requestBody": request_body()},
    )
    async def predict(request: Request) -> Response:
        """Classify the objects in one image or several and estimate their poses."""
        return await service.answer(request)

    @app.get("/healthz", response_model=Health, responses={503: {"model": Problem, "description": "It does not."}})
    async def healthz() -> Response:
        """Whether the service works."""
        if not service.alive:
            return JSONResponse({"detail": "the model's thread has ended; start the service anew"}, 503)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counts for Prometheus."""
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(_page(app.openapi()))

    return app


def _page(described: Json) -> str:
    """The operations of an OpenAPI description as a page that needs no program."""
    parts = [f"<p>{html.escape(described['info']['description'])}</p>"]
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            rows = "".join(
                f"<tr><th>{status}</th><td class=text>{html.escape(answer['description'])}</td></tr>"
                for status, answer in operation["responses"].items()
            )
            head = f"<h2>{method.upper()} <code>{path}</code></h2><p>{html.escape(operation['description'])}</p>"
            parts.append(f"<section>{head}<table>{rows}</table></section>")
    parts.append('<p>Requests and answers in full: <a href="openapi.json">openapi.json</a></p>')
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>compnet3d</title><style>{CSS}</style>"
    return f"{head}<main><h1>compnet3d</h1>{''.join(parts)}</main></html>"


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections; port 0 takes any that is free.

    Raises:
        CompNetError: naming the address, if it cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CompNetError(
            f"{host}:{port}: cannot be listened on ({reason}); choose another --host or --port"
        ) from None


def run_app(app: FastAPI, listener: socket.socket, seconds: float) -> None:
    """Serve until Ctrl-C or SIGTERM; what has been asked by then is answered, within so many seconds."""
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=math.ceil(seconds) + 5)
    server = uvicorn.Server(config)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn raises the signal anew when all is done
        if not server.started:
            raise
