"""`compnet3d data`: make data sets, import or change one, check one, or look at its annotations."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg, subcommand

from compnet3d.cli.data_import import DataImport
from compnet3d.cli.data_pack import DataPack
from compnet3d.cli.data_show import DataShow
from compnet3d.cli.data_symmetry import DataSymmetry
from compnet3d.cli.options import (
    Count,
    Folder,
    Occluders,
    Protocol,
    Severity,
    ShardText,
    at_least,
    checked_shift,
    require_folder,
    say_made,
)
from compnet3d.errors import CompNetError
from compnet3d.utils.files import is_file
from compnet3d.utils.text import printable

if TYPE_CHECKING:
    from compnet3d.geometry.frame import Frame
    from compnet3d.procedural.variation import Variation

Style = Annotated[Literal["plain", "photo"], arg(metavar="plain|photo")]
AxisName = Annotated[Literal["x", "y", "z", "-x", "-y", "-z"] | None, arg(metavar="AXIS", help_behavior_hint="")]
Elevation = Annotated[tuple[float, float] | None, arg(metavar="MIN MAX", help_behavior_hint="")]


@dataclass(frozen=True)
class DataMake:
    """Make a data set of everyday objects by rendering procedural models: the same seed gives the same bytes."""

    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """The folder to make, new or empty."""
    categories: Annotated[int, arg(metavar="N")] = 24
    """Number of categories; beyond the built-in ones a shape grammar invents more."""
    train: Annotated[int, arg(metavar="N")] = 120
    """Training images per category."""
    val: Annotated[int, arg(metavar="N")] = 24
    """Test images per category, of other instances."""
    size: Annotated[int, arg(metavar="PIXELS")] = 128
    """Side of the images, in pixels."""
    seed: int = 0
    """Seed of everything random."""
    style: Style = "plain"
    """How much images vary; photo is for models that are to know photographs: any light, material and camera."""
    backgrounds: Folder = None
    """Folder of photographs for the style photo: as backgrounds, as light around the objects, and in front of them."""
    elevation: Elevation = None
    """Least and greatest elevation of the camera, in degrees; -10 to 60 by default, mostly 0 to 40."""
    tilt: Annotated[float, arg(metavar="DEGREES")] = 25.0
    """Greatest turn of the camera about its viewing axis (theta), in degrees to either side."""
    deform: Annotated[float, arg(metavar="SHARE")] = 0.0
    """How much lengths of each instance change along each axis, up to 0.5; 0.1 makes more of few CAD models."""
    workers: Count = None
    """Processes that render; one per core by default. The images do not depend on it."""
    shard: ShardText = None
    """Do share I of N, for jobs on many machines: in any order, at any time, into one OUT; the last one finishes it."""

    def run(self) -> None:
        """Make the data set."""
        at_least(1, categories=self.categories, workers=self.workers)
        at_least(0, train=self.train, val=self.val, seed=self.seed)
        at_least(32, size=self.size)
        variation = _variation(self)
        from compnet3d.procedural.writer import make_dataset
        from compnet3d.utils.shards import Shard

        make_dataset(
            self.out,
            categories=self.categories,
            train=self.train,
            val=self.val,
            size=self.size,
            seed=self.seed,
            workers=self.workers,
            variation=variation,
            shard=Shard.parse(self.shard),
        )
        say_made(self.out)


@dataclass(frozen=True)
class DataRender:
    """Make a data set from your own CAD models (.off .obj .ply .stl .glb .gltf .dae), seen under sampled light and
    poses.
    """

    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """The folder to make, new or empty."""
    cad: Annotated[Path, arg(metavar="DIR")]
    """Folder with one folder of model files per category, named 01.obj, 02.obj and so on."""
    up: AxisName = None
    """Which axis of the files points up; by default what the format states (y for glTF), and z where it states none."""
    front: AxisName = None
    """Where the objects' fronts face in the files, as --front=-y; -y by default where z is up, else z."""
    colours: Annotated[Literal["own", "random"], arg(metavar="own|random")] = "own"
    """Draw colours and textures that the files have, or materials of random looks as models without any get."""
    train: Annotated[int, arg(metavar="N")] = 120
    """Training images per category."""
    val: Annotated[int, arg(metavar="N")] = 24
    """Test images per category."""
    size: Annotated[int, arg(metavar="PIXELS")] = 128
    """Side of the images, in pixels."""
    seed: int = 0
    """Seed of everything random."""
    style: Style = "plain"
    """How much images vary; photo is for models that are to know photographs: any light, material and camera."""
    backgrounds: Folder = None
    """Folder of photographs for the style photo: as backgrounds, as light around the objects, and in front of them."""
    elevation: Elevation = None
    """Least and greatest elevation of the camera, in degrees; -10 to 60 by default, mostly 0 to 40."""
    tilt: Annotated[float, arg(metavar="DEGREES")] = 25.0
    """Greatest turn of the camera about its viewing axis (theta), in degrees to either side."""
    deform: Annotated[float, arg(metavar="SHARE")] = 0.0
    """How much lengths of each instance change along each axis, up to 0.5; 0.1 makes more of few CAD models."""
    workers: Count = None
    """Processes that render; one per core by default. The images do not depend on it."""
    shard: ShardText = None
    """Do share I of N, for jobs on many machines: in any order, at any time, into one OUT; the last one finishes it."""

    def run(self) -> None:
        """Render the data set."""
        at_least(1, workers=self.workers)
        at_least(0, train=self.train, val=self.val, seed=self.seed)
        at_least(32, size=self.size)
        require_folder(self.cad, "--cad")
        variation = _variation(self)
        from compnet3d.procedural.cad import CadFolder
        from compnet3d.procedural.writer import render_dataset
        from compnet3d.utils.shards import Shard

        report = render_dataset(
            CadFolder(self.cad, self._frame(), self.colours == "own"),
            self.out,
            train=self.train,
            val=self.val,
            size=self.size,
            seed=self.seed,
            workers=self.workers,
            variation=variation,
            shard=Shard.parse(self.shard),
        )
        for note in report.notes[:20]:
            print(f"note: {printable(note)}", file=sys.stderr)
        if len(report.notes) > 20:
            print(f"and {len(report.notes) - 20} notes more", file=sys.stderr)
        views = self.out / "views"
        if report.unstated:
            print(
                f"{', '.join(report.unstated)} files state no axes: taken as z up, the front faces -y; if {views} "
                "shows otherwise, give --up and --front"
            )
        if views.is_dir():
            print(f"the models from the front and the side are in {views}, one picture a category")
        say_made(self.out)

    def _frame(self) -> Frame | None:
        """The axes that are given; what the formats state by default."""
        from compnet3d.geometry.frame import Frame

        if self.up is None and self.front is None:
            return None
        usual = Frame.with_up(self.up or "z")
        return Frame(usual.up, self.front or usual.front)


def _variation(options: DataMake | DataRender) -> Variation:
    """The variation that the options stand for; checked before anything slow starts."""
    from compnet3d.procedural.variation import Variation

    require_folder(options.backgrounds, "--backgrounds")
    return Variation(
        style=options.style,
        backgrounds=options.backgrounds,
        elevation=options.elevation,
        tilt=options.tilt,
        deform=options.deform,
    )


@dataclass(frozen=True)
class DataCheck:
    """Look a data set over: missing and broken files, wrong units, signs and axes; exit code 1 if any file is broken.

    All bytes of images and masks are gone through. Poses and boxes of up to 160 images of a category are compared with
    masks and CAD models. Of a packed data set, all bytes are compared with their checksums.
    """

    data: Annotated[Positional[str], arg(metavar="DIR")]
    """The data set, in the ImageNet3D layout; or a packed one: its folder, its URL, or some of its shards."""
    protocol: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """A published protocol, such as imagenet3d-188: also say how this copy deviates from it."""
    workers: Count = None
    """Processes; one per core by default, fewer for small data sets. The findings do not depend on it."""

    def run(self) -> None:
        """Check and print a table."""
        at_least(1, workers=self.workers)
        from compnet3d.data.packed import is_packed, verify

        if is_packed(self.data):
            faults = verify(self.data)
            print(printable("\n".join(faults) or f"{self.data}: all bytes are those that were packed"))
            raise SystemExit(1 if faults else 0)
        from compnet3d.data.check import check_dataset
        from compnet3d.data.importers.recognise import kind_of

        if is_file(Path(self.data)) and (kind := kind_of(Path(self.data))):
            raise CompNetError(f"{self.data}: looks like {kind}")
        require_folder(Path(self.data), "DIR")
        from compnet3d.data.protocol import load_protocol
        from compnet3d.reporting.data_check import print_check

        protocol = None if self.protocol is None else load_protocol(self.protocol)
        result = check_dataset(self.data, workers=self.workers, progress=True)
        print_check(result)
        if protocol is not None:
            deviations = protocol.deviations({name: counts.images for name, counts in result.categories.items()})
            print(f"{protocol.name}: {'as published' if not deviations else 'deviates'}")
            print(printable("".join(f"- {deviation}\n" for deviation in deviations)), end="")
        if result.exit_code:
            raise SystemExit(result.exit_code)


@dataclass(frozen=True)
class DataOcclude:
    """Write a data set with occluders on its images, and say how much of objects and background they hide."""

    data: Annotated[Positional[Path], arg(metavar="DIR")]
    """The data set, in the ImageNet3D layout."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """The folder to make, new or empty."""
    level: Annotated[Literal["L1", "L2", "L3"], arg(metavar="L1|L2|L3")]
    """How much is hidden: L1, L2 and L3 hide 20-40, 40-60 and 60-80 % of the object."""
    occluders: Occluders = "blobs"
    """What occluders are: coloured blobs, objects of other categories cut out of the train list by their masks, or a
    folder of cut-outs (PNG or WebP with transparency)."""
    protocol: Protocol = "generator"
    """Whose levels: those of Occluded-PASCAL3D+, or of the paper's text (5-15, 25-35 and 45-55 % of the object)."""
    seed: int = 0
    """Seed of the occluders and their places."""
    split: str = "val"
    """Which of the data set's lists to occlude."""
    workers: Count = None
    """Processes that write; one per core by default, fewer for few objects. The images do not depend on it."""
    shard: ShardText = None
    """Do share I of N, for jobs on many machines: in any order, at any time, into one OUT; the last one finishes it."""

    def run(self) -> None:
        """Write the data set."""
        at_least(0, seed=self.seed)
        at_least(1, workers=self.workers)
        require_folder(self.data, "DIR")
        from compnet3d.reporting.terminal import percent
        from compnet3d.robustness.occluded_data import occlude_dataset
        from compnet3d.utils.shards import Shard

        shift = checked_shift(occlusion=self.level, protocol=self.protocol, occluders=self.occluders, seed=self.seed)
        summary = occlude_dataset(
            self.data,
            self.out,
            shift,
            split=self.split,
            workers=self.workers,
            progress=True,
            shard=Shard.parse(self.shard),
        )
        for what in ("object", "background") if summary else ():
            reached = summary[f"hidden_{what}"]
            least, most = percent(reached["min"]), percent(reached["max"])
            print(f"hidden of the {what}: {percent(reached['mean'])} % on average, {least} to {most} %")
        if summary:
            print(f"{summary['images']} images, {summary['outside_range']} of them outside the level's ranges")
        say_made(self.out)


@dataclass(frozen=True)
class DataCorrupt:
    """Write a copy of a data set with the images of one split corrupted in one of the 19 ways of ImageNet-C."""

    data: Annotated[Positional[Path], arg(metavar="DIR")]
    """The data set, in the ImageNet3D layout."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """The folder to make, new or empty."""
    corruption: Annotated[str, arg(metavar="NAME")]
    """Which corruption, such as fog or motion_blur."""
    severity: Severity = 4
    """How strong it is."""
    frost: Folder = None
    """Images of ice for the corruption frost; drawn ice without."""
    seed: int = 0
    """Seed of everything random; the images are those that evaluate would see with it."""
    split: str = "val"
    """Which of the data set's lists to take."""
    workers: Count = None
    """Processes that write; one per core by default, fewer for few objects. The images do not depend on it."""
    shard: ShardText = None
    """Do share I of N, for jobs on many machines: in any order, at any time, into one OUT; the last one finishes it."""

    def run(self) -> None:
        """Write the data set."""
        at_least(0, seed=self.seed)
        at_least(1, workers=self.workers)
        require_folder(self.data, "DIR")
        from compnet3d.robustness.corrupted_data import corrupt_dataset
        from compnet3d.utils.shards import Shard

        shift = checked_shift(corruption=self.corruption, severity=self.severity, frost=self.frost, seed=self.seed)
        count = corrupt_dataset(
            self.data,
            self.out,
            shift,
            split=self.split,
            workers=self.workers,
            progress=True,
            shard=Shard.parse(self.shard),
        )
        say_made(self.out, f" ({count} images)" if self.shard is None else "")


@dataclass(frozen=True)
class Data:
    """Make data sets, import or change one, check one, or look at its annotations."""

    command: (
        Annotated[DataMake, subcommand("make")]
        | Annotated[DataRender, subcommand("render")]
        | Annotated[DataOcclude, subcommand("occlude")]
        | Annotated[DataCorrupt, subcommand("corrupt")]
        | Annotated[DataImport, subcommand("import")]
        | Annotated[DataPack, subcommand("pack")]
        | Annotated[DataCheck, subcommand("check")]
        | Annotated[DataShow, subcommand("show")]
        | Annotated[DataSymmetry, subcommand("symmetry")]
    )

    def run(self) -> None:
        """Run the chosen command."""
        self.command.run()
