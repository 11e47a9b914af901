"""Random shapes thrown over crops: they change what they report and nothing else, and cover as much as asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compnet3d.data.augment import Augmentation, CropSources, augment_pixels, erase_patches
from compnet3d.data.cutouts import Cutout
from compnet3d.data.dead_leaves import _leaf_shape, scatter_dead_leaves
from compnet3d.training.builtin_recipes import get_recipe

SEEDS = st.integers(0, 2**32)


@given(SEEDS, st.integers(1, 50), st.integers(1, 50), st.floats(0.01, 0.9))
def test_dead_leaves_change_only_what_they_report_at_any_size(seed: int, height: int, width: int, share: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = pixels.copy()
    seen, covered = scatter_dead_leaves(pixels, (share, share), np.random.default_rng(seed))
    again, covered_again = scatter_dead_leaves(pixels, (share, share), np.random.default_rng(seed))
    assert seen.dtype == np.uint8 and seen.shape == pixels.shape
    assert covered.dtype == bool and covered.shape == (height, width)
    np.testing.assert_array_equal(seen[~covered], pixels[~covered])
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(seen, again)
    np.testing.assert_array_equal(covered, covered_again)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4])
def test_dead_leaves_cover_the_share_that_is_asked_for(share: float) -> None:
    """Things are thrown whole until it is enough, so the last one brings a little more."""
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    shares = np.array(
        [scatter_dead_leaves(pixels, (share, share), np.random.default_rng(s))[1].mean() for s in range(100)]
    )
    assert np.mean(shares >= share) > 0.85  # 30 small things may not do
    assert share <= np.median(shares) < share + 0.15


def test_dead_leaves_differ_in_size_place_and_colour() -> None:
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    seen, covered = zip(
        *(scatter_dead_leaves(pixels, (0.3, 0.3), np.random.default_rng(s)) for s in range(200)), strict=True
    )
    colours = np.concatenate([view[mask] for view, mask in zip(seen, covered, strict=True)])
    assert (colours.max(axis=1) > 0).mean() > 0.8
    assert (colours.std(axis=0) > 50).all() and np.allclose(colours.mean(axis=0), colours.mean(), atol=10)
    often = np.mean(covered, axis=0)
    assert often.min() > 0.03 and often.max() < 0.7  # corners are hidden least
    # crops of large things have fewer edges than crops of small ones
    edges = [np.count_nonzero(mask[:, 1:] != mask[:, :-1]) / mask.sum() for mask in covered]
    assert np.percentile(edges, 90) > 2 * np.percentile(edges, 10)


def test_shapes_are_ellipses_polygons_rectangles_and_bars() -> None:
    """Shares of their squares: an ellipse has at most pi / 4, a rectangle 1 / 2, a bar 0.12 / 2."""
    shares = np.array([_leaf_shape(100, np.random.default_rng(seed)).mean() for seed in range(1000)])
    assert shares.min() > 0 and shares.max() < np.pi / 4 + 0.02
    assert abs(np.mean(np.abs(shares - 0.06) < 0.012) - 0.15) < 0.06  # bars, 15 of 100, and few others as thin
    assert abs(np.mean(shares > 0.53) - 0.3 * np.log(np.pi / 4 / 0.53) / 1.2) < 0.05  # round ellipses and few polygons


def test_dead_leaves_take_the_place_of_other_covers_as_often_as_asked() -> None:
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    white = Cutout.of_mask(np.full((10, 10, 3), 255, dtype=np.uint8), np.ones((10, 10), dtype=bool))
    for probability in (0.0, 0.5, 1.0):
        drawn: list[float] = []

        def cut_out(rng: np.random.Generator, drawn: list[float] = drawn) -> Cutout:
            drawn.append(rng.random())
            return white

        settings = Augmentation(
            erasing=1.0,
            erasing_count=1,
            erasing_area=(0.05, 0.05),
            dead_leaves=probability,
            dead_leaves_area=(0.3, 0.3),
            copy_paste=1.0,
        )
        large = 0
        for seed in range(200):
            _, covered = augment_pixels(pixels, settings, np.random.default_rng(seed), CropSources(cut_out))
            large += bool(covered.mean() > 0.2)
        pasted = len(drawn) / 200
        assert pasted == 1 - probability if probability in (0.0, 1.0) else abs(pasted - 0.5) < 0.1
        assert abs(large / 200 - probability) < 0.1  # the one object covers a twentieth


def test_without_dead_leaves_no_random_number_is_drawn_for_them() -> None:
    """Crops of earlier recipes stay what they were: the draws are those of the colours, the blur and the patches."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    settings = Augmentation(erasing=1.0, dead_leaves=0.0)
    for seed in range(5):
        seen, covered = augment_pixels(pixels, settings, np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        rng.random(5), rng.random(3), rng.random(), rng.random()  # five changes and three gains; blur; whether to erase
        expected, patches = erase_patches(pixels, settings.erasing_count, settings.erasing_area, rng)
        np.testing.assert_array_equal(seen, expected)
        np.testing.assert_array_equal(covered, patches)


def test_images_are_covered_by_objects_and_by_random_shapes_in_all_methods() -> None:
    for name in ("robust-photos", "robust-photos-novum", "robust-photos-heads"):
        settings = get_recipe(name).augmentation
        assert (settings.erasing, settings.dead_leaves, settings.copy_paste) == (0.7, 0.5, 1.0)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="Augmentation.dead_leaves is a probability, not 1.5"):
        Augmentation(dead_leaves=1.5)
    with pytest.raises(ValueError, match="Augmentation.dead_leaves_area are shares of the crop, at most 1, not 1.2"):
        Augmentation(dead_leaves_area=(0.5, 1.2))
    with pytest.raises(ValueError, match="Augmentation.dead_leaves_area must be"):
        Augmentation(dead_leaves_area=(0.5, 0.1))
