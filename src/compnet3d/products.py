"""Float32 matrix products at the processor's full speed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch


@contextmanager
def fast_products() -> Iterator[None]:
    """Within it, float32 products on the CPU go to oneDNN where that is faster and no less precise.

    PyTorch gives them to MKL, which does not use AVX-512 on processors that are not Intel's: there oneDNN is twice as
    fast. PyTorch offers oneDNN only together with the permission to round to bfloat16, but without AMX oneDNN makes no
    use of that permission; with AMX it would, so then nothing is changed.
    """
    if not _is_worthwhile():
        yield
        return
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
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(64, 128, generator=generator) for _ in range(2))
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        error = (torch.mm(a, b.T).double() - a.double() @ b.double().T).abs().max()
    finally:
        matmul.fp32_precision = before
    return float(error) < 1e-4  # rounding to bfloat16 would give about 0.1
