"""Parts, categories, and the grammar: closed outward meshes with the symmetry that is claimed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compnet3d.data.symmetry import mirror_distance, sample_surface
from compnet3d.geometry.mesh import Mesh
from compnet3d.procedural import grammar, parts
from compnet3d.procedural.categories import BUILTIN, category, category_names
from compnet3d.procedural.parts import Role


def _welded(part):
    _, index = np.unique(np.round(part.vertices, 7), axis=0, return_inverse=True)
    faces = index.reshape(-1)[part.faces]
    return faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]


def _assert_closed(part):
    """Every directed edge is matched by as many opposite ones."""
    faces = _welded(part)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    count = faces.max() + 1
    forward, backward = np.sort(edges[:, 0] * count + edges[:, 1]), np.sort(edges[:, 1] * count + edges[:, 0])
    np.testing.assert_array_equal(forward, backward)


PRIMITIVES = {
    "box": (lambda: parts.box((1, 2, 3)), 6.0),
    "wedge": (lambda: parts.box((2, 2, 3), taper=(0.0001, 0.0001)), 4.0),
    "bevelled": (lambda: parts.box((1, 2, 3), bevel=0.001), 6.0),
    "cylinder": (lambda: parts.cylinder(0.5, 2.0, segments=64), np.pi / 2),
    "cone": (lambda: parts.cylinder(0.5, 2.0, top=0.0, segments=64), np.pi / 6),
    "lying": (lambda: parts.cylinder(0.5, 2.0, axis="x", segments=64), np.pi / 2),
    "sphere": (lambda: parts.ellipsoid((1, 2, 3), segments=64, rings=48), 8 * np.pi),
    "torus": (lambda: parts.torus(1.0, 0.25, segments=64, around=48), 2 * np.pi**2 * 0.0625),
    "mirrored": (lambda: parts.box((1, 2, 3)).mirrored(), 6.0),
    "concave": (lambda: parts.extrude([(0, 0), (3, 0), (3, 1), (1, 1), (1, 3), (0, 3)], 2.0), 10.0),
    "clockwise": (lambda: parts.extrude([(0, 3), (1, 3), (1, 1), (3, 1), (3, 0), (0, 0)], 2.0), 10.0),
    "tube": (lambda: parts.tube([(0, 0, 0), (0, 0, 5)], 0.5, segments=64), 1.25 * np.pi),
    "cup": (lambda: parts.lathe([(0, 0), (1, 0), (1, 2), (0.5, 2), (0.5, 1), (0, 1)], segments=64), np.pi * 1.75),
}


@pytest.mark.parametrize("name", PRIMITIVES)
def test_primitives_are_closed_and_outward_with_the_known_volume(name):
    make, volume = PRIMITIVES[name]
    part = make()
    _assert_closed(part)
    assert parts.signed_volume(part.vertices, part.faces) == pytest.approx(volume, rel=0.01)


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), index=st.integers(0, len(BUILTIN) + 60))
def test_every_instance_is_a_finite_closed_mesh_of_unit_diagonal(seed, index):
    part = category(index).instance(np.random.default_rng(seed))
    assert np.isfinite(part.vertices).all() and 60 <= len(part.faces) <= 4000
    low, high = part.bounds()
    np.testing.assert_allclose(low + high, 0, atol=1e-12)
    assert np.linalg.norm(high - low) == pytest.approx(1)
    assert len(part.roles) == len(part.faces) and set(part.roles) <= {int(r) for r in Role}
    _assert_closed(part)
    assert parts.signed_volume(part.vertices, part.faces) > 0


def _turned(mesh, degrees):
    rotation = parts.axis_rotation("z", degrees)
    return Mesh(mesh.vertices @ mesh.vertices.new_tensor(rotation.T), mesh.faces)


def _distance(a, b):
    from scipy.spatial import cKDTree

    return float(cKDTree(sample_surface(b, 9000)).query(sample_surface(a, 800, seed=2))[0].mean())


@pytest.mark.parametrize("index", range(len(BUILTIN)), ids=[c.name for c in BUILTIN])
def test_claimed_symmetries_hold_and_the_front_is_unambiguous(index):
    chosen = category(index)
    for seed in (1, 2):
        part = chosen.instance(np.random.default_rng(seed))
        mesh = part.mesh()
        if chosen.symmetry.mirror:
            assert mirror_distance(mesh) < 0.01
        turns = {0: [30, 90, 180], 2: [180]}.get(chosen.symmetry.order, [])
        for degrees in turns:
            assert _distance(mesh, _turned(mesh, degrees)) < 0.012
        if chosen.symmetry.order == 1:
            # turning the shape round must change it visibly, or nobody could tell its front
            assert min(_distance(mesh, _turned(mesh, d)) for d in (90, 180, 270)) > 0.007


def test_lopsided_categories_really_are():
    for chosen in BUILTIN:
        if chosen.symmetry.mirror is False:
            mesh = chosen.instance(np.random.default_rng(0)).mesh()
            rounded = {tuple(v) for v in np.round(mesh.vertices.numpy(), 4)}
            flipped = {(-x, y, z) for x, y, z in rounded}
            assert len(rounded & flipped) < len(rounded)


def test_names_are_unique_and_continue_into_the_grammar():
    names = category_names(250)
    assert len(set(names)) == 250
    assert names[: len(BUILTIN)] == [c.name for c in BUILTIN]
    assert names[len(BUILTIN)] == f"shape{len(BUILTIN) + 1:04d}"
    assert sum(c.symmetry.order != 1 for c in BUILTIN) <= 4 and len(BUILTIN) >= 26


def test_grammar_yields_200_distinct_categories():
    genomes = [grammar.genome(i) for i in range(31, 231)]
    assert len(set(genomes)) == 200
    shapes = np.stack([_silhouettes(g.build(np.random.default_rng(0)).normalised()) for g in genomes])
    difference = np.abs(shapes[:, None] - shapes[None]).mean(-1) + np.eye(200)
    assert difference.min() > 0.01


def _silhouettes(part):
    """Occupancy of surface points on a coarse grid, as seen along the three axes."""
    points = sample_surface(part.mesh(), 3000)
    cell = np.clip(((points + 0.5) * 14).astype(int), 0, 13)
    views = np.zeros((3, 14, 14))
    for k, (a, b) in enumerate(((0, 1), (0, 2), (1, 2))):
        views[k, cell[:, a], cell[:, b]] = 1
    return views.reshape(-1)


def test_instances_vary_and_repeat():
    for index in (0, 4, 12, 40):
        build = category(index).instance
        first, again, other = (build(np.random.default_rng(s)) for s in (5, 5, 6))
        np.testing.assert_array_equal(first.vertices, again.vertices)
        extent = [p.bounds()[1] - p.bounds()[0] for p in (first, other)]
        assert np.abs(extent[0] - extent[1]).max() > 1e-3


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6))
@example(seed=17833)  # a prism with five corners, which once stood crosswise
def test_grammar_mirror_claim(seed):
    genome = grammar.genome(seed)
    vertices = genome.build(np.random.default_rng(seed)).normalised().vertices
    mirrored = vertices * np.array([-1.0, 1.0, 1.0])
    farthest = max(np.linalg.norm(vertices - point, axis=1).min() for point in mirrored)
    assert farthest < 1e-9 if genome.mirror else farthest > 0.01


@pytest.mark.parametrize("shapes", [((3,), (3,)), ((7, 3), (7, 3)), ((7, 3), (3,)), ((3,), (2, 7, 3))])
def test_cross_products_are_numpys_to_the_bit(shapes):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape) for shape in shapes)
    np.testing.assert_array_equal(parts.cross(a, b), np.cross(a, b))
