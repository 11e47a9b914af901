from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compnet3d.errors import CompNetError
from compnet3d.geometry.frame import Axis, Frame
from compnet3d.geometry.polygons import Polygons, triangulate


def one(points: np.ndarray) -> Polygons:
    return Polygons(points, np.arange(len(points)), np.array([len(points)]))


@given(st.lists(st.floats(0.1, 1.0), min_size=4, max_size=14), st.integers(0, 10_000))
def test_triangles_fill_the_outline_and_no_more(radii: list[float], seed: int) -> None:
    """Outlines round a middle, with dents: the areas are those of the shoelace formula, and none is wound back."""
    turn = 2 * math.pi * np.arange(len(radii)) / len(radii)
    flat = np.stack([np.cos(turn), np.sin(turn)], axis=1) * np.array(radii)[:, None]
    (x, y), (x1, y1) = flat.T, np.roll(flat, -1, axis=0).T
    area = float((x * y1 - x1 * y).sum() / 2)
    plane = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    points = np.column_stack([flat, np.ones(len(flat))]) @ plane.T
    places, owner = triangulate(Path("a"), one(points))
    assert len(places) == len(radii) - 2 and (owner == 0).all()
    normal = np.cross(plane[:, 0], plane[:, 1])
    a, b, c = (points[places[:, k]] for k in range(3))
    signed = np.cross(b - a, c - a) @ normal / 2
    assert signed.min() > -1e-9 and signed.sum() == pytest.approx(area, abs=1e-9)


def test_sizes_may_be_mixed() -> None:
    """A dented quadrilateral between a triangle and a line; the dent is not covered."""
    points = np.array([[0.0, 0, 0], [2, 0, 0], [0.4, 0.4, 0], [0, 2, 0]])
    corners = np.array([0, 1, 3, 0, 1, 2, 3, 0, 1])
    places, owner = triangulate(Path("a"), Polygons(points, corners, np.array([3, 4, 2])))
    assert owner.tolist() == [0, 1, 1]
    a, b, c = (points[corners[places[:, k]]] for k in range(3))
    areas = np.cross(b - a, c - a)[:, 2] / 2
    assert areas[0] == pytest.approx(2.0) and areas[1:].sum() == pytest.approx(0.8) and (areas > 0).all()


def test_outlines_that_cross_themselves_end_and_huge_ones_are_refused() -> None:
    bow = np.array([[0.0, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0], [0.5, 2, 0]])
    assert len(triangulate(Path("a"), one(bow))[0]) == 3
    turn = np.linspace(0, 2 * math.pi, 3000, endpoint=False)
    round_ = np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=1)
    assert len(triangulate(Path("a"), one(round_))[0]) == 2998
    round_[7] *= 0.5
    with pytest.raises(CompNetError, match="a: face 0 is concave and has 3000 corners"):
        triangulate(Path("a"), one(round_))


@pytest.mark.parametrize(("up", "front"), list(itertools.product(get_args(Axis), repeat=2)))
def test_frames(up: Axis, front: Axis) -> None:
    if up[-1] == front[-1]:
        with pytest.raises(CompNetError, match="along one axis"):
            Frame(up, front)
        return
    frame = Frame(up, front)
    assert np.linalg.det(frame.rotation()) == pytest.approx(1.0)

    def unit(axis: str) -> np.ndarray:
        return np.eye(3)["xyz".index(axis[-1])] * (-1.0 if axis[0] == "-" else 1.0)

    turned = frame.turned(np.stack([unit(up), unit(front)]))
    assert turned.tolist() == [[0, 0, 1], [0, -1, 0]]
    if up == "z":
        assert Frame.with_up("z").rotation().tolist() == np.eye(3).tolist()
