"""A whole training: the epochs' batches and learning rates, and what the calibration split decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from tests.training.reference.equations import Settings
from tests.training.reference.learner import LOSS_NAMES, Draws, Item, Learner

Crops = Callable[[int, int], Item]  # of an epoch and an index


class Schedule:
    """A learner's epochs."""

    def __init__(self, learner: Learner, seed: int) -> None:
        self.learner, self.settings, self.seed = learner, learner.settings, seed
        start = 1.0 if learner.settings.method == "dual-head" else 100.0
        self.temperatures = start, start  # from, to
        self.log: list[dict[str, Any]] = []

    def train(self, training: Crops, held_out: Crops, plain: Crops, counts: tuple[int, int], everything: Crops) -> None:
        """All epochs.

        Args:
            training, held_out, plain, everything: crops of the training images, of the calibration split augmented and
                not, and of both parts together.
            counts: of the training images, of the calibration split.
        """
        settings = self.settings
        last = settings.epochs if settings.held_out_epochs is None else min(settings.held_out_epochs, settings.epochs)
        for epoch in range(settings.epochs):
            joined = epoch >= last
            entry = self.epoch(everything if joined else training, sum(counts) if joined else counts[0], epoch)
            done = epoch + 1
            if not joined and counts[1] and (done % settings.regroup_every == 0 or done == last):
                indices = range(counts[1])
                entry |= self.calibrate([plain(done, i) for i in indices], [held_out(done, i) for i in indices])
            self.log.append({"epoch": done, **entry})

    def epoch(self, crops: Crops, count: int, epoch: int) -> dict[str, Any]:
        """Every image once, in an order of the seed and the epoch, in batches of like size."""
        settings = self.settings
        order = Draws(mix(self.seed, epoch, 1)).permutation(count)
        steps = max(1, math.ceil(count / settings.batch_size))
        totals = dict.fromkeys(LOSS_NAMES[settings.method], 0.0)
        self.learner.network.train()
        for number in range(steps):
            batch = order[count * number // steps : count * (number + 1) // steps]
            items, seed = [crops(epoch, index) for index in batch], mix(self.seed, epoch, number, 0, 2)
            for name, value in self.learner.step(items, seed, rate_factor(settings, epoch + number / steps)).items():
                totals[name] += value / steps
        rate = settings.learning_rate * rate_factor(settings, epoch + (steps - 1) / steps)
        return {**totals, "learning_rate": rate}

    def calibrate(self, plain: Sequence[Item], augmented: Sequence[Item]) -> dict[str, Any]:
        """Temperature of the plain crops; confusions of plain and augmented ones, and from them omega."""
        settings, categories = self.settings, len(self.learner.shapes)
        scores = [self.learner.scores(item["image"]) for item in plain]
        true = [int(item["category"]) for item in plain]
        self.temperatures = fit_temperature(scores, true)
        found = [int(s.argmax()) for s in scores]
        accuracy = sum(a == b for a, b in zip(found, true, strict=True)) / len(true)
        found += [int(self.learner.scores(item["image"]).argmax()) for item in augmented]
        true += [int(item["category"]) for item in augmented]
        confusion = [[0] * categories for _ in range(categories)]
        for y, guess in zip(true, found, strict=True):
            confusion[y][guess] += 1
        entry: dict[str, Any] = {"calibration_accuracy": accuracy, "confusion": confusion}
        if settings.method == "compnet":
            if settings.dynamic_weights and accuracy >= settings.grouping_accuracy:
                self.learner.omega = [
                    [self.weight(row, y, other) for other in range(categories)] for y, row in enumerate(confusion)
                ]
            pairs = [
                self.learner.omega[y][other] for y in range(categories) for other in range(categories) if y != other
            ]
            entry["contrasted_pairs"] = sum(w > settings.grouping_floor for w in pairs) / len(pairs) if pairs else 0.0
        return entry

    def weight(self, row: Sequence[int], y: int, other: int) -> float:
        """omega of two categories."""
        if y == other:
            return 0.0
        share = row[other] / sum(row) if sum(row) else 1.0
        return max(self.settings.grouping_floor, share if share >= self.settings.grouping_threshold else 0.0)


def mix(*parts: int) -> int:
    """One seed of several numbers."""
    value = 0
    for part in parts:
        value = (value * 1_000_003 + part + 1) % (2**63 - 1)
    return value


def rate_factor(settings: Settings, epoch: float) -> float:
    """Of the learning rates: up along a line, then down along half a wave of a cosine, at a fractional epoch."""
    if epoch < settings.warmup_epochs:
        return (epoch + 0.001) / settings.warmup_epochs
    return (1 + math.cos(math.pi * (epoch - settings.warmup_epochs) / (settings.epochs - settings.warmup_epochs))) / 2


def fit_temperature(scores: Sequence[Tensor], true: Sequence[int]) -> tuple[float, float]:
    """The likeliest of 241 factors on the scores from 0.01 to 10,000; the first and last that nothing tells apart."""
    candidates = [10 ** (-2 + 6 * n / 240) for n in range(241)]
    losses = [0.0] * len(candidates)
    for own, y in zip(scores, true, strict=True):
        below = [score - float(own[y]) for score in own.tolist()]
        for n, t in enumerate(candidates):
            losses[n] += t * max(below) + math.log(sum(math.exp(t * (x - max(below))) for x in below))
    likeliest = [t for t, loss in zip(candidates, losses, strict=True) if loss < min(losses) + 1e-5]
    return min(likeliest), max(likeliest)
