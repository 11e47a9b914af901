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
    "pose score": change(RECIPE, "search.pose_score_weight", 0.6),
    "novum": change(RECIPE, "method", "novum"),
    "bins": change(RECIPE, "method", "dual-head"),
    "regression": change(change(RECIPE, "method", "dual-head"), "model.pose_head", "regression"),
}
# the value of each setting that is not its base's; what several methods read is tried with each of them
SETTINGS: list[tuple[str, str, Any]] = [
    ("compnet", "input.height", 40),
    ("compnet", "input.width", 48),
    ("compnet", "input.fill", 0.6),
    ("compnet", "backbone.dimension", 6),
    ("compnet", "model.vertex_count", 56),
    ("compnet", "bank.background_size", 17),
    ("compnet", "bank.background_per_image", 2),
    ("compnet", "loss.kappa", 16.0),
    ("compnet", "bank.momentum", 0.7),
    ("compnet", "loss.samples_per_category", 9),
    ("compnet", "loss.queries_per_image", None),
    ("compnet", "loss.queries_per_image", 3),
    ("compnet", "loss.near_radius", 0.55),
    ("compnet", "loss.background_weight", 0.2),
    ("compnet", "loss.in_weight", 1.4),
    ("compnet", "loss.in_weight", 0.0),
    ("compnet", "loss.cross_weight", 0.5),
    ("compnet", "loss.cross_weight", 0.0),
    ("compnet", "loss.classification_weight", 0.9),
    ("compnet", "loss.classification_weight", 0.0),
    ("compnet", "loss.classification_cells", None),
    ("compnet", "loss.classification_cells", 5),
    ("compnet", "loss.pose_contrastive_weight", 0.8),
    ("compnet", "loss.pose_contrastive_weight", 0.0),
    ("compnet", "loss.negative_poses", 7),
    ("compnet", "loss.flip_negatives", 0.6),
    ("compnet", "loss.flip_vertex_weight", 4.0),
    ("compnet", "loss.flip_vertex_weight", 0.0),
    ("compnet", "search.truncation", 0.6),
    ("compnet", "search.truncation", None),
    ("compnet", "model.mirrored_scores", True),
    ("compnet", "search.pose_score_weight", 0.6),
    ("compnet", "grouping.dynamic", False),
    ("compnet", "schedule.calibrate_every", 2),
    ("compnet", "grouping.threshold", 0.3),
    ("compnet", "grouping.least_accuracy", 0.6),
    ("compnet", "grouping.floor", 0.15),
    ("compnet", "schedule.epochs", 2),
    ("compnet", "schedule.batch_size", 4),
    ("compnet", "schedule.learning_rate", 0.02),
    ("compnet", "schedule.head_learning_rate", 0.01),
    ("compnet", "schedule.weight_decay", 8.0),
    ("compnet", "schedule.warmup_epochs", 1.5),
    ("compnet", "schedule.calibration_fraction", 0.0),
    ("compnet", "schedule.held_out_epochs", None),
    ("compnet", "augmentation.rotation", 30.0),
    ("pose score", "search.foreground_bonus", 0.1),
    ("pose score", "search.truncation", 0.6),
    ("pose score", "search.grid.azimuths", 4),
    ("pose score", "search.grid.elevations", 3),
    ("pose score", "search.grid.thetas", 3),
    ("pose score", "search.grid.elevation_range", (0.1, 0.4)),
    ("pose score", "search.grid.theta_range", (0.3, 1.5)),
    ("novum", "loss.kappa", 16.0),
    ("novum", "bank.momentum", 0.7),
    ("novum", "loss.near_radius", 0.55),
    ("novum", "loss.background_weight", 0.2),
    ("novum", "loss.queries_per_image", None),
    ("novum", "bank.background_per_image", 2),
    ("bins", "model.pose_bins", 12),
    ("bins", "model.pose_head", "regression"),
    ("bins", "model.mirrored_scores", True),
    ("bins", "schedule.learning_rate", 0.02),
    ("bins", "schedule.head_learning_rate", 0.01),
    ("bins", "schedule.weight_decay", 8.0),
    ("regression", "schedule.learning_rate", 0.02),
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


@pytest.mark.parametrize("base", BASES)
def test_several_processes_are_the_reference_of_one(data: Path, tmp_path: Path, base: str) -> None:
    recipe = change(BASES[base], "schedule.processes", 3)
    check_alike(train_really(recipe, data, tmp_path / "run"), reference_of(base, data))


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("base", BASES)
def test_one_category_is_the_reference_without_eq4(
    tiny_maker: Callable[..., Path], tmp_path: Path, base: str, processes: int
) -> None:
    """What the reference has of Eq. 4 is a loop over the other categories, of which there are none."""
    alone = tiny_maker(tmp_path / "data", ("brick",), images=6)
    write_symmetry(alone)
    recipe = change(BASES[base], "schedule.processes", processes)
    found = train_really(recipe, alone, tmp_path / "run")
    check_alike(found, train_by_reference(recipe, alone))
    absent = [float(value) for name, value in found.items() if "cross_category_loss" in name or name == "omega"]
    assert absent == [0.0] * {"compnet": 4, "pose score": 4, "novum": 1}.get(base, 0)
    assert found["temperature"].tolist() == [1, 1]


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
