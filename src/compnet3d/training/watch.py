"""Watching a training: batches whose loss is far out of line, and numbers that are not finite."""

from __future__ import annotations

from collections import deque
from statistics import median

import torch
from torch import nn


class NotFiniteError(Exception):
    """A number that training goes by is infinite or none; its text is the number's name."""


class LossWatch:
    """Notices a batch whose loss lies far above those of the last ones.

    That is ten times as far above their median as half of them lie from it, and at least twice the median: losses
    of a training that goes well spread by less, also while they fall fast.
    """

    def __init__(self, recent: int = 50, least: int = 5) -> None:
        """Compare with the `recent` last ones, as soon as there are `least`."""
        self._losses: deque[float] = deque(maxlen=recent)
        self._least = least

    def is_out_of_line(self, loss: float) -> bool:
        """Whether the next batch's is; it then is one of the last ones."""
        before = list(self._losses)
        self._losses.append(loss)
        if len(before) < self._least:
            return False
        middle = median(before)
        spread = median(abs(one - middle) for one in before)
        return loss > middle + 10 * max(spread, 0.1 * abs(middle))


def check_model(model: nn.Module) -> None:
    """Check a model's tensors, before they replace those of the last good checkpoint.

    Raises:
        NotFiniteError: naming one that has a number which is not finite.
    """
    parameters = dict(model.named_parameters())
    tensors = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    # buffers may be infinite on purpose, such as the logarithm of a share that is zero
    sound = [(~t.isnan() if name not in parameters else t.isfinite()).all() for name, t in tensors.items()]
    for name, good in zip(tensors, torch.stack(sound).tolist(), strict=True):
        if not good:
            raise NotFiniteError(name)
