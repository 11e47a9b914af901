"""Boxes: overlap, suppression, what lies beyond an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compnet3d.inference.detection import Detections, beyond_image, box_iou, suppress

# whole numbers, so that pixels can be counted
corner, side = st.integers(-5, 12), st.integers(1, 9)
box = st.tuples(corner, corner, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


def pixels(one: tuple[int, ...]) -> set[tuple[int, int]]:
    return {(x, y) for x in range(one[0], one[2]) for y in range(one[1], one[3])}


def floats(boxes: list[tuple[int, ...]]) -> Tensor:
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


@given(st.lists(box, max_size=4), st.lists(box, max_size=4))
def test_overlap_counts_pixels(first: list[tuple[int, ...]], second: list[tuple[int, ...]]) -> None:
    found = box_iou(floats(first), floats(second))
    assert found.shape == (len(first), len(second))
    for i, one in enumerate(map(pixels, first)):
        for j, other in enumerate(map(pixels, second)):
            assert float(found[i, j]) == pytest.approx(len(one & other) / len(one | other))


@given(box)
def test_what_lies_beyond_the_image(one: tuple[int, ...]) -> None:
    inside = pixels(one) & pixels((0, 0, 8, 6))
    assert beyond_image(one, (8, 6)) == pytest.approx(1 - len(inside) / len(pixels(one)))


@given(
    st.lists(st.tuples(box, st.integers(0, 50)), max_size=9, unique_by=lambda x: x[1]),
    st.floats(0, 0.9),
    st.integers(1, 9),
)
def test_suppression_is_the_plain_loop(found: list[tuple[tuple[int, ...], int]], overlap: float, count: int) -> None:
    kept: list[int] = []
    for number in sorted(range(len(found)), key=lambda i: -found[i][1]):
        mine = pixels(found[number][0])
        others = [pixels(found[i][0]) for i in kept]
        # in float32, as the boxes are
        if all(np.float32(len(mine & o) / len(mine | o)) <= overlap for o in others) and len(kept) < count:
            kept.append(number)
    scores = torch.tensor([float(score) for _, score in found])
    assert suppress(floats([b for b, _ in found]), scores, overlap, count).tolist() == kept


def test_the_surest_detections() -> None:
    found = Detections(floats([(0, 0, 1, 1), (0, 0, 2, 2)]), torch.tensor([0.9, 0.4]), ("a", "b"))
    assert len(found.first(1)) == 1 and found.first(1).labels == ("a",) and len(found.first(5)) == 2
