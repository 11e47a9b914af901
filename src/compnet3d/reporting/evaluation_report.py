"""The report of an evaluation: one self-contained HTML file, readable on light and dark screens."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from compnet3d.data.images import image_tensor
from compnet3d.data.sample import Sample
from compnet3d.data.transforms import Crop
from compnet3d.evaluation.crops import EvaluationCrops
from compnet3d.evaluation.metrics import PoseMetrics
from compnet3d.evaluation.result import EvaluationResult, HiddenShares, PoseSummary, Record
from compnet3d.geometry.camera import Camera, Pose
from compnet3d.reporting import overlays, plots
from compnet3d.reporting.image_list import Link, image_links, image_list
from compnet3d.reporting.listing import SCRIPT
from compnet3d.reporting.page import data_uri, page
from compnet3d.reporting.provenance import machine_class
from compnet3d.reporting.terminal import POSE_ROWS, degrees, percent
from compnet3d.utils.files import write_text

if TYPE_CHECKING:
    from compnet3d.inference.prediction import Predictor
from compnet3d.training.run_folder import read_log

_IMAGE_SIDE = 224


@dataclass(frozen=True)
class Evaluation:
    """A model, the samples that it was evaluated on, and the result with its records.

    `occluder_samples` are those that the evaluation cut occluders out of, None if they are the samples themselves.
    """

    predictor: Predictor
    samples: Sequence[Sample]
    result: EvaluationResult
    occluder_samples: Sequence[Sample] | None = None

    def crops(self) -> EvaluationCrops:
        """The crops that the metrics were measured on."""
        return EvaluationCrops(
            self.samples,
            self.predictor.categories,
            self.predictor.input_config,
            crop=self.result.settings.crop,
            shift=self.result.settings.shift,
            occluder_samples=self.occluder_samples,
        )


def write_report(
    path: Path | str,
    clean: Evaluation,
    *,
    occluded: Evaluation | None = None,
    title: str = "compnet3d: evaluation",
    command: str = "",
    log: Path | str | None = None,
    examples: int = 12,
    now: datetime | None = None,
) -> None:
    """Write the report; an earlier one is replaced only when the new one is complete.

    Args:
        path: the HTML file.
        clean: the evaluation to report; its settings may ask for occlusion all the same.
        occluded: the same images with occluders, if that was measured too.
        title: the page's heading.
        command: the command line that made the report.
        log: log.jsonl of the training run, for the training curve; a missing or broken one is left out.
        examples: number of images of clean images drawn at random (half as many occluded ones and failures).
        now: the date to print; by default the present time.

    Raises:
        CompNetError: if matplotlib is missing or the file cannot be written.
    """
    link = image_links(clean.samples, Path(path).parent)
    sections = [
        _headline(clean, occluded),
        _examples(clean, examples, link),
        _failures(clean, max(1, examples // 2), link),
        _occluded_examples(occluded, max(1, examples // 2), link),
        _activations(clean, 6, link),
        _plots(clean, log),
        _category_table(clean.result),
        image_list(clean.result.records, link),
        _settings(clean, occluded, command, now or datetime.now(timezone.utc)),
    ]
    body = "\n".join(section for section in sections if section)
    write_text(path, page(title, body, SCRIPT))


def _headline(clean: Evaluation, occluded: Evaluation | None) -> str:
    result = clean.result
    pose, aware = result.pose.plain, result.pose.symmetry_aware
    tiles = [
        (percent(result.accuracy), "%", "top-1 accuracy"),
        (percent(pose.true_category.acc_pi6), "%", "pose accuracy at pi/6 (30&deg;)"),
        (percent(pose.true_category.acc_pi18), "%", "pose accuracy at pi/18 (10&deg;)"),
        (percent(aware.true_category.acc_pi6), "%", "pose accuracy at pi/6, symmetry-aware"),
        (_flip_shares(result.pose)[0], "%", "flipped poses (true category given)"),
        (f"{result.resources.images_per_second:.1f}", "images/s", "everything included"),
        (_megabytes(result.resources.peak_memory_mb), "MB", "peak memory of the process"),
    ]
    cells = "".join(
        f'<div class="tile"><b>{value}</b><span class="unit">{unit}</span><p>{label}</p></div>'
        for value, unit, label in tiles
    )
    columns = {_name(clean): result} | ({} if occluded is None else {_name(occluded): occluded.result})
    note = (
        f"Plain pose metrics are over {pose.images} images: {html.escape(', '.join(result.excluded_categories))} can "
        "turn about the vertical axis without changing, so their azimuth is arbitrary. Symmetry-aware metrics are over "
        "all images."
        if result.excluded_categories
        else f"All pose metrics are over {pose.images} images."
    )
    text = f"<p>{result.images} images of {len(result.per_category)} categories. {note}</p>"
    return f'<section><div class="tiles">{cells}</div>{text}{_metrics_table(columns)}</section>'


def _metrics_table(columns: Mapping[str, EvaluationResult]) -> str:
    names = ("pi/6 %", "pi/18 %", "median &deg;")
    head = "".join(f'<th colspan="3">{html.escape(name)}</th>' for name in columns)
    sub = "".join(f"<th>{name}</th>" for _ in columns for name in names)
    accuracy = "".join(f'<td colspan="3">{percent(result.accuracy)} %</td>' for result in columns.values())
    rows = [f"<tr><th>top-1 accuracy</th>{accuracy}</tr>", f'<tr class="sub"><th></th>{sub}</tr>']
    summaries = [result.pose for result in columns.values()]
    for forms, label in (
        ([pose.plain for pose in summaries], "pose accuracy, plain"),
        ([pose.symmetry_aware for pose in summaries], "pose accuracy, symmetry-aware"),
    ):
        rows.append(f'<tr class="group"><th colspan="{1 + 3 * len(columns)}">{label}</th></tr>')
        for key, text in POSE_ROWS.items():
            found = [dict(form.items()).get(key) for form in forms]
            if None not in found:
                rows.append(f"<tr><th>{text}</th>{''.join(_pose_cells(metrics) for metrics in found if metrics)}</tr>")
    flips = [_flip_shares(pose) for pose in summaries]
    for place, text in enumerate(("flipped poses, true category given", "flipped, of the errors beyond pi/6")):
        cells = "".join(f'<td colspan="3">{shares[place]} %</td>' for shares in flips)
        rows.append(f"<tr><th>{text}</th>{cells}</tr>")
    told = [result.occlusion_map for result in columns.values()]
    for name, text in (
        ("mean_iou", "occluded cells, IoU"),
        ("mean_iou_of_all", "IoU of calling all of the object occluded"),
    ):
        if any(told):
            shares = ["-" if entry is None else f"{percent(getattr(entry, name))} %" for entry in told]
            cells = "".join(f'<td colspan="3">{share}</td>' for share in shares)
            rows.append(f"<tr><th>{text}</th>{cells}</tr>")
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'


def _flip_shares(pose: PoseSummary) -> tuple[str, str]:
    """How many poses are flipped with the true category given: of all images and of the errors, in percent."""
    flips = pose.flips
    return ("-", "-") if flips is None else (percent(flips.true_category.share), percent(flips.true_category.of_errors))


def _pose_cells(metrics: PoseMetrics) -> str:
    values = (percent(metrics.acc_pi6), percent(metrics.acc_pi18), degrees(metrics.median_deg))
    return "".join(f"<td>{value}</td>" for value in values)


def _examples(evaluation: Evaluation, count: int, link: Link) -> str:
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(evaluation.result.records))[:count]
    text = (
        "Drawn at random, not chosen. Left the network's input, right the model of the <em>predicted</em> category "
        "at the predicted pose; arrows: red x, green to the object's front (-y), blue up (z)."
    )
    return _gallery("Predictions", text, evaluation, [evaluation.result.records[i] for i in chosen], link)


def _occluded_examples(evaluation: Evaluation | None, count: int, link: Link) -> str:
    if evaluation is None:
        return ""
    chosen = np.random.default_rng(1).permutation(len(evaluation.result.records))[:count]
    hidden = evaluation.result.occlusion or HiddenShares(0.0, 0.0)
    text = (
        f"Drawn at random too; on average the occluders hide {percent(hidden.hidden_object)} % of the object and "
        f"{percent(hidden.hidden_background)} % of the background."
    )
    title = f"Predictions under occlusion ({evaluation.result.settings.shift.occlusion})"
    return _gallery(title, text, evaluation, [evaluation.result.records[i] for i in chosen], link)


def _failures(evaluation: Evaluation, count: int, link: Link) -> str:
    wrong = sorted((r for r in evaluation.result.records if not r.correct), key=lambda r: -r.confidence)
    astray = sorted(
        (r for r in evaluation.result.records if r.correct and r.symmetric_error_true_category > np.pi / 6),
        key=lambda r: -r.symmetric_error_true_category,
    )
    text = (
        f"{len(wrong)} images are misclassified (shown: the most confident). Of the correctly classified ones, "
        f"{len(astray)} have a pose error of more than 30&deg; (shown: the largest errors), of which "
        f"{sum(bool(r.flipped) for r in astray)} are flipped."
    )
    return _gallery("Failures", text, evaluation, wrong[:count] + astray[:count], link)


def _gallery(title: str, text: str, evaluation: Evaluation, records: Iterable[Record], link: Link) -> str:
    crops = evaluation.crops()
    cards = "".join(_card(evaluation, crops.crop_at(record.index), record, link) for record in records)
    if not cards:
        return f"<section><h2>{title}</h2><p>{text}</p></section>"
    return f'<section><h2>{title}</h2><p>{text}</p><div class="gallery">{cards}</div></section>'


def _card(evaluation: Evaluation, crop: Crop, record: Record, link: Link) -> str:
    drawn = overlays.side_by_side(
        [
            overlays.enlarge(crop.image, min_side=_IMAGE_SIDE),
            draw_prediction(evaluation.predictor, crop.image, record),
        ]
    )
    name = html.escape(record.predicted)
    if not record.correct:
        name += f' <span class="bad">instead of {html.escape(record.category)}</span>'
    error = f"{np.degrees(record.error_predicted_category):.1f}&deg; off"
    if abs(record.symmetric_error_predicted_category - record.error_predicted_category) > 1e-3:
        error += f" ({np.degrees(record.symmetric_error_predicted_category):.1f}&deg; symmetry-aware)"
    caption = f"<b>{name}</b> {100 * record.confidence:.0f} % sure, {error}<br>{link(record)}"
    alt = f"{record.name}: {record.predicted}, {np.degrees(record.error_predicted_category):.0f} degrees off"
    return f"<figure>{_image(overlays.encode_png(drawn), alt)}<figcaption>{caption}</figcaption></figure>"


def draw_prediction(
    predictor: Predictor, image: np.ndarray, record: Record, *, min_side: int = _IMAGE_SIDE
) -> np.ndarray:
    """The predicted category's model at the predicted pose over a crop; the crop alone if there is no model of it."""
    mesh_of = getattr(predictor, "mesh", None)
    if mesh_of is None:
        return overlays.enlarge(image, min_side=min_side)
    input_config = predictor.input_config
    camera = Camera(
        focal=torch.tensor(float(input_config.focal)),
        principal_point=torch.tensor(record.principal_point),
        height=input_config.height,
        width=input_config.width,
    )
    return overlays.draw_overlay(image, mesh_of(record.predicted), Pose.of(*record.pose), camera, min_side=min_side)


def _activations(evaluation: Evaluation, count: int, link: Link) -> str:
    """Feature activations of the true category, one image of each of the first categories that has any."""
    activation_of = getattr(evaluation.predictor, "feature_activation", None)
    if activation_of is None:
        return ""
    first: dict[str, Record] = {}
    for record in evaluation.result.records:
        first.setdefault(record.category, record)
    crops, categories = evaluation.crops(), list(evaluation.predictor.categories)
    cards = []
    for record in list(first.values())[:: max(1, len(first) // count)][:count]:
        image = crops.crop_at(record.index).image
        batch = image_tensor(image)[None]
        activation = activation_of(batch, torch.tensor([categories.index(record.category)]))[0]
        drawn = overlays.draw_activation(image, activation.float().cpu(), min_side=_IMAGE_SIDE)
        caption = f"<figcaption><b>{html.escape(record.category)}</b><br>{link(record)}</figcaption>"
        cards.append(f"<figure>{_image(overlays.encode_png(drawn), record.category)}{caption}</figure>")
    text = (
        "How strongly each cell of the feature map looks like some vertex of the true category (bright: strongly). "
        "Each image has its own range."
    )
    gallery = f'<div class="gallery small">{"".join(cards)}</div>'
    return f"<section><h2>Feature activations</h2><p>{text}</p>{gallery}</section>"


def _plots(evaluation: Evaluation, log: Path | str | None) -> str:
    result = evaluation.result
    errors = {
        "plain": [
            np.degrees(r.error_true_category) for r in result.records if r.category not in result.excluded_categories
        ],
        "symmetry-aware": [np.degrees(r.symmetric_error_true_category) for r in result.records],
    }
    entries = list(result.per_category.values())
    pose = [entry.pose.symmetry_aware.true_category for entry in entries]
    marks = {"pose pi/6": [p.acc_pi6 for p in pose], "pose pi/18": [p.acc_pi18 for p in pose]}
    parts = [
        ("Pose errors", "With the true category given.", plots.plot_error_histogram(errors)),
        (
            "Accuracy per category",
            "Pose with the true category given, symmetry-aware; the lowest first.",
            plots.plot_category_bars(list(result.per_category), [entry.accuracy for entry in entries], marks),
        ),
        (
            "Confusion",
            "Rows: the true category, columns: the predicted one; numbers count images.",
            plots.plot_confusion(np.array(result.confusion.matrix), result.confusion.categories),
        ),
    ]
    if result.confidence is not None:
        series = {"category": result.confidence}
        if result.pose_confidence is not None:
            series["pose"] = result.pose_confidence
        text = "Of answers with some confidence, how many are right; on the dashed line as many as it says."
        parts.append(("Confidence", text, plots.plot_reliability(series)))
    sections = [f"<section><h2>{title}</h2><p>{text}</p>{_plot(plot, title)}</section>" for title, text, plot in parts]
    sections.insert(1, _training(log))
    return f'<div class="pair">{"".join(sections)}</div>'


def _training(log: Path | str | None) -> str:
    history = read_log(log, whole=False) if log is not None else []
    if len(history) < 2:
        return ""
    seconds = sum(float(entry.get("seconds", 0.0)) for entry in history)
    text = f"{len(history)} epochs in {seconds / 60:.1f} minutes."
    return f"<section><h2>Training</h2><p>{text}</p>{_plot(plots.plot_training(history), 'training curve')}</section>"


def _category_table(result: EvaluationResult) -> str:
    head = "<tr><th>category</th><th>images</th><th>top-1 %</th>" + "".join(
        f"<th>{name}</th>" for form in ("", "sym. ") for name in (f"{form}pi/6 %", f"{form}pi/18 %", f"{form}median")
    )
    rows = []
    for name, entry in result.per_category.items():
        cells = _pose_cells(entry.pose.plain.true_category) + _pose_cells(entry.pose.symmetry_aware.true_category)
        count = f"<td>{entry.images}</td><td>{percent(entry.accuracy)}</td>"
        cells += "".join(f"<td>{share}</td>" for share in _flip_shares(entry.pose))
        rows.append(f"<tr><th>{html.escape(name)}</th>{count}{cells}</tr>")
    head += "<th>flipped %</th><th>of errors %</th>"
    table = f'<div class="scroll"><table>{head}</tr>{"".join(rows)}</table></div>'
    text = (
        "Pose with the true category given. Flipped: within 30&deg; of half a turn about the vertical axis, of all "
        "images and of the symmetry-aware errors beyond pi/6; none where half a turn changes nothing."
    )
    return f"<section><h2>Per category</h2><p>{text}</p>{table}</section>"


def _settings(clean: Evaluation, occluded: Evaluation | None, command: str, now: datetime) -> str:
    rows = {
        "command": f"<code>{html.escape(command)}</code>" if command else "",
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "machine": html.escape(machine_class()),
        "evaluation": html.escape(_listing(clean.result.settings.to_dict())),
        "occluded evaluation": "" if occluded is None else html.escape(_listing(occluded.result.settings.to_dict())),
    }
    body = "".join(f'<tr><th>{key}</th><td class="text">{value}</td></tr>' for key, value in rows.items() if value)
    return f'<section><h2>How this was made</h2><div class="scroll"><table>{body}</table></div></section>'


def _plot(plot: plots.Plot, alt: str) -> str:
    """A plot for light pages and for dark ones; the browser shows the one that fits."""
    light, dark = (data_uri(plots.render_plot(plot, theme)) for theme in (plots.LIGHT, plots.DARK))
    source = f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
    return f'<figure><picture>{source}<img src="{light}" alt="{html.escape(alt)}"></picture></figure>'


def _image(png: bytes, alt: str) -> str:
    return f'<img src="{data_uri(png)}" alt="{html.escape(alt)}">'


def _name(evaluation: Evaluation) -> str:
    shift = evaluation.result.settings.shift
    if shift.occlusion is None and evaluation.result.occlusion:
        return "occluded"  # a data set that was written so
    return shift.label


def _listing(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {'none' if value is None else value}" for key, value in values.items())


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
