"""Cameras of a walk round an object: frames of a video or photographs, placed by COLMAP (the extra `sfm`).

A walk is kept in a folder of its own, because placing the cameras takes minutes and the object's box is looked at
afterwards: `images/{width}x{height}/{name}.jpg`, upright and without the lens's distortion, and `cameras.json`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from compnet3d.data.images import images_in, load_image, shrink
from compnet3d.data.importers.names import unique_names
from compnet3d.data.importers.walk_box import Floats
from compnet3d.data.video import VIDEO_SUFFIXES, read_video
from compnet3d.errors import CompNetError
from compnet3d.utils.exclusive import building
from compnet3d.utils.files import Json, read_json, write_bytes, write_json
from compnet3d.utils.progress import tracked

CAMERAS_FILE = "cameras.json"
_FEWEST = 8
# points that two cameras see at a narrow angle, or that are off where they should be seen, are no use for a box
_VIEWS, _PIXELS = 3, 2.0


@dataclass(frozen=True)
class WalkFrame:
    """One image of a walk.

    Attributes:
        name: without suffix; file: in the walk's folder.
        width, height: in pixels.
        intrinsics: camera matrix, pixel centres at +0.5, [3, 3].
        rotation, translation: world to camera in OpenCV's axes, [3, 3] and [3].
    """

    name: str
    file: str
    width: int
    height: int
    intrinsics: Floats
    rotation: Floats
    translation: Floats

    @property
    def centre(self) -> Floats:
        """Where the camera stands in the world, [3]."""
        centre: Floats = -self.rotation.T @ self.translation
        return centre


@dataclass(frozen=True)
class Walk:
    """The placed cameras of a walk.

    Attributes:
        folder: of the walk.
        frames: those that could be placed, in their order.
        points: that they saw, in the world, [P, 3].
        lost: names of frames that could not be placed.
    """

    folder: Path
    frames: tuple[WalkFrame, ...]
    points: Floats
    lost: tuple[str, ...]


def place_cameras(
    source: Path, folder: Path, *, frames: int = 60, say: Callable[[str], None] = lambda _: None, progress: bool = False
) -> Walk:
    """Read the frames and place their cameras; a folder that holds them already is only read.

    Args:
        source: a video, or a folder of photographs.
        folder: of the walk, new or empty, or of an earlier call with the same source and number.
        frames: how many are taken at most: of a video the sharpest of as many equal parts.
        say: is told what is being done.
        progress: draw progress bars on stderr.

    Raises:
        CompNetError: if the source cannot be read, or has too few frames; if too few cameras could be placed; if the
            folder holds something else; if pycolmap is missing.
    """
    settings = {"source": str(source.resolve()), "frames": frames}
    if (folder / CAMERAS_FILE).is_file():
        return _read(folder, settings)
    colmap = _colmap()
    with building(folder) as new:
        names = []
        for name, image in _frames_of(source, frames, progress):
            names.append(name)
            _write_frame(new, name, image)
        if len(names) < _FEWEST:
            raise CompNetError(
                f"{source}: has {len(names)} images; at least {_FEWEST} are needed, 30 or more are better"
            )
        write_json(new / CAMERAS_FILE, settings | _placed(colmap, new, names, source, say))
    return _read(folder, settings)


def _read(folder: Path, settings: Json) -> Walk:
    path = folder / CAMERAS_FILE
    values = read_json(path)
    try:
        if {key: values[key] for key in settings} != settings:
            raise CompNetError(
                f"{folder}: holds another walk, of {values['source']!r:.200}; remove it or choose another OUT"
            )
        frames = tuple(map(_frame, values["placed"]))
        if len(frames) < _FEWEST or len({frame.name for frame in frames}) < len(frames):
            raise ValueError("too few frames, or two of one name")
        points = _floats(values["points"], (len(values["points"]), 3)) if values["points"] else np.zeros((0, 3))
        return Walk(folder, frames, points, tuple(map(_text, values["lost"])))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CompNetError(
            f"{path}: holds no cameras of this version; remove its folder and place them again"
        ) from None


def _frame(entry: Json) -> WalkFrame:
    """An entry of the file as a frame; ValueError, TypeError or KeyError where it is none."""
    size = entry["width"], entry["height"]
    intrinsics, rotation = (_floats(entry[key], (3, 3)) for key in ("intrinsics", "rotation"))
    file = PurePosixPath(_text(entry["file"]))
    if not all(type(side) is int and 0 < side < 2**16 for side in size) or file.is_absolute() or ".." in file.parts:
        raise ValueError("no size, or a file elsewhere")
    # what is not the focal lengths and the principal point is fixed; a rotation's transpose is its inverse
    fixed = intrinsics[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]] - [0, 0, 0, 0, 1]
    if min(intrinsics[0, 0], intrinsics[1, 1]) < 1 or np.abs(fixed).max() > 1e-9:
        raise ValueError("no camera matrix")
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-6 or np.linalg.det(rotation) < 0:
        raise ValueError("no rotation")
    return WalkFrame(_text(entry["name"]), str(file), *size, intrinsics, rotation, _floats(entry["translation"], (3,)))


def _floats(value: object, shape: tuple[int, ...]) -> Floats:
    numbers = np.array(value, dtype=float)
    limit = 1e9
    if numbers.shape != shape or not (np.abs(numbers) < limit).all():  # NaN is not, either
        raise ValueError(f"not {shape} numbers")
    return numbers


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


# -- frames ----------------------------------------------------------------------------------------------------------


def _frames_of(source: Path, most: int, progress: bool) -> Iterator[tuple[str, Image.Image]]:
    if source.is_dir():
        paths = images_in(source)
        chosen = [
            paths[k] for k in np.unique(np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int))
        ]
        names = unique_names(path.relative_to(source).as_posix() for path in chosen)
        pairs = zip(chosen, names.values(), strict=True)
        for path, name in tracked(pairs, "reading photographs", enabled=progress, total=len(chosen)):
            yield name, load_image(path)
    elif source.suffix.lower() in VIDEO_SUFFIXES:
        wanted = set(_sharpest(source, most, progress))
        for frame in tracked(read_video(source), "reading frames", enabled=progress):
            if frame.number in wanted:
                yield f"{frame.number:06d}", frame.image
    else:
        raise CompNetError(
            f"{source}: is no video and no folder; give a video, or a folder of photographs of one object"
        )


def _sharpest(video: Path, most: int, progress: bool) -> list[int]:
    """Numbers of the sharpest frame in each of so many equal parts: a hand that walks blurs some of them."""
    edges = ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=1, offset=128)
    sharpness = [
        float(np.asarray(shrink(frame.image, 640).convert("L").filter(edges), dtype=np.float32)[1:-1, 1:-1].var())
        for frame in tracked(read_video(video), "looking for sharp frames", enabled=progress)
    ]
    parts = np.array_split(np.arange(len(sharpness)), min(most, len(sharpness)))
    return [int(part[np.argmax([sharpness[k] for k in part])]) for part in parts]


def _write_frame(folder: Path, name: str, image: Image.Image) -> None:
    # of a frame's longer side, in pixels: more makes features slow and cameras no better
    longest = 1600
    image = shrink(image, longest)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95)
    target = folder / "images" / f"{image.width}x{image.height}" / f"{name}.jpg"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, stream.getvalue())


# -- cameras ---------------------------------------------------------------------------------------------------------


def _colmap() -> Any:
    try:
        import pycolmap
    except ImportError:
        raise CompNetError('a walk needs pycolmap; install it: pip install "compnet3d[sfm]"') from None
    # its account of every step would stand between our own lines
    pycolmap.logging.minloglevel = int(pycolmap.logging.FATAL)
    return pycolmap


def _placed(colmap: Any, folder: Path, names: Sequence[str], source: Path, say: Callable[[str], None]) -> Json:
    """What `cameras.json` says of frames and points."""
    images, database = folder / "images", folder / "features.db"
    model = _largest_model(colmap, images, database, folder / "colmap", say)
    placed = sorted(model.images.values(), key=lambda image: Path(image.name).stem) if model is not None else []
    if len(placed) < max(_FEWEST, len(names) // 2):
        raise CompNetError(
            f"{source}: only {len(placed)} of {len(names)} images could be placed; take more of them, closer together "
            "and sharp, round an object with something to see on it and about it, all with one camera"
        )
    database.unlink()
    cameras = {key: _straightened(colmap, camera) for key, camera in model.cameras.items()}
    entries = []
    for image in placed:
        straight, options = cameras[image.camera_id]
        if options is not None:
            _straighten(colmap, images / image.name, model.cameras[image.camera_id], options)
        pose = image.cam_from_world()
        entries.append(
            {
                "name": Path(image.name).stem,
                "file": f"images/{image.name}",
                "width": straight.width,
                "height": straight.height,
                "intrinsics": straight.calibration_matrix().tolist(),
                "rotation": pose.rotation.matrix().tolist(),
                "translation": pose.translation.tolist(),
            }
        )
    points = [p.xyz.tolist() for p in model.points3D.values() if p.track.length() >= _VIEWS and p.error < _PIXELS]
    there = {entry["name"] for entry in entries}
    return {"placed": entries, "points": points, "lost": [name for name in names if name not in there]}


def _largest_model(colmap: Any, images: Path, database: Path, work: Path, say: Callable[[str], None]) -> Any:
    """The reconstruction with the most images; None where there is none."""
    colmap.set_random_seed(0)
    say("finding points to recognise")
    # one camera for each size: a phone that was turned has two
    reader = colmap.ImageReaderOptions()
    reader.camera_model = "SIMPLE_RADIAL"
    extraction, matching = colmap.FeatureExtractionOptions(), colmap.FeatureMatchingOptions()
    extraction.use_gpu = matching.use_gpu = False
    colmap.extract_features(
        database,
        images,
        camera_mode=colmap.CameraMode.PER_FOLDER,
        reader_options=reader,
        extraction_options=extraction,
    )
    say("recognising them in other frames")
    colmap.match_exhaustive(database, matching_options=matching)
    say("placing the cameras")
    work.mkdir()
    options = colmap.IncrementalPipelineOptions()
    options.random_seed = 0
    models = colmap.incremental_mapping(database, images, work, options=options)
    return max(models.values(), key=lambda model: model.num_reg_images(), default=None)


def _straightened(colmap: Any, camera: Any) -> tuple[Any, Any]:
    """The camera without its distortion, and how images are made so; None for the latter where it does not show."""
    half = np.hypot(camera.width, camera.height) / 2
    focal, distortion = float(camera.params[0]), float(camera.params[3])
    # at the corners, in pixels
    if abs(distortion) * half**3 / focal**2 < 0.5:
        return camera, None
    options = colmap.UndistortCameraOptions()
    return colmap.undistort_camera(options, camera), options


def _straighten(colmap: Any, path: Path, camera: Any, options: Any) -> None:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    straight, _ = colmap.undistort_image(options, colmap.Bitmap.from_array(pixels), camera)
    stream = io.BytesIO()
    Image.fromarray(straight.to_array()).save(stream, "JPEG", quality=95)
    write_bytes(path, stream.getvalue())
