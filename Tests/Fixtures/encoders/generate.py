"""Makes the files beside it: tiny random vision encoders in every naming that is read, and what transformers, timm and open_clip
compute from them, for Tests/VisionTests/EncoderTests.swift.

Run by hand: pip install torch torchvision transformers timm open_clip_torch safetensors pillow
    python Tests/Fixtures/encoders/generate.py [--full FOLDER]

With --full the same models in their real sizes are written to FOLDER in place of the tiny ones: some gigabytes. Tests that find
its name in DREAMCACHE_ENCODERS compare with them, and tell the seconds of a picture beside PyTorch's.
The versions it ran with are recorded in versions.json. Weights are random; nothing here was trained.
"""

import argparse
import functools
import importlib.metadata
import json
import math
import pathlib
import time

import numpy
import open_clip
import safetensors.torch
import timm
import torch
from PIL import Image
from torch import nn
from torchvision import transforms
from transformers import (
    BitImageProcessor, CLIPConfig, CLIPImageProcessor, CLIPModel, Dinov2Config, Dinov2Model, ViTConfig,
    ViTImageProcessor, ViTModel)

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--full", type=pathlib.Path)
FULL = parser.parse_args().full
HERE = pathlib.Path(__file__).resolve().parent
OUT = FULL or HERE
PHOTOS = ("wide", "high")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
# Ids of a tiny vocabulary, between start and end token; the real ones begin and end with the last two of theirs.
WORDS = ([5, 17, 3], [1, 2, 3, 4, 5, 6, 7, 8])
torch.set_grad_enabled(False)
result, seconds = {}, {}


def photo(name):
    return Image.open(HERE.parent / "u2netp" / f"{name}.png").convert("RGB")


def fill(model, seed):
    """No parameter keeps its initialisation; activations stay near one. Half precision holds the values exactly."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in sorted(model.named_parameters()):
        noise = torch.randn(value.shape, generator=generator)
        if value.dim() < 2:
            offset = 1 if name.endswith("weight") or "gamma" in name or "lambda" in name else 0
            value.copy_((offset + 0.1 * noise).half().float())
        elif any(part in name for part in ("pos", "cls", "class", "mask_token")):
            value.copy_((0.5 * noise).half().float())
        else:
            fan_in = math.prod(value.shape[1:])
            value.copy_((noise / fan_in ** 0.5).half().float())
    return model.eval()


def in_two_passes(resize, crop, statistics, is_square=False, resample=Image.BICUBIC, rounds_down=False):
    """As the libraries do it with Pillow 11, which resizes columns first. Pillow 13 and torchvision's own resizing take the
    passes in the other order where that is quicker, which moves values by a level."""
    def prepare(picture):
        short = min(picture.size)
        width, height = [resize if is_square or side == short else int(resize * side / short) for side in picture.size]
        picture = picture.resize((width, picture.height), resample).resize((width, height), resample)
        margins = [(side - crop) / 2 for side in (width, height)]
        left, top = [int(margin) if rounds_down else round(margin) for margin in margins]
        pixels = torch.from_numpy(numpy.asarray(picture.crop((left, top, left + crop, top + crop))).copy())
        mean, deviation = [torch.tensor(values) for values in statistics]
        return ((pixels / 255 - mean) / deviation).permute(2, 0, 1)[None].contiguous()

    return prepare


def keep(name, model, prepare, exact, features):
    """What the library makes of both pictures: some pixels as the model sees them; and features, of exact pixels."""
    for picture in PHOTOS:
        if not FULL:
            result[f"{name}.{picture}.pixels"] = prepare(photo(picture))[0, :, ::8, ::8].contiguous()
        pixels = exact(photo(picture))
        begin = time.time()
        result[f"{name}.{picture}"] = features(model, pixels)[0].clone()
        seconds[name] = time.time() - begin


def published(side, crop, mean, deviation):
    chain = transforms.Compose([
        transforms.Resize(side, interpolation=transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(crop),
        transforms.ToTensor(), transforms.Normalize(mean, deviation)])
    return lambda picture: chain(picture)[None]


def processed(processor):
    return lambda picture: processor(picture, return_tensors="pt")["pixel_values"]


def half(model):
    return {name: value.half().contiguous() for name, value in model.state_dict().items()}


def write_torch(folder):
    """pytorch_model.bin in place of model.safetensors, as transformers wrote it before there were any."""
    state = safetensors.torch.load_file(folder / "model.safetensors")
    torch.save({name: value.half() for name, value in state.items()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def dino(seed, name, patch, **tiny):
    size = dict(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536, image_size=224)
    size |= {} if FULL else tiny
    side = size["image_size"]
    model = fill(ViTModel(ViTConfig(patch_size=patch, layer_norm_eps=1e-12, **size), add_pooling_layer=False), seed)
    folder = OUT / name
    model.save_pretrained(folder)
    processor = ViTImageProcessor(
        size={"height": side, "width": side}, resample=2, image_mean=IMAGENET[0], image_std=IMAGENET[1])
    processor.save_pretrained(folder)
    exact = in_two_passes(side, side, IMAGENET, is_square=True, resample=Image.BILINEAR)
    keep(name, model, processed(processor), exact, lambda m, x: m(x).last_hidden_state[:, 0])
    return folder


def dino_hub(seed, name, patch, side, resize, v2=False, pretrained=None):
    """timm's VisionTransformer has the names of facebook's code."""
    size = dict(embed_dim=384, depth=12, num_heads=6) if FULL else dict(
        embed_dim=128, depth=1, num_heads=2, mlp_ratio=1)
    model = timm.models.VisionTransformer(
        img_size=pretrained or side, patch_size=patch, num_classes=0, init_values=1.0 if v2 else None,
        norm_layer=functools.partial(nn.LayerNorm, eps=1e-6), **size)
    fill(model, seed)
    state = half(model)
    if v2:
        # dinov2/models/vision_transformer.py interpolates by a factor of (patches + 0.1) / positions.
        state["mask_token"] = torch.zeros(1, state["pos_embed"].shape[-1]).half()
        positions, grid = model.pos_embed, side // patch
        old = int((positions.shape[1] - 1) ** 0.5)
        table = positions[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
        factor = (grid + 0.1) / old
        table = nn.functional.interpolate(table, scale_factor=(factor, factor), mode="bicubic", antialias=False)
        assert table.shape[-2:] == (grid, grid)
        other = timm.models.VisionTransformer(
            img_size=side, patch_size=patch, num_classes=0, init_values=1.0,
            norm_layer=functools.partial(nn.LayerNorm, eps=1e-6), **size)
        own = {k: v for k, v in model.state_dict().items() if k != "pos_embed"}
        own["pos_embed"] = torch.cat([positions[:, :1], table.flatten(2).transpose(1, 2)], 1)
        other.load_state_dict(own)
        model = other.eval()
    torch.save(state, OUT / f"{name}.pth")
    keep(name, model, published(resize, side, *IMAGENET), in_two_passes(resize, side, IMAGENET), lambda m, x: m(x))


def dinov2(seed, name):
    size = dict(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518) if FULL else dict(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=98)
    resize, side = (256, 224) if FULL else (64, 56)
    model = fill(Dinov2Model(Dinov2Config(patch_size=14, **size)), seed)
    processor = BitImageProcessor(
        size={"shortest_edge": resize}, crop_size={"height": side, "width": side}, resample=3,
        image_mean=IMAGENET[0], image_std=IMAGENET[1], do_convert_rgb=True)
    model.save_pretrained(OUT / name)
    processor.save_pretrained(OUT / name)
    exact = in_two_passes(resize, side, IMAGENET, rounds_down=True)
    keep(name, model, processed(processor), exact, lambda m, x: m(x).last_hidden_state[:, 0])


def clip(seed, name, large=False):
    vocabulary = 49408 if FULL else 24
    if FULL:
        width, text = (1024, 768) if large else (768, 512)
        vision = dict(
            hidden_size=width, num_hidden_layers=24 if large else 12, num_attention_heads=width // 64,
            intermediate_size=4 * width, image_size=224, patch_size=14 if large else 32)
        words = dict(
            hidden_size=text, num_hidden_layers=12, num_attention_heads=text // 64, intermediate_size=4 * text,
            max_position_embeddings=77)
        projection = text
    else:
        vision = dict(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8)
        words = dict(
            hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=64, max_position_embeddings=10)
        projection = 20
    words |= dict(vocab_size=vocabulary, bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1)
    model = fill(
        CLIPModel(CLIPConfig(text_config=words, vision_config=vision, projection_dim=projection)), seed)
    side = vision["image_size"]
    processor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    model.save_pretrained(OUT / name)
    processor.save_pretrained(OUT / name)

    def value(output):
        return output if torch.is_tensor(output) else output.pooler_output

    exact = in_two_passes(side, side, OPENAI, rounds_down=True)
    keep(name, model, processed(processor), exact, lambda m, x: value(m.get_image_features(x)))
    for index, ids in enumerate(WORDS):
        ids = torch.tensor([[vocabulary - 2, *ids, vocabulary - 1]])
        result[f"{name}.text{index}"] = value(model.get_text_features(ids))[0].clone()
    return model


def openclip_sizes():
    if FULL:
        return 512, dict(image_size=224, layers=12, width=768, patch_size=32), dict(
            context_length=77, vocab_size=49408, width=512, heads=8, layers=12)
    return 20, dict(image_size=32, layers=1, width=64, patch_size=16, mlp_ratio=1.0), dict(
        context_length=10, vocab_size=24, width=64, heads=1, layers=1, mlp_ratio=1.0)


def keep_openclip(name, model, side):
    model.eval()
    keep(name, model, published(side, side, *OPENAI), in_two_passes(side, side, OPENAI), lambda m, x: m.encode_image(x))
    for index, ids in enumerate(WORDS):
        context, vocabulary = model.context_length, model.vocab_size
        ids = [vocabulary - 2, *ids, vocabulary - 1]
        padded = torch.tensor([ids + [0] * (context - len(ids))])
        result[f"{name}.text{index}"] = model.encode_text(padded)[0].clone()


def openclip(seed, name):
    embed, vision, text = openclip_sizes()
    model = fill(open_clip.model.CLIP(embed, dict(vision), dict(text)), seed)
    folder = OUT / name
    folder.mkdir(exist_ok=True)
    safetensors.torch.save_file(half(model), folder / "open_clip_model.safetensors")
    configuration = {
        "model_cfg": {"embed_dim": embed, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {
            "mean": OPENAI[0], "std": OPENAI[1], "interpolation": "bicubic", "resize_mode": "shortest"}}
    (folder / "open_clip_config.json").write_text(json.dumps(configuration, indent=1))
    keep_openclip(name, model, vision["image_size"])


class Holder(nn.Module):
    """A module that holds what a state dict says; its code is a trap that reading must not spring."""

    def __init__(self, state):
        super().__init__()
        inner = {}
        for key, value in state.items():
            head, _, rest = key.partition(".")
            if rest:
                inner.setdefault(head, {})[rest] = value
            elif value.is_floating_point():
                self.register_parameter(head, nn.Parameter(value))
            else:
                self.register_buffer(head, value)
        for head, part in inner.items():
            self.add_module(head, Holder(part))

    def forward(self, x):
        raise RuntimeError("code of the archive was run")


def openai(seed, name):
    """OpenAI's .pt is a TorchScript archive. open_clip reads it and builds the model from it."""
    embed, vision, text = openclip_sizes()
    # OpenAI's files have a feed-forward part of four times the width.
    vision, text = {**vision, "mlp_ratio": 4.0}, {**text, "mlp_ratio": 4.0}
    model = fill(open_clip.model.CLIP(embed, dict(vision), dict(text)), seed)
    state = half(model)
    state["input_resolution"] = torch.tensor(vision["image_size"])
    state["context_length"] = torch.tensor(text["context_length"])
    state["vocab_size"] = torch.tensor(text["vocab_size"])
    path = OUT / f"{name}.pt"
    torch.jit.save(torch.jit.script(Holder(state)), str(path))
    read = open_clip.openai.load_openai_model(str(path), precision="fp32", device="cpu")
    keep_openclip(name, read, vision["image_size"])


torch.set_num_threads(2 if FULL else 1)
OUT.mkdir(exist_ok=True)
dino(1, "dino-s16", 16, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=64)
write_torch(dino(
    2, "dino-s8", 8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=40))
dino_hub(3, "dino-hub", 16, 224, 256)
dinov2(4, "dinov2")
dino_hub(5, "dinov2-hub", 14, 224, 256, v2=True, pretrained=518 if FULL else 294)
clip(6, "clip")
if FULL:
    clip(9, "clip-l14", large=True)
openclip(7, "open-clip")
openai(8, "openai")
safetensors.torch.save_file({name: value.float().contiguous() for name, value in result.items()}, OUT / "expected.safetensors")
packages = ("torch", "torchvision", "transformers", "timm", "open_clip_torch", "pillow", "numpy")
(OUT / "versions.json").write_text(json.dumps({name: importlib.metadata.version(name) for name in packages}, indent=1) + "\n")
if FULL:
    (OUT / "seconds.json").write_text(json.dumps(seconds, indent=1))
