"""The command line: every subcommand is a dataclass whose fields are its options and whose `run` does the work.

Nothing heavy is imported before a command runs, so that help is instant.
"""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional, arg, subcommand

from compnet3d import __version__
from compnet3d.cli_bench import Bench
from compnet3d.cli_data import Data
from compnet3d.cli_options import (
    Box,
    Corruption,
    Count,
    Device,
    File,
    Flag,
    Folder,
    Level,
    Names,
    Occluders,
    Protocol,
    Severity,
    at_least,
    choose_device,
    command_line,
    model_folder,
    require_corruption,
    require_folder,
    require_occluders,
    run_log,
)
from compnet3d.cli_reproduce import Report, Reproduce
from compnet3d.errors import CompNetError

if TYPE_CHECKING:
    from compnet3d.baselines import TrainedModel
    from compnet3d.report import Evaluation


@dataclass(frozen=True)
class Quickstart:
    """Make data, train on it, evaluate clean and occluded images, write a report: seven to ten minutes on two cores."""

    out: Annotated[Path, arg(metavar="FOLDER")] = Path("runs/quickstart")
    """Where data, model, metrics.json and report.html go."""
    seed: int = 0
    """Seed of the data, the training and the occluders."""
    categories: Annotated[int, arg(metavar="N")] = 24
    """Number of object categories to make."""
    train: Annotated[int, arg(metavar="N")] = 260
    """Training images per category."""
    val: Annotated[int, arg(metavar="N")] = 24
    """Test images per category, of instances that are not in the training images."""
    size: Annotated[int, arg(metavar="PIXELS")] = 128
    """Side of the images, in pixels."""
    epochs: Count = None
    """Epochs to train for; the recipe's number by default."""
    workers: Count = None
    """Processes that make the images; one per core by default. Training reads them with one process of its own."""
    device: Device = "auto"
    """Where to train and evaluate; auto takes the GPU if there is one."""

    def run(self) -> None:
        """Run all the steps."""
        at_least(1, epochs=self.epochs, workers=self.workers, train=self.train, val=self.val)
        at_least(2, categories=self.categories)
        at_least(0, seed=self.seed)
        at_least(32, size=self.size)
        from compnet3d.quickstart import run_quickstart

        run_quickstart(
            self.out,
            seed=self.seed,
            categories=self.categories,
            train_images=self.train,
            val_images=self.val,
            size=self.size,
            epochs=self.epochs,
            workers=self.workers,
            device=choose_device(self.device),
            command=command_line(),
        )


@dataclass(frozen=True)
class Train:
    """Train a model on a data set in the ImageNet3D layout."""

    recipe: Annotated[str, arg(metavar="NAME")]
    """quickstart, robust, eth80, robust-photos, imagenet3d-resnet50, imagenet3d-vitb14; with -heads, -heads-regression
    or -novum after it one of its baselines; or a run's config.json."""
    data: Annotated[Path, arg(metavar="DIR")]
    """The data set (`compnet3d data make` makes one, `data check` looks one over)."""
    out: Annotated[Path, arg(metavar="RUN")]
    """The run's folder: the model, its checkpoints, log and config.json."""
    resume: Flag = False
    """Go on with the run in RUN where it stopped; the result is that of an uninterrupted run."""
    seed: int = 0
    """Seed of everything random."""
    epochs: Count = None
    """Epochs to train for; the recipe's number by default."""
    without: Names = ()
    """Categories to leave out, so that the model does not know them (see `evaluate --categories unseen`)."""
    backbone_weights: Folder = None
    """Folder of the pretrained feature extractor; by default the recipe's is looked for, then its hub name."""
    from_scratch: Flag = False
    """Start from random weights although the recipe names a pretrained feature extractor."""
    workers: Count = None
    """Processes that prepare images for each that trains; 0: none. By default 1, or 0 if training fills all cores;
    with a GPU one per core but one, 16 at most."""
    device: Device = "auto"
    """Where to train; auto takes the GPU if there is one."""

    def run(self) -> None:
        """Train and say where the model is."""
        at_least(1, epochs=self.epochs)
        at_least(0, workers=self.workers, seed=self.seed)
        require_folder(self.data, "--data")
        if self.backbone_weights is not None:
            require_folder(self.backbone_weights, "--backbone-weights")
        from compnet3d.recipes import get_recipe
        from compnet3d.training import train

        recipe = get_recipe(self.recipe)
        if self.epochs is not None:
            recipe = recipe.with_options(epochs=self.epochs)
        train(
            recipe,
            self.data,
            self.out,
            seed=self.seed,
            without=self.without,
            resume=self.resume,
            backbone_weights=self.backbone_weights,
            from_scratch=self.from_scratch,
            device=choose_device(self.device),
            workers=self.workers,
        )
        print(f"the model is in {self.out / 'model'}")


@dataclass(frozen=True)
class Evaluate:
    """Measure a model's classification and pose on a data set, and print both."""

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """The model's folder, RUN/model of a training run (RUN itself will do)."""
    data: Annotated[Path, arg(metavar="DIR")]
    """The data set, in the ImageNet3D layout."""
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
    """Corrupt the photographs in one of the 19 ways of ImageNet-C, such as fog or motion_blur."""
    severity: Severity = 4
    """How strongly they are corrupted."""
    frost: Folder = None
    """Pictures of ice for the corruption frost; drawn ice without."""
    matching: Literal["exhaustive", "pruned"] = "exhaustive"
    """How categories are compared: all of them closely (Eq. 7), or only the most likely ones (faster from 50 on)."""
    unknown: Flag = False
    """Also estimate the pose without a category, from the one that reconstructs the image best (slow)."""
    seed: int = 0
    """Seed of the occluders, the angles and the corruption."""
    batch_size: Annotated[int, arg(metavar="N")] = 32
    """Images that go through the model together."""
    workers: Annotated[int, arg(metavar="N")] = 0
    """Processes that read images; 0 reads them in this one."""
    device: Device = "auto"
    """Where to run the model; auto takes the GPU if there is one."""
    json: File = None
    """Also write all figures to this file."""
    report: File = None
    """Also write an HTML report with figures to this file (needs matplotlib)."""

    def run(self) -> None:
        """Evaluate, print tables, write files."""
        at_least(1, batch_size=self.batch_size)
        at_least(0, workers=self.workers, seed=self.seed)
        require_folder(self.data, "--data")
        if self.occlusion is not None:
            require_occluders(self.occluders)
        require_corruption(self.corruption, self.severity, self.frost)
        if self.categories == "unseen":
            self._evaluate_unseen()
            return
        from compnet3d.tables import print_evaluation

        evaluation = self._evaluate()
        print_evaluation(evaluation.figures)
        if self.json is not None:
            from compnet3d.files import write_json

            write_json(self.json, evaluation.figures)
            print(f"wrote {self.json}")
        if self.report is not None:
            from compnet3d.report import write_report

            write_report(self.report, evaluation, command=command_line(), log=run_log(self.model))
            print(f"wrote {self.report}")

    def _evaluate_unseen(self) -> None:
        if self.occlusion or self.corruption or self.rotate or self.report:
            raise CompNetError("--categories unseen takes images as they are: leave out occlusion, corruption, report")
        from compnet3d.benchmarks.unseen import evaluate_unseen, unseen_samples
        from compnet3d.data.imagenet3d import ImageNet3D
        from compnet3d.files import write_json
        from compnet3d.provenance import provenance
        from compnet3d.tables import print_unseen

        model, dataset = load_model(self.model, self.device, self.matching), ImageNet3D(self.data)
        figures = evaluate_unseen(
            model,
            unseen_samples(dataset.samples(self.split), model.categories),
            crop=self.crop,
            batch_size=self.batch_size,
            symmetry=dataset.symmetry,
            workers=self.workers,
        )
        print_unseen(figures)
        if self.json is not None:
            settings = {"model": str(self.model), "data": str(self.data), "split": self.split, "crop": self.crop}
            write_json(self.json, figures | {"settings": settings | provenance(command_line())})
            print(f"wrote {self.json}")

    def _evaluate(self) -> Evaluation:
        from compnet3d.benchmarks.evaluate import evaluate
        from compnet3d.benchmarks.occlusion import occluder_samples
        from compnet3d.data.imagenet3d import ImageNet3D
        from compnet3d.provenance import provenance
        from compnet3d.report import Evaluation

        model = load_model(self.model, self.device, self.matching)
        dataset = ImageNet3D(self.data)
        samples = dataset.samples(self.split)
        if dataset.report.total_skipped:
            print(f"{dataset.report}", file=sys.stderr)
        if self.categories == "common":
            from compnet3d.benchmarks.unseen import common_samples

            samples = common_samples(samples, model.categories)
        cut = self.occlusion is not None and self.occluders == "objects"
        lenders = occluder_samples(dataset, self.split) if cut else None
        figures, records = evaluate(
            model,
            samples,
            return_records=True,
            crop=self.crop,
            batch_size=self.batch_size,
            occlusion=self.occlusion,
            occlusion_protocol=self.occlusion_protocol,
            occluders=self.occluders,
            occluder_samples=lenders,
            rotate=self.rotate,
            seed=self.seed,
            symmetry=dataset.symmetry,
            unknown=self.unknown,
            workers=self.workers,
            corruption=self.corruption,
            severity=self.severity,
            frost=self.frost,
        )
        figures["settings"] |= {"model": str(self.model), "data": str(self.data), "split": self.split}
        figures["settings"] |= {"matching": self.matching, **provenance(command_line())}
        return Evaluation(model, samples, figures, records, lenders)


@dataclass(frozen=True)
class Predict:
    """Name the object in each image and estimate its pose."""

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """The model's folder, RUN/model of a training run (RUN itself will do)."""
    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE...", help_behavior_hint="(required)")]
    """Image files, one object each."""
    box: Box = None
    """The object's box in pixels, used for every image; the whole image by default."""
    json: File = None
    """Write the predictions to this file too; - writes them to the standard output instead of a table."""
    matching: Literal["exhaustive", "pruned"] = "exhaustive"
    """How categories are compared: all of them closely (Eq. 7), or only the most likely ones (faster from 50 on)."""
    overlay: Folder = None
    """Write each image with the projected model drawn over it into this folder."""
    device: Device = "auto"
    """Where to run the model; auto takes the GPU if there is one."""

    def run(self) -> None:
        """Predict, print, write files."""
        if not self.images:
            raise CompNetError("no image given: name at least one image file after the model")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise CompNetError("--box needs X1 Y1 X2 Y2 with X1 < X2 and Y1 < Y2, in pixels from the top-left corner")
        from compnet3d.predict import predict_files

        model = load_model(self.model, self.device, self.matching)
        predict_files(model, self.images, box=self.box, json_file=self.json, overlay=self.overlay)


@dataclass(frozen=True)
class Ablation:
    """Train and evaluate a recipe with one change at a time: loss parts, sampled vertices, dynamic weights."""

    data: Annotated[Path, arg(metavar="DIR")]
    """The data set, in the ImageNet3D layout; its val list is evaluated."""
    out: Annotated[Path, arg(metavar="DIR")]
    """Where the runs, ablation.json and ablation.md go; a study that was stopped goes on where it was."""
    recipe: Annotated[str, arg(metavar="NAME")] = "quickstart"
    """Settings that each variant changes in one point; see train."""
    epochs: Count = None
    """Epochs to train each variant for; the recipe's number by default."""
    seed: int = 0
    """Seed of everything random, the same for every variant."""
    only: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="")] = ()
    """Variants to run, of both, in-category-only, cross-category-only, samples-8, samples-64, weight-floor,
    static-weights."""
    workers: Count = None
    """Processes that prepare images for each that trains; 0: none. By default 1, or 0 if training fills all cores;
    with a GPU one per core but one, 16 at most."""
    device: Device = "auto"
    """Where to train and evaluate; auto takes the GPU if there is one."""
    json: File = None
    """Also write the figures to this file (they are in DIR/ablation.json too)."""

    def run(self) -> None:
        """Run the study and print its table."""
        at_least(1, epochs=self.epochs)
        at_least(0, workers=self.workers, seed=self.seed)
        require_folder(self.data, "--data")
        from compnet3d.ablation import markdown, run_ablation
        from compnet3d.recipes import get_recipe

        recipe = get_recipe(self.recipe)
        if self.epochs is not None:
            recipe = recipe.with_options(epochs=self.epochs)
        study = run_ablation(
            recipe,
            self.data,
            self.out,
            seed=self.seed,
            only=self.only,
            device=choose_device(self.device),
            workers=self.workers,
            command=command_line(),
        )
        print(markdown(study))
        print(f"wrote {self.out / 'ablation.json'} and {self.out / 'ablation.md'}")
        if self.json is not None:
            from compnet3d.files import write_json

            write_json(self.json, study)
            print(f"wrote {self.json}")


Command = (
    Annotated[Quickstart, subcommand("quickstart")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Predict, subcommand("predict")]
    | Annotated[Ablation, subcommand("ablation")]
    | Annotated[Reproduce, subcommand("reproduce")]
    | Annotated[Report, subcommand("report")]
    | Annotated[Data, subcommand("data")]
    | Annotated[Bench, subcommand("bench")]
)
DESCRIPTION = (
    "3D compositional models: one image in, the object's category and 3D pose out.\n"
    "`compnet3d COMMAND --help` tells a command's options, `compnet3d --version` the version."
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit with 0, 2 for an error that the user can mend, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        print(f"compnet3d {__version__}")
        return
    command = parse(arguments or ["--help"])
    try:
        command.run()
    except KeyboardInterrupt:
        fail("interrupted", status=130)
    except BrokenPipeError:
        # The reader of our output has gone; python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (CompNetError, OSError) as error:
        if os.environ.get("COMPNET3D_TRACEBACK"):
            raise
        fail(sentence(error))


def parse(
    arguments: list[str],
) -> Quickstart | Train | Evaluate | Predict | Ablation | Reproduce | Report | Data | Bench:
    """The command that the arguments ask for; leaves the program with help or a usage error."""
    options = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff)
    return tyro.cli(Command, prog="compnet3d", description=DESCRIPTION, args=arguments, config=options)


def sentence(error: Exception) -> str:
    """One line for the user."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        if error.errno == errno.ENOSPC:
            return f"{where}no space left on the disk; free some and run again"
        return f"{where}{error.strerror or error}"
    text = str(error)
    # A reading process wraps its error in the text of a traceback; the sentence is what follows the last name.
    return text.rpartition("CompNetError: ")[2].strip() if "Original Traceback" in text else text


def fail(message: str, status: int = 2) -> None:
    """Print one red line on stderr and leave the program."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), (" ".join(message.split()), "red")))
    raise SystemExit(status)


def load_model(path: Path, device: str, matching: str = "exhaustive") -> TrainedModel:
    """Load a model onto a device, to match categories in this way."""
    folder, device = model_folder(path), choose_device(device)
    from compnet3d.baselines import load_predictor
    from compnet3d.inference.pruning import Pruning
    from compnet3d.models.compnet import CompNet

    model = load_predictor(folder).to(device)
    if isinstance(model, CompNet):
        model.pruning = Pruning() if matching == "pruned" else None
    elif matching == "pruned":
        raise CompNetError(
            f"{folder}: is a baseline without vertices, which has nothing to prune; leave --matching out"
        )
    return model


if __name__ == "__main__":
    main()
