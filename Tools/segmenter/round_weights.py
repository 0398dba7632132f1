#!/usr/bin/env python3
"""Makes Sources/Vision/Resources/u2netp.safetensors out of the authors' weights (batch normalisation folded, fp32, names as in
their code): half the size, and the same masks.

    python round_weights.py u2netp.safetensors OUT.safetensors PHOTO...      # needs numpy, Pillow, torch, safetensors

Rounded one by one to half precision, the weights move a mask by up to a sixth of its range where the network is unsure. So
each convolution is rounded as a whole (Frantar, Ashkboos, Hoefler & Alistarh 2022, "GPTQ"): input by input, and what an
input's rounding changes in the results is taken up by the inputs that follow, as far as they go together in the photos
given; what is left goes into the bias, which stays in single precision. Any photos will do: those that ship were made with
coffee.png, astronaut.png and chelsea.png of scikit-image 0.26 and flower.jpg and china.jpg of scikit-learn 1.9.
"""

import pathlib
import sys

import numpy
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

# The network as the tests' generator reads it from the paper.
sys.path.append(str(pathlib.Path(__file__).parents[2] / "Tests/Fixtures/u2netp"))
import generate  # noqa: E402

# Places of each convolution and photo that are looked at.
SAMPLES = 1200
# Added to the diagonal, as a share of its mean: what the photos say little of moves little.
DAMPING = 1e-4


def network_input(path):
    small = numpy.asarray(Image.open(path).convert("RGB").resize((320, 320), Image.LANCZOS)).astype(numpy.float32)
    x = torch.from_numpy(small / small.max())
    return ((x - torch.tensor((0.485, 0.456, 0.406))) / torch.tensor((0.229, 0.224, 0.225))).permute(2, 0, 1)[None]


def moments(weights, photos):
    """Of each convolution the second moments of its inputs, the kernel's places each for itself, and of a one for the bias."""
    sums, convolution = {}, F.conv2d
    names = {id(tensor): name.removesuffix(".weight") for name, tensor in weights.items()}

    def watched(x, weight, bias=None, padding=0, dilation=1):
        name, kernel = names[id(weight)], weight.shape[-1]
        height, width = x.shape[2:]
        places = torch.randperm(height * width)[:SAMPLES]
        rows, columns = places // width, places % width
        around = F.pad(x, (padding,) * 4)[0]
        taps = [around[:, rows + i * dilation, columns + j * dilation] for i in range(kernel) for j in range(kernel)]
        inputs = torch.cat([torch.stack(taps, 1).reshape(-1, len(places)), torch.ones(1, len(places))]).double()
        sums[name] = sums.get(name, 0) + inputs @ inputs.T * (height * width / len(places))
        return convolution(x, weight, bias, padding=padding, dilation=dilation)

    F.conv2d = watched
    try:
        with torch.no_grad():
            for photo in photos:
                generate.u2net(weights, network_input(photo))
    finally:
        F.conv2d = convolution
    return sums


def rounded(matrix, moments):
    """`[outputs, inputs and bias]` with the inputs in half precision."""
    size = matrix.shape[1]
    moments = moments + torch.eye(size, dtype=torch.double) * DAMPING * moments.diag().mean()
    # Those that matter most come first, while there are many to take up what they leave.
    order = torch.cat([torch.argsort(moments.diag()[:-1], descending=True), torch.tensor([size - 1])])
    rest, result = matrix.double()[:, order], matrix.double()[:, order]
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments[order][:, order]))
    upper = torch.linalg.cholesky(inverse, upper=True)
    for column in range(size - 1):
        result[:, column] = rest[:, column].half().double()
        error = (rest[:, column] - result[:, column]) / upper[column, column]
        rest[:, column + 1:] -= error[:, None] * upper[column, column + 1:]
    result[:, -1] = rest[:, -1]
    return result[:, torch.argsort(order)]


def main(source, target, *photos):
    torch.manual_seed(0)
    weights = load_file(source)
    sums = moments(weights, photos)
    kept = {}
    for name, inputs in sums.items():
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        matrix = rounded(torch.cat([weight.flatten(1), bias[:, None]], 1), inputs)
        kept[f"{name}.weight"] = matrix[:, :-1].reshape(weight.shape).half().contiguous()
        kept[f"{name}.bias"] = matrix[:, -1].float().contiguous()
    assert kept.keys() == weights.keys() and all(tensor.isfinite().all() for tensor in kept.values())
    save_file(kept, target, metadata={
        "name": "u2netp",
        "source": "https://github.com/xuebinqin/U-2-Net, u2netp, batch normalisation folded into the convolutions; weights "
                  "rounded to half precision so that results stay (Tools/segmenter), biases in single precision",
        "licence": "Apache-2.0",
        "citation": "Qin, Zhang, Huang, Dehghan, Zaiane, Jagersand: U2-Net: Going Deeper with Nested U-Structure for Salient "
                    "Object Detection. Pattern Recognition 106, 2020.",
        "layout": "[outputs, inputs, rows, columns]",
    })


if __name__ == "__main__":
    main(*sys.argv[1:])
