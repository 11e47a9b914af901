"""Pictures of explanations: each cell has the colour that its state or its vertex asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from compnet3d.data.transforms import InputConfig
from compnet3d.geometry.camera import Pose, pose_grid
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.inference.explanation import CategoryExplanation, Explanation, HypothesisMap
from compnet3d.inference.prediction import SinglePrediction
from compnet3d.reporting import explanations
from compnet3d.reporting.explanations import EXPLAINED, OCCLUDED, vertex_colours

SPEC = InputConfig(height=32, width=48, focal=100.0, distance=4.0, box_fill=0.7)
CUBOID = cuboid_mesh(torch.tensor([0.8, 0.4, 0.6]), 40)


def category(name: str, grid: tuple[int, int, int] = (6, 3, 2)) -> CategoryExplanation:
    matched = torch.full((4, 6), -1)
    matched[1:3, 2:5] = torch.arange(6).reshape(2, 3)
    explained, occluded = torch.zeros(4, 6, dtype=torch.bool), torch.zeros(4, 6, dtype=torch.bool)
    explained[1, 2:5], occluded[2, 2:5] = True, True
    loss = torch.rand(int(np.prod(grid)), generator=torch.Generator().manual_seed(0))
    return CategoryExplanation(
        category=name, mesh=CUBOID.mesh, vertices=CUBOID.vertices, pose=Pose.of(5.9, 0.4, 6.2, 4.0),
        principal_point=torch.tensor([24.0, 16.0]), runner_up=Pose.of(1.0, 0.2, 0.0, 4.0), reconstruction_score=0.5,
        matched_vertex=matched,
        similarity=torch.full((4, 6), 0.7), rendered_vertex=matched.flip(0), explained=explained, occluded=occluded,
        hypotheses=HypothesisMap.of(pose_grid(*grid), loss),
    )  # fmt: skip


def explanation(zoom: int = 1) -> Explanation:
    scores = {"brick": 0.8, "tower": 0.7}
    answer = SinglePrediction("brick", 0.9, scores, Pose.of(5.9, 0.4, 6.2, 4.0), 100.0, torch.tensor([24.0, 16.0]))
    crop = torch.full((3, 32 * zoom, 48 * zoom), 100, dtype=torch.uint8)
    return Explanation(answer, SPEC, crop, category("brick"), category("tower"))


def test_colours_tell_the_place_on_the_shape_and_nothing_else() -> None:
    colours = vertex_colours(CUBOID.vertices).int()
    for axis, sign in enumerate((1, -1, 1)):  # to the right, to the front, upwards
        order = (sign * CUBOID.vertices[:, axis]).argsort()
        assert (colours[order, axis].diff() >= 0).all()
        assert colours[order[0], axis] == 40 and colours[order[-1], axis] == 255
    # a box of another size and place, with the same vertices relative to it
    assert torch.equal(vertex_colours(3 * CUBOID.vertices + 1), vertex_colours(CUBOID.vertices))
    assert torch.equal(vertex_colours(torch.zeros(2, 3)), torch.full((2, 3), 40, dtype=torch.uint8))


@pytest.mark.parametrize("zoom", [1, 2, 20])
def test_each_cell_has_its_colour(zoom: int) -> None:
    shown = explanation(zoom)
    colours = vertex_colours(CUBOID.vertices).float().numpy()
    for draw, vertex in (
        (explanations.draw_matches, shown.best.matched_vertex),
        (explanations.draw_expected, shown.best.rendered_vertex),
    ):
        pixels = np.asarray(draw(shown)).astype(float)
        assert pixels.shape[0] % 4 == 0 and max(pixels.shape) >= 480
        side = pixels.shape[0] // 4
        for i in range(4):
            for j in range(6):
                number = int(vertex[i, j])
                wanted = [100.0] * 3 if number < 0 else 0.8 * colours[number] + 0.2 * 100
                cell = pixels[i * side : (i + 1) * side, j * side : (j + 1) * side]
                assert np.abs(cell - wanted).max() < 2


def test_the_map_of_what_is_explained_shows_three_states() -> None:
    shown = explanation()
    pixels = np.asarray(explanations.draw_regions(shown)).astype(float)
    side = pixels.shape[0] // 4
    for place, colour in (((1, 3), EXPLAINED), ((2, 3), OCCLUDED), ((0, 0), (100, 100, 100))):
        wanted = 0.55 * np.array(colour) + 0.45 * 100
        centre = pixels[int((place[0] + 0.5) * side), int((place[1] + 0.5) * side)]
        assert np.abs(centre - wanted).max() < 2


def test_the_overlay_moves_with_the_principal_point() -> None:
    shown = explanation()
    changed = (np.asarray(explanations.draw_pose(shown)) != 100).any(axis=-1)
    moved = replace(shown.best, principal_point=torch.tensor([34.0, 16.0]))
    there = (np.asarray(explanations.draw_pose(shown, moved)) != 100).any(axis=-1)
    # 10 pixels of the input, enlarged 10 times
    before, after = (np.flatnonzero(x.any(axis=0)).min() for x in (changed, there))
    assert after - before == pytest.approx(100, abs=3)


@pytest.mark.parametrize("grid", [(12, 4, 3), (1, 1, 1), (2, 1, 2)])
def test_a_sheet_is_drawn_of_any_grid_with_and_without_a_runner_up(grid: tuple[int, int, int]) -> None:
    pytest.importorskip("matplotlib")
    both = replace(explanation(), best=category("brick", grid), runner_up=category("tower", grid))
    tall, low = explanations.draw_sheet(both), explanations.draw_sheet(replace(both, runner_up=None))
    assert tall.mode == low.mode == "RGB" and tall.height > 1.5 * low.height
    assert tall.getpixel((2, 2)) == (255, 255, 255), "on white paper, whatever the viewer's background"


def test_the_sphere_shows_the_best_direction_brightest() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    from compnet3d.reporting.plots import LIGHT

    shown = category("brick", (12, 4, 3))
    axes = Figure().add_subplot()
    values = explanations._plot_sphere(axes, shown, LIGHT).get_array()
    row, column = np.unravel_index(values.argmax(), values.shape)
    azimuth, elevation = shown.hypotheses.azimuth, shown.hypotheses.elevation
    best = shown.hypotheses.loss.amin(dim=2).flatten().argmin()
    # azimuths of 0, 30, ... 330 are drawn from -150 to 180
    assert (-150 + 30 * column) % 360 == pytest.approx(float(azimuth[best // 4].rad2deg()), abs=1e-3)
    assert row == int(best % 4) and len(elevation) == 4
    star = axes.collections[1].get_offsets()[0]
    assert star[0] == pytest.approx(np.degrees(5.9) - 360, abs=1e-3) and star[1] == pytest.approx(
        np.degrees(0.4), abs=1e-3
    )
