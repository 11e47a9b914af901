"""`compnet3d evaluate`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from compnet3d.cli.options import (
    Corruption,
    Device,
    File,
    Flag,
    Folder,
    Level,
    Occluders,
    Protocol,
    Severity,
    at_least,
    checked_shift,
    choose_device,
    command_line,
    require_data,
    run_log,
)
from compnet3d.errors import CompNetError
from compnet3d.utils.text import printable

if TYPE_CHECKING:
    from compnet3d.models.registry import TrainedModel
    from compnet3d.reporting.evaluation_report import Evaluation
    from compnet3d.robustness.shift import Shift


@dataclass(frozen=True)
class Evaluate:
    """Measure a model's classification and pose on a data set, and print both."""

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """The model: its folder, a training run's, or a name such as quickstart."""
    data: Annotated[str, arg(metavar="DIR")]
    """The data set, in the ImageNet3D layout; or a packed one: its folder, its URL, or some of its shards."""
    split: str = "val"
    """Which of the data set's lists to take."""
    categories: Literal["all", "common", "unseen"] = "all"
    """all: the model must know all of the data set's. common: those that both have, by name. unseen: those that the
    model does not know; their pose is that of the category that reconstructs the image best."""
    crop: Literal["oracle", "box"] = "oracle"
    """How objects are cut out: oracle uses the annotated distance and centre, box the bounding box alone."""
    rotate: Annotated[float, arg(metavar="DEG")] = 0.0
    """Turn each image in the plane by an angle drawn evenly from -DEG to DEG degrees."""
    occlusion: Level = None
    """Paste occluders over the images: L1, L2 and L3 hide 20-40, 40-60 and 60-80 % of the object."""
    occlusion_protocol: Protocol = "generator"
    """Whose levels: those of Occluded-PASCAL3D+, or of the paper's text (5-15, 25-35 and 45-55 % of the object)."""
    occluders: Occluders = "blobs"
    """What occluders are: coloured blobs, objects of other categories cut out of the train list by their masks, or a
    folder of cut-outs (PNG or WebP with transparency)."""
    corruption: Corruption = None
    """Corrupt the images in one of the 19 ways of ImageNet-C, such as fog or motion_blur."""
    severity: Severity = 4
    """How strongly they are corrupted."""
    frost: Folder = None
    """Images of ice for the corruption frost; drawn ice without."""
    backgrounds: Folder = None
    """Put parts of the photographs in this folder behind the objects, by their masks."""
    matching: Literal["exhaustive", "pruned"] = "exhaustive"
    """How categories are compared: all of them closely (Eq. 7), or only the most likely ones (faster from 50 on)."""
    unseen: Flag = False
    """Also estimate the pose without a category, from the one that reconstructs the image best (slow)."""
    unknown: Flag = False
    """Also report how often the answer is `unknown`, for objects of categories that the model lacks (which are left out
    of all else) and for backgrounds."""
    seed: int = 0
    """Seed of the occluders, the angles and the corruption."""
    batch_size: Annotated[int, arg(metavar="N")] = 32
    """Images that go through the model together."""
    workers: Annotated[int, arg(metavar="N")] = 0
    """Processes that read images; 0 reads them in this one."""
    device: Device = "auto"
    """Where to run the model; auto takes the GPU if there is one."""
    json: File = None
    """Also write all metrics to this file."""
    report: File = None
    """Also write an HTML report with plots and images to this file (needs matplotlib)."""

    def run(self) -> None:
        """Evaluate, print tables, write files; of several processes that torchrun has started, one does the latter."""
        from compnet3d.utils.distributed import joined, own_device

        with joined(own_device(choose_device(self.device))) as group:
            self._run(group.is_rank_zero)

    def _run(self, speaks: bool) -> None:
        at_least(1, batch_size=self.batch_size)
        at_least(0, workers=self.workers, seed=self.seed)
        require_data(self.data, "--data")
        shift = checked_shift(
            occlusion=self.occlusion,
            protocol=self.occlusion_protocol,
            occluders=self.occluders if self.occlusion else "blobs",
            corruption=self.corruption,
            severity=self.severity,
            frost=self.frost,
            backgrounds=self.backgrounds,
            rotation=self.rotate,
            seed=self.seed,
        )
        if self.categories == "unseen":
            self._evaluate_unseen(speaks)
            return
        from compnet3d.reporting.terminal import print_evaluation

        evaluation = self._evaluate(shift)
        if not speaks:
            return
        print_evaluation(evaluation.result)
        if self.json is not None:
            from compnet3d.utils.files import write_json

            write_json(self.json, evaluation.result.to_dict())
            print(f"wrote {self.json}")
        if self.report is not None:
            from compnet3d.reporting.evaluation_report import write_report

            write_report(self.report, evaluation, command=command_line(), log=run_log(self.model))
            print(f"wrote {self.report}")

    def _evaluate_unseen(self, speaks: bool) -> None:
        if self.occlusion or self.corruption or self.backgrounds or self.rotate or self.report:
            raise CompNetError("--categories unseen takes images as they are: leave out occlusion, corruption, report")
        from compnet3d.data.packed import open_data
        from compnet3d.evaluation.crops import Loading
        from compnet3d.evaluation.unseen import evaluate_unseen, unseen_samples
        from compnet3d.reporting.provenance import provenance
        from compnet3d.reporting.terminal import print_unseen
        from compnet3d.utils.files import write_json

        model, dataset = load_model(self.model, self.device, self.matching), open_data(self.data)
        result = evaluate_unseen(
            model,
            unseen_samples(dataset.samples(self.split), model.categories),
            crop=self.crop,
            symmetry=dataset.symmetry,
            loading=Loading(self.batch_size, self.workers),
        )
        if not speaks:
            return
        print_unseen(result)
        if self.json is not None:
            settings = {"model": str(self.model), "data": self.data, "split": self.split, "crop": self.crop}
            write_json(self.json, result.to_dict() | {"settings": settings | provenance(command_line())})
            print(f"wrote {self.json}")

    def _evaluate(self, shift: Shift) -> Evaluation:
        from compnet3d.data.packed import open_data
        from compnet3d.evaluation.crops import Loading
        from compnet3d.evaluation.evaluate import evaluate
        from compnet3d.reporting.evaluation_report import Evaluation
        from compnet3d.reporting.provenance import provenance
        from compnet3d.robustness.occluders import occluder_samples

        model = load_model(self.model, self.device, self.matching)
        dataset = open_data(self.data)
        samples = dataset.samples(self.split)
        if dataset.report.total_skipped:
            print(printable(dataset.advice()), file=sys.stderr)
        everything = samples
        if self.categories == "common" or self.unknown:
            from compnet3d.evaluation.unseen import common_samples

            samples = common_samples(samples, model.categories)
        source = occluder_samples(dataset, self.split) if shift.occluders == "objects" else None
        result = evaluate(
            model,
            samples,
            shift=shift,
            crop=self.crop,
            symmetry=dataset.symmetry,
            unseen=self.unseen,
            occluder_samples=source,
            loading=Loading(self.batch_size, self.workers),
        )
        if self.unknown:
            from compnet3d.evaluation.unknown import measure_unknown

            rates = measure_unknown(
                model, everything, result.called_unknown, crop=self.crop, loading=Loading(self.batch_size, self.workers)
            )
            result = replace(result, unknown=rates)
        origin = {"model": str(self.model), "data": self.data, "split": self.split, "matching": self.matching}
        return Evaluation(model, samples, result.with_origin(**origin, **provenance(command_line())), source)


def load_model(path: Path, device: str, matching: str = "exhaustive") -> TrainedModel:
    """Load a model onto a device, to match categories in this way."""
    from compnet3d.utils.distributed import own_device

    device = own_device(choose_device(device))
    from compnet3d.inference.pruned_matching import Pruning
    from compnet3d.models.checkpoint import find_model
    from compnet3d.models.compnet import CompNet
    from compnet3d.models.registry import load_predictor

    folder = find_model(path)
    model = load_predictor(folder).to(device)
    if isinstance(model, CompNet):
        model.pruning = Pruning() if matching == "pruned" else None
    elif matching == "pruned":
        raise CompNetError(
            f"{folder}: is a baseline without vertices, which has nothing to prune; leave --matching out"
        )
    return model
