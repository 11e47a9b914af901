"""The report: complete, self-contained, honest about failures, never half-written; the images in it."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
from dataclasses import replace
from datetime import datetime, timezone
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

from compnet3d.data.sample import Sample
from compnet3d.data.symmetry import Symmetry
from compnet3d.data.transforms import InputConfig
from compnet3d.errors import CompNetError
from compnet3d.evaluation.crops import Loading
from compnet3d.evaluation.evaluate import evaluate
from compnet3d.geometry.camera import Camera, Pose
from compnet3d.geometry.mesh import Mesh
from compnet3d.inference.prediction import Prediction
from compnet3d.reporting import overlays, plots
from compnet3d.reporting.evaluation_report import Evaluation, _name, write_report
from compnet3d.reporting.image_list import image_list
from compnet3d.reporting.provenance import machine_class
from compnet3d.robustness.shift import Shift
from compnet3d.training.run_folder import read_log

SIZE = 32
SPEC = InputConfig(height=SIZE, width=SIZE, focal=60.0, distance=4.0, box_fill=0.8)


def box_mesh(x: float = 0.4, y: float = 0.8, z: float = 0.3) -> Mesh:
    corners = torch.tensor([[i, j, k] for i in (-x, x) for j in (-y, y) for k in (-z, z)])
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    return Mesh(corners, torch.tensor([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]))


class ConstantPredictor:
    """Classifies everything as a <mug> and answers one pose."""

    categories = ("<mug>", "vase")
    input_config = SPEC

    def predict_crops(self, images, *, category=None, unseen=False, crop="oracle"):
        count = len(images)
        named = torch.zeros(count, dtype=torch.long) if category is None else category
        return Prediction(
            categories=self.categories,
            category_index=named,
            scores=torch.zeros(count, 2),
            confidence=torch.full((count,), 0.75),
            pose=Pose.of(torch.full((count,), 0.3), 0.4, 0.0, 4.0),
            focal=torch.full((count,), 60.0),
            principal_point=torch.full((count, 2), SIZE / 2),
            reconstruction_score=torch.zeros(count),
            foreground=torch.zeros(count, 4, 4, dtype=torch.bool),
        )

    def mesh(self, category):
        return box_mesh()

    def feature_activation(self, images, category):
        return torch.rand(len(images), 4, 4)


@pytest.fixture
def evaluation(tmp_path):
    samples = []
    for i in range(6):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (SIZE, SIZE), (40 * i, 90, 90)).save(path)
        samples.append(
            Sample(
                image=path, category=("<mug>", "vase")[i % 2], name=f"object{i}", azimuth=0.3 + 0.5 * i, elevation=0.4,
                theta=0.0, distance=4.0, focal=60.0, principal_point=(16, 16), bbox=(6, 6, 26, 26), width=SIZE,
                height=SIZE,
            )
        )  # fmt: skip
    predictor = ConstantPredictor()
    table = {"vase": Symmetry(order=0)}
    result = evaluate(predictor, samples, symmetry=table, loading=Loading(progress=False))
    return Evaluation(predictor, samples, result)


def embedded_images(page: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(t))) for t in re.findall(r"data:image/png;base64,([\w+/=]+)", page)]


def test_report_is_complete_and_self_contained(evaluation, tmp_path):
    log = tmp_path / "log.jsonl"
    entries = [{"epoch": e, "loss": 5.0 / e, "calibration_accuracy": 0.5} for e in (1, 2)]
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    path = tmp_path / "deep" / "report.html"
    when = datetime(2031, 5, 6, 7, 8, tzinfo=timezone.utc)
    write_report(path, evaluation, command="compnet3d evaluate a&b", log=log, now=when)
    page = path.read_text(encoding="utf-8")
    for title in ("Predictions", "Failures", "Feature activations", "Pose errors", "Confusion", "Training", "How this"):
        assert f"<h2>{title}" in page
    assert "50.0" in page and "2031-05-06 07:08 UTC" in page and "compnet3d evaluate a&amp;b" in page
    assert "&lt;mug&gt;" in page and "<mug>" not in page
    assert not re.search(r"(src|srcset)=\"(?!data:)", page) and "url(" not in page and "http" not in page
    assert len(embedded_images(page)) >= 6 + 3 + 2 + 2 * 4


def test_every_image_is_named_with_a_link_that_works(evaluation, tmp_path):
    """The files have names that a link must quote, the page lies in another folder."""
    samples = []
    for sample in evaluation.samples:
        image = tmp_path / "data 100 %" / f"{sample.name}#ä.png"
        image.parent.mkdir(exist_ok=True)
        shutil.copy(sample.image, image)
        samples.append(replace(sample, image=image))
    page = tmp_path / "deep" / "er" / "r.html"
    write_report(page, replace(evaluation, samples=samples))
    text = page.read_text(encoding="utf-8")
    rows = re.findall(r"<tr data-outcome[^>]*>.*?</tr>", text)
    assert len(rows) == len(samples)
    targets = [(page.parent / unquote(target)).resolve() for target in re.findall(r'href="([^"]*)"', "".join(rows))]
    assert sorted(targets) == sorted(sample.image.resolve() for sample in samples)
    failures = text.split("<h2>Failures")[1].split("</section>")[0]
    links = re.findall(r'href="([^"]*)"', failures)
    assert len(links) >= 3 and all((page.parent / unquote(target)).is_file() for target in links)


def test_the_list_of_images_begins_with_what_went_worst(evaluation):
    def link(record):
        return record.name

    records = evaluation.result.records
    rows = re.findall(r"<tr (data-outcome[^>]*)>", image_list(records, link))
    outcomes = [re.search(r'data-outcome="([^"]*)"', row)[1] for row in rows]
    # half of the objects are no mugs; the mugs are seen from 0.3, 1.3 and 2.3, the answer is always 0.3
    assert outcomes[:3] == ["wrong category"] * 3 and sorted(outcomes[3:]) == ["right", "wrong pose", "wrong pose"]
    errors = [float(re.search(r'data-error="([^"]*)"', row)[1]) for row in rows[3:]]
    assert errors == sorted(errors, reverse=True)
    assert '<option value="badness down" data-kind="number">worst first</option>' in image_list(records, link)
    many = [replace(record, confidence=0.0) for record in records for _ in range(600)]
    assert "The 3000 of 3600 images that went worst" in image_list(many, link)


def test_failures_are_shown(evaluation, tmp_path):
    write_report(tmp_path / "r.html", evaluation)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "3 images are misclassified" in page and "instead of vase" in page
    assert "<h2>Training" not in page


def test_flips_are_counted_in_all_places(evaluation, tmp_path):
    # the third mug is seen from 2.3, and the one answer is 0.3; an eighth of a turn more would be a flip
    samples = [replace(s, azimuth=s.azimuth + math.pi / 3 * (s.name == "object4")) for s in evaluation.samples]
    result = evaluate(ConstantPredictor(), samples, symmetry={"vase": Symmetry(0)}, loading=Loading(progress=False))
    flips = result.pose.flips
    assert flips.images == 3 and flips.true_category.share == pytest.approx(1 / 3)
    write_report(tmp_path / "r.html", replace(evaluation, samples=samples, result=result))
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    (mug,) = re.findall(r"<tr><th>&lt;mug&gt;</th>.*?</tr>", page)
    assert mug.endswith("<td>33.3</td><td>50.0</td></tr>")
    (vase,) = re.findall(r"<tr><th>vase</th>.*?</tr>", page)
    assert vase.endswith("<td>-</td><td>-</td></tr>")
    assert "of which 1 are flipped" in page and page.count("33.3") >= 3


def test_occluded_images_get_their_own_column_and_gallery(evaluation, tmp_path):
    settings = replace(evaluation.result.settings, shift=Shift(rotation=5.0))
    result = replace(evaluation.result, settings=settings)
    write_report(tmp_path / "r.html", evaluation, occluded=replace(evaluation, result=result))
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Predictions under occlusion" in page and "occluded evaluation" in page


def test_an_earlier_report_survives_a_failure(evaluation, tmp_path):
    path = tmp_path / "r.html"
    path.write_text("earlier")
    broken = replace(evaluation, samples=[replace(s, image=tmp_path / "gone.png") for s in evaluation.samples])
    with pytest.raises(CompNetError, match="gone.png"):
        write_report(path, broken)
    assert path.read_text() == "earlier" and list(tmp_path.glob(".r.html*")) == []


def test_a_model_without_meshes_gets_a_report_too(evaluation, tmp_path):
    class Bare:
        categories, input_config = evaluation.predictor.categories, SPEC

    write_report(tmp_path / "r.html", replace(evaluation, predictor=Bare()))
    assert "Feature activations" not in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_broken_log_is_read_up_to_the_break(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"epoch": 1, "loss": 2}\n{"epoch": 2, "lo')
    assert read_log(path, whole=False) == [{"epoch": 1, "loss": 2}]
    assert read_log(tmp_path / "none", whole=False) == []


def test_machine_class_has_cores_and_no_name():
    import platform

    assert "cores" in machine_class() and (not platform.node() or platform.node() not in machine_class())


def camera(focal: float = 60.0) -> Camera:
    return Camera.centred(focal, SIZE, SIZE)


def test_overlay_covers_the_projected_model_and_nothing_else():
    image = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    pose = Pose.of(0.5, 0.3, 0.2, 4.0)
    mesh = box_mesh()
    drawn = overlays.draw_overlay(image, mesh, pose, camera(), min_side=4 * SIZE, axes=False)
    assert drawn.shape == (4 * SIZE, 4 * SIZE, 3) and drawn.dtype == np.uint8
    rows, columns = np.nonzero(drawn.max(axis=2) > 60)
    pixels, _ = camera().project(mesh.vertices, pose)
    expected = [*(4 * pixels.amin(dim=0)).tolist(), *(4 * pixels.amax(dim=0)).tolist()]
    assert [columns.min(), rows.min(), columns.max(), rows.max()] == pytest.approx(expected, abs=3)
    assert drawn[0, 0].max() == 0


def test_axes_point_right_up_and_to_the_front():
    # seen from the front (azimuth 0), the object's right is on the right of the image
    image = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    drawn = overlays.draw_overlay(
        image, box_mesh(0.2, 0.2, 0.2), Pose.of(0.0, 0.5, 0.0, 4.0), camera(), min_side=8 * SIZE
    )
    centre = 4 * SIZE

    def place(channel):
        colour = np.array(overlays.AXIS_COLOURS[channel], dtype=float)
        rows, columns = np.nonzero(np.abs(drawn - colour).max(axis=2) < 12)
        return columns.mean() - centre, rows.mean() - centre

    x, y, z = place("x"), place("y"), place("z")
    assert x[0] > 10 and abs(x[1]) < 4
    assert z[1] < -10 and abs(z[0]) < 4
    assert y[1] > 5 and abs(y[0]) < 4, "the front is nearer, so below the centre when seen from above"


@pytest.mark.parametrize(("elevation", "distance"), [(0.0, 0.1), (0.0, 1000.0), (math.pi / 2, 1.0)])
def test_overlay_survives_odd_poses(elevation, distance):
    pose = Pose.of(0.0, elevation, 0.0, distance)
    drawn = overlays.draw_overlay(np.full((SIZE, SIZE, 3), 7, np.uint8), box_mesh(), pose, camera())
    assert drawn.shape[2] == 3


def test_overlay_refuses_an_image_of_another_size():
    with pytest.raises(ValueError, match="camera"):
        overlays.draw_overlay(np.zeros((9, 9, 3), np.uint8), box_mesh(), Pose.of(0.0, 0.0), camera())


def test_activation_is_bright_where_it_is_strong():
    activation = np.zeros((4, 4))
    activation[1, 2] = 1
    drawn = overlays.draw_activation(np.full((SIZE, SIZE, 3), 100, np.uint8), activation, min_side=SIZE)
    brightness = drawn.astype(float).sum(axis=2)
    assert brightness[12, 20] > brightness[28, 4] + 100
    assert overlays.draw_activation(np.zeros((SIZE, SIZE, 3), np.uint8), np.ones((2, 2))).shape == (320, 320, 3)


@pytest.mark.parametrize("count", [1, 24, 188])
def test_plots_cope_with_few_and_many_categories(count):
    names = [f"category{i}" for i in range(count)]
    accuracy = [i / count for i in range(count)]
    pose = {"pi/6": [None] + [0.5] * (count - 1)}
    for plot in (
        plots.plot_category_bars(names, accuracy, pose),
        plots.plot_confusion(np.eye(count, dtype=int), names),
    ):
        image = Image.open(io.BytesIO(plots.render_plot(plot, plots.LIGHT)))
        assert image.width > 100
    empty = plots.plot_error_histogram({"plain": [], "symmetry-aware": [3.0]})
    assert Image.open(io.BytesIO(plots.render_plot(empty, plots.DARK))).width > 100


def test_a_report_names_what_was_done_to_the_images(evaluation):
    settings = replace(evaluation.result.settings, shift=Shift(corruption="fog", backgrounds="photographs"))
    shifted = replace(evaluation, result=replace(evaluation.result, settings=settings))
    assert _name(evaluation) == "clean" and _name(shifted) == "other backgrounds, fog 4"
