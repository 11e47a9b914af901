"""A shape grammar: any number of invented categories, each with its own plan and with variation between instances.

A category's genome fixes a body, what sits on its front, back, top, sides and bottom, and whether something breaks
the mirror symmetry. Building an instance jitters every length. The front (-y) always carries something that the back
does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from compnet3d.procedural.parts import (
    Part,
    Role,
    box,
    cylinder,
    ellipsoid,
    extrude,
    join,
    lathe,
    loft,
    rounded_outline,
    torus,
    tube,
)


@dataclass(frozen=True)
class Genome:
    """The plan of one invented category.

    Attributes:
        body, front, back, top, side, bottom: which rule each site follows.
        oddity: what stands on the right-hand side (+x) only, or None: then the category is mirror-symmetric.
        size: typical half extents of the body [3].
        traits: typical proportions in [0, 1] used by the rules [12].
    """

    body: str
    front: str
    back: str
    top: str
    side: str
    bottom: str
    oddity: str | None
    size: tuple[float, float, float]
    traits: tuple[float, ...]

    @property
    def mirror(self) -> bool:
        """Whether every instance equals its mirror image under x to -x."""
        return self.oddity is None

    def build(self, rng: Generator) -> Part:
        """One instance, not normalised."""
        half = np.array(self.size) * rng.uniform(0.85, 1.18, 3)
        t = np.clip(np.array(self.traits) + rng.uniform(-0.13, 0.13, len(self.traits)), 0.0, 1.0)
        parts = [_body(self.body, half, t)]
        parts.append(_front(self.front, half, t).moved(y=-half[1]))
        if self.back != "none":
            parts.append(_back(self.back, half, t).moved(y=half[1]))
        if self.top != "none":
            parts.append(_top(self.top, half, t).moved(z=half[2]))
        if self.side != "none":
            parts.append(_side(self.side, half, t).both_sides())
        if self.bottom != "none":
            parts.append(_bottom(self.bottom, half, t).moved(z=-half[2]))
        if self.oddity is not None:
            parts.append(_oddity(self.oddity, half, t))
        return join(parts)


def genome(index: int, seed: int = 0) -> Genome:
    """The plan of invented category number `index`; the same for ever for the same seed and index."""
    bodies = ("box", "drum", "egg", "wedge", "keg", "prism", "stack", "arch")
    fronts = ("snout", "disc", "horn", "jaws", "porch", "bar")
    backs = ("none", "tail", "fin", "pack", "ring")
    tops = ("none", "dome", "mast", "ridge", "handle", "tower", "plates")
    sides = ("none", "wings", "wheels", "arms", "pods", "rails")
    bottoms = ("none", "legs", "pedestal", "skids", "tripod")
    oddities = ("crane", "barrel", "flag")
    # any constant: keeps these draws apart from others that are seeded by (seed, index)
    genome_stream = 0x5A4E
    rng = np.random.default_rng([seed, genome_stream, index])

    def pick(options: tuple[str, ...]) -> str:
        return options[int(rng.integers(len(options)))]

    long, wide, tall = np.exp(rng.uniform(-0.75, 0.75, 3))
    size = (0.6 * float(wide), 0.7 * float(long), 0.6 * float(tall))
    front, back = pick(fronts), pick(backs)
    top, side = pick(tops), pick(sides)
    # with neither, invented categories would look too much alike
    if top == "none" and side == "none":
        top = pick(tops[1:])
    oddity = pick(oddities) if rng.random() < 0.3 else None
    traits = tuple(float(x) for x in rng.uniform(0, 1, 12))
    return Genome(pick(bodies), front, back, top, side, pick(bottoms), oddity, size, traits)


def _mix(low: float, high: float, trait: float) -> float:
    return low + (high - low) * float(trait)


def _body(kind: str, half: np.ndarray, t: np.ndarray) -> Part:
    x, y, z = half
    if kind == "box":
        part = box((2 * x, 2 * y, 2 * z), bevel=_mix(0.0, 0.3, t[0]) * min(half), taper=(_mix(0.6, 1.1, t[1]), 1.0))
        return part.moved(z=-z)
    if kind == "drum":
        return cylinder(1.0, 2.0, axis="y", segments=20, bevel=0.12).moved(y=-1).scaled(x, y, z)
    if kind == "egg":
        return ellipsoid((x * 1.1, y * 1.1, z * 1.1), segments=20, rings=12)
    if kind == "wedge":
        rise = _mix(-0.5, 0.3, t[0])
        outline = [(-y, -z), (y, -z), (y, z), (_mix(-0.2, 0.6, t[1]) * y, z), (-y, rise * z)]
        return extrude(outline, 2 * x, bevel=0.1 * min(half))
    if kind == "keg":
        middle = _mix(0.55, 1.15, t[0])
        profile = [(0.9, -1), (1.0, -0.8), (middle, 0), (_mix(0.5, 1.0, t[1]), 0.8), (_mix(0.4, 0.9, t[1]), 1)]
        return lathe(profile, segments=22).scaled(x, y, z)
    if kind == "prism":
        # swapped, so that five and seven corners too are their own mirror image under x to -x
        corners = rounded_outline(1, 1, 2.0, 5 + int(t[0] * 3.99))[:, ::-1]
        levels = ((-1, 1.0), (1, _mix(0.5, 1, t[1])))
        rings = [np.column_stack([corners * s, np.full(len(corners), h)]) for h, s in levels]
        return loft(np.stack(rings)).scaled(x, y, z)
    if kind == "stack":
        shrink = _mix(0.5, 0.85, t[0])
        low = box((2 * x, 2 * y, z * 1.1), at=(0, 0, -z), bevel=0.05)
        return join(
            [low, box((2 * x * shrink, 2 * y * shrink, z), Role.SECOND, at=(0, y * (1 - shrink) * 0.8, 0), bevel=0.05)]
        )
    wall = _mix(0.3, 0.5, t[0])
    legs = box((wall * x, 2 * y, 1.5 * z), at=(x * (1 - wall / 2), 0, -z), bevel=0.03).both_sides()
    return join([legs, box((2 * x, 2 * y, 0.55 * z), Role.SECOND, at=(0, 0, 0.45 * z), bevel=0.04)])


def _front(kind: str, half: np.ndarray, t: np.ndarray) -> Part:
    x, _, z = half
    size = min(x, z)
    lift = _mix(-0.3, 0.3, t[2]) * z
    if kind == "snout":
        part = cylinder(size * _mix(0.5, 0.8, t[3]), size * _mix(0.7, 1.5, t[4]), Role.SECOND, top=size * 0.3, axis="y")
        return (
            join([part, ellipsoid((size * 0.32,) * 3, Role.DARK, at=(0, size * _mix(0.7, 1.5, t[4]), 0))])
            .turned("z", 180)
            .moved(z=lift)
        )
    if kind == "disc":
        rim = torus(size * 0.75, size * 0.14, Role.LIGHT).turned("x", 90)
        return join([rim, cylinder(size * 0.7, size * 0.2, Role.DARK, axis="y", at=(0, -size * 0.12, 0))]).moved(z=lift)
    if kind == "horn":
        r = size * 0.16
        path = [
            (x * 0.5, 0.1, lift),
            (x * 0.6, -size * 0.6, lift),
            (x * 0.6, -size * 1.1, lift + size * _mix(-0.4, 0.9, t[3])),
        ]
        return tube(path, [r, r, r * 0.4], Role.LIGHT).both_sides()
    if kind == "jaws":
        reach = size * _mix(0.7, 1.4, t[4])
        plate = box((x * 1.4, reach, size * 0.25), Role.ACCENT, taper=(1, 1), bevel=0.02)
        opening = _mix(0.35, 0.7, t[3]) * z
        return join([plate.moved(0, -reach / 2, -opening), plate.moved(0, -reach * 0.4, opening * 0.6)])
    if kind == "porch":
        depth = size * _mix(0.6, 1.2, t[3])
        roof = box((x * 1.5, depth * 1.2, size * 0.15), Role.ACCENT, at=(0, -depth / 2, z * 0.3))
        post = cylinder(size * 0.1, 1.25 * z, Role.DARK, at=(x * 0.6, -depth * 0.9, -0.95 * z), segments=8)
        return join([roof, post.both_sides(), box((x * 0.5, 0.1, z * 0.9), Role.GLASS, at=(0, -0.02, -z * 0.8))])
    bar = cylinder(size * 0.16, 2.4 * x, Role.ACCENT, axis="x", at=(-1.2 * x, -size * 0.7, 0), segments=10)
    struts = box(
        (size * 0.18, size * 0.8, size * 0.18), Role.DARK, at=(x * 0.5, -size * 0.35, -size * 0.09)
    ).both_sides()
    return join([bar, struts]).moved(z=lift - 0.2 * z)


def _back(kind: str, half: np.ndarray, t: np.ndarray) -> Part:
    x, y, z = half
    size = min(x, z)
    if kind == "tail":
        path = [(0, -0.1, 0), (0, y * 0.6, size * 0.2), (0, y * _mix(0.9, 1.5, t[5]), size * _mix(0.3, 1.5, t[6]))]
        return tube(path, [size * 0.4, size * 0.25, size * 0.12], Role.MAIN)
    if kind == "fin":
        high = z * _mix(1.2, 2.2, t[5])
        return extrude([(-y * 0.5, 0), (0.1, 0), (y * 0.35, high), (0, high)], max(0.08, x * 0.2), Role.ACCENT)
    if kind == "pack":
        return box(
            (x * 1.3, y * _mix(0.3, 0.7, t[5]), z * _mix(0.7, 1.5, t[6])),
            Role.DARK,
            at=(0, y * 0.15, -z * 0.6),
            bevel=0.05,
        )
    return torus(size * 0.5, size * 0.12, Role.DARK).turned("y", 90).moved(0, size * 0.5, 0)


def _top(kind: str, half: np.ndarray, t: np.ndarray) -> Part:
    x, y, _ = half
    size = min(x, y)
    along = _mix(-0.45, 0.45, t[7]) * y
    height = size * _mix(0.5, 1.4, t[8])
    if kind == "dome":
        return ellipsoid((size * 0.75, size * 0.75, height), Role.GLASS, at=(0, along * 0.6, 0))
    if kind == "mast":
        pole = cylinder(size * 0.1, height * 2, Role.LIGHT, at=(0, along, -0.1), segments=8)
        return join([pole, ellipsoid((size * 0.3,) * 3, Role.ACCENT, at=(0, along, height * 2), segments=12, rings=8)])
    if kind == "ridge":
        return extrude(
            [(-y * 0.8, -0.05), (y * 0.9, -0.05), (y * 0.7, height), (along, height * 0.7)], x * 0.3, Role.ACCENT
        )
    if kind == "handle":
        path = [(0, -y * 0.6, -0.1), (0, -y * 0.5, height), (0, y * 0.5, height), (0, y * 0.6, -0.1)]
        return tube(path, size * 0.13, Role.DARK)
    if kind == "tower":
        base = box((size * 1.0, size * 1.0, height * 1.5), Role.SECOND, at=(0, along, -0.05), taper=(0.7, 0.7))
        return join([base, box((size * 0.9, size * 0.9, height * 0.3), Role.ACCENT, at=(0, along, height * 1.4))])
    count = 3 + int(t[9] * 2.99)
    plates = [
        box((x * 1.5, y * 0.1, height * (1 - 0.13 * i)), Role.ACCENT, at=(0, y * (-0.7 + 1.4 * i / (count - 1)), -0.05))
        for i in range(count)
    ]
    return join(plates)


def _side(kind: str, half: np.ndarray, t: np.ndarray) -> Part:
    x, y, z = half
    size = min(y, z)
    along = _mix(-0.35, 0.35, t[10]) * y
    reach = size * _mix(0.8, 2.0, t[11])
    if kind == "wings":
        root = [
            [x * 0.6, along - y * 0.4, 0],
            [x * 0.6, along, 0.08],
            [x * 0.6, along + y * 0.4, 0],
            [x * 0.6, along, -0.08],
        ]
        lift = _mix(-0.2, 0.7, t[9]) * reach
        tip = [[x + reach, along + y * s, lift + d] for s, d in ((0.1, 0), (0.25, 0.03), (0.4, 0), (0.25, -0.03))]
        return loft(np.array([root, tip]), Role.SECOND)
    if kind == "wheels":
        count = 2 + int(t[9] * 1.99)
        radius = min(_mix(0.45, 0.8, t[11]) * z, 0.85 * y / count)
        places = np.linspace(-y * 0.65, y * 0.65, count)
        tyre = cylinder(radius, 0.3 * x, Role.DARK, axis="x", segments=16)
        hub = cylinder(radius * 0.5, 0.34 * x, Role.LIGHT, axis="x", segments=10)
        return join([join([tyre, hub]).moved(x * 0.88, float(p), -z) for p in places])
    if kind == "arms":
        path = [
            (x * 0.7, along, 0),
            (x + reach * 0.5, along, size * 0.2),
            (x + reach * 0.6, along - reach * 0.8, size * _mix(-0.5, 0.6, t[9])),
        ]
        r = size * 0.16
        hand = ellipsoid((r * 1.8,) * 3, Role.ACCENT, at=path[-1], segments=10, rings=6)
        return join([tube(path, r, Role.SECOND), hand])
    if kind == "pods":
        pod = lathe([(0.0, -1), (0.6, -0.8), (1, -0.2), (0.8, 0.7), (0.45, 1)], Role.SECOND, segments=14).turned(
            "x", 90
        )
        return pod.scaled(size * 0.35, y * _mix(0.4, 0.8, t[9]), size * 0.35).moved(x + size * 0.25, along, -z * 0.3)
    return box((0.25 * x, 2.2 * y, 0.25 * z), Role.SECOND, at=(x, along * 0.5, _mix(-0.8, 0.5, t[9]) * z), bevel=0.03)


def _bottom(kind: str, half: np.ndarray, t: np.ndarray) -> Part:
    x, y, z = half
    height = z * _mix(0.4, 1.3, t[5])
    if kind == "legs":
        splay = _mix(0.0, 0.35, t[6]) * x
        legs = [
            tube([(x * 0.7, s * y * 0.75, 0.1), (x * 0.75 + splay, s * y * 0.85, -height)], 0.1 * x + 0.03, Role.DARK)
            for s in (-1, 1)
        ]
        return join(legs).both_sides()
    if kind == "pedestal":
        stem = cylinder(min(x, y) * 0.25, height, Role.LIGHT, at=(0, 0, -height), segments=12)
        foot = cylinder(min(x, y) * 0.9, height * 0.2, Role.DARK, at=(0, 0, -height * 1.1), segments=18)
        return join([stem, foot])
    if kind == "skids":
        skid = [(x * 0.8, -y * 1.3, -height * 0.6), (x * 0.8, -y * 1.05, -height), (x * 0.8, y, -height)]
        struts = [
            tube([(x * 0.6, s * y * 0.5, 0.05), (x * 0.8, s * y * 0.5, -height)], 0.05, Role.DARK, segments=6)
            for s in (-1, 1)
        ]
        return join([tube(skid, 0.08 * x + 0.02, Role.LIGHT), *struts]).both_sides()
    back_legs = tube([(x * 0.5, y * 0.4, 0.1), (x * 0.95, y * 0.9, -height)], 0.09 * x + 0.02, Role.DARK).both_sides()
    return join([back_legs, tube([(0, -y * 0.6, 0.1), (0, -y * 1.1, -height)], 0.09 * x + 0.02, Role.DARK)])


def _oddity(kind: str, half: np.ndarray, t: np.ndarray) -> Part:
    x, y, z = half
    size = float(min(half))
    if kind == "crane":
        path = [(x * 0.6, y * 0.5, z * 0.5), (x * 0.8, y * 0.5, z + size), (x * 0.8 + size, -y * 0.2, z + size * 1.6)]
        return tube(path, size * 0.14, Role.ACCENT)
    if kind == "barrel":
        return cylinder(
            size * 0.55, size * _mix(1.0, 1.8, t[3]), Role.ACCENT, at=(x + size * 0.3, y * 0.3, -z * 0.8), segments=14
        )
    pole = cylinder(size * 0.07, z + size * 1.6, Role.LIGHT, at=(x * 0.75, -y * 0.6, 0), segments=6)
    flag = box(
        (size * 0.06, size * 0.9, size * 0.6), Role.ACCENT, at=(x * 0.75, -y * 0.6 + size * 0.45, z + size * 0.95)
    )
    return join([pole, flag])
