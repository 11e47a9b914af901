"""Craft of the air and the water.

Each function models one instance, in metres, bow or nose towards -y, z up, mirror-symmetric in x.
"""

from __future__ import annotations

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
    tube,
)


def _wing(
    root: tuple[float, float, float],
    chord: float,
    tip: tuple[float, float, float],
    tip_chord: float,
    thick: float,
    role: Role,
) -> Part:
    """A wing from the middle of its root's leading edge outwards; the outline lies along y, pointed at the back."""
    sections = []
    for (x, y, z), length, share in ((root, chord, 1.0), (tip, tip_chord, 0.5)):
        t = thick * share / 2
        sections.append([[x, y, z], [x, y + length * 0.3, z + t], [x, y + length, z], [x, y + length * 0.3, z - t]])
    return loft(np.array(sections), role)


def _fuselage(length: float, radius: float) -> Part:
    """Sections along y: position, radius and lift as shares of length and radius."""
    stations = [
        (0.0, 0.08, -0.12),
        (0.04, 0.5, -0.08),
        (0.1, 0.82, -0.03),
        (0.18, 1.0, 0.0),
        (0.62, 1.0, 0.0),
        (0.85, 0.62, 0.2),
        (1.0, 0.18, 0.42),
    ]
    outline = rounded_outline(1.0, 1.0, 2.0, 16)
    sections = [
        np.column_stack(
            [outline[:, 0] * r * radius, np.full(16, -length / 2 + t * length), (outline[:, 1] * r + lift) * radius]
        )
        for t, r, lift in stations
    ]
    return loft(np.stack(sections), Role.MAIN)


def aeroplane(rng: Generator) -> Part:
    """An airliner, a propeller plane or a jet: fuselage along y, nose at -y."""
    length = 10.0
    radius = rng.uniform(0.5, 0.72)
    parts = [_fuselage(length, radius)]
    span, sweep, dihedral = rng.uniform(3.8, 5.6), rng.uniform(0.2, 2.6), rng.uniform(0.0, 0.6)
    high = rng.random() < 0.3
    z, y = radius * (0.75 if high else -0.4), rng.uniform(-1.6, -0.9)
    chord = rng.uniform(1.7, 2.4)
    tip = (span, y + sweep, z + dihedral)
    parts.append(_wing((radius * 0.3, y, z), chord, tip, chord * rng.uniform(0.35, 0.7), 0.3, Role.SECOND).both_sides())
    tail_y, tail_z = length / 2 - 1.6, radius * 0.35
    fin = rng.uniform(1.4, 2.0)
    t_tail = rng.random() < 0.3
    fin_outline = [
        (tail_y - 0.2, tail_z),
        (tail_y + 1.5, tail_z),
        (tail_y + 1.9, tail_z + fin),
        (tail_y + 1.1, tail_z + fin),
    ]
    parts.append(extrude(fin_outline, 0.16, Role.ACCENT))
    level = tail_z + (fin if t_tail else 0.1)
    stabiliser = _wing(
        (0.05, tail_y + (1.0 if t_tail else 0.3), level),
        1.1,
        (span * 0.4, tail_y + 1.3, level + 0.1),
        0.6,
        0.16,
        Role.SECOND,
    )
    parts.append(stabiliser.both_sides())
    parts.append(
        box(
            (radius * 1.1, 0.55, 0.3),
            Role.GLASS,
            at=(0, -length / 2 + 1.0, radius * 0.5),
            taper=(0.7, 0.5),
            lean=(0, 0.25),
        )
    )
    windows = int(rng.integers(5, 10))
    for i in range(windows):
        at = (radius * 0.97, -length * 0.3 + i * (length * 0.5 / windows), radius * 0.15)
        parts.append(box((0.08, 0.22, 0.22), Role.GLASS, at=at).both_sides())
    parts += _engines(rng, radius, (span, y, z, sweep, dihedral), chord, length)
    return join(parts)


def _engines(
    rng: Generator, radius: float, wing: tuple[float, float, float, float, float], chord: float, length: float
) -> list[Part]:
    span, y, z, sweep, dihedral = wing
    kind = rng.integers(3)
    profile = [(0.2, 0.0), (0.32, 0.1), (0.36, 0.5), (0.26, 1.3)]
    engine = join(
        [cylinder(0.25, 0.06, Role.DARK, axis="y", at=(0, -0.02, 0), segments=12), cylinder_lathe(profile, Role.LIGHT)]
    )
    if kind == 0:
        shares = [0.35] if rng.random() < 0.6 else [0.28, 0.58]
        return [engine.moved(span * s, y + sweep * s - 0.5, z + dihedral * s - 0.38).both_sides() for s in shares]
    if kind == 1:
        return [engine.moved(radius + 0.32, length * 0.22, radius * 0.4).both_sides()]
    blades = join([box((0.14, 0.05, 2.4), Role.DARK, at=(0, 0, -1.2)).turned("y", a) for a in (45, 135)])
    nose = ellipsoid((0.2, 0.35, 0.2), Role.LIGHT, segments=10, rings=6)
    return [join([blades, nose]).moved(0, -length / 2 - 0.05, -0.1 * radius)]


def cylinder_lathe(profile: list[tuple[float, float]], role: Role) -> Part:
    """A surface of revolution with its axis along +y."""
    return lathe(profile, role, segments=14).turned("x", -90)


def helicopter(rng: Generator) -> Part:
    """A helicopter: egg-shaped cabin, boom, rotor, skids."""
    width, length = rng.uniform(0.75, 1.0), rng.uniform(1.3, 1.8)
    boom = rng.uniform(2.6, 3.4)
    parts = [ellipsoid((width, length, rng.uniform(0.85, 1.05)), Role.MAIN, segments=18, rings=12)]
    parts.append(
        ellipsoid((width * 0.92, length * 0.72, 0.72), Role.GLASS, at=(0, -length * 0.36, 0.14), segments=16, rings=10)
    )
    parts.append(tube([(0, length * 0.6, 0.25), (0, length + boom, 0.5)], [0.42, 0.13], Role.MAIN, segments=10))
    end = length + boom
    parts.append(extrude([(end - 0.4, 0.4), (end + 0.15, 0.4), (end + 0.6, 1.4), (end + 0.15, 1.4)], 0.1, Role.ACCENT))
    parts.append(box((1.3, 0.4, 0.07), Role.SECOND, at=(0, end - 0.7, 0.45)))
    mast = rng.uniform(1.1, 1.3)
    parts.append(box((0.8, 1.3, 0.45), Role.SECOND, at=(0, 0.35, 0.7), bevel=0.12))
    parts.append(cylinder(0.09, mast - 0.7, Role.DARK, at=(0, 0.2, 0.8), segments=8))
    blades = int(rng.integers(1, 3))
    reach = rng.uniform(2.6, 3.3)
    for i in range(blades):
        angle = 45.0 + 90.0 * i if blades == 2 else 0.0
        blade = box((2 * reach, 0.2, 0.05), Role.DARK).turned("z", angle)
        parts.append(blade.moved(0, 0.2, mast + 0.1))
    rotor = join([box((0.05, 0.1, 1.3), Role.DARK, at=(0, 0, -0.65)).turned("x", a) for a in (30, 120)])
    parts.append(rotor.moved(0, end + 0.1, 0.75))
    skid = [(0.75, -1.5, -1.15), (0.75, -1.2, -1.35), (0.75, 1.1, -1.35)]
    parts.append(tube(skid, 0.06, Role.LIGHT, segments=6).both_sides())
    for y in (-0.6, 0.6):
        parts.append(tube([(0.75, y, -1.35), (0.35, y * 0.8, -0.6)], 0.05, Role.LIGHT, segments=5).both_sides())
    return join(parts)


def boat(rng: Generator) -> Part:
    """A motor boat or a sailing boat: pointed bow at -y."""
    length, beam, depth = rng.uniform(5.0, 7.0), rng.uniform(1.7, 2.3), rng.uniform(0.8, 1.1)
    sections = []
    for t in np.linspace(0, 1, 9):
        half = beam / 2 * (0.03 + 0.97 * min(1.0, (t / 0.6)) ** 0.6) * (1 - 0.12 * max(0.0, t - 0.6))
        sheer = depth * (1 + 0.35 * (1 - t) ** 2)
        keel = depth * 0.7 * max(0.0, 1 - t / 0.28) ** 2
        y = -length / 2 + t * length
        ring = [[-half, y, sheer], [-half * 0.8, y, keel + (sheer - keel) * 0.35], [0, y, keel]]
        ring += [
            [half * 0.8, y, keel + (sheer - keel) * 0.35],
            [half, y, sheer],
            [half * 0.86, y, sheer],
            [0, y, sheer - 0.1],
            [-half * 0.86, y, sheer],
        ]
        sections.append(ring)
    parts = [loft(np.array(sections), Role.MAIN)]
    parts.append(box((beam * 0.86, 0.1, depth * 0.6), Role.SECOND, at=(0, length / 2 + 0.02, depth * 0.3)))
    parts += _sails(rng, length, depth) if rng.random() < 0.45 else _motor_cabin(rng, length, beam, depth)
    return join(parts)


def _sails(rng: Generator, length: float, depth: float) -> list[Part]:
    height, mast = rng.uniform(4.5, 6.0), rng.uniform(-0.6, 0.0)
    boom = length / 2 - mast - rng.uniform(0.2, 0.8)
    base = depth + 0.8
    main = [
        (mast + 0.08, base),
        (mast + boom, base),
        (mast + boom * 0.55, base + height * 0.45),
        (mast + 0.08, base + height * 0.92),
    ]
    jib = [(-length / 2 + 0.15, depth + 0.5), (mast - 0.15, base), (mast - 0.1, base + height * 0.8)]
    parts = [cylinder(0.07, height + 0.9, Role.LIGHT, at=(0, mast, depth - 0.1), segments=8)]
    parts += [extrude(main, 0.09, Role.SECOND), extrude(jib, 0.07, Role.ACCENT)]
    parts.append(tube([(0, mast, base), (0, mast + boom, base)], 0.06, Role.LIGHT, segments=6))
    parts.append(box((0.9, 1.5, 0.4), Role.GLASS, at=(0, -0.5, depth - 0.05), taper=(0.8, 0.8), bevel=0.06))
    return parts


def _motor_cabin(rng: Generator, length: float, beam: float, depth: float) -> list[Part]:
    height, at = rng.uniform(0.7, 1.1), rng.uniform(-0.6, 0.1)
    size = (beam * 0.62, length * rng.uniform(0.25, 0.36), height)
    parts = [box(size, Role.SECOND, at=(0, at, depth - 0.1), taper=(0.85, 0.75), lean=(0, 0.25), bevel=0.05)]
    window = (size[0] * 1.02, size[1] * 1.01, height * 0.35)
    parts.append(box(window, Role.GLASS, at=(0, at + 0.1, depth + height * 0.35), taper=(0.93, 0.9), lean=(0, 0.09)))
    parts.append(box((size[0] * 1.1, size[1] * 1.0, 0.08), Role.ACCENT, at=(0, at + 0.22, depth + height - 0.12)))
    parts.append(box((beam * 0.7, 0.45, 0.3), Role.ACCENT, at=(0, length * 0.36, depth - 0.12), bevel=0.05))
    parts.append(box((0.4, 0.45, 0.75), Role.DARK, at=(0, length / 2 + 0.2, depth * 0.5), bevel=0.08))
    rail = [
        (beam * 0.42, -0.2, depth + 0.1),
        (beam * 0.38, -0.2, depth + 0.45),
        (0.06, -length / 2 + 0.25, depth * 1.35 + 0.3),
    ]
    parts.append(tube(rail, 0.04, Role.LIGHT, segments=5).both_sides())
    return parts
