"""Makes the fixtures of VisionTests: two small pictures of a subject in front of a scene, what Pillow makes of them at 320 x 320,
and what PyTorch computes of that with the authors' weights in single precision, which those that ship must stand for.

    python generate.py U2NETP.safetensors     # as Tools/segmenter takes them; needs numpy, Pillow 11, torch, safetensors

The network is written here a second time, from the paper and the authors' code, so that two readings are compared.
"""

import pathlib
import sys

import numpy
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
SUBJECTS = HERE.parent / "demo-subjects"


def scene(subject, size, box, seed):
    """A subject drawn on white, in front of a smooth background of its own."""
    g = numpy.random.default_rng(seed)
    noise = Image.fromarray((g.random((6, 8, 3)) * 110 + 40).astype("uint8")).resize(size, Image.BICUBIC)
    subject = Image.open(SUBJECTS / subject).convert("RGB").resize((box[2], box[2]), Image.LANCZOS)
    white = numpy.asarray(subject).min(2) > 244
    alpha = Image.fromarray((~white * 255).astype("uint8")).filter(ImageFilter.MedianFilter(5))
    noise.paste(subject, box[:2], alpha)
    return noise


def convolved(weights, name, x, dilation=1):
    return F.relu(F.conv2d(x, weights[f"{name}.conv_s1.weight"], weights[f"{name}.conv_s1.bias"], padding=dilation,
                           dilation=dilation))


def like(x, other):
    return F.interpolate(x, size=other.shape[2:], mode="bilinear", align_corners=False)


def block(weights, name, x, levels, is_flat):
    first = x = convolved(weights, f"{name}.rebnconvin", x)
    skips = []
    for level in range(1, levels):
        if level > 1 and not is_flat:
            x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        x = convolved(weights, f"{name}.rebnconv{level}", x, 2 ** (level - 1) if is_flat else 1)
        skips.append(x)
    x = convolved(weights, f"{name}.rebnconv{levels}", x, 2 ** (levels - 1) if is_flat else 2)
    for level in range(levels - 1, 0, -1):
        skip = skips.pop()
        x = convolved(weights, f"{name}.rebnconv{level}d", torch.cat([like(x, skip), skip], 1),
                      2 ** (level - 1) if is_flat else 1)
    return x + first


def u2net(weights, x):
    levels, picture, skips, maps = (7, 6, 5, 4, 4, 4), x, [], []

    def side(x, number):
        return like(F.conv2d(x, weights[f"side{number}.weight"], weights[f"side{number}.bias"], padding=1), picture)

    for stage in range(1, 7):
        x = block(weights, f"stage{stage}", F.max_pool2d(x, 2, 2, ceil_mode=True) if stage > 1 else x,
                  levels[stage - 1], stage > 4)
        skips.append(x)
    maps.append(side(skips.pop(), 6))
    for stage in range(5, 0, -1):
        skip = skips.pop()
        x = block(weights, f"stage{stage}d", torch.cat([like(x, skip), skip], 1), levels[stage - 1], stage > 4)
        maps.insert(0, side(x, stage))
    return torch.sigmoid(F.conv2d(torch.cat(maps, 1), weights["outconv.weight"], weights["outconv.bias"]))


def main():
    weights = load_file(sys.argv[1])
    expected = {}
    for name, subject, size, box in (
            ("wide", "toy-2044.png", (203, 151), (40, 20, 110)), ("high", "pineapple.png", (151, 202), (25, 60, 105))):
        picture = scene(subject, size, box, len(expected))
        picture.save(HERE / f"{name}.png", optimize=True)
        small = numpy.asarray(picture.resize((320, 320), Image.LANCZOS))
        x = torch.from_numpy(small.astype(numpy.float32) / small.max())
        x = (x - torch.tensor((0.485, 0.456, 0.406))) / torch.tensor((0.229, 0.224, 0.225))
        with torch.no_grad():
            d0 = u2net(weights, x.permute(2, 0, 1)[None])[0, 0]
        # Every fourth pixel of every fourth row is enough.
        expected[f"{name}.input"] = torch.from_numpy(small[::8, ::8].astype(numpy.float32)).contiguous()
        expected[f"{name}.d0"] = d0[::4, ::4].contiguous()
    save_file(expected, HERE / "expected.safetensors")


if __name__ == "__main__":
    main()
