"""Pasting by slices shows the same pixels as pasting one pixel after the other."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compnet3d.data.placement import Placement

SIDES = st.tuples(st.integers(1, 7), st.integers(1, 7))
STARTS = st.tuples(st.integers(-20, 20), st.integers(-20, 20))


@given(STARTS, SIDES, SIDES)
def test_slices_paste_what_a_loop_over_pixels_pastes(
    start: tuple[int, int], size: tuple[int, int], limits: tuple[int, int]
) -> None:
    cutout = 1 + np.arange(size[0] * size[1]).reshape(size)
    expected, pasted = np.zeros(limits, dtype=int), np.zeros(limits, dtype=int)
    for (row, column), value in np.ndenumerate(cutout):
        if 0 <= start[0] + row < limits[0] and 0 <= start[1] + column < limits[1]:
            expected[start[0] + row, start[1] + column] = value
    place = Placement.at(start, size, limits)
    pasted[place.target] = cutout[place.source]
    np.testing.assert_array_equal(pasted, expected)
    centre = (start[0] + size[0] // 2, start[1] + size[1] // 2)
    assert Placement.centred(size, centre, limits) == place
