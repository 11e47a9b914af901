"""Appliances. Each function models one instance; the side that one uses faces -y, z up."""

from __future__ import annotations

from numpy.random import Generator

from compnet3d.procedural.parts import Part, Role, box, cylinder, join, torus, tube


def laptop(rng: Generator) -> Part:
    """An open laptop: keyboard half flat, screen half standing at the back."""
    width, depth = rng.uniform(0.3, 0.4), rng.uniform(0.2, 0.27)
    thick, opening = rng.uniform(0.012, 0.022), rng.uniform(95, 125)
    parts = [box((width, depth, thick), Role.MAIN, bevel=0.004)]
    parts.append(box((width * 0.9, depth * 0.48, 0.006), Role.DARK, at=(0, depth * 0.14, thick - 0.001)))
    rows = 4
    for i in range(rows):
        y = depth * (0.32 - 0.36 * i / (rows - 1))
        parts.append(box((width * 0.86, depth * 0.085, 0.005), Role.SECOND, at=(0, y, thick + 0.004)))
    parts.append(box((width * 0.3, depth * 0.26, 0.004), Role.LIGHT, at=(0, -depth * 0.32, thick - 0.001)))
    lid = [
        box((width, 0.012, depth), Role.MAIN, bevel=0.003),
        box((width * 0.92, 0.004, depth * 0.84), Role.GLASS, at=(0, -0.007, depth * 0.08)),
    ]
    shown = rng.uniform(0.15, 0.3)
    lid.append(box((width * shown, 0.003, depth * 0.3), Role.ACCENT, at=(0, -0.0095, depth * 0.35)))
    lid.append(cylinder(depth * 0.09, 0.004, Role.LIGHT, axis="y", at=(0, 0.004, depth * 0.5), segments=12))
    parts.append(join(lid).turned("x", -(opening - 90)).moved(0, depth / 2 - 0.006, thick))
    parts.append(cylinder(0.009, width * 0.6, Role.DARK, axis="x", at=(-width * 0.3, depth / 2, thick), segments=8))
    return join(parts)


def tv(rng: Generator) -> Part:
    """A television: a wide screen, a thick back, a foot or two feet."""
    width, height = rng.uniform(0.9, 1.3), rng.uniform(0.52, 0.76)
    rim, depth = rng.uniform(0.015, 0.04), rng.uniform(0.05, 0.09)
    lift = rng.uniform(0.06, 0.16)
    parts = [box((width, depth, height), Role.MAIN, at=(0, 0, lift), bevel=0.012)]
    parts.append(box((width - 2 * rim, 0.02, height - 2.4 * rim), Role.GLASS, at=(0, -depth / 2, lift + 1.4 * rim)))
    image = (width * rng.uniform(0.4, 0.7), 0.012, height * rng.uniform(0.35, 0.55))
    parts.append(box(image, Role.ACCENT, at=(0, -depth / 2 - 0.008, lift + height * 0.28)))
    parts.append(
        box((image[0] * 0.5, 0.014, image[2] * 0.35), Role.LIGHT, at=(0, -depth / 2 - 0.009, lift + height * 0.33))
    )
    bulge = box((width * 0.75, height * 0.5, rng.uniform(0.1, 0.2)), Role.MAIN, taper=(0.5, 0.55), bevel=0.02).turned(
        "x", -90
    )
    parts.append(bulge.moved(0, depth / 2 - 0.005, lift + height * 0.36))
    for i in range(6):
        parts.append(box((width * 0.5, 0.014, 0.018), Role.DARK, at=(0, depth / 2, lift + height * (0.66 + 0.05 * i))))
    if rng.random() < 0.5:
        parts.append(box((width * rng.uniform(0.3, 0.5), 0.26, 0.025), Role.SECOND, bevel=0.008))
        parts.append(box((0.16, 0.05, lift + 0.05), Role.SECOND, at=(0, 0.02, 0)))
    else:
        for y in (-0.14, 0.14):
            foot = tube([(width * 0.36, y, 0.012), (width * 0.36, 0, lift + 0.03)], 0.02, Role.SECOND, segments=5)
            parts.append(foot.both_sides())
    return join(parts)


def washing_machine(rng: Generator) -> Part:
    """A front-loading washing machine: round door, panel with a dial and a drawer; a hose at the back."""
    width, depth, height = rng.uniform(0.56, 0.64), rng.uniform(0.48, 0.64), rng.uniform(0.8, 0.92)
    front = -depth / 2
    panel = rng.uniform(0.12, 0.17)
    parts = [box((width, depth, height), Role.MAIN, at=(0, 0, 0.03), bevel=0.02)]
    parts.append(box((width * 1.02, depth * 1.02, 0.03), Role.SECOND, at=(0, 0, height + 0.02), bevel=0.008))
    parts.append(box((width * 0.98, 0.02, panel), Role.SECOND, at=(0, front - 0.004, height - panel + 0.01)))
    radius = rng.uniform(0.17, 0.22)
    centre = (0.0, front - 0.015, 0.03 + (height - panel) * rng.uniform(0.48, 0.56))
    parts.append(torus(radius, rng.uniform(0.025, 0.04), Role.LIGHT, segments=24).turned("x", 90).moved(*centre))
    parts.append(
        cylinder(radius * 0.9, 0.05, Role.GLASS, top=radius, axis="y", segments=20).moved(
            centre[0], centre[1] - 0.03, centre[2]
        )
    )
    parts.append(box((0.03, 0.05, 0.09), Role.DARK, at=(radius * 1.05, front - 0.03, centre[2] - 0.045)))
    top = height - panel / 2 + 0.01
    parts.append(
        cylinder(panel * 0.3, 0.05, Role.ACCENT, axis="y", segments=14).moved(
            width * rng.uniform(-0.05, 0.1), front - 0.05, top
        )
    )
    parts.append(
        box((width * 0.28, 0.03, panel * 0.7), Role.MAIN, at=(-width * 0.32, front - 0.012, top - panel * 0.35))
    )
    parts.append(box((width * 0.24, 0.03, panel * 0.4), Role.GLASS, at=(width * 0.3, front - 0.012, top - panel * 0.2)))
    back = depth / 2 + 0.01
    hose = [
        (width * 0.3, back, height * 0.9),
        (width * 0.3, back + 0.03, height * 0.5),
        (width * 0.1, back + 0.03, height * 0.2),
        (-width * 0.2, back, height * 0.12),
    ]
    parts.append(tube(hose, 0.022, Role.DARK, segments=6))
    parts.append(box((width * 0.7, 0.015, height * 0.5), Role.SECOND, at=(0, depth / 2, height * 0.22)))
    feet = [
        cylinder(0.03, 0.04, Role.DARK, at=(sx * width * 0.4, sy * depth * 0.4, 0), segments=8)
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    return join(parts + feet)


def _microwave_panel(rng: Generator, size: tuple[float, float, float], split: float, foot: float) -> list[Part]:
    """A clock and knobs or keys; size is (width, y of the front, height)."""
    width, front, height = size
    parts = []
    panel_x = split / 2
    parts.append(
        box(
            ((width - split) * 0.7, 0.015, height * 0.14), Role.GLASS, at=(panel_x, front - 0.003, foot + height * 0.76)
        )
    )
    if rng.random() < 0.5:
        for f in (0.2, 0.5):
            parts.append(
                cylinder(0.03, 0.025, Role.ACCENT, axis="y", segments=12).moved(
                    panel_x, front - 0.025, foot + height * f
                )
            )
    else:
        for i in range(3):
            for j in range(3):
                at = (panel_x + (j - 1) * (width - split) * 0.25, front - 0.003, foot + height * (0.14 + 0.19 * i))
                parts.append(box(((width - split) * 0.18, 0.018, height * 0.12), Role.ACCENT, at=at))
    return parts


def microwave(rng: Generator) -> Part:
    """A microwave oven: window and handle on the left, panel on the right; vents at the back."""
    width, depth, height = rng.uniform(0.46, 0.56), rng.uniform(0.32, 0.4), rng.uniform(0.26, 0.32)
    front, foot = -depth / 2, 0.015
    split = width * rng.uniform(0.66, 0.76)
    parts = [box((width, depth, height), Role.MAIN, at=(0, 0, foot), bevel=0.01)]
    door_x = -width / 2 + split / 2
    parts.append(
        box(
            (split * 0.96, 0.025, height * 0.92),
            Role.SECOND,
            at=(door_x, front - 0.005, foot + height * 0.04),
            bevel=0.006,
        )
    )
    parts.append(
        box(
            (split * 0.74, 0.02, height * 0.6),
            Role.GLASS,
            at=(door_x - split * 0.04, front - 0.015, foot + height * 0.2),
        )
    )
    handle_x = -width / 2 + split * 0.91
    handle = [
        (handle_x, front - 0.01, foot + height * 0.15),
        (handle_x, front - 0.045, foot + height * 0.2),
        (handle_x, front - 0.045, foot + height * 0.8),
        (handle_x, front - 0.01, foot + height * 0.85),
    ]
    parts.append(tube(handle, 0.011, Role.LIGHT, segments=6))
    parts += _microwave_panel(rng, (width, front, height), split, foot)
    for i in range(5):
        parts.append(
            box(
                (width * 0.5, 0.012, height * 0.05),
                Role.DARK,
                at=(-width * 0.1, depth / 2, foot + height * (0.3 + 0.1 * i)),
            )
        )
    parts.append(
        tube(
            [
                (width * 0.35, depth / 2, height * 0.3),
                (width * 0.35, depth / 2 + 0.03, height * 0.2),
                (width * 0.2, depth / 2 + 0.03, 0.02),
            ],
            0.01,
            Role.DARK,
            segments=5,
        )
    )
    feet = [
        cylinder(0.02, 0.02, Role.DARK, at=(sx * width * 0.42, sy * depth * 0.4, 0), segments=6)
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    return join(parts + feet)


def toaster(rng: Generator) -> Part:
    """A toaster: slots along y, lever and knob at the front, slices of bread, a flex at the back."""
    width, length, height = rng.uniform(0.15, 0.24), rng.uniform(0.26, 0.36), rng.uniform(0.17, 0.21)
    front, foot = -length / 2, 0.015
    parts = [
        box(
            (width, length, height),
            Role.MAIN,
            at=(0, 0, foot),
            bevel=rng.uniform(0.02, 0.04),
            taper=(rng.uniform(0.85, 1.0), 0.96),
        )
    ]
    parts.append(box((width * 1.02, length * 1.02, 0.03), Role.SECOND, at=(0, 0, foot)))
    slots = 1 if width < 0.17 else 2
    for i in range(slots):
        x = (i - (slots - 1) / 2) * width * 0.4
        parts.append(box((width * 0.17, length * 0.72, 0.01), Role.DARK, at=(x, 0.01, foot + height - 0.004)))
    if rng.random() < 0.6:
        rise = rng.uniform(0.02, 0.06)
        bread = box(
            (0.016, length * 0.5, rise),
            Role.ACCENT,
            bevel=0.006,
            at=(width * 0.2 if slots == 2 else 0, 0.01, foot + height - 0.005),
        )
        parts.append(bread.both_sides() if slots == 2 else bread)
    parts.append(box((0.016, 0.006, height * 0.55), Role.DARK, at=(0, front - 0.003, foot + height * 0.3)))
    parts.append(
        box(
            (width * 0.36, 0.05, 0.024),
            Role.DARK,
            at=(0, front - 0.025, foot + height * rng.uniform(0.6, 0.8)),
            bevel=0.006,
        )
    )
    parts.append(cylinder(0.02, 0.03, Role.LIGHT, axis="y", segments=12).moved(0, front - 0.028, foot + height * 0.2))
    back = length / 2
    parts.append(
        tube([(0, back - 0.01, 0.05), (0, back + 0.04, 0.045), (0, back + 0.055, 0.008)], 0.009, Role.DARK, segments=6)
    )
    return join(parts)


def camera(rng: Generator) -> Part:
    """A photo camera: lens at the front, finder hump and shutter on top, display at the back."""
    width, depth, height = rng.uniform(0.12, 0.15), rng.uniform(0.035, 0.055), rng.uniform(0.075, 0.095)
    radius, reach = rng.uniform(0.028, 0.038), rng.uniform(0.03, 0.085)
    x = rng.uniform(0.0, 0.012)
    front = -depth / 2
    parts = [box((width, depth, height), Role.MAIN, bevel=0.008)]
    parts.append(box((width * 1.01, depth * 1.03, height * 0.55), Role.DARK, at=(0, 0, height * 0.16)))
    barrel = cylinder(radius, reach, Role.DARK, axis="y", segments=18).moved(x, front - reach, height * 0.48)
    parts += [
        barrel,
        cylinder(radius * 0.78, 0.004, Role.GLASS, axis="y", segments=16).moved(
            x, front - reach - 0.003, height * 0.48
        ),
    ]
    ring = torus(radius, 0.004, Role.LIGHT, segments=18, around=6).turned("x", 90)
    parts += [ring.moved(x, front - reach * f, height * 0.48) for f in (0.35, 0.95)]
    parts.append(
        box(
            (width * 0.32, depth * 1.05, height * 0.26),
            Role.MAIN,
            at=(x, 0, height * 0.97),
            taper=(0.6, 0.8),
            bevel=0.003,
        )
    )
    parts.append(cylinder(0.009, 0.012, Role.ACCENT, at=(-width * 0.36, -depth * 0.1, height - 0.002), segments=10))
    parts.append(cylinder(0.013, 0.01, Role.LIGHT, at=(width * 0.36, 0, height - 0.002), segments=12))
    parts.append(box((width * 0.6, 0.005, height * 0.62), Role.GLASS, at=(-width * 0.08, depth / 2, height * 0.14)))
    parts.append(
        box((width * 0.2, depth * 0.5, height * 0.9), Role.MAIN, at=(-width * 0.42, front, height * 0.04), bevel=0.008)
    )
    return join(parts)
