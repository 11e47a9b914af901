"""The pictures that a user points at: files, folders, patterns, videos, a camera."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from compnet3d.data.images import IMAGE_FILES, images_in, load_image
from compnet3d.data.video import VIDEO_SUFFIXES, Frame, read_camera, read_video
from compnet3d.errors import CompNetError
from compnet3d.utils.files import is_clutter


@dataclass(frozen=True)
class Picture:
    """One image that can be loaded.

    Attributes:
        name: as the user wrote it: of the file, or of the video or camera that it is a frame of.
        load: reads it, in RGB; raises CompNetError naming the file.
        frame: its number in the video, from 0; time: its time there in seconds. None for an image.
    """

    name: str
    load: Callable[[], Image.Image]
    frame: int | None = None
    time: float | None = None

    @property
    def title(self) -> str:
        """What it is called in messages: frames have their number."""
        return self.name if self.frame is None else f"{self.name}, frame {self.frame}"


@dataclass(frozen=True)
class Source:
    """Where pictures come from.

    Attributes:
        name: a file's path, or camera:NUMBER.
        moving: whether it is a video or a camera.
        live: whether it goes on until it is stopped.
    """

    name: str
    moving: bool = False
    live: bool = False

    def pictures(self, every: int = 1) -> Iterator[Picture]:
        """The image, or every so many-th frame.

        Raises:
            CompNetError: naming the video or the camera, if it cannot be opened or what it is read with is missing.
        """
        if not self.moving:
            yield Picture(self.name, lambda: load_image(self.name))
            return
        frames = read_camera(self.name, every) if self.live else read_video(self.name, every)
        for frame in frames:
            yield Picture(self.name, _loader(frame), frame.number, frame.time)


def _loader(frame: Frame) -> Callable[[], Image.Image]:
    return lambda: frame.image


def find_sources(names: Sequence[str | Path]) -> list[Source]:
    """What each name stands for, every file once.

    A name is a file; a folder, for the images in it and in its folders, sorted; a pattern with *, ? or [], ** for
    folders in between; or a camera: camera, camera:1, or camera:/dev/video1.

    Raises:
        CompNetError: naming what does not exist, or a folder or pattern without an image.
    """
    found: dict[str, Source] = {}
    for name in map(str, names):
        for source in _of_name(name):
            found.setdefault(source.name, source)
    return list(found.values())


def _of_name(name: str) -> list[Source]:
    path = Path(name)
    if name == "camera" or name.startswith("camera:"):
        return [Source(name, moving=True, live=True)]
    if path.is_dir():
        images = images_in(path)
        if not images:
            raise CompNetError(f"{name}: holds no image ({', '.join(IMAGE_FILES)}); give a folder that does")
        return [Source(str(image)) for image in images]
    # a file may have these characters in its name
    if glob.has_magic(name) and not path.exists():
        files = [
            file
            for file in sorted(glob.glob(name, recursive=True))
            if Path(file).is_file() and not is_clutter(Path(Path(file).name))
        ]
        if not files:
            raise CompNetError(f"{name}: matches no file; check the pattern, and quote it")
        return [_of_file(file) for file in files]
    return [_of_file(name)]


def _of_file(name: str) -> Source:
    return Source(name, moving=Path(name).suffix.lower() in VIDEO_SUFFIXES)
