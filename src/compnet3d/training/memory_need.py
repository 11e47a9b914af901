"""What a training needs of memory, told before its first step."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compnet3d.errors import CompNetError
from compnet3d.models.backbones import FeatureExtractor
from compnet3d.models.compnet import CompNet
from compnet3d.models.dual_head import ImageEncoder
from compnet3d.models.layers import layers_of
from compnet3d.models.registry import TrainedModel
from compnet3d.utils.memory import available_mb


@dataclass(frozen=True)
class MemoryNeed:
    """Of one training process, in MB (10^6 bytes), beyond the model itself.

    Attributes:
        learning: gradients and the two moments of AdamW.
        activations: what the network keeps for the gradient of its share of a batch.
    """

    learning: float
    activations: float

    @property
    def total(self) -> float:
        """Of both together."""
        return self.learning + self.activations


def measure_need(model: TrainedModel, images: int) -> MemoryNeed:
    """Measure it by what the network keeps of two and of three images, in whatever precision it computes.

    What the losses and the kernels take for a moment is not in it, nor, with `backbone.checkpointing`, the one layer
    that is computed again, nor the holes that an allocator leaves between tensors. The model stays as it is, and no
    random number is drawn.
    """
    network = model.feature_extractor if isinstance(model, CompNet) else model.encoder
    shape = (3, model.input_config.height, model.input_config.width)
    learning = 12 * sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    with _undisturbed(network):
        two, three = (_kept_bytes(network, torch.zeros(count, *shape, device=model.device)) for count in (2, 3))
    return MemoryNeed(learning / 1e6, (two + (images - 2) * (three - two)) / 1e6)


def has_unused(model: TrainedModel) -> bool:
    """Whether parameters of a model's network have no part in what it computes, so that they get no gradient."""
    network = model.feature_extractor if isinstance(model, CompNet) else model.encoder
    shape = (2, 3, model.input_config.height, model.input_config.width)
    with _undisturbed(network):
        # down the graph from the output
        nodes: list[Any] = [network(torch.zeros(shape, device=model.device)).grad_fn]
        seen: set[Any] = set()
        while nodes:
            node = nodes.pop()
            if node is not None and node not in seen:
                seen.add(node)
                nodes += [following for following, _ in node.next_functions]
        used = {id(node.variable) for node in seen if hasattr(node, "variable")}
    return any(parameter.requires_grad and id(parameter) not in used for parameter in network.parameters())


def check_need(need: MemoryNeed, device: torch.device, processes: int) -> None:
    """Warn where a training needs more memory than is free, and refuse what can never fit.

    Raises:
        CompNetError: if it needs more than 1.5 times what is free.
    """
    # beyond this many times what is free, no swapping helps
    hopeless = 1.5
    free = torch.cuda.mem_get_info(device)[0] / 1e6 if device.type == "cuda" else available_mb()
    wanted = need.total * processes
    if free is None or wanted <= free:
        return
    text = (
        f"this training needs about {wanted / 1000:.1f} GB of memory for its gradients and activations, and "
        f"{free / 1000:.1f} GB are free"
    )
    ways = "lower schedule.batch_size or the input's size, set backbone.checkpointing or backbone.frozen"
    if wanted > hopeless * free:
        raise CompNetError(f"{text}; {ways}, or take a smaller backbone")
    print(f"warning: {text}; if it is killed, {ways}", file=sys.stderr)


def _kept_bytes(network: FeatureExtractor | ImageEncoder, images: Tensor) -> int:
    """Of the tensors that a forward pass keeps for the gradient, parameters and buffers aside; each counts once."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in own:
            kept[place] = tensor  # held, or another tensor could come to lie there
        return tensor

    def note_input(_: nn.Module, inputs: tuple[object, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            note(inputs[0])

    config, backbone = network.config, network.backbone
    recomputed = layers_of(config.family, backbone).values() if config.checkpointing else ()
    handles = [layer.register_forward_pre_hook(note_input) for layer in recomputed]
    try:
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@contextmanager
def _undisturbed(network: nn.Module) -> Iterator[None]:
    """In training mode, but what a forward pass changes is put back."""
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    modes = {part: part.training for part in network.modules()}
    devices = [parameter.device for parameter in network.parameters() if parameter.device.type == "cuda"][:1]
    try:
        with torch.random.fork_rng(devices=devices), torch.enable_grad():
            network.train()
            yield
    finally:
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(buffers[name])
        for part, mode in modes.items():
            part.training = mode
