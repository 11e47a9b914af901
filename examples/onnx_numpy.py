"""Tell the category and the pose of an object with numpy, Pillow and onnxruntime alone, from an exported model.

    compnet3d export runs/mine exported
    python examples/onnx_numpy.py exported photo.jpg 40 30 200 180

The four numbers are the object's box in pixels. Prints the category, its confidence and the pose as JSON. The pose is
the best of the model's initial poses, some 30 degrees apart: `compnet3d predict` starts from it and refines it.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def load(path):
    """A session, and what the file says of itself."""
    if not path.is_file():
        raise SystemExit(f"error: {path} is missing; export the model with this category too")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session, json.loads(session.get_modelmeta().custom_metadata_map["compnet3d"])


def answer(session, crop):
    """The answers for one crop, by name."""
    images = np.ascontiguousarray(crop.transpose(2, 0, 1)[None])
    names = [output.name for output in session.get_outputs()]
    return {name: value[0] for name, value in zip(names, session.run(None, {"images": images}), strict=True)}


def cut(image, box, about):
    """The crop uint8 [height, width, 3] and its scale and offset: pixel (u, v) of it shows (u, v) / scale + offset."""
    x1, y1, x2, y2 = box
    width, height = about["width"], about["height"]
    scale = about["box_fill"] * min(height, width) / max(x2 - x1, y2 - y1)
    offset = np.array([x1 + x2 - width / scale, y1 + y2 - height / scale]) / 2
    # Pillow's bilinear resampling reads four pixels whatever the scale: a large image is made small first
    factor = min(int(1 / scale + 0.3), max(image.size))
    source, step, start = image, 1 / scale, offset
    if factor >= 2:
        source, step, start = image.reduce(factor), step / factor, offset / factor
    if about["border"] == "reflect":
        left, top = np.clip(np.ceil(-start).astype(int) + 2, 0, 2 * np.array(source.size))
        right, bottom = np.ceil(start + np.array([width, height]) * step - source.size).astype(int) + 2
        right, bottom = np.clip([right, bottom], 0, 2 * np.array(source.size))
        source = Image.fromarray(np.pad(np.asarray(source), ((top, bottom), (left, right), (0, 0)), mode="symmetric"))
        start = start + (left, top)
    matrix = (step, 0, start[0], 0, step, start[1])
    crop = source.transform(
        (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=tuple(about["fill"])
    )
    return np.asarray(crop), scale, offset


def predict(folder, file, box):
    """Category and pose of the object in the box (x1, y1, x2, y2) of an image file."""
    scores, about = load(Path(folder) / "matching.onnx")
    crop, scale, offset = cut(Image.open(file).convert("RGB"), box, about["crop"])
    found = answer(scores, crop)
    category = about["categories"][int(found["scores"].argmax())]
    pose = answer(load(Path(folder) / f"pose-{category}.onnx")[0], crop)
    azimuth, elevation, theta = np.degrees(pose["angles"])
    return {
        "category": category,
        "confidence": round(float(found["confidence"]), 4),
        "azimuth_deg": round(float(azimuth), 2),
        "elevation_deg": round(float(elevation), 2),
        "theta_deg": round(float(theta), 2),
        "distance": round(float(pose["distance"]), 4),
        # of the camera that took the image: a crop is enlarged by `scale`
        "focal": round(about["crop"]["focal"] / scale, 2),
        "principal_point": [round(float(x), 2) for x in pose["principal_point"] / scale + offset],
    }


if __name__ == "__main__":
    print(json.dumps(predict(sys.argv[1], sys.argv[2], [float(number) for number in sys.argv[3:7]])))
