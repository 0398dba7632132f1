"""The networks of the demonstration model, in PyTorch, at the sizes of a preset.

The U-Net with its adapters is that of Tests/Benchmarks/unet.py (LDM's names); the autoencoder has diffusers' names and the
text encoder transformers', so that export.py renames the U-Net alone.
"""

import dataclasses
import pathlib
import sys

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "Tests/Benchmarks"))
import unet  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Preset:
    unet: unet.Geometry
    autoencoder: tuple[int, ...]  # channels of the levels
    autoencoder_groups: int
    autoencoder_blocks: int
    text_layers: int
    batch: int
    rate: float  # of learning, of the base
    autoencoder_batch: int
    autoencoder_side: int  # of the pieces of pictures that it learns on, in pixels
    autoencoder_rate: float
    pool: int  # pictures to choose a batch from
    fresh: int  # of them drawn anew at each step
    workers: int  # processes that draw, for each kind of lot; 0: the one that trains
    toys: int
    recoloured: int  # copies of each picture that is no toy, in other colours
    # Minutes of training on the machine the preset is meant for; train.py takes others with --minutes.
    minutes: dict[str, float]


PRESETS = {
    # Two cores, two hours and a half.
    "cpu": Preset(
        unet=unet.Geometry(
            channels=32, multipliers=(1, 2, 3), residual_blocks=1, attention_levels=(1, 2), head_channels=32,
            context=64, latent=32, groups=8),
        autoencoder=(16, 32, 48), autoencoder_groups=8, autoencoder_blocks=1, text_layers=2,
        batch=24, rate=1.5e-3, autoencoder_batch=8, autoencoder_side=64, autoencoder_rate=2e-3,
        pool=2048, fresh=4, workers=0, toys=2500, recoloured=0,
        minutes={"autoencoder": 10, "base": 120, "judges": 6}),
    # One H100 or H200 with sixteen cores, a quarter of an hour. What ships was made so.
    "gpu": Preset(
        unet=unet.Geometry(
            channels=32, multipliers=(1, 3, 5), residual_blocks=1, attention_levels=(0, 1, 2), head_channels=32,
            context=96, latent=32, groups=8),
        autoencoder=(24, 48, 96), autoencoder_groups=8, autoencoder_blocks=1, text_layers=3,
        batch=256, rate=1e-3, autoencoder_batch=64, autoencoder_side=128, autoencoder_rate=2e-3,
        pool=32768, fresh=32, workers=12, toys=14500, recoloured=4,
        minutes={"autoencoder": 4, "base": 8, "judges": 4}),
}


class Residual(nn.Module):
    """A residual block of the autoencoder."""

    def __init__(self, inputs, outputs, groups):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, eps=1e-6)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, outputs, eps=1e-6)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.conv_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class MiddleAttention(nn.Module):
    def __init__(self, channels, groups):
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x):
        y = self.group_norm(x).flatten(2).transpose(1, 2)[:, None]
        y = F.scaled_dot_product_attention(self.to_q(y), self.to_k(y), self.to_v(y))[:, 0]
        return x + self.to_out[0](y).transpose(1, 2).unflatten(2, x.shape[2:])


class Middle(nn.Module):
    def __init__(self, channels, groups):
        super().__init__()
        self.resnets = nn.ModuleList([Residual(channels, channels, groups) for _ in range(2)])
        self.attentions = nn.ModuleList([MiddleAttention(channels, groups)])

    def forward(self, x):
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Level(nn.Module):
    def __init__(self, inputs, outputs, blocks, groups, resample):
        super().__init__()
        self.resnets = nn.ModuleList(
            [Residual(inputs if i == 0 else outputs, outputs, groups) for i in range(blocks)])
        if resample:
            holder = nn.Module()
            stride = 2 if resample == "down" else 1
            holder.conv = nn.Conv2d(outputs, outputs, 3, stride=stride, padding=0 if stride == 2 else 1)
            setattr(self, f"{resample}samplers", nn.ModuleList([holder]))

    def forward(self, x):
        for block in self.resnets:
            x = block(x)
        if hasattr(self, "downsamplers"):
            x = self.downsamplers[0].conv(F.pad(x, (0, 1, 0, 1)))
        if hasattr(self, "upsamplers"):
            x = self.upsamplers[0].conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class Half(nn.Module):
    """The encoder or the decoder."""

    def __init__(self, channels, groups, blocks, direction, inputs, outputs):
        super().__init__()
        order = list(channels) if direction == "down" else list(reversed(channels))
        self.conv_in = nn.Conv2d(inputs, order[0], 3, padding=1)
        levels = [
            Level(order[max(i - 1, 0)], width, blocks + (direction == "up"), groups,
                  direction if i + 1 < len(order) else None)
            for i, width in enumerate(order)]
        setattr(self, f"{direction}_blocks", nn.ModuleList(levels))
        self.direction = direction
        self.mid_block = Middle(channels[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, order[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(order[-1], outputs, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        if self.direction == "up":
            x = self.mid_block(x)
        for level in getattr(self, f"{self.direction}_blocks"):
            x = level(x)
        if self.direction == "down":
            x = self.mid_block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Autoencoder(nn.Module):
    """LDM's AutoencoderKL in diffusers' names."""

    def __init__(self, preset):
        super().__init__()
        arguments = (preset.autoencoder, preset.autoencoder_groups, preset.autoencoder_blocks)
        self.encoder = Half(*arguments, "down", 3, 8)
        self.decoder = Half(*arguments, "up", 4, 3)
        self.quant_conv = nn.Conv2d(8, 8, 1)
        self.post_quant_conv = nn.Conv2d(4, 4, 1)
        # Every block begins as the identity, and the path through them keeps its variance: it learns in half the time.
        for name, parameter in self.named_parameters():
            if name.endswith(("conv2.weight", "to_out.0.weight")):
                nn.init.zeros_(parameter)
            elif parameter.dim() > 1:
                nn.init.kaiming_normal_(parameter, nonlinearity="linear")
        # Nearly without noise at first: a posterior as wide as its means teaches nothing.
        nn.init.constant_(self.quant_conv.bias.data[4:], -6)

    def encode(self, x):
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, z):
        return self.decoder(self.post_quant_conv(z))


class TextLayer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.self_attn = nn.ModuleDict({n: nn.Linear(width, width) for n in ("q_proj", "k_proj", "v_proj", "out_proj")})
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x):
        y = self.layer_norm1(x)
        q, k, v = (
            self.self_attn[n](y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for n in ("q_proj", "k_proj", "v_proj"))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.self_attn["out_proj"](y)
        h = self.mlp["fc1"](self.layer_norm2(x))
        return x + self.mlp["fc2"](h * torch.sigmoid(1.702 * h))


class TextEncoder(nn.Module):
    """transformers' CLIPTextModel, without the module between model and layers."""

    def __init__(self, preset, vocabulary, length):
        super().__init__()
        width = preset.unet.context
        self.heads = max(1, width // 32)
        self.embeddings = nn.ModuleDict({
            "token_embedding": nn.Embedding(vocabulary, width), "position_embedding": nn.Embedding(length, width)})
        for embedding in self.embeddings.values():
            nn.init.normal_(embedding.weight, std=0.3)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList([TextLayer(width, self.heads) for _ in range(preset.text_layers)])
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, ids):
        x = self.embeddings["token_embedding"](ids) + self.embeddings["position_embedding"].weight
        for layer in self.encoder.layers:
            x = layer(x)
        return self.final_layer_norm(x)
