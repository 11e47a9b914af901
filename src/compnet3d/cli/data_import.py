"""`compnet3d data import FORMAT SRC OUT`: data sets of other formats, written in our layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg, subcommand

from compnet3d.cli.options import Count, Flag, Folder, at_least, require_folder

if TYPE_CHECKING:
    from compnet3d.data.importers.writer import Source


@dataclass(frozen=True)
class _Import:
    """What all formats have in common."""

    src: Annotated[Positional[Path], arg(metavar="SRC")]
    """What to import; nothing of it is changed."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """The folder to write, new or empty; an import that was stopped goes on there."""
    link: Flag = False
    """Make hard links to the images instead of copies, where the disk can: they take no room, but a change to one of
    them changes the source."""
    workers: Count = None
    """Processes; one per core by default, fewer for few images. What is written does not depend on it."""

    def convert(self, source: Source) -> None:
        """Import, and say what was left out."""
        at_least(1, workers=self.workers)
        from compnet3d.data.importers.recognise import check_format
        from compnet3d.data.importers.writer import import_data

        check_format(self.src, source.format)
        report = import_data(source, self.out, link=self.link, workers=self.workers, progress=True)
        print(report)
        print(f"the data set is in {self.out}")


@dataclass(frozen=True, kw_only=True)
class ImportPascal3d(_Import):
    """PASCAL3D+, release 1.1: its ImageNet part, each image's first object."""

    subset: Literal["imagenet", "pascal", "both"] = "imagenet"
    """Which images: those of ImageNet, of PASCAL VOC, or both."""
    all_objects: Flag = False
    """Take all objects of the image's category; only its first one by default."""
    voc: Folder = None
    """The folder ImageSets/Main of PASCAL VOC 2012, which splits its images; within the release by default."""

    def run(self) -> None:
        """Import."""
        from compnet3d.data.importers.pascal3d import Pascal3d

        if self.voc is not None:
            require_folder(self.voc, "--voc")
        self.convert(Pascal3d(self.src, self.subset, self.all_objects, self.voc))


@dataclass(frozen=True, kw_only=True)
class ImportOccludedPascal3d(_Import):
    """A level of Occluded-PASCAL3D+, as the val split, with the poses and CAD models of PASCAL3D+."""

    pascal3d: Annotated[Path, arg(metavar="DIR")]
    """The folder PASCAL3D+_release1.1."""
    level: Annotated[Literal["L1", "L2", "L3"], arg(metavar="L1|L2|L3")]
    """Which level."""

    def run(self) -> None:
        """Import."""
        from compnet3d.data.importers.occluded_pascal3d import OccludedPascal3d

        require_folder(self.pascal3d, "--pascal3d")
        self.convert(OccludedPascal3d(self.src, self.pascal3d, self.level))


@dataclass(frozen=True)
class DataImport:
    """Write a data set of another format in the ImageNet3D layout; what was left out, and why, is reported."""

    command: (
        Annotated[ImportPascal3d, subcommand("pascal3d")]
        | Annotated[ImportOccludedPascal3d, subcommand("occluded-pascal3d")]
    )

    def run(self) -> None:
        """Run the chosen import."""
        self.command.run()
