"""What a CompNet is, apart from its tensors: the contents of its config.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from compnet3d.data.transforms import InputConfig
from compnet3d.errors import CompNetError
from compnet3d.inference.confidence import Calibration
from compnet3d.inference.pose_hypotheses import PoseGrid
from compnet3d.inference.pose_search import PoseSettings
from compnet3d.models.backbones import BackboneConfig
from compnet3d.utils.files import Json
from compnet3d.utils.settings import check_groups, check_ranges, read, setting, shown


@dataclass(frozen=True)
class CompNetConfig:
    """Everything that a model is, apart from its tensors.

    Attributes:
        categories: names, Y of them.
        bounds: the box of each category, Y times 2 times 3 numbers in CAD units.
        backbone: how the feature extractor is built.
        input_config: the network's input and its canonical camera.
        vertex_count: K aimed at for each category.
        background_size: N_b.
        kappa: concentration of the von Mises-Fisher distribution.
        feature_length: correlation length of the vertex features to start from (see `smooth_features`).
        shape: what carries the vertices, the category's "cuboid" or its CAD surface, a "mesh".
        surface_sizes: of a mesh's parts, for each category (see `Surfaces.sizes`); empty for cuboids.
        renderer: "cuboid" draws the shape exactly (ray casting; a mesh is rasterised), "gaussian" the paper's volume
            around its vertices.
        foreground_threshold: density above which the Gaussian volume is foreground.
        mirrored_scores: S_y is the mean over a crop and its mirror image. For data whose categories look mirrored like
            others of their kind; costs a second pass through the network.
        pose_score_weight: s in the score that classifies an object, (1 - s) S_y + s max(- L_y), with the lowest loss of
            Eq. 8 among the category's initial poses, with the pose's foreground bonus and no prior. It needs features
            that were trained to tell poses apart. 0 is Eq. 7 alone, as in the paper.
        temperature: factor on the scores for the calibrated confidence.
        calibration: what held-out images have told besides; None where they were not asked.
        pose, grid: how poses are searched.

    Raises:
        CompNetError: naming a category or a box that cannot be.
        ValueError: naming what is out of range.
    """

    categories: tuple[str, ...]
    bounds: tuple[tuple[tuple[float, ...], ...], ...]
    backbone: BackboneConfig
    input_config: InputConfig
    vertex_count: int = setting(500, least=1, most=10_000)
    background_size: int = setting(2560, least=0, most=1_000_000)
    kappa: float = setting(1 / 0.07, least=0, most=1e6)
    feature_length: float = setting(0.12, least=1e-6, most=1000)
    shape: Literal["cuboid", "mesh"] = "cuboid"
    surface_sizes: tuple[tuple[int, ...], ...] = setting((), least=1, most=10_000_000)
    renderer: Literal["cuboid", "gaussian"] = "cuboid"
    foreground_threshold: float = setting(0.5, least=0, most=1e6)
    mirrored_scores: bool = False
    pose_score_weight: float = setting(0.0, least=0, most=1)
    temperature: float = setting(100.0, least=0, most=1e6)
    calibration: Calibration | None = None
    pose: PoseSettings = field(default_factory=PoseSettings)
    grid: PoseGrid = field(default_factory=PoseGrid)

    def __post_init__(self) -> None:
        check_categories(self.categories, self.bounds)
        check_ranges(self)
        for name, known in (("renderer", ("cuboid", "gaussian")), ("shape", ("cuboid", "mesh"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        if len(self.surface_sizes) != (len(self.categories) if self.shape == "mesh" else 0):
            raise ValueError(f"surface_sizes must be one for each category of meshes, got {len(self.surface_sizes)}")
        if any(len(sizes) != 4 for sizes in self.surface_sizes):
            raise ValueError("surface_sizes must be four numbers for each category")

    def to_dict(self) -> Json:
        """For config.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Json) -> CompNetConfig:
        """From config.json."""
        check_groups(cls, values)
        return read(cls, values)


def check_categories(names: Sequence[str], bounds: Sequence[Sequence[Sequence[float]]]) -> None:
    """Check the names of a model's categories, of which files are called, and their boxes.

    Raises:
        CompNetError: naming the category that has no name or box of its own.
    """
    most = 10_000
    if not 1 <= len(names) <= most or len(names) != len(bounds) or len(set(names)) != len(names):
        raise CompNetError(f"{len(names)} categories with {len(bounds)} boxes; give each of 1 to {most:,} its own")
    for name, box in zip(names, bounds, strict=True):
        if not name.isprintable() or set(name) & set("/\\:") or name in ("", ".", "..") or len(name) > 60:
            raise CompNetError(f"category {shown(name)} cannot be a file's name; call it otherwise")
        if [len(corner) for corner in box] != [3, 3]:
            raise CompNetError(f"category {name}: its bounds must be a lower and an upper corner of 3 numbers each")
        sides = [upper - lower for lower, upper in zip(*box, strict=True)]
        # squares of these numbers, and their inverses, are far from the ends of what single precision can say
        if not min(sides) > 1e-9 or not max(abs(x) for corner in box for x in corner) < 1e9:
            raise CompNetError(f"category {name}: its bounds {shown(box)} are no box; the upper corner must be above")
