"""Float32 matrix products at the processor's full speed, and the rows that they take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor

BLOCK = 2**18  # similarities computed at a time: 1 MB in float32, which stays in a core's cache


def bf16_is_fast() -> bool:
    """Whether this machine multiplies bfloat16 matrices in hardware (AMX, AVX-512 BF16 or a GPU that can)."""
    # a machine with a GPU is asked about that: it is where the model will run
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return processor_has("avx512_bf16")


def processor_has(feature: str) -> bool:
    """Whether PyTorch finds a feature in the processor, such as "avx512_bf16" or "amx_tile"."""
    # private names of PyTorch, hence looked up: a version without them counts as a processor without the feature
    probe = getattr(torch.cpu, f"_is_{feature}_supported", None)
    return bool(probe()) if probe is not None else False


def block_size(on_cpu: int, device: torch.device) -> int:
    """How much to compute at a time: a processor's cache sets `on_cpu`; an accelerator takes 256 times as much.

    There nothing is gained from a cache, every kernel costs some microseconds, and 2^26 similarities are 256 MB.
    """
    return on_cpu if device.type == "cpu" else 256 * on_cpu


def gather_rows(features: Tensor, index: Tensor) -> Tensor:
    """features[index] for features [K, D] and an index of any shape [...]: [..., D].

    index_select copies whole rows and is several times faster than indexing.
    """
    return features.index_select(0, index.flatten()).view(*index.shape, features.shape[1])


@contextmanager
def fast_matmul() -> Iterator[None]:
    """Within it, float32 products on the CPU go to oneDNN where that is faster and no less precise.

    PyTorch gives them to MKL, which does not use AVX-512 on processors that are not Intel's: there oneDNN is twice as
    fast. PyTorch offers oneDNN only together with the permission to round to bfloat16, but without AMX oneDNN makes no
    use of that permission; with AMX it would, so then nothing is changed.
    """
    with _allow_bfloat16() if _is_worthwhile() else nullcontext():
        yield


@contextmanager
def _allow_bfloat16() -> Iterator[None]:
    matmul: Any = getattr(torch.backends.mkldnn, "matmul", None)
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


@cache
def _is_worthwhile() -> bool:
    """Whether this is an AVX-512 processor without AMX and a PyTorch with the switch, and the products stay float32."""
    avx512 = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
    matmul: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if avx512 is None or amx is None or not hasattr(matmul, "fp32_precision"):
        return False
    if not avx512() or amx() or not torch.backends.mkldnn.is_available():
        return False
    # Tried, not assumed: another version of oneDNN may round after all. A generator of its own leaves the user's random
    # numbers alone.
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(64, 128, generator=generator) for _ in range(2))
    with _allow_bfloat16():
        error = (torch.mm(a, b.T).double() - a.double() @ b.double().T).abs().max()
    return float(error) < 1e-4  # rounding to bfloat16 would give about 0.1
