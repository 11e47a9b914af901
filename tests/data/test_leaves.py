"""Random shapes thrown over views: they change what they report and nothing else, and cover as much as asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compnet3d.data.augment import Augmentation, Cutout, augment_pixels
from compnet3d.data.leaves import scatter_leaves

SEEDS = st.integers(0, 2**32)


@given(SEEDS, st.integers(1, 50), st.integers(1, 50), st.floats(0.01, 0.9))
def test_leaves_change_only_what_they_report_at_any_size(seed: int, height: int, width: int, share: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = pixels.copy()
    seen, covered = scatter_leaves(pixels, (share, share), np.random.default_rng(seed))
    again, covered_again = scatter_leaves(pixels, (share, share), np.random.default_rng(seed))
    assert seen.dtype == np.uint8 and seen.shape == pixels.shape
    assert covered.dtype == bool and covered.shape == (height, width)
    np.testing.assert_array_equal(seen[~covered], pixels[~covered])
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(seen, again)
    np.testing.assert_array_equal(covered, covered_again)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4])
def test_leaves_cover_the_share_that_is_asked_for(share: float) -> None:
    """A whole thing is thrown at a time, so there is more: its five shapes of 0.7 of the view's side at the utmost."""
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    shares = np.array([scatter_leaves(pixels, (share, share), np.random.default_rng(s))[1].mean() for s in range(100)])
    assert np.mean(shares >= share) > 0.85  # 30 small things may not do
    assert share <= np.median(shares) < share + 0.15


def test_leaves_differ_in_size_shape_and_colour() -> None:
    """On black, what is covered is nearly never black, and its colours and its places are spread over the view."""
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    seen, covered = zip(
        *(scatter_leaves(pixels, (0.3, 0.3), np.random.default_rng(s)) for s in range(200)), strict=True
    )
    colours = np.concatenate([view[mask] for view, mask in zip(seen, covered, strict=True)])
    assert (colours.max(axis=1) > 0).mean() > 0.8
    assert (colours.std(axis=0) > 50).all() and np.allclose(colours.mean(axis=0), colours.mean(), atol=10)
    often = np.mean(covered, axis=0)
    assert often.min() > 0.03 and often.max() < 0.7  # corners are hidden least


def test_leaves_take_the_place_of_other_covers_as_often_as_told() -> None:
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    white = Cutout(np.full((10, 10, 3), 255, dtype=np.uint8), np.ones((10, 10), dtype=bool))
    for probability in (0.0, 0.5, 1.0):
        drawn: list[float] = []

        def cut_out(rng: np.random.Generator, drawn: list[float] = drawn) -> Cutout:
            drawn.append(rng.random())
            return white

        settings = Augmentation(erasing=1.0, leaves=probability, leaves_area=(0.3, 0.3), pasting=1.0)
        for seed in range(200):
            augment_pixels(pixels, settings, np.random.default_rng(seed), cut_out)
        assert abs(1 - len(drawn) / 200 - probability) < 0.1


def test_without_leaves_no_random_number_is_drawn_for_them() -> None:
    """Views of earlier recipes stay what they were."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    plain = Augmentation(erasing=1.0, brightness=0.2)
    other = Augmentation(erasing=1.0, brightness=0.2, leaves=0.0, leaves_area=(0.6, 0.7))
    for seed in range(5):
        one, two = (augment_pixels(pixels, s, np.random.default_rng(seed))[0] for s in (plain, other))
        np.testing.assert_array_equal(one, two)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="Augmentation.leaves is a probability, not 1.5"):
        Augmentation(leaves=1.5)
    with pytest.raises(ValueError, match="Augmentation.leaves_area must be"):
        Augmentation(leaves_area=(0.5, 0.1))
