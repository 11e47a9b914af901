"""Furniture. Each function models one instance, in metres, front towards -y (where one sits or stands), z up."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from compnet3d.procedural.parts import Part, Role, arc, box, cylinder, ellipsoid, join, loft, rounded_outline, tube


def _legs(rng: Generator, width: float, depth: float, height: float, role: Role = Role.DARK) -> Part:
    """Four legs in the corners, square or round, straight or splayed."""
    thick, splay = rng.uniform(0.03, 0.06), rng.choice([0.0, rng.uniform(0.02, 0.07)])
    x, y = width / 2 - thick, depth / 2 - thick
    legs = []
    if rng.random() < 0.5:
        ends = [((x + splay, sign * (y + splay), 0.0), (x, sign * y, height)) for sign in (-1, 1)]
        legs = [tube([low, high], [thick * 0.45, thick * 0.7], role, segments=8).both_sides() for low, high in ends]
    else:
        legs = [
            box(
                (thick, thick, height), role, at=(x + splay, s * (y + splay), 0), lean=(-splay, -s * splay)
            ).both_sides()
            for s in (-1, 1)
        ]
    return join(legs)


def chair(rng: Generator) -> Part:
    """A chair: seat, legs or a swivel base, a back of a slab, slats or bars, sometimes arm rests."""
    width, depth, seat = rng.uniform(0.4, 0.55), rng.uniform(0.4, 0.52), rng.uniform(0.4, 0.5)
    back, lean = rng.uniform(0.4, 0.62), rng.uniform(0.02, 0.14)
    thick = rng.uniform(0.04, 0.09)
    parts = [box((width, depth, thick), Role.MAIN, at=(0, 0, seat), bevel=0.015)]
    if rng.random() < 0.25:
        parts.append(cylinder(0.035, seat - 0.08, Role.LIGHT, at=(0, 0, 0.08), segments=8))
        for i in range(5):
            foot = tube([(0, 0, 0.09), (0, -width * 0.6, 0.05)], [0.035, 0.025], Role.DARK, segments=6)
            parts.append(foot.turned("z", 72 * i))
    else:
        parts.append(_legs(rng, width, depth, seat))
    top, y = seat + thick, depth / 2 - 0.03
    kind = rng.integers(3)
    if kind == 0:
        parts.append(
            box(
                (width * 0.95, 0.05, back),
                Role.MAIN,
                at=(0, y, top - 0.02),
                lean=(0, lean),
                taper=(rng.uniform(0.7, 1.05), 0.8),
                bevel=0.015,
            )
        )
    else:
        post = [(width / 2 - 0.03, y, seat), (width / 2 - 0.03, y + lean, top + back)]
        parts.append(tube(post, 0.025, Role.DARK, segments=6).both_sides())
        count = int(rng.integers(2, 5)) if kind == 1 else int(rng.integers(3, 6))
        for i in range(count):
            if kind == 1:
                part = 0.35 + 0.6 * i / max(1, count - 1)
                parts.append(
                    box(
                        (width * 0.94, 0.03, back * 0.5 / count),
                        Role.MAIN,
                        at=(0, y + lean * part, top + back * (part - 0.1)),
                    )
                )
            else:
                x = (i - (count - 1) / 2) * width * 0.75 / count
                parts.append(
                    tube([(x, y, seat + 0.01), (x, y + lean * 0.95, top + back * 0.95)], 0.015, Role.MAIN, segments=5)
                )
        if kind == 2:
            parts.append(box((width, 0.05, 0.08), Role.MAIN, at=(0, y + lean, top + back - 0.07), bevel=0.01))
    if rng.random() < 0.3:
        x, z = width / 2, top + rng.uniform(0.16, 0.24)
        parts.append(box((0.05, depth * 0.85, 0.035), Role.SECOND, at=(x, 0.02, z)).both_sides())
        parts.append(box((0.04, 0.04, z - seat), Role.SECOND, at=(x, -depth * 0.33, seat)).both_sides())
    return join(parts)


def sofa(rng: Generator) -> Part:
    """A sofa: thick arms and back, one to three seat cushions."""
    width, depth = rng.uniform(1.4, 2.3), rng.uniform(0.8, 1.0)
    seat, arm, back = rng.uniform(0.36, 0.46), rng.uniform(0.12, 0.26), rng.uniform(0.75, 0.95)
    arm_height = rng.uniform(0.52, 0.66)
    foot = rng.uniform(0.05, 0.14)
    soft = rng.uniform(0.03, 0.06)
    parts = [box((width, depth, seat - 0.15 - foot), Role.MAIN, at=(0, 0, foot), bevel=0.03)]
    parts.append(box((width, 0.26, back - foot), Role.MAIN, at=(0, depth / 2 - 0.13, foot), bevel=soft, lean=(0, 0.08)))
    if rng.random() < 0.5:
        parts.append(
            box((arm, depth, arm_height - foot), Role.MAIN, at=(width / 2 - arm / 2, 0, foot), bevel=soft).both_sides()
        )
    else:
        x = width / 2 - arm / 2
        parts.append(box((arm, depth, arm_height - foot - arm / 2), Role.MAIN, at=(x, 0, foot)).both_sides())
        roll = cylinder(
            arm * 0.62, depth * 1.02, Role.MAIN, axis="y", segments=14, at=(x, -depth * 0.51, arm_height - arm / 2)
        )
        parts.append(roll.both_sides())
    count = int(rng.integers(1, 4))
    inner = width - 2 * arm
    for i in range(count):
        x = (i - (count - 1) / 2) * inner / count
        size = (inner / count * 0.97, depth * 0.76, 0.2)
        parts.append(box(size, Role.SECOND, at=(x, -0.11, seat - 0.16), bevel=0.05))
        cushion = box(
            (inner / count * 0.95, 0.2, back - seat - 0.02),
            Role.SECOND,
            at=(x, depth / 2 - 0.32, seat),
            bevel=0.06,
            lean=(0, 0.1),
        )
        parts.append(cushion)
    for y in (-depth / 2 + 0.08, depth / 2 - 0.08):
        parts.append(cylinder(0.03, foot + 0.02, Role.DARK, at=(width / 2 - 0.1, y, 0), segments=8).both_sides())
    if rng.random() < 0.4:
        pillow = (
            box((0.38, 0.14, 0.36), Role.ACCENT, bevel=0.06)
            .turned("x", 18)
            .moved(inner / 2 - 0.22, depth / 2 - 0.48, seat + 0.03)
        )
        parts.append(pillow.both_sides())
    return join(parts)


def bed(rng: Generator) -> Part:
    """A bed: the foot end at -y, a tall headboard with pillows at +y."""
    width, length = rng.uniform(0.95, 1.9), rng.uniform(1.95, 2.15)
    base, mattress = rng.uniform(0.2, 0.36), rng.uniform(0.16, 0.26)
    head = base + mattress + rng.uniform(0.4, 0.75)
    parts = [box((width * 1.04, length, 0.14), Role.MAIN, at=(0, 0, base - 0.12), bevel=0.02)]
    parts.append(box((width, length * 0.98, mattress), Role.LIGHT, at=(0, 0, base), bevel=0.05))
    cover = rng.uniform(0.55, 0.75)
    blanket = (width * 1.05, length * cover, mattress * 0.85)
    parts.append(
        box(blanket, Role.SECOND, at=(0, -length / 2 + length * cover / 2 - 0.02, base + mattress * 0.25), bevel=0.04)
    )
    parts.append(
        box(
            (width * 1.06, 0.22, mattress * 0.9),
            Role.ACCENT,
            at=(0, -length / 2 + length * cover, base + mattress * 0.25),
            bevel=0.04,
        )
    )
    y = length / 2
    if rng.random() < 0.5:
        parts.append(box((width * 1.06, 0.08, head), Role.MAIN, at=(0, y, 0), bevel=0.02))
    else:
        parts.append(cylinder(0.04, head, Role.MAIN, at=(width * 0.52, y, 0), segments=8).both_sides())
        parts.append(box((width * 1.06, 0.05, 0.1), Role.MAIN, at=(0, y, head - 0.12), bevel=0.015))
        for i in range(7):
            parts.append(cylinder(0.02, head - base, Role.MAIN, at=((i - 3) * width / 7, y, base), segments=6))
    if rng.random() < 0.5:
        parts.append(
            box((width * 1.06, 0.07, base + mattress + rng.uniform(0.0, 0.15)), Role.MAIN, at=(0, -y, 0), bevel=0.02)
        )
    pillows = 2 if width > 1.3 else 1
    for i in range(pillows):
        x = (i - (pillows - 1) / 2) * width * 0.48
        pillow = ellipsoid((width * (0.21 if pillows == 2 else 0.36), 0.22, 0.11), Role.ACCENT, segments=14, rings=8)
        parts.append(pillow.moved(x, y - 0.3, base + mattress + 0.06))
    for leg_y in (-y + 0.06, y - 0.06):
        parts.append(box((0.08, 0.08, base), Role.DARK, at=(width / 2 - 0.05, leg_y, 0)).both_sides())
    return join(parts)


def desk(rng: Generator) -> Part:
    """A desk: a top, a drawer block on the right-hand side (+x), a panel or legs on the left, a back board."""
    width, depth, height = rng.uniform(1.1, 1.6), rng.uniform(0.55, 0.75), rng.uniform(0.7, 0.78)
    thick, block = rng.uniform(0.03, 0.06), rng.uniform(0.32, 0.45)
    parts = [box((width, depth, thick), Role.MAIN, at=(0, 0, height - thick), bevel=0.01)]
    x = width / 2 - block / 2 - 0.02
    low = rng.choice([0.0, 0.1])
    parts.append(box((block, depth * 0.92, height - thick - low), Role.MAIN, at=(x, 0, low)))
    count = int(rng.integers(2, 5))
    pitch = (height - thick - low) / count
    for i in range(count):
        z = low + pitch * i
        parts.append(
            box((block * 0.9, 0.04, pitch * 0.86), Role.SECOND, at=(x, -depth * 0.46, z + pitch * 0.07), bevel=0.008)
        )
        parts.append(box((block * 0.35, 0.05, 0.03), Role.DARK, at=(x, -depth * 0.46 - 0.04, z + pitch * 0.5)))
    left = -width / 2 + 0.05
    if rng.random() < 0.5:
        parts.append(box((0.04, depth * 0.92, height - thick), Role.MAIN, at=(left, 0, 0)))
    else:
        parts += [
            box((0.05, 0.05, height - thick), Role.DARK, at=(left, y, 0)) for y in (-depth / 2 + 0.06, depth / 2 - 0.06)
        ]
    parts.append(
        box((width * 0.94, 0.025, height * rng.uniform(0.35, 0.6)), Role.SECOND, at=(0, depth * 0.4, height * 0.38))
    )
    if low > 0:
        parts += [
            cylinder(0.025, low, Role.DARK, at=(x + s * block * 0.4, y, 0), segments=6)
            for s in (-1, 1)
            for y in (-depth * 0.4, depth * 0.4)
        ]
    if rng.random() < 0.6:
        rise = rng.uniform(0.12, 0.35)
        parts.append(box((width, 0.03, rise), Role.MAIN, at=(0, depth / 2 - 0.02, height - 0.005)))
        if rng.random() < 0.6:
            parts.append(box((width, depth * 0.3, 0.025), Role.MAIN, at=(0, depth * 0.35, height + rise)))
            parts.append(
                box((0.025, depth * 0.3, rise), Role.MAIN, at=(width / 2 - 0.02, depth * 0.35, height)).both_sides()
            )
    return join(parts)


def bookshelf(rng: Generator) -> Part:
    """A tall open shelf with books of all colours; the back is a panel with a cross brace."""
    width, depth, height = rng.uniform(0.6, 1.1), rng.uniform(0.25, 0.35), rng.uniform(1.3, 2.0)
    thick = rng.uniform(0.025, 0.05)
    parts = [box((thick, depth, height), Role.MAIN, at=(width / 2 - thick / 2, 0, 0)).both_sides()]
    count = int(rng.integers(3, 6))
    foot = 0.06
    pitch = (height - foot - thick) / count
    parts += [box((width, depth, thick), Role.MAIN, at=(0, 0, foot + pitch * i)) for i in range(count + 1)]
    back = depth / 2 - 0.01
    parts.append(box((width * 0.98, 0.015, height - foot), Role.SECOND, at=(0, back, foot)))
    for slant in (-1, 1):
        brace = [(-slant * width * 0.46, back + 0.02, foot + 0.05), (slant * width * 0.46, back + 0.02, height - 0.06)]
        parts.append(tube(brace, 0.018, Role.DARK, segments=4))
    for i in range(count):
        x, end = -width / 2 + thick + 0.01, width / 2 - thick - 0.01
        end -= rng.choice([0.0, rng.uniform(0.1, 0.5) * width])
        while x < end - 0.05 and len(parts) < 70:
            book = rng.uniform(0.04, 0.09)
            tall = min(pitch - thick - 0.02, rng.uniform(0.6, 0.92) * pitch)
            role = Role(int(rng.choice([1, 2, 3, 4])))
            parts.append(
                box(
                    (book * 0.94, depth * rng.uniform(0.6, 0.8), tall),
                    role,
                    at=(x + book / 2, -0.01, foot + thick + pitch * i),
                )
            )
            x += book
    return join(parts)


def bench(rng: Generator) -> Part:
    """A park bench: planks for seat and back on two or three side frames."""
    width, depth, seat = rng.uniform(1.4, 2.0), rng.uniform(0.38, 0.48), rng.uniform(0.4, 0.46)
    planks, backs = int(rng.integers(3, 6)), int(rng.integers(2, 5))
    lean, rise = rng.uniform(0.08, 0.2), rng.uniform(0.36, 0.48)
    parts = []
    for i in range(planks):
        y = -depth / 2 + depth * (i + 0.5) / planks
        parts.append(box((width, depth / planks * 0.78, 0.04), Role.MAIN, at=(0, y, seat)))
    for i in range(backs):
        part = (i + 0.8) / backs
        parts.append(
            box(
                (width, 0.035, rise / backs * 0.7),
                Role.MAIN,
                at=(0, depth / 2 + 0.02 + lean * part, seat + 0.06 + rise * (part - 0.5 / backs)),
            )
        )
    arms = rng.random() < 0.6
    for x in (width * 0.44, -width * 0.44):
        legs = [
            (x, -depth * 0.5, 0.0),
            (x, -depth * 0.42, seat - 0.03),
            (x, depth * 0.45, seat - 0.03),
            (x, depth * 0.62, 0.0),
        ]
        parts.append(tube(legs[:2], 0.035, Role.DARK, segments=6))
        parts.append(tube(legs[1:3], 0.03, Role.DARK, segments=6))
        parts.append(
            tube([legs[3], legs[2], (x, depth / 2 + 0.05 + lean, seat + rise + 0.05)], 0.035, Role.DARK, segments=6)
        )
        if arms:
            z = seat + 0.24
            parts.append(
                tube(
                    [(x, -depth * 0.42, seat), (x, -depth * 0.42, z), (x, depth / 2 + 0.05, z)],
                    0.028,
                    Role.DARK,
                    segments=6,
                )
            )
    if rng.random() < 0.4:
        parts.append(box((0.05, depth, 0.05), Role.DARK, at=(0, 0, seat - 0.05)))
        parts.append(cylinder(0.03, seat - 0.05, Role.DARK, at=(0, 0, 0), segments=6))
    return join(parts)


def dining_table(rng: Generator) -> Part:
    """A table that looks the same after half a turn: oblong top, four legs or two trestles."""
    width, depth, height = rng.uniform(1.4, 2.1), rng.uniform(0.75, 1.0), rng.uniform(0.7, 0.78)
    thick = rng.uniform(0.03, 0.07)
    if rng.random() < 0.4:
        outline = rounded_outline(width / 2, depth / 2, rng.uniform(2.0, 5.0), 24)
        top = loft(np.stack([np.column_stack([outline, np.full(24, z)]) for z in (height - thick, height)]), Role.MAIN)
    else:
        top = box((width, depth, thick), Role.MAIN, at=(0, 0, height - thick), bevel=0.01)
    parts = [top, box((width * 0.78, depth * 0.68, 0.09), Role.SECOND, at=(0, 0, height - thick - 0.08))]
    if rng.random() < 0.6:
        parts.append(_table_legs(rng, width * 0.82, depth * 0.74, height - thick))
    else:
        x = width * 0.32
        for part in (
            box((0.1, depth * 0.7, 0.07), Role.DARK, at=(x, 0, 0)),
            box((0.08, 0.16, height - thick), Role.DARK, at=(x, 0, 0)),
        ):
            parts += [part, part.turned("z", 180)]
        parts.append(box((2 * x, 0.04, 0.1), Role.DARK, at=(0, 0, height * 0.3)))
    return join(parts)


def _table_legs(rng: Generator, width: float, depth: float, height: float) -> Part:
    thick = rng.uniform(0.05, 0.1)
    if rng.random() < 0.5:
        leg = cylinder(thick * 0.3, height, Role.DARK, top=thick * 0.6, at=(width / 2, depth / 2, 0), segments=10)
    else:
        leg = box((thick, thick, height), Role.DARK, at=(width / 2, depth / 2, 0))
    pair = leg.both_sides()
    return join([pair, pair.turned("z", 180)])


def desk_lamp(rng: Generator) -> Part:
    """A lamp: round base, arm in two pieces, a shade that looks forward and down."""
    base, lower, upper = rng.uniform(0.09, 0.13), rng.uniform(0.2, 0.28), rng.uniform(0.2, 0.3)
    parts = [cylinder(base, 0.03, Role.DARK, segments=20, bevel=0.008)]
    elbow = (0.0, lower * rng.uniform(0.25, 0.6), 0.03 + lower)
    head = (0.0, elbow[1] - upper * rng.uniform(0.75, 1.0), elbow[2] + upper * rng.uniform(0.3, 0.7))
    radius = rng.uniform(0.01, 0.016)
    parts.append(tube([(0, 0, 0.02), elbow], radius, Role.LIGHT, segments=8))
    parts.append(tube([elbow, head], radius, Role.LIGHT, segments=8))
    parts.append(ellipsoid((0.028, 0.028, 0.028), Role.ACCENT, at=elbow, segments=10, rings=6))
    wide, deep = rng.uniform(0.07, 0.1), rng.uniform(0.1, 0.15)
    curve = arc(0, 70, 5, wide, deep) if rng.random() < 0.5 else [(wide, 0.0), (wide * 0.4, deep)]
    profile = [(wide * 0.85, 0.0), *curve, (0.0, curve[-1][1])]
    from compnet3d.procedural.parts import lathe

    shade = join(
        [
            lathe(profile, Role.MAIN, segments=18),
            ellipsoid((wide * 0.5, wide * 0.5, wide * 0.5), Role.GLASS, segments=12, rings=6),
        ]
    )
    parts.append(shade.moved(z=-deep * 0.8).turned("x", -rng.uniform(25, 55)).moved(*head))
    return join(parts)
