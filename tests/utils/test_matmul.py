"""Fast products: as precise as float32 is, and the switch is put back."""

from __future__ import annotations

import pytest
import torch

from compnet3d.utils import matmul as products
from compnet3d.utils.matmul import fast_matmul


def test_products_stay_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    for rows, inner, columns in ((3, 128, 5), (300, 128, 2000), (64, 700, 128)):
        a = torch.randn(rows, inner, generator=generator)
        b = torch.randn(inner, columns, generator=generator)
        expected = a.double() @ b.double()
        with fast_matmul():
            found = [a @ b, torch.bmm(a[None], b[None])[0]]
        for product in found:
            torch.testing.assert_close(product.double(), expected, rtol=0, atol=2e-5 * inner**0.5)


def test_the_switch_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    if not hasattr(matmul, "fp32_precision"):
        pytest.skip("this PyTorch has no such switch")
    before = matmul.fp32_precision
    monkeypatch.setattr(products, "_is_worthwhile", lambda: True)

    @fast_matmul()
    def inside() -> str:
        return matmul.fp32_precision

    assert inside() == "bf16" and matmul.fp32_precision == before
    with fast_matmul(), fast_matmul():
        pass
    assert matmul.fp32_precision == before
    with pytest.raises(ZeroDivisionError), fast_matmul():
        raise ZeroDivisionError
    assert matmul.fp32_precision == before
    monkeypatch.setattr(products, "_is_worthwhile", lambda: False)
    assert inside() == before


@pytest.mark.parametrize(("avx512", "amx"), [(False, False), (True, True), (False, True)])
def test_other_processors_are_left_alone(monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert not products._is_worthwhile.__wrapped__()
