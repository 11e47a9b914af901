"""Occluders on images: the reached shares are counted again here, pixel by pixel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compnet3d.data.annotations import annotation_dict, plain_name
from compnet3d.data.cutouts import Cutout, cut_objects, load_cutouts
from compnet3d.data.imagenet3d import ImageNet3D, write_list, write_object
from compnet3d.data.images import hidden_shares
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError
from compnet3d.robustness.occluders import (
    ALSO_CALLED,
    gather_occluders,
    make_blob,
    occluder_samples,
    same_category,
)
from compnet3d.robustness.occlusion import (
    RANGES,
    Level,
    Occluded,
    Occlusion,
    Protocol,
    object_region,
    occlude,
    within_ranges,
)

TRIANGLE = np.tri(20, 30, 5, dtype=np.uint8) * 255
CUTOUT = Cutout(np.full((20, 30, 3), 200, np.uint8), TRIANGLE, "kettle")
LEVELS, PROTOCOLS = get_args(Level), get_args(Protocol)


def black(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height))


def disc(size: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[0:size, 0:size] + 0.5 - size / 2
    return np.hypot(x, y) < radius


def counted(found: Occluded, object_mask: np.ndarray) -> tuple[float, float]:
    """Shares of hidden object and background pixels, one pixel after the other."""
    hidden, total = [0, 0], [0, 0]
    for row, column in np.ndindex(object_mask.shape):
        region = 0 if object_mask[row, column] else 1
        total[region] += 1
        hidden[region] += bool(found.mask[row, column])
    on_object, on_background = (h / t if t else 0.0 for h, t in zip(hidden, total, strict=True))
    return on_object, on_background


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("cutouts", [(), (CUTOUT,)], ids=["blobs", "cutouts"])
@pytest.mark.parametrize("seed", range(3))
def test_hidden_shares_reach_the_ranges(
    protocol: Protocol, level: Level, cutouts: tuple[Cutout, ...], seed: int
) -> None:
    image, mask = black(96, 96), disc(96, 28)
    found = occlude(image, mask, np.random.default_rng(seed), level, cutouts, protocol=protocol)
    shares = (found.hidden_object, found.hidden_background)
    assert shares == pytest.approx(counted(found, mask)) and shares == pytest.approx(hidden_shares(found.mask, mask))
    for share, (low, high) in zip(shares, RANGES[protocol][level], strict=True):
        assert low <= share <= high + 1e-9
    assert within_ranges(shares, level, protocol)
    changed = np.asarray(found.image).any(axis=-1)
    # soft edges tint a few pixels more than they hide, blobs may be black somewhere
    assert changed[found.mask].mean() > 0.99 and (changed & ~found.mask).mean() < 0.1
    assert not np.asarray(image).any(), "the image itself must stay as it is"


@pytest.mark.parametrize("size", [(40, 300), (300, 40), (500, 375)])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("level", LEVELS)
def test_images_of_any_shape_reach_the_ranges(size: tuple[int, int], protocol: Protocol, level: Level) -> None:
    width, height = size
    mask = np.zeros((height, width), dtype=bool)
    mask[height // 3 : height // 3 + 20, width // 4 : width // 4 + 25] = True
    found = occlude(black(width, height), mask, np.random.default_rng(0), level, protocol=protocol)
    assert within_ranges((found.hidden_object, found.hidden_background), level, protocol)
    assert (found.hidden_object, found.hidden_background) == pytest.approx(hidden_shares(found.mask, mask))


@given(
    st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 60), st.sampled_from(LEVELS), st.sampled_from(PROTOCOLS)
)
def test_any_object_in_any_image_is_survived(
    seed: int, height: int, width: int, level: Level, protocol: Protocol
) -> None:
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
    mask = rng.random((height, width)) < rng.choice([0.0, 0.1, 0.9, 1.0])
    found = occlude(image, mask, rng, level, (CUTOUT,), protocol=protocol)
    assert found.image.size == image.size and found.mask.shape == mask.shape
    assert (found.hidden_object, found.hidden_background) == pytest.approx(counted(found, mask))
    for share, (_, high) in zip((found.hidden_object, found.hidden_background), RANGES[protocol][level], strict=True):
        assert 0 <= share <= high + 1e-9


@pytest.mark.parametrize("level", LEVELS)
def test_an_object_that_fills_the_image_leaves_no_background_to_cover(level: Level) -> None:
    mask = np.ones((50, 60), dtype=bool)
    found = occlude(black(60, 50), mask, np.random.default_rng(0), level)
    low, high = RANGES["generator"][level][0]
    assert low <= found.hidden_object <= high and found.hidden_background == 0.0
    assert found.mask.mean() == pytest.approx(found.hidden_object)


@pytest.mark.parametrize("level", LEVELS)
def test_an_image_without_object_gets_its_background_covered(level: Level) -> None:
    found = occlude(black(60, 50), np.zeros((50, 60), bool), np.random.default_rng(0), level)
    low, high = RANGES["generator"][level][1]
    assert found.hidden_object == 0.0 and low <= found.hidden_background <= high


@pytest.mark.parametrize("pixels", range(1, 12))
def test_tiny_objects_are_hidden_as_well_as_their_pixels_allow(pixels: int) -> None:
    mask = np.zeros((40, 40), dtype=bool)
    mask.reshape(-1)[600 : 600 + pixels] = True
    for level in LEVELS:
        (low, high), background = RANGES["generator"][level]
        found = occlude(black(40, 40), mask, np.random.default_rng(pixels), level)
        possible = any(low <= k / pixels <= high for k in range(pixels + 1))
        assert found.hidden_object <= high and (found.hidden_object >= low or not possible)
        assert background[0] <= found.hidden_background <= background[1]


def test_the_same_seed_hides_the_same_pixels() -> None:
    first, second, other = (occlude(black(64, 64), disc(64, 20), np.random.default_rng(s), "L2") for s in (1, 1, 2))
    assert (first.mask == second.mask).all() and first.image.tobytes() == second.image.tobytes()
    assert (first.mask != other.mask).any()


def test_cutouts_of_the_same_category_are_not_used() -> None:
    marked = Cutout(np.full((8, 8, 3), 77, np.uint8), np.full((8, 8), 255, np.uint8), "mug")
    for category, expected in (("mug", {200}), ("car", {77, 200})):
        seen: set[int] = set()
        for seed in range(6):
            rng = np.random.default_rng(seed)
            found = occlude(black(64, 64), disc(64, 20), rng, "L3", (marked, CUTOUT), category=category)
            # a few pixels may have any value: edges are blended
            seen |= {value for value in (77, 200) if (np.asarray(found.image) == value).sum() > 30}
        assert seen == expected
    with pytest.raises(CompNetError, match="every occluder is of the category mug"):
        occlude(black(64, 64), disc(64, 20), np.random.default_rng(0), "L1", (marked,), category="mug")


def test_a_category_is_the_same_however_data_sets_write_it() -> None:
    for one, other in (("dining_table", "Dining Table"), ("diningtable", "table"), ("cup", "mug"), ("TV", "tvmonitor")):
        assert same_category(one, other) and same_category(other, one)
    for one, other in (("cup", "table"), ("car", "cart"), (None, "car"), (None, None)):
        assert not same_category(one, other) and not same_category(other, one)
    names = [name for usual, others in ALSO_CALLED.items() for name in (usual, *others)]
    assert len(names) == len(set(names)) and all(plain_name(name) == name for name in names)


def test_what_surrounds_a_cutout_does_not_leak_in() -> None:
    """The clear pixels of this cut-out are red; scaled up and down, none of the red may be seen."""
    colours = np.zeros((41, 41, 3), np.uint8)
    colours[...] = (255, 0, 0)
    inside = disc(41, 15)
    colours[inside] = (0, 200, 0)
    occluder = Cutout(colours, inside.astype(np.uint8) * 255)
    for size in (30, 400):
        found = occlude(black(size, size), disc(size, size / 4), np.random.default_rng(0), "L2", (occluder,))
        pixels = np.asarray(found.image)
        assert pixels[..., 0].max() <= 8 and pixels[..., 1].max() >= 190
        edge = (pixels[..., 1] > 20) & (pixels[..., 1] < 180)
        assert edge.any(), "edges are blended"


def test_thin_and_sparse_cutouts_stay_within_reason() -> None:
    """A cut-out with a single solid pixel must not be blown up to an image of gigabytes."""
    alpha = np.zeros((100, 1000), np.uint8)
    alpha[50, 500] = 255
    found = occlude(
        black(400, 300), disc(300, 40).repeat(2, 1)[:, :400], np.random.default_rng(0), "L3",
        (Cutout(np.zeros((100, 1000, 3), np.uint8), alpha),),
    )  # fmt: skip
    assert 0 <= found.hidden_object <= 0.8


def test_wrong_levels_and_shapes_are_refused() -> None:
    with pytest.raises(CompNetError, match="L1, L2 or L3"):
        occlude(black(8, 8), np.ones((8, 8), bool), np.random.default_rng(0), "L4")  # type: ignore[arg-type]
    with pytest.raises(CompNetError, match="generator or paper"):
        Occlusion("L1", "book")  # type: ignore[arg-type]
    with pytest.raises(CompNetError, match="seed must be at least 0"):
        Occlusion("L1", seed=-1)
    with pytest.raises(ValueError, match="does not fit"):
        occlude(black(8, 8), np.ones((8, 9), bool), np.random.default_rng(0), "L1")
    with pytest.raises(ValueError, match="do not fit"):
        hidden_shares(np.ones((2, 2), bool), np.ones((2, 3), bool))


def test_blobs_differ_and_are_connected_to_their_centre() -> None:
    from scipy.ndimage import label

    blobs = [make_blob(np.random.default_rng(i), size=40) for i in range(4)]
    for blob in blobs:
        assert blob.image.shape == (40, 40, 3) and blob.solid[20, 20] and 0.1 < blob.solid.mean() < 0.95
        assert label(blob.solid)[1] == 1
        assert ((blob.alpha > 0) & (blob.alpha < 255)).any(), "the outline is soft"
    assert len({blob.alpha.tobytes() for blob in blobs}) == 4


def sample_of(folder: Path, **changes: object) -> Sample:
    sample = Sample(
        image=folder / "a.png", category="car", name="a", azimuth=0, elevation=0, theta=0, distance=1, focal=100,
        principal_point=(20, 15), bbox=(10, 5, 30, 25), width=40, height=30,
    )  # fmt: skip
    return replace(sample, **changes)  # type: ignore[arg-type]


def test_the_object_is_its_mask_or_else_its_box(tmp_path: Path) -> None:
    box = np.zeros((30, 40), bool)
    box[5:25, 10:30] = True
    assert (object_region(sample_of(tmp_path), (40, 30)) == box).all()
    twice = object_region(sample_of(tmp_path), (80, 60))
    assert (twice == box.repeat(2, 0).repeat(2, 1)).all(), "a resized copy has a resized box"
    mask = np.zeros((30, 40), np.uint8)
    Image.fromarray(mask).save(tmp_path / "empty.png")
    assert (object_region(sample_of(tmp_path, mask=tmp_path / "empty.png"), (40, 30)) == box).all()
    mask[3:9, 4:20] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert (object_region(sample_of(tmp_path, mask=tmp_path / "mask.png"), (40, 30)) == (mask > 0)).all()


def test_draws_depend_on_the_seed_and_the_samples_key_alone(tmp_path: Path) -> None:
    image, occlusion = black(40, 30), Occlusion("L2", seed=3)

    def hidden(sample: Sample, which: Occlusion = occlusion) -> bytes:
        return which.apply(image, sample).mask.tobytes()

    sample = sample_of(tmp_path)
    before = hidden(sample)
    hidden(sample_of(tmp_path, name="b"))
    assert hidden(sample) == before == hidden(replace(sample, image=tmp_path / "elsewhere.png", azimuth=2.0))
    others = [hidden(replace(sample, **c)) for c in ({"name": "b"}, {"category": "bus"}, {"object_index": 1})]
    assert len({before, *others, hidden(sample, Occlusion("L2", seed=4))}) == 5


def write_masked_set(root: Path, splits: tuple[str, ...] = ("train", "val")) -> None:
    """Two categories, three images a split: nothing, a bar, or a block of white on black, with its mask."""
    for category in ("car", "mug"):
        for split in splits:
            for i in range(3):
                mask = np.zeros((300, 400), dtype=bool)
                mask[50 : 60 + 20 * i, 100 : 100 + 280 * (i > 0)] = True
                image = np.where(mask[..., None], np.uint8(250), np.uint8(0)).repeat(3, axis=2)
                entry = annotation_dict(
                    category=category, azimuth=0, elevation=0, theta=0, distance=1, focal=3000, principal_point=(0, 0),
                    bbox=(0, 0, 9, 9), width=400, height=300,
                )  # fmt: skip
                write_object(root, category, f"{split}{i}", image, [entry], mask)
            write_list(root, category, split, [f"{split}{i}" for i in range(3)])


def test_occluders_are_cut_by_their_masks_from_all_categories(tmp_path: Path) -> None:
    write_masked_set(tmp_path)
    samples = ImageNet3D(tmp_path).samples("train")
    found = cut_objects(samples, count=4)
    assert sorted(o.category or "" for o in found) == ["car", "car", "mug", "mug"]  # empty masks are passed over
    for occluder in found:
        assert max(occluder.alpha.shape) == 256 and occluder.image[occluder.solid].min() > 200
    assert len(cut_objects(samples, count=2)) == 2 and cut_objects([], count=2) == []
    assert gather_occluders("blobs", samples) == () and len(gather_occluders("objects", samples)) == 4
    with pytest.raises(CompNetError, match="no object can be cut out"):
        gather_occluders("objects", [replace(s, mask=None) for s in samples])


def test_objects_are_cut_from_the_train_list_where_there_is_one(tmp_path: Path) -> None:
    write_masked_set(tmp_path / "both")
    assert {s.name[:5] for s in occluder_samples(ImageNet3D(tmp_path / "both"), "val")} == {"train"}
    write_masked_set(tmp_path / "test", ("val",))
    write_list(tmp_path / "test", "car", "train", [])
    assert {s.name[:3] for s in occluder_samples(ImageNet3D(tmp_path / "test"), "val")} == {"val"}


def save_rgba(path: Path, alpha: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.dstack([np.full((*alpha.shape, 3), 90, np.uint8), alpha.astype(np.uint8)])
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]


def test_a_folder_of_cutouts_is_read_with_its_categories(tmp_path: Path) -> None:
    alpha = np.zeros((40, 50))
    alpha[10:30, 5:45] = 255
    alpha[10, 5:45] = 100
    save_rgba(tmp_path / "loose.png", alpha)
    save_rgba(tmp_path / "deep" / "mug" / "a.webp", alpha, lossless=True)
    save_rgba(tmp_path / "car" / "b.PNG", alpha.repeat(20, 0).repeat(20, 1))
    (tmp_path / "readme.txt").write_text("not an image")
    found = load_cutouts(tmp_path)
    assert [o.category for o in found] == ["car", "mug", None]
    assert [o.alpha.shape for o in found] == [(122, 256), (19, 40), (19, 40)], "trimmed to what is solid, and shrunk"
    assert all((o.image[o.solid] == 90).all() for o in found)
    assert len(load_cutouts(tmp_path, count=2)) == 2
    assert gather_occluders(str(tmp_path), [], count=2, seed=1) != ()
    grey = Image.fromarray(np.dstack([alpha, alpha]).astype(np.uint8), "LA")
    palette = Image.fromarray((alpha > 0).astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 90, 90, 90])
    for i, image in enumerate((grey, palette)):
        folder = tmp_path / f"mode{i}"
        folder.mkdir()
        image.save(folder / "a.png", **({"transparency": 0} if i else {}))
        assert load_cutouts(folder)[0].alpha.max() == 255


def test_broken_folders_of_cutouts_are_reported_in_a_sentence(tmp_path: Path) -> None:
    def refused(match: str, folder: Path = tmp_path / "cutouts") -> None:
        with pytest.raises(CompNetError, match=match):
            load_cutouts(folder)

    refused("is not a folder", tmp_path / "missing")
    (tmp_path / "cutouts").mkdir()
    refused("holds no occluder")
    image = tmp_path / "cutouts" / "a.png"
    Image.new("RGB", (9, 9)).save(image)
    refused(r"a\.png has no transparency")
    save_rgba(image, np.zeros((9, 9)))
    refused(r"a\.png is transparent")
    save_rgba(image, np.full((9, 9), 100))
    refused(r"a\.png is transparent")
    image.write_bytes(image.read_bytes()[:40])
    refused(r"a\.png")


def test_real_objects_hide_real_objects(shared_dir: Path) -> None:
    samples = ImageNet3D(shared_dir / "data" / "eth80").samples("train")
    occluders = cut_objects(samples, count=16)
    assert {o.category for o in occluders} == {s.category for s in samples}
    found = Occlusion("L3", occluders=tuple(occluders)).apply(Image.open(samples[0].image).convert("RGB"), samples[0])
    assert 0.6 <= found.hidden_object <= 0.8 and 0.4 <= found.hidden_background <= 0.6
