"""Batch normalisation over the whole batch, of which each process has a share."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from compnet3d.utils.distributed import ProcessGroup


def share_statistics(model: nn.Module, group: ProcessGroup, *, whole: bool = True) -> None:
    """Let batch-norm layers of a model normalise by the statistics of all members' images together.

    `torch.nn.SyncBatchNorm` does so on GPUs alone. Layers in evaluation mode go on as they are.

    Args:
        whole: all of them; else the features' centring alone.
    """
    if group.size == 1:
        return
    for name, layer in model.named_modules():
        if isinstance(layer, nn.BatchNorm2d) and (whole or name.endswith("centre")):
            # on the layer itself, so that it keeps its type and its tensors their names
            layer.forward = partial(_normalised, layer, group)  # type: ignore[method-assign]


def own_statistics(model: nn.Module) -> list[Tensor]:
    """The running statistics of layers that normalise by their share alone, and so differ between members."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d) and layer.training]
    found = [(layer.running_mean, layer.running_var) for layer in layers if "forward" not in vars(layer)]
    return [tensor for pair in found for tensor in pair if tensor is not None]


def _normalised(layer: nn.BatchNorm2d, group: ProcessGroup, images: Tensor) -> Tensor:
    if not layer.training:
        return nn.BatchNorm2d.forward(layer, images)
    result, mean, variance, count = _Normalise.apply(images, layer.weight, layer.bias, layer.eps, group)
    if layer.track_running_stats:
        assert layer.running_mean is not None and layer.running_var is not None
        assert layer.num_batches_tracked is not None
        with torch.no_grad():
            layer.num_batches_tracked += 1
            factor = layer.momentum if layer.momentum is not None else 1 / float(layer.num_batches_tracked)
            # the running variance is unbiased, that of the batch is not (Ioffe and Szegedy 2015)
            unbiased = variance * (count / (count - 1).clamp_min(1))
            layer.running_mean.lerp_(mean, factor)
            layer.running_var.lerp_(unbiased, factor)
    return result


class _Normalise(torch.autograd.Function):
    """Batch normalisation by sums over all members, and its gradient."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, group: ProcessGroup
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # the fused kernel for its statistics: torch.var_mean takes ten times as long on channels-last images; with
        # float32 weights it gives them in float32
        ones = torch.ones(images.shape[1], device=images.device) if weight is None else weight
        _, mean, inverse = torch.native_batch_norm(images, ones, torch.zeros_like(ones), None, None, True, 0.0, eps)
        mean, variance = mean.double(), inverse.double().pow(-2) - eps
        count = images.numel() // images.shape[1]
        # a mean of squares and the square of a mean are far larger than their difference, hence float64
        sums = group.sum(torch.cat([count * mean, count * (variance + mean * mean), mean.new_tensor([count])]))
        count_of_all = sums[-1]
        mean, square = (sums[:-1] / count_of_all).chunk(2)
        variance = (square - mean * mean).clamp_min(0)
        mean, variance = mean.to(inverse.dtype), variance.to(inverse.dtype)
        ctx.save_for_backward(images, weight, mean, variance)
        ctx.eps, ctx.group, ctx.count, ctx.has_bias = eps, group, float(count_of_all), bias is not None
        ctx.mark_non_differentiable(mean, variance, count_of_all)
        return batch_norm(images, mean, variance, weight, bias, eps=eps), mean, variance, count_of_all

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        images, weight, mean, variance = ctx.saved_tensors
        # as if the statistics were constants: what the weight and the bias get is of this share alone, which
        # DistributedDataParallel averages with the others'
        direct, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, images, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        # of the statistics: by the sums of gradient and gradient times normalised images over all members
        dot, total = (ctx.group.sum(torch.stack([of_weight, of_bias]).double()) / ctx.count).to(mean.dtype)
        inverse = (variance + ctx.eps).rsqrt()
        scale = inverse if weight is None else inverse * weight
        slope = -scale * inverse * dot
        offset = -scale * total - slope * mean
        shape = (1, -1, 1, 1)
        direct = direct.addcmul_(images.to(direct.dtype), slope.to(direct.dtype).view(shape)).add_(
            offset.to(direct.dtype).view(shape)
        )
        return direct, None if weight is None else of_weight, of_bias if ctx.has_bias else None, None, None
