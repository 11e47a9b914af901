from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compnet3d.data.symmetry import (
    Symmetry,
    load_symmetry,
    measure_mirror,
    mirror_distance,
    sample_surface,
    save_symmetry,
)
from compnet3d.errors import CompNetError
from compnet3d.geometry.mesh import Mesh, load_off

CORNERS = torch.tensor([[x, y, z] for x in (-1.0, 1.0) for y in (-2.0, 2.0) for z in (-0.5, 0.5)])
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
FACES = torch.tensor([f for a, b, c, d in QUADS for f in ((a, b, c), (a, c, d))])


def box(offset: float = 0.0) -> Mesh:
    return Mesh(CORNERS + torch.tensor([offset, 0.0, 0.0]), FACES)


def box_with_handle() -> Mesh:
    handle = CORNERS * 0.6 + torch.tensor([1.6, 0.0, 0.0])
    return Mesh(torch.cat([CORNERS, handle]), torch.cat([FACES, FACES + 8]))


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.builds(Symmetry, order=st.integers(0, 12), mirror=st.sampled_from([None, True, False])),
        max_size=5,
    )
)
def test_tables_survive_the_round_trip(tmp_path_factory: pytest.TempPathFactory, table: dict[str, Symmetry]) -> None:
    root = tmp_path_factory.mktemp("symmetry")
    save_symmetry(root, table)
    assert load_symmetry(root) == {name: entry for name, entry in table.items() if entry != Symmetry()}


def test_the_documented_file(tmp_path: Path) -> None:
    text = '{"apple": {"z": "continuous"}, "table": {"z": 2, "mirror": true}, "mug": {"mirror": true}}'
    (tmp_path / "symmetry.json").write_text(text)
    assert load_symmetry(tmp_path) == {
        "apple": Symmetry(order=0),
        "table": Symmetry(order=2, mirror=True),
        "mug": Symmetry(mirror=True),
    }
    assert load_symmetry(tmp_path / "absent") == {}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"mug": 3}',
        '{"mug": {"z": 0}}',
        '{"mug": {"z": 2.5}}',
        '{"mug": {"z": true}}',
        '{"mug": {"z": null}}',
        '{"mug": {"mirror": "yes"}}',
        '{"mug": {"axis": 2}}',
        '{"mug": {"z": 361}}',
        '{"mug": {"z": 1%s}}' % ("0" * 30),
        '{"mug": {"z": 1%s}}' % ("0" * 5000),
        '{"mug": {"z": 1e999}}',
        '{"mug": {"z": [[[[[[[[1]]]]]]]]}}',
        "[" * 5000,
    ],
)
def test_malformed_tables_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "symmetry.json").write_text(text)
    with pytest.raises(CompNetError, match="symmetry.json"):
        load_symmetry(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_a_table_that_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "symmetry.json")
    with pytest.raises(CompNetError, match="symmetry.json: is not a regular file"):
        load_symmetry(tmp_path)


def test_surface_samples_lie_on_the_surface_in_proportion_to_area() -> None:
    points = sample_surface(box(), 6000)
    distance = np.abs(np.abs(points) - np.array([1.0, 2.0, 0.5]))
    assert distance.min(axis=1).max() < 1e-6
    top = np.isclose(points[:, 2], 0.5).mean()
    assert top == pytest.approx(2 * 4 / (2 * (2 * 4 + 2 * 1 + 4 * 1)), abs=0.01)
    flat = Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]))
    assert sample_surface(flat, 10).shape == (0, 3) and mirror_distance(flat) == float("inf")


def test_mirror_symmetry_is_measured() -> None:
    assert mirror_distance(box()) < 0.01
    # Moved by 0.3, the mirrored box is 0.6 off: so are its two x faces (4 of the area of 28), and of the others
    # (24 of 28, two units wide) the last 0.6 overhang by 0.3 on average; the diagonal is sqrt(21).
    expected = (4 * 0.6 + 24 * 0.3 * 0.3) / 28 / 21**0.5
    assert mirror_distance(box(0.3)) == pytest.approx(expected, rel=0.25)
    assert measure_mirror([box(), box()])
    assert not measure_mirror([box(), box_with_handle()])
    assert not measure_mirror([])


def test_real_models_are_judged_sensibly(shared_dir: Path) -> None:
    def verdict(category: str) -> bool:
        return measure_mirror([load_off(p) for p in sorted((shared_dir / "data/cad100" / category).glob("*.off"))])

    assert all(verdict(name) for name in ("car", "aeroplane", "chair", "bottle", "toilet"))
    assert not any(verdict(name) for name in ("cup", "teapot", "satellite_dish", "kettle"))
