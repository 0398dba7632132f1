"""ICC profiles (ICC.1:2001-04 and ICC.1:2022) made from numbers, for generate.py."""
import struct

import numpy as np

D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
D65 = (0.3127, 0.3290)
SRGB = [(0.64, 0.33), (0.30, 0.60), (0.15, 0.06)]
P3 = [(0.680, 0.320), (0.265, 0.690), (0.150, 0.060)]
ADOBE = [(0.64, 0.33), (0.21, 0.71), (0.15, 0.06)]
BT2020 = [(0.708, 0.292), (0.170, 0.797), (0.131, 0.046)]
PROPHOTO = [(0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)]
D50_XY = (0.3457, 0.3585)


def xyz(xy):
    return np.array([xy[0] / xy[1], 1.0, (1 - xy[0] - xy[1]) / xy[1]])


def matrix(primaries, white=D65):
    """Linear RGB to XYZ under D50, by Bradford."""
    columns = np.array([xyz(p) for p in primaries]).T
    scaled = columns * np.linalg.solve(columns, xyz(white))
    cone = BRADFORD @ D50 / (BRADFORD @ xyz(white))
    return np.linalg.inv(BRADFORD) @ np.diag(cone) @ BRADFORD @ scaled


def s15(values):
    return b"".join(struct.pack(">i", int(round(v * 65536))) for v in values)


def desc(text):
    raw = text.encode() + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(raw)) + raw + bytes(4 + 4 + 2 + 1 + 67)


def curve(gamma):
    """None is sRGB's curve as a table, a number an exponent."""
    if gamma is None:
        table = np.linspace(0, 1, 1024)
        table = np.where(table <= 0.04045, table / 12.92, ((table + 0.055) / 1.055) ** 2.4)
        return b"curv\0\0\0\0" + struct.pack(">I", 1024) + (table * 65535).round().astype(">u2").tobytes()
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def parametric():
    """sRGB's curve as parameters, which version 4 knows."""
    return b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + s15([2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045])


def profile(space, pcs, tags, kind=b"mntr", version=0x02400000):
    body, table, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags:
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    size = offset + len(body)
    header = (struct.pack(">I", size) + b"\0\0\0\0" + struct.pack(">I", version) + kind + space + pcs
              + struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + s15(D50) + bytes(48))
    return header[:128] + struct.pack(">I", len(tags)) + table + body


def rgb(primaries, gamma=None, white=D65, version=0x02400000):
    columns = matrix(primaries, white).T
    trc = parametric() if version >= 0x04000000 and gamma is None else curve(gamma)
    tags = [(b"desc", desc("test")), (b"wtpt", b"XYZ \0\0\0\0" + s15(D50))]
    tags += [(n, b"XYZ \0\0\0\0" + s15(c)) for n, c in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns)]
    return profile(b"RGB ", b"XYZ ", tags + [(n, trc) for n in (b"rTRC", b"gTRC", b"bTRC")], version=version)


def grey(gamma):
    return profile(b"GRAY", b"XYZ ", [(b"desc", desc("test")), (b"wtpt", b"XYZ \0\0\0\0" + s15(D50)), (b"kTRC", curve(gamma))])


def lab(values):
    """XYZ under D50 to CIELAB."""
    ratio = values / D50
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def lut(space, inputs, grid, to_lab, kind):
    """A profile of one 16-bit table, A2B0 as lut16Type; `to_lab` takes values of 0 to 1."""
    axes = np.meshgrid(*[np.linspace(0, 1, grid)] * inputs, indexing="ij")
    values = to_lab(np.stack(axes, -1).reshape(-1, inputs))
    # Version 2 codes L as 0 to 65280 and a, b as 0 to 65280 about 32768.
    coded = np.stack([values[:, 0] * 652.8, (values[:, 1] + 128) * 256, (values[:, 2] + 128) * 256], -1)
    clut = coded.round().clip(0, 65535).astype(">u2").tobytes()
    line = np.array([0, 65535], ">u2").tobytes()
    head = b"mft2\0\0\0\0" + bytes([inputs, 3, grid, 0]) + s15(np.eye(3).reshape(-1)) + struct.pack(">HH", 2, 2)
    return profile(space, b"Lab ", [(b"desc", desc("test")), (b"wtpt", b"XYZ \0\0\0\0" + s15(D50)),
                                    (b"A2B0", head + line * inputs + clut + line * 3)], kind)


def rgb_lut():
    """Display P3 with a curve of its own, as a table."""
    return lut(b"RGB ", 3, 11, lambda v: lab((v ** 1.9) @ matrix(P3).T), b"mntr")


def cmyk_lut():
    """Four inks that take away what they take away."""
    inks = np.array([[0.1, 0.5, 0.9], [0.85, 0.1, 0.45], [0.95, 0.85, 0.1], [0.08, 0.08, 0.08]])

    def to_lab(v):
        light = np.prod(1 - v[:, :, None] * (1 - inks[None]), axis=1)
        return lab((light ** 1.8) @ matrix(SRGB).T)
    return lut(b"CMYK", 4, 7, to_lab, b"prtr")
