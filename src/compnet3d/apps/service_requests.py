"""Reading requests for predictions: JSON or multipart/form-data, within limits."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Message

from compnet3d.apps.jobs import Job, JobImage
from compnet3d.apps.service_schema import MOST, FormOptions, Options, PredictRequest
from compnet3d.utils.files import Json


async def read_job(request: Request, max_bytes: int) -> Job:
    """What a request asks for.

    Raises:
        HTTPException: 413 for a body of more than `max_bytes`, 415 for one of another type, 422 or 400 for what the
            schema does not allow; with a sentence that names the image or the field.
    """
    limited = _limited(request, max_bytes)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        job = _of_json(await limited.body())
    elif kind == "multipart/form-data":
        async with limited.form(max_files=MOST, max_fields=16) as form:
            job = await _of_form(form)
    else:
        raise HTTPException(415, "the body is no application/json and no multipart/form-data; send one of them")
    given = [1 if image.boxes == "whole" else len(image.boxes or [None] * job.objects) for image in job.images]
    if sum(given) > MOST:
        raise HTTPException(
            422, f"{sum(given)} objects are asked for, more than the limit of {MOST}; send less at once"
        )
    return job


def _limited(request: Request, max_bytes: int) -> Request:
    """The same request, whose body ends with an error where it is too large."""
    seen = 0

    async def receive() -> Message:
        nonlocal seen
        message = await request.receive()
        seen += len(message.get("body", b""))
        if seen > max_bytes:
            if message.get("more_body"):
                await discard_body(request, 8 * max_bytes)
            raise HTTPException(413, f"the body has more than {max_bytes / 1e6:g} MB; send less at once")
        return message

    return Request(request.scope, receive)


async def discard_body(request: Request, most: int) -> None:
    """Take in what is still being sent, up to so many bytes: a client that sends does not read the answer."""
    if "expect" in request.headers:  # it waits for our word before it sends
        return
    seen, more = 0, True
    while more and seen < most:
        message = await request.receive()
        seen += len(message.get("body", b""))
        more = bool(message.get("more_body"))


def _of_json(body: bytes) -> Job:
    with _explained():
        asked = PredictRequest.model_validate_json(body)
    images = []
    for number, image in enumerate(asked.images, start=1):
        title = _title(number, image.name)
        try:
            data = base64.b64decode(image.data, validate=True)
        except (binascii.Error, ValueError):
            raise HTTPException(422, f"{title}: its data is not base64; encode the bytes of the file") from None
        images.append(JobImage(image.name or title, title, data, image.boxes))
    return _job(images, asked)


async def _of_form(form: FormData) -> Job:
    fields, files = {}, []
    for name, value in form.multi_items():
        if (name == "image") != isinstance(value, UploadFile):
            raise HTTPException(422, f"{name}: files are sent as image, and only they are; see /openapi.json")
        if isinstance(value, UploadFile):
            files.append(value)
        elif name in fields:
            raise HTTPException(422, f"{name}: is given twice; give it once")
        else:
            fields[name] = value
    if not files:
        raise HTTPException(422, "there is no image; send at least one file as image")
    with _explained():
        asked = FormOptions.model_validate_json(_as_json(fields))
    boxes = asked.boxes or [None] * len(files)
    if len(boxes) != len(files):
        raise HTTPException(422, f"boxes: has {len(boxes)} entries for {len(files)} images; give one for each")
    images = []
    for number, (file, where) in enumerate(zip(files, boxes, strict=True), start=1):
        name = (file.filename or "")[:200]
        title = _title(number, name)
        images.append(JobImage(name or title, title, await file.read(), where))
    return _job(images, asked)


def _as_json(fields: Mapping[str, str]) -> bytes:
    """The fields of a form as JSON, of which all but the convention are."""
    values: Json = {}
    for name, text in fields.items():
        try:
            values[name] = text if name == "convention" else json.loads(text)
        except (ValueError, RecursionError):
            raise HTTPException(422, f"{name}: is not valid JSON; write true, 2 or [[[10, 20, 90, 80]]]") from None
    return json.dumps(values).encode()


@contextmanager
def _explained() -> Iterator[None]:
    """What does not fit a schema becomes one sentence."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise HTTPException(422, _sentence(list(first["loc"]), first["msg"])) from None


def _sentence(place: Sequence[str | int], problem: str) -> str:
    if "boxes" in place:
        # what pydantic says of each of the forms that they may have would not help
        place = place[: place.index("boxes") + 2] if place[0] == "boxes" else place[: place.index("boxes") + 1]
        problem = 'an image has a list of boxes [x1, y1, x2, y2], "whole" or null'
    # images count from 1, as everywhere in messages
    shown = ".".join(str(part + 1) if isinstance(part, int) else part for part in place)
    return f"{shown}: {problem}" if shown else problem


def _title(number: int, name: str | None) -> str:
    return f"image {number} ({name})" if name else f"image {number}"


def _job(images: Sequence[JobImage], asked: Options) -> Job:
    return Job(tuple(images), asked.objects, asked.degrees, asked.convention)
