"""Shapes from files: OFF, OBJ, PLY, STL, glTF (.glb, .gltf) and COLLADA (.dae)."""

from compnet3d.data.shapes.read import SUFFIXES, Shape, find_shapes, indexed_shapes, load_mesh, load_shape

__all__ = ["SUFFIXES", "Shape", "find_shapes", "indexed_shapes", "load_mesh", "load_shape"]
