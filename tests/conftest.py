"""What every test shares: one thread, repeatable hypothesis runs, the folder of real data where there is one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

from compnet3d.data.annotations import write_annotation
from compnet3d.geometry.camera import Pose
from compnet3d.geometry.cuboid import cuboid_mesh
from compnet3d.geometry.mesh import Mesh, save_off
from compnet3d.rendering.raster import rasterize

torch.set_num_threads(1)
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("local", **_COMMON)
settings.register_profile("ci", derandomize=True, **_COMMON)
settings.load_profile("ci" if os.environ.get("CI") else "local")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder `shared` beside the repository, which holds real data; the test is skipped without it."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder ../shared with real data")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _no_models_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> None:
    # for the processes that tests start, too
    os.environ["COMPNET3D_MODELS"] = str(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def _one_thread_and_a_fixed_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of two categories, boxes of two shapes with a colour on each face, 48 pixels, drawn in a second."""
    return make_tiny_data(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def tiny_maker() -> Callable[..., Path]:
    """`make_tiny_data`, for data sets of other categories."""
    return make_tiny_data


def make_tiny_data(root: Path, categories: tuple[str, ...] = ("brick", "tower"), images: int = 8) -> Path:
    """Write the data set: `images` per category and split, two views of each instance."""
    extents = {"brick": [0.9, 0.4, 0.3], "tower": [0.3, 0.4, 0.9]}
    rng = np.random.default_rng(0)
    for name in categories:
        cuboid = cuboid_mesh(torch.tensor(extents.get(name, [0.7, 0.6, 0.2])), 8)
        (root / "CAD" / name).mkdir(parents=True)
        save_off(root / "CAD" / name / "01.off", cuboid.mesh)
        for folder in ("images", "annotations"):
            (root / folder / name).mkdir(parents=True)
        (root / "lists").mkdir(exist_ok=True)
        for split in ("train", "val"):
            names = [f"{name}_i{split[0] == 'v':d}{i // 2:02d}_v{i % 2:02d}" for i in range(images)]
            (root / "lists" / f"{name}_imagenet_{split}.txt").write_text("\n".join(names) + "\n")
            for entry in names:
                _draw_tiny(root, name, entry, cuboid.mesh, rng)
    return root


def _draw_tiny(root: Path, category: str, name: str, mesh: Mesh, rng: np.random.Generator) -> None:
    size, focal = 48, 120.0
    angles = {"azimuth": rng.uniform(0, 6.28), "elevation": rng.uniform(0, 0.8), "theta": rng.uniform(0, 0.3)}
    pose = Pose.of(**{k: [v] for k, v in angles.items()}, distance=[3.0])
    raster = rasterize(
        pose.object_to_camera(mesh.vertices[None]),
        mesh.faces,
        focal=torch.tensor([focal]),
        principal_point=torch.tensor([[24.0, 24.0]]),
        height=size,
        width=size,
    )
    colours = np.random.default_rng(1).integers(40, 255, (len(mesh.faces), 3))
    face = raster.face_index[0].numpy()
    pixels = np.where(face[..., None] >= 0, colours[face], rng.integers(0, 60, (size, size, 3))).astype(np.uint8)
    Image.fromarray(pixels).save(root / "images" / category / f"{name}.JPEG", quality=95)
    rows, columns = np.nonzero(face >= 0)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    annotation = {
        **angles,
        "distance": 3.0,
        "focal": 1,
        "viewport": focal,
        "principal": np.array([24.0, 24.0]),
        "px": 24.0,
        "py": 24.0,
        "cad_index": 1,
        "height": np.uint16(size),
        "width": np.uint16(size),
        "bbox": np.array(box, dtype=np.float64),
        "class": category,
        "object_status": "status_good",
        "dense": "dense_yes",
        "ignore": 0,
    }
    write_annotation(root / "annotations" / category / f"{name}.npz", [annotation])
