"""The cameras of a walk, and videos, to break and to read."""

from __future__ import annotations

import io
import json
from pathlib import Path

from tools.fuzz.mutate import Seed


def walk_seeds(folder: Path) -> list[Seed]:
    """Cameras on a circle, as pycolmap's were written."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    placed = []
    for number, turn in enumerate(np.linspace(0, 2 * np.pi, 8, endpoint=False)):
        centre = np.array([4 * np.sin(turn), -4 * np.cos(turn), 2.0])
        forward = -centre / np.linalg.norm(centre)
        right = np.array([np.cos(turn), np.sin(turn), 0.0])
        rotation = np.stack([right, np.cross(forward, right), forward])
        file = f"images/48x36/{number}.jpg"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 36)).save(folder / file)
        placed.append(
            {
                "name": str(number), "file": file, "width": 48, "height": 36,
                "intrinsics": [[40, 0, 24], [0, 40, 18], [0, 0, 1]],
                "rotation": rotation.tolist(), "translation": (-rotation @ centre).tolist(),
            }
        )  # fmt: skip
    object_points = rng.uniform((-0.5, -0.4, 0), (0.5, 0.4, 0.6), (60, 3))
    ground = np.column_stack([rng.uniform(-2, 2, (60, 2)), np.zeros(60)])
    points = np.concatenate([object_points, ground]).round(3).tolist()
    settings = {"source": str((folder / "photographs").resolve()), "frames": 60}
    values = settings | {"placed": placed, "points": points, "lost": ["9"]}
    return [Seed("cameras.json", json.dumps(values).encode(), "json")]


def read_walk(folder: Path) -> None:
    """Every frame as records, and the box as a model."""
    from compnet3d.data.importers.walk import WalkRound
    from compnet3d.data.importers.walk_cameras import place_cameras

    source = WalkRound.of(place_cameras(folder / "photographs", folder), "car")
    for item in source.items()[0]:
        source.read(item)
    source.models("car")


def video_seeds(folder: Path) -> list[Seed]:
    """Four frames, as H.264 and as JPEG."""
    import av
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 255, (32, 48, 3), dtype=np.uint8)) for _ in range(4)]
    made = []
    for suffix, codec, layout in (("mp4", "libx264", "yuv420p"), ("avi", "mjpeg", "yuvj420p")):
        stream = io.BytesIO()
        with av.open(stream, "w", format=suffix) as container:
            track = container.add_stream(codec, rate=10)
            track.width, track.height, track.pix_fmt = 48, 32, layout
            for frame in frames:
                container.mux(track.encode(av.VideoFrame.from_image(frame)))
            container.mux(track.encode())
        made.append(Seed(f"a.{suffix}", stream.getvalue()))
    return made


def read_videos(folder: Path) -> None:
    """All frames of each."""
    from compnet3d.data.video import frame_rate, read_video
    from compnet3d.errors import CompNetError

    refused = None
    for path in sorted(folder.glob("a.*")):
        try:
            frame_rate(path)
            for _ in read_video(path):
                pass
        except CompNetError as error:
            refused = error
    if refused is not None:
        raise refused
