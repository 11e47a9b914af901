"""Gradients of all processes as one, and whether their models are one to the bit."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from compnet3d.utils.distributed import ProcessGroup


def in_parallel(module: nn.Module, group: ProcessGroup, *, some_unused: bool) -> nn.Module:
    """A module whose gradients are those of the mean over all members: `DistributedDataParallel` in a group of several.

    Its parameters and buffers become those of rank 0.

    Args:
        some_unused: whether there may be parameters without a gradient.
    """
    if group.size == 1:
        return module
    from torch.nn.parallel import DistributedDataParallel

    # of a name that changes between versions, and of the strides of 1 x 1 convolutions
    for noise in ("`broadcast_buffers` is deprecated", "Grad strides do not match bucket view strides"):
        warnings.filterwarnings("ignore", message=noise)
    on_cpu = dist.get_backend() == "gloo"
    wrapped = DistributedDataParallel(
        module,
        broadcast_buffers=False,
        find_unused_parameters=some_unused,
        gradient_as_bucket_view=True,
        # said outright, the first bucket is no smaller than the others: a first message that leaves early helps where
        # it travels beside the computation, and on a CPU both take the same cores
        bucket_cap_mb=25 if on_cpu else None,
    )
    if on_cpu:
        # a lambda has none of the annotations that would be compared with their types
        wrapped.register_comm_hook(group, lambda state, bucket: _mean(state, bucket))
    return wrapped


def _mean(group: ProcessGroup, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """The mean of a bucket of gradients, added up in the order of the ranks.

    In another order it would depend on a gradient's place in the bucket, and buckets change after the first step: a
    resumed run would differ in the last bits.
    """
    gradients = bucket.buffer()
    group.add_up(gradients)
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(gradients.div_(group.size))
    return done


def checksum(tensors: Iterable[Tensor]) -> Tensor:
    """A number for each tensor, int64, which changes when any bit does, or when two elements trade places."""
    sizes = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}
    sums = []
    for tensor in tensors:
        words = tensor.detach().contiguous().flatten()
        # integers of the same size, so that every bit counts
        words = words.view(sizes[words.element_size()]).to(torch.int64)
        places = torch.arange(len(words), device=words.device) * 2 + 1
        sums.append((words * places).sum())
    return torch.stack(sums)
