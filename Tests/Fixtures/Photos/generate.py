#!/usr/bin/env python3
"""Writes the pictures of this folder and what must be read from them. Run once, by hand, with Pillow 11.3.0, pillow-heif
1.8.1, NumPy 2.4.6, heif-enc of libheif 1.15.1 and avifenc of libavif 0.11.1 (Debian's libheif-examples, libavif-bin).

index.json lists the pictures, each with the place of its expected pixels in expected.raw (height x width x channels bytes)
and by how many grey levels the result may differ. They are Pillow's: ImageOps.exif_transpose, and ImageCms.profileToProfile
to sRGB where the file has a profile, or stands for one. `reason` says why more than one level is allowed, or why
the expected pixels are computed here instead.
"""
import io, json, struct, subprocess, tempfile, warnings, zlib
from pathlib import Path

import numpy as np
import PIL
import pillow_heif
from PIL import Image, ImageCms, ImageOps

import icc

warnings.simplefilter("ignore")
pillow_heif.register_heif_opener()
HERE = Path(__file__).parent
SRGB = ImageCms.createProfile("sRGB")
index, results = [], b""
for old in HERE.iterdir():
    if old.suffix not in (".py",):
        old.unlink()


def smooth(width, height, channels=3, seed=1):
    """Soft colours over the whole range."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (4, 5, channels), np.uint8)
    planes = [Image.fromarray(small[..., c]).resize((width, height), Image.BICUBIC) for c in range(channels)]
    return Image.merge({1: "L", 3: "RGB", 4: "RGBA"}[channels], planes)


def keep(name, content, pixels, tolerance, profile, reason):
    global results
    (HERE / name).write_bytes(content)
    pixels = np.asarray(pixels)
    raw = pixels.astype("u1").tobytes()
    height, width, channels = pixels.shape
    index.append(dict(file=name, width=width, height=height, channels=channels, offset=len(results), count=len(raw),
                      tolerance=tolerance, profile=profile, reason=reason))
    results += raw


def pillow(content, profile=None):
    """What Pillow makes of a file."""
    image = Image.open(io.BytesIO(content))
    embedded = image.info.get("icc_profile") or profile
    image.load()
    alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if image.mode in ("P", "1", "I;16", "I", "LA", "PA"):
        image = image.convert("RGBA" if alpha else "RGB")
    image = ImageOps.exif_transpose(image)
    mode = "RGBA" if alpha else "RGB"
    if embedded:
        source = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        if image.mode == "RGBA":
            colours = ImageCms.profileToProfile(image.convert("RGB"), source, SRGB, outputMode="RGB")
            colours.putalpha(image.getchannel("A"))
            image = colours
        else:
            image = ImageCms.profileToProfile(image, source, SRGB, outputMode="RGB")
    if image.mode == "CMYK" and not embedded:
        inks = 255 - np.asarray(image).astype(int)
        paper = inks[..., 3:]
        return paper - ((255 - inks[..., :3]) * paper + 127) // 255
    return np.asarray(image.convert(mode))


def add(name, content, profile="", tolerance=1, means=None, expected=None, reason=""):
    keep(name, content, pillow(content, means) if expected is None else expected, tolerance, profile, reason)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(value, kind=3, order=">"):
    """A TIFF block of one tag."""
    formats = {3: "HH", 4: "I", 1: "B3x"}
    field = struct.pack(order + formats[kind], *([value, 0] if kind == 3 else [value]))
    return ((b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "I", 8)
            + struct.pack(order + "HHHI", 1, 0x112, kind, 1) + field + struct.pack(order + "I", 0))


def segment(code, payload):
    return bytes([0xff, code]) + struct.pack(">H", len(payload) + 2) + payload


def inserted(jpeg, *segments):
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(png, *chunks):
    return png[:33] + b"".join(chunks) + png[33:]


def png16(samples, *chunks):
    """[height, width, channels] of 16 bits."""
    height, width, channels = samples.shape
    kind = {1: 0, 3: 2, 4: 6}[channels]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
            + b"".join(chunks) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b""))


def exact(samples, primaries, gamma):
    """16-bit samples to sRGB without rounding in between."""
    v = samples / 65535
    light = v ** gamma if gamma else np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    rgb = (light @ icc.matrix(primaries).T @ np.linalg.inv(icc.matrix(icc.SRGB)).T).clip(0, 1)
    return (255 * np.where(rgb <= 0.0031308, rgb * 12.92, 1.055 * rgb ** (1 / 2.4) - 0.055)).round()


def xmp(value, element=False):
    inner = f"<tiff:Orientation>{value}</tiff:Orientation>" if element else ""
    attribute = "" if element else f' tiff:Orientation="{value}"'
    return (f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"{attribute}>{inner}'
            f"</rdf:Description></rdf:RDF></x:xmpmeta>").encode()


def heif_enc(name, samples, *options):
    return encoded("heif-enc", name, samples, *options)


def encoded(program, name, samples, *options):
    """By heif-enc or avifenc, from a 16-bit or 8-bit PNG."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "a.png"), Path(folder, name)
        if isinstance(samples, Image.Image):
            samples.save(source)
        else:
            source.write_bytes(png16(samples))
        subprocess.run([program, *options, "-o", target, source], check=True, capture_output=True)
        return target.read_bytes()


def deep(width, height, channels=3, seed=2):
    image = np.asarray(smooth(width, height, channels, seed)).astype(np.int64).reshape(height, width, channels)
    return (image * 257 + np.random.default_rng(seed).integers(-128, 128, image.shape)).clip(0, 65535)


W, H = 29, 21
picture = smooth(W, H)
alpha = smooth(W, H, 4, 3)
grey = smooth(W, H, 1, 4)
PROFILES = dict(p3=icc.rgb(icc.P3), p3v4=icc.rgb(icc.P3, version=0x04200000), adobe=icc.rgb(icc.ADOBE, 563 / 256),
                prophoto=icc.rgb(icc.PROPHOTO, 1.8, icc.D50_XY), bt2020=icc.rgb(icc.BT2020), lut=icc.rgb_lut())

# HEIC: sizes, chroma, depth, alpha, orientation, profiles.
for size in [(29, 21), (64, 48), (17, 40), (130, 70)]:
    add(f"size-{size[0]}x{size[1]}.heic", saved(smooth(*size), "HEIF", quality=90, chroma=444))
add("chroma-420.heic", saved(smooth(40, 30), "HEIF", quality=90, chroma=420))
add("chroma-422.heic", saved(smooth(40, 30), "HEIF", quality=90, chroma=422))
add("alpha.heic", saved(alpha, "HEIF", quality=95, chroma=444))
add("grey.heic", saved(grey, "HEIF", quality=95))
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x112] = orientation
    add(f"orientation-{orientation}.heic", saved(smooth(40, 30), "HEIF", quality=95, chroma=444, exif=exif.tobytes()))
for name in ["p3", "adobe", "lut"]:
    add(f"profile-{name}.heic", saved(picture, "HEIF", quality=95, chroma=444, icc_profile=PROFILES[name]), name)
for depth in (10, 12):
    add(f"depth-{depth}.heic", heif_enc("a.heic", deep(W + 1, H + 1), "-b", str(depth), "-p", "chroma=444", "-q", "90"))
add("nclx-p3.heic", saved(smooth(30, 22), "HEIF", quality=95, chroma=444, color_primaries=12, transfer_characteristics=13,
                          matrix_coefficients=6, full_range_flag=1), "nclx P3", means=PROFILES["p3"])

# AVIF, by Pillow's own plugin and by heif-enc.
for size in [(29, 21), (64, 48)]:
    add(f"size-{size[0]}x{size[1]}.avif", saved(smooth(*size), "AVIF", quality=90, subsampling="4:4:4"))
add("chroma-420.avif", saved(smooth(40, 30), "AVIF", quality=90, subsampling="4:2:0"))
add("alpha.avif", saved(alpha, "AVIF", quality=95, subsampling="4:4:4"))
add("grey.avif", saved(grey, "AVIF", quality=95, subsampling="4:0:0"))
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x112] = orientation
    add(f"orientation-{orientation}.avif", saved(smooth(40, 30), "AVIF", quality=95, subsampling="4:4:4", exif=exif))
add("profile-p3.avif", saved(picture, "AVIF", quality=95, subsampling="4:4:4", icc_profile=PROFILES["p3"]), "p3")
for depth in (10, 12):
    add(f"depth-{depth}.avif", encoded("avifenc", "a.avif", deep(W, H), "-d", str(depth), "-y", "444", "--min", "5", "--max", "10"), tolerance=3,
        reason="libavif 1.3 of Pillow drops bits before it converts; 0.11 converts in floating point, nearer to the source")

# WebP.
add("lossy.webp", saved(picture, "WEBP", quality=80))
add("lossless.webp", saved(picture, "WEBP", lossless=True))
add("alpha.webp", saved(alpha, "WEBP", quality=80))
add("alpha-lossless.webp", saved(alpha, "WEBP", lossless=True, exact=True))
add("animation.webp", saved(picture, "WEBP", save_all=True, append_images=[smooth(W, H, 3, 9)], duration=100, lossless=True))
add("profile-p3.webp", saved(picture, "WEBP", lossless=True, icc_profile=PROFILES["p3"]), "p3")
for orientation in (2, 6, 7):
    add(f"orientation-{orientation}.webp", saved(picture, "WEBP", lossless=True, exif=oriented(orientation)))
add("xmp-8.webp", saved(picture, "WEBP", lossless=True, xmp=xmp(8)))

# JPEG: profiles, EXIF colours, orientation, what phones write.
base = saved(picture, "JPEG", quality=92, subsampling=0)
for name, profile in PROFILES.items():
    add(f"profile-{name}.jpg", saved(picture, "JPEG", quality=92, subsampling=0, icc_profile=profile), name)
add("profile-grey.jpg", saved(grey, "JPEG", quality=92, icc_profile=icc.grey(1.6)), "grey, gamma 1.6")
inks = Image.fromarray(np.asarray(smooth(W, H, 4, 7)), "CMYK")
add("profile-cmyk.jpg", saved(inks, "JPEG", quality=92, icc_profile=icc.cmyk_lut()), "CMYK table")
parts = [PROFILES["lut"][i:i + 1000] for i in range(0, len(PROFILES["lut"]), 1000)]
pieces = [segment(0xe2, b"ICC_PROFILE\0" + bytes([i + 1, len(parts)]) + p) for i, p in enumerate(parts)]
add("profile-parts.jpg", inserted(base, *reversed(pieces)), "table in parts, last first")
plain = np.asarray(Image.open(io.BytesIO(base)))
damaged = bytearray(PROFILES["p3"])
damaged[36:40] = b"nope"
IGNORED = "as browsers do, a profile that cannot be used is ignored; Pillow's ImageCms refuses it"
for name, profile in dict(damaged=bytes(damaged), short=PROFILES["p3"][:100], cmyk=icc.cmyk_lut(), grey=icc.grey(1.6)).items():
    add(f"profile-useless-{name}.jpg", inserted(base, segment(0xe2, b"ICC_PROFILE\0\1\1" + profile[:60000])), f"useless ({name})",
        expected=plain, reason=IGNORED)
add("profile-part-missing.jpg", inserted(base, segment(0xe2, b"ICC_PROFILE\0\1\2" + PROFILES["p3"])), "one part of two", expected=plain)


def exif_colours(space, interop):
    """IFD0 with the EXIF directory, in it ColorSpace and the interoperability directory."""
    block = b"MM\0*" + struct.pack(">I", 8) + struct.pack(">HHHII", 1, 0x8769, 4, 1, 26) + bytes(4)
    block += struct.pack(">HHHIHH", 2, 0xa001, 3, 1, space, 0) + struct.pack(">HHII", 0xa005, 4, 1, 56) + bytes(4)
    return b"Exif\0\0" + block + struct.pack(">HHHI", 1, 1, 2, 4) + interop + b"\0" + bytes(4)


add("exif-r03.jpg", inserted(base, segment(0xe1, exif_colours(0xffff, b"R03"))), "EXIF R03", means=PROFILES["adobe"])
add("exif-r98.jpg", inserted(base, segment(0xe1, exif_colours(1, b"R98"))), "EXIF R98")
add("exif-adobe.jpg", inserted(base, segment(0xe1, exif_colours(2, b"R98"))), "EXIF ColorSpace 2", means=PROFILES["adobe"])
for kind, order in [(3, "<"), (4, ">"), (4, "<"), (1, ">")]:
    name = {3: "short", 4: "long", 1: "byte"}[kind]
    add(f"orientation-{name}-{'be' if order == '>' else 'le'}.jpg", inserted(base, segment(0xe1, b"Exif\0\0" + oriented(6, kind, order))))
add("orientation-twice-prefixed.jpg", inserted(base, segment(0xe1, b"Exif\0\0Exif\0\0" + oriented(5))))
add("orientation-9.jpg", inserted(base, segment(0xe1, b"Exif\0\0" + oriented(9)), segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(6))))
for element in (False, True):
    add(f"xmp-{'element' if element else 'attribute'}.jpg", inserted(base, segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(6, element))))
add("exif-before-xmp.jpg", inserted(base, segment(0xe1, b"Exif\0\0" + oriented(3)), segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(6))))

scan = base.index(b"\xff\xda")
samsung = bytearray(base)
samsung[scan + 11:scan + 14] = b"\0\0\0"
add("samsung-sos.jpg", bytes(samsung))
add("stray-before-scan.jpg", base[:scan] + bytes(4) + base[scan:], expected=plain)
table = base.index(b"\xff\xdb")
add("stray-00e1.jpg", base[:table] + b"\0\xe1\0\x08abcdef" + base[table:], expected=plain)
add("stray-stuffed.jpg", base[:table] + b"\x12\xff\0\xff\0" + base[table:], expected=plain)
add("motion-photo.jpg", base + b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(range(256)), expected=plain)
second = saved(smooth(W, H, 3, 8), "JPEG", quality=92)
add("burst.mpo", saved(picture, "MPO", save_all=True, append_images=[smooth(W, H, 3, 8)], quality=92, subsampling=0))
gain_map = b"http://ns.adobe.com/xap/1.0/\0" + b'<x:xmpmeta xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"/>'
add("ultra-hdr.jpg", inserted(base, segment(0xe1, gain_map)) + second, expected=plain)

# PNG: chunks of colour in their order, 16 bits, orientation.
sound = saved(picture, "PNG")


def iccp(profile):
    return chunk(b"iCCP", b"test\0\0" + zlib.compress(profile))


def chrm(primaries, white=icc.D65):
    return chunk(b"cHRM", b"".join(struct.pack(">I", round(v * 100000)) for xy in (white, *primaries) for v in xy))


def gama(value):
    return chunk(b"gAMA", struct.pack(">I", round(value * 100000)))


for name, profile in PROFILES.items():
    add(f"profile-{name}.png", with_chunks(sound, iccp(profile)), name)
add("profile-p3-alpha.png", with_chunks(saved(alpha, "PNG"), iccp(PROFILES["p3"])), "p3")
add("profile-grey.png", with_chunks(saved(grey, "PNG"), iccp(icc.grey(1.6))), "grey, gamma 1.6")
add("profile-p3-palette.png", with_chunks(saved(picture.quantize(16), "PNG"), iccp(PROFILES["p3"])), "p3",
    expected=pillow(with_chunks(saved(picture.quantize(16).convert("RGB"), "PNG"), iccp(PROFILES["p3"]))))
add("gama-1.png", with_chunks(sound, gama(1.0)), "gAMA 1", means=icc.rgb(icc.SRGB, 1.0))
add("gama-55556.png", with_chunks(sound, gama(1 / 1.8)), "gAMA 1/1.8", means=icc.rgb(icc.SRGB, 1.8), tolerance=2,
    reason="the exponent is rounded to 1/256 in the profile that stands for it")
add("gama-chrm-adobe.png", with_chunks(sound, gama(256 / 563), chrm(icc.ADOBE)), "gAMA, cHRM", means=PROFILES["adobe"])
add("gama-chrm-srgb.png", with_chunks(sound, gama(0.45455), chrm(icc.SRGB)), "sRGB as gAMA, cHRM", tolerance=0)
add("gama-grey.png", with_chunks(saved(grey, "PNG"), gama(1.0)), "gAMA 1, grey", means=icc.grey(1.0))
add("srgb-before-gama.png", with_chunks(sound, chunk(b"sRGB", b"\0"), gama(1.0)), "sRGB before gAMA", tolerance=0)
add("iccp-before-srgb.png", with_chunks(sound, iccp(PROFILES["p3"]), chunk(b"sRGB", b"\0"), gama(1.0)), "iCCP before sRGB")
add("cicp-p3.png", with_chunks(sound, chunk(b"cICP", bytes([12, 13, 0, 1])), iccp(PROFILES["adobe"])), "cICP before iCCP",
    expected=pillow(sound, PROFILES["p3"]))
add("cicp-srgb.png", with_chunks(sound, chunk(b"cICP", bytes([1, 13, 0, 1])), gama(1.0)), "cICP sRGB", tolerance=0)
IN16 = "16 bits until the last step; Pillow drops 8 of them first"
for name, primaries, gamma in [("p3", icc.P3, None), ("adobe", icc.ADOBE, 563 / 256)]:
    samples = deep(W, H)
    add(f"profile-{name}-16.png", png16(samples, iccp(PROFILES[name])), f"{name}, 16 bits", expected=exact(samples, primaries, gamma), reason=IN16)
linear = deep(W, H, 3, 5) // 16
add("gama-1-16.png", png16(linear, gama(1.0)), "gAMA 1, 16 bits", expected=exact(linear, icc.SRGB, 1.0), reason=IN16)
raw = b"\nexif\n%8d\n" % (len(oriented(6)) + 6) + (b"Exif\0\0" + oriented(6)).hex().encode() + b"\n"
add("raw-profile-zTXt.png", with_chunks(sound, chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw))))
add("raw-profile-tEXt.png", with_chunks(sound, chunk(b"tEXt", b"Raw profile type exif\0" + raw)))
add("raw-profile-app1.png", with_chunks(sound, chunk(b"tEXt", b"Raw profile type APP1\0" + raw.replace(b"exif", b"APP1", 1))),
    expected=np.asarray(picture.transpose(Image.ROTATE_270)), reason="what ImageMagick wrote; Pillow leaves it sideways")
add("exif-chunk.png", with_chunks(sound, chunk(b"eXIf", oriented(8, 4, "<"))))
add("exif-chunk-prefixed.png", with_chunks(sound, chunk(b"eXIf", b"Exif\0\0" + oriented(7))))
add("xmp.png", with_chunks(sound, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6))))

# AVIF from elsewhere: a clean aperture, which comes before the turning, and brands that do not name the coding.
whole = smooth(64, 48)
part = np.asarray(whole)[6:36, 10:50]
SHOWN = "Pillow shows what the clean aperture leaves out"
add("clap.avif", encoded("avifenc", "a.avif", whole, "-l", "--crop", "10,6,40,30"), expected=part, reason=SHOWN)
add("clap-turned.avif", encoded("avifenc", "a.avif", whole, "-l", "--crop", "10,6,40,30", "--irot", "1"),
    expected=np.rot90(part), reason=SHOWN)
avif = (HERE / "size-64x48.avif").read_bytes()
end = int.from_bytes(avif[:4], "big")
for name, brands in {"mif1": (b"mif1", b"avif", b"miaf"), "mif1-alone": (b"mif1", b"miaf")}.items():
    brands = (brands * 10)[:(end - 16) // 4]
    add(f"brand-{name}.avif", avif[:8] + b"mif1" + bytes(4) + b"".join(brands) + avif[end:], expected=pillow(avif))

(HERE / "expected.raw").write_bytes(results)
(HERE / "index.json").write_text(json.dumps(dict(
    pillow=PIL.__version__, pillow_heif=pillow_heif.__version__, numpy=np.__version__, heif_enc="1.15.1", avifenc="0.11.1", images=index), indent=1) + "\n")
print(len(index), "pictures")
