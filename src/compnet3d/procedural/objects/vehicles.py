"""Vehicles. Each function models one instance, in metres, front towards -y, z up, mirror-symmetric in x."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from compnet3d.procedural.parts import Part, Role, box, cylinder, ellipsoid, extrude, join, loft, torus, tube, wheel


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
    for start, stop in ((low[0], high[0]), (low[1], high[1]), (sum(low) / 2, sum(low) / 2)):
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
    parts += _greenhouse(
        (windscreen, tail), (windscreen + rake[0], tail - rake[1]), (width * 0.93, width * 0.76), (belt, roof)
    )
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
        parts.append(
            tube(
                [(width * 0.3, windscreen + 0.8, roof + 0.09), (width * 0.3, tail - 0.2, roof + 0.09)],
                0.03,
                Role.DARK,
                segments=4,
            ).both_sides()
        )
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
        screen = box(
            (width * 0.86, 0.14, 1.05), Role.GLASS, at=(0, front + lean * 0.35, z - 0.15), lean=(0, lean * 0.45)
        )
        parts.append(screen)
    parts.append(box((width * 0.6, 0.1, 0.28), Role.LIGHT, at=(0, front + lean * 0.95, height - 0.42)))
    parts.append(box((0.4, 0.1, 0.2), Role.LIGHT, at=(width / 2 - 0.4, front, floor + 0.3)).both_sides())
    parts.append(box((width * 0.96, 0.1, 0.24), Role.DARK, at=(0, front - 0.03, floor)))
    parts.append(box((0.25, 0.08, 0.4), Role.ACCENT, at=(width / 2 - 0.3, back, floor + 0.3)).both_sides())
    parts.append(box((width * 0.6, 0.08, 0.5), Role.DARK, at=(0, back, floor + 0.15)))
    if rng.random() < 0.7:
        parts.append(
            box(
                (0.05, length * 0.97, rng.uniform(0.15, 0.35)), Role.SECOND, at=(width / 2, 0, floor + 0.35)
            ).both_sides()
        )
    radius = rng.uniform(0.42, 0.5)
    for y in (front + length * 0.2, back - length * 0.24):
        parts.append(wheel(radius, 0.3, (width / 2 - 0.1, y, radius)).both_sides())
    mirror = tube(
        [
            (width / 2 - 0.1, front + 0.2, 2.3),
            (width / 2 + 0.15, front - 0.25, 2.35),
            (width / 2 + 0.15, front - 0.25, 1.8),
        ],
        0.06,
        Role.DARK,
        segments=4,
    )
    parts.append(mirror.both_sides())
    if rng.random() < 0.6:
        parts.append(
            box(
                (width * 0.6, length * 0.2, 0.25),
                Role.SECOND,
                at=(0, length * rng.uniform(0.05, 0.3), height - 0.03),
                bevel=0.05,
            )
        )
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
    parts.append(
        box(
            (0.06, cab_length * 0.5, cab_height * 0.35), Role.GLASS, at=(width * 0.48, start + cab_length * 0.5, z)
        ).both_sides()
    )
    if nose:
        parts.append(
            box(
                (width * 0.8, nose + 0.1, cab_height * 0.42),
                Role.MAIN,
                at=(0, front + nose / 2, deck - 0.45),
                bevel=0.1,
            )
        )
        parts.append(
            box((0.35, nose, 0.3), Role.SECOND, at=(width * 0.44, front + nose / 2, radius + 0.3)).both_sides()
        )
    parts.append(box((width * 0.45, 0.1, 0.5), Role.DARK, at=(0, front - 0.02, deck - 0.35)))
    parts.append(
        ellipsoid(
            (0.16, 0.08, 0.16), Role.LIGHT, at=(width * 0.36, front - 0.02, deck - 0.1), segments=8, rings=6
        ).both_sides()
    )
    parts.append(box((width, 0.15, 0.25), Role.LIGHT, at=(0, front - 0.03, deck - 0.65)))
    bed_start = start + cab_length + 0.15
    parts.append(box((width * 0.7, back - start - 0.5, 0.3), Role.DARK, at=(0, (back + start + 0.4) / 2, deck - 0.35)))
    parts += _truck_load(rng, (bed_start, back), width, deck)
    axles = [front + max(0.6, nose * 0.6), back - 0.8] + ([back - 0.8 - 2.3 * radius] if length > 7 else [])
    for y in axles:
        parts.append(wheel(radius, 0.35, (width / 2 - 0.15, y, radius)).both_sides())
    if rng.random() < 0.5:
        pipe = [
            (width * 0.42, start + cab_length + 0.06, deck),
            (width * 0.42, start + cab_length + 0.06, deck + cab_height + 0.5),
        ]
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
        ribs = [
            box((width * 1.02, 0.06, height * 0.96), Role.LIGHT, at=(0, y, deck)) for y in (start + 0.1, back - 0.05)
        ]
        return [*parts, *ribs, box((0.06, 0.08, height * 0.9), Role.DARK, at=(0, back, deck + 0.1))]
    if kind == 1:
        radius = width * 0.46
        tank = cylinder(radius, length, Role.SECOND, axis="y", segments=20, bevel=0.2).moved(0, start, deck + radius)
        hatch = [
            cylinder(0.3, 0.15, Role.DARK, at=(0, start + length * f, deck + 2 * radius - 0.04), segments=10)
            for f in (0.3, 0.7)
        ]
        return [tank, *hatch, box((width * 0.8, length, 0.2), Role.DARK, at=(0, middle, deck - 0.05))]
    height = rng.uniform(0.5, 0.9)
    parts = [box((width, length, 0.12), Role.SECOND, at=(0, middle, deck))]
    parts.append(box((0.1, length, height), Role.SECOND, at=(width / 2 - 0.05, middle, deck)).both_sides())
    parts += [
        box((width, 0.1, height * f), Role.SECOND, at=(0, y, deck))
        for y, f in ((start + 0.05, 1.5), (back - 0.05, 1.0))
    ]
    if rng.random() < 0.6:
        heap = ellipsoid(
            (width * 0.45, length * 0.45, height * 1.2), Role.ACCENT, at=(0, middle, deck + 0.1), segments=12, rings=6
        )
        parts.append(heap)
    return parts


def _bike_wheels(places: tuple[float, float], radius: float, thick: float) -> list[Part]:
    parts: list[Part] = []
    for y in places:
        parts.append(torus(radius - thick, thick, Role.DARK, segments=18).turned("y", 90).moved(0, y, radius))
        parts.append(cylinder(0.09, 0.14, Role.LIGHT, segments=8).moved(z=-0.07).turned("y", 90).moved(0, y, radius))
        spokes = [
            box((0.03, 0.04, 2 * (radius - thick)), Role.LIGHT, at=(0, 0, thick - radius)).turned("x", a)
            for a in (0, 60, 120)
        ]
        parts.append(join(spokes).moved(0, y, radius))
    return parts


def motorbike(rng: Generator) -> Part:
    """A motorbike: two wheels in line, tank, saddle, fork, handlebar, exhausts on both sides."""
    radius, base = rng.uniform(0.29, 0.34), rng.uniform(1.3, 1.6)
    thick = rng.uniform(0.06, 0.09)
    front, back = -base / 2, base / 2
    parts = _bike_wheels((front, back), radius, thick)
    rake = rng.uniform(0.25, 0.45)
    head = (0.0, front + rake, radius + 0.62)
    parts.append(tube([(0.1, front, radius), (0.1, head[1], head[2])], 0.035, Role.LIGHT, segments=6).both_sides())
    rise = rng.uniform(0.05, 0.3)
    bar = [(0, head[1], head[2]), (0.2, head[1] + 0.03, head[2] + rise), (0.4, head[1] + 0.14, head[2] + rise)]
    parts.append(tube(bar, 0.03, Role.DARK, segments=6).both_sides())
    parts.append(ellipsoid((0.13, 0.1, 0.13), Role.GLASS, at=(0, head[1] - 0.13, head[2] - 0.05), segments=10, rings=6))
    tank = rng.uniform(0.14, 0.19)
    parts.append(ellipsoid((tank, 0.32, 0.17), Role.MAIN, at=(0, head[1] + 0.34, radius + 0.5), segments=12, rings=8))
    seat = [
        (head[1] + 0.5, radius + 0.4),
        (back + 0.2, radius + 0.46),
        (back + 0.24, radius + 0.58),
        (head[1] + 0.85, radius + 0.5),
    ]
    parts.append(extrude(seat, 0.28, Role.SECOND, bevel=0.04))
    parts.append(box((0.3, 0.5, 0.42), Role.LIGHT, at=(0, -0.02, radius * 0.6), bevel=0.06))
    parts.append(
        tube(
            [(0, head[1], head[2] - 0.05), (0, -0.15, radius * 0.8), (0, back, radius)], 0.045, Role.ACCENT, segments=6
        )
    )
    parts.append(
        tube(
            [(0.16, -0.2, radius * 0.9), (0.2, 0.1, radius * 0.6), (0.2, back + 0.3, radius * 0.85)],
            [0.04, 0.05, 0.07],
            Role.LIGHT,
            segments=8,
        ).both_sides()
    )
    fender = extrude(
        [
            (back - 0.1, radius * 2.05),
            (back + 0.3, radius * 1.75),
            (back + 0.33, radius * 1.85),
            (back - 0.05, radius * 2.15),
        ],
        0.17,
        Role.MAIN,
    )
    parts.append(fender)
    if rng.random() < 0.45:
        nose = [
            (head[1] - 0.35, head[2] - 0.25),
            (head[1] + 0.1, head[2] - 0.35),
            (head[1] + 0.15, head[2] + 0.1),
            (head[1] - 0.1, head[2] + 0.2),
        ]
        parts.append(extrude(nose, 0.32, Role.MAIN, bevel=0.06))
        parts.append(
            box((0.24, 0.04, 0.26), Role.GLASS, at=(0, head[1] - 0.12, head[2] + 0.1), lean=(0, 0.16), taper=(0.7, 1.0))
        )
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
    parts.append(
        ellipsoid((0.25, 0.15, 0.25), Role.LIGHT, at=(0, front + 0.05, axis + radius * 0.4), segments=10, rings=6)
    )
    flare = rng.uniform(1.0, 1.9)
    parts.append(
        cylinder(
            0.27,
            rng.uniform(0.8, 1.2),
            Role.DARK,
            top=0.27 * flare,
            at=(0, front + 0.9, axis + radius - 0.1),
            segments=12,
        )
    )
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
    outline = [
        (front, 0.6),
        (back, 0.6),
        (back, height),
        (front + slope + 0.4, height),
        (front + slope, height - 0.1),
        (front + 0.15, 1.5),
    ]
    parts = [extrude(outline, width, Role.MAIN, bevel=0.2)]
    run = height - 1.8
    screen = loft(
        np.array(
            [
                [
                    [x, front + 0.2 + slope * t + d, 1.55 + t * run]
                    for x, d in ((-h, 0.0), (h, 0.0), (h, 0.3), (-h, 0.3))
                ]
                for t, h in ((0.25, width * 0.38), (0.85, width * 0.32))
            ]
        ),
        Role.GLASS,
    )
    parts.append(screen.moved(0, -0.1, 0.1))
    count = int(rng.integers(4, 7))
    pitch = (length - slope - 1.6) / count
    for i in range(count):
        parts.append(
            box(
                (0.06, pitch * 0.7, 0.65), Role.GLASS, at=(width / 2, front + slope + 1.2 + pitch * (i + 0.5), 1.75)
            ).both_sides()
        )
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
