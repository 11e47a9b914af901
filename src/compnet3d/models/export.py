"""Models as files for other runtimes: ONNX and torch.export, each compared with the model before it is kept."""

from __future__ import annotations

import io
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from compnet3d.data.transforms import CropMode
from compnet3d.errors import CompNetError
from compnet3d.models.compnet import CompNet
from compnet3d.models.export_graphs import LEAST_SIZE, Answers, Graph, float32_copy, graphs_of
from compnet3d.models.onnx_files import INPUT, OnnxSession, Quantisation, quantise, require_onnx, write_onnx
from compnet3d.models.registry import TrainedModel
from compnet3d.utils.exclusive import building, require_empty
from compnet3d.utils.files import Json, write_json

TOLERANCE = 1e-4


@dataclass(frozen=True)
class ExportSettings:
    """What is exported.

    Attributes:
        categories: whose pose search is exported; None is all. Of a dual head, which has none, they have no meaning.
        crop: how the crops will be cut; after a box crop each initial pose has its own distance and principal point.
        forms: "onnx", "pt2" (torch.export), or both.
        int8: also write ONNX files whose network is quantised: "dynamic" measures the range of activations while
            running and slows convolutions down, "static" takes it from calibration crops. None writes none.
    """

    categories: Sequence[str] | None = None
    crop: CropMode = "box"
    forms: tuple[Literal["onnx", "pt2"], ...] = ("onnx", "pt2")
    int8: Quantisation | None = None

    def checked_categories(self, known: Sequence[str]) -> Sequence[str]:
        """The categories to export, of those that a model knows."""
        for name in self.categories or ():
            if name not in known:
                shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
                raise CompNetError(f"the model does not know the category {name!r}; choose one of {shown}")
        return known if self.categories is None else self.categories


def export_model(
    model: TrainedModel,
    out: str | Path,
    settings: ExportSettings | None = None,
    *,
    calibration: Tensor | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Write a model's graphs into a new folder, each as NAME.onnx and NAME.pt2 with NAME.json that describes it.

    Every file answers random crops of several batch sizes before it is kept, and so does the model: numbers that differ
    by more than 1e-4 (of the number itself, where it is above 1) stop the export, and nothing is left of it. Files
    NAME.int8.onnx are less exact by design and are not compared; `OnnxPredictor` lets them be evaluated.

    Args:
        model: of any kind; it stays as it is.
        out: a folder that does not exist or is empty.
        settings: what to export.
        calibration: crops uint8 [N, 3, height, width], as the model will see them, for `int8="static"`.
        report: called with a line on each graph that is done.

    Returns:
        The files' paths.

    Raises:
        CompNetError: if a package is missing, `out` is taken, a category is unknown, a file answers something else than
            the model, or there are no crops to calibrate with.
    """
    settings, out = settings or ExportSettings(), Path(out)
    if "onnx" in settings.forms or settings.int8:
        require_onnx()
    if settings.int8 == "static" and (calibration is None or not len(calibration)):
        raise CompNetError("static int8 needs crops to calibrate with; name a data set, or choose dynamic")
    categories = settings.checked_categories(model.categories)
    require_empty(out)
    copied, written = float32_copy(model), []
    with building(out) as folder, _quiet():
        for graph in graphs_of(copied, settings.crop, categories):
            about = describe(copied, graph, settings.crop)
            written += _write(graph, copied, folder, settings, about, calibration)
            report(f"{graph.name}: equal to the model within {TOLERANCE:g}")
    return [out / path.name for path in written]


def describe(model: TrainedModel, graph: Graph, crop: CropMode) -> Json:
    """What a user of a file must know, for its JSON and the ONNX file's metadata."""
    pixels = model.input_config
    return {
        "format": 1,
        "kind": model.kind,
        "graph": graph.name,
        "category": graph.category,
        "categories": list(model.categories),
        "input": {
            "name": INPUT,
            "shape": ["batch", 3, *(("height", "width") if graph.any_size else (pixels.height, pixels.width))],
            "type": "uint8",
            "meaning": "RGB, 0 to 255; the normalisation is inside the graph",
            "size_multiple_of": _unit(model) if graph.any_size else None,
            "least_size": LEAST_SIZE if graph.any_size else None,
        },
        "outputs": graph.outputs,
        "crop": {"mode": crop, **asdict(pixels)},
        "temperature": model.config.temperature,
        "calibration": list(model.calibration.category),
        "angles": (
            "object frame: x right, y backward, z up. Camera at distance * (cos E sin A, -cos E cos A, sin E), turned "
            "by theta about its axis: rotation Rz(theta) Rx(E - pi/2) Rz(-A), camera axes x right, y up, looking along "
            "-z. Pixel u = u0 + focal * X / -Z, v = v0 - focal * Y / -Z, pixel centres at + 0.5"
        ),
    }


def _unit(model: TrainedModel) -> int:
    return model.feature_extractor.sizes[0] if isinstance(model, CompNet) else 1


def _write(
    graph: Graph,
    model: TrainedModel,
    folder: Path,
    settings: ExportSettings,
    about: Json,
    calibration: Tensor | None,
) -> list[Path]:
    program = trace(graph, model)
    path, written = folder / graph.name, []
    if "pt2" in settings.forms:
        written.append(path.with_name(f"{graph.name}.pt2"))
        # not into the file: where the disk is full, PyTorch's writer ends the whole process
        packed = io.BytesIO()
        torch.export.save(program, packed, extra_files={"compnet3d.json": json.dumps(about)})
        written[-1].write_bytes(packed.getbuffer())
        loaded = torch.export.load(written[-1]).module()
        compare(graph, model, lambda images: dict(zip(graph.outputs, loaded(images), strict=True)), written[-1].name)
    if "onnx" in settings.forms or settings.int8:
        target = path.with_name(f"{graph.name}.onnx")
        write_onnx(program, graph, target, about)
        session = OnnxSession(target)
        compare(graph, model, session, target.name)
        if settings.int8:
            written.append(path.with_name(f"{graph.name}.int8.onnx"))
            quantise(target, written[-1], settings.int8, calibration)
        if "onnx" in settings.forms:
            written.append(target)
        else:
            target.unlink()
    written.append(path.with_name(f"{graph.name}.json"))
    write_json(written[-1], about)
    return written


def trace(graph: Graph, model: TrainedModel) -> torch.export.ExportedProgram:
    """The graph as a program of torch.export whose batch, and size where it may, are free."""
    from torch.export import Dim

    pixels = model.input_config
    unit, free = _unit(model), dict[int, Any]({0: Dim("batch", min=1)})
    if graph.any_size:
        free |= {axis: unit * Dim(name, min=LEAST_SIZE // unit) for axis, name in ((2, "rows"), (3, "columns"))}
    # not one image, which torch.export would take for a constant, and sizes that nothing else here has
    crops = _random_crops(2, *((13 * unit, 15 * unit) if graph.any_size else (pixels.height, pixels.width)))
    with torch.no_grad():
        return torch.export.export(graph.module.eval(), (crops,), dynamic_shapes={INPUT: free})


@torch.no_grad()
def compare(graph: Graph, model: TrainedModel, run: Callable[[Tensor], Answers], name: str) -> None:
    """Check that a file answers random crops as the model does.

    Raises:
        CompNetError: naming the file, the output and by how much it differs.
    """
    for images in _trial_crops(graph, model):
        answers = run(images)
        for output, expected in graph.expected(images, answers).items():
            found = answers[output]
            if found.shape != expected.shape or not _equal(output, found, expected):
                worst = float((found - expected).abs().max()) if found.shape == expected.shape else math.nan
                raise CompNetError(
                    f"{name}: its {output} for {len(images)} crops of {images.shape[2]} x {images.shape[3]} pixels "
                    f"differ from the model's by up to {worst:.2g}; try other versions of torch, onnx and onnxruntime"
                )


def _equal(name: str, found: Tensor, expected: Tensor) -> bool:
    if not expected.is_floating_point():
        return torch.equal(found, expected)
    difference = (found - expected).abs()
    if name == "angles":
        # a rounding below 0 is a rounding below 2 pi
        difference = torch.minimum(difference, 2 * math.pi - difference)
    return bool((difference <= TOLERANCE * expected.abs().clamp_min(1)).all())


def _trial_crops(graph: Graph, model: TrainedModel) -> Iterator[Tensor]:
    height, width = model.input_config.height, model.input_config.width
    for number, batch in enumerate((1, 2, 5)):
        yield _random_crops(batch, height, width, seed=number)
    if graph.any_size:
        unit = _unit(model)
        yield _random_crops(3, height + unit, width + 3 * unit, seed=3)
        yield _random_crops(1, LEAST_SIZE, LEAST_SIZE, seed=4)


def _random_crops(batch: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Crops uint8 [batch, 3, height, width] of coarse random blocks, which excite a network more than white noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="nearest")
    noise = 0.2 * (torch.rand(batch, 3, height, width, generator=generator) - 0.5)
    return ((smooth + noise).clamp(0, 1) * 255).to(torch.uint8)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what exporters and quantisers tell developers off the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
