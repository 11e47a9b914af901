"""Checks at public entries name the argument, and `python -O` leaves them out."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from compnet3d.utils import checks


@pytest.mark.parametrize(
    ("shape", "pattern"),
    [
        ((2, 3), (2, 3)),
        ((5, 3), ("V", 3)),
        ((3,), (..., 3)),
        ((7, 8, 4, 3), (..., "V", 3)),
        ((), (...,)),
        ((0, 3), (..., 3)),
    ],
)
def test_shapes_that_fit(shape: tuple[int, ...], pattern: tuple[Any, ...]) -> None:
    checks.check_shape("x", torch.zeros(shape), pattern)


@pytest.mark.parametrize(
    ("shape", "pattern", "wanted"),
    [
        ((3, 2), (2, 3), r"\[2, 3\], got \[3, 2\]"),
        ((3,), ("V", 3), r"\[V, 3\], got \[3\]"),
        ((1, 2, 3), ("V", 3), r"\[V, 3\], got \[1, 2, 3\]"),
        ((3,), (..., "V", 3), r"\[..., V, 3\], got \[3\]"),
        ((), (..., 3), r"\[..., 3\], got \[\]"),
    ],
)
def test_shapes_that_do_not(shape: tuple[int, ...], pattern: tuple[Any, ...], wanted: str) -> None:
    with pytest.raises(ValueError, match=f"points must have shape {wanted}"):
        checks.check_shape("points", torch.zeros(shape), pattern)


def test_values_and_types() -> None:
    checks.check_floating(x=torch.zeros(1))
    checks.check_integer(x=torch.zeros(1, dtype=torch.int16))
    checks.check_finite(x=torch.zeros(0))
    checks.check_positive(x=torch.ones(2))
    checks.check_index("x", torch.tensor([0, 4]), 5)
    checks.check_index("x", torch.zeros(0, dtype=torch.int64), 0)
    checks.check_broadcast(a=torch.Size([3, 1]), b=torch.Size([4]))
    for message, call in {
        "x must hold floating point numbers": lambda: checks.check_floating(x=torch.tensor(1)),
        "x must hold whole numbers": lambda: checks.check_integer(x=torch.tensor(True)),
        "y holds a number that is not finite": lambda: checks.check_finite(x=torch.ones(1), y=torch.tensor(torch.nan)),
        "x must be positive, got 0": lambda: checks.check_positive(x=torch.tensor([1.0, 0.0])),
        r"vertex must lie in 0 \.\.\. 3, got 1 \.\.\. 5": lambda: checks.check_index("vertex", torch.tensor([5, 1]), 4),
        r"index must lie in 0 \.\.\. 3, got -1": lambda: checks.check_index("index", torch.tensor([-1]), 4),
        r"a \[3\], b \[4\]": lambda: checks.check_broadcast(a=torch.Size([3]), b=torch.Size([4])),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_rotations() -> None:
    checks.check_rotation("R", torch.eye(3).expand(2, 3, 3))
    checks.check_rotation("R", torch.eye(3, dtype=torch.bfloat16))
    for matrix in (-torch.eye(3), torch.eye(3) * 1.01, torch.ones(3, 3), torch.eye(3) * torch.inf):
        with pytest.raises(ValueError, match="^R "):
            checks.check_rotation("R", matrix)


def test_the_optimised_interpreter_checks_nothing() -> None:
    code = (
        "import torch; from compnet3d.geometry import Pose, rotmat_to_angles; from compnet3d.utils import checks; "
        "checks.check_shape('x', torch.zeros(2), (3,)); checks.check_finite(x=torch.tensor(torch.nan)); "
        "checks.check_rotation('R', torch.zeros(3, 3)); Pose.from_matrix(torch.eye(3) * 2); print('through')"
    )
    done = subprocess.run(
        [sys.executable, "-O", "-c", code], capture_output=True, text=True, env=os.environ, check=True
    )
    assert done.stdout.strip() == "through"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, env=os.environ, check=False).returncode != 0
    )
