from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compnet3d.benchmarks.occlusion import RANGES, Occluder, cut_occluders, make_blob, occlude_view
from compnet3d.data.imagenet3d import ImageNet3D, annotation_dict, write_list, write_object
from compnet3d.errors import CompNetError

CUTOUT = Occluder(np.full((20, 30, 3), 200, np.uint8), np.tri(20, 30, 5, dtype=bool), "cup")


def disc(size: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[0:size, 0:size] + 0.5 - size / 2
    return np.hypot(x, y) < radius


@pytest.mark.parametrize("protocol", ["generator", "paper"])
@pytest.mark.parametrize("level", ["L1", "L2", "L3"])
@pytest.mark.parametrize("cutouts", [(), (CUTOUT,)])
@pytest.mark.parametrize("seed", range(3))
def test_hidden_shares_reach_the_ranges_and_are_measured(
    protocol: str, level: str, cutouts: tuple[Occluder, ...], seed: int
) -> None:
    image = np.zeros((96, 96, 3), dtype=np.uint8)
    mask = disc(96, 28)
    found, on_object, on_background = occlude_view(
        image, mask, np.random.default_rng(seed), level, cutouts, protocol=protocol
    )  # type: ignore[arg-type, call-overload]
    object_range, background_range = RANGES[protocol][level]  # type: ignore[index]
    assert object_range[0] - 0.02 <= on_object <= object_range[1]
    assert background_range[0] - 0.02 <= on_background <= background_range[1]
    changed = found.any(axis=-1)
    assert changed[mask].mean() == pytest.approx(on_object, abs=0.05)
    assert changed[~mask].mean() == pytest.approx(on_background, abs=0.05)
    assert not image.any()


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 60), st.sampled_from(["L1", "L2", "L3"]))
def test_any_object_in_any_view_is_survived(seed: int, height: int, width: int, level: str) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    mask = rng.random((height, width)) < rng.choice([0.0, 0.1, 0.9, 1.0])
    found, on_object, on_background = occlude_view(image, mask, rng, level, (CUTOUT,))  # type: ignore[arg-type]
    object_range, background_range = RANGES["generator"][level]  # type: ignore[index]
    assert found.shape == image.shape and 0 <= on_object <= object_range[1]
    assert 0 <= on_background <= background_range[1]


def test_the_same_seed_hides_the_same_pixels() -> None:
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    first, second, other = (occlude_view(image, disc(64, 20), np.random.default_rng(s), "L2")[0] for s in (1, 1, 2))
    assert (first == second).all() and (first != other).any()


def test_cutouts_of_the_same_category_are_not_used() -> None:
    marked = Occluder(np.full((8, 8, 3), 77, np.uint8), np.ones((8, 8), bool), "mug")
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    for category, expected in (("mug", {0, 200}), ("car", {0, 77, 200})):
        seen: set[int] = set()
        for seed in range(6):
            pair = (marked, CUTOUT)
            found = occlude_view(image, disc(64, 20), np.random.default_rng(seed), "L3", pair, category=category)[0]
            seen |= set(np.unique(found).tolist())
        assert seen == expected


def test_wrong_levels_and_shapes_are_refused() -> None:
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    with pytest.raises(CompNetError, match="L1, L2 or L3"):
        occlude_view(image, np.ones((8, 8), bool), np.random.default_rng(0), "L4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="does not fit"):
        occlude_view(image, np.ones((8, 9), bool), np.random.default_rng(0), "L1")


def test_blobs_differ_and_are_connected_to_their_centre() -> None:
    from scipy.ndimage import label

    blobs = [make_blob(np.random.default_rng(i), size=40) for i in range(4)]
    for blob in blobs:
        assert blob.image.shape == (40, 40, 3) and blob.mask[20, 20] and 0.1 < blob.mask.mean() < 0.95
        assert label(blob.mask)[1] == 1
    assert len({blob.mask.tobytes() for blob in blobs}) == 4


def test_occluders_are_cut_by_their_masks_from_all_categories(tmp_path: Path) -> None:
    for category in ("car", "mug"):
        for i in range(3):
            mask = np.zeros((300, 400), dtype=bool)
            mask[50 : 60 + 20 * i, 100 : 100 + 200 * (i > 0)] = True
            image = np.where(mask[..., None], np.uint8(250), np.uint8(0)).repeat(3, axis=2)
            entry = annotation_dict(
                category=category, azimuth=0, elevation=0, theta=0, distance=1, focal=3000, principal=(0, 0),
                bbox=(0, 0, 9, 9), width=400, height=300,
            )  # fmt: skip
            write_object(tmp_path, category, str(i), image, [entry], mask)
        write_list(tmp_path, category, "train", "012")
    samples = ImageNet3D(tmp_path).samples("train")
    found = cut_occluders(samples, count=4)
    assert sorted(o.category or "" for o in found) == ["car", "car", "mug", "mug"]  # empty masks are passed over
    for occluder in found:
        assert max(occluder.mask.shape) == 160 and occluder.image[occluder.mask].min() > 200
    assert len(cut_occluders(samples, count=2)) == 2 and cut_occluders([], count=2) == []


def test_real_objects_hide_real_objects(shared_dir: Path) -> None:
    samples = ImageNet3D(shared_dir / "data" / "eth80").samples("train")
    occluders = cut_occluders(samples, count=16)
    assert {o.category for o in occluders} == {s.category for s in samples}
    image = np.zeros((128, 128, 3), dtype=np.uint8)
    _, on_object, on_background = occlude_view(image, disc(128, 40), np.random.default_rng(0), "L3", occluders)
    assert 0.6 <= on_object <= 0.8 and 0.4 <= on_background <= 0.6
