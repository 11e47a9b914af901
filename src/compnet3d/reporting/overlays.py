"""Images, uint8 [H, W, 3]: the projected model drawn over an image, and feature activations."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.nn.functional import max_pool2d

from compnet3d.data.sample import Sample
from compnet3d.geometry.camera import Camera, Pose
from compnet3d.geometry.mesh import Mesh
from compnet3d.rendering.raster import rasterize

AXIS_COLOURS = {"x": (235, 64, 52), "y": (40, 190, 80), "z": (60, 110, 250)}


def draw_overlay(
    image: np.ndarray | Image.Image, mesh: Mesh, pose: Pose, camera: Camera, *, min_side: int = 320, axes: bool = True
) -> np.ndarray:
    """Draw a model at a pose over an image: translucent shaded surface, outline, and the object's axes.

    The axes start at the object's origin: x (right, for someone who sees the front) is red, z (up) blue, and the green
    arrow points to where the front faces (-y).

    Args:
        image: uint8 [H, W, 3] or a PIL image in RGB, of the camera's size.
        mesh: in the object frame, CAD units.
        pose: a single pose, shape [].
        camera: a single camera of the image.
        min_side: small images are enlarged by a whole factor until their longer side has this many pixels.
        axes: whether to draw the axes.

    Returns:
        uint8 [s H, s W, 3] for the enlargement s.
    """
    supersampling = 2
    source = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if source.size != (camera.width, camera.height):
        raise ValueError(f"the image is {image.size} pixels, the camera {(camera.width, camera.height)}")
    factor = max(1, math.ceil(min_side / max(source.size)))
    size = (source.width * factor, source.height * factor)
    canvas = source.convert("RGBA").resize(size, Image.Resampling.BICUBIC)
    zoom = factor * supersampling
    close_up = Camera(
        focal=camera.focal * zoom,
        principal_point=camera.principal_point * zoom,
        height=camera.height * zoom,
        width=camera.width * zoom,
    )
    layer = Image.fromarray(_model_layer(mesh, pose, close_up))
    if axes:
        _draw_axes(ImageDraw.Draw(layer), mesh, pose, close_up)
    # Colours are premultiplied while shrinking, or the transparent black outside would darken the outline.
    canvas.alpha_composite(layer.convert("RGBa").resize(size, Image.Resampling.BOX).convert("RGBA"))
    return np.asarray(canvas.convert("RGB"))


def draw_annotation(
    image: Image.Image, sample: Sample, mesh: Mesh | None, *, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """An object of a data set, cut out with its surroundings, without and with what its annotation says.

    Args:
        image: in RGB, of the annotated size.
        sample: the object; mesh: what is drawn at its pose, None to draw nothing but its box.
        side: longest side of the pictures in pixels.

    Returns:
        Two pictures uint8 [h, w, 3]: as it is; with the projected model, its axes and the annotated box in yellow.
    """
    left, top, right, bottom = _surroundings(sample, mesh)
    scale = side / max(right - left, bottom - top)
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    cut = image.resize(size, Image.Resampling.BICUBIC, box=(left, top, right, bottom), reducing_gap=2.0)
    plain = drawn = np.asarray(cut)
    if mesh is not None:
        u, v = sample.principal_point
        camera = Camera(
            focal=torch.tensor(sample.focal * scale),
            principal_point=torch.tensor([(u - left) * scale, (v - top) * scale]),
            height=size[1],
            width=size[0],
        )
        drawn = draw_overlay(cut, mesh, _pose_of(sample), camera, min_side=1)
    canvas = Image.fromarray(drawn)
    x1, y1, x2, y2 = ((x - o) * scale for x, o in zip(sample.bbox, (left, top, left, top), strict=True))
    draw = ImageDraw.Draw(canvas)
    for width, colour in ((4, (20, 20, 20)), (2, (255, 214, 10))):
        draw.rectangle((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), outline=colour, width=width)
    return plain, np.asarray(canvas)


def _pose_of(sample: Sample) -> Pose:
    return Pose.of(sample.azimuth, sample.elevation, sample.theta, sample.distance)


def _surroundings(sample: Sample, mesh: Mesh | None) -> tuple[float, float, float, float]:
    """The part of the image that holds the annotated box and the projected model, with a margin."""
    margin = 0.15  # of the longer side
    box = np.array(sample.bbox, dtype=float)
    if mesh is not None:
        camera = Camera(
            focal=torch.tensor(sample.focal),
            principal_point=torch.tensor(sample.principal_point),
            height=sample.height,
            width=sample.width,
        )
        pixels, depth = camera.project(mesh.vertices, _pose_of(sample))
        if bool((depth > 0).all()):
            box[:2] = np.minimum(box[:2], pixels.amin(0).numpy())
            box[2:] = np.maximum(box[2:], pixels.amax(0).numpy())
    limits = np.array([sample.width, sample.height] * 2, dtype=float)
    grown = box + margin * float((box[2:] - box[:2]).max()) * np.array([-1, -1, 1, 1])
    left, top, right, bottom = (float(x) for x in grown.clip(0.0, limits))
    # a box outside the image leaves nothing to look at: then all of it
    whole = (0.0, 0.0, float(sample.width), float(sample.height))
    return (left, top, right, bottom) if min(right - left, bottom - top) >= 2 else whole


def _model_layer(mesh: Mesh, pose: Pose, camera: Camera) -> np.ndarray:
    """The shaded model with its outline as RGBA, uint8 [H, W, 4]."""
    most_creases = 0.03
    model_colour = (64, 190, 220)
    vertices = pose.object_to_camera(mesh.vertices.to(pose.azimuth))[None]
    faces = mesh.faces.to(vertices.device)
    raster = rasterize(
        vertices,
        faces,
        focal=camera.focal.reshape(1),
        principal_point=camera.principal_point.reshape(1, 2),
        height=camera.height,
        width=camera.width,
    )
    face = raster.face_index[0]
    hit = face >= 0
    if not bool(hit.any()):
        return np.zeros((camera.height, camera.width, 4), dtype=np.uint8)
    normal = _facing_normals(vertices[0], faces)[face.clamp_min(0)]
    # from the upper left, in camera axes: the same for every pose
    light = torch.nn.functional.normalize(normal.new_tensor([-0.4, 0.8, 0.6]), dim=0)
    shade = 0.45 + 0.4 * (normal @ light).clamp_min(0) + 0.25 * normal[..., 2].clamp_min(0)
    colour = (shade[..., None] * normal.new_tensor(model_colour)).clamp(0, 255)
    alpha = torch.where(hit, 0.5, 0.0)
    width = max(2, round(min(camera.height, camera.width) / 220))
    crease = _creases(normal, hit)
    # A rough scan bends everywhere: lines all over it would hide the object.
    crease = _grow(crease, width // 2) if crease.sum() < most_creases * hit.sum() else crease & False
    outline = _grow(hit, width) & ~_grow_inside(hit, width // 2)
    colour = torch.where(crease[..., None], colour.new_tensor([255.0, 255.0, 255.0]), colour)
    alpha = torch.where(crease & hit, 0.55, alpha)
    colour = torch.where(outline[..., None], colour.new_tensor([250.0, 250.0, 250.0]), colour)
    alpha = torch.where(outline, 0.95, alpha)
    return torch.cat([colour, 255 * alpha[..., None]], dim=-1).round().to(torch.uint8).cpu().numpy()


def _facing_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit face normals [F, 3] in camera axes, turned towards the viewer where a face is wound the other way."""
    a, b, c = vertices[faces].unbind(dim=1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
    # the camera is the origin, so the face's centre is also the direction in which it is seen
    away = (normal * (a + b + c)).sum(dim=-1, keepdim=True) > 0
    return torch.where(away, -normal, normal)


def _creases(normal: Tensor, hit: Tensor) -> Tensor:
    """Pixels of the model where the surface bends sharply towards the next pixel, bool [H, W]."""
    crease_cosine = math.cos(math.radians(35))
    crease = torch.zeros_like(hit)
    for dim in (0, 1):
        first, second = normal.narrow(dim, 0, normal.shape[dim] - 1), normal.narrow(dim, 1, normal.shape[dim] - 1)
        both = hit.narrow(dim, 0, hit.shape[dim] - 1) & hit.narrow(dim, 1, hit.shape[dim] - 1)
        bends = both & ((first * second).sum(dim=-1) < crease_cosine)
        crease.narrow(dim, 0, hit.shape[dim] - 1).logical_or_(bends)
    return crease


def _grow(mask: Tensor, radius: int) -> Tensor:
    """A mask [H, W] and all pixels within `radius` (a square) of it."""
    if radius < 1:
        return mask
    return max_pool2d(mask[None, None].float(), 2 * radius + 1, stride=1, padding=radius)[0, 0] > 0


def _grow_inside(mask: Tensor, radius: int) -> Tensor:
    """The mask without the pixels within `radius` of its border."""
    return ~_grow(~mask, radius)


def _draw_axes(draw: ImageDraw.ImageDraw, mesh: Mesh, pose: Pose, camera: Camera) -> None:
    low, high = mesh.vertices.amin(dim=0), mesh.vertices.amax(dim=0)
    reach = 0.35 * float((high - low).max())
    # Each arrow ends outside the model, so that it shows where the surface would hide it.
    tips = torch.tensor(
        [
            [float(high[0].clamp_min(0)) + reach / 2, 0, 0],
            [0, float(low[1].clamp_max(0)) - reach / 2, 0],
            [0, 0, float(high[2].clamp_min(0)) + reach / 2],
        ]
    )
    points = torch.cat([torch.zeros(1, 3), tips]).to(pose.azimuth)
    pixels, depth = camera.project(points, pose)
    if float(depth[0]) <= 0:
        return
    width = max(2, round(min(camera.height, camera.width) / 90))
    start = (float(pixels[0, 0]), float(pixels[0, 1]))
    # the farthest first, so that nearer arrows cover it
    for i in sorted((1, 2, 3), key=lambda i: -float(depth[i])):
        if float(depth[i]) > 0:
            name = "xyz"[i - 1]
            end = (float(pixels[i, 0]), float(pixels[i, 1]))
            _draw_arrow(draw, start, end, AXIS_COLOURS[name], width + (width // 3 if name == "y" else 0))


def _draw_arrow(
    draw: ImageDraw.ImageDraw,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: tuple[int, int, int],
    width: int,
) -> None:
    """An arrow with a dark rim, so that it can be seen on any image."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    if length < 1e-3:
        return
    dx, dy = dx / length, dy / length
    head = min(4.0 * width, 0.6 * length)
    for rim, fill in ((max(1, width // 2), (20, 20, 20, 200)), (0, (*colour, 255))):
        half, tip = 0.45 * head + rim, head + rim
        neck = (end[0] - dx * head, end[1] - dy * head)
        point = (neck[0] + dx * tip, neck[1] + dy * tip)
        sides = [(neck[0] - s * dy * half - dx * rim, neck[1] + s * dx * half - dy * rim) for s in (1, -1)]
        draw.line([start, neck], fill=fill, width=width + 2 * rim)
        draw.polygon([point, *sides], fill=fill)


def draw_activation(image: np.ndarray, activation: Tensor | np.ndarray, *, min_side: int = 320) -> np.ndarray:
    """A heat-map over a grey version of the image, enlarged like `draw_overlay`.

    Args:
        image: uint8 [H, W, 3].
        activation: [h, w], any range: the lowest value is shown dark, the highest bright.
        min_side: as in `draw_overlay`.
    """
    source = Image.fromarray(image)
    factor = max(1, math.ceil(min_side / max(source.size)))
    size = (source.width * factor, source.height * factor)
    values = np.asarray(activation, dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    scaled = Image.fromarray((values - low) / max(high - low, 1e-9))
    strength = np.asarray(scaled.resize(size, Image.Resampling.BICUBIC)).clip(0, 1)[..., None]
    grey = np.asarray(source.convert("L").convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    heat = _heat(strength[..., 0])
    return (grey * (0.55 - 0.4 * strength) + heat * (0.3 + 0.6 * strength)).clip(0, 255).astype(np.uint8)


def _heat(strength: np.ndarray) -> np.ndarray:
    """Dark violet over red to light yellow, float32 [..., 3] in 0 ... 255, for values in 0 ... 1."""
    stops = np.array([[20, 8, 60], [110, 25, 120], [205, 60, 90], [250, 145, 40], [252, 250, 170]], dtype=np.float32)
    position = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(strength, position, stops[:, c]) for c in range(3)], axis=-1).astype(np.float32)


def draw_label(image: np.ndarray, box: Sequence[float], text: str) -> np.ndarray:
    """An image with a box, (x1, y1, x2, y2) in pixels, and a line of text at its upper edge, uint8 [H, W, 3]."""
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    unit = max(1, round(max(canvas.size) / 400))
    colour = (255, 210, 0)
    draw.rectangle([float(side) for side in box], outline=colour, width=unit)
    font = ImageFont.load_default(size=11 * unit)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 4 * unit, bottom - top + 4 * unit
    # above the box, or inside it where the image ends; never beyond the image's sides
    x = min(max(0.0, box[0]), max(0.0, canvas.width - width))
    y = box[1] - height if box[1] >= height else max(0.0, box[1])
    draw.rectangle([x, y, x + width, y + height], fill=colour)
    draw.text((x + 2 * unit - left, y + 2 * unit - top), text, fill=(0, 0, 0), font=font)
    return np.asarray(canvas)


def enlarge(image: np.ndarray, *, min_side: int = 320) -> np.ndarray:
    """An image enlarged like `draw_overlay` does it."""
    source = Image.fromarray(image)
    factor = max(1, math.ceil(min_side / max(source.size)))
    size = (source.width * factor, source.height * factor)
    return np.asarray(source.resize(size, Image.Resampling.BICUBIC))


def side_by_side(images: Sequence[np.ndarray], *, gap: int = 4) -> np.ndarray:
    """Images of one height in a row with a white gap between them."""
    height = max(p.shape[0] for p in images)
    space = np.full((height, gap, 3), 255, dtype=np.uint8)
    row: list[np.ndarray] = []
    for source in images:
        row += [source, space]
    return np.concatenate(row[:-1], axis=1)


def encode_jpeg(source: np.ndarray) -> bytes:
    """An image as a JPEG file, several times smaller than as PNG where it is a photograph."""
    buffer = io.BytesIO()
    Image.fromarray(source).save(buffer, format="JPEG", quality=82)
    return buffer.getvalue()


def encode_png(source: np.ndarray) -> bytes:
    """An image as a PNG file, which says that we have drawn it."""
    buffer, note = io.BytesIO(), PngInfo()
    note.add_text("Software", "compnet3d")
    Image.fromarray(source).save(buffer, format="PNG", optimize=True, pnginfo=note)
    return buffer.getvalue()
