from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from compnet3d.data.annotations import annotation_dict
from compnet3d.data.augment import Augmentation
from compnet3d.data.imagenet3d import ImageNet3D, write_list, write_object
from compnet3d.data.loader import CropDataset
from compnet3d.data.sample import Sample
from compnet3d.data.transforms import InputConfig
from compnet3d.errors import CompNetError

SPEC = InputConfig(height=24, width=32, focal=900.0, distance=5.0, box_fill=0.6)
STRONG = Augmentation(
    rotation=30, scale=(0.8, 1.25), shift=0.08, mirror=0.5, brightness=0.3, contrast=0.3, saturation=0.3,
    colour_jitter=0.1, gamma=0.3, grey=0.1, blur=0.2, noise=10, erasing=0.5,
)  # fmt: skip


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    rng = np.random.default_rng(0)
    for category in ("car", "mug"):
        for i in range(3):
            entry = annotation_dict(
                category=category, azimuth=1.0 + i, elevation=0.2, theta=0.1, distance=5.0, focal=900.0,
                principal_point=(20.0, 15.0), bbox=(5, 5, 35, 25), width=40, height=30,
            )  # fmt: skip
            write_object(tmp_path, category, f"{i}", rng.integers(0, 255, (30, 40, 3), dtype=np.uint8), [entry])
        write_list(tmp_path, category, "train", "012")
    return ImageNet3D(tmp_path).samples("train")


def test_items_are_the_documented_tensors(samples: list[Sample]) -> None:
    data = CropDataset(samples, ["mug", "car"], SPEC)
    item = data[4]
    assert len(data) == 6
    assert item["image"].dtype == torch.uint8 and item["image"].shape == (3, 24, 32)
    assert (int(item["category"]), int(item["index"])) == (0, 4)
    for name, value in {"azimuth": 2.0, "elevation": 0.2, "theta": 0.1, "distance": 5.0, "focal": 900.0}.items():
        assert item[name].dtype == torch.float32 and item[name].shape == ()
        assert float(item[name]) == pytest.approx(value)
    assert item["principal_point"].tolist() == [16.0, 12.0]
    assert item["occluded"].dtype == torch.bool and item["occluded"].shape == (24, 32)
    with pytest.raises(IndexError):
        data[6]


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_randomness_depends_on_seed_epoch_and_index_alone(samples: list[Sample]) -> None:
    def dataset(seed: int = 0) -> CropDataset:
        return CropDataset(samples, ["car", "mug"], SPEC, augmentation=STRONG, mirror_categories={"car"}, seed=seed)

    first, second = dataset(), dataset()
    [second[(7, i)] for i in range(6)]  # whatever was drawn before
    for i in range(6):
        assert equal(first[(3, i)], second[(3, i)])
        assert not equal(first[(3, i)], first[(4, i)])
        assert not equal(first[(3, i)], dataset(seed=1)[(3, i)])
        assert equal(first[i], first[(0, i)])
    assert not any(first.crop_at(i, epoch).mirrored for i in (3, 4, 5) for epoch in range(10))
    assert any(first.crop_at(0, epoch).mirrored for epoch in range(10))


def test_workers_see_the_same_views(samples: list[Sample]) -> None:
    data = CropDataset(samples, ["car", "mug"], SPEC, augmentation=STRONG)
    order = [(2, i) for i in (5, 0, 3, 1)]
    loader = DataLoader(data, batch_size=2, sampler=order, num_workers=1)  # type: ignore[arg-type]
    images = torch.cat([batch["image"] for batch in loader])
    assert torch.equal(images, torch.stack([data[key]["image"] for key in order]))


def test_the_cache_changes_nothing_and_respects_its_limit(samples: list[Sample]) -> None:
    plain = CropDataset(samples, ["car", "mug"], SPEC, augmentation=STRONG)
    cached = CropDataset(samples, ["car", "mug"], SPEC, augmentation=STRONG, cache_bytes=2 * 40 * 30 * 3 + 5)
    for _ in range(2):
        assert all(equal(plain[i], cached[i]) for i in range(6))
    before = [cached[i] for i in range(6)]
    for sample in samples:
        sample.image.unlink()
    assert all(equal(before[i], cached[i]) for i in (0, 1))
    for i in range(2, 6):  # two photographs fit
        with pytest.raises(CompNetError, match=rf"{samples[i].category}.{samples[i].name}\.JPEG does not exist"):
            cached[i]


@pytest.mark.parametrize("masked", [True, False])
def test_other_objects_are_pasted_by_their_masks_or_boxes(samples: list[Sample], tmp_path: Path, masked: bool) -> None:
    """Of an image that is red in the mask or the box and green elsewhere, a covered crop shows red alone."""
    image, mask = np.zeros((30, 40, 3), dtype=np.uint8), np.zeros((30, 40), dtype=np.uint8)
    image[...] = (0, 255, 0)
    image[5:25, 5:35] = (255, 0, 0)
    mask[5:25, 5:35] = 255
    Image.fromarray(image).save(tmp_path / "red.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    source_category = replace(samples[0], image=tmp_path / "red.png", mask=tmp_path / "mask.png" if masked else None)
    settings = Augmentation(erasing=1.0, erasing_count=1, erasing_area=(0.3, 0.3), copy_paste=1.0)
    data = CropDataset([source_category], ["mug", "car"], SPEC, augmentation=settings)
    cutout = data._cut_out(np.random.default_rng(0))
    assert cutout.solid.shape == (20, 30) and (cutout.image[cutout.solid] == (255, 0, 0)).all()
    assert cutout.solid.mean() == pytest.approx(1.0 if masked else np.pi / 4, abs=0.03)
    covered = np.mean([data[epoch, 0]["occluded"].float().mean() for epoch in range(20)])
    assert 0.08 < covered < 0.4
    assert equal(data[3, 0], data[3, 0]) and not equal(data[3, 0], data[4, 0])


def test_broken_images_and_unknown_categories_are_named(samples: list[Sample]) -> None:
    samples[1].image.write_bytes(b"no image")
    data = CropDataset(samples, ["car", "mug"], SPEC)
    with pytest.raises(CompNetError, match="1.JPEG is not an image"):
        data[1]
    Image.new("RGB", (30, 40)).save(samples[2].image)
    with pytest.raises(CompNetError, match="2.JPEG is 30 x 40"):
        data[2]
    with pytest.raises(CompNetError, match="does not know: mug"):
        CropDataset(samples, ["car"], SPEC)


def test_an_item_is_cheap(shared_dir: Path) -> None:
    """A few milliseconds for a 256-pixel image; the limit is generous for busy machines."""
    samples = ImageNet3D(shared_dir / "data" / "eth80").samples("val")[::12]
    input_config = InputConfig.fitted(samples, 256, 256)
    data = CropDataset(samples, sorted({s.category for s in samples}), input_config, augmentation=STRONG)
    data[0]
    start = time.process_time()
    for i in range(len(data)):
        data[i]
    assert (time.process_time() - start) / len(data) < 0.02


def test_a_photograph_decoded_at_a_part_of_its_size_shows_the_object_in_the_same_place(tmp_path: Path) -> None:
    """The centre of mass of a spot, which no change of resolution moves, is where the crop says that it is."""
    size, spot = (1600, 1200), (803.3, 591.6)
    column, row = np.arange(size[0]) + 0.5, np.arange(size[1])[:, None] + 0.5
    values = 230 * np.exp(-((column - spot[0]) ** 2 + (row - spot[1]) ** 2) / (2 * 60.0**2))
    for suffix in ("jpg", "png"):
        Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB").save(tmp_path / f"spot.{suffix}", quality=97)
    sample = Sample(
        tmp_path / "spot.jpg", "mug", "spot", azimuth=1.0, elevation=0.2, theta=0.1, distance=5.0, focal=3000.0,
        principal_point=spot, bbox=(503, 291, 1103, 892), width=size[0], height=size[1],
    )  # fmt: skip
    config = InputConfig(height=96, width=128, focal=450.0, distance=5.0, box_fill=0.9)
    moves = Augmentation(rotation=20, scale=(0.8, 1.25), shift=0.1, box_crop=0.5)

    def crops(**changes: object) -> CropDataset:
        return CropDataset([replace(sample, **changes)], ["mug"], config, augmentation=moves, seed=2)  # type: ignore[arg-type]

    reduced, whole = crops(), crops(image=tmp_path / "spot.png")
    for epoch in range(12):
        crop, other = reduced.crop_at(0, epoch), whole.crop_at(0, epoch)
        assert crop.source_size == (400, 300) and other.source_size == size  # at most 0.15 x 1.25 of its size
        assert crop.principal_point == pytest.approx(other.principal_point, abs=1e-9)
        assert (crop.distance, crop.theta) == pytest.approx((other.distance, other.theta), abs=1e-9)
        assert np.abs(crop.image.astype(int) - other.image).mean() < 1.0
        mass = crop.image[..., 0].astype(float)
        mass[mass < 4] = 0  # what JPEG makes of black
        height, width = mass.shape
        place = (
            np.array([(mass * (np.arange(width) + 0.5)).sum(), (mass.T * (np.arange(height) + 0.5)).sum()]) / mass.sum()
        )
        assert place == pytest.approx(crop.principal_point, abs=0.01)
    assert crops().plain().crop_at(0).source_size == size
