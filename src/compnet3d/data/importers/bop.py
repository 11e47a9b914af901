"""BOP: 6D poses of known objects, in OpenCV's camera frame and millimetres.

- ROOT/models/obj_{id:06d}.ply, ROOT/models/models_info.json
- ROOT/{split}/{scene:06d}/scene_{gt,gt_info,camera}.json, rgb or gray/{image:06d}.*,
  mask_visib/{image:06d}_{n:06d}.png

Each object in an image becomes an image of our layout, since it has a mask of its own. Units stay millimetres. The
object's frame is turned into ours as stated; what is not stated is not guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from compnet3d.data.annotations import SkipObject, annotation_dict
from compnet3d.data.images import image_size
from compnet3d.data.importers.columns import numbers_in
from compnet3d.data.importers.import_data import Record, Source
from compnet3d.data.importers.import_report import LeftOut
from compnet3d.data.importers.names import safe_name
from compnet3d.data.importers.posed_row import RowForm, place_row
from compnet3d.data.shapes.read import load_mesh
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Pose
from compnet3d.geometry.frame import Frame
from compnet3d.geometry.mesh import Mesh
from compnet3d.geometry.rotations import TWO_PI
from compnet3d.utils.files import Json, folders_in, is_file, read_json

_IMAGES = ("rgb", "gray")
_SUFFIXES = (".png", ".jpg", ".tif", ".jpeg", ".JPG")


@dataclass(frozen=True)
class BopItem:
    """One object in an image: its pose and camera as the files state them."""

    category: str
    name: str
    split: str
    image: Path
    mask: Path
    where: str
    rotation: tuple[float, ...]
    translation: tuple[float, ...]
    camera: tuple[float, ...]
    box: tuple[float, ...]


@dataclass
class Bop(Source):
    """A data set of BOP.

    Attributes:
        root: its folder.
        frames: which axes of each object's model point up and to its front, by the object's number; 0: of all others.
        names: of the objects by their numbers, such as 1: ape; obj_000001 by default.
        box: that of the visible part, or of the whole object.
    """

    format: ClassVar[str] = "bop"
    root: Path
    frames: Mapping[int, Frame] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    box: str = "bbox_obj"

    def items(self) -> tuple[Sequence[BopItem], list[LeftOut], list[str]]:
        """The objects of all scenes."""
        found: list[BopItem] = []
        left_out: list[LeftOut] = []
        for folder in folders_in(self.root):
            for scene in [folder, *folders_in(folder)]:
                if is_file(scene / "scene_gt.json"):
                    items, more = self._scene(scene, folder.name)
                    found += items
                    left_out += more
        if not found:
            raise CompNetError(f"{self.root}: has no object in SPLIT/SCENE/scene_gt.json")
        notes = []
        if 0 not in self.frames and any(self._number(item.category) not in self.frames for item in found):
            notes.append("models without --axes are taken to be in our frame: x right, y backward, z up")
        return found, left_out, notes

    def _scene(self, scene: Path, part: str) -> tuple[list[BopItem], list[LeftOut]]:
        truth, cameras = read_json(scene / "scene_gt.json"), read_json(scene / "scene_camera.json")
        info = read_json(scene / "scene_gt_info.json") if is_file(scene / "scene_gt_info.json") else {}
        split = "train" if part.startswith("train") else "val"
        found: list[BopItem] = []
        left_out: list[LeftOut] = []
        if not all(isinstance(values, dict) for values in (truth, cameras, info)):
            raise CompNetError(f"{scene}/scene_gt.json: is not a table of images; restore it")
        for image, objects in truth.items():
            for place, entry in enumerate(objects if isinstance(objects, list) else ()):
                where = f"{scene / 'scene_gt.json'}, image {image[:20]}, object {place}"
                try:
                    number = int(entry["obj_id"])
                    box = tuple(numbers_in(info[image][place][self.box])) if image in info else ()
                    stem = f"{int(image):06d}_{place:06d}"
                    item = BopItem(
                        self._category(number), f"{part}_{scene.name}_{stem}", split,
                        _image(scene, int(image)), scene / "mask_visib" / f"{stem}.png", where,
                        tuple(numbers_in(entry["cam_R_m2c"])), tuple(numbers_in(entry["cam_t_m2c"])),
                        tuple(numbers_in(cameras[image]["cam_K"])), box,
                    )  # fmt: skip
                    found.append(item)
                except (KeyError, IndexError, TypeError, ValueError, OverflowError):
                    left_out.append(("object without pose, camera or box", where))
        return found, left_out

    def read(self, item: BopItem) -> tuple[Sequence[Record], Sequence[LeftOut]]:
        """The object with its mask."""
        if not is_file(item.image):
            return (), [("missing image", str(item.image))]
        if not np.isfinite(item.rotation).all():
            return (), [("rotation is not finite", item.where)]
        turned = self._frame(item.category).rotation()
        try:
            size = image_size(item.image)
            # X is in the file's axes, ours is turned X: R X = (R turned') (turned X)
            rotation = np.array(item.rotation).reshape(3, 3) @ turned.T
            values: Json = {
                "rotation": rotation.tolist(),
                "translation": list(item.translation),
                "camera": list(item.camera),
                "box_xywh": list(item.box),
            }
            placed = place_row(values, RowForm(convention="opencv"), size)
        except SkipObject as reason:
            return (), [(str(reason), item.where)]
        except (CompNetError, ValueError):
            return (), [("unreadable image or pose", item.where)]
        if placed.box is None or placed.distance is None or placed.principal_point is None:
            return (), [("no box", item.where)]
        pose = Pose.from_matrix(placed.rotmat)
        entry = annotation_dict(
            category=item.category,
            azimuth=float(pose.azimuth),
            elevation=float(pose.elevation),
            theta=float(pose.theta),
            distance=placed.distance,
            focal=placed.focal,
            principal_point=placed.principal_point,
            bbox=placed.box,
            width=size[0],
            height=size[1],
        )
        entry["camera_matrix"] = placed.camera
        mask = item.mask if is_file(item.mask) else None
        return [Record(item.category, item.name, (item.split,), item.image, [(item.where, entry)], mask)], []

    def models(self, category: str) -> Mapping[str, Path | Mesh]:
        """The object's model, turned into our frame."""
        path = self.root / "models" / f"obj_{self._number(category):06d}.ply"
        if not is_file(path):
            return {}
        mesh = load_mesh(path)
        turned = self._frame(category).turned(mesh.vertices.double().numpy())
        return {"01.off": Mesh(mesh.vertices.new_tensor(turned), mesh.faces)}

    def symmetry(self) -> Json:
        """Of the symmetries in `models_info.json`, the turns about the axis that points up.

        Raises:
            CompNetError: if the file is broken.
        """
        path = self.root / "models" / "models_info.json"
        found: Json = {}
        try:
            for number, info in (read_json(path) if is_file(path) else {}).items():
                category = self._category(int(number))
                order = _order_about_up(info, self._frame(category).rotation())
                if order != 1:
                    found[category] = {"z": order or "continuous"}
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            raise CompNetError(f"{path}: its symmetries are not as BOP writes them; restore it") from None
        return found

    def _category(self, number: int) -> str:
        return self.names.get(number, f"obj_{number:06d}")

    def _frame(self, category: str) -> Frame:
        return self.frames.get(self._number(category), self.frames.get(0, Frame()))

    def _number(self, category: str) -> int:
        named = {name: number for number, name in self.names.items()}
        return named[category] if category in named else int(category.removeprefix("obj_"))


def _image(scene: Path, number: int) -> Path:
    paths = [scene / folder / f"{number:06d}{suffix}" for folder in _IMAGES for suffix in _SUFFIXES]
    return next((path for path in paths if is_file(path)), paths[0])


def _order_about_up(info: Json, turned: np.ndarray) -> int:
    """How many turns about the up axis change nothing, as an entry of `models_info.json` states: 0 for all of them.

    An axis counts as the up axis within 2 degrees, if a turn about it moves the object by a twentieth of its diameter
    at most.

    Args:
        info: the entry; turned: from its axes to ours, float64 [3, 3].
    """
    upright, most = math.cos(math.radians(2)), 0.05 * float(info.get("diameter", math.inf))
    for entry in info.get("symmetries_continuous", ()):
        axis, offset = (turned @ np.array(list(numbers_in(entry[name])), dtype=float) for name in ("axis", "offset"))
        if abs(axis[2]) >= upright * np.linalg.norm(axis) > 0 and np.linalg.norm(offset[:2]) <= most:
            return 0
    order = 1
    for entry in info.get("symmetries_discrete", ()):
        matrix = np.array(list(numbers_in(entry)), dtype=float).reshape(4, 4)
        rotmat, shift = turned @ matrix[:3, :3] @ turned.T, turned @ matrix[:3, 3]
        if rotmat[2, 2] < upright or np.linalg.norm(shift[:2]) > most:
            continue
        turn = math.atan2(rotmat[1, 0], rotmat[0, 0])
        # the smallest number of such turns that make whole ones
        own = next((n for n in range(1, 37) if abs(math.remainder(n * turn, TWO_PI)) < 0.005 * n), 1)
        order = math.lcm(order, own)
    return order if order <= 360 else 0


def parse_frames(axes: Sequence[str]) -> dict[int, Frame]:
    """The axes that UP,FRONT (of all objects) and OBJECT=UP,FRONT state.

    Raises:
        CompNetError: if one is written otherwise.
    """
    frames: dict[int, Frame] = {}
    for text in axes:
        number, equals, pair = text.rpartition("=")
        words = pair.split(",")
        if len(words) != 2 or (equals and not number.isdecimal()):
            raise CompNetError(f"--axes {text}: write UP,FRONT or OBJECT=UP,FRONT, such as z,-y or 5=y,z")
        frames[int(number) if equals else 0] = Frame(words[0], words[1])  # type: ignore[arg-type]  # checked there
    return frames


def parse_names(names: Sequence[str]) -> dict[int, str]:
    """The names that OBJECT=NAME states.

    Raises:
        CompNetError: if one is written otherwise.
    """
    found: dict[int, str] = {}
    for text in names:
        number, _, name = text.partition("=")
        if not number.isdecimal() or not name or safe_name(name) in found.values():
            raise CompNetError(f"--names {text}: write OBJECT=NAME, such as 1=ape, with a name for one object")
        found[int(number)] = safe_name(name)
    return found
