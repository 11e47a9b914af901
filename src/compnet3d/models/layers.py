"""The layers of a backbone: how deep each parameter lies, and gradient checkpointing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from compnet3d.models.families import OWN_MODULE, family_of


def layers_of(family: str, backbone: nn.Module) -> dict[str, nn.Module]:
    """The layers of a backbone by name, from the first to the last; none of a module of the user's."""
    if family == OWN_MODULE:
        return {}
    kinds = family_of(family).layers
    return {name: module for name, module in backbone.named_modules() if type(module).__name__ in kinds}


def parameter_depths(family: str, backbone: nn.Module) -> dict[int, int]:
    """How deep each parameter (by its id) lies: the number of its layer, from 1 on.

    What comes before the first layer has 0, and what comes between or after layers that of the one before it.
    """
    numbers = {f"{name}.": number for number, name in enumerate(layers_of(family, backbone), 1)}
    found, depth = {}, 0
    for name, parameter in backbone.named_parameters():
        # parameters come in the order of the network
        depth = next((number for layer, number in numbers.items() if name.startswith(layer)), depth)
        found[id(parameter)] = depth
    return found


def recompute_layers(layers: Sequence[nn.Module], *, on: bool) -> None:
    """Let layers keep their inputs alone while they train, or everything again.

    The gradients are the same, and so are the numbers drawn in a layer and the batch-norm statistics.
    """
    for layer in layers:
        vars(layer).pop("forward", None)
        if on:
            # on the layer itself, so that its tensors keep their names and a copy of the network is one of this, too
            layer.forward = partial(_recomputed, layer)


def _recomputed(layer: nn.Module, *arguments: Any, **options: Any) -> Any:
    forward = partial(type(layer).forward, layer)
    if not (layer.training and torch.is_grad_enabled()):
        return forward(*arguments, **options)
    return checkpoint(forward, *arguments, use_reentrant=False, context_fn=partial(_contexts, layer), **options)


def _contexts(layer: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Of the first computation, and of the second."""
    return nullcontext(), _counting_no_statistics(layer)


@contextmanager
def _counting_no_statistics(layer: nn.Module) -> Iterator[None]:
    """A batch must enter the batch-norm statistics once, not once more for its gradient."""
    norms = [part for part in layer.modules() if isinstance(part, nn.BatchNorm2d)]
    kept = [dict(part._buffers) for part in norms]
    for part in norms:
        part._buffers.update({name: None if b is None else b.clone() for name, b in part._buffers.items()})
    try:
        yield
    finally:
        for part, buffers in zip(norms, kept, strict=True):
            part._buffers.update(buffers)
