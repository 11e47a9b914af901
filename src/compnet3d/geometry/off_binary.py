"""The binary form of OFF, and what the letters before the word OFF say of a vertex."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compnet3d.errors import CompNetError
from compnet3d.geometry.polygons import Integers, Polygons


@dataclass(frozen=True)
class OffLayout:
    """What a vertex is made of.

    Attributes:
        states_dimension: the number of dimensions stands before the counts.
        position: how many numbers its position has, a fourth one dividing the others.
        width: how many numbers it has in all, with its normal, its colour and its texture coordinates.
    """

    states_dimension: bool
    position: int
    width: int

    @classmethod
    def of(cls, letters: str) -> OffLayout:
        """By the letters ST, C, N, 4 in any order, and n last, which says that the dimension is stated."""
        states_dimension = letters.endswith("n")
        kinds = (letters[:-1] if states_dimension else letters).upper()
        position = 4 if "4" in kinds else 3
        return cls(states_dimension, position, position + 3 * ("N" in kinds) + 4 * ("C" in kinds) + 2 * ("ST" in kinds))


def parse_binary_off(path: Path, body: bytes, layout: OffLayout) -> Polygons:
    """What follows the header of a binary OFF file; colours, normals and texture coordinates are passed over.

    Its words have four bytes, the highest first, as the format says, or last, as some programs write them. A face is a
    count, its corners, and another count with as many numbers of its colour.

    Raises:
        CompNetError: naming the file, if it holds other than it promises.
    """
    found: tuple[int, int] | None = None
    for order in (">", "<"):
        words = np.frombuffer(body[: len(body) // 4 * 4], dtype=f"{order}i4")
        if layout.states_dimension and words[:1].tolist() == [3]:
            words = words[1:]
        counts = words[:3].tolist()
        if len(counts) < 3 or min(counts) < 0 or counts[0] * layout.width + 2 * counts[1] > len(words):
            continue
        found = counts[0], counts[1]
        end = 3 + counts[0] * layout.width
        faces = _faces(words[end:], counts[1])
        if faces is not None:
            values = words[3:end].view(f"{order}f4").reshape(-1, layout.width)[:, : layout.position].astype(np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):  # refused later, as not finite
                return Polygons(values if layout.position == 3 else values[:, :3] / values[:, 3:], *faces)
    promise = "less than its header says" if found is None else f"not the {found[0]} vertices and {found[1]} faces"
    raise CompNetError(f"{path}: is binary OFF and holds {promise}; export the model again, as text")


def _faces(words: Integers, count: int) -> tuple[Integers, Integers] | None:
    """Corners and counts of so many faces, after which nothing follows; None if they are not so."""
    corners, counts, place = [], [], 0
    for _ in range(count):
        size = int(words[place]) if place < len(words) else 0
        colours = int(words[place + 1 + size]) if 0 < size < len(words) - place - 1 else -1
        if not 0 <= colours <= 4:
            return None
        corners.append(words[place + 1 : place + 1 + size])
        counts.append(size)
        place += 2 + size + colours
    if place != len(words):
        return None
    return np.concatenate([np.zeros(0), *corners]).astype(np.int64), np.array(counts, dtype=np.int64)
