"""The paper's figures from a study: plots and images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from compnet3d.data.imagenet3d import ImageNet3D
from compnet3d.data.images import image_tensor
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError
from compnet3d.evaluation.crops import EvaluationCrops
from compnet3d.evaluation.evaluate import pose_rotmat
from compnet3d.evaluation.metrics import row_shares
from compnet3d.geometry.camera import Camera, Pose
from compnet3d.geometry.rotations import rotmat_geodesic_distance
from compnet3d.inference.prediction import Prediction
from compnet3d.reporting import overlays, plots
from compnet3d.reporting.tables import Spread, Table
from compnet3d.reproduce.accuracy_tables import table4
from compnet3d.reproduce.experiments import LABELS, Experiments
from compnet3d.reproduce.study import CLEAN, Condition, Study

SIDE = 200  # least side of an image in a figure, in pixels


def plot_radar(axes_names: Sequence[str], series: Mapping[str, Sequence[float]]) -> plots.Plot:
    """Figure 1: one polygon for each method, one axis for each metric (shares of 1, shown in percent).

    A method (see `LABELS`) has its colour, whichever others there are; a second backbone's lines are dashed.
    """

    def plot(theme: plots.Theme) -> Any:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 5.2), layout="constrained")
        axes: Any = figure.add_subplot(projection="polar")
        angles = [2 * math.pi * i / len(axes_names) for i in range(len(axes_names))]
        # by method and not by turn: a method keeps its colour when another is left out
        colours = dict(zip(LABELS.values(), (theme.accent, theme.second, theme.text, theme.muted), strict=True))
        backbones = list(dict.fromkeys(label.partition(", ")[2] for label in series))
        for label, values in series.items():
            method, _, backbone = label.partition(", ")
            colour, style = colours[method], ("-", "--")[backbones.index(backbone)]
            # back to the first axis, or the polygon stays open
            closed = [100 * v for v in [*values, values[0]]]
            axes.plot([*angles, angles[0]], closed, color=colour, linestyle=style, label=label, linewidth=1.8)
            axes.fill([*angles, angles[0]], closed, color=colour, alpha=0.08)
        axes.set_xticks(angles, axes_names)
        axes.set_ylim(0, 100)
        axes.set_theta_offset(math.pi / 2)
        axes.set_theta_direction(-1)
        axes.tick_params(axis="x", pad=12)
        axes.legend(loc="upper right", bbox_to_anchor=(1.35, 1.1))
        return figure

    return plot


def plot_weights(
    history: Sequence[tuple[int, np.ndarray, np.ndarray]], names: Sequence[str], floor: float = 0.0
) -> plots.Plot:
    """Figure 4: the confusions of the calibration split (shares of a row) and omega after some epochs.

    Rows = true category; the diagonal is left out. Pairs above the `floor` that all have are counted.
    """

    def plot(theme: plots.Theme) -> Any:
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3.3 * len(history) + 0.8, 7.4), layout="constrained")
        ramp = LinearSegmentedColormap.from_list("ramp", theme.ramp)
        grid = figure.subplots(2, len(history), sharey=True, squeeze=False)
        for row, (label, other) in enumerate((("confused [share]", "predicted"), ("omega", "contrasted with"))):
            shown = [matrices[row] * (1 - np.eye(len(names))) for _, *matrices in history]
            for axes, matrix, (epoch, *_) in zip(grid[row], shown, history, strict=True):
                # one range for all epochs of a row, so that colours compare; at least 0.2, or noise would look like
                # confusion
                image = axes.imshow(matrix, cmap=ramp, vmin=0, vmax=max(0.2, max(float(m.max()) for m in shown)))
                if row == 0:
                    axes.set_title(f"epoch {epoch}: {100 * matrix.sum() / len(names):.0f} % confused")
                else:
                    pairs = (matrix > floor + 1e-6).sum() / max(1, matrix.size - len(matrix))
                    axes.set_title(f"{100 * pairs:.0f} % of the pairs{f' above {floor:g}' if floor > 0 else ''}")
                axes.tick_params(length=0)
                if len(names) <= 40:
                    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=5.5)
                    axes.set_yticks(range(len(names)), names, fontsize=5.5)
                axes.set_xlabel(other)
            figure.colorbar(image, ax=list(grid[row]), shrink=0.7, label=label)
        return figure

    return plot


def figure1(experiments: Experiments) -> bytes:
    """Accuracy of every method, clean, occluded and corrupted, classification and pose (from table 4)."""
    tables = {table.key: table for table in table4(experiments)}
    columns = ("clean", "occluded, mean", "corrupted, mean")
    names = [f"{kind}\n{column.partition(',')[0]}" for kind in ("category", "pose") for column in columns]
    shown = [tables[key] for key in ("classification", "predicted_category")]
    series = {
        method.label: [
            _share(table, next(row for row in table.rows if row.label == method.label), column)
            for table in shown
            for column in columns
        ]
        for method in experiments.methods
    }
    return plots.render_plot(plot_radar(names, series), plots.LIGHT)


def _share(table: Table, row: Any, column: str) -> float:
    cell = row.cells[table.columns.index(column) - 1]
    return cell.mean if isinstance(cell, Spread) else float(cell)


def figure4(experiments: Experiments) -> bytes:
    """How the calibration split is confused less and less and omega, taken from that, sparse; of the first seed."""
    ours, study = experiments.method(), experiments.study
    if not experiments.recipe.grouping.dynamic:
        raise CompNetError(f"recipe {ours.recipe.name} keeps all categories contrasted; figure 4 has nothing to show")
    names = study.dataset().categories
    # as training begins: all categories are contrasted. What follows replays its refreshes from the log.
    omega = 1 - torch.eye(len(names))
    history = []
    for entry in study.log(ours, study.seeds[0]):
        if "confusion" in entry:
            confusion, accuracy = torch.tensor(entry["confusion"]), entry["calibration_accuracy"]
            new = experiments.recipe.grouping.refreshed(confusion, accuracy)
            omega = omega if new is None else new
            history.append((int(entry["epoch"]), row_shares(confusion).numpy(), omega.numpy()))
    # first, middle and last; a set, as a short training has fewer than three
    history = [history[i] for i in sorted({0, len(history) // 2, len(history) - 1})]
    return plots.render_plot(plot_weights(history, names, experiments.recipe.grouping.floor), plots.LIGHT)


def figure5(experiments: Experiments) -> bytes:
    """Unseen categories: the image, the activation of its source category, the pose found with that."""
    study, names = experiments.study, experiments.unseen_categories()
    model = study.model(experiments.method(), study.seeds[0], names)
    dataset = ImageNet3D(study.data, categories=names)
    first = _first_of_each(dataset.samples("val"), names)
    rows = []
    for sample, image, prediction in _predicted(study, model, first, CLEAN, unseen=True):
        tiles = [_captioned(overlays.enlarge(image, min_side=SIDE), sample.category)]
        activation_of = getattr(model, "feature_activation", None)
        if activation_of is not None:
            activation = activation_of(_batch(image), prediction.category_index)[0].float().cpu()
            tiles.append(_captioned(overlays.draw_activation(image, activation, min_side=SIDE), "activation"))
        overlay = _overlay(model, image, prediction)
        tiles.append(_captioned(overlay, f"as {prediction[0].category}, {_error(prediction, sample):.0f} deg off"))
        rows.append(overlays.side_by_side(tiles))
    return overlays.encode_png(_stacked(rows))


def figure8(experiments: Experiments) -> bytes:
    """Examples of the pairs of categories that are confused most on the test images."""
    study, ours = experiments.study, experiments.method()
    confusion = study.metrics(ours, study.seeds[0]).result.confusion
    names, share = confusion.categories, row_shares(confusion.matrix)
    # what is classified correctly is no confusion
    share.fill_diagonal_(0)
    model = study.model(ours, study.seeds[0])
    samples = study.dataset().samples("val")
    rows = []
    for flat in share.flatten().argsort(descending=True, stable=True)[:3].tolist():
        true, predicted = divmod(flat, len(share))
        if share[true, predicted] == 0:
            continue
        of_true = [s for s in samples if s.category == names[true]]
        # predicted again: a study's evaluations keep no records of single images
        wrong = [x for x in _predicted(study, model, of_true, CLEAN) if x[2][0].category == names[predicted]]
        other = _first_of_each([s for s in samples if s.category == names[predicted]], [names[predicted]])
        tiles = [_captioned(overlays.enlarge(image, min_side=SIDE), names[true]) for _, image, _ in wrong[:3]]
        seen = [image for _, image, _ in _predicted(study, model, other, CLEAN)]
        tiles += [
            _captioned(overlays.enlarge(image, min_side=SIDE), f"{names[predicted]}, to compare") for image in seen
        ]
        text = f"{names[true]}: {100 * float(share[true, predicted]):.0f} % are classified as {names[predicted]}"
        rows.append(_captioned(overlays.side_by_side(tiles), text))
    nothing = np.full((40, 320, 3), 255, dtype=np.uint8)
    return overlays.encode_png(_stacked(rows) if rows else nothing)


def figure10(experiments: Experiments) -> bytes:
    """One image under every condition: what the method says, and the model at the pose that it finds."""
    study = experiments.study
    model = study.model(experiments.method(), study.seeds[0])
    samples = study.dataset().samples("val")
    chosen = _first_of_each(samples, study.dataset().categories)[:: max(1, len(study.dataset().categories) // 4)][:4]
    columns = []
    for condition in study.conditions:
        tiles = []
        for sample, image, prediction in _predicted(study, model, chosen, condition):
            tile = overlays.side_by_side(
                [overlays.enlarge(image, min_side=120), _overlay(model, image, prediction, 120)]
            )
            correct = prediction[0].category == sample.category
            text = f"{prediction[0].category}{'' if correct else ' (wrong)'}, {_error(prediction, sample):.0f} deg"
            tiles.append(_captioned(tile, text))
        columns.append(_captioned(_stacked(tiles), condition.name))
    half = (len(columns) + 1) // 2
    return overlays.encode_png(_stacked([overlays.side_by_side(columns[:half]), overlays.side_by_side(columns[half:])]))


def _first_of_each(samples: Sequence[Sample], names: Sequence[str]) -> list[Sample]:
    found: dict[str, Sample] = {}
    for sample in samples:
        found.setdefault(sample.category, sample)
    return [found[name] for name in names if name in found]


def _predicted(
    study: Study, model: Any, samples: Sequence[Sample], condition: Condition, *, unseen: bool = False
) -> list[tuple[Sample, np.ndarray, Prediction]]:
    """Each sample with its crop and what the model says of it."""
    # unseen categories too, after the model's own: crops need an index for every sample
    categories = list(dict.fromkeys([*model.categories, *(s.category for s in samples)]))
    crops = EvaluationCrops(
        samples,
        categories,
        model.input_config,
        shift=condition.shift,
        occluder_samples=study.occluder_samples(condition),
    )
    found = []
    for i, sample in enumerate(samples):
        image = crops.crop_at(i).image
        found.append((sample, image, model.predict_crops(_batch(image), unseen=unseen)))
    return found


def _batch(image: np.ndarray) -> torch.Tensor:
    return image_tensor(image)[None]


def _error(prediction: Prediction, sample: Sample) -> float:
    """Degrees between the predicted and the annotated rotation."""
    true = Pose.of([sample.azimuth], [sample.elevation], [sample.theta], dtype=torch.float64)
    return math.degrees(float(rotmat_geodesic_distance(pose_rotmat(true), pose_rotmat(prediction.pose))[0]))


def _overlay(model: Any, image: np.ndarray, prediction: Prediction, side: int = SIDE) -> np.ndarray:
    camera = Camera(
        focal=prediction.focal[0].cpu(),
        principal_point=prediction.principal_point[0].cpu(),
        height=model.input_config.height,
        width=model.input_config.width,
    )
    mesh = model.mesh(prediction[0].category)
    return overlays.draw_overlay(image, mesh, prediction.pose[0].to("cpu"), camera, min_side=side)


def _captioned(tile: np.ndarray, text: str, line: int = 15) -> np.ndarray:
    """The image with a line of text above it, `line` pixels high."""
    canvas = Image.new("RGB", (tile.shape[1], tile.shape[0] + line), "white")
    ImageDraw.Draw(canvas).text((2, 1), text, fill="black")
    canvas.paste(Image.fromarray(tile), (0, line))
    return np.asarray(canvas)


def _stacked(rows: Sequence[np.ndarray], gap: int = 4) -> np.ndarray:
    """Images of any width, one below the other on white."""
    width = max(row.shape[1] for row in rows)
    canvas = np.full((sum(row.shape[0] + gap for row in rows) - gap, width, 3), 255, dtype=np.uint8)
    top = 0
    for row in rows:
        canvas[top : top + row.shape[0], : row.shape[1]] = row
        top += row.shape[0] + gap
    return canvas
