"""A walk round one object: every frame with the object's pose, without anybody typing an angle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image, ImageDraw

from compnet3d.data.annotations import Annotation, annotation_dict
from compnet3d.data.importers.import_data import Record, Source
from compnet3d.data.importers.import_report import LeftOut
from compnet3d.data.importers.names import safe_name
from compnet3d.data.importers.walk_box import Floats, UprightBox, find_box
from compnet3d.data.importers.walk_cameras import Walk, WalkFrame
from compnet3d.errors import CompNetError
from compnet3d.geometry.camera import Pose
from compnet3d.geometry.conversions import intrinsics_to_opencv
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.geometry.mesh import Mesh


@dataclass
class WalkRound(Source):
    """A walk, with what somebody who has looked at the box says of it.

    Attributes:
        root: the walk's folder; walk: what was read from it.
        category: of the object.
        front: name of the frame that sees the front best.
        turn: of the box about its vertical axis, in degrees, counter-clockwise seen from above.
        shift: of the box along its axes (right, back, up), in its diagonals.
        scale: of its sides.
        split: the list that the frames go into: all show one object.
    """

    format: ClassVar[str] = "walk"
    root: Path
    category: str
    front: str
    turn: float = 0.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    split: str = "train"
    walk: Walk = field(init=False, repr=False)

    @classmethod
    def of(cls, walk: Walk, category: str, front: str | None = None, **adjusted: object) -> WalkRound:
        """Of a walk that was read already.

        Args:
            walk: the cameras; category: of the object.
            front: a frame's name, or a part of it that no other has; the first frame by default.
            adjusted: the other attributes.

        Raises:
            CompNetError: if there is no such frame.
        """
        names = [frame.name for frame in walk.frames]
        found = [name for name in names if name == front] or [name for name in names if (front or "") in name]
        if front is not None and len(found) != 1:
            raise CompNetError(
                f"--front {front}: {'several frames' if found else 'no frame'} of the walk are called so; give one of "
                f"{', '.join(names[:: max(1, len(names) // 12)])}"
            )
        made = cls(walk.folder, category, found[0], **adjusted)  # type: ignore[arg-type]
        made.walk = walk
        return made

    @cached_property
    def box(self) -> UprightBox:
        """The object's box in the walk's world.

        Raises:
            CompNetError: if the cameras or their points show no object.
        """
        frames = self.walk.frames
        box = find_box(
            np.stack([frame.rotation for frame in frames]),
            np.stack([frame.centre for frame in frames]),
            self.walk.points,
            next(k for k, frame in enumerate(frames) if frame.name == self.front),
        )
        return box.adjusted(turn=float(np.radians(self.turn)), shift=self.shift, scale=self.scale)

    def items(self) -> tuple[Sequence[WalkFrame], list[LeftOut], list[str]]:
        """The placed frames; the others are left out."""
        left_out: list[LeftOut] = [("camera could not be placed", name) for name in self.walk.lost]
        notes = [f"the front is what {self.front} shows", "masks and model are the object's box"]
        return self.walk.frames, left_out, notes

    def read(self, item: WalkFrame) -> tuple[Sequence[Record], Sequence[LeftOut]]:
        """One frame with its one object."""
        pixels = self._projected(item)
        if pixels is None:
            return (), [("object behind the camera", item.name)]
        low = pixels.min(axis=0).clip(0, (item.width, item.height))
        high = pixels.max(axis=0).clip(0, (item.width, item.height))
        if (high - low).min() < 2:
            return (), [("object outside the image", item.name)]
        # by names: another process has a copy of the frame, and matrices of copies are not compared as a whole
        number = [frame.name for frame in self.walk.frames].index(item.name)
        record = Record(
            category=self.category,
            # one object seen so often, as our readers tell by the name
            name=f"{safe_name(self.root.name.removesuffix('.walk'))}_i000_v{number:03d}",
            splits=(self.split,),
            image=self.root / item.file,
            entries=[(item.name, self._entry(item, (*low, *high)))],
            mask=_filled(pixels, item),
        )
        return [record], []

    def blind(self) -> list[str]:
        """Names of the frames whose cameras do not see the box: where there are many, places or box are wrong."""
        return [frame.name for frame in self.walk.frames if not self.read(frame)[0]]

    def models(self, category: str) -> Mapping[str, Mesh]:
        """The box, of unit diagonal."""
        half = torch.tensor(self.box.size / np.linalg.norm(self.box.size) / 2, dtype=torch.float32)
        return {"01.off": cuboid_mesh(torch.stack([-half, half]), 8).mesh}

    def _in_camera(self, frame: WalkFrame) -> tuple[Floats, Floats]:
        """Object to camera: rotation [3, 3], and where its origin is, in diagonals of the box, [3]."""
        origin = frame.rotation @ self.box.centre + frame.translation
        return frame.rotation @ self.box.axes.T, origin / np.linalg.norm(self.box.size)

    def _projected(self, frame: WalkFrame) -> Floats | None:
        """Where the corners are seen, [8, 2]; None where some are behind the camera."""
        seen = self.box.corners() @ frame.rotation.T + frame.translation
        if (seen[:, 2] <= 1e-6).any():
            return None
        pixels: Floats = (seen @ frame.intrinsics.T)[:, :2] / seen[:, 2:]
        return pixels

    def _entry(self, frame: WalkFrame, bbox: tuple[float, float, float, float]) -> Annotation:
        rotation, origin = self._in_camera(frame)
        intrinsics = torch.from_numpy(frame.intrinsics)
        pose, seen_at = Pose.from_opencv(
            torch.from_numpy(rotation), torch.from_numpy(origin), intrinsics_to_opencv(intrinsics)
        )
        return annotation_dict(
            category=self.category,
            azimuth=float(pose.azimuth),
            elevation=float(pose.elevation),
            theta=float(pose.theta),
            distance=float(pose.distance),
            focal=float(np.sqrt(frame.intrinsics[0, 0] * frame.intrinsics[1, 1])),
            principal_point=(float(seen_at[0]), float(seen_at[1])),
            bbox=bbox,
            width=frame.width,
            height=frame.height,
        )


def _filled(pixels: Floats, frame: WalkFrame) -> np.ndarray:
    """What a box with corners at these pixels [8, 2] covers of an image, bool [H, W]."""
    from scipy.spatial import ConvexHull

    layer = Image.new("1", (frame.width, frame.height))
    outline = pixels[ConvexHull(pixels).vertices] - 0.5  # pixel centres are at +0.5
    ImageDraw.Draw(layer).polygon([(float(x), float(y)) for x, y in outline], fill=1)
    return np.asarray(layer)
