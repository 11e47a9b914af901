"""The five blurs: Gaussian, out of focus, through frosted glass, in motion, and of a zoom."""

from __future__ import annotations

import numpy as np

from compnet3d.robustness.corruption.filters import enlarge_middle, smooth
from compnet3d.robustness.corruption.filters import motion_blur as blur_along
from compnet3d.robustness.corruption.strengths import Strengths


def gaussian_blur(image: np.ndarray, severity: int) -> np.ndarray:
    """Blur uint8 [H, W, 3] with a Gaussian; float in grey levels."""
    return 255.0 * smooth(image / 255.0, Strengths.GAUSSIAN_BLUR[severity - 1])


def defocus_blur(image: np.ndarray, severity: int) -> np.ndarray:
    """Blur with a disk, as a lens out of focus does, the image mirrored at its border; float in grey levels."""
    return 255.0 * _convolve(image / 255.0, disk(*Strengths.DEFOCUS_BLUR[severity - 1]))


def disk(radius: int, softness: float) -> np.ndarray:
    """The kernel of a lens out of focus: a disk with a slightly blurred edge, float64 [n, n], its sum about 1.

    The grid reaches 8 pixels from the centre, or as far as a larger radius. The edge is blurred by a Gaussian of
    standard deviation `softness` on 3 x 3 pixels (5 x 5 for the larger disks).
    """
    from scipy.ndimage import correlate1d

    reach, taps = (8, 1) if radius <= 8 else (radius, 2)
    offset = np.arange(-reach, reach + 1)
    inside = (offset[:, None] ** 2 + offset**2 <= radius**2).astype(np.float32)
    weights: np.ndarray = np.exp(-0.5 * (np.arange(-taps, taps + 1) / softness) ** 2)
    kernel: np.ndarray = inside / inside.sum()
    for axis in (0, 1):
        # OpenCV's usual border, the outermost pixel not repeated; numpy calls the same "reflect" below
        kernel = correlate1d(kernel, weights / weights.sum(), axis, mode="mirror")
    return kernel.astype(np.float64)


def _convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve float64 [H, W, C] with a large kernel by Fourier transforms, the image mirrored at its border."""
    from scipy.fft import irfft2, next_fast_len, rfft2

    height, width = image.shape[:2]
    reach = len(kernel) // 2
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    size = [next_fast_len(extent, real=True) for extent in padded.shape[:2]]
    spectrum = rfft2(padded, size, axes=(0, 1)) * rfft2(kernel, size)[..., None]
    # what wraps around lands in the first 2 reach rows and columns, which are left out
    return irfft2(spectrum, size, axes=(0, 1))[2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width]


def glass_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Look through frosted glass: blur, let pixels wander, blur again; float in grey levels."""
    sigma, reach, rounds = Strengths.GLASS_BLUR[severity - 1]
    # cut off to 8 bits between the blurs, as the published code does
    soft = (255.0 * smooth(image / 255.0, sigma)).astype(np.uint8)
    for _ in range(rounds):
        soft = wander(soft, reach, rng)
    return 255.0 * smooth(soft / 255.0, sigma)


def wander(image: np.ndarray, reach: int, rng: np.random.Generator) -> np.ndarray:
    """Let pixels take the colour of a pixel near by, one after the other from the bottom right to the top left.

    Each one looks up to `reach` pixels up and left and `reach` - 1 down and right. Below it the pixels have taken
    their new colours already, so that colours travel further than `reach`. (The published code means to swap the two
    pixels; numpy's views make it a copy, and its data sets have been made so.) A border of `reach` rows and columns
    stays, of one more at the top and on the left.

    The order is that of the published loops, but all at once: a pixel that looks at one already done stands for
    whatever that one stands for, which is followed to its end by doubling the steps.
    """
    height, width = image.shape[:2]
    rows, columns = np.arange(height - reach, reach, -1), np.arange(width - reach, reach, -1)
    step = rng.integers(-reach, reach, size=(len(rows), len(columns), 2))
    here = rows[:, None] * width + columns
    looked_at = here + step[..., 1] * width + step[..., 0]
    # `leads_to` is followed until it leads nowhere else; there, the colour is that of `source` before the round
    source = np.arange(height * width)
    leads_to = source.copy()
    source[here] = looked_at
    leads_to[here] = np.maximum(here, looked_at)
    while True:
        further = leads_to[leads_to]
        if np.array_equal(further, leads_to):
            break
        leads_to = further
    return image.reshape(height * width, -1)[source[leads_to]].reshape(image.shape)


def motion_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Blur along a line within 45 degrees of the horizontal; float in grey levels."""
    radius, sigma = Strengths.MOTION_BLUR[severity - 1]
    return blur_along(image.astype(np.float64), radius, sigma, rng.uniform(-45.0, 45.0))


def zoom_blur(image: np.ndarray, severity: int) -> np.ndarray:
    """The mean of the image and of its enlargements, as of a camera that comes nearer; float in grey levels."""
    pixels = (image / 255.0).astype(np.float32)
    factors = zoom_factors(severity)
    total = np.zeros_like(pixels)
    height, width = image.shape[:2]
    for factor in factors:
        # what is too much is cut off at the bottom and on the right, as in the published code
        total += enlarge_middle(pixels, factor)[:height, :width]
    return 255.0 * ((pixels + total) / np.float32(len(factors) + 1))


def zoom_factors(severity: int) -> list[float]:
    """The enlargements of a severity, from 1 on."""
    stop, step = Strengths.ZOOM_BLUR[severity - 1]
    return [float(factor) for factor in np.arange(1.0, stop, step)]
