"""Finding objects by the model's own score, where no box is given: coarse to fine over position and scale."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d

from compnet3d.data.images import image_tensor
from compnet3d.data.transforms import BoxCrop, crop_box
from compnet3d.inference.detection import Detections, suppress
from compnet3d.inference.matching import CropFeatures, category_matches
from compnet3d.utils.matmul import fast_matmul

if TYPE_CHECKING:
    from compnet3d.models.compnet import CompNet


@dataclass(frozen=True)
class SearchSettings:
    """How closely an image is searched.

    Attributes:
        smallest: the smallest object that is looked for, its longest side over the image's.
        sizes: that are tried for each halving of the side.
        stray: what a cell that looks like the object costs where the object is not, against what it gains where it is.
        size_weight: times the logarithm of the object's share of the image's longest side is added to the score: parts
            of an object look like small objects.
        overlap: of two objects that share more than this (IoU) the better one is answered.
        candidates: places that are compared by Eq. 8.
        refined: of which so many are followed to the box that their pose fills.
        rounds: how often they are followed.
    """

    smallest: float = 0.2
    sizes: int = 2
    stray: float = 1.0
    size_weight: float = 0.005
    overlap: float = 0.4
    candidates: int = 16
    refined: int = 4
    rounds: int = 2


@dataclass(frozen=True)
class Explained:
    """How well an object explains crops, each taken for its likeliest category.

    Attributes:
        gain: of Eq. 8's best initial pose over the background alone, the mean over the cells, [N].
        category: int64 [N].
        features: of the crops; crops: themselves.
    """

    gain: Tensor
    category: Tensor
    features: CropFeatures
    crops: list[BoxCrop]

    def __getitem__(self, numbers: Tensor) -> Explained:
        """Those of some crops, int64 [N]."""
        there = numbers.to(self.category.device)
        maps, background = self.features.feature_map[there], self.features.background[there]
        features = CropFeatures(maps, background, self.features.crop)
        return Explained(self.gain[numbers], self.category[there], features, [self.crops[i] for i in numbers.tolist()])


@dataclass
class ObjectSearch:
    """A `Detector` that needs the model alone, as it is when the first image is searched.

    Scores are what the best initial pose of Eq. 8 gains over the background alone, less what the cells around it lose,
    with a little for the size (`SearchSettings.size_weight`).
    """

    model: CompNet
    settings: SearchSettings = field(default_factory=SearchSettings)

    @torch.no_grad()
    def detect(self, image: Image.Image, count: int) -> Detections:
        """See `Detector`."""
        settings = self.settings
        most = max(count, settings.candidates)
        # the best places of every size: a size that is far off may look good everywhere
        places = [_suppress_within(boxes, scores, settings.overlap, most) for boxes, scores in self._places(image)]
        boxes, scores = (torch.cat(parts) for parts in zip(*places, strict=True))
        boxes = boxes[suppress(boxes, self._weighted(scores, boxes, image), settings.overlap, most)]
        seen = self._explained(image, boxes)
        scores = self._weighted(seen.gain, boxes, image)
        followed = scores.topk(min(len(scores), max(count, settings.refined))).indices
        boxes, scores, seen = boxes[followed], scores[followed], seen[followed]
        # all at first; then those that have moved: the others would be moved to where they were not better
        followed = torch.arange(len(boxes))
        for _ in range(settings.rounds):
            moved = self._filled_boxes(image, boxes[followed], seen)
            seen = self._explained(image, moved)
            again = self._weighted(seen.gain, moved, image)
            better = (again > scores[followed]).nonzero()[:, 0]
            followed, seen = followed[better], seen[better]
            boxes[followed], scores[followed] = moved[better], again[better]
            if not len(followed):
                break
        kept = suppress(boxes, scores, settings.overlap, count)
        return Detections(boxes[kept], scores[kept])

    def _places(self, image: Image.Image) -> Iterator[tuple[Tensor, Tensor]]:
        """For each size, boxes all over the image and how much each looks like some object: [N, 4] and [N].

        Crops that overlap by half cover the image; the middles of their maps, put together, are one map of how much
        each cell looks like each category, and every place of a box on it is scored by one filter for each category.
        """
        settings, fill = self.settings, self.model.input_config.box_fill
        filters, longest = self._filters, max(image.size)
        halvings = math.log2(1 / settings.smallest)
        for step in range(math.floor(settings.sizes * halvings) + 1):
            side = longest * 2 ** (-step / settings.sizes)
            height, width = self.model.map_size
            cell = min(self.model.input_config.height, self.model.input_config.width)
            scale = fill * cell / side  # pixels of a crop over those of the image
            spans = (self.model.input_config.width / scale, self.model.input_config.height / scale)
            columns, rows = (_centres(extent, span) for extent, span in zip(image.size, spans, strict=True))
            boxes = _square_boxes(torch.cartesian_prod(rows, columns).reshape(-1, 2).flip(1), side)
            likeness = self._likeness(self._features(image, boxes)[0])
            whole = _stitch(likeness.unflatten(0, (len(rows), len(columns))))
            score = conv2d(whole[None], filters, groups=len(filters), padding=(height // 2, width // 2))[0].amax(dim=0)
            # output (i, j) is the filter's middle at the corner of cell (i, j)
            v, u = (torch.arange(n, device=score.device) for n in score.shape)
            across, down = (spans[0] / width, spans[1] / height)
            x, y = float(columns[0]) - spans[0] / 2 + across * u, float(rows[0]) - spans[1] / 2 + down * v
            # an object's middle is in the image
            x_in, y_in = ((x > 0) & (x < image.width)).nonzero()[:, 0], ((y > 0) & (y < image.height)).nonzero()[:, 0]
            middles = torch.cartesian_prod(y[y_in], x[x_in]).reshape(-1, 2).flip(1)
            yield _square_boxes(middles, side).cpu(), score[y_in][:, x_in].flatten().cpu()

    def _features(self, image: Image.Image, boxes: Tensor, batch: int = 32) -> tuple[CropFeatures, list[BoxCrop]]:
        crops = [crop_box(image, box, self.model.input_config) for box in boxes.tolist()]
        pixels = torch.stack([image_tensor(crop.image) for crop in crops])
        maps = torch.cat([self.model(part.to(self.model.device)) for part in pixels.split(batch)])
        return CropFeatures.of(maps, self.model.bank.feature_bank, "box"), crops

    @fast_matmul()
    def _likeness(self, features: CropFeatures) -> Tensor:
        """By how much each category's best vertex beats the background in each cell, at least 0, [N, Y, H, W]."""
        bank = self.model.bank.feature_bank
        matched = category_matches(features.cells.flatten(0, 1), bank.vertex_features, bank.offsets.tolist())
        gain = (matched - features.background.flatten()[:, None]).clamp_min(0)
        height, width = features.feature_map.shape[2:]
        return gain.view(len(features), height, width, bank.categories).permute(0, 3, 1, 2)

    @cached_property
    def _filters(self) -> Tensor:
        """What a cell counts for each category: how often its initial poses cover it, less the stray, [Y, 1, H, W]."""
        seldom = 0.02  # of the poses: such a cell is beside the object
        shares = []
        for number in range(len(self.model.categories)):
            table = self.model.pose_hypotheses(number, "box")
            shares.append((table.nearest_vertex < table.vertex_count).float().mean(dim=1))
        covered = torch.stack(shares)
        cells = covered - self.settings.stray * (covered < seldom).float()
        return cells.view(-1, 1, *self.model.map_size) / covered.shape[1]

    def _weighted(self, gain: Tensor, boxes: Tensor, image: Image.Image) -> Tensor:
        share = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1) / max(image.size)
        return gain + self.settings.size_weight * share.log()

    def _explained(self, image: Image.Image, boxes: Tensor) -> Explained:
        features, crops = self._features(image, boxes)
        likeness = self._likeness(features).flatten(2)
        category = likeness.mean(dim=2).argmax(dim=1)
        gains = []
        for number, cells, background, like in zip(
            category.tolist(), features.cells, features.background, likeness, strict=True
        ):
            table = self.model.pose_hypotheses(number, "box")
            gain = cells @ self.model.bank.category_features(number).T - background[:, None]
            if (truncation := self.model.config.pose.truncation) is not None:
                gain = gain.clamp_min(-truncation)
            # the last column is for cells that a pose leaves to the background
            options = torch.cat([gain, -self.settings.stray * like[number][:, None]], dim=1)
            gains.append(options.gather(1, table.nearest_vertex.long()).mean(dim=0).amax())
        return Explained(torch.stack(gains).cpu(), category, features, crops)

    def _filled_boxes(self, image: Image.Image, boxes: Tensor, seen: Explained) -> Tensor:
        """The boxes that the object fills at its estimated pose in each, [N, 4]; the same where it fills none."""
        estimate = self.model.render_and_compare.estimate_poses(seen.features, seen.category)
        filled = []
        for number, crop in enumerate(seen.crops):
            points = self.model.mesh(self.model.categories[int(seen.category[number])]).vertices
            camera = self.model.input_config.camera(estimate.principal_point[number])
            pixels, depth = camera.project(points.to(self.model.device), estimate.pose[number])
            matrix = torch.from_numpy(crop.matrix).to(pixels)
            pixels = pixels @ matrix[:, :2].T + matrix[:, 2]
            box = torch.cat([pixels.amin(dim=0), pixels.amax(dim=0)]).cpu()
            filled.append(box if _is_usable(box, image.size) and bool((depth > 0).all()) else boxes[number])
        return torch.stack(filled)


def _suppress_within(boxes: Tensor, scores: Tensor, overlap: float, count: int) -> tuple[Tensor, Tensor]:
    """The boxes that `suppress` keeps, [at most count, 4], with their scores, of the most promising ones."""
    best = scores.topk(min(len(scores), 20 * count)).indices
    kept = best[suppress(boxes[best], scores[best], overlap, count)]
    return boxes[kept], scores[kept]


def _centres(extent: int, span: float) -> Tensor:
    """Middles of crops of a span, half of it apart, that cover an extent evenly."""
    count = max(1, math.ceil(extent / (span / 2)) - 1)
    return extent / 2 + (torch.arange(count) - (count - 1) / 2) * span / 2


def _square_boxes(middles: Tensor, side: float) -> Tensor:
    """Boxes [N, 4] of a side around middles (x, y), [N, 2]."""
    return torch.cat([middles - side / 2, middles + side / 2], dim=1)


def _stitch(maps: Tensor) -> Tensor:
    """Maps of crops that overlap by half, [rows, columns, Y, H, W], as one, [Y, (rows + 1) H / 2, (columns + 1) W / 2].

    Each cell is taken from the crop in whose middle it is: cells at a crop's border have seen nothing beyond it.
    """
    rows, columns, categories, height, width = maps.shape
    whole = maps.new_zeros(categories, (rows + 1) * (height // 2), (columns + 1) * (width // 2))
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height // 2), column * (width // 2)
            a, c = (0 if row == 0 else height // 4), (0 if column == 0 else width // 4)
            b = height if row == rows - 1 else height - height // 4
            d = width if column == columns - 1 else width - width // 4
            whole[:, top + a : top + b, left + c : left + d] = maps[row, column, :, a:b, c:d]
    return whole


def _is_usable(box: Tensor, size: tuple[int, int]) -> bool:
    """Whether a box is one that an object in an image of this (width, height) may have."""
    least, most = 2.0, 3.0  # pixels; times the image
    corner, opposite = box[:2], box[2:]
    extent, sides = torch.tensor(size, dtype=box.dtype), opposite - corner
    inside = bool((corner < extent).all() and (opposite > 0).all())
    return bool(box.isfinite().all()) and inside and bool(sides.min() > least) and bool(sides.max() < most * max(size))
