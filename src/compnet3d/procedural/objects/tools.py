"""Hand tools and kitchen tools. Each function models one instance; the working end or side faces -y, z up."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from compnet3d.procedural.parts import Part, Role, box, cylinder, ellipsoid, extrude, join, lathe, loft, tube


def hammer(rng: Generator) -> Part:
    """A claw hammer standing on its handle: the face at -y, the claw at +y."""
    handle, radius = rng.uniform(0.22, 0.32), rng.uniform(0.012, 0.018)
    grip = handle * rng.uniform(0.3, 0.5)
    profile = [
        (radius * 1.1, 0),
        (radius * 1.35, grip * 0.3),
        (radius * 1.1, grip),
        (radius * 0.8, grip * 1.1),
        (radius * 0.8, handle),
    ]
    parts = [lathe(profile, Role.MAIN, segments=12)]
    parts.append(
        lathe([(radius * 1.25, 0.005), (radius * 1.5, grip * 0.3), (radius * 1.25, grip)], Role.ACCENT, segments=12)
    )
    size, face = rng.uniform(0.028, 0.04), rng.uniform(0.016, 0.024)
    z = handle + size * 0.2
    parts.append(box((size, size * 1.2, size * 1.2), Role.LIGHT, at=(0, 0, z - size * 0.6), bevel=0.004))
    reach = rng.uniform(0.05, 0.07)
    parts.append(cylinder(face * 0.75, reach * 0.7, Role.LIGHT, axis="y", segments=12).moved(0, -reach * 0.75, z))
    parts.append(cylinder(face, reach * 0.35, Role.SECOND, axis="y", segments=14, bevel=0.003).moved(0, -reach, z))
    drop, length = rng.uniform(0.015, 0.045), rng.uniform(0.07, 0.1)
    outline = [
        (0.01, z + size * 0.5),
        (length * 0.6, z + size * 0.35),
        (length, z - drop),
        (length * 0.6, z),
        (0.01, z - size * 0.5),
    ]
    parts.append(extrude(outline, size * 0.3, Role.LIGHT).moved(x=size * 0.32).both_sides())
    return join(parts)


def pan(rng: Generator) -> Part:
    """A frying pan or saucepan: a hollow round body, a long handle towards -y."""
    radius, height = rng.uniform(0.11, 0.15), rng.choice([rng.uniform(0.035, 0.05), rng.uniform(0.07, 0.11)])
    flare, wall = rng.uniform(1.0, 1.2), 0.006
    profile = [
        (0, 0),
        (radius, 0),
        (radius * flare, height),
        (radius * flare - wall, height),
        (radius - wall, wall),
        (0, wall),
    ]
    parts = [lathe(profile, Role.MAIN, segments=26)]
    parts.append(
        lathe(
            [(0, wall), (radius * 0.93, wall), (radius * 0.93, wall + 0.003), (0, wall + 0.003)], Role.DARK, segments=22
        )
    )
    edge, length = radius * flare - 0.005, rng.uniform(0.15, 0.21)
    rise = rng.uniform(0.0, 0.06)
    path = [
        (0, -edge, height * 0.75),
        (0, -edge - length * 0.3, height * 0.8 + rise * 0.6),
        (0, -edge - length, height * 0.8 + rise),
    ]
    if rng.random() < 0.5:
        parts.append(tube(path, [0.008, 0.012, 0.015], Role.SECOND, segments=8))
    else:
        parts.append(tube(path, [0.012, 0.018, 0.022], Role.SECOND, segments=8))
    parts.append(box((0.04, 0.012, height * 0.4), Role.LIGHT, at=(0, -edge, height * 0.5)))
    if rng.random() < 0.35:
        helper = [
            (0.03, edge, height * 0.8),
            (0.025, edge + 0.03, height * 0.85),
            (-0.025, edge + 0.03, height * 0.85),
            (-0.03, edge, height * 0.8),
        ]
        parts.append(tube(helper, 0.006, Role.LIGHT, segments=6))
    return join(parts)


def power_drill(rng: Generator) -> Part:
    """A cordless drill: bit and chuck at -y, grip below, battery under the grip."""
    radius, length = rng.uniform(0.028, 0.036), rng.uniform(0.12, 0.16)
    front, z = -length / 2, 0.19
    parts = [
        lathe(
            [(radius * 0.8, 0), (radius, 0.015), (radius, length - 0.02), (radius * 0.7, length)],
            Role.MAIN,
            segments=16,
        )
        .turned("x", -90)
        .moved(0, front, z)
    ]
    parts.append(
        lathe([(radius * 0.75, 0), (radius * 0.75, 0.03), (radius * 0.35, 0.055)], Role.DARK, segments=14)
        .turned("x", 90)
        .moved(0, front + 0.005, z)
    )
    bit = rng.uniform(0.05, 0.11)
    parts.append(tube([(0, front - 0.04, z), (0, front - 0.05 - bit, z)], [0.006, 0.005], Role.LIGHT, segments=6))
    parts.append(
        lathe([(radius * 1.04, 0.0), (radius * 1.04, 0.016)], Role.ACCENT, segments=16)
        .turned("x", -90)
        .moved(0, front + 0.03, z)
    )
    back = rng.uniform(0.02, 0.035)
    grip = [
        (front + 0.055, z - 0.01),
        (back + 0.045, z - 0.01),
        (back + 0.06, 0.055),
        (back - 0.005, 0.055),
        (front + 0.075, z - 0.05),
    ]
    parts.append(extrude(grip, radius * 1.25, Role.MAIN, bevel=0.007))
    parts.append(box((radius * 0.5, 0.02, 0.032), Role.ACCENT, at=(0, front + 0.066, z - 0.075)))
    size = (radius * rng.uniform(1.8, 2.3), rng.uniform(0.09, 0.13), rng.uniform(0.04, 0.065))
    parts.append(box(size, Role.DARK, at=(0, back - 0.005, 0.06 - size[2]), bevel=0.008))
    parts.append(
        box((size[0] * 0.8, 0.012, size[2] * 0.5), Role.LIGHT, at=(0, back - 0.005 - size[1] / 2, 0.06 - size[2] * 0.8))
    )
    parts.append(box((radius * 0.9, 0.012, 0.02), Role.SECOND, at=(0, length / 2 - 0.004, z - 0.01)))
    return join(parts)


def iron(rng: Generator) -> Part:
    """A flat iron: pointed sole at -y, handle above, flex at the back."""
    length, width = rng.uniform(0.24, 0.29), rng.uniform(0.1, 0.125)
    t = np.array([0.0, 0.12, 0.3, 0.5, 0.8, 1.0])
    half = np.array([0.02, 0.45, 0.78, 0.95, 1.0, 0.9]) * width / 2
    y = -length / 2 + t * length
    outline = np.concatenate([np.column_stack([half, y]), np.column_stack([-half, y])[::-1]])
    levels = [(0.0, 1.0, 0.0), (0.012, 1.0, 0.0), (0.013, 0.9, 0.0), (0.05, 0.75, 0.01), (0.07, 0.45, 0.02)]
    rings = [np.column_stack([outline * s + [0.0, shift], np.full(len(outline), z)]) for z, s, shift in levels]
    parts = [loft(np.stack(rings[:2]), Role.LIGHT), loft(np.stack(rings[2:]), Role.MAIN)]
    top = rng.uniform(0.11, 0.14)
    grip = [
        (0, -length * 0.24, 0.05),
        (0, -length * 0.26, top * 0.9),
        (0, -length * 0.1, top),
        (0, length * 0.25, top),
        (0, length * 0.36, top * 0.85),
        (0, length * 0.36, 0.045),
    ]
    parts.append(tube(grip if rng.random() < 0.6 else grip[:4], rng.uniform(0.012, 0.017), Role.SECOND, segments=10))
    parts.append(box((0.035, 0.05, 0.06), Role.SECOND, at=(0, length * 0.32, 0.03), bevel=0.008))
    parts.append(cylinder(0.022, 0.02, Role.ACCENT, at=(0, 0.0, 0.065), segments=14))
    parts.append(ellipsoid((0.014, 0.014, 0.008), Role.ACCENT, at=(0, -length * 0.22, top * 0.95), segments=8, rings=6))
    cord = [
        (0, length * 0.38, top * 0.6),
        (0, length * 0.5, top * 0.65),
        (0, length * 0.62, top * 0.35),
        (0, length * 0.66, 0.01),
    ]
    parts.append(tube(cord, 0.007, Role.DARK, segments=6))
    return join(parts)


def mug(rng: Generator) -> Part:
    """A mug: the handle at +y, so that the drinker's side is the front."""
    radius, height = rng.uniform(0.036, 0.046), rng.uniform(0.08, 0.11)
    flare, wall = rng.uniform(0.85, 1.15), 0.005
    top = radius * flare
    belly = (radius + top) / 2 * rng.uniform(0.96, 1.1)
    profile = [(0, 0), (radius * 0.9, 0), (radius, 0.006), (belly, height / 2), (top, height)]
    profile += [(top - wall, height), (belly - wall, height / 2), (radius - wall, wall * 2), (0, wall * 2)]
    parts = [lathe(profile, Role.MAIN, segments=26)]
    parts.append(
        lathe([(0, 0), (top * 0.97 - wall, 0), (top * 0.97 - wall, 0.002), (0, 0.002)], Role.DARK, segments=22).moved(
            z=height * 0.82
        )
    )
    reach, thick = rng.uniform(0.03, 0.042), rng.uniform(0.005, 0.0075)
    low, high = height * rng.uniform(0.15, 0.25), height * rng.uniform(0.78, 0.88)
    edge = belly * 0.96
    path = [
        (0, edge, low),
        (0, edge + reach * 0.8, low + 0.006),
        (0, edge + reach, (low + high) / 2),
        (0, edge + reach * 0.85, high - 0.004),
        (0, edge, high),
    ]
    parts.append(tube(path, thick, Role.SECOND, segments=8).scaled(x=1.5))
    if rng.random() < 0.5:
        band = (radius + belly) / 2 + 0.0025
        parts.append(lathe([(band, height * 0.18), (band * 1.01, height * 0.3)], Role.ACCENT, segments=26))
    badge = box(
        (radius * 0.9, 0.01, height * 0.36), Role.ACCENT, at=(0, -belly * 0.98, height * 0.34), taper=(0.6, 1.0)
    )
    return join([*parts, badge])


def teapot(rng: Generator) -> Part:
    """A teapot: spout at -y, handle at +y, lid with a knob."""
    radius, squash = rng.uniform(0.075, 0.095), rng.uniform(0.75, 1.05)
    height = 2 * radius * squash * 0.92
    angle = np.linspace(-62, 66, 9)
    profile = [(radius * np.cos(np.deg2rad(a)), height / 2 + radius * squash * np.sin(np.deg2rad(a))) for a in angle]
    parts = [lathe(profile, Role.MAIN, segments=24)]
    low, high = profile[0][1], profile[-1][1]
    parts.append(cylinder(profile[0][0] * 1.1, 0.012, Role.SECOND, at=(0, 0, low - 0.008), segments=20))
    lid = profile[-1][0] * 1.08
    parts.append(
        lathe([(lid, 0), (lid * 0.85, 0.012), (lid * 0.2, 0.022), (0, 0.022)], Role.SECOND, segments=20).moved(
            z=high - 0.004
        )
    )
    parts.append(ellipsoid((0.012, 0.012, 0.012), Role.ACCENT, at=(0, 0, high + 0.026), segments=10, rings=6))
    middle = height * 0.42
    reach = radius * rng.uniform(0.7, 0.95)
    spout = [
        (0, -radius * 0.75, middle),
        (0, -radius - reach * 0.45, middle + 0.02),
        (0, -radius - reach * 0.7, high * 0.8),
        (0, -radius - reach, high * rng.uniform(0.98, 1.1)),
    ]
    parts.append(tube(spout, [0.028, 0.019, 0.013, 0.01], Role.MAIN, segments=10))
    grip = radius * rng.uniform(0.55, 0.75)
    handle = [
        (0, radius * 0.85, middle - 0.02),
        (0, radius + grip * 0.75, middle - 0.012),
        (0, radius + grip, middle + 0.03),
        (0, radius + grip * 0.75, high * 0.88),
        (0, radius * 0.75, high * 0.85),
    ]
    parts.append(tube(handle, rng.uniform(0.007, 0.01), Role.ACCENT, segments=8))
    if rng.random() < 0.5:
        parts.append(
            lathe([(radius * 1.012, -0.012), (radius * 1.012, 0.012)], Role.LIGHT, segments=24).moved(z=height / 2)
        )
    return join(parts)


def watering_can(rng: Generator) -> Part:
    """A watering can: long spout with a rose at -y, big handle over the back."""
    radius, height = rng.uniform(0.09, 0.12), rng.uniform(0.16, 0.22)
    top = radius * rng.uniform(0.75, 1.0)
    parts = [
        lathe(
            [(radius, 0), (top, height), (top * 0.94, height), (top * 0.9, height * 0.9), (0, height * 0.9)],
            Role.MAIN,
            segments=20,
        )
    ]
    parts += [
        lathe([(r * 1.02, z), (r * 1.02, z + 0.012)], Role.SECOND, segments=20)
        for r, z in ((radius, 0.0), (top, height - 0.012))
    ]
    reach, rise = rng.uniform(0.14, 0.2), height * rng.uniform(1.0, 1.25)
    low = height * 0.22
    tip = (0, -radius - reach, rise)
    parts.append(
        tube(
            [(0, -radius * 0.85, low), (0, -radius - reach * 0.35, low + (rise - low) * 0.35), tip],
            [0.022, 0.017, 0.012],
            Role.MAIN,
            segments=10,
        )
    )
    rose = lathe([(0.012, 0), (rng.uniform(0.03, 0.04), 0.03), (0.03, 0.036), (0, 0.036)], Role.ACCENT, segments=14)
    parts.append(rose.turned("x", rng.uniform(40, 70)).moved(0, tip[1] + 0.01, tip[2] - 0.006))
    parts.append(
        tube(
            [(0, -top * 0.9, height * 0.93), (0, -radius - reach * 0.55, low + (rise - low) * 0.55)],
            0.006,
            Role.SECOND,
            segments=6,
        )
    )
    bow, back = rng.uniform(0.08, 0.12), rng.uniform(0.05, 0.09)
    thick = rng.uniform(0.008, 0.012)
    handle = [
        (0, -top * 0.6, height * 0.95),
        (0, -top * 0.3, height + bow * 0.8),
        (0, top * 0.4, height + bow),
        (0, radius + back, height * 0.85),
        (0, radius + back * 0.7, height * 0.45),
        (0, radius * 0.92, height * 0.25),
    ]
    parts.append(tube(handle, thick, Role.SECOND, segments=8).scaled(x=1.4))
    cover = [(0.0, height * 0.93), (top * 0.95, height * 0.93), (top * 0.95, height * 1.01), (0.0, height * 1.01)]
    parts.append(extrude(cover, top * 1.2, Role.ACCENT))
    return join(parts)


def bottle(rng: Generator) -> Part:
    """A bottle: the same from all sides."""
    radius, height = rng.uniform(0.033, 0.045), rng.uniform(0.2, 0.3)
    neck, shoulder = radius * rng.uniform(0.3, 0.45), height * rng.uniform(0.5, 0.68)
    end = shoulder + height * rng.uniform(0.1, 0.18)
    profile = [
        (radius * 0.9, 0),
        (radius, 0.008),
        (radius, shoulder),
        (radius * 0.75, (shoulder * 1.2 + end) / 2.2),
        (neck, end),
        (neck * 0.9, height),
    ]
    parts = [lathe(profile, Role.MAIN, segments=24)]
    parts.append(
        lathe(
            [(neck * 1.15, height - 0.025), (neck * 1.15, height + 0.004), (0, height + 0.004)],
            Role.ACCENT,
            segments=18,
        )
    )
    low, high = shoulder * rng.uniform(0.1, 0.3), shoulder * rng.uniform(0.7, 0.95)
    parts.append(lathe([(radius * 1.015, low), (radius * 1.015, high)], Role.SECOND, segments=24))
    if rng.random() < 0.5:
        parts.append(
            lathe([(radius * 1.025, low * 1.15), (radius * 1.025, low * 1.15 + 0.012)], Role.LIGHT, segments=24)
        )
    return join(parts)


def vase(rng: Generator) -> Part:
    """A vase with a wide belly, a neck and a flared lip: the same from all sides."""
    height = 0.3
    foot, belly = rng.uniform(0.04, 0.07), rng.uniform(0.08, 0.125)
    neck, lip = rng.uniform(0.03, 0.055), rng.uniform(0.055, 0.085)
    at = rng.uniform(0.3, 0.5)
    z = np.linspace(0, 1, 13)
    knots_z, knots_r = [0.0, at, rng.uniform(0.76, 0.84), 1.0], [foot, belly, neck, lip]
    from scipy.interpolate import PchipInterpolator

    r = PchipInterpolator(knots_z, knots_r)(z)
    outer = [(0.0, 0.0), *zip(r, z * height, strict=True)]
    inner = [
        (lip - 0.006, height),
        (neck - 0.006, height * knots_z[2]),
        (neck - 0.01, height * 0.6),
        (0.0, height * 0.6),
    ]
    parts = [lathe([*outer, *inner], Role.MAIN, segments=24)]
    level = int(rng.integers(2, 8))
    parts.append(
        lathe(
            [(r[level] * 1.02, z[level] * height), (r[level + 1] * 1.02, z[level + 1] * height)],
            Role.ACCENT,
            segments=24,
        )
    )
    parts.append(lathe([(foot * 1.1, 0.0), (foot * 1.1, 0.012)], Role.SECOND, segments=24))
    return join(parts)
