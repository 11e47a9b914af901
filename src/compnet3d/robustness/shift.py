"""What is done to the test images: other backgrounds, occlusion, a corruption, rotation, all drawn from one seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compnet3d.data.backgrounds import find_photographs
from compnet3d.data.sample import Sample
from compnet3d.errors import CompNetError
from compnet3d.robustness.corruption import check_corruption, load_textures
from compnet3d.robustness.occluders import gather_occluders
from compnet3d.robustness.occlusion import Level, Occlusion, Protocol, level_ranges
from compnet3d.utils.files import Json
from compnet3d.utils.settings import read


@dataclass(frozen=True)
class Shift:
    """A shift of the test images; the default leaves them as they are.

    Settings of what is not asked for are checked and then set to their defaults. So two shifts that do the same to the
    images are equal.

    Attributes:
        occlusion: level "L1", "L2" or "L3"; None for no occlusion.
        protocol: the ranges of the levels, of the Occluded-PASCAL3D+ "generator" or of the text of the "paper".
        occluders: coloured "blobs", "objects" of other categories cut out by their masks, or a folder of cut-outs.
            Objects are harder for the classification, since the model may know them.
        corruption: one of `CORRUPTIONS`; None for no corruption. Occluders are corrupted with the image.
        severity: of the corruption, 1 to 5.
        frost: folder with images of ice for the corruption "frost"; None for procedural ice.
        backgrounds: folder of photographs, a part of which is put behind each object, by its mask; None for the images'
            own backgrounds. Occluders come after it, a corruption acts on both.
        rotation: each crop is rotated in the plane by an angle drawn uniformly from +- this many degrees, 0 to 180.
        seed: of all draws, >= 0. The draws of an image depend on the seed and its name alone.

    Raises:
        CompNetError: for an unknown level, protocol, corruption or severity, or a number outside its range.
    """

    occlusion: Level | None = None
    protocol: Protocol = "generator"
    occluders: str = "blobs"
    corruption: str | None = None
    severity: int = 4
    frost: str | None = None
    backgrounds: str | None = None
    rotation: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        # also without occlusion: a wrong protocol is a mistake whether it is used or not
        level_ranges(self.occlusion or "L1", self.protocol)
        if self.corruption is not None:
            check_corruption(self.corruption, self.severity)
        if not 0 <= self.rotation <= 180:
            raise CompNetError(f"the largest rotation must lie between 0 and 180 degrees, not {self.rotation:g}")
        if self.seed < 0:
            raise CompNetError(f"the seed must be at least 0, not {self.seed}")
        # equal shifts have equal dictionaries, by which a study finds an evaluation that it has already
        unused: dict[str, object] = {} if self.occlusion else {"protocol": "generator", "occluders": "blobs"}
        unused |= {} if self.corruption else {"severity": 4}
        unused |= {} if self.corruption == "frost" else {"frost": None}
        folders = {"frost": self.frost, "backgrounds": self.backgrounds}
        plain: dict[str, object] = {
            "occluders": str(self.occluders),
            **{name: None if folder is None else str(folder) for name, folder in folders.items()},
        }
        for name, value in (plain | unused).items():
            object.__setattr__(self, name, value)

    @property
    def label(self) -> str:
        """A few words for tables: "clean", "occluded L1", "fog 4, rotated by up to 25 degrees"."""
        parts = ["other backgrounds"] if self.backgrounds else []
        parts += [f"occluded {self.occlusion}"] if self.occlusion else []
        parts += [f"{self.corruption} {self.severity}"] if self.corruption else []
        parts += [f"rotated by up to {self.rotation:g} degrees"] if self.rotation else []
        return ", ".join(parts) or "clean"

    def load_occlusion(self, samples: Sequence[Sample]) -> Occlusion | None:
        """The occlusion with its cut-outs, "objects" cut out of these samples; None for no occlusion.

        Raises:
            CompNetError: see `gather_occluders`.
        """
        if self.occlusion is None:
            return None
        return Occlusion(
            self.occlusion, self.protocol, self.seed, gather_occluders(self.occluders, samples, seed=self.seed)
        )

    def load_textures(self) -> tuple[np.ndarray, ...]:
        """The images of ice for the corruption "frost", uint8 [h, w, 3] each; none for procedural ice.

        Raises:
            CompNetError: if the folder does not exist, or an image cannot be read.
        """
        return () if self.frost is None else tuple(load_textures(self.frost))

    def find_backgrounds(self) -> tuple[Path, ...]:
        """The photographs to put behind the objects; none where backgrounds stay as they are.

        Raises:
            CompNetError: if there is no such folder, or no image in it.
        """
        return () if self.backgrounds is None else find_photographs(self.backgrounds)

    def to_dict(self) -> Json:
        """For JSON; settings of what is not asked for are None."""
        occluded, corrupted = self.occlusion is not None, self.corruption is not None
        return {
            "occlusion": self.occlusion,
            "occlusion_protocol": self.protocol if occluded else None,
            "occluders": self.occluders if occluded else None,
            "corruption": self.corruption,
            "severity": self.severity if corrupted else None,
            "frost": self.frost,
            "backgrounds": self.backgrounds,
            "rotate_deg": self.rotation,
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Shift:
        """From `to_dict`; other entries are left alone.

        Raises:
            CompNetError: as the constructor.
            KeyError: if an entry is missing.
            ValueError: naming an entry of another type.
        """
        names = {"occlusion_protocol": "protocol", "rotate_deg": "rotation"}
        found = {names.get(key, key): values[key] for key in cls().to_dict()}
        # None stands for what was not asked for; the constructor has the default of each
        return read(cls, {name: value for name, value in found.items() if value is not None})
