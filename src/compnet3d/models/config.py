"""What a CompNet is, apart from its tensors: the contents of its config.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from compnet3d.data.transforms import InputConfig
from compnet3d.inference.pose_hypotheses import PoseGrid
from compnet3d.inference.pose_search import PoseSettings
from compnet3d.models.backbones import BackboneConfig


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
        pose, grid: how poses are searched.
    """

    categories: tuple[str, ...]
    bounds: tuple[tuple[tuple[float, ...], ...], ...]
    backbone: BackboneConfig
    input_config: InputConfig
    vertex_count: int = 500
    background_size: int = 2560
    kappa: float = 1 / 0.07
    feature_length: float = 0.12
    shape: Literal["cuboid", "mesh"] = "cuboid"
    surface_sizes: tuple[tuple[int, ...], ...] = ()
    renderer: Literal["cuboid", "gaussian"] = "cuboid"
    foreground_threshold: float = 0.5
    mirrored_scores: bool = False
    pose_score_weight: float = 0.0
    temperature: float = 100.0
    pose: PoseSettings = field(default_factory=PoseSettings)
    grid: PoseGrid = field(default_factory=PoseGrid)

    def __post_init__(self) -> None:
        for name, known in (("renderer", ("cuboid", "gaussian")), ("shape", ("cuboid", "mesh"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        if len(self.surface_sizes) != (len(self.categories) if self.shape == "mesh" else 0):
            raise ValueError(f"surface_sizes must be one for each category of meshes, got {len(self.surface_sizes)}")

    def to_dict(self) -> dict[str, Any]:
        """For config.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CompNetConfig:
        """From config.json."""
        pose, grid = values["pose"], values["grid"]
        return cls(
            **{
                **values,
                "categories": tuple(values["categories"]),
                "surface_sizes": tuple(tuple(sizes) for sizes in values.get("surface_sizes", ())),
                "bounds": tuple(tuple(tuple(c) for c in b) for b in values["bounds"]),
                "backbone": BackboneConfig.from_dict(values["backbone"]),
                "input_config": InputConfig(**values["input_config"]),
                "pose": PoseSettings(**{**pose, "betas": tuple(pose["betas"])}),
                "grid": PoseGrid(
                    **{
                        **grid,
                        "elevation_range": tuple(grid["elevation_range"]),
                        "theta_range": tuple(grid["theta_range"]),
                    }
                ),
            }
        )
