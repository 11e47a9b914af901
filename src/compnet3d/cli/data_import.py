"""`compnet3d data import FORMAT SRC OUT`: data sets of other formats, written in our layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg, subcommand

from compnet3d.cli.options import Count, File, Flag, Folder, Names, ShardText, at_least, require_folder, say_made
from compnet3d.errors import CompNetError

if TYPE_CHECKING:
    from compnet3d.data.importers.import_data import Source

_CONVENTION = arg(metavar="compnet3d|opencv|opengl|blender|pytorch3d", help_behavior_hint="")


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
    shard: ShardText = None
    """Do share I of N, for jobs on many machines: in any order, at any time, into one OUT; the last one finishes it."""

    def convert(self, source: Source) -> None:
        """Import, and say what was left out."""
        at_least(1, workers=self.workers)
        from compnet3d.data.importers.import_data import import_data
        from compnet3d.data.importers.recognise import check_format
        from compnet3d.utils.shards import Shard

        check_format(self.src, source.format)
        shard = Shard.parse(self.shard)
        report = import_data(source, self.out, link=self.link, workers=self.workers, progress=True, shard=shard)
        print(report)
        say_made(self.out)


@dataclass(frozen=True, kw_only=True)
class _ImportRows(_Import):
    """What the formats with poses in a table have in common."""

    angles: Annotated[Literal["degrees", "radians"] | None, arg(metavar="degrees|radians", help_behavior_hint="")] = (
        None
    )
    """Unit of columns azimuth, elevation and theta; needless for azimuth_deg, azimuth_rad and so on."""
    convention: Annotated[Literal["compnet3d", "opencv", "opengl", "blender", "pytorch3d"] | None, _CONVENTION] = None
    """Of rotations (nine numbers, row by row) and quaternions: from the object to the camera in the axes of compnet3d,
    OpenCV, OpenGL or PyTorch3D, or Blender's matrix_world of the camera; the same for translations."""
    quaternion: Annotated[Literal["wxyz", "xyzw"] | None, arg(metavar="wxyz|xyzw", help_behavior_hint="")] = None
    """Order of a column quaternion; needless for quaternion_wxyz, quaternion_xyzw or qw, qx, qy, qz."""
    focal: Annotated[float | None, arg(metavar="PIXELS", help_behavior_hint="")] = None
    """Focal length of all images, where the table has none; 1.2 times the longer side by default."""
    columns: Names = ()
    """Columns with unusual names, as MEANING=COLUMN: image=photo azimuth_deg=heading."""
    cad: Folder = None
    """Folder with one folder of CAD models per category (x right, y backward, z up)."""
    sizes: File = None
    """Table with columns category, width, depth, height, for categories without CAD models; else boxes are fitted."""


@dataclass(frozen=True, kw_only=True)
class ImportTable(_ImportRows):
    """A table (CSV, TSV or JSON lines) with a line for each object: image, category, box and pose."""

    box: Literal["xyxy", "xywh"] = "xyxy"
    """What a column box holds: two corners, or a corner and two sides; needless for x1, y1, x2, y2 or x, y, w, h."""
    relative: Flag = False
    """Boxes are in shares of the image's sides, not in pixels."""
    category: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """The category of all lines, where the table has none."""
    images: Folder = None
    """Folder that the images and masks are relative to; that of the table by default."""

    def run(self) -> None:
        """Import."""
        from compnet3d.data.importers.posed_row import RowForm
        from compnet3d.data.importers.shapes import Shapes
        from compnet3d.data.importers.table import Table

        require_folder(self.cad, "--cad")
        require_folder(self.images, "--images")
        form = RowForm(self.angles, self.convention, self.quaternion, self.box, self.relative, self.focal)
        shapes = Shapes(self.cad, self.sizes)
        self.convert(Table(self.src, form, shapes, self.images, self.columns, self.category))


@dataclass(frozen=True, kw_only=True)
class ImportImageNet3d(_Import):
    """ImageNet3D: the raw download, as far as it is complete, or either layout that its tools make of it."""

    cad: Folder = None
    """The folder with the CAD models, one folder for each category; CAD in SRC by default."""

    def run(self) -> None:
        """Import."""
        from compnet3d.data.importers.imagenet3d_layouts import ImageNet3dSource

        require_folder(self.cad, "--cad")
        self.convert(ImageNet3dSource(self.src, self.cad))


@dataclass(frozen=True, kw_only=True)
class ImportOodCv(_Import):
    """OOD-CV: the train split, one split for each of the five shifts, and all of them together as val."""

    cad: Folder = None
    """The folder with the CAD models, one folder for each category; CAD in SRC by default."""

    def run(self) -> None:
        """Import."""
        from compnet3d.data.importers.ood_cv import OodCv

        require_folder(self.cad, "--cad")
        self.convert(OodCv(self.src, self.cad))


@dataclass(frozen=True, kw_only=True)
class ImportObjectNet3d(_Import):
    """ObjectNet3D: all objects of its 100 categories."""

    cad: Folder = None
    """The folder with the CAD models, one folder for each category; CAD/off or CAD in SRC by default."""

    def run(self) -> None:
        """Import."""
        from compnet3d.data.importers.objectnet3d import ObjectNet3d

        require_folder(self.cad, "--cad")
        self.convert(ObjectNet3d(self.src, self.cad))


@dataclass(frozen=True, kw_only=True)
class ImportCoco(_ImportRows):
    """Boxes and segmentations of a COCO file, with poses in a table: annotation_id or image_id, and a pose."""

    poses: Annotated[Path, arg(metavar="FILE")]
    """The table (.csv, .tsv, .jsonl); its columns are those of `data import table`."""
    images: Folder = None
    """Folder that the images are relative to; that of the COCO file by default."""

    def run(self) -> None:
        """Import."""
        from compnet3d.data.importers.coco import Coco
        from compnet3d.data.importers.posed_row import RowForm
        from compnet3d.data.importers.shapes import Shapes

        require_folder(self.cad, "--cad")
        require_folder(self.images, "--images")
        form = RowForm(self.angles, self.convention, self.quaternion, "xywh", focal=self.focal)
        self.convert(Coco(self.src, self.poses, form, Shapes(self.cad, self.sizes), self.images, self.columns))


@dataclass(frozen=True, kw_only=True)
class ImportBop(_Import):
    """BOP: 6D poses of known objects; each object in an image becomes an image of its own, with its mask."""

    axes: Names = ()
    """Axes of the models that point up and to the front, as UP,FRONT for all or OBJECT=UP,FRONT for one: z,-y 5=y,z.
    Ours are z,-y, which is what is taken where nothing is said."""
    names: Names = ()
    """Names of the objects, as OBJECT=NAME: 1=ape 5=can; obj_000001 and so on by default."""
    visible_box: Flag = False
    """Boxes around what is visible of the objects, not around the whole objects."""

    def run(self) -> None:
        """Import."""
        from compnet3d.data.importers.bop import Bop, parse_frames, parse_names

        box = "bbox_visib" if self.visible_box else "bbox_obj"
        self.convert(Bop(self.src, parse_frames(self.axes), parse_names(self.names), box))


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


@dataclass(frozen=True, kw_only=True)
class ImportWalk(_Import):
    """A walk round one object, a video or photographs: cameras are placed, you look at the box, then confirm it."""

    category: Annotated[str, arg(metavar="NAME")]
    """Of the object."""
    confirm: Flag = False
    """The box in OUT.walk/box.jpg is right: write the data set."""
    front: Annotated[str | None, arg(metavar="FRAME", help_behavior_hint="")] = None
    """The frame that sees the front best, by its name in box.jpg; the first one by default."""
    turn: Annotated[float, arg(metavar="DEGREES")] = 0.0
    """Turn the box about its vertical axis, counter-clockwise seen from above."""
    shift: Annotated[tuple[float, float, float], arg(metavar="X Y Z")] = (0.0, 0.0, 0.0)
    """Move the box to its right, back and up, in lengths of its diagonal."""
    scale: Annotated[tuple[float, float, float], arg(metavar="X Y Z")] = (1.0, 1.0, 1.0)
    """Make the box wider, deeper, higher by these factors."""
    frames: Annotated[int, arg(metavar="N")] = 60
    """How many images are taken at most; of a video the sharpest ones."""
    split: Literal["train", "val"] = "train"
    """The list that they go into: all show one object, so that a test needs a walk round another."""

    def run(self) -> None:
        """Place the cameras, draw the box, and write what was confirmed."""
        at_least(8, frames=self.frames)
        if min(self.scale) <= 0:
            raise CompNetError("--scale takes factors above 0")
        from compnet3d.data.importers.recognise import check_format
        from compnet3d.data.importers.walk import WalkRound
        from compnet3d.data.importers.walk_cameras import place_cameras
        from compnet3d.reporting.walk_sheet import write_walk_sheet

        check_format(self.src, "walk")
        folder = self.out.with_name(f"{self.out.name}.walk")
        walk = place_cameras(self.src, folder, frames=self.frames, say=print, progress=True)
        source = WalkRound.of(
            walk,
            self.category,
            self.front,
            turn=self.turn,
            shift=self.shift,
            scale=self.scale,
            split=self.split,
        )
        sheet = folder / "box.jpg"
        write_walk_sheet(sheet, source)
        if self.confirm:
            self.convert(source)
            return
        placed, size = len(walk.frames), source.box.size / source.box.size.max()
        print(f"{placed} of {placed + len(walk.lost)} cameras placed; the box is {size[0]:.2f} wide, ", end="")
        print(f"{size[1]:.2f} deep and {size[2]:.2f} high")
        if blind := source.blind():
            print(
                f"{len(blind)} cameras do not see it, such as {blind[0]}: take more frames, closer together (--frames)"
            )
        print(f"look at {sheet}: the box must hold the object, and the green arrow leave its front")
        print("where it is right, give the command again with --confirm; else with --front, --turn, --shift or --scale")


@dataclass(frozen=True)
class DataImport:
    """Write a data set of another format in the ImageNet3D layout; what was left out, and why, is reported."""

    command: (
        Annotated[ImportTable, subcommand("table")]
        | Annotated[ImportImageNet3d, subcommand("imagenet3d")]
        | Annotated[ImportOodCv, subcommand("ood-cv")]
        | Annotated[ImportObjectNet3d, subcommand("objectnet3d")]
        | Annotated[ImportCoco, subcommand("coco")]
        | Annotated[ImportBop, subcommand("bop")]
        | Annotated[ImportPascal3d, subcommand("pascal3d")]
        | Annotated[ImportOccludedPascal3d, subcommand("occluded-pascal3d")]
        | Annotated[ImportWalk, subcommand("walk")]
    )

    def run(self) -> None:
        """Run the chosen import."""
        self.command.run()
