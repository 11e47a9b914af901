"""`compnet3d annotate`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from compnet3d.cli.evaluate import load_model
from compnet3d.cli.options import Count, Device, File, Flag, Folder, at_least, require_folder
from compnet3d.cli.predict import Name
from compnet3d.cli.serve import Number
from compnet3d.errors import CompNetError

if TYPE_CHECKING:
    from compnet3d.apps.annotation_proposals import Proposer
    from compnet3d.apps.annotation_set import AnnotationSet
    from compnet3d.geometry.mesh import Mesh
    from compnet3d.utils.files import Json


@dataclass(frozen=True)
class Annotate:
    """Give your photographs boxes and poses, on a page in the browser; until Ctrl-C.

    A shape is laid over each photograph, dragged and turned until it fits. All is saved at once, as a data set that
    `train` takes, and the next call goes on where this one stopped.
    """

    photographs: Annotated[Positional[Path], arg(metavar="DIR")]
    """A folder of photographs, or a data set, which is then corrected in its place."""
    category: Name = None
    """What the photographs show, such as mug; of a data set with several categories, the one to correct."""
    cad: File = None
    """The shape: .off, .obj, .ply, .stl, .glb, .gltf or .dae, x right, y backward (the front faces -y), z up."""
    cuboid: Annotated[tuple[float, float, float] | None, arg(metavar="W D H", help_behavior_hint="")] = None
    """The shape without a CAD model: its width, depth (front to back) and height, in any unit; also on the page."""
    out: Folder = None
    """The data set, new or to go on with; DIR-annotated by default."""
    model: Folder = None
    """A trained model that knows the category (folder or name): it proposes, and the page shows where you disagree."""
    val_every: Count = None
    """Put every N-th image that is saved into the val list, for testing; by default all go into the train list."""
    port: Number = 8010
    """The port of the page; 0 takes a free one."""
    no_browser: Flag = False
    """Print the page's address alone."""
    device: Device = "auto"
    """Where to run the model; auto takes the GPU if there is one."""

    def run(self) -> None:
        """Check, open the page, serve it."""
        at_least(0, port=self.port)
        at_least(2, val_every=self.val_every)
        require_folder(self.photographs, "DIR")
        try:
            from compnet3d.apps.annotation import Annotator, build_annotation_app
            from compnet3d.apps.annotation_proposals import Proposals
            from compnet3d.apps.service import listen, run_app
        except ModuleNotFoundError as error:
            advice = 'install what serves: pip install "compnet3d[serve]"'
            raise CompNetError(f"the page needs {error.name}; {advice}") from None
        from compnet3d.apps.annotation_photographs import is_data_set
        from compnet3d.utils.exclusive import exclusive

        given = is_data_set(self.photographs)
        root = self._root(given)
        with exclusive(root), listen("127.0.0.1", self.port) as listener:
            images, notes = self._images(root, given)
            proposer = self._proposer(images.category)
            proposals = None if proposer is None else Proposals(proposer, images)
            port = listener.getsockname()[1]
            self._announce(f"http://127.0.0.1:{port}", root)
            run_app(build_annotation_app(Annotator(images, proposals, notes), port), listener, 2.0)
        statuses = [images.status(item) for item in images.items()]
        print(f"ended: {statuses.count('saved')} of {len(statuses)} are annotated, in {root}")

    def _root(self, given: bool) -> Path:
        if given and (self.out or self.cad or self.cuboid or self.val_every):
            raise CompNetError(
                f"{self.photographs}: is a data set, corrected in its place with its own shapes and lists; "
                "leave --out, --cad, --cuboid and --val-every out"
            )
        if given:
            return self.photographs
        if self.category is None:
            raise CompNetError("--category is missing: say what the photographs show, such as --category mug")
        folder = self.photographs.resolve()
        return self.out or self.photographs.parent / f"{folder.name}-annotated"

    def _images(self, root: Path, given: bool) -> tuple[AnnotationSet, Json]:
        from compnet3d.apps.annotation_photographs import left_out, name_photographs
        from compnet3d.apps.annotation_set import AnnotationSet
        from compnet3d.data.imagenet3d import ImageNet3D, is_image_name
        from compnet3d.utils.text import printable

        if given:
            dataset = ImageNet3D(root, None if self.category is None else [self.category])
            if len(dataset.categories) > 1:
                raise CompNetError(f"{root}: has {', '.join(dataset.categories[:12])}; choose one by --category")
            images = AnnotationSet(root, dataset.categories[0], None)
            return images, {"left_out": []}
        category = str(self.category)
        if not is_image_name(category):
            raise CompNetError(f"--category {printable(category)}: is no name of a folder; use letters, such as mug")
        mesh = self._mesh()
        photographs = name_photographs(self.photographs, root, category)
        others = left_out(self.photographs)
        for name in others:
            print(f"left out: {printable(name)} is no image that can be read", file=sys.stderr)
        return AnnotationSet(root, category, photographs, mesh, self.val_every), {"left_out": others}

    def _mesh(self) -> Mesh | None:
        from compnet3d.apps.annotation_shapes import cuboid_of
        from compnet3d.data.shapes.read import load_mesh

        if self.cad is not None and self.cuboid is not None:
            raise CompNetError("--cad and --cuboid are two shapes; give one of them")
        if self.cad is not None:
            return load_mesh(self.cad)
        return None if self.cuboid is None else cuboid_of(self.cuboid)

    def _proposer(self, category: str) -> Proposer | None:
        if self.model is None:
            return None
        from compnet3d.apps.annotation_proposals import Proposer

        model = load_model(self.model, self.device)
        try:
            detector = model.object_search()
        except CompNetError:  # this kind cannot
            detector = None
        return Proposer(model, detector, category)

    def _announce(self, address: str, root: Path) -> None:
        import webbrowser

        print(f"annotating into {root} on {address} (Ctrl-C ends it)", flush=True)
        if not self.no_browser:
            webbrowser.open(address)
