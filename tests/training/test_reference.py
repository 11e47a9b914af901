"""Whole trainings against the reference, for each setting at two values."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.training.real import RECIPE, Result, change, difference, train_by_reference, train_really, write_symmetry

BASES = {
    "compnet": RECIPE,
    "pose score": change(RECIPE, "pose_score_weight", 0.6),
    "novum": change(RECIPE, "method", "novum"),
    "bins": change(RECIPE, "method", "dual-head"),
    "regression": change(change(RECIPE, "method", "dual-head"), "pose_head", "regression"),
}
# the value of each setting that is not its base's; what several methods read is tried with each of them
SETTINGS: list[tuple[str, str, Any]] = [
    ("compnet", "height", 40),
    ("compnet", "width", 48),
    ("compnet", "fill", 0.6),
    ("compnet", "dimension", 6),
    ("compnet", "vertex_count", 56),
    ("compnet", "background_size", 17),
    ("compnet", "background_per_image", 2),
    ("compnet", "kappa", 16.0),
    ("compnet", "momentum", 0.7),
    ("compnet", "samples_per_category", 9),
    ("compnet", "queries_per_image", None),
    ("compnet", "queries_per_image", 3),
    ("compnet", "near_radius", 0.55),
    ("compnet", "background_weight", 0.2),
    ("compnet", "in_weight", 1.4),
    ("compnet", "in_weight", 0.0),
    ("compnet", "cross_weight", 0.5),
    ("compnet", "cross_weight", 0.0),
    ("compnet", "classification_weight", 0.9),
    ("compnet", "classification_weight", 0.0),
    ("compnet", "classification_cells", None),
    ("compnet", "classification_cells", 5),
    ("compnet", "pose_contrastive_weight", 0.8),
    ("compnet", "pose_contrastive_weight", 0.0),
    ("compnet", "negative_poses", 7),
    ("compnet", "pose.truncation", 0.6),
    ("compnet", "pose.truncation", None),
    ("compnet", "mirrored_scores", True),
    ("compnet", "pose_score_weight", 0.6),
    ("compnet", "dynamic_weights", False),
    ("compnet", "regroup_every", 2),
    ("compnet", "grouping_threshold", 0.3),
    ("compnet", "grouping_accuracy", 0.6),
    ("compnet", "grouping_floor", 0.15),
    ("compnet", "epochs", 2),
    ("compnet", "batch_size", 4),
    ("compnet", "processes", 2),
    ("compnet", "learning_rate", 0.02),
    ("compnet", "head_learning_rate", 0.01),
    ("compnet", "weight_decay", 8.0),
    ("compnet", "warmup_epochs", 1.5),
    ("compnet", "calibration_fraction", 0.0),
    ("compnet", "held_out_epochs", None),
    ("compnet", "augmentation.rotation", 30.0),
    ("pose score", "pose.foreground_bonus", 0.1),
    ("pose score", "pose.truncation", 0.6),
    ("pose score", "grid.azimuths", 4),
    ("pose score", "grid.elevations", 3),
    ("pose score", "grid.thetas", 3),
    ("pose score", "grid.elevation_range", (0.1, 0.4)),
    ("pose score", "grid.theta_range", (0.3, 1.5)),
    ("novum", "kappa", 16.0),
    ("novum", "momentum", 0.7),
    ("novum", "near_radius", 0.55),
    ("novum", "background_weight", 0.2),
    ("novum", "queries_per_image", None),
    ("novum", "background_per_image", 2),
    ("novum", "processes", 2),
    ("bins", "pose_bins", 12),
    ("bins", "pose_head", "regression"),
    ("bins", "mirrored_scores", True),
    ("bins", "learning_rate", 0.02),
    ("bins", "head_learning_rate", 0.01),
    ("bins", "weight_decay", 8.0),
    ("bins", "processes", 2),
    ("regression", "learning_rate", 0.02),
]


@pytest.fixture(scope="module")
def data(tiny_maker: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny_maker(tmp_path_factory.mktemp("reference") / "data", ("brick", "slab", "tower"), images=4)
    write_symmetry(root)
    return root


@cache
def reference_of(base: str, data: Path) -> Result:
    return train_by_reference(BASES[base], data)


def check_alike(real: Result, reference: Result) -> None:
    """The package computes in float32."""
    apart = difference(real, reference)
    assert {name: share for name, share in apart.items() if share > 1e-4} == {}


@pytest.mark.parametrize("base", BASES)
def test_a_training_is_the_reference(data: Path, tmp_path: Path, base: str) -> None:
    check_alike(train_really(BASES[base], data, tmp_path / "run"), reference_of(base, data))


@pytest.mark.parametrize(("base", "name", "value"), SETTINGS)
def test_a_setting_does_what_it_does_in_the_reference(
    data: Path, tmp_path: Path, base: str, name: str, value: Any
) -> None:
    recipe = change(BASES[base], name, value)
    assert recipe != BASES[base]
    reference = train_by_reference(recipe, data)
    check_alike(train_really(recipe, data, tmp_path / "run"), reference)
    # else the comparison could not tell whether the setting is read
    assert max(difference(reference, reference_of(base, data)).values()) > 0.01


def test_another_seed_is_another_training(data: Path, tmp_path: Path) -> None:
    reference = train_by_reference(RECIPE, data, seed=4)
    check_alike(train_really(RECIPE, data, tmp_path / "run", seed=4), reference)
    assert difference(reference, reference_of("compnet", data))["bank"] > 0.01
