"""Composites: a subject placed in a scene, and its caption; and references, the subject alone on white."""

import numpy
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from scenes import SCENES, SIZE

OPENINGS = ("a photo of a {}", "a picture of a {}", "a {}", "a photo of the {}")


class Backgrounds:
    """Drawn scenes, so many of each kind, picked and varied at random."""

    def __init__(self, each, seed):
        self.pictures = []
        for index, scene in enumerate(SCENES):
            drawn = []
            for number in range(each):
                g = numpy.random.default_rng([seed, index, number])
                drawn.append((numpy.clip(scene.draw(g), 0, 1) * 255).astype(numpy.uint8))
            self.pictures.append(drawn)

    def pick(self, scene, g):
        picture = self.pictures[scene][g.integers(len(self.pictures[scene]))]
        if g.random() < 0.5:
            picture = picture[:, ::-1]
        return numpy.clip(picture * g.uniform(0.9, 1.08), 0, 255).astype(numpy.uint8)


def _posed(picture, g, longest, tilt):
    scale = longest / max(picture.size)
    picture = picture.resize([max(1, round(s * scale)) for s in picture.size], Image.BICUBIC)
    if g.random() < 0.5:
        picture = picture.transpose(Image.FLIP_LEFT_RIGHT)
    return picture.rotate(g.uniform(-tilt, tilt), Image.BICUBIC, expand=True)


def composite(subject, scene, backgrounds, g):
    """[SIZE, SIZE, 3] bytes."""
    canvas = Image.fromarray(backgrounds.pick(scene, g)).convert("RGBA")
    picture = _posed(subject.picture, g, g.uniform(0.5, 0.74) * SIZE, 12)
    light = g.uniform(0.85, 1.1)
    alpha = picture.getchannel("A")
    picture = ImageEnhance.Brightness(picture.convert("RGB")).enhance(light).convert("RGBA")
    picture.putalpha(alpha)
    x = round((SIZE - picture.width) / 2 + g.uniform(-0.1, 0.1) * SIZE)
    if SCENES[scene].horizon:
        bottom = g.uniform(0.86, 0.97) * SIZE
        y = round(bottom - picture.height)
        shadow = Image.new("L", (SIZE, SIZE))
        half = picture.width * 0.42
        middle = x + picture.width / 2
        ImageDraw.Draw(shadow).ellipse((middle - half, bottom - 9, middle + half, bottom + 3), fill=110)
        shadow = shadow.filter(ImageFilter.GaussianBlur(3))
        canvas.paste((0, 0, 0, 255), mask=shadow)
    else:
        y = round((SIZE - picture.height) / 2 + g.uniform(-0.1, 0.1) * SIZE)
    layer = Image.new("RGBA", (SIZE, SIZE))
    layer.paste(picture, (x, y))
    canvas.alpha_composite(layer)
    return numpy.asarray(canvas.convert("RGB"))


def reference(subject, g=None, is_disturbed=True):
    """The subject on white. With a generator it is posed, its longer side at least 84 % of the picture's, and as DreamCache
    trains it now and then jittered or partly erased; without one it is plainly centred."""
    fraction = 0.86 if g is None else g.uniform(0.84, 0.98)
    picture = subject.picture
    if g is not None:
        picture = _posed(picture, g, fraction * SIZE, 6)
    scale = fraction * SIZE / max(picture.size)
    picture = picture.resize([max(1, round(s * scale)) for s in picture.size], Image.BICUBIC)
    canvas = Image.new("RGBA", (SIZE, SIZE), (255, 255, 255, 255))
    canvas.alpha_composite(picture, ((SIZE - picture.width) // 2, (SIZE - picture.height) // 2))
    pixels = numpy.asarray(canvas.convert("RGB")).astype(numpy.float32)
    if g is not None and is_disturbed:
        if g.random() < 0.1:
            pixels = numpy.clip(pixels * g.uniform(0.85, 1.1, 3), 0, 255)
        if g.random() < 0.4:
            area = g.uniform(0.02, 0.25) * SIZE * SIZE
            width = int(numpy.clip(numpy.sqrt(area) * g.uniform(0.6, 1.6), 4, SIZE))
            height = int(numpy.clip(area / width, 4, SIZE))
            left, top = g.integers(0, SIZE - width + 1), g.integers(0, SIZE - height + 1)
            pixels[top:top + height, left:left + width] = 255
    return pixels.astype(numpy.uint8)


def phrase(kind, opening, words):
    """The caption in the words chosen."""
    if kind[0] in "aeiou":
        opening = opening.replace("a {}", "an {}")
    return f"{opening.format(kind)}, {words}"
