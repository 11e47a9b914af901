"""Draw a cuboid and a mesh into a feature map: which vertices does each cell see?

python examples/renderer_alone.py
"""

from __future__ import annotations

import torch

from compnet3d.geometry import Camera, Mesh, Pose, cuboid_mesh
from compnet3d.rendering import CuboidShape, MeshShape, render, spread_vertices


def main() -> None:
    """A box of 200 vertices, and a pyramid with 200 spread over it, seen by one camera."""
    pose, camera = Pose.of(azimuth=0.6, elevation=0.4, theta=0.1, distance=4.0), Camera.centred(300.0, 96, 128)

    box = CuboidShape.of(cuboid_mesh(torch.tensor([0.6, 1.0, 0.5]), 200))
    seen = render(box, pose, camera, stride=8)
    print_map("cuboid", seen.foreground, box.visible(pose))

    corners = torch.tensor([[-0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [0.5, 0.5, 0.0], [-0.5, 0.5, 0.0], [0.0, 0.0, 0.8]])
    faces = torch.tensor([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4], [0, 2, 1], [0, 3, 2]])
    pyramid = MeshShape.of(spread_vertices(Mesh(corners, faces), 200))
    print_map("mesh", render(pyramid, pose, camera, stride=8).foreground, pyramid.visible(pose))


def print_map(name: str, foreground: torch.Tensor, visible: torch.Tensor) -> None:
    """The cells that a shape covers, and how many vertices are visible."""
    print(f"{name}: {int(visible.sum())} of {len(visible)} vertices are visible")
    print("\n".join("".join("#" if cell else "." for cell in row) for row in foreground.tolist()))


if __name__ == "__main__":
    main()
