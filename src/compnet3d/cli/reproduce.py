"""`compnet3d reproduce` and `compnet3d report`: the paper's experiments, and one page of what came out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from compnet3d.cli.options import (
    Count,
    Device,
    File,
    Folder,
    Names,
    Protocol,
    at_least,
    choose_device,
    command_line,
    require_folder,
)


@dataclass(frozen=True)
class Reproduce:
    """Run the paper's experiments: train and evaluate what is missing, write tables and plots. It can be stopped."""

    what: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME ...")]
    """table1 to table7, figure1, 2, 4, 5, 8, 10, all of these, or table6-variants (see --variants)."""
    data: Annotated[Path, arg(metavar="DIR")]
    """The data set, in the ImageNet3D layout, with the lists train and val."""
    scale: Literal["paper", "small"] = "small"
    """paper: its networks, one seed, its metrics beside ours on its data. small: a recipe for two cores, 3 seeds."""
    out: Annotated[Path, arg(metavar="OUT")] = Path("runs/reproduce")
    """The study's folder: models, evaluations, tables, plots."""
    recipe: Annotated[str, arg(metavar="NAME")] = ""
    """What is trained; robust at small scale, imagenet3d-vitb14 (with imagenet3d-resnet50) at the paper's."""
    epochs: Count = None
    """Epochs to train for; the recipe's number by default."""
    seeds: Count = None
    """Trainings of each method; 3 at small scale, 1 at the paper's."""
    baselines: tuple[Literal["heads", "heads-regression", "novum"], ...] = ("heads-regression", "heads", "novum")
    """Which baselines tables 2 to 4 and figure 1 compare with."""
    variants: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="")] = ()
    """Rows of table6-variants to train, of both, in-category-only, cross-category-only, samples-8, samples-64,
    weight-floor, static-weights; all by default."""
    unseen: Names = ()
    """Categories to leave out for table 3 and figure 5; by default those of the paper's ten that are there."""
    synthetic: Folder = None
    """A second data set for table 2: the categories that both have, by name, are evaluated."""
    occluders: Annotated[str, arg(metavar="distractors|blobs|objects|DIR")] = "distractors"
    """What covers objects: distractors (rendered, of categories not in the data), blobs, objects or a FOLDER."""
    occlusion_protocol: Protocol = "generator"
    """Whose levels: of the generator of Occluded-PASCAL3D+, or of the paper's text."""
    frost: Folder = None
    """Folder of textures for the frost corruption; procedural ice without one."""
    backgrounds: Folder = None
    """Folder of photographs: table 4 also sets the test objects before parts of them, by their masks."""
    batch_size: Annotated[int, arg(metavar="N")] = 64
    """Images that go through a model together in evaluations."""
    workers: Count = None
    """Processes that prepare images for each that trains (see train), and for an evaluation (by default none)."""
    device: Device = "auto"
    """Where to train and evaluate; auto takes the GPU if there is one."""

    def run(self) -> None:
        """Run the experiments."""
        at_least(1, epochs=self.epochs, seeds=self.seeds, batch_size=self.batch_size)
        at_least(0, workers=self.workers)
        require_folder(self.data, "--data")
        for option, folder in (
            ("--synthetic", self.synthetic),
            ("--frost", self.frost),
            ("--backgrounds", self.backgrounds),
        ):
            require_folder(folder, option)
        from compnet3d.reproduce.experiments import Experiments
        from compnet3d.reproduce.runner import reproduce
        from compnet3d.reproduce.study import Study
        from compnet3d.training.builtin_recipes import get_compnet_recipe
        from compnet3d.utils.distributed import joined, own_device

        paper_scale = self.scale == "paper"
        recipe = get_compnet_recipe(self.recipe or ("imagenet3d-vitb14" if paper_scale else "robust"))
        study = Study(
            out=self.out,
            data=self.data,
            seeds=tuple(range(self.seeds or (1 if paper_scale else 3))),
            occluders=self.occluders,
            occlusion_protocol=self.occlusion_protocol,
            frost=self.frost,
            backgrounds=self.backgrounds,
            batch_size=self.batch_size,
            device=own_device(choose_device(self.device)),
            workers=self.workers,
            command=command_line(),
        )
        resnet = get_compnet_recipe("imagenet3d-resnet50") if paper_scale and not self.recipe else None
        experiments = Experiments(
            study,
            recipe,
            paper_scale,
            unseen=self.unseen,
            synthetic=self.synthetic,
            resnet=resnet,
            epochs=self.epochs,
            baselines=self.baselines,
            variants=self.variants,
        )
        with joined(study.device) as group:
            reproduce(experiments, self.what)
        if group.is_rank_zero:
            print(f"tables and plots are in {self.out}; `compnet3d report {self.out}` joins them into one page")


@dataclass(frozen=True)
class Report:
    """Join all tables and plots of a study into one HTML page."""

    study: Annotated[Positional[Path], arg(metavar="OUT")]
    """The folder that `compnet3d reproduce` wrote."""
    html: File = None
    """The page; OUT/report.html by default."""

    def run(self) -> None:
        """Write the page."""
        require_folder(self.study, "OUT")
        from compnet3d.reproduce.report import write_page

        path = self.html or self.study / "report.html"
        write_page(self.study, path)
        print(f"wrote {path}")
