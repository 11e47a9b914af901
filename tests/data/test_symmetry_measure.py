"""Symmetries of shapes that are known by construction, however they are turned, cut into triangles, or disturbed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from compnet3d.cli.main import main
from compnet3d.data.symmetry import MIRROR_TOLERANCE, Symmetry, load_symmetry
from compnet3d.data.symmetry_measure import KNOWN, category_folders, measure, measure_category, write_measured
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh, save_off
from compnet3d.procedural.categories import BUILTIN


def mesh_of(made: trimesh.Trimesh) -> Mesh:
    return Mesh(torch.tensor(made.vertices, dtype=torch.float32), torch.tensor(made.faces.copy(), dtype=torch.int64))


def prism(sides: int, turn: float = 0.0, away: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> trimesh.Trimesh:
    made = trimesh.creation.cylinder(radius=1.0, height=1.0, sections=sides)
    made.apply_transform(trimesh.transformations.rotation_matrix(turn, (0, 0, 1)))
    made.apply_translation(away)
    return made


@pytest.mark.parametrize(("sides", "order"), [(3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (16, 0), (64, 0)])
def test_prisms_turned_and_moved(sides: int, order: int) -> None:
    for turn, away in ((0.0, (0.0, 0.0, 0.0)), (0.37, (0.4, -0.2, 3.0))):
        found = measure([mesh_of(prism(sides, turn, away))])
        assert found.order == order and found.residual <= 1 and found.residual < 0.5 * found.rejected


def test_finer_triangles_and_noise_change_nothing() -> None:
    rng = np.random.default_rng(0)
    for sides, order in ((3, 3), (5, 5), (48, 0)):
        # finer on one side only, so that triangles themselves are not symmetric
        made = prism(sides)
        faces = np.flatnonzero(made.triangles_center[:, 0] > 0.1)
        made = made.subdivide(face_index=faces).subdivide()
        made.vertices += rng.normal(scale=0.004, size=made.vertices.shape)
        assert measure([mesh_of(made)]).order == order


def test_boxes_cones_and_an_angle() -> None:
    box, cube = trimesh.creation.box((1.0, 2.0, 0.5)), trimesh.creation.box((1.0, 1.0, 3.0))
    assert measure([mesh_of(box)]).symmetry() == Symmetry(order=2, mirror=True)
    assert measure([mesh_of(cube)]).symmetry() == Symmetry(order=4, mirror=True)
    cone = trimesh.creation.cone(radius=1.0, height=2.0, sections=48)
    assert measure([mesh_of(cone)]).symmetry() == Symmetry(order=0, mirror=True)
    # of all models together: 4 and 2, continuous and 4, 3 and 4
    assert measure([mesh_of(cube), mesh_of(box)]).order == 2
    assert measure([mesh_of(cone), mesh_of(cube)]).order == 4
    assert measure([mesh_of(prism(3)), mesh_of(cube)]).order == 1
    arm = trimesh.creation.box((0.5, 1.5, 1.0))
    arm.apply_translation((-0.75, 0.5, 0.0))
    angle = trimesh.util.concatenate([trimesh.creation.box((2.0, 0.5, 1.0)), arm])
    found = measure([mesh_of(angle)])
    assert found.order == 1 and found.mirror > MIRROR_TOLERANCE and found.residual == 0.0
    # a handle is enough to end the symmetry of a cup
    handle = trimesh.creation.box((0.5, 0.15, 0.6))
    handle.apply_translation((1.2, 0.0, 0.0))
    assert measure([mesh_of(trimesh.util.concatenate([prism(48), handle]))]).order == 1


@pytest.mark.parametrize("made", [c for c in BUILTIN if c.symmetry.order != 1 or c.name in ("car", "mug")],
                         ids=lambda c: c.name)  # fmt: skip
def test_the_procedural_categories_are_as_they_are_said_to_be(made) -> None:
    meshes = [made.instance(np.random.default_rng(seed)).normalised().mesh() for seed in range(2)]
    assert measure(meshes).symmetry() == made.symmetry


def test_what_is_written_and_what_stays(tmp_path: Path) -> None:
    for name, shape in (("post", prism(4)), ("pole", prism(48)), ("beam", trimesh.creation.box((1, 2, 1)))):
        (tmp_path / "CAD" / name).mkdir(parents=True)
        save_off(tmp_path / "CAD" / name / "01.off", mesh_of(shape))
    folders = category_folders(tmp_path)
    assert sorted(folders) == ["beam", "pole", "post"] == sorted(category_folders(tmp_path / "CAD"))
    found = {name: measure_category(folder).symmetry() for name, folder in folders.items()}
    text = {"pole": {"mirror": False}, "post": {"z": 1, "mirror": True}, "other": {"z": 3}}
    (tmp_path / "symmetry.json").write_text(json.dumps(text))
    assert write_measured(tmp_path, found) == ["beam", "pole"]
    assert json.loads((tmp_path / "symmetry.json").read_text()) == {
        "beam": {"z": 2, "mirror": True},
        "other": {"z": 3},
        "pole": {"z": "continuous", "mirror": False},
        "post": {"z": 1, "mirror": True},
    }
    assert write_measured(tmp_path, found) == []
    assert write_measured(tmp_path, found, replace=True) == ["pole", "post"]
    assert load_symmetry(tmp_path)["post"] == Symmetry(order=4, mirror=True)
    with pytest.raises(CompNetError, match="holds no CAD models"):
        category_folders(tmp_path / "CAD" / "pole")
    assert math.isinf(measure([mesh_of(prism(360))]).rejected)


def test_what_is_known_beyond_doubt_outweighs_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("wine_glass", "jar"):
        (tmp_path / "CAD" / name).mkdir(parents=True)
        save_off(tmp_path / "CAD" / name / "01.off", mesh_of(trimesh.creation.box((1, 2, 1))))
    main(["data", "symmetry", str(tmp_path), "--table", "imagenet3d", "--write"])
    assert "continuous (known)" in capsys.readouterr().out
    assert load_symmetry(tmp_path) == {"jar": Symmetry(2, mirror=True), "wine_glass": Symmetry(0, mirror=True)}


def test_round_categories_are_round_in_real_models(shared_dir: Path) -> None:
    """Of those that are said to be round beyond doubt, and of some that are left out on purpose."""
    assert all(symmetry == Symmetry(order=0) for symmetry in KNOWN["imagenet3d"].values())
    assert KNOWN["pascal3d"].items() <= KNOWN["imagenet3d"].items()
    for name in ("can", "plate"):
        assert name in KNOWN["imagenet3d"] and measure_category(shared_dir / "data/cad100" / name).order == 0
    for name in ("cup", "pan"):
        assert name not in KNOWN["imagenet3d"] and measure_category(shared_dir / "data/cad100" / name).order == 1
