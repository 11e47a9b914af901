from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compnet3d.data.augment import Augmentation
from compnet3d.data.backgrounds import (
    beside,
    drawn_background,
    find_photographs,
    set_before,
    swap_background,
    window_of,
)
from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.loader import CropDataset, Scenery
from compnet3d.data.sample import Sample
from compnet3d.data.silhouettes import object_layer, silhouette
from compnet3d.data.transforms import InputConfig, make_crop
from compnet3d.errors import CompNetError
from compnet3d.evaluation.crops import EvaluationCrops
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.geometry.mesh import Mesh
from compnet3d.robustness.corrupted_data import corrupt_dataset
from compnet3d.robustness.occluded_data import occlude_dataset
from compnet3d.robustness.shift import Shift

SWAPPED = Augmentation(background_swap=1.0)
RED = (255, 0, 0)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder with one photograph, all red, and a file that is none."""
    folder = tmp_path / "photographs"
    (folder / "inner").mkdir(parents=True)
    Image.new("RGB", (70, 50), RED).save(folder / "inner" / "red.png")
    (folder / "notes.txt").write_text("no photograph")
    return folder


def sample_at(azimuth: float, **values: object) -> Sample:
    return replace(
        Sample(
            image=Path("none.png"), category="box", name="none", azimuth=azimuth, elevation=0.0, theta=0.0,
            distance=5.0, focal=500.0, principal_point=(60.0, 50.0), bbox=(0, 0, 1, 1), width=120, height=100,
        ),
        **values,
    )  # fmt: skip


def box(x: float, y: float, z: float) -> Mesh:
    return cuboid_mesh(torch.tensor([x, y, z]), 8).mesh


def test_each_pixel_is_mixed_by_its_alpha():
    rng = np.random.default_rng(0)
    pixels, other = rng.integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    alpha = rng.integers(0, 256, (5, 7), dtype=np.uint8)
    alpha[0, 0], alpha[0, 1] = 0, 255
    mixed = set_before(pixels, alpha, other)
    for i in range(5):
        for j in range(7):
            share = alpha[i, j] / 255
            expected = share * pixels[i, j].astype(float) + (1 - share) * other[i, j]
            assert np.abs(mixed[i, j] - expected).max() <= 1
    assert (mixed[0, 0] == other[0, 0]).all() and (mixed[0, 1] == pixels[0, 1]).all()


def test_away_from_its_edge_an_object_stays_and_all_else_goes():
    pixels = np.full((40, 40, 3), 200, dtype=np.uint8)
    background = np.zeros_like(pixels)
    alpha = np.zeros((40, 40), dtype=np.uint8)
    alpha[10:30, 10:30] = 255
    edges, far = set(), set()
    for seed in range(40):
        swapped = swap_background(pixels, alpha, background, np.random.default_rng(seed))
        assert (swapped[15:25, 15:25] == 200).all()
        edges.add(tuple(swapped[20, 6:14, 0].tolist()))
        far.add(int(swapped[2, 2, 0]))
    # soft and hard, further in and further out; colours matched now and then, by any share of what lies between
    assert len(edges) > 20
    assert 0 in far and 5 <= len(far) <= 25 and max(far) > 100


def test_a_window_is_a_part_of_the_image_with_the_proportions_asked_for():
    ramp = np.broadcast_to(np.linspace(0, 255, 300).astype(np.uint8)[None, :, None], (200, 300, 3))
    spans, flips = [], 0
    for seed in range(60):
        window = window_of(Image.fromarray(np.ascontiguousarray(ramp)), (60, 80), np.random.default_rng(seed))
        assert window.shape == (80, 60, 3)
        row = window[40, :, 0].astype(int)
        flips += int(row[0] > row[-1])
        # 150 of 300 columns are the most that fit beside 200 rows
        spans.append(abs(row[-1] - row[0]) / 255 * 300 * 60 / 59)
    assert 55 < min(spans) < 75 and 125 < max(spans) < 155
    assert 15 < flips < 45


def test_the_widest_strip_beside_a_box():
    image = Image.fromarray(np.arange(100 * 200, dtype=np.uint32).reshape(100, 200).astype(np.uint8)).convert("RGB")
    strip = beside(image, (20, 10, 110, 95))
    assert strip is not None and strip.size == (90, 100)
    assert (np.asarray(strip) == np.asarray(image)[:, 110:]).all()
    assert beside(image, (-5, -5, 190, 105)) is None
    outside = beside(image, (300, 10, 400, 20))
    assert outside is not None and outside.size == (200, 100)


def test_drawn_backgrounds_have_the_size_asked_for_and_differ():
    drawn = [drawn_background((30, 20), np.random.default_rng(seed)) for seed in range(6)]
    assert all(d.shape == (20, 30, 3) and d.dtype == np.uint8 for d in drawn)
    assert len({d.tobytes() for d in drawn}) == 6


def test_photographs_are_found_in_folders_within(photographs: Path, tmp_path: Path):
    assert [p.name for p in find_photographs(photographs)] == ["red.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(CompNetError, match="empty holds no photograph"):
        find_photographs(tmp_path / "empty")
    with pytest.raises(CompNetError, match=r"notes\.txt is not a folder"):
        find_photographs(photographs / "notes.txt")


@pytest.mark.parametrize("scale", [1, 5])
def test_the_silhouette_of_a_box_seen_from_its_front(scale: int):
    sample = sample_at(0.0, width=120 * scale, height=100 * scale, focal=500.0 * scale)
    sample = replace(sample, principal_point=(60.0 * scale, 50.0 * scale))
    layer = silhouette(sample, box(0.4, 1.0, 0.2), margin=0.0)
    assert layer is not None and layer.size == (120 * scale, 100 * scale)
    rows, columns = np.nonzero(np.asarray(layer) >= 128)
    # the front is at y = - 0.5, thus 4.5 away
    half = 500 * scale / 4.5 * np.array([0.2, 0.1])
    # half a cell of 256 on the longer side
    assert abs(columns.min() - (60 * scale - half[0])) <= 1 + 120 * scale / 256
    assert abs(columns.max() + 1 - (60 * scale + half[0])) <= 1 + 120 * scale / 256
    assert abs(rows.min() - (50 * scale - half[1])) <= 1 + 120 * scale / 256


def test_a_silhouette_grows_by_its_margin_and_is_none_outside_the_image():
    mesh = box(0.4, 1.0, 0.2)
    bare, grown = (np.asarray(silhouette(sample_at(0.7), mesh, margin=m)) >= 128 for m in (0.0, 0.05))
    # six pixels of 120
    rows, columns = np.nonzero(bare)
    assert np.nonzero(grown)[0].min() == rows.min() - 6 and np.nonzero(grown)[1].max() == columns.max() + 6
    assert grown[bare].all()
    assert silhouette(sample_at(0.0, principal_point=(5000.0, 50.0)), mesh) is None


def test_a_mask_counts_before_the_silhouette_unless_it_is_black(tmp_path: Path):
    mesh, mask = box(0.4, 1.0, 0.2), np.zeros((100, 120), dtype=np.uint8)
    Image.fromarray(mask).save(tmp_path / "black.png")
    mask[3:7, 4:9] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    layer = object_layer(sample_at(0.0, mask=tmp_path / "mask.png"), (120, 100), mesh)
    assert layer is not None and (np.asarray(layer) == mask).all()
    black = sample_at(0.0, mask=tmp_path / "black.png")
    stand_in = object_layer(black, (120, 100), mesh)
    assert stand_in is not None and np.asarray(stand_in)[50, 60] == 255
    assert object_layer(black, (120, 100)) is None and object_layer(sample_at(0.0), (120, 100)) is None


def test_the_layer_of_a_resized_copy_has_its_size(tmp_path: Path):
    mask = np.zeros((100, 120), dtype=np.uint8)
    mask[20:60, 30:90] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    masked = object_layer(sample_at(0.0, mask=tmp_path / "mask.png"), (60, 50))
    assert masked is not None and masked.size == (60, 50)
    assert (np.asarray(masked) == mask[::2, ::2]).all()
    drawn = [object_layer(sample_at(0.7), size, box(0.4, 1.0, 0.2)) for size in ((120, 100), (60, 50))]
    whole, half = (np.argwhere(np.asarray(layer) >= 128) for layer in drawn)
    assert np.abs(whole.mean(axis=0) - 2 * half.mean(axis=0)).max() < 1.0


def test_resized_copies_of_images_are_swapped_where_their_objects_are(tiny, photographs: Path, tmp_path: Path):
    dataset, samples, config = tiny
    copies = []
    for sample in samples[:3]:
        path = tmp_path / f"half_{sample.name}.png"
        with Image.open(sample.image) as image:
            image.resize((image.width // 2, image.height // 2)).save(path)
        copies.append(replace(sample, image=path))
    settings = {"augmentation": SWAPPED, "scenery": Scenery(find_photographs(photographs))}
    swapped = CropDataset(copies, dataset.categories, config, **settings)
    plain = swapped.plain()
    for i, sample in enumerate(copies):
        crop, own = swapped.crop_at(i), plain.crop_at(i)
        mask = Image.open(sample.mask).resize((24, 24))
        inside = make_crop(Image.merge("RGB", [mask] * 3), sample, config, crop="oracle").image[..., 0] == 255
        inner = ~_grown(~inside, 4)
        assert inner.any() and (crop.image[inner] == own.image[inner]).all()


@pytest.fixture
def tiny(tiny_data: Path, tmp_path: Path) -> tuple[ImageNet3D, list[Sample], InputConfig]:
    """The tiny data set, with masks."""
    dataset = ImageNet3D(tiny_data)
    samples = []
    for sample in dataset.samples("train"):
        layer = silhouette(sample, dataset.meshes(sample.category)[0], margin=0.0)
        assert layer is not None
        layer.point(lambda value: 255 * (value >= 128)).save(tmp_path / f"{sample.name}.png")
        samples.append(replace(sample, mask=tmp_path / f"{sample.name}.png"))
    return dataset, samples, InputConfig.fitted(samples, 48, 48)


def red_share(pixels: np.ndarray) -> float:
    return float((np.abs(pixels.astype(int) - RED).max(axis=-1) <= 2).mean())


def test_training_crops_get_photographs_by_masks_and_by_silhouettes(tiny, photographs: Path):
    dataset, samples, config = tiny
    scenery = Scenery(find_photographs(photographs), {name: dataset.meshes(name) for name in dataset.categories})
    bare = [replace(sample, mask=None) for sample in samples]
    for members in (samples, bare):
        crops = CropDataset(members, dataset.categories, config, augmentation=SWAPPED, scenery=scenery)
        red = [red_share(crops.crop_at(i, epoch).image) for i in range(len(members)) for epoch in range(4)]
        # photographs are 70 % of the backgrounds, whose colours are matched in 30 % of the cases
        assert 0.3 < np.mean([share > 0.2 for share in red]) < 0.65
        # the object stays where it is
        assert max(red) < 0.95
    alone = CropDataset(bare, dataset.categories, config, augmentation=SWAPPED, scenery=Scenery(scenery.photographs))
    plain = alone.plain()
    assert all((alone.crop_at(i).image == plain.crop_at(i).image).all() for i in range(len(bare)))


def test_without_photographs_backgrounds_are_parts_of_other_images_and_drawn_ones(tiny):
    dataset, samples, config = tiny
    crops = CropDataset(samples, dataset.categories, config, augmentation=SWAPPED)
    plain = crops.plain()
    for i in range(4):
        swapped, own = crops.crop_at(i), plain.crop_at(i)
        assert (swapped.image != own.image).any(axis=-1).mean() > 0.2
        assert (swapped.azimuth, swapped.principal_point) == (own.azimuth, own.principal_point)


def test_swapped_crops_depend_on_seed_epoch_and_index_alone(tiny, photographs: Path):
    dataset, samples, config = tiny
    settings = {"augmentation": replace(SWAPPED, rotation=20), "scenery": Scenery(find_photographs(photographs))}
    kept = CropDataset(samples, dataset.categories, config, cache_bytes=10**7, **settings)
    read = CropDataset(samples, dataset.categories, config, **settings)
    first = [read.crop_at(i, 3).image for i in (2, 0, 1)]
    assert all((kept.crop_at(i, 3).image == image).all() for i, image in zip((2, 0, 1), first, strict=True))
    assert (kept.crop_at(2, 3).image == first[0]).all()
    assert (read.crop_at(2, 4).image != first[0]).any()


def test_what_is_switched_off_draws_nothing(tiny, photographs: Path):
    dataset, samples, config = tiny
    augmentation = Augmentation(rotation=20, brightness=0.4, noise=8.0, erasing=0.5)
    plain = CropDataset(samples, dataset.categories, config, augmentation=augmentation)
    ready = CropDataset(
        samples, dataset.categories, config, augmentation=augmentation, scenery=Scenery(find_photographs(photographs))
    )
    assert all((plain.crop_at(i, 1).image == ready.crop_at(i, 1).image).all() for i in range(len(samples)))


def test_box_crops_are_those_of_an_evaluation(tiny):
    dataset, samples, config = tiny
    crops = CropDataset(samples, dataset.categories, config, augmentation=Augmentation(box_crop=1.0))
    boxed = EvaluationCrops(samples, dataset.categories, config, crop="box")
    for i in range(4):
        mine, theirs = crops.crop_at(i), boxed.crop_at(i)
        assert (mine.image == theirs.image).all()
        assert mine.distance == pytest.approx(theirs.distance) and mine.principal_point == theirs.principal_point
    half = CropDataset(samples, dataset.categories, config, augmentation=Augmentation(box_crop=0.5))
    scales = {round(half.crop_at(0, epoch).scale, 6) for epoch in range(12)}
    assert len(scales) == 2


def test_test_images_get_other_backgrounds_by_the_seed_and_their_name(tiny, photographs: Path):
    dataset, samples, config = tiny
    shift = Shift(backgrounds=str(photographs))
    crops = EvaluationCrops(samples, dataset.categories, config, shift=shift)
    plain = EvaluationCrops(samples, dataset.categories, config)
    for i, sample in enumerate(samples[:4]):
        mask = np.asarray(Image.open(sample.mask)) > 0
        image = np.asarray(crops._before_background(crops._image_of(sample), sample))
        own = np.asarray(plain._image_of(sample))
        inner = mask & ~_grown(~mask, 3)
        outer = ~_grown(mask, 3)
        assert (image[inner] == own[inner]).all() and (image[outer] == RED).all()
        assert crops.crop_at(i).azimuth == plain.crop_at(i).azimuth
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (90, 90, 3), dtype=np.uint8)).save(photographs / "noise.png")
    longer, shorter, other = (
        EvaluationCrops(some, dataset.categories, config, shift=Shift(backgrounds=str(photographs), seed=seed))
        for some, seed in ((samples, 0), (samples[1:], 0), (samples, 1))
    )
    assert all((longer.crop_at(i + 1).image == shorter.crop_at(i).image).all() for i in range(4))
    assert any((longer.crop_at(i).image != other.crop_at(i).image).any() for i in range(4))


def test_an_object_without_a_mask_cannot_be_set_before_another_background(tiny, photographs: Path):
    dataset, samples, config = tiny
    bare = [replace(samples[0], mask=None)]
    with pytest.raises(CompNetError, match=r"has no mask"):
        EvaluationCrops(bare, dataset.categories, config, shift=Shift(backgrounds=str(photographs)))


def test_the_shift_is_named_and_read_again(photographs: Path):
    shift = Shift("L1", backgrounds=str(photographs))
    assert shift.label == "other backgrounds, occluded L1"
    assert Shift.from_dict(shift.to_dict()) == shift != Shift("L1")
    assert Shift().find_backgrounds() == ()


def _grown(mask: np.ndarray, reach: int) -> np.ndarray:
    """The pixels of a mask, and those at most `reach` away from one of them on each axis."""
    grown = np.zeros_like(mask)
    for row, column in zip(*np.nonzero(mask), strict=True):
        grown[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = True
    return grown


def test_data_sets_on_disk_are_occluded_or_corrupted_and_nothing_beside(tmp_path: Path, photographs: Path):
    out, folder = tmp_path / "out", str(photographs)
    with pytest.raises(CompNetError, match="not be other backgrounds, occluded L1"):
        occlude_dataset(tmp_path, out, Shift("L1", backgrounds=folder))
    with pytest.raises(CompNetError, match="not be other backgrounds, fog 4"):
        corrupt_dataset(tmp_path, out, Shift(corruption="fog", backgrounds=folder))
    assert not out.exists()
