#!/usr/bin/env python3
"""Writes the images of this folder and what must be read from them. Needs NumPy and Pillow 11 (13
takes the passes of some resizes in the other order, which moves values by one level); run once, by hand.

index.json lists `images`, `resizes` and `fits`, each with the place of the expected pixels (height x width x channels
bytes) in expected.raw; the sources of resizes and fits are noise that the tests make again.
PNG pixels are computed here from the samples; where Pillow reads a file the same way, that is asserted.
"""
import io, json, struct, sys, zlib
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageOps

HERE = Path(__file__).parent
index = {"pillow": PIL.__version__, "images": [], "resizes": [], "fits": []}


def noise(seed, count):
    """SplitMix64, low byte first: the same bytes in tests."""
    k = np.arange(1, (count + 7) // 8 + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + k * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return np.frombuffer(z.astype("<u8").tobytes(), "u1")[:count]


results = b""


def keep(kind, entry, pixels):
    """Appends pixels to expected.raw and the entry, with their place in it, to the index."""
    global results
    content = np.asarray(pixels).astype("u1").tobytes()
    entry.update(offset=len(results), count=len(content))
    results += content
    index[kind].append(entry)


def record(name, pixels):
    height, width, channels = pixels.shape
    keep("images", dict(file=name, width=width, height=height, channels=channels), pixels)


# PNG: every colour type and depth, with and without transparency and interlacing.

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(rows, depth):
    """Rows of samples to bytes, each with filter 0 before it."""
    out = b""
    for row in rows:
        flat = row.reshape(-1).astype(np.uint32)
        if depth == 16:
            line = flat.astype(">u2").tobytes()
        elif depth == 8:
            line = flat.astype("u1").tobytes()
        else:
            bits = ((flat[:, None] >> np.arange(depth - 1, -1, -1)) & 1).reshape(-1)
            line = np.packbits(bits.astype("u1")).tobytes()
        out += b"\0" + line
    return out


def png(samples, depth, color_type, interlaced, extra=b""):
    height, width = samples.shape[:2]
    if interlaced:
        data = b""
        for x, y, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
            part = samples[y::dy, x::dx]
            if part.size:
                data += packed(part, depth)
    else:
        data = packed(samples, depth)
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b""))


WIDTH, HEIGHT = 17, 11
KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8), (4, 8), (4, 16), (6, 8), (6, 16)]
NAMES = {0: "grey", 2: "rgb", 3: "palette", 4: "greyalpha", 6: "rgba"}
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
for color_type, depth in KINDS:
    for transparent in [False, True] if color_type in (0, 2, 3) else [False]:
        count = WIDTH * HEIGHT * SAMPLES[color_type]
        values = noise(color_type * 100 + depth, count * 2).view("<u2").astype(np.int64)
        samples = (values % (1 << depth)).reshape(HEIGHT, WIDTH, SAMPLES[color_type])
        extra = b""
        if color_type == 3:
            entries = 1 << depth
            palette = noise(9, entries * 3).reshape(entries, 3)
            extra = chunk(b"PLTE", palette.tobytes())
            expected = palette[samples[..., 0]]
            if transparent:
                alphas = noise(10, max(1, entries - 1))  # one entry short: the last is opaque
                extra += chunk(b"tRNS", alphas.tobytes())
                full = np.append(alphas, [255] * (entries - len(alphas))).astype("u1")
                expected = np.dstack([expected, full[samples[..., 0]]])
        else:
            eight = samples >> 8 if depth == 16 else samples * (255 // ((1 << depth) - 1))
            expected = {0: lambda: eight.repeat(3, 2), 2: lambda: eight, 6: lambda: eight,
                        4: lambda: eight[..., [0, 0, 0, 1]]}[color_type]()
            if transparent:
                key = samples[3, 5]
                extra = chunk(b"tRNS", b"".join(struct.pack(">H", v) for v in key))
                alpha = np.where((samples == key).all(2), 0, 255)
                expected = np.dstack([expected, alpha])
        for interlaced in [False, True]:
            name = f"{NAMES[color_type]}{depth}{'-trns' if transparent else ''}{'-adam7' if interlaced else ''}.png"
            content = png(samples, depth, color_type, interlaced, extra)
            (HERE / name).write_bytes(content)
            record(name, expected)
            image = Image.open(io.BytesIO(content))
            # Pillow does not scale the transparent grey of fewer than 8 bits, nor read 16-bit grey as its high byte.
            if not (color_type == 0 and (depth == 16 or transparent)) and not (transparent and depth == 16):
                mode = "RGBA" if expected.shape[2] == 4 else "RGB"
                assert (np.asarray(image.convert(mode)) == expected).all(), name

# JPEG: colour spaces, subsampling, progression, orientation.

def smooth(width, height, channels, seed):
    small = Image.fromarray(noise(seed, 6 * 5 * channels).reshape(5, 6, channels).squeeze(), "CMYK" if channels == 4 else None)
    return small.resize((width, height), Image.BICUBIC)


def jpeg(name, image, adjust=lambda b: b, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    content = adjust(buffer.getvalue())
    (HERE / name).write_bytes(content)
    record(name, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")))


picture = smooth(37, 29, 3, 77)
jpeg("ycc444.jpg", picture, quality=90, subsampling=0)
jpeg("ycc422.jpg", picture, quality=80, subsampling=1)
jpeg("ycc420.jpg", picture, quality=70, subsampling=2)
jpeg("progressive.jpg", picture, quality=85, progressive=True)
jpeg("restarts.jpg", picture, quality=85, restart_marker_blocks=2)
jpeg("rgb.jpg", picture, quality=90, keep_rgb=True)
jpeg("grey.jpg", picture.convert("L"), quality=90)
cmyk = smooth(37, 29, 4, 78)
jpeg("cmyk-adobe.jpg", cmyk, quality=90)


def as_ycck(content):
    at = content.index(b"Adobe")
    return content[:at + 11] + b"\2" + content[at + 12:]


def without_adobe(content):
    at = content.index(b"\xff\xee")
    return content[:at] + content[at + 2 + struct.unpack(">H", content[at + 2:at + 4])[0]:]


jpeg("ycck-adobe.jpg", cmyk, as_ycck, quality=90)
jpeg("cmyk-plain.jpg", cmyk, without_adobe, quality=90)

# A scan for each component: three grey files with one header.
greys = []
for band in picture.split():
    buffer = io.BytesIO()
    band.save(buffer, "JPEG", quality=90)
    greys.append(buffer.getvalue())


def parts(content):
    """Tables up to the frame header, tables behind it, and the entropy-coded data of the only scan."""
    frame, scan = content.index(b"\xff\xc0"), content.index(b"\xff\xda")
    length = struct.unpack(">H", content[frame + 2:frame + 4])[0]
    return content[:frame], content[frame + 2 + length:scan], content[scan + 10:-2]


before, after, _ = parts(greys[0])
frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 29, 37, 3) + b"".join(bytes([c, 0x11, 0]) for c in (1, 2, 3))
scans = b"".join(b"\xff\xda" + bytes([0, 8, 1, c, 0, 0, 63, 0]) + parts(grey)[2] for c, grey in zip((1, 2, 3), greys))
content = before + frame + after + scans + b"\xff\xd9"
(HERE / "three-scans.jpg").write_bytes(content)
record("three-scans.jpg", np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))

for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    jpeg(f"orientation-{orientation}.jpg", picture, quality=90, exif=exif)
    if orientation in (3, 6):
        name = f"orientation-{orientation}.png"
        block = exif.tobytes()
        block = block[6:] if block.startswith(b"Exif\0\0") else block
        samples = np.asarray(smooth(7, 5, 3, 79)).astype(np.int64)
        content = png(samples, 8, 2, False, chunk(b"eXIf", block))
        (HERE / name).write_bytes(content)
        record(name, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content)))))

# What a small compressed text may hide.

(HERE / "bomb.zlib").write_bytes(zlib.compress(b"a" * (16 << 20), 9))

# Resizing of noise, which hides nothing.

def source(seed, width, height, channels):
    return Image.fromarray(noise(seed, width * height * channels).reshape(height, width, channels))


sizes = np.random.default_rng(5)
cases = [tuple(int(v) for v in sizes.integers(1, 48, 4)) for _ in range(36)]
cases += [(1, 1, 7, 5), (7, 5, 1, 1), (300, 200, 31, 31), (5, 200, 5, 20), (200, 5, 20, 5), (16, 16, 16, 16), (1000, 700, 64, 64)]
for seed, (w, h, nw, nh) in enumerate(cases):
    for channels in (3, 4) if seed % 3 == 0 else (3,):
        entry = dict(seed=seed, width=w, height=h, channels=channels, newWidth=nw, newHeight=nh)
        keep("resizes", entry, source(seed, w, h, channels).resize((nw, nh), Image.BILINEAR))

for seed, (w, h, side) in enumerate([(40, 30, 16), (30, 40, 16), (37, 11, 25), (11, 37, 24), (20, 20, 33), (100, 9, 8), (9, 7, 15)]):
    image = source(seed, w, h, 3)
    keep("fits", dict(seed=seed, width=w, height=h, channels=3, side=side, mode="pad"),
         ImageOps.pad(image, (side, side), Image.BILINEAR, "white"))
    keep("fits", dict(seed=seed, width=w, height=h, channels=3, side=side, mode="squash"),
         image.resize((side, side), Image.BILINEAR))
    alpha = source(seed, w, h, 4)
    white = Image.new("RGB", alpha.size, "white")
    white.paste(alpha, mask=alpha.getchannel("A"))
    keep("fits", dict(seed=seed, width=w, height=h, channels=4, side=side, mode="pad"),
         ImageOps.pad(white, (side, side), Image.BILINEAR, "white"))

(HERE / "expected.raw").write_bytes(results)
(HERE / "index.json").write_text(json.dumps(index, indent=1) + "\n")
