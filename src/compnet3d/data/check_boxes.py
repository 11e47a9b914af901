"""Whether a category's boxes are in another order than x1, y1, x2, y2."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compnet3d.data.check_views import box_ious


@dataclass(frozen=True)
class BoxLayout:
    """What the four numbers of a box may be instead of x1, y1, x2, y2: `name`, and how to read these from them."""

    name: str
    columns: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, ...]]

    def read(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes x1, y1, x2, y2 [N, 4] of those in this layout."""
        return np.stack(self.columns(*boxes.T), axis=1)


_LAYOUTS = (
    BoxLayout("x, y, width, height", lambda a, b, c, d: (a, b, a + c, b + d)),
    BoxLayout("centre x, centre y, width, height", lambda a, b, c, d: (a - c / 2, b - d / 2, a + c / 2, b + d / 2)),
    BoxLayout("y1, x1, y2, x2", lambda a, b, c, d: (b, a, d, c)),
    BoxLayout("y1, y2, x1, x2", lambda a, b, c, d: (c, a, d, b)),
    BoxLayout("x1, x2, y1, y2", lambda a, b, c, d: (a, c, b, d)),
)


def _scaled(boxes: np.ndarray, objects: np.ndarray) -> BoxLayout:
    """Boxes in the pixels of a larger or smaller image, by the usual ratio of their corners to the objects'."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.nan_to_num(boxes[:, 2:] / objects[:, 2:], nan=1.0, posinf=1.0, neginf=1.0)
    across, down = (max(float(ratio), 1e-6) for ratio in np.median(ratios, axis=0))
    name = f"pixels of an image {across:.2g} times as wide and {down:.2g} times as high"
    return BoxLayout(name, lambda a, b, c, d: (a / across, b / down, c / across, d / down))


def find_box_layout(boxes: np.ndarray, objects: np.ndarray) -> tuple[BoxLayout, str] | None:
    """The layout in which boxes fit the objects clearly better, and by how much; None where they fit as they are.

    Clearly: the intersection over union is greater by 0.1 on average and by four standard errors, over four boxes or
    more.

    Args:
        boxes: as annotated, [N, 4]; x2 may be less than x1.
        objects: where they really are, x1, y1, x2, y2, [N, 4].
    """
    least, deviations, fitting = 0.1, 4.0, 0.5
    if len(boxes) < 4:
        return None
    before = box_ious(boxes, objects) * (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    best: tuple[float, BoxLayout] | None = None
    for layout in (*_LAYOUTS, _scaled(boxes, objects)):
        after = box_ious(layout.read(boxes), objects)
        if after.mean() < fitting:  # a chance that is better than nothing explains nothing
            continue
        gains = after - before
        noise = gains.std(ddof=1) / math.sqrt(len(gains)) + 1e-3
        if gains.mean() > max(least, deviations * noise) and (best is None or gains.mean() > best[0]):
            best = float(gains.mean()), layout
    if best is None:
        return None
    return best[1], f"IoU with the objects {before.mean() + best[0]:.2f} instead of {before.mean():.2f}"
