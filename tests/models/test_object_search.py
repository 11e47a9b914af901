"""Objects that are found by the model's own score, in images whose colours are the features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy.spatial import ConvexHull
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize, pad

from compnet3d.data.transforms import InputConfig
from compnet3d.geometry.camera import Camera, Pose
from compnet3d.inference.detection import box_iou
from compnet3d.inference.pose_hypotheses import PoseGrid
from compnet3d.inference.pose_search import PoseSettings
from compnet3d.models.backbones import BackboneConfig, FeatureExtractor
from compnet3d.models.compnet import CompNet
from compnet3d.models.config import CompNetConfig
from compnet3d.models.object_search import ObjectSearch, SearchSettings, _centres, _stitch
from tests.networks import TINY_RESNET

RED, GREEN, GREY = (220, 20, 20), (20, 200, 20), (120, 120, 120)
CONFIG = CompNetConfig(
    categories=("brick", "tower"),
    bounds=(((-0.45, -0.2, -0.15), (0.45, 0.2, 0.15)), ((-0.15, -0.2, -0.45), (0.2, 0.2, 0.5))),
    backbone=BackboneConfig("resnet", TINY_RESNET, dimension=16),
    input_config=InputConfig(height=48, width=64, focal=120.0, distance=3.0, box_fill=0.7),
    vertex_count=60,
    background_size=1,
    pose=PoseSettings(steps=10, starts=2),
    grid=PoseGrid(azimuths=6, elevations=2, thetas=1),
)


class Colours(FeatureExtractor):
    """The mean colour of each cell is its feature."""

    stride = 4

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        return normalize(pad(avg_pool2d(pixels, self.stride), (0, 0, 0, 0, 0, 13)), dim=1)


@pytest.fixture(scope="module")
def model() -> CompNet:
    """Knows red bricks and green towers before grey."""
    made = CompNet(CONFIG, Colours(CONFIG.backbone))
    bank = made.bank
    for number, colour in enumerate((RED, GREEN)):
        start, stop = bank.feature_bank.offsets[number : number + 2].tolist()
        bank.vertex_features[start:stop] = feature(colour)
    bank.update_background(feature(GREY)[None])
    return made.eval()


def feature(colour: tuple[int, int, int]) -> Tensor:
    return pad(normalize(torch.tensor(colour, dtype=torch.float32), dim=0), (0, 13))


def painted(
    image: Image.Image, model: CompNet, category: str, middle: tuple[float, float], focal: float
) -> list[float]:
    """Paint an object, the outline of its cuboid, and return its box."""
    camera = Camera(
        focal=torch.tensor(focal),
        principal_point=torch.tensor(middle, dtype=torch.float32),
        height=image.height,
        width=image.width,
    )
    pixels, _ = camera.project(model.mesh(category).vertices, Pose.of(0.9, 0.3, 0.0, 3.0))
    outline = pixels.numpy()[ConvexHull(pixels.numpy()).vertices]
    ImageDraw.Draw(image).polygon([tuple(p) for p in outline.tolist()], fill=RED if category == "brick" else GREEN)
    return [*outline.min(axis=0).tolist(), *outline.max(axis=0).tolist()]


@pytest.mark.parametrize(
    ("category", "middle", "focal"),
    [
        ("brick", (60, 70), 160.0),
        ("brick", (150, 40), 200.0),
        ("tower", (100, 75), 350.0),
        ("tower", (170, 100), 150.0),
    ],
)
def test_an_object_is_found_where_it_was_painted(
    model: CompNet, category: str, middle: tuple[float, float], focal: float
) -> None:
    image = Image.new("RGB", (200, 150), GREY)
    box = painted(image, model, category, middle, focal)
    found = model.object_search().detect(image, 1)
    assert float(box_iou(found.boxes, torch.tensor([box]))[0, 0]) > 0.5
    answer = model.predict(image)
    assert answer[0].category == category and torch.equal(answer.box, found.boxes) and answer[0].image_index == 0


def test_two_objects_are_found_once_each(model: CompNet) -> None:
    image = Image.new("RGB", (240, 120), GREY)
    boxes = [painted(image, model, "brick", (60, 60), 180.0), painted(image, model, "tower", (180, 60), 200.0)]
    found = model.object_search().detect(image, 2)
    overlaps = box_iou(found.boxes, torch.tensor(boxes))
    assert overlaps.amax(dim=0).min() > 0.5 and overlaps.amax(dim=1).min() > 0.5
    answers = model.predict([image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)], objects=2)
    assert answers.image_index is not None and answers.image_index.tolist() == [0, 0, 1, 1]
    assert sorted(one.category for one in answers[:2]) == ["brick", "tower"]


def test_an_object_scores_more_than_the_background(model: CompNet) -> None:
    image = Image.new("RGB", (200, 150), GREY)
    nothing = model.object_search().detect(image, 1).scores
    painted(image, model, "brick", (90, 70), 200.0)
    something = model.object_search().detect(image, 1).scores
    assert float(something[0]) > 0.01 and float(nothing[0]) <= 1e-6


def test_crops_cover_an_extent_half_a_crop_apart() -> None:
    for extent, span in ((100, 200.0), (100, 60.0), (640, 91.0), (7, 7.0)):
        centres = _centres(extent, span)
        assert centres.diff().tolist() == pytest.approx([span / 2] * (len(centres) - 1))
        assert float(centres[0]) - span / 2 <= 1e-3 and float(centres[-1]) + span / 2 >= extent - 1e-3
        assert float(centres[0] + centres[-1]) == pytest.approx(extent)


def test_crops_are_put_together_to_the_map_that_they_were_cut_from() -> None:
    whole = torch.rand(3, 16, 20)
    rows, columns, height, width = 3, 4, 8, 8
    maps = torch.stack(
        [
            torch.stack([whole[:, 4 * r : 4 * r + height, 4 * c : 4 * c + width] for c in range(columns)])
            for r in range(rows)
        ]
    )
    assert torch.equal(_stitch(maps), whole)
    # a cell is taken from the crop that sees most around it
    numbered = torch.arange(2.0).view(1, 2, 1, 1, 1).expand(1, 2, 1, 8, 8)
    assert _stitch(numbered)[0, 0].tolist() == [0.0] * 6 + [1.0] * 6


def test_models_that_cannot_search_say_so() -> None:
    from compnet3d.errors import CompNetError
    from compnet3d.models.base import Model

    with pytest.raises(CompNetError, match="cannot search for objects; give boxes"):
        Model.object_search(type("Heads", (Model,), {"kind": "dual-head"})())


def test_settings_of_the_search_count(model: CompNet) -> None:
    image = Image.new("RGB", (200, 150), GREY)
    painted(image, model, "brick", (50, 70), 60.0)  # of about a seventh of the image
    small = ObjectSearch(model, SearchSettings(smallest=0.1)).detect(image, 1)
    large = ObjectSearch(model, SearchSettings(smallest=0.9)).detect(image, 1)
    sides = [float((found.boxes[0, 2:] - found.boxes[0, :2]).max()) for found in (small, large)]
    assert sides[0] < 60 < sides[1] and np.isfinite(sides).all()
