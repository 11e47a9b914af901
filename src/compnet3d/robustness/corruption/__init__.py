"""The 19 corruptions of ImageNet-C (Hendrycks and Dietterich, 2019), each in severities 1 to 5, on images of any size.

The numbers are those of the paper's code, the details those of the package `imagecorruptions`, whose images the tests
compare with; docs/results/corruptions.md says how near each one comes. All randomness comes from the generator that is
given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from compnet3d.data.images import images_in, load_image
from compnet3d.errors import CompNetError
from compnet3d.robustness.corruption import blur, colour, noise, weather
from compnet3d.robustness.corruption.liquid import spatter

CORRUPTIONS: tuple[str, ...] = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
    "speckle_noise",
    "gaussian_blur",
    "spatter",
    "saturate",
)
DETERMINISTIC: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "defocus_blur": blur.defocus_blur,
    "zoom_blur": blur.zoom_blur,
    "brightness": colour.brightness,
    "contrast": colour.contrast,
    "pixelate": colour.pixelate,
    "jpeg_compression": colour.jpeg_compression,
    "gaussian_blur": blur.gaussian_blur,
    "saturate": colour.saturate,
}
RANDOM: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "snow": weather.snow,
    "fog": weather.fog,
    "elastic_transform": colour.elastic_transform,
    "speckle_noise": noise.speckle_noise,
    "spatter": spatter,
}


def corrupt(
    image: np.ndarray,
    name: str,
    severity: int,
    rng: np.random.Generator,
    *,
    textures: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """Corrupt an image.

    Args:
        image: uint8 [H, W, 3] of any size from 1 x 1 on; it is not changed.
        name: one of `CORRUPTIONS`.
        severity: from 1 (mild) to 5 (strong).
        rng: the source of all randomness; the deterministic corruptions leave it alone.
        textures: images of ice for "frost", uint8 [h, w, 3] of any sizes; procedural ice without them.

    Returns:
        The corrupted image, uint8 [H, W, 3]. Values are cut off towards 0, as the reference package does, not rounded.

    Raises:
        CompNetError: for an unknown name or severity.
        ValueError: if the image or a texture has another shape or type.
    """
    check_corruption(name, severity)
    # 4.0, as JSON may have it, is one of the choices but no index
    severity = int(severity)
    for pixels in (image, *textures):
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
            raise ValueError(f"an image must be uint8 [H, W, 3], not {pixels.dtype} {list(pixels.shape)}")
    if name in DETERMINISTIC:
        found = DETERMINISTIC[name](image, severity)
    elif name in RANDOM:
        found = RANDOM[name](image, severity, rng)
    else:
        found = weather.frost(image, severity, rng, textures)
    # Pillow's arrays are read-only, and callers may change what they get
    return found.copy() if found.dtype == np.uint8 else np.clip(found, 0.0, 255.0).astype(np.uint8)


def check_corruption(name: str, severity: int) -> None:
    """Check that there is such a corruption.

    Raises:
        CompNetError: for an unknown name or severity; the message lists the choices.
    """
    severities = (1, 2, 3, 4, 5)
    if name not in CORRUPTIONS:
        raise CompNetError(f"Unknown corruption {name!r}; choose one of {', '.join(CORRUPTIONS)}.")
    if severity not in severities:
        raise CompNetError(f"Unknown severity {severity!r}; choose 1, 2, 3, 4 or 5.")


def load_textures(folder: str | Path) -> list[np.ndarray]:
    """Read the images of ice in a folder, in the order of their names: a list of uint8 [h, w, 3].

    Raises:
        CompNetError: if the folder is missing or holds no image, or one cannot be read.
    """
    texture_suffixes = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
    folder = Path(folder)
    if not folder.is_dir():
        raise CompNetError(f"{folder} is not a folder; give one that holds images of frost.")
    # of the folder itself: corrupted images may be written into one that is in it
    paths = [path for path in images_in(folder) if path.parent == folder and path.suffix.lower() in texture_suffixes]
    if not paths:
        raise CompNetError(f"{folder} holds no image of frost ({', '.join(texture_suffixes)}).")
    return [np.asarray(load_image(path)) for path in paths]
