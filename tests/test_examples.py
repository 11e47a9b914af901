"""Each example runs as its first lines say, and answers what they promise."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

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


def test_a_job_array_renders_a_data_set(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "compnet3d").write_text(
        f'#!/bin/sh\nexec {sys.executable} -m compnet3d "$@" --train 1 --val 1 --size 32\n'
    )
    (tmp_path / "compnet3d").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_COUNT": "2"}
    command = ["bash", EXAMPLES / "slurm" / "render-array.sbatch", tiny_data / "CAD", tmp_path / "out", "--seed", "1"]
    for task in ("2", "1"):
        assert not (tmp_path / "out").exists()
        subprocess.run(command, check=True, env={**environment, "SLURM_ARRAY_TASK_ID": task}, timeout=120)
    assert len(list((tmp_path / "out" / "images").glob("*/*.JPEG"))) == 4


@pytest.mark.parametrize("border", ["constant", "reflect"])
@pytest.mark.parametrize("box", [(5.0, 8.0, 35.5, 30.0), (-10.0, 60.0, 640.0, 500.0)], ids=["small", "large"])
def test_onnx_without_torch(border: str, box: tuple[float, ...], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from compnet3d.data.transforms import InputConfig
    from compnet3d.inference.pose_search import PoseSettings
    from compnet3d.models.backbones import BackboneConfig
    from compnet3d.models.config import CompNetConfig
    from compnet3d.models.export import ExportSettings, export_model, float32_copy
    from tests.networks import TINY_RESNET, random_compnet

    config = CompNetConfig(
        categories=("brick", "tower"),
        bounds=(((-0.4, -0.2, -0.1), (0.4, 0.2, 0.1)), ((-0.1, -0.2, -0.4), (0.1, 0.2, 0.4))),
        backbone=BackboneConfig("resnet", TINY_RESNET, dimension=16),
        input_config=InputConfig(48, 64, focal=120.0, distance=3.0, box_fill=0.7, fill=(9, 80, 200), border=border),
        vertex_count=30,
        pose=PoseSettings(starts=1, steps=0),  # the model's own pose is the best initial one, too
    )
    model = random_compnet(config)
    export_model(model, tmp_path / "exported", ExportSettings(forms=("onnx",)))
    coarse = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((680, 520), Image.Resampling.BICUBIC).save(tmp_path / "image.png")
    # neither can be imported there
    blocked = "sys.modules |= {'torch': None, 'compnet3d': None}"
    code = f"import runpy, sys; {blocked}; runpy.run_path(sys.argv.pop(1), {{}}, '__main__')"
    arguments = [EXAMPLES / "onnx_numpy.py", tmp_path / "exported", tmp_path / "image.png", *box]
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = float32_copy(model).predict(tmp_path / "image.png", boxes=[box])[0]
    assert found["category"] == expected.category
    pose, (u, v) = expected.pose.wrapped(), expected.principal_point.tolist()
    values = [expected.confidence, float(pose.distance), expected.focal, u, v]
    assert [found[n] for n in ("confidence", "distance", "focal")] + found["principal_point"] == pytest.approx(
        values, abs=0.02
    )
    for name in ("azimuth", "elevation", "theta"):
        assert found[f"{name}_deg"] == pytest.approx(math.degrees(getattr(pose, name)), abs=0.01)
    (tmp_path / "exported" / f"pose-{found['category']}.onnx").unlink()
    refused = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert f"pose-{found['category']}.onnx is missing; export the model with this category" in refused.stderr
