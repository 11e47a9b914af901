"""What requests and answers of the service look like; its OpenAPI page is made of this."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from compnet3d.reporting.prediction_files import Convention
from compnet3d.utils.files import Json

MOST = 64  # images of a request, and objects of all its images

# each x1, y1, x2, y2 with x1 < x2 and y1 < y2, which a schema cannot say
Boxes = (
    Literal["whole"]
    | Annotated[
        list[
            Annotated[
                list[Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]],
                Field(min_length=4, max_length=4, description="x1, y1, x2, y2; x1 < x2, y1 < y2"),
            ]
        ],
        Field(min_length=1, max_length=MOST),
    ]
)


class Strict(BaseModel):
    """Takes nothing that the schema does not name, and no text for a number."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Options(Strict):
    """What holds for all images of a request."""

    objects: int = Field(1, ge=1, le=MOST, description="how many to look for in each image without boxes")
    degrees: bool = Field(False, description="angles in degrees (azimuth_deg, ...) instead of radians")
    convention: Convention = Field("compnet3d", description="also the pose as this library wants it: R, t, K, ...")


class ImageInput(Strict):
    """One image of a request in JSON."""

    data: str = Field(
        min_length=1, json_schema_extra={"contentEncoding": "base64", "format": "byte"}, description="an image file"
    )
    name: str | None = Field(None, min_length=1, max_length=200, description="it has this name in the answer")
    boxes: Boxes | None = Field(None, description='where the objects are, in pixels; "whole": it is a crop of one')


class PredictRequest(Options):
    """A request in JSON."""

    images: list[ImageInput] = Field(min_length=1, max_length=MOST)


class FormOptions(Options):
    """What a request of multipart/form-data has beside its files; `boxes` has one entry for each."""

    boxes: list[Boxes | None] | None = Field(None, min_length=1, max_length=MOST)


class Detection(Strict):
    """What the detector, or the model's search, says of an object."""

    score: float
    label: str | None


class ShownAngles(Strict):
    """The angles of a pose: those that end in `_deg` with `degrees`, else the others."""

    azimuth: float = 0.0
    elevation: float = 0.0
    theta: float = 0.0
    azimuth_deg: float = 0.0
    elevation_deg: float = 0.0
    theta_deg: float = 0.0


class ObjectAnswer(ShownAngles):
    """One object: what `predict --json` writes of it."""

    image: str
    image_size: list[int] = Field(description="width, height in pixels")
    box: list[float]
    box_beyond_image: float = Field(0.0, description="the share of the box outside the image; left out where it is 0")
    detection: Detection | None = Field(None, description="left out where boxes were given")
    category: str
    confidence: float
    unknown: bool | None
    pose_confidence: float | None
    distance: float
    focal: float
    principal_point: list[float]
    runner_up: ShownAngles | None = Field(description="the second-best pose")
    reconstruction_score: float | None
    scores: dict[str, float]
    R: list[list[float]] = Field([], description="opencv, pytorch3d")
    t: list[float] = Field([], description="opencv")
    T: list[float] = Field([], description="pytorch3d")
    K: list[list[float]] = Field([], description="opencv, opengl, blender, pytorch3d")
    view_matrix: list[list[float]] = Field([], description="opengl")
    matrix_world: list[list[float]] = Field([], description="blender")


class Problem(Strict):
    """Why a request was refused."""

    detail: str = Field(description="one sentence")


class Health(Strict):
    """That the service answers."""

    status: Literal["ok"]


def request_body() -> Json:
    """The body of a request for predictions, for OpenAPI: JSON, or files in a form."""
    whole = PredictRequest.model_json_schema()
    form = Options.model_json_schema()
    files = {"type": "string", "contentMediaType": "application/octet-stream", "minLength": 1}
    form["properties"] |= {
        "image": {"type": "array", "items": files, "minItems": 1, "maxItems": MOST, "description": "image files"},
        "boxes": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": 'a list with an entry for each image: a list of [x1, y1, x2, y2], "whole", or null',
        },
    }
    form["required"] = ["image"]
    return {
        "required": True,
        "content": {
            "application/json": {"schema": _inlined(whole, whole.pop("$defs"))},
            "multipart/form-data": {"schema": form},
        },
    }


def _inlined(schema: object, definitions: Json) -> object:
    """A schema without references: those of its own do not hold inside the page."""
    if isinstance(schema, list):
        return [_inlined(entry, definitions) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _inlined(value, definitions) for name, value in schema.items()}
