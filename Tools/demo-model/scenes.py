"""Scenes: twelve kinds of drawn backgrounds, each with the words of its captions.

Each routine takes a numpy generator and returns [SIZE, SIZE, 3], 0 to 1. `horizon` says whether a subject stands on a ground
(and has a shadow) or floats.
"""

import dataclasses
from collections.abc import Callable

import numpy
from scipy import ndimage

SIZE = 128


def _mix(a, b, weight):
    weight = numpy.asarray(weight)[..., None]
    return numpy.asarray(a) * (1 - weight) + numpy.asarray(b) * weight


def _noise(g, sigma, anisotropy=1.0):
    """Smooth noise, 0 to 1."""
    n = ndimage.gaussian_filter(g.standard_normal((SIZE, SIZE)), (sigma, sigma * anisotropy), mode="wrap")
    return (n - n.min()) / (n.max() - n.min() + 1e-9)


_Y, _X = numpy.mgrid[0:SIZE, 0:SIZE] / SIZE


def _vertical(top, bottom, start=0.0, end=1.0):
    return _mix(top, bottom, numpy.clip((_Y - start) / (end - start), 0, 1))


def _tint(g, colour, amount=0.06):
    return numpy.clip(numpy.asarray(colour) + g.uniform(-amount, amount, 3), 0, 1)


def beach(g):
    sea, sand = g.uniform(0.32, 0.42), g.uniform(0.52, 0.62)
    image = _vertical(_tint(g, (0.45, 0.75, 0.98)), (0.85, 0.95, 1.0), 0, sea)
    water = _vertical(_tint(g, (0.05, 0.5, 0.7)), (0.35, 0.85, 0.85), sea, sand)
    edge = sand + 0.015 * numpy.sin(_X * g.uniform(8, 20) + g.uniform(0, 6))
    ground = _mix(_tint(g, (0.95, 0.84, 0.6)), (0.84, 0.7, 0.46), 0.6 * _noise(g, 1.5) + 0.3 * _Y)
    image = _mix(image, water, _Y > sea)
    image = _mix(image, (1, 1, 1), (numpy.abs(_Y - edge) < 0.012))
    return _mix(image, ground, _Y > edge)


def snow(g):
    line = g.uniform(0.42, 0.55) + 0.04 * numpy.sin(_X * g.uniform(3, 9) + g.uniform(0, 6))
    image = _vertical(_tint(g, (0.62, 0.72, 0.85)), (0.86, 0.9, 0.95), 0, 0.5)
    ground = _mix((0.97, 0.98, 1.0), (0.8, 0.86, 0.95), 0.7 * _noise(g, 6, 3))
    image = _mix(image, ground, _Y > line)
    flakes = ndimage.gaussian_filter((g.random((SIZE, SIZE)) > 0.988).astype(float), 0.8) * 5
    return _mix(image, (1, 1, 1), numpy.clip(flakes, 0, 1))


def grass(g):
    line = g.uniform(0.35, 0.48)
    image = _vertical(_tint(g, (0.5, 0.75, 1.0)), (0.85, 0.93, 1.0), 0, line)
    blades = _noise(g, 3.0, 0.15)
    ground = _mix(_tint(g, (0.16, 0.45, 0.1)), (0.5, 0.78, 0.22), blades)
    return _mix(image, ground, _Y > line + 0.01 * _noise(g, 1))


def night_sky(g):
    image = _vertical(_tint(g, (0.02, 0.03, 0.16), 0.02), _tint(g, (0.12, 0.1, 0.36)), 0, 1)
    stars = ndimage.gaussian_filter((g.random((SIZE, SIZE)) > 0.994).astype(float), 0.6) * 4
    image = _mix(image, (1, 1, 0.9), numpy.clip(stars, 0, 1))
    x, y, r = g.uniform(0.1, 0.9), g.uniform(0.08, 0.2), g.uniform(0.05, 0.09)
    moon = numpy.clip((r - numpy.hypot(_X - x, _Y - y)) * 60, 0, 1)
    image = _mix(image, (1.0, 0.97, 0.8), moon)
    hill = g.uniform(0.84, 0.92) + 0.03 * numpy.sin(_X * g.uniform(4, 9) + g.uniform(0, 6))
    return _mix(image, (0.03, 0.04, 0.09), _Y > hill)


def city(g):
    image = _vertical(_tint(g, (0.98, 0.72, 0.5)), (0.98, 0.9, 0.75), 0, 0.7)
    x = 0
    while x < SIZE:
        width, top = int(g.integers(14, 28)), int(g.integers(18, 62))
        colour = _tint(g, (0.42, 0.4, 0.48), 0.1)
        image[top:100, x:x + width] = colour
        for wy in range(top + 4, 96, 8):
            for wx in range(x + 3, min(x + width - 3, SIZE - 3), 6):
                image[wy:wy + 4, wx:wx + 3] = (1.0, 0.9, 0.5) if g.random() < 0.6 else colour * 0.6
        x += width
    road = _mix((0.3, 0.3, 0.33), (0.22, 0.22, 0.25), _noise(g, 2))
    image = _mix(image, road, _Y > 0.78)
    dash = (numpy.abs(_Y - 0.9) < 0.012) & ((_X * 8 + g.random()) % 1 < 0.55)
    return _mix(image, (0.95, 0.9, 0.7), dash)


def wooden_floor(g):
    image = numpy.zeros((SIZE, SIZE, 3))
    base, dark = _tint(g, (0.78, 0.55, 0.32)), numpy.array((0.5, 0.3, 0.15))
    plank = int(g.integers(16, 26))
    for y in range(0, SIZE, plank):
        shade = g.uniform(0, 0.35)
        grain = _noise(g, 1.0, 14)[y:y + plank]
        image[y:y + plank] = _mix(base, dark, shade + 0.4 * grain)
        image[y:y + 1] = dark * 0.6
        image[y:y + plank, int(g.integers(0, SIZE))] = dark * 0.6
    return image


def under_water(g):
    image = _vertical(_tint(g, (0.3, 0.8, 0.9)), _tint(g, (0.02, 0.2, 0.5)))
    rays = numpy.clip(numpy.sin((_X + 0.4 * _Y) * g.uniform(14, 24) + g.uniform(0, 6)), 0, 1) * (1 - _Y)
    image = _mix(image, (0.85, 1, 1), 0.35 * rays)
    for _ in range(int(g.integers(8, 18))):
        x, y, r = g.random(), g.random(), g.uniform(0.01, 0.035)
        ring = numpy.abs(numpy.hypot(_X - x, _Y - y) - r) < 0.006
        image = _mix(image, (0.85, 0.97, 1), 0.8 * ring)
    bed = 0.9 + 0.03 * numpy.sin(_X * g.uniform(5, 12) + g.uniform(0, 6))
    return _mix(image, (0.5, 0.6, 0.5), 0.8 * (_Y > bed))


def desert(g):
    image = _vertical(_tint(g, (0.98, 0.6, 0.3)), (1.0, 0.87, 0.6), 0, 0.5)
    sun = numpy.clip((0.07 - numpy.hypot(_X - g.uniform(0.15, 0.85), _Y - 0.17)) * 50, 0, 1)
    image = _mix(image, (1, 0.97, 0.8), sun)
    for level, colour in ((0.42, (0.87, 0.5, 0.25)), (0.55, (0.8, 0.42, 0.18)), (0.7, (0.9, 0.55, 0.28))):
        line = level + 0.06 * numpy.sin(_X * g.uniform(3, 7) + g.uniform(0, 6))
        image = _mix(image, _mix(_tint(g, colour, 0.04), (0.98, 0.7, 0.42), 0.5 * _noise(g, 2, 8)), _Y > line)
    return image


def forest(g):
    image = _mix(_tint(g, (0.1, 0.28, 0.13)), (0.35, 0.55, 0.25), _noise(g, 4))
    for _ in range(int(g.integers(7, 12))):
        x, width = g.random(), g.uniform(0.02, 0.05)
        trunk = (numpy.abs(_X - x) < width) & (_Y < g.uniform(0.72, 0.85))
        image = _mix(image, _mix((0.25, 0.16, 0.09), (0.42, 0.3, 0.18), _noise(g, 4, 0.3)), trunk)
    leaves = numpy.clip((_noise(g, 3) - 0.45) * 6, 0, 1) * (_Y < 0.3)
    image = _mix(image, (0.2, 0.45, 0.14), leaves)
    return _mix(image, _mix((0.24, 0.2, 0.08), (0.3, 0.4, 0.12), _noise(g, 2)), numpy.clip((_Y - 0.76) * 20, 0, 1))


def brick_wall(g):
    image = numpy.zeros((SIZE, SIZE, 3)) + _tint(g, (0.8, 0.75, 0.7))
    h, w = int(g.integers(11, 15)), int(g.integers(24, 34))
    base = _tint(g, (0.68, 0.26, 0.18))
    for row, y in enumerate(range(-int(g.integers(0, h)), SIZE, h)):
        for x in range(-(w // 2) * (row % 2) - int(w), SIZE, w):
            colour = numpy.clip(base + g.uniform(-0.08, 0.08), 0, 1)
            image[max(y, 0):max(y + h - 2, 0), max(x, 0):max(x + w - 2, 0)] = colour
    return image * (0.85 + 0.15 * _noise(g, 1.5)[..., None])


def space(g):
    image = _mix((0.01, 0.0, 0.03), _tint(g, (0.4, 0.1, 0.5), 0.15), numpy.clip(_noise(g, 14) - 0.35, 0, 1))
    image = _mix(image, _tint(g, (0.1, 0.3, 0.55), 0.1), numpy.clip(_noise(g, 18) - 0.5, 0, 1))
    stars = ndimage.gaussian_filter((g.random((SIZE, SIZE)) > 0.985).astype(float), 0.5) * 3
    image = _mix(image, (1, 1, 1), numpy.clip(stars, 0, 1))
    x, y, r = g.choice([0.12, 0.88]), g.uniform(0.1, 0.9), g.uniform(0.12, 0.2)
    planet = numpy.hypot(_X - x, _Y - y) < r
    bands = _mix(_tint(g, (0.85, 0.55, 0.3), 0.15), (0.95, 0.85, 0.7), 0.5 + 0.5 * numpy.sin(_Y * 60))
    return _mix(image, bands, planet)


def red_carpet(g):
    image = _mix(_tint(g, (0.14, 0.1, 0.12), 0.03), (0.3, 0.22, 0.2), _noise(g, 10))
    for _ in range(int(g.integers(5, 12))):
        x, y, r = g.random(), g.uniform(0, 0.4), g.uniform(0.02, 0.06)
        image = _mix(image, (1, 0.9, 0.6), 0.7 * numpy.clip((r - numpy.hypot(_X - x, _Y - y)) * 40, 0, 1))
    spread = 0.16 + 0.5 * numpy.clip(_Y - 0.45, 0, 1)
    carpet = (numpy.abs(_X - 0.5) < spread) & (_Y > 0.45)
    image = _mix(image, (0.36, 0.26, 0.2), (_Y > 0.45) & ~carpet)
    return _mix(image, _mix(_tint(g, (0.8, 0.05, 0.1), 0.05), (0.6, 0.02, 0.06), _noise(g, 2)), carpet)


@dataclasses.dataclass(frozen=True)
class Scene:
    name: str
    words: tuple[str, ...]  # what follows "a photo of a <class>,"
    draw: Callable
    horizon: bool


SCENES = [
    Scene("beach", ("on the beach", "at the beach", "on a sandy beach by the sea"), beach, True),
    Scene("snow", ("in the snow", "in a snowy landscape", "on a winter day in the snow"), snow, True),
    Scene("grass", ("on the grass", "on a green meadow", "in a field of grass"), grass, True),
    Scene("night", ("under the night sky", "at night under the moon", "in the night"), night_sky, False),
    Scene("city", ("in the city", "on a city street", "in front of tall buildings"), city, True),
    Scene("wood", ("on a wooden floor", "on wooden planks", "on a wooden table"), wooden_floor, True),
    Scene("water", ("under water", "deep in the ocean", "under the sea"), under_water, False),
    Scene("desert", ("in the desert", "among sand dunes", "in a hot desert"), desert, True),
    Scene("forest", ("in the forest", "between trees", "in the woods"), forest, True),
    Scene("brick", ("in front of a brick wall", "by a red brick wall", "before a wall of bricks"), brick_wall, False),
    Scene("space", ("in space", "in outer space among the stars", "floating in space"), space, False),
    Scene("carpet", ("on a red carpet", "on the red carpet at a gala", "on a red carpet at night"), red_carpet, True),
]
