"""Subjects: cut-out pictures with a class name, from two of Debian's packages and from a drawing routine.

    openclipart-png          public domain: /usr/share/openclipart/png, a folder a category
    fonts-noto-color-emoji   SIL Open Font License 1.1: drawn with Pillow; titles and groups from unicode-data's emoji-test.txt
    toys                     drawn here, as many as wanted

A subject is an RGBA picture of at most SIDE pixels a side, cropped to what is visible. Subjects that look alike are kept
once, so that a held-out one has no twin in training.
"""

import dataclasses
import hashlib
import math
import pathlib
import random

import numpy
from PIL import Image, ImageDraw, ImageFont

SIDE = 112
FIRST_TOYS = 2500  # the held-out ones are among them, however many are drawn
OPENCLIPART = pathlib.Path("/usr/share/openclipart/png")
EMOJI_FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
EMOJI_LIST = pathlib.Path("/usr/share/unicode/emoji/emoji-test.txt")

# Folder of openclipart (a prefix of the path) to class; the first that fits.
OPENCLIPART_CLASSES = [
    ("animals/birds", "bird"), ("animals/fish", "fish"), ("animals/bugs", "bug"), ("animals", "animal"),
    ("food/fruit", "fruit"), ("food/vegetables", "vegetable"), ("food/desserts", "cake"), ("food/beverages", "drink"),
    ("food", "food"), ("plants/flowers", "flower"), ("plants", "plant"), ("recreation/music", "instrument"),
    ("recreation/sports", "ball"), ("recreation/toys", "toy"), ("recreation/party", "toy"),
    ("recreation/holiday", "toy"), ("transportation/vehicles", "car"), ("transportation/boating", "boat"),
    ("transportation/roadsigns", None), ("transportation/aiga-symbols", None), ("transportation", "car"),
    ("people/clothing/hats", "hat"), ("people/clothing", "dress"), ("people/smilies", "face"),
    ("buildings/furniture", "furniture"), ("buildings", "house"), ("tools", "tool"), ("electronics", "machine"),
    ("computer/hardware", "machine"), ("office", "tool"), ("containers", "box"), ("decorations", "toy"),
    ("geography/astronomy", "ball"), ("science", "machine"), ("education/books", "book"),
]

# Subgroup of emoji-test.txt to class.
EMOJI_CLASSES = {
    "animal-mammal": "animal", "animal-bird": "bird", "animal-amphibian": "animal", "animal-reptile": "animal",
    "animal-marine": "fish", "animal-bug": "bug", "plant-flower": "flower", "plant-other": "plant",
    "food-fruit": "fruit", "food-vegetable": "vegetable", "food-prepared": "food", "food-asian": "food",
    "food-sweet": "cake", "drink": "drink", "dishware": "tool", "place-building": "house", "transport-ground": "car",
    "transport-water": "boat", "transport-air": "plane", "sky & weather": "ball", "event": "toy", "award-medal": "toy",
    "sport": "ball", "game": "toy", "arts & crafts": "toy", "clothing": "dress", "music": "instrument",
    "musical-instrument": "instrument", "phone": "machine", "computer": "machine", "light & video": "machine",
    "book-paper": "book", "tool": "tool", "science": "tool", "household": "furniture", "other-object": "toy",
    "face-smiling": "face", "face-affection": "face", "face-tongue": "face", "face-neutral-skeptical": "face",
    "face-unwell": "face", "face-hat": "face", "face-glasses": "face", "face-concerned": "face",
    "face-negative": "face", "face-costume": "face", "cat-face": "face", "monkey-face": "face", "heart": "toy",
    "person-fantasy": "doll", "writing": "tool", "mail": "box", "money": "toy", "lock": "tool",
}

CLASSES = sorted({c for _, c in OPENCLIPART_CLASSES if c} | set(EMOJI_CLASSES.values()) | {"toy"})


@dataclasses.dataclass
class Subject:
    name: str
    kind: str  # the class
    source: str  # openclipart, emoji, toy
    picture: Image.Image  # RGBA


def cropped(picture, side=SIDE):
    """What is visible, at most `side` pixels a side; None where that is too little or too thin."""
    alpha = numpy.asarray(picture)[..., 3]
    rows, columns = (numpy.flatnonzero((alpha > 40).any(axis=axis)) for axis in (1, 0))
    if len(rows) < 24 or len(columns) < 24:
        return None
    picture = picture.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    if not 0.4 < picture.width / picture.height < 2.5:
        return None
    scale = side / max(picture.size)
    size = tuple(max(1, round(s * scale)) for s in picture.size)
    return picture.resize(size, Image.LANCZOS)


def is_lively(picture):
    """Filled and coloured: line drawings and grey pictures say little about identity."""
    pixels = numpy.asarray(picture).astype(float) / 255
    alpha = pixels[..., 3]
    if not 0.3 < alpha.mean() < 0.97:
        return False
    weight = alpha / alpha.sum()
    rgb = pixels[..., :3]
    saturation = ((rgb.max(-1) - rgb.min(-1)) * weight).sum()
    return saturation > 0.16


def openclipart():
    for path in sorted(OPENCLIPART.rglob("*.png")):
        folder = str(path.parent.relative_to(OPENCLIPART))
        kind = next((c for prefix, c in OPENCLIPART_CLASSES if folder.startswith(prefix)), None)
        if kind is None or "_bw" in path.stem or "contour" in path.stem or "outline" in path.stem:
            continue
        try:
            picture = Image.open(path).convert("RGBA")
        except (OSError, ValueError):
            continue
        if (picture := cropped(picture)) is not None:
            yield Subject(f"openclipart {folder}/{path.stem}", kind, "openclipart", picture)


def emoji():
    font = ImageFont.truetype(EMOJI_FONT, 109)
    subgroup = None
    for line in EMOJI_LIST.read_text().splitlines():
        if line.startswith("# subgroup:"):
            subgroup = line.split(":", 1)[1].strip()
        if "; fully-qualified" not in line or subgroup not in EMOJI_CLASSES:
            continue
        code, description = line.split(";", 1)
        title = description.split("#", 1)[1].strip().split(" ", 2)[2]
        if "skin tone" in title or "man " in title:
            continue
        text = "".join(chr(int(c, 16)) for c in code.split())
        picture = Image.new("RGBA", (320, 160))
        ImageDraw.Draw(picture).text((8, 8), text, font=font, embedded_color=True)
        # A sequence that the font has no picture for is drawn as several.
        box = picture.getbbox()
        if box is None or box[2] - box[0] > 160:
            continue
        if (picture := cropped(picture)) is not None:
            yield Subject(f"emoji {title}", EMOJI_CLASSES[subgroup], "emoji", picture)


def toy(seed):
    """A made-up figure of one or two solids with limbs, eyes and a pattern, in three or four colours."""
    r = random.Random(f"toy {seed}")
    scale = 3
    side = SIDE * scale
    picture = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(picture)

    def colour():
        h, s, v = r.random(), r.uniform(0.45, 1), r.uniform(0.45, 1)
        i = int(h * 6)
        f = h * 6 - i
        p, q, t = v * (1 - s), v * (1 - s * f), v * (1 - s * (1 - f))
        rgb = [(v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q)][i % 6]
        return tuple(int(255 * c) for c in rgb) + (255,)

    def shape(kind, cx, cy, w, h, fill, layer=draw):
        box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
        if kind == "ellipse":
            layer.ellipse(box, fill=fill)
        elif kind == "box":
            layer.rounded_rectangle(box, radius=min(w, h) * 0.25, fill=fill)
        else:
            n = {"triangle": 3, "pentagon": 5, "hexagon": 6, "octagon": 8}[kind]
            layer.polygon([
                (cx + w / 2 * math.sin(2 * math.pi * i / n), cy - h / 2 * math.cos(2 * math.pi * i / n))
                for i in range(n)], fill=fill)

    kinds = ["ellipse", "box", "triangle", "pentagon", "hexagon", "octagon", "ellipse", "box"]
    palette = [colour() for _ in range(4)]
    c = side / 2
    w, h = side * r.uniform(0.4, 0.75), side * r.uniform(0.4, 0.7)
    cy = side * r.uniform(0.5, 0.62)
    # Limbs first, behind the body.
    if r.random() < 0.8:
        kind, lw, lh, spread = r.choice(kinds), side * r.uniform(0.1, 0.25), side * r.uniform(0.15, 0.4), r.uniform(0.2, 0.5)
        for sign in (-1, 1):
            shape(kind, c + sign * w * spread, cy + h / 2, lw, lh, palette[1])
    if r.random() < 0.7:
        kind, lw, lh, up = r.choice(kinds), side * r.uniform(0.15, 0.3), side * r.uniform(0.1, 0.3), r.uniform(-0.4, 0.3)
        for sign in (-1, 1):
            shape(kind, c + sign * w / 2, cy + up * h, lw, lh, palette[2])
    # The body, with a pattern that stays on it.
    body = Image.new("L", (side, side))
    body_kind = r.choice(kinds)
    shape(body_kind, c, cy, w, h, 255, ImageDraw.Draw(body))
    skin = Image.new("RGBA", (side, side), palette[0])
    layer = ImageDraw.Draw(skin)
    pattern = r.choice(["plain", "stripes", "columns", "spots", "belly", "half"])
    step = side * r.uniform(0.08, 0.16)
    if pattern in ("stripes", "columns"):
        for i in range(0, int(side / step) + 1, 2):
            a, b = i * step, (i + 1) * step
            layer.rectangle((0, a, side, b) if pattern == "stripes" else (a, 0, b, side), fill=palette[3])
    elif pattern == "spots":
        for i in range(-8, 9):
            for j in range(-8, 9):
                x, y = c + (i + (j % 2) / 2) * step * 1.6, cy + j * step * 1.3
                layer.ellipse((x - step / 2, y - step / 2, x + step / 2, y + step / 2), fill=palette[3])
    elif pattern == "belly":
        shape("ellipse", c, cy + h * 0.15, w * 0.6, h * 0.6, palette[3], layer)
    elif pattern == "half":
        layer.rectangle((0, cy, side, side), fill=palette[3])
    picture.paste(skin, mask=body)
    # A head, ears or a hat, and eyes.
    eye_y = cy - h * r.uniform(0.05, 0.25)
    if r.random() < 0.55:
        hw, hh = w * r.uniform(0.45, 0.9), side * r.uniform(0.2, 0.32)
        hy = cy - h / 2 - hh * 0.2
        if r.random() < 0.6:
            kind = r.choice(kinds)
            for sign in (-1, 1):
                shape(kind, c + sign * hw * 0.42, hy - hh * 0.45, hw * 0.35, hh * r.uniform(0.4, 0.8), palette[2])
        shape(r.choice(kinds), c, hy, hw, hh, palette[r.choice([0, 1, 3])])
        eye_y = hy
        w = hw
    if r.random() < 0.85:
        size, gap = side * r.uniform(0.06, 0.11), w * r.uniform(0.18, 0.28)
        for sign in (-1, 1):
            shape("ellipse", c + sign * gap, eye_y, size, size, (255, 255, 255, 255))
            shape("ellipse", c + sign * gap, eye_y, size * 0.5, size * 0.5, (20, 20, 20, 255))
    return Subject(f"toy {seed}", "toy", "toy", cropped(picture.resize((SIDE, SIDE), Image.LANCZOS)))


def recoloured(subject, number):
    """The picture with its hues turned by so many fifths of the circle: another subject, of the same shape."""
    turn = 51 * number
    hue, saturation, value = subject.picture.convert("RGB").convert("HSV").split()
    picture = Image.merge("HSV", (hue.point(lambda h: (h + turn) % 256), saturation, value)).convert("RGBA")
    picture.putalpha(subject.picture.getchannel("A"))
    return dataclasses.replace(subject, name=f"{subject.name}, recoloured {number}", picture=picture)


def descriptor(subject, side=12):
    """A coarse picture on grey, to tell whether two subjects look alike."""
    canvas = Image.new("RGBA", (SIDE, SIDE), (128, 128, 128, 255))
    p = subject.picture
    canvas.alpha_composite(p, ((SIDE - p.width) // 2, (SIDE - p.height) // 2))
    return numpy.asarray(canvas.convert("RGB").resize((side, side), Image.BOX)).astype(numpy.float32).ravel() / 255


def all_subjects(toys):
    """Every usable subject once, in an order that does not depend on where it came from; but toys beyond the first come
    last."""
    found = [s for s in (*emoji(), *openclipart()) if is_lively(s.picture)]
    drawn = [s for s in map(toy, range(toys)) if s.picture is not None]
    late = {s.name for s in drawn if int(s.name.split()[1]) >= FIRST_TOYS}
    found += drawn
    found.sort(key=lambda s: (s.name in late, hashlib.sha256(s.name.encode()).digest()))
    kept, seen = [], numpy.zeros((len(found), len(descriptor(found[0]))), numpy.float32)
    for subject in found:
        d = descriptor(subject)
        if not (numpy.abs(seen[:len(kept)] - d).mean(axis=1) < 0.035).any():
            seen[len(kept)] = d
            kept.append(subject)
    return kept


def split(subjects, held_out=96):
    """Training and held-out subjects: a third of the latter from each source. The list's order is already random."""
    quota = {source: held_out // 3 for source in ("emoji", "openclipart", "toy")}
    train, test = [], []
    for subject in subjects:
        if quota[subject.source] > 0:
            quota[subject.source] -= 1
            test.append(subject)
        else:
            train.append(subject)
    return train, test
