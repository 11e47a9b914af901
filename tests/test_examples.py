"""Each example runs as its first lines say, and answers what they promise."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run_example(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"-?\d+\.\d+", text)]


def test_the_losses_of_own_features() -> None:
    in_category, cross_category, total = numbers(run_example("losses_alone.py").splitlines()[0])
    assert total == pytest.approx(in_category + cross_category, abs=2e-3) and min(in_category, cross_category) > 1


def test_a_cuboid_and_a_mesh_are_drawn() -> None:
    output = run_example("renderer_alone.py")
    assert re.findall(r"^(cuboid|mesh): \d+ of 20\d", output, re.MULTILINE) == ["cuboid", "mesh"]
    rows = [line for line in output.splitlines() if set(line) <= {"#", "."}]
    assert len(rows) == 24 and all(len(row) == 16 for row in rows)
    assert all(20 < "".join(rows[part]).count("#") < 150 for part in (slice(12), slice(12, 24)))


def test_the_pose_of_own_features() -> None:
    lines = run_example("pose_of_my_features.py").splitlines()
    assert [line.split(":")[0] for line in lines] == ["azimuth", "elevation", "theta"]
    for line in lines:
        found, true = numbers(line)
        assert abs(found - true) < 3


def load(name: str) -> Any:
    """An example as a module."""
    found = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_my_backbone(tiny_data: Path, tmp_path: Path) -> None:
    model = load("my_backbone").main(str(tiny_data), str(tmp_path / "run"), epochs=1)
    assert model.categories == ("brick", "tower") and model.feature_extractor.stride == 8


def test_my_dataset(tmp_path: Path) -> None:
    model = load("my_dataset").main(str(tmp_path / "run"), epochs=1, images=4)
    assert model.categories == ("brick", "tower")
