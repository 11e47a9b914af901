"""What a user looks at before a walk round an object becomes a data set: the proposed box over some of its frames."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from compnet3d.data.annotations import parse_object
from compnet3d.data.images import load_image
from compnet3d.data.importers.walk import WalkRound
from compnet3d.reporting.overlays import draw_annotation
from compnet3d.utils.files import write_bytes


def write_walk_sheet(path: Path, source: WalkRound, most: int = 16) -> None:
    """Write a contact sheet as JPEG: the box and its axes over the front's frame, then over others all round.

    Raises:
        CompNetError: if the walk shows no object, or the file cannot be written.
    """
    side, columns, gap, text = 300, 4, 8, 20
    frames = source.items()[0]
    front = next(k for k, frame in enumerate(frames) if frame.name == source.front)
    # from the front on, evenly
    numbers = [(front + round(k * len(frames) / most)) % len(frames) for k in range(min(most, len(frames)))]
    pictures = [(frames[n].name, _drawn(source, n, side)) for n in dict.fromkeys(numbers)]
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (gap + columns * (side + gap), gap + rows * (side + text + gap)), "white")
    writer, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for place, (name, picture) in enumerate(pictures):
        x, y = gap + place % columns * (side + gap), gap + place // columns * (side + text + gap)
        sheet.paste(picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2))
        writer.text(
            (x, y + side + 2), f"{name}{', the front' if name == source.front else ''}", fill="black", font=font
        )
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=88)
    write_bytes(path, stream.getvalue())


def _drawn(source: WalkRound, number: int, side: int) -> Image.Image:
    frame = source.items()[0][number]
    image = load_image(source.root / frame.file)
    records = source.read(frame)[0]
    if not records:
        image.thumbnail((side, side))
        return image
    sample = parse_object(
        records[0].entries[0][1], category=source.category, name=frame.name, image=source.root / frame.file
    )
    picture: np.ndarray = draw_annotation(image, sample, source.models(source.category)["01.off"], side=side)[1]
    return Image.fromarray(picture)
