"""Predictions in the forms that other programs read: JSON, JSON lines, CSV, COCO-like JSON, other conventions."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Literal

import torch

from compnet3d.geometry.camera import Camera
from compnet3d.inference.detection import beyond_image
from compnet3d.inference.prediction import SinglePrediction
from compnet3d.utils.files import Json

Convention = Literal["compnet3d", "opencv", "opengl", "blender", "pytorch3d"]


def pose_in(convention: Convention, answer: SinglePrediction, size: tuple[int, int]) -> Json:
    """The pose as a library wants it, beside our angles; see `Pose.to_opencv` and the others.

    Args:
        convention: whose. The camera has the answer's focal length and looks at the image's centre: `K`, in that
            library's pixels.
        answer: for an image of this (width, height).

    Returns:
        R, t and K for opencv; view_matrix and K for opengl; matrix_world and K for blender; R, T and K for pytorch3d;
        nothing for our own.
    """
    if convention == "compnet3d":
        return {}
    width, height = size
    camera = Camera.centred(answer.focal, height, width)
    where = answer.principal_point.double().cpu()
    pose = answer.pose.to("cpu", torch.float64)
    if convention == "opencv":
        K = camera.to_opencv().double()
        parts = dict(zip(("R", "t"), pose.to_opencv(where, K), strict=True))
    else:
        K = camera.intrinsics().double()
        if convention == "opengl":
            parts = {"view_matrix": pose.to_opengl(where, K)}
        elif convention == "blender":
            parts = {"matrix_world": pose.to_blender(where, K)}
        else:
            parts = dict(zip(("R", "T"), pose.to_pytorch3d(where, K), strict=True))
    return {name: value.tolist() for name, value in (parts | {"K": K}).items()}


def answer_entry(
    picture: Json, answer: SinglePrediction, details: Json, convention: Convention, *, degrees: bool
) -> Json:
    """All that is written of an object.

    Args:
        picture: `image` and `image_size`, and what else tells of the picture that it is in.
        answer: of `predict_boxes`.
        details: what a detector says of it.
        convention: also gives the pose as that library wants it.
        degrees: angles in degrees (azimuth_deg, ...) instead of radians.
    """
    width, height = picture["image_size"]
    beyond = 0.0 if answer.box is None else beyond_image(answer.box.tolist(), (width, height))
    outside = {"box_beyond_image": beyond} if beyond > 0 else {}
    told = pose_in(convention, answer, (width, height))
    return picture | outside | details | answer.to_dict(degrees=degrees) | told


def as_json(answers: Sequence[Json]) -> str:
    """A list, indented."""
    return json.dumps(list(answers), indent=2) + "\n"


def as_json_lines(answers: Sequence[Json]) -> str:
    """One object a line."""
    return "".join(json.dumps(answer) + "\n" for answer in answers)


def as_csv(answers: Sequence[Json]) -> str:
    """A table with a header; lists and scores of all categories are left out, but for the box and the origin."""
    rows = [_flat(answer) for answer in answers]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _flat(answer: Json) -> Json:
    named = {"box": ("x1", "y1", "x2", "y2"), "principal_point": ("u", "v"), "image_size": ("width", "height")}
    row: Json = {}
    for name, value in answer.items():
        if name in named:
            row |= dict(zip(named[name], value, strict=True))
        elif not isinstance(value, list | dict):
            row[name] = value
    return row


def as_coco(answers: Sequence[Json]) -> str:
    """COCO-like JSON: `images`, `categories`, and `annotations` with `score`; each has all of its answer in `pose`.

    Frames of a video are images of the name VIDEO#NUMBER.
    """
    names = sorted({name for answer in answers for name in answer["scores"]})
    categories = {name: number for number, name in enumerate(names, start=1)}
    images: dict[str, Json] = {}
    annotations = []
    for number, answer in enumerate(answers, start=1):
        file = answer["image"] if answer.get("frame") is None else f"{answer['image']}#{answer['frame']}"
        width, height = answer["image_size"]
        image = images.setdefault(file, {"id": len(images) + 1, "file_name": file, "width": width, "height": height})
        x1, y1, x2, y2 = answer["box"]
        told = ("image", "frame", "time", "image_size", "box", "category", "confidence", "scores")
        annotations.append(
            {
                "id": number,
                "image_id": image["id"],
                "category_id": categories[answer["category"]],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
                "score": answer["confidence"],
                "pose": {name: value for name, value in answer.items() if name not in told},
            }
        )
    listed = [{"id": number, "name": name} for name, number in categories.items()]
    return json.dumps({"images": list(images.values()), "categories": listed, "annotations": annotations}, indent=2)


FORMATS: dict[str, Callable[[Sequence[Json]], str]] = {
    "json": as_json,
    "jsonl": as_json_lines,
    "csv": as_csv,
    "coco": as_coco,
}
