"""`compnet3d export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from compnet3d.cli.evaluate import load_model
from compnet3d.cli.options import File, Folder, Names, at_least, command_line, require_folder
from compnet3d.errors import CompNetError

if TYPE_CHECKING:
    from torch import Tensor

    from compnet3d.bench.exported import RuntimeResult
    from compnet3d.models.registry import TrainedModel
    from compnet3d.reporting.tables import Row


@dataclass(frozen=True)
class Export:
    """Write a model as ONNX and torch.export files, for programs without compnet3d; each is compared with the model."""

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """The model: its folder, a training run's, or a name such as quickstart."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """A new folder for the files."""
    category: Names = ()
    """Categories whose pose search is exported, one file each; all by default."""
    formats: Literal["all", "onnx", "pt2"] = "all"
    """onnx files, pt2 files (torch.export), or both."""
    crop: Literal["box", "oracle"] = "box"
    """How the crops will be cut: by the object's box, or by its annotated distance and centre."""
    int8: Annotated[Literal["static", "dynamic"] | None, arg(metavar="static|dynamic", help_behavior_hint="")] = None
    """Also write ONNX files with an int8 network: static needs --data and is faster, dynamic slows convolutions."""
    data: Folder = None
    """A data set: images of its train list calibrate static int8, and the accuracy and the time of the ONNX files on
    its val list are printed beside the model's."""
    calibration_images: Annotated[int, arg(metavar="N")] = 128
    """Images that calibrate."""
    json: File = None
    """Write that comparison to this file, too."""

    def run(self) -> None:
        """Export, check, print."""
        at_least(1, calibration_images=self.calibration_images)
        if self.data is not None:
            require_folder(self.data, "--data")
        elif self.json is not None:
            raise CompNetError("--json needs --data DIR, on whose val list the files are compared")
        elif self.int8 == "static":
            raise CompNetError("--int8 static needs --data DIR, whose images calibrate it; or choose --int8 dynamic")
        from compnet3d.models.export import ExportSettings, export_model

        model = load_model(self.model, "cpu")
        settings = ExportSettings(
            categories=self.category or None,
            crop=self.crop,
            forms=("onnx", "pt2") if self.formats == "all" else (self.formats,),
            int8=self.int8,
        )
        calibration = self._calibration(model) if self.int8 == "static" else None
        written = export_model(model, self.out, settings, calibration=calibration, report=print)
        size = sum(path.stat().st_size for path in written)
        print(f"wrote {len(written)} files into {self.out}, {size / 1e6:.1f} MB")
        if self.data is not None and self.formats != "pt2":
            self._compare(model)

    def _calibration(self, model: TrainedModel) -> Tensor:
        import torch

        from compnet3d.data.imagenet3d import ImageNet3D
        from compnet3d.evaluation.crops import EvaluationCrops

        assert self.data is not None
        samples = [sample for sample in ImageNet3D(self.data).samples("train") if sample.category in model.categories]
        # evenly over the list, which goes through the categories one after the other
        chosen = samples[:: max(1, len(samples) // self.calibration_images)][: self.calibration_images]
        crops = EvaluationCrops(chosen, model.categories, model.input_config, crop=self.crop)
        if not len(crops):
            raise CompNetError(f"{self.data}: has no training image of the model's categories to calibrate with")
        return torch.stack([crops[number]["image"] for number in range(len(crops))])

    def _compare(self, model: TrainedModel) -> None:
        from compnet3d.bench.exported import compare_exported
        from compnet3d.data.imagenet3d import ImageNet3D
        from compnet3d.reporting.provenance import provenance
        from compnet3d.reporting.tables import Table
        from compnet3d.reporting.terminal import new_table, terminal
        from compnet3d.utils.files import write_json

        assert self.data is not None
        dataset = ImageNet3D(self.data)
        found = compare_exported(
            model,
            self.out,
            [sample for sample in dataset.samples("val") if sample.category in model.categories],
            crop=self.crop,
            posed=self.category or model.categories,
            symmetry=dataset.symmetry,
            int8=self.int8 is not None,
        )
        columns = ("top-1 [%]", "pose pi/6 [%]", "median [deg]", "alone [ms]", "in 32 [ms]", "ratio")
        note = (
            "pose: best initial one of the true category, not refined; time: of the scores of a crop, alone and in a "
            "batch of 32; ratio: to PyTorch's"
        )
        rows = tuple(_row(way, found[0]) for way in found)
        title = f"{found[0].images} images of the val list, poses of {found[0].posed}"
        drawn = Table("export", title, ("run by", *columns), rows, (f"{note}.",))
        printed = new_table(title, ["run by"], columns, note)
        for row in rows:
            printed.add_row(row.label, *map(str, row.cells))
        terminal().print(printed)
        if self.json is not None:
            write_json(self.json, {"tables": [drawn.to_dict()], "settings": provenance(command_line())})
            print(f"wrote {self.json}")


def _row(way: RuntimeResult, pytorch: RuntimeResult) -> Row:
    """One way to run the model beside PyTorch."""
    from compnet3d.reporting.tables import Row
    from compnet3d.reporting.terminal import degrees, percent

    accuracy = (percent(way.accuracy), percent(way.pose.acc_pi6), degrees(way.pose.median_deg))
    times = (f"{1000 * way.single_s:.2f}", f"{1000 * way.batch_s:.2f}")
    ratio = f"{way.single_s / pytorch.single_s:.2f} / {way.batch_s / pytorch.batch_s:.2f}"
    return Row(way.name, (*accuracy, *times, ratio))
