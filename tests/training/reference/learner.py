"""What is learned, and one step of it: loops over images, queries, cells and poses, in float64.

Nothing here calls what the package computes with. Given are the crops, the network's modules, and the boxes with their
vertices; what is drawn at random is drawn again from a generator of the same seed, in the same order.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.training.reference.equations import (
    Settings,
    best_match,
    cross_entropy,
    eq2,
    eq4,
    feature_maps,
    first_features,
    read,
    spread,
    unit,
)
from tests.training.reference.geometry import Camera, Pose, Shape, angle_between, hit, rotation, visible_vertices

Item = dict[str, Tensor]
LOSS_NAMES = {
    "compnet": ("loss", "in_category_loss", "cross_category_loss", "classification_loss", "pose_contrastive_loss"),
    "novum": ("loss",),
    "dual-head": ("loss", "category_loss", "pose_loss"),
}


class Draws:
    """The random numbers of one step."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def numbers(self, *shape: int) -> list[Any]:
        """Uniform in [0, 1)."""
        drawn: list[Any] = torch.rand(shape, generator=self.generator).tolist()
        return drawn

    def permutation(self, count: int) -> list[int]:
        """Of 0 .. count - 1."""
        return [int(i) for i in torch.randperm(count, generator=self.generator)]


def largest(numbers: Sequence[float], among: Sequence[int], count: int) -> list[int]:
    """Those `among` the places that have the largest numbers, the largest first."""
    return sorted(among, key=lambda place: -numbers[place])[:count]


@dataclass
class Share:
    """What a batch contributes to a step: losses by name, in how many terms, and what the bank learns."""

    losses: dict[str, Tensor]
    terms: int
    seen: list[tuple[int, int, Tensor]] = field(default_factory=list)  # category, vertex, feature
    background: list[Tensor] = field(default_factory=list)


class Learner:
    """What is learned: the network, the bank, omega, temperature."""

    def __init__(
        self,
        settings: Settings,
        network: Any,
        shapes: Sequence[Shape],
        orders: Sequence[int],
        camera: Camera,
    ) -> None:
        """Start.

        Args:
            settings: the numbers. network: modules backbone, projection, centre, buffers mean and std, for a dual head
            also category_head and pose_head. shapes, orders: box and symmetry of each category. camera: of the crops.
        """
        self.settings, self.shapes, self.orders, self.camera = settings, shapes, orders, camera
        self.network = copy.deepcopy(network).double()
        self.bank = first_features(shapes, network.projection.out_channels) if settings.method != "dual-head" else []
        self.ring = torch.zeros(0, network.projection.out_channels if self.bank else 0, dtype=torch.float64)
        self.cursor = 0
        categories = len(shapes)
        self.omega = [[float(y != other) for other in range(categories)] for y in range(categories)]
        self.crops: dict[int, list[list[int | None]]] = {}
        self.steps = 0
        self.averages = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.network.parameters()]

    # -- one step

    def pose(self, item: Item) -> Pose:
        """Of a crop's object."""
        angles = (float(item[name]) for name in ("azimuth", "elevation", "theta"))
        return Pose(rotation(*angles), float(item["distance"]))

    def step(self, items: Sequence[Item], seed: int, rate: float) -> dict[str, float]:
        """Down the gradient of the mean over all terms, then Eq. 6 and the background ring; losses by name."""
        network = self.network
        share = (
            self.heads(network, items) if self.settings.method == "dual-head" else self.contrast(network, items, seed)
        )
        gradients = torch.autograd.grad(share.losses["loss"], list(network.parameters()), allow_unused=True)
        zeros = [torch.zeros_like(g) for g, _ in self.averages]
        self.descend([zero if own is None else own for zero, own in zip(zeros, gradients, strict=True)], rate)
        self.learn_vertices(share.seen)
        for feature in share.background:
            self.learn_background(feature)
        return {name: float(share.losses[name].detach()) for name in LOSS_NAMES[self.settings.method]}

    def heads(self, network: Any, items: Sequence[Item]) -> Share:
        """The dual head: cross-entropy of the category, and of the angles' bins or 1 - cos of their errors."""
        pixels = (torch.stack([item["image"] for item in items]).double() / 255 - network.mean) / network.std
        vectors = network.backbone(pixels).feature_maps[-1].mean(dim=(2, 3))
        category = pose = torch.zeros((), dtype=torch.float64)
        for item, vector in zip(items, vectors, strict=True):
            logits = network.category_head(vector)
            category = category + cross_entropy(logits, int(item["category"])) / len(items)
            outputs = network.pose_head(vector)
            for number, name in enumerate(("azimuth", "elevation", "theta")):
                angle = float(item[name])
                if self.settings.pose_head == "regression":
                    pose = pose + (1 - torch.cos(outputs[number] - angle)) / len(items)
                    continue
                bins = self.settings.pose_bins
                right = int(angle % (2 * math.pi) / (2 * math.pi / bins))
                pose = pose + cross_entropy(outputs[number * bins : (number + 1) * bins], right) / len(items)
        return Share({"loss": category + pose, "category_loss": category, "pose_loss": pose}, len(items))

    def contrast(self, network: Any, items: Sequence[Item], seed: int) -> Share:
        """The losses of CompNet or NOVUM, and what the crops show of the vertices and of the background."""
        settings, draws = self.settings, Draws(seed)
        maps = feature_maps(network, torch.stack([item["image"] for item in items]))
        seen = [
            visible_vertices(
                self.shapes[int(item["category"])],
                self.pose(item),
                self.camera,
                item["principal_point"].numpy(),
                item["occluded"].numpy(),
            )
            for item in items
        ]
        queries = self.queries(seen, draws)
        share = Share({}, sum(len(chosen) for chosen in queries))
        sampled = self.sample([int(item["category"]) for item in items], draws) if settings.method == "compnet" else {}
        zero = torch.zeros((), dtype=torch.float64)
        inside, across = zero, zero
        for item, feature_map, vertices, chosen in zip(items, maps, seen, queries, strict=True):
            y = int(item["category"])
            for k, u, v in vertices:
                share.seen.append((y, k, read(feature_map, u, v, self.camera.stride)))
            for place in chosen:
                k, u, v = vertices[place]
                f = read(feature_map, u, v, self.camera.stride)
                first, second = self.losses_of_query(f, y, k, sampled)
                inside, across = inside + first / share.terms, across + second / share.terms
        if settings.method == "novum":
            share.losses = {"loss": inside}
        else:
            classification = (
                self.classification_loss(items, maps, draws) if settings.classification_weight > 0 else zero
            )
            pose = self.pose_contrastive_loss(items, maps, draws) if settings.pose_weight > 0 else zero
            inside, across = inside if settings.in_weight > 0 else zero, across if settings.cross_weight > 0 else zero
            total = settings.in_weight * inside + settings.cross_weight * across
            total = total + settings.classification_weight * classification + settings.pose_weight * pose
            share.losses = dict(zip(LOSS_NAMES["compnet"], (total, inside, across, classification, pose), strict=True))
        share.background = self.background_of(items, maps, draws)
        return share

    def queries(self, seen: Sequence[Sequence[Any]], draws: Draws) -> list[list[int]]:
        """Which of each image's visible vertices are queries."""
        most, width = self.settings.queries_per_image, max(len(vertices) for vertices in seen)
        if most is None or most >= width:
            return [list(range(len(vertices))) for vertices in seen]
        numbers = draws.numbers(len(seen), width)
        return [largest(row, range(len(vertices)), most) for row, vertices in zip(numbers, seen, strict=True)]

    def sample(self, present: Sequence[int], draws: Draws) -> dict[int, list[int]]:
        """S(C_y): some vertices of every category that any image's category is contrasted with."""
        wanted = [y for y in range(len(self.shapes)) if any(y != own and self.omega[own][y] > 0 for own in present)]
        counts, most = [len(self.bank[y]) for y in wanted], self.settings.samples_per_category
        if not wanted or most >= max(counts):
            return {y: list(range(count)) for y, count in zip(wanted, counts, strict=True)}
        rows = draws.numbers(len(wanted), max(counts))
        return {y: largest(row, range(count), most) for y, row, count in zip(wanted, rows, counts, strict=True)}

    def losses_of_query(self, f: Tensor, y: int, k: int, sampled: dict[int, list[int]]) -> tuple[Tensor, Tensor]:
        """Eq. 2 and Eq. 4 of one query; NOVUM has one softmax over everything, and no second loss."""
        settings, shape, own = self.settings, self.shapes[y], self.bank[y]
        far = [
            other
            for other in range(len(own))
            if other != k
            and math.dist(shape.vertices[other], shape.vertices[k]) >= settings.near_radius * shape.diagonal
        ]
        if settings.method == "novum":
            others = [(1.0, bank) for other, bank in enumerate(self.bank) if other != y]
            return eq2(settings, f, own[k], [(1.0, own[far]), *others], self.ring), torch.zeros(())
        x, y_there, z = shape.vertices[k]
        turned = (-x, -y_there, z)
        behind = [
            self.orders[y] % 2 == 1 and math.dist(shape.vertices[m], turned) < settings.near_radius * shape.diagonal
            for m in far
        ]
        inside = [(settings.flip_vertex_weight if b else 1.0, own[[m]]) for m, b in zip(far, behind, strict=True)]
        weighted = [(self.omega[y][other], self.bank[other][m]) for other, m in sampled.items() if other != y]
        return eq2(settings, f, own[k], inside, self.ring), eq4(settings, f, own[k], weighted)

    def classification_loss(self, items: Sequence[Item], maps: Tensor, draws: Draws) -> Tensor:
        """Cross-entropy of 100 S_y over some cells, the same for all images."""
        cells = maps.flatten(2).transpose(1, 2)
        chosen, most = list(range(cells.shape[1])), self.settings.classification_cells
        if most is not None and most < len(chosen):
            chosen = draws.permutation(len(chosen))[:most]
        losses = []
        for item, features in zip(items, cells, strict=True):
            losses.append(cross_entropy(100 * self.matches(features[chosen]), int(item["category"])))
        return torch.stack(losses).mean()

    def matches(self, features: Tensor) -> Tensor:
        """S_y of Eq. 7 of each category, the mean over the cells."""
        scores = []
        for bank in self.bank:
            cells = [torch.maximum(best_match(f, bank), best_match(f, self.ring)) for f in features]
            scores.append(torch.stack(cells).mean())
        return torch.stack(scores)

    def pose_contrastive_loss(self, items: Sequence[Item], maps: Tensor, draws: Draws) -> Tensor:
        """Cross-entropy of 100 (- L) at the true pose among others that are not near it."""
        count = self.settings.negative_poses
        turns, sources = draws.numbers(len(items), 1 + count), draws.numbers(len(items), 1 + count)
        flips = round(self.settings.flip_negatives * count)
        jitter = draws.numbers(2, len(items), flips) if flips else []
        losses = []
        for place, (item, feature_map, turn, source) in enumerate(zip(items, maps, turns, sources, strict=True)):
            true, y = self.pose(item), int(item["category"])
            features, poses = feature_map.flatten(1).T, [true]
            for number in range(1, 1 + count):
                other = items[int(np.float32(source[number]) * np.float32(len(items)))]
                azimuth = float(item["azimuth"]) + 2 * math.pi * turn[number]
                turned = rotation(azimuth, float(other["elevation"]), float(other["theta"]))
                last = number - 1 - (count - flips)
                if last >= 0 and self.orders[y] % 2 == 1:
                    off = [math.radians(20 * jitter[axis][place][last] - 10) for axis in range(2)]
                    azimuth, elevation = float(item["azimuth"]) + math.pi + off[0], float(item["elevation"]) + off[1]
                    turned = rotation(azimuth, elevation, float(item["theta"]))
                if math.degrees(angle_between(turned, true.rotation, self.orders[y])) >= 25:
                    poses.append(Pose(turned, true.distance))
            background = [best_match(f, self.ring) for f in features]
            scores = [self.pose_score(item, features, background, pose) for pose in poses]
            losses.append(cross_entropy(100 * torch.stack(scores), 0))
        return torch.stack(losses).mean()

    def pose_score(self, item: Item, features: Tensor, background: Sequence[Tensor], pose: Pose) -> Tensor:
        """- L of Eq. 8, the mean over the cells; a covered cell loses at most the truncation."""
        y, cells = int(item["category"]), []
        for f, value, (u, v) in zip(features, background, self.camera.cells, strict=True):
            met = hit(self.shapes[y], pose, self.camera, item["principal_point"].numpy(), u, v)
            if met is None:
                cells.append(value)
                continue
            matched = torch.tensor(list(met.values()), dtype=torch.float64) @ (self.bank[y][list(met)] @ f)
            cells.append(value + self.truncated(matched - value))
        return torch.stack(cells).mean()

    def truncated(self, gain: Tensor) -> Tensor:
        """What covering a cell is worth."""
        least = self.settings.truncation
        return gain if least is None or float(gain.detach()) > -least else torch.full_like(gain, -least)

    def background_of(self, items: Sequence[Item], maps: Tensor, draws: Draws) -> list[Tensor]:
        """Features of some cells neither covered nor beside a covered one, unless something else hides them."""
        rows, columns = maps.shape[2:]
        numbers, features = draws.numbers(len(items), rows * columns), []
        for item, feature_map, row in zip(items, maps, numbers, strict=True):
            shape, pose, principal_point = (
                self.shapes[int(item["category"])],
                self.pose(item),
                item["principal_point"].numpy(),
            )
            covered = [hit(shape, pose, self.camera, principal_point, u, v) is not None for u, v in self.camera.cells]
            free = []
            for i in range(rows):
                for j in range(columns):
                    around = [
                        covered[a * columns + b]
                        for a in range(max(0, i - 1), min(rows, i + 2))
                        for b in range(max(0, j - 1), min(columns, j + 2))
                    ]
                    s = self.camera.stride
                    hidden = float(item["occluded"][i * s : (i + 1) * s, j * s : (j + 1) * s].double().mean())
                    if not any(around) or hidden >= 0.9:
                        free.append(i * columns + j)
            chosen = largest(row, free, self.settings.background_per_image)
            features += [feature_map.flatten(1)[:, cell].detach() for cell in chosen]
        return features

    def descend(self, gradients: list[Tensor], factor: float) -> None:
        """One step of AdamW along the gradient, cut to a length of 5; `factor` is on the learning rates."""
        settings = self.settings
        length = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        gradients = [g * min(1.0, 5.0 / length) for g in gradients]
        self.steps += 1
        with torch.no_grad():
            for (name, p), g, (m, s) in zip(self.network.named_parameters(), gradients, self.averages, strict=True):
                base = settings.learning_rate if name.startswith("backbone.") else settings.head_learning_rate
                rate = base * factor
                if p.ndim > 1:
                    p -= rate * settings.weight_decay * p
                m.copy_(0.9 * m + 0.1 * g)
                s.copy_(0.999 * s + 0.001 * g.square())
                p -= rate * (m / (1 - 0.9**self.steps)) / ((s / (1 - 0.999**self.steps)).sqrt() + 1e-8)

    def learn_vertices(self, seen: Sequence[tuple[int, int, Tensor]]) -> None:
        """Eq. 6 with the mean of all features of this step, those that were no queries, too."""
        features: dict[tuple[int, int], list[Tensor]] = {}
        for y, k, f in seen:
            features.setdefault((y, k), []).append(f.detach())
        sigma = self.settings.momentum
        for (y, k), some in features.items():
            self.bank[y][k] = unit(sigma * self.bank[y][k] + (1 - sigma) * torch.stack(some).mean(dim=0))

    def learn_background(self, feature: Tensor) -> None:
        """In the place of the oldest."""
        if len(self.ring) < self.settings.background_size:
            self.ring = torch.cat([self.ring, feature[None]])
        else:
            self.ring[self.cursor] = feature
        self.cursor = (self.cursor + 1) % self.settings.background_size

    # -- classification

    def scores(self, image: Tensor) -> Tensor:
        """What classifies a crop."""
        sides = [image, image.flip(-1)] if self.settings.mirrored_scores else [image]
        network = self.network.eval()
        with torch.no_grad():
            found = [self.scores_of_side(network, side) for side in sides]
        network.train()
        return torch.stack(found).mean(dim=0)

    def scores_of_side(self, network: Any, image: Tensor) -> Tensor:
        """Without the mirror image."""
        if self.settings.method == "dual-head":
            pixels = (image[None].double() / 255 - network.mean) / network.std
            logits = network.category_head(network.backbone(pixels).feature_maps[-1].mean(dim=(2, 3)))[0]
            return torch.stack([-cross_entropy(logits, y) for y in range(len(logits))])
        (feature_map,) = feature_maps(network, image[None])
        share, features = self.settings.pose_score_weight, feature_map.flatten(1).T
        matched = self.matches(features)
        if share == 0:
            return matched
        poses = torch.stack([self.best_initial_pose(features, y) for y in range(len(self.shapes))])
        return (1 - share) * matched + share * poses

    def best_initial_pose(self, features: Tensor, y: int) -> Tensor:
        """The largest - L among the initial poses, with the bonus for each covered cell."""
        background, scores = [best_match(f, self.ring) for f in features], []
        for vertices in self.initial_views(y):
            cells = []
            for f, value, k in zip(features, background, vertices, strict=True):
                covered = None if k is None else self.truncated(f @ self.bank[y][k] - value)
                cells.append(value if covered is None else value + covered + self.settings.foreground_bonus)
            scores.append(torch.stack(cells).mean())
        return torch.stack(scores).max()

    def initial_views(self, y: int) -> list[list[int | None]]:
        """For each initial pose what each cell shows: the heaviest of the four vertices, or nothing."""
        if y not in self.crops:
            centre, self.crops[y] = np.array([self.camera.width / 2, self.camera.height / 2]), []
            for pose in self.initial_poses():
                met = [hit(self.shapes[y], pose, self.camera, centre, u, v) for u, v in self.camera.cells]
                self.crops[y].append([None if at is None else max(at, key=lambda k, at=at: at[k]) for at in met])
        return self.crops[y]

    def initial_poses(self) -> list[Pose]:
        """Azimuths over the circle, elevations and thetas over their ranges."""
        s, poses = self.settings, []
        for a in range(s.azimuths):
            for elevation in spread(s.elevation_range, s.elevations):
                for theta in spread(s.theta_range, s.thetas):
                    poses.append(Pose(rotation(2 * math.pi * a / s.azimuths, elevation, theta), self.camera.distance))
        return poses
