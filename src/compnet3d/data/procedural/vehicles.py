"""Vehicles. Each function models one instance, in metres, front towards -y, z up, mirror-symmetric in x."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from compnet3d.data.procedural.parts import (
    Part,
    Role,
    box,
    cylinder,
    ellipsoid,
    extrude,
    join,
    loft,
    rounded_outline,
    torus,
    tube,
    wheel,
)


def _greenhouse(
    low: tuple[float, float], high: tuple[float, float], widths: tuple[float, float], z: tuple[float, float]
) -> list[Part]:
    """Windows all round, a roof and pillars: y ranges at belt and roof, widths there, heights there."""
    sections = []
    for (front, back), width, height in ((low, widths[0], z[0]), (high, widths[1], z[1])):
        x = width / 2
        sections.append([[-x, front, height], [x, front, height], [x, back, height], [-x, back, height]])
    parts = [loft(np.array(sections), Role.GLASS)]
    roof = (widths[1] * 1.02, (high[1] - high[0]) * 1.04, 0.07)
    parts.append(box(roof, Role.MAIN, at=(0, sum(high) / 2, z[1] - 0.02), bevel=0.02))
    for start, stop in ((low[0], high[0]), (low[1], high[1]), (np.mean(low), np.mean(low))):
        path = [(widths[0] / 2, start, z[0]), (widths[1] / 2, stop, z[1])]
        parts.append(tube(path, 0.035, Role.MAIN, segments=4).both_sides())
    return parts


def car(rng: Generator) -> Part:
    """A car: sedan, hatchback, estate or off-roader."""
    length, width = rng.uniform(3.6, 5.0), rng.uniform(1.6, 1.95)
    radius = rng.uniform(0.3, 0.4)
    floor, belt = radius * rng.uniform(0.75, 1.0), radius + rng.uniform(0.5, 0.62)
    hood = belt - rng.uniform(0.02, 0.16)
    roof = belt + rng.uniform(0.42, 0.62)
    front, back = -length / 2, length / 2
    windscreen = front + length * rng.uniform(0.26, 0.33)
    style = rng.integers(3)
    tail = back - (length * rng.uniform(0.16, 0.22) if style == 0 else rng.uniform(0.05, 0.2))
    rake = (rng.uniform(0.35, 0.7), rng.uniform(0.15, 0.6) if style < 2 else 0.12)
    outline = [(front, floor), (back, floor), (back + 0.03, belt - 0.25), (back - 0.05, belt), (windscreen, belt)]
    outline += [(front + 0.12, hood - 0.06), (front - 0.02, hood - 0.22)]
    parts = [extrude(outline, width, Role.MAIN, bevel=0.06)]
    parts += _greenhouse((windscreen, tail), (windscreen + rake[0], tail - rake[1]), (width * 0.93, width * 0.76), (belt, roof))
    axle = length * rng.uniform(0.28, 0.32)
    for y in (-axle, axle):
        parts.append(wheel(radius, 0.22, (width / 2 - 0.07, y, radius)).both_sides())
    lamp_z, lamp = hood - 0.22, rng.uniform(0.09, 0.14)
    if rng.random() < 0.5:
        lights = ellipsoid((lamp, 0.06, lamp), Role.LIGHT, segments=10, rings=6)
    else:
        lights = box((lamp * 2.6, 0.1, lamp * 1.2), Role.LIGHT, at=(0, 0, -lamp * 0.6))
    parts.append(lights.moved(width / 2 - 0.27, front - 0.01, lamp_z).both_sides())
    parts.append(box((width * 0.42, 0.08, 0.2), Role.DARK, at=(0, front + 0.01, lamp_z - 0.16)))
    parts.append(box((width * 0.98, 0.16, 0.14), Role.SECOND, at=(0, front, floor), bevel=0.04))
    parts.append(box((width * 0.98, 0.14, 0.14), Role.SECOND, at=(0, back, floor), bevel=0.04))
    parts.append(box((0.16, 0.08, 0.3), Role.ACCENT, at=(width / 2 - 0.14, back, belt - 0.4)).both_sides())
    parts.append(box((0.42, 0.06, 0.13), Role.LIGHT, at=(0, back + 0.02, belt - 0.42)))
    parts.append(box((0.16, 0.08, 0.12), Role.MAIN, at=(width / 2 + 0.06, windscreen + 0.2, belt)).both_sides())
    if style == 2 and rng.random() < 0.6:
        parts.append(tube([(width * 0.3, windscreen + 0.8, roof + 0.09), (width * 0.3, tail - 0.2, roof + 0.09)], 0.03, Role.DARK, segments=4).both_sides())
    return join(parts)


def bus(rng: Generator) -> Part:
    """A city bus or coach, sometimes with two decks."""
    length, width = rng.uniform(8.0, 11.5), rng.uniform(2.3, 2.6)
    decks = 2 if rng.random() < 0.3 else 1
    floor, height = 0.35, rng.uniform(2.7, 3.1) + (1.5 if decks == 2 else 0.0)
    front, back = -length / 2, length / 2
    lean = rng.uniform(0.0, 0.35)
    outline = [(front, floor), (back, floor), (back, height - 0.15), (back - 0.15, height)]
    outline += [(front + lean + 0.15, height), (front + lean * 0.4, height * 0.55)]
    parts = [extrude(outline, width, Role.MAIN, bevel=0.12)]
    count = int(rng.integers(5, 9))
    pitch = (length - 1.6) / count
    for deck in range(decks):
        z = 1.35 + 1.65 * deck
        for i in range(count):
            at = (width / 2, front + 1.3 + pitch * (i + 0.5), z)
            parts.append(box((0.06, pitch * 0.84, 0.85), Role.GLASS, at=at).both_sides())
        parts.append(box((width * 0.7, 0.06, 0.6), Role.GLASS, at=(0, back, z + 0.15)))
        screen = box((width * 0.86, 0.14, 1.05), Role.GLASS, at=(0, front + lean * 0.35, z - 0.15), lean=(0, lean * 0.45))
        parts.append(screen)
    parts.append(box((width * 0.6, 0.1, 0.28), Role.LIGHT, at=(0, front + lean * 0.95, height - 0.42)))
    parts.append(box((0.4, 0.1, 0.2), Role.LIGHT, at=(width / 2 - 0.4, front, floor + 0.3)).both_sides())
    parts.append(box((width * 0.96, 0.1, 0.24), Role.DARK, at=(0, front - 0.03, floor)))
    parts.append(box((0.25, 0.08, 0.4), Role.ACCENT, at=(width / 2 - 0.3, back, floor + 0.3)).both_sides())
    parts.append(box((width * 0.6, 0.08, 0.5), Role.DARK, at=(0, back, floor + 0.15)))
    if rng.random() < 0.7:
        parts.append(box((0.05, length * 0.97, rng.uniform(0.15, 0.35)), Role.SECOND, at=(width / 2, 0, floor + 0.35)).both_sides())
    radius = rng.uniform(0.42, 0.5)
    for y in (front + length * 0.2, back - length * 0.24):
        parts.append(wheel(radius, 0.3, (width / 2 - 0.1, y, radius)).both_sides())
    mirror = tube([(width / 2 - 0.1, front + 0.2, 2.3), (width / 2 + 0.15, front - 0.25, 2.35), (width / 2 + 0.15, front - 0.25, 1.8)], 0.06, Role.DARK, segments=4)
    parts.append(mirror.both_sides())
    if rng.random() < 0.6:
        parts.append(box((width * 0.6, length * 0.2, 0.25), Role.SECOND, at=(0, length * rng.uniform(0.05, 0.3), height - 0.03), bevel=0.05))
    return join(parts)


def truck(rng: Generator) -> Part:
    """A lorry: a cab in front of a box, a tank, or an open bed with planks."""
    length, width = rng.uniform(6.0, 8.5), rng.uniform(2.2, 2.5)
    front, back, radius = -length / 2, length / 2, rng.uniform(0.45, 0.55)
    cab_length, cab_height = rng.uniform(1.6, 2.0), rng.uniform(1.9, 2.3)
    deck = radius + 0.35
    nose = rng.uniform(0.9, 1.3) if rng.random() < 0.4 else 0.0
    start = front + nose
    lean = rng.uniform(0.05, 0.3)
    outline = [(start, deck - 0.45), (start + cab_length, deck - 0.45), (start + cab_length, deck + cab_height)]
    outline += [(start + lean + 0.1, deck + cab_height), (start, deck + cab_height * 0.45)]
    parts = [extrude(outline, width * 0.96, Role.MAIN, bevel=0.08)]
    z = deck + cab_height * 0.5
    parts.append(box((width * 0.82, 0.12, cab_height * 0.4), Role.GLASS, at=(0, start - 0.02, z), lean=(0, lean)))
    parts.append(box((0.06, cab_length * 0.5, cab_height * 0.35), Role.GLASS, at=(width * 0.48, start + cab_length * 0.5, z)).both_sides())
    if nose:
        parts.append(box((width * 0.8, nose + 0.1, cab_height * 0.42), Role.MAIN, at=(0, front + nose / 2, deck - 0.45), bevel=0.1))
        parts.append(box((0.35, nose, 0.3), Role.SECOND, at=(width * 0.44, front + nose / 2, radius + 0.3)).both_sides())
    parts.append(box((width * 0.45, 0.1, 0.5), Role.DARK, at=(0, front - 0.02, deck - 0.35)))
    parts.append(ellipsoid((0.16, 0.08, 0.16), Role.LIGHT, at=(width * 0.36, front - 0.02, deck - 0.1), segments=8, rings=6).both_sides())
    parts.append(box((width, 0.15, 0.25), Role.LIGHT, at=(0, front - 0.03, deck - 0.65)))
    bed_start = start + cab_length + 0.15
    parts.append(box((width * 0.7, back - start - 0.5, 0.3), Role.DARK, at=(0, (back + start + 0.4) / 2, deck - 0.35)))
    parts += _truck_load(rng, (bed_start, back), width, deck)
    axles = [front + max(0.6, nose * 0.6), back - 0.8] + ([back - 0.8 - 2.3 * radius] if length > 7 else [])
    for y in axles:
        parts.append(wheel(radius, 0.35, (width / 2 - 0.15, y, radius)).both_sides())
    if rng.random() < 0.5:
        pipe = [(width * 0.42, start + cab_length + 0.06, deck), (width * 0.42, start + cab_length + 0.06, deck + cab_height + 0.5)]
        parts.append(tube(pipe, 0.08, Role.LIGHT, segments=6).both_sides())
    parts.append(box((0.22, 0.08, 0.2), Role.ACCENT, at=(width / 2 - 0.25, back, deck - 0.3)).both_sides())
    return join(parts)


def _truck_load(rng: Generator, span: tuple[float, float], width: float, deck: float) -> list[Part]:
    start, back = span
    length, middle = back - start, (start + back) / 2
    kind = rng.integers(3)
    if kind == 0:
        height = rng.uniform(2.1, 2.8)
        parts = [box((width, length, height), Role.SECOND, at=(0, middle, deck), bevel=0.05)]
        ribs = [box((width * 1.02, 0.06, height * 0.96), Role.LIGHT, at=(0, y, deck)) for y in (start + 0.1, back - 0.05)]
        return [*parts, *ribs, box((0.06, 0.08, height * 0.9), Role.DARK, at=(0, back, deck + 0.1))]
    if kind == 1:
        radius = width * 0.46
        tank = cylinder(radius, length, Role.SECOND, axis="y", segments=20, bevel=0.2).moved(0, start, deck + radius)
        hatch = [cylinder(0.3, 0.15, Role.DARK, at=(0, start + length * f, deck + 2 * radius - 0.04), segments=10) for f in (0.3, 0.7)]
        return [tank, *hatch, box((width * 0.8, length, 0.2), Role.DARK, at=(0, middle, deck - 0.05))]
    height = rng.uniform(0.5, 0.9)
    parts = [box((width, length, 0.12), Role.SECOND, at=(0, middle, deck))]
    parts.append(box((0.1, length, height), Role.SECOND, at=(width / 2 - 0.05, middle, deck)).both_sides())
    parts += [box((width, 0.1, height * f), Role.SECOND, at=(0, y, deck)) for y, f in ((start + 0.05, 1.5), (back - 0.05, 1.0))]
    if rng.random() < 0.6:
        heap = ellipsoid((width * 0.45, length * 0.45, height * 1.2), Role.ACCENT, at=(0, middle, deck + 0.1), segments=12, rings=6)
        parts.append(heap)
    return parts


def _wing(root: tuple[float, float, float], chord: float, tip: tuple[float, float, float], tip_chord: float, thick: float, role: Role) -> Part:
    """A wing from the middle of its root's leading edge outwards; the outline lies along y, pointed at the back."""
    sections = []
    for (x, y, z), length, share in ((root, chord, 1.0), (tip, tip_chord, 0.5)):
        t = thick * share / 2
        sections.append([[x, y, z], [x, y + length * 0.3, z + t], [x, y + length, z], [x, y + length * 0.3, z - t]])
    return loft(np.array(sections), role)


def aeroplane(rng: Generator) -> Part:
    """An airliner, a propeller plane or a jet: fuselage along y, nose at -y."""
    length = 10.0
    radius = rng.uniform(0.5, 0.72)
    stations = [(0.0, 0.08, -0.12), (0.04, 0.5, -0.08), (0.1, 0.82, -0.03), (0.18, 1.0, 0.0), (0.62, 1.0, 0.0), (0.85, 0.62, 0.2), (1.0, 0.18, 0.42)]
    outline = rounded_outline(1.0, 1.0, 2.0, 16)
    sections = [
        np.column_stack([outline[:, 0] * r * radius, np.full(16, -length / 2 + t * length), (outline[:, 1] * r + lift) * radius])
        for t, r, lift in stations
    ]
    parts = [loft(np.stack(sections), Role.MAIN)]
    span, sweep, dihedral = rng.uniform(3.8, 5.6), rng.uniform(0.2, 2.6), rng.uniform(0.0, 0.6)
    high = rng.random() < 0.3
    z, y = radius * (0.75 if high else -0.4), rng.uniform(-1.6, -0.9)
    chord = rng.uniform(1.7, 2.4)
    tip = (span, y + sweep, z + dihedral)
    parts.append(_wing((radius * 0.3, y, z), chord, tip, chord * rng.uniform(0.35, 0.7), 0.3, Role.SECOND).both_sides())
    tail_y, tail_z = length / 2 - 1.6, radius * 0.35
    fin = rng.uniform(1.4, 2.0)
    t_tail = rng.random() < 0.3
    fin_outline = [(tail_y - 0.2, tail_z), (tail_y + 1.5, tail_z), (tail_y + 1.9, tail_z + fin), (tail_y + 1.1, tail_z + fin)]
    parts.append(extrude(fin_outline, 0.16, Role.ACCENT))
    level = tail_z + (fin if t_tail else 0.1)
    stabiliser = _wing((0.05, tail_y + (1.0 if t_tail else 0.3), level), 1.1, (span * 0.4, tail_y + 1.3, level + 0.1), 0.6, 0.16, Role.SECOND)
    parts.append(stabiliser.both_sides())
    parts.append(box((radius * 1.1, 0.55, 0.3), Role.GLASS, at=(0, -length / 2 + 1.0, radius * 0.5), taper=(0.7, 0.5), lean=(0, 0.25)))
    windows = int(rng.integers(5, 10))
    for i in range(windows):
        at = (radius * 0.97, -length * 0.3 + i * (length * 0.5 / windows), radius * 0.15)
        parts.append(box((0.08, 0.22, 0.22), Role.GLASS, at=at).both_sides())
    parts += _engines(rng, radius, (span, y, z, sweep, dihedral), chord, length)
    return join(parts)


def _engines(rng: Generator, radius: float, wing: tuple[float, float, float, float, float], chord: float, length: float) -> list[Part]:
    span, y, z, sweep, dihedral = wing
    kind = rng.integers(3)
    profile = [(0.2, 0.0), (0.32, 0.1), (0.36, 0.5), (0.26, 1.3)]
    engine = join([cylinder(0.25, 0.06, Role.DARK, axis="y", at=(0, -0.02, 0), segments=12), cylinder_lathe(profile, Role.LIGHT)])
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
    from compnet3d.data.procedural.parts import lathe

    return lathe(profile, role, segments=14).turned("x", -90)


def helicopter(rng: Generator) -> Part:
    """A helicopter: egg-shaped cabin, boom, rotor, skids."""
    width, length = rng.uniform(0.75, 1.0), rng.uniform(1.3, 1.8)
    boom = rng.uniform(2.6, 3.4)
    parts = [ellipsoid((width, length, rng.uniform(0.85, 1.05)), Role.MAIN, segments=18, rings=12)]
    parts.append(ellipsoid((width * 0.92, length * 0.72, 0.72), Role.GLASS, at=(0, -length * 0.36, 0.14), segments=16, rings=10))
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
        ring += [[half * 0.8, y, keel + (sheer - keel) * 0.35], [half, y, sheer], [half * 0.86, y, sheer], [0, y, sheer - 0.1], [-half * 0.86, y, sheer]]
        sections.append(ring)
    parts = [loft(np.array(sections), Role.MAIN)]
    parts.append(box((beam * 0.86, 0.1, depth * 0.6), Role.SECOND, at=(0, length / 2 + 0.02, depth * 0.3)))
    parts += _sails(rng, length, depth) if rng.random() < 0.45 else _motor_cabin(rng, length, beam, depth)
    return join(parts)


def _sails(rng: Generator, length: float, depth: float) -> list[Part]:
    height, mast = rng.uniform(4.5, 6.0), rng.uniform(-0.6, 0.0)
    boom = length / 2 - mast - rng.uniform(0.2, 0.8)
    base = depth + 0.8
    main = [(mast + 0.08, base), (mast + boom, base), (mast + boom * 0.55, base + height * 0.45), (mast + 0.08, base + height * 0.92)]
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
    rail = [(beam * 0.42, -0.2, depth + 0.1), (beam * 0.38, -0.2, depth + 0.45), (0.06, -length / 2 + 0.25, depth * 1.35 + 0.3)]
    parts.append(tube(rail, 0.04, Role.LIGHT, segments=5).both_sides())
    return parts


def motorbike(rng: Generator) -> Part:
    """A motorbike: two wheels in line, tank, saddle, fork, handlebar, exhausts on both sides."""
    radius, base = rng.uniform(0.29, 0.34), rng.uniform(1.3, 1.6)
    thick = rng.uniform(0.06, 0.09)
    front, back = -base / 2, base / 2
    parts = []
    for y in (front, back):
        parts.append(torus(radius - thick, thick, Role.DARK, segments=18).turned("y", 90).moved(0, y, radius))
        parts.append(cylinder(0.09, 0.14, Role.LIGHT, segments=8).moved(z=-0.07).turned("y", 90).moved(0, y, radius))
        spokes = [box((0.03, 0.04, 2 * (radius - thick)), Role.LIGHT, at=(0, 0, thick - radius)).turned("x", a) for a in (0, 60, 120)]
        parts.append(join(spokes).moved(0, y, radius))
    rake = rng.uniform(0.25, 0.45)
    head = (0.0, front + rake, radius + 0.62)
    parts.append(tube([(0.1, front, radius), (0.1, head[1], head[2])], 0.035, Role.LIGHT, segments=6).both_sides())
    rise = rng.uniform(0.05, 0.3)
    bar = [(0, head[1], head[2]), (0.2, head[1] + 0.03, head[2] + rise), (0.4, head[1] + 0.14, head[2] + rise)]
    parts.append(tube(bar, 0.03, Role.DARK, segments=6).both_sides())
    parts.append(ellipsoid((0.13, 0.1, 0.13), Role.GLASS, at=(0, head[1] - 0.13, head[2] - 0.05), segments=10, rings=6))
    tank = rng.uniform(0.14, 0.19)
    parts.append(ellipsoid((tank, 0.32, 0.17), Role.MAIN, at=(0, head[1] + 0.34, radius + 0.5), segments=12, rings=8))
    seat = [(head[1] + 0.5, radius + 0.4), (back + 0.2, radius + 0.46), (back + 0.24, radius + 0.58), (head[1] + 0.85, radius + 0.5)]
    parts.append(extrude(seat, 0.28, Role.SECOND, bevel=0.04))
    parts.append(box((0.3, 0.5, 0.42), Role.LIGHT, at=(0, -0.02, radius * 0.6), bevel=0.06))
    parts.append(tube([(0, head[1], head[2] - 0.05), (0, -0.15, radius * 0.8), (0, back, radius)], 0.045, Role.ACCENT, segments=6))
    parts.append(tube([(0.16, -0.2, radius * 0.9), (0.2, 0.1, radius * 0.6), (0.2, back + 0.3, radius * 0.85)], [0.04, 0.05, 0.07], Role.LIGHT, segments=8).both_sides())
    fender = extrude([(back - 0.1, radius * 2.05), (back + 0.3, radius * 1.75), (back + 0.33, radius * 1.85), (back - 0.05, radius * 2.15)], 0.17, Role.MAIN)
    parts.append(fender)
    if rng.random() < 0.45:
        nose = [(head[1] - 0.35, head[2] - 0.25), (head[1] + 0.1, head[2] - 0.35), (head[1] + 0.15, head[2] + 0.1), (head[1] - 0.1, head[2] + 0.2)]
        parts.append(extrude(nose, 0.32, Role.MAIN, bevel=0.06))
        parts.append(box((0.24, 0.04, 0.26), Role.GLASS, at=(0, head[1] - 0.12, head[2] + 0.1), lean=(0, 0.16), taper=(0.7, 1.0)))
    return join(parts)


def train(rng: Generator) -> Part:
    """A steam locomotive or an electric one with a sloping nose."""
    return _steam_engine(rng) if rng.random() < 0.5 else _electric_engine(rng)


def _steam_engine(rng: Generator) -> Part:
    length, radius = rng.uniform(7.0, 9.0), rng.uniform(0.75, 0.95)
    front, back, axis = -length / 2, length / 2, 2.1
    cab = rng.uniform(1.7, 2.2)
    parts = [cylinder(radius, length - cab - 0.3, Role.MAIN, axis="y", segments=20).moved(0, front + 0.3, axis)]
    parts.append(cylinder(radius * 1.06, 0.5, Role.DARK, axis="y", segments=20, bevel=0.1).moved(0, front + 0.1, axis))
    parts.append(ellipsoid((0.25, 0.15, 0.25), Role.LIGHT, at=(0, front + 0.05, axis + radius * 0.4), segments=10, rings=6))
    flare = rng.uniform(1.0, 1.9)
    parts.append(cylinder(0.27, rng.uniform(0.8, 1.2), Role.DARK, top=0.27 * flare, at=(0, front + 0.9, axis + radius - 0.1), segments=12))
    for y in (front + length * 0.35, front + length * 0.52):
        parts.append(ellipsoid((0.35, 0.35, 0.45), Role.ACCENT, at=(0, y, axis + radius), segments=12, rings=6))
    parts.append(box((2.3, cab, 2.2), Role.MAIN, at=(0, back - cab / 2, 1.15), bevel=0.05))
    parts.append(box((2.34, cab * 0.55, 0.75), Role.GLASS, at=(0, back - cab / 2, 2.35)))
    parts.append(box((2.6, cab + 0.4, 0.14), Role.SECOND, at=(0, back - cab / 2, 3.35), bevel=0.04))
    parts.append(box((2.1, length, 0.25), Role.SECOND, at=(0, 0, 0.95)))
    pilot = [(front - 0.75, 0.15), (front + 0.1, 0.15), (front + 0.1, 1.0)]
    parts.append(extrude(pilot, 1.9, Role.ACCENT))
    big = rng.uniform(0.55, 0.7)
    for i in range(int(rng.integers(2, 4))):
        parts.append(wheel(big, 0.2, (0.95, back - 1.0 - i * 2.15 * big, big), hub=Role.ACCENT).both_sides())
    for i in range(2):
        parts.append(wheel(0.36, 0.18, (0.9, front + 0.5 + 0.85 * i, 0.36), hub=Role.ACCENT).both_sides())
    parts.append(box((0.12, length * 0.4, 0.12), Role.LIGHT, at=(1.1, back - 2.0, big)).both_sides())
    return join(parts)


def _electric_engine(rng: Generator) -> Part:
    length, width, height = rng.uniform(9.5, 12.0), rng.uniform(2.3, 2.6), rng.uniform(2.9, 3.3)
    front, back = -length / 2, length / 2
    slope = rng.uniform(1.0, 3.0)
    outline = [(front, 0.6), (back, 0.6), (back, height), (front + slope + 0.4, height), (front + slope, height - 0.1), (front + 0.15, 1.5)]
    parts = [extrude(outline, width, Role.MAIN, bevel=0.2)]
    run = height - 1.8
    screen = loft(np.array([[[x, front + 0.2 + slope * t + d, 1.55 + t * run] for x, d in ((-h, 0.0), (h, 0.0), (h, 0.3), (-h, 0.3))] for t, h in ((0.25, width * 0.38), (0.85, width * 0.32))]), Role.GLASS)
    parts.append(screen.moved(0, -0.1, 0.1))
    count = int(rng.integers(4, 7))
    pitch = (length - slope - 1.6) / count
    for i in range(count):
        parts.append(box((0.06, pitch * 0.7, 0.65), Role.GLASS, at=(width / 2, front + slope + 1.2 + pitch * (i + 0.5), 1.75)).both_sides())
    parts.append(box((0.05, length * 0.85, 0.25), Role.SECOND, at=(width / 2, length * 0.05, 1.15)).both_sides())
    parts.append(box((0.3, 0.12, 0.2), Role.LIGHT, at=(width * 0.32, front + 0.02, 1.05)).both_sides())
    parts.append(box((width * 0.9, 0.3, 0.4), Role.ACCENT, at=(0, front + 0.05, 0.35), bevel=0.05))
    parts.append(box((width * 0.75, length * 0.9, 0.35), Role.DARK, at=(0, 0, 0.35)))
    for y in (front + 1.6, front + 2.7, back - 2.5, back - 1.4):
        parts.append(wheel(0.42, 0.2, (width * 0.38, y, 0.42)).both_sides())
    mid = rng.uniform(0.5, 2.0)
    pantograph = [(0.5, mid, height), (0.5, mid + 0.7, height + 0.45), (0.5, mid, height + 0.85)]
    parts.append(tube(pantograph, 0.06, Role.DARK, segments=5).both_sides())
    parts.append(box((1.7, 0.15, 0.08), Role.DARK, at=(0, mid, height + 0.82)))
    parts.append(box((width * 0.6, 2.0, 0.22), Role.SECOND, at=(0, back - 2.2, height - 0.02), bevel=0.05))
    parts.append(box((width * 0.36, 0.1, 1.7), Role.DARK, at=(0, back, 0.9)))
    return join(parts)
