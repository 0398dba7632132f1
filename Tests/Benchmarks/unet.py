"""The U-Net of Stable Diffusion with DreamCache's adapters, in PyTorch.

Parameters have the names of LDM's checkpoints (U-Net) and of the authors' adapter files, so one safetensors file serves this
module and `dreamcache bench --weights`. Attention is PyTorch's fused scaled_dot_product_attention.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass(frozen=True)
class Geometry:
    """A model's shape; the names are those of `dreamcache bench --geometry`."""

    channels: int = 320
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    residual_blocks: int = 2
    attention_levels: tuple[int, ...] = (0, 1, 2)
    head_channels: int | None = 64  # None: eight heads at every level
    context: int = 1024
    tokens: int = 77
    latent: int = 64
    groups: int = 32  # of the group normalisations

    def heads(self, channels):
        return channels // self.head_channels if self.head_channels else 8


GEOMETRIES = {
    "sd21": Geometry(),
    "sd15": Geometry(head_channels=None, context=768),
    "tiny": Geometry(channels=32, multipliers=(1, 1, 2, 2), head_channels=16, context=64, latent=16),
}


class Attention(nn.Module):
    def __init__(self, channels, context, heads):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x, context):
        """x [n, tokens, channels]; context of n entries, or of one for all."""
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for y in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        if k.shape[0] != q.shape[0]:
            k, v = (y.expand(q.shape[0], -1, -1, -1) for y in (k, v))
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class GEGLU(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.proj = nn.Linear(channels, 8 * channels)

    def forward(self, x):
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.net = nn.Sequential(GEGLU(channels), nn.Identity(), nn.Linear(4 * channels, channels))

    def forward(self, x):
        return self.net(x)


class TransformerBlock(nn.Module):
    def __init__(self, channels, context, heads, is_site):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.attn1 = Attention(channels, channels, heads)
        self.attn2 = Attention(channels, context, heads)
        self.ff = FeedForward(channels)
        if is_site:
            self.attn_mem = Attention(channels, channels, heads)
            self.norm2_mem = nn.LayerNorm(channels)
            self.linear_cat = nn.Linear(2 * channels, channels)

    def forward(self, x, context, memory, personal):
        normed = self.norm1(x)
        attended = self.attn1(normed, normed)
        if memory is None:
            x = x + attended
        elif personal == x.shape[0]:
            x = x + self.mixed(x, attended, memory)
        else:
            mixed = self.mixed(x[:personal], attended[:personal], memory)
            x = x + torch.cat([mixed, attended[personal:]])
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))

    def mixed(self, x, attended, memory):
        return self.linear_cat(torch.cat([attended, self.attn_mem(self.norm2_mem(x), memory)], dim=-1))


class SpatialTransformer(nn.Module):
    def __init__(self, channels, context, heads, is_site, groups):
        super().__init__()
        self.is_site = is_site
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, context, heads, is_site)])
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, x, context, memory, personal):
        y = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        y = self.transformer_blocks[0](y, context, memory if self.is_site else None, personal)
        return x + self.proj_out(y).transpose(1, 2).unflatten(2, x.shape[2:])


class ResidualBlock(nn.Module):
    def __init__(self, inputs, outputs, time, groups):
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, outputs))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, outputs), nn.SiLU(), nn.Identity(), nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, time):
        h = self.in_layers(x) + self.emb_layers(time)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x):
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class UNet(nn.Module):
    """One evaluation; with `personal` entries of the batch through the adapters, the first ones."""

    def __init__(self, geometry: Geometry):
        super().__init__()
        self.geometry = geometry
        self.personal = 0
        self.sites = {}  # name of the site: its cached tokens, [tokens, channels]
        channels = geometry.channels
        time = 4 * channels
        self.time_embed = nn.Sequential(nn.Linear(channels, time), nn.SiLU(), nn.Linear(time, time))
        number = 0  # of transformers, encoder first

        def transformer(path, width, level, can_be_site):
            nonlocal number
            is_site = can_be_site(number)
            number += 1
            if is_site:
                self.sites[path] = ((geometry.latent >> level) ** 2, width)
            return SpatialTransformer(width, geometry.context, geometry.heads(width), is_site, geometry.groups)

        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(4, channels, 3, padding=1)])])
        skips = [channels]
        for level, multiplier in enumerate(geometry.multipliers):
            width = geometry.channels * multiplier
            for _ in range(geometry.residual_blocks):
                block = nn.ModuleList([ResidualBlock(channels, width, time, geometry.groups)])
                channels = width
                if level in geometry.attention_levels:
                    block.append(transformer(f"input_blocks.{len(self.input_blocks)}.1", width, level, lambda _: False))
                self.input_blocks.append(block)
                skips.append(channels)
            if level + 1 < len(geometry.multipliers):
                self.input_blocks.append(nn.ModuleList([Downsample(channels)]))
                skips.append(channels)

        self.middle_block = nn.ModuleList([
            ResidualBlock(channels, channels, time, geometry.groups),
            transformer("middle_block.1", channels, len(geometry.multipliers) - 1, lambda _: True),
            ResidualBlock(channels, channels, time, geometry.groups),
        ])

        self.output_blocks = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(geometry.multipliers))):
            width = geometry.channels * multiplier
            for index in range(geometry.residual_blocks + 1):
                block = nn.ModuleList([ResidualBlock(channels + skips.pop(), width, time, geometry.groups)])
                channels = width
                if level in geometry.attention_levels:
                    path = f"output_blocks.{len(self.output_blocks)}.1"
                    block.append(transformer(path, width, level, lambda n: n % 2 == 0))
                if level > 0 and index == geometry.residual_blocks:
                    block.append(Upsample(channels))
                self.output_blocks.append(block)
        self.out = nn.Sequential(nn.GroupNorm(geometry.groups, channels), nn.SiLU(), nn.Conv2d(channels, 4, 3, padding=1))

    def forward(self, latent, timestep, context, *memory):
        """latent [n, 4, h, w], timestep [1 or n], context [n, tokens, width], and for each site its cached tokens
        [1 or personal, tokens, c]."""
        memory = dict(zip(self.sites, memory))
        half = self.geometry.channels // 2
        frequencies = torch.exp(torch.arange(half, dtype=torch.float32, device=timestep.device) * (-math.log(10000) / half))
        angles = timestep.float()[:, None] * frequencies
        time = self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=-1).to(latent.dtype))

        def run(path, block, x):
            for index, layer in enumerate(block):
                if isinstance(layer, ResidualBlock):
                    x = layer(x, time)
                elif isinstance(layer, SpatialTransformer):
                    x = layer(x, context, memory.get(f"{path}.{index}"), self.personal)
                else:
                    x = layer(x)
            return x

        x = latent
        skips = []
        for index, block in enumerate(self.input_blocks):
            x = run(f"input_blocks.{index}", block, x)
            skips.append(x)
        x = run("middle_block", self.middle_block, x)
        for index, block in enumerate(self.output_blocks):
            x = run(f"output_blocks.{index}", block, torch.cat([x, skips.pop()], dim=1))
        return self.out(x)


def is_adapter(name):
    """Whether a parameter of this name is DreamCache's, and not the U-Net's."""
    return any(part in name for part in (".attn_mem.", ".norm2_mem.", ".linear_cat."))


def file_key(name):
    """A parameter's key in the file: the U-Net's as in LDM's checkpoints, the adapters' as in the authors' files."""
    return ("" if is_adapter(name) else "model.") + "diffusion_model." + name


def random_parameters(geometry, seed=1):
    """Made-up parameters under which activations neither vanish nor explode, as bfloat16 under the file's keys: uniform, of
    variance 1 / fan-in for matrices and convolutions, around one for the scales of norms, around zero for biases."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in UNet(geometry).state_dict().items()}
    parameters = {}
    for name, shape in shapes.items():
        values = torch.rand(shape, generator=generator).mul_(2).sub_(1)
        if len(shape) > 1:
            values.mul_(math.sqrt(3 / math.prod(shape[1:])))
        else:
            values.mul_(0.1).add_(1.0 if name.endswith("weight") else 0.0)
        parameters[file_key(name)] = values.bfloat16()
    return parameters


def random_inputs(geometry, seed=2):
    """What the evaluations run on, as float32 under the file's keys."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    with torch.device("meta"):
        sites = UNet(geometry).sites
    inputs = {
        "bench.latent": normal(4, geometry.latent, geometry.latent),
        "bench.timestep": torch.tensor([501.0]),
        "bench.prompt": normal(geometry.tokens, geometry.context),
        "bench.negative": normal(geometry.tokens, geometry.context),
    }
    for name, shape in sites.items():
        inputs[f"bench.cache.{name}"] = normal(*shape)
    inputs["bench.noise"] = normal(4, geometry.latent, geometry.latent)
    return inputs


def noised(latent, noise, timestep):
    """What training shows the module at a timestep (Ho et al. 2020, equation 4), under Stable Diffusion's schedule."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    signal = torch.cumprod(1 - betas, dim=0)[int(timestep)]
    return signal.sqrt() * latent + (1 - signal).sqrt() * noise


def load(geometry, tensors):
    """The module with the file's parameters in float32."""
    with torch.device("meta"):
        module = UNet(geometry)
    state = {name: tensors[file_key(name)].float() for name in module.state_dict()}
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)
