"""Videos and cameras, read and written by PyAV (the extra `video`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

from compnet3d.errors import CompNetError

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
_OWN = "compnet3d"


@dataclass(frozen=True)
class Frame:
    """One image of a video: its number from 0, its time in seconds, and its pixels in RGB, upright."""

    number: int
    time: float
    image: Image.Image


def read_video(path: str | Path, every: int = 1) -> Iterator[Frame]:
    """Every so many-th frame of a video's first picture track, one at a time.

    Raises:
        CompNetError: naming the file, if it cannot be opened, has no pictures, is cut short, or its frames are larger
            than 40 megapixels; or if PyAV is missing.
    """
    if not Path(path).exists():
        raise CompNetError(f"{path} does not exist; check the path.")
    yield from _frames(str(path), None, every)


def read_camera(name: str, every: int = 1) -> Iterator[Frame]:
    """Every so many-th frame of a camera until it is given up: `camera`, `camera:1` or `camera:/dev/video1`.

    Raises:
        CompNetError: naming the camera, if it cannot be opened; or if PyAV is missing.
    """
    device = name.partition(":")[2] or "0"
    device, system = _camera_device(device)
    yield from _frames(device, system, every, name)


def _camera_device(device: str, platform: str = sys.platform) -> tuple[str, str]:
    """What FFmpeg calls a camera, and the system that it is asked through."""
    if platform == "darwin":
        return device, "avfoundation"
    if platform == "win32":
        if device.isdigit():
            raise CompNetError(f"camera:{device}: Windows knows cameras by name; write camera:NAME OF THE CAMERA")
        return f"video={device}", "dshow"
    return (f"/dev/video{device}" if device.isdigit() else device), "v4l2"


def _frames(file: str, system: str | None, every: int, name: str | None = None) -> Iterator[Frame]:
    most_pixels = 40_000_000  # of a frame: 8K has 33 megapixels
    av, shown = _pyav(), name or file
    with _explained(shown), av.open(file, format=system) as container:
        if not container.streams.video:
            raise CompNetError(f"{shown}: has no pictures; give a video or an image")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise CompNetError(f"{shown}: its pictures are of a kind that is not known; convert it to H.264")
        stream.thread_type = "AUTO"
        if stream.width * stream.height > most_pixels:
            raise CompNetError(
                f"{shown}: its frames have {stream.width} x {stream.height} pixels, more than the limit of "
                f"{most_pixels // 10**6} megapixels; shrink them first"
            )
        for number, frame in enumerate(container.decode(stream)):
            if number % every:
                continue
            # telephones write how they were held beside the pixels, counter-clockwise in degrees
            turned = frame.to_image().rotate(getattr(frame, "rotation", 0) or 0, expand=True)
            yield Frame(number, float(frame.time or 0.0), turned)


class VideoWriter:
    """Writes frames of one size as H.264 in MP4, which every browser and player shows.

    Used as a context; the file is there in whole when the context ends, or not at all.
    """

    def __init__(self, path: str | Path, rate: float) -> None:
        """A video with so many frames a second.

        Raises:
            CompNetError: if PyAV is missing, or the file cannot be written.
        """
        self._path, self._av = Path(path), _pyav()
        self._part = self._path.with_name(f".{self._path.name}.part")
        self._rate = Fraction(rate).limit_denominator(1000)
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> VideoWriter:
        with _explained(str(self._path), "written"):
            self._container = self._av.open(str(self._part), "w", format="mp4")
            self._container.metadata["comment"] = _OWN
        return self

    def write(self, image: Image.Image) -> None:
        """Add a frame; those after the first are scaled to its size."""
        with _explained(str(self._path), "written"):
            if self._stream is None:
                self._stream = self._container.add_stream("libx264", rate=self._rate)
                # H.264 halves the colours' resolution, so that both sides must be even
                self._stream.width, self._stream.height = (max(2, side - side % 2) for side in image.size)
                self._stream.pix_fmt = "yuv420p"
            size = (self._stream.width, self._stream.height)
            fitted = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
            self._container.mux(self._stream.encode(self._av.VideoFrame.from_image(fitted)))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            with _explained(str(self._path), "written"):
                if self._stream is not None:
                    self._container.mux(self._stream.encode())
                self._container.close()
                # what was drawn before Ctrl-C is a whole video, too
                if self._stream is not None and (kind is None or issubclass(kind, KeyboardInterrupt)):
                    self._part.replace(self._path)
        finally:
            self._part.unlink(missing_ok=True)


def frame_rate(path: str | Path) -> float:
    """Frames a second of a video; 25 where it does not tell.

    Raises:
        CompNetError: see `read_video`.
    """
    av = _pyav()
    with _explained(str(path)), av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate if container.streams.video else None
        return float(rate) if rate else 25.0


def is_own_video(path: str | Path) -> bool:
    """Whether a `VideoWriter` has written a file."""
    av = _pyav()
    try:
        with av.open(str(path)) as container:
            return bool(container.metadata.get("comment") == _OWN)
    except (av.FFmpegError, OSError, UnicodeDecodeError):
        return False


def _pyav() -> Any:
    try:
        import av
    except ImportError:
        raise CompNetError('videos and cameras need PyAV; install it: pip install "compnet3d[video]"') from None
    # its notes on odd files would stand between our own lines
    av.logging.set_level(av.logging.PANIC)
    return av


@contextmanager
def _explained(name: str, done: str = "read") -> Iterator[None]:
    """What FFmpeg raises in here becomes a sentence that names the file."""
    av = _pyav()
    try:
        yield
    except (av.FFmpegError, OSError, UnicodeDecodeError) as error:  # the last for names in damaged files
        advice = "give a whole video, or a camera that is there" if done == "read" else "choose another file"
        raise CompNetError(
            f"{name}: cannot be {done} ({getattr(error, 'strerror', None) or error}); {advice}"
        ) from error
