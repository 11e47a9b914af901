"""Poses, cameras, rotations and meshes. Conventions: docs/concepts/conventions.md."""

from compnet3d.geometry.camera import Camera, Pose, feature_grid, fit_to_box, pose_grid
from compnet3d.geometry.conversions import (
    intrinsics_from_opencv,
    intrinsics_to_opencv,
    look_at_homography,
    map_pixels,
    quaternion_to_rotmat,
    rotmat_to_quaternion,
)
from compnet3d.geometry.cuboid import CuboidMesh, cuboid_mesh
from compnet3d.geometry.mesh import Mesh, cuboid_bounds, load_off, save_off
from compnet3d.geometry.rotations import (
    CONTINUOUS,
    angles_to_rotmat,
    axis_angle_between,
    rotmat_geodesic_distance,
    rotmat_to_angles,
    symmetric_rotation_error,
    wrap_angle,
    wrap_signed,
)

__all__ = [
    "CONTINUOUS",
    "Camera",
    "CuboidMesh",
    "Mesh",
    "Pose",
    "angles_to_rotmat",
    "axis_angle_between",
    "cuboid_bounds",
    "cuboid_mesh",
    "feature_grid",
    "fit_to_box",
    "intrinsics_from_opencv",
    "intrinsics_to_opencv",
    "load_off",
    "look_at_homography",
    "map_pixels",
    "pose_grid",
    "quaternion_to_rotmat",
    "rotmat_geodesic_distance",
    "rotmat_to_angles",
    "rotmat_to_quaternion",
    "save_off",
    "symmetric_rotation_error",
    "wrap_angle",
    "wrap_signed",
]
