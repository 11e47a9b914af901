"""Any triangle mesh as a shape: K vertices spread evenly over it, visible by depth test, drawn by the rasteriser.

Every face is divided into n x n triangles whose edges are no longer than the vertices' spacing, and each of their
corners stands for the nearest of the K vertices. Where a cell's ray meets the mesh, the three corners around that point
and their barycentric weights follow in closed form, as the four corners around a point of a cuboid do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from compnet3d.geometry.camera import Camera, Pose
from compnet3d.geometry.mesh import Mesh
from compnet3d.rendering.fragments import Fragments
from compnet3d.rendering.raster import hidden_points, interpolate, rasterize
from compnet3d.rendering.shape import StackedShape, flatten_pose
from compnet3d.rendering.silhouette import soft_foreground


@dataclass(frozen=True)
class Surface:
    """A triangle mesh that carries K vertices.

    Attributes:
        mesh: what is drawn and what hides.
        vertices, normals: of the K vertices, [K, 3] each.
        spacing: how far they are apart, in the mesh's units.
        divisions: n of each face, int64 [F].
        lookup: for each face in turn the vertices that its (n + 1) x (n + 1) lattice points stand for, int64; (i, j) is
            at corner 0 + i / n (corner 1 - corner 0) + j / n (corner 2 - corner 0), those with i + j > n are unused.
    """

    mesh: Mesh
    vertices: Tensor
    normals: Tensor
    spacing: float
    divisions: Tensor
    lookup: Tensor

    @classmethod
    def of(cls, mesh: Mesh) -> Surface:
        """The mesh with its own vertices."""
        # a face's normal is as long as twice its area, so that large faces weigh more at a corner than slivers do
        normals = torch.zeros_like(mesh.vertices)
        for corner in mesh.faces.unbind(1):
            normals = normals.index_add(0, corner, mesh.face_normals())
        a, b, c = mesh.faces.unbind(1)
        edges = torch.linalg.vector_norm(mesh.vertices[a] - mesh.vertices[b], dim=1)
        return cls(
            mesh,
            mesh.vertices,
            nn.functional.normalize(normals, dim=1),
            float(edges.median()),
            torch.ones(len(mesh.faces), dtype=torch.int64),
            # lattice of n = 1, point (i, j) at 2 i + j: corner 0, corner 2, corner 1, and one beyond the face that is
            # not used
            torch.stack([a, c, b, a], dim=1).flatten(),
        )


class Surfaces(nn.Module):
    """The surfaces of all categories in one set of buffers, saved with the model; a batch may mix categories.

    Attributes:
        vertices, normals: [Y, K_max, 3], padded; real: False where padded, bool [Y, K_max]; spacing: [Y].
        corners: of all meshes, one after the other, [sum of V, 3].
        faces: within each mesh, int64 [sum of F, 3].
        divisions, lookup_offset, lookup: see `Surface`; the offset of each face in the lookup, int64 [sum of F].
        mesh_offsets: where each category's corners and faces start, int64 [Y + 1, 2].
    """

    vertices: Tensor
    normals: Tensor
    real: Tensor
    spacing: Tensor
    corners: Tensor
    faces: Tensor
    divisions: Tensor
    lookup_offset: Tensor
    lookup: Tensor
    mesh_offsets: Tensor

    def __init__(self, surfaces: Sequence[Surface]) -> None:
        """In the order of the categories, at least one."""
        super().__init__()
        if not surfaces:
            raise ValueError("there must be at least one surface")
        counts = torch.tensor([len(s.vertices) for s in surfaces])
        sizes = [torch.tensor([len(s.mesh.vertices), len(s.mesh.faces)]) for s in surfaces]
        divisions = torch.cat([s.divisions for s in surfaces])
        buffers = {
            "vertices": pad_sequence([s.vertices for s in surfaces], batch_first=True),
            "normals": pad_sequence([s.normals for s in surfaces], batch_first=True),
            "real": torch.arange(int(counts.max())) < counts[:, None],
            "spacing": torch.tensor([s.spacing for s in surfaces]),
            "corners": torch.cat([s.mesh.vertices for s in surfaces]),
            "faces": torch.cat([s.mesh.faces for s in surfaces]),
            "divisions": divisions,
            # a running sum without the face's own part: where its (n + 1)^2 lattice points start
            "lookup_offset": (divisions + 1).square().cumsum(0) - (divisions + 1).square(),
            "lookup": torch.cat([s.lookup for s in surfaces]),
            "mesh_offsets": torch.stack([torch.zeros(2, dtype=torch.int64), *sizes]).cumsum(0),
        }
        for name, buffer in buffers.items():
            # saved, unlike the cuboids: a surface cannot be made again from the configuration
            self.register_buffer(name, buffer)

    @classmethod
    def empty(cls, sizes: Sequence[Sequence[int]]) -> Surfaces:
        """With room for the surfaces of a saved model; sizes as `Surfaces.sizes` tells them."""
        made = []
        for vertices, corners, faces, lookup in sizes:
            mesh = Mesh(torch.zeros(corners, 3), torch.zeros(faces, 3, dtype=torch.int64))
            flat, ones = torch.zeros(vertices, 3), torch.ones(faces, dtype=torch.int64)
            made.append(Surface(mesh, flat, flat, 0.0, ones, torch.zeros(lookup, dtype=torch.int64)))
        return cls(made)

    @staticmethod
    def sizes(surfaces: Sequence[Surface]) -> tuple[tuple[int, int, int, int], ...]:
        """Numbers of vertices, corners, faces and lattice points of each, for `empty`."""
        return tuple((len(s.vertices), len(s.mesh.vertices), len(s.mesh.faces), len(s.lookup)) for s in surfaces)

    @staticmethod
    def shapes(sizes: Sequence[Sequence[int]]) -> dict[str, tuple[int, ...]]:
        """Of all buffers of a module whose `sizes` are these."""
        most, count = max(vertices for vertices, *_ in sizes), len(sizes)
        corners, faces, lookup = (sum(numbers[part] for numbers in sizes) for part in (1, 2, 3))
        return {
            **dict.fromkeys(("vertices", "normals"), (count, most, 3)),
            **{"real": (count, most), "spacing": (count,), "corners": (corners, 3), "faces": (faces, 3)},
            **dict.fromkeys(("divisions", "lookup_offset"), (faces,)),
            **{"lookup": (lookup,), "mesh_offsets": (count + 1, 2)},
        }

    def check_loaded(self, sizes: Sequence[Sequence[int]]) -> None:
        """Check that the numbers that others count with are right; sizes as `Surfaces.sizes` tells them.

        Raises:
            ValueError: naming the buffers that are not.
        """
        counts = torch.tensor(sizes, device=self.faces.device)
        places = torch.cat([counts.new_zeros(1, 2), counts[:, 1:3].cumsum(0)])
        padding = torch.arange(self.real.shape[1], device=self.real.device) < counts[:, :1]
        if not torch.equal(self.mesh_offsets, places) or not torch.equal(self.real, padding):
            raise ValueError("tensors surfaces.mesh_offsets and surfaces.real do not fit the surface_sizes")
        lattice = (self.divisions + 1).square()
        # no face has more lattice points than there are
        fits = bool(((self.divisions > 0) & (self.divisions < 1 + len(self.lookup))).all())
        if not fits or not torch.equal(self.lookup_offset, lattice.cumsum(0) - lattice):
            raise ValueError("tensors surfaces.divisions and surfaces.lookup_offset do not go together")
        ends, start = self.mesh_offsets[1:, 1].tolist(), 0
        for (vertices, corners, _, lookup), end in zip(sizes, ends, strict=True):
            first = int(self.lookup_offset[start])
            held, start = self.faces[start:end], end
            if int(held.min()) < 0 or int(held.max()) >= corners:
                raise ValueError("tensor surfaces.faces names corners that are not there")
            points = self.lookup[first : first + lookup]
            last = first + lookup == (len(self.lookup) if end == len(self.faces) else int(self.lookup_offset[end]))
            if not last or int(points.min()) < 0 or int(points.max()) >= vertices:
                raise ValueError("tensor surfaces.lookup names vertices that are not there")

    def __len__(self) -> int:
        return len(self.vertices)

    def __getitem__(self, category: int) -> Surface:
        """One category's surface, where the module lives."""
        start, end = self.mesh_offsets[category : category + 2, 1].tolist()
        real, first = self.real[category], int(self.lookup_offset[start])
        divisions = self.divisions[start:end]
        return Surface(
            self.mesh(category),
            self.vertices[category][real],
            self.normals[category][real],
            float(self.spacing[category]),
            divisions,
            self.lookup[first : first + int((divisions + 1).square().sum())],
        )

    def mesh(self, category: int) -> Mesh:
        """What is drawn of one category, where the module lives."""
        (corner, face), (last_corner, last_face) = self.mesh_offsets[category : category + 2].tolist()
        return Mesh(self.corners[corner:last_corner], self.faces[face:last_face])


@dataclass(frozen=True)
class MeshShape(StackedShape[Surfaces]):
    """A triangle mesh: which of the surfaces each rendering shows."""

    @classmethod
    def of(cls, surface: Mesh | Surface) -> MeshShape:
        """A single mesh with its own vertices, or with those that a surface carries (see `spread_vertices`)."""
        surface = Surface.of(surface) if isinstance(surface, Mesh) else surface
        return cls(Surfaces([surface]), torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def visible(self, pose: Pose) -> Tensor:
        """Vertices in front of which there is no face, bool [..., K]."""

        def seen(number: int, some: Pose) -> tuple[Tensor]:
            mesh = self.stack.mesh(number)
            vertices = self.stack.vertices[number].to(some.azimuth)
            return (~hidden_points(some.object_to_camera(vertices), _in_camera(mesh, some), mesh.faces),)

        (shown,) = self._each_category(flatten_pose(pose), seen)
        return shown.reshape(*pose.shape, -1) & self.real

    def draw(self, pose: Pose, camera: Camera, stride: float, softness: float) -> Fragments:
        """Rasterise; see `render`.

        Returns:
            Fragments with J = 3. With a soft edge, cells just outside carry the vertices of the nearest covered place,
            and the silhouette moves as the surface does there.
        """
        # a soft edge needs to know to a third of a cell where it is; the middle one of nine has the cell's own centre
        finer = 3 if softness > 0 else 1
        height, width = int(camera.height // stride), int(camera.width // stride)

        def drawn(number: int, some: Pose, focal: Tensor, principal_point: Tensor) -> tuple[Tensor, ...]:
            mesh = self.stack.mesh(number)
            vertices = _in_camera(mesh, some)
            with torch.no_grad():
                fine = rasterize(
                    vertices,
                    mesh.faces,
                    focal=focal,
                    principal_point=principal_point,
                    height=finer * height,
                    width=finer * width,
                    stride=stride / finer,
                )
            # sample 3 i + 1 is at stride / 3 (3 i + 1.5) = stride (i + 0.5)
            middle = fine.face_index[:, finer // 2 :: finer, finer // 2 :: finer]
            # again, now with a gradient, and of the nine samples of a soft cell for the middle one alone
            raster = interpolate(vertices, mesh.faces, focal, principal_point, middle, stride)
            weights, faces = raster.barycentric, middle
            if finer == 1:
                return faces, weights, (faces >= 0).to(weights.dtype)
            edge = soft_foreground(
                fine, mesh, some, replace(camera, focal=focal, principal_point=principal_point), stride, softness
            )
            # a cell whose own centre misses takes the place next to the outline, so that a silhouette that grows knows
            # what it would cover
            faces = torch.where(middle >= 0, middle, edge.face_index)
            weights = torch.where((middle >= 0)[..., None], weights, edge.barycentric)
            return faces, weights, edge.foreground

        face, weight, foreground = self._each_category(pose, drawn, camera.focal, camera.principal_point)
        offset = self.stack.mesh_offsets[self.category.expand(pose.shape), 1]
        # -1 is no face to look up: face 0 stands in, with weights of 0 because its coordinates are 0
        index, weight = self._lattice_corners((face.clamp_min(0) + offset[:, None, None]), weight)
        return Fragments(index, weight, foreground)

    def _each_category(
        self, pose: Pose, task: Callable[..., tuple[Tensor, ...]], *others: Tensor
    ) -> tuple[Tensor, ...]:
        """A task for the poses [N] (and other tensors [N, ...]) of each category, its answers in the poses' order."""
        category = self.category.expand(pose.shape)
        parts, rows = [], []
        for number in category.unique().tolist():
            row = (category == number).nonzero()[:, 0]
            parts.append(task(number, pose[row], *(x[row] for x in others)))
            rows.append(row)
        if not parts:
            raise ValueError("pose must hold at least one pose")
        order = torch.cat(rows).argsort()
        return tuple(torch.cat(answers)[order] for answers in zip(*parts, strict=True))

    def _lattice_corners(self, face: Tensor, barycentric: Tensor) -> tuple[Tensor, Tensor]:
        """The vertices at the corners of the small triangles that points of faces lie in, and their weights."""
        n = self.stack.divisions[face]
        x, y = (barycentric[..., k].clamp(0, 1) * n for k in (1, 2))
        # the cell is constant, the fraction has the gradient; j stops before the diagonal, beyond which the lattice has
        # no points of the face
        i = torch.minimum(x.detach().floor().long(), n - 1)
        j = torch.minimum(y.detach().floor().long(), n - 1 - i)
        u, v = (x - i).clamp(0, 1), (y - j).clamp(0, 1)
        # a square of the lattice is two triangles; the one beyond the diagonal is there only inside the face
        beyond = (u + v > 1) & (i + j < n - 1)
        corner = self.stack.lookup_offset[face] + i * (n + 1) + j
        far = corner + torch.where(beyond, n + 2, 0)
        index = self.stack.lookup[torch.stack([far, corner + n + 1, corner + 1], dim=-1)]
        near_weights = torch.stack([(1 - u - v).clamp_min(0), u, v], dim=-1)
        # barycentric coordinates within (i + 1, j + 1), (i + 1, j), (i, j + 1)
        far_weights = torch.stack([u + v - 1, 1 - v, 1 - u], dim=-1)
        weight = torch.where(beyond[..., None], far_weights, near_weights)
        return index, weight * (barycentric.detach().sum(-1, keepdim=True) > 0)


def _in_camera(mesh: Mesh, pose: Pose) -> Tensor:
    return pose.object_to_camera(mesh.vertices.to(pose.azimuth))
