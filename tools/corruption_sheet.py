"""Draw a contact sheet of all corruptions of one image.

python tools/corruption_sheet.py PICTURE docs/images/corruptions.jpg --severity 4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from compnet3d.data.images import load_image
from compnet3d.robustness.corruption import CORRUPTIONS, corrupt, load_textures

COLUMNS, CAPTION = 5, 20


def main() -> None:
    """Corrupt the image in every way, the clean one first, and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--severity", type=int, default=4)
    parser.add_argument("--frost", type=Path)
    options = parser.parse_args()
    clean = np.asarray(load_image(options.image))
    textures = load_textures(options.frost) if options.frost else ()
    rng = np.random.default_rng(0)
    tiles = {"clean": clean} | {
        name: corrupt(clean, name, options.severity, rng, textures=textures) for name in CORRUPTIONS
    }
    height, width = clean.shape[:2]
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width, rows * (height + CAPTION)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (name, pixels) in enumerate(tiles.items()):
        row, column = divmod(number, COLUMNS)
        left, top = column * width, row * (height + CAPTION)
        sheet.paste(Image.fromarray(pixels), (left, top + CAPTION))
        draw.text((left + 4, top + 3), name, fill="black", font=font)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out, quality=88)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
