"""Find a pose in feature maps of any network by Eq. 8: five lines, no model of this package.

python examples/pose_of_my_features.py
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from compnet3d.data.transforms import InputConfig
from compnet3d.geometry import CuboidMesh, Pose, cuboid_mesh
from compnet3d.inference import InitialPoses, PoseGrid, find_pose
from compnet3d.models import smooth_features
from compnet3d.rendering import CuboidShape, render


def main() -> None:
    """Features drawn of a box at a known pose; the pose is found again."""
    torch.manual_seed(0)
    box = cuboid_mesh(torch.tensor([0.6, 1.0, 0.5]), 200)
    camera = InputConfig(height=96, width=128, focal=300.0, distance=4.0, box_fill=0.8)
    features = smooth_features(box.vertices, box.vertex_normals(), 64, 0.3, torch.Generator().manual_seed(0))
    background = normalize(torch.randn(20, 64), dim=-1)
    true = Pose.of([0.7], [0.35], [0.1], 4.0)
    feature_map = draw(box, camera, features, background, true)  # your network's output, unit vectors [B, D, H, W]

    shape = CuboidShape.of(box)
    initial = InitialPoses(PoseGrid(), camera)
    found = find_pose(feature_map, features, background, shape, initial).pose

    for name in ("azimuth", "elevation", "theta"):
        print(f"{name}: {math.degrees(getattr(found, name)):.1f}, true {math.degrees(getattr(true, name)):.1f} degrees")


def draw(box: CuboidMesh, camera: InputConfig, features: Tensor, background: Tensor, pose: Pose) -> Tensor:
    """A feature map in which the box is seen, [1, D, H, W]."""
    centre = torch.tensor([[camera.width / 2, camera.height / 2]])
    seen = render(CuboidShape.of(box), pose, camera.camera(centre), 8)
    drawn = normalize((features[seen.vertex_index] * seen.weight[..., None]).sum(-2), dim=-1)
    return torch.where(seen.foreground[..., None] > 0, drawn, background[0]).permute(0, 3, 1, 2)


if __name__ == "__main__":
    main()
