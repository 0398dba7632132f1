"""Trains the demonstration model: autoencoder, base, adapters, and the judges. `python train.py --help`.

Every stage keeps its state in --work every two minutes and goes on from there when it is started again; `--minutes` counts
training time over all starts.
"""

import argparse
import copy
import json
import math
import pathlib
import pickle
import sys
import time

import numpy
import torch

import composites
import judges
import subjects
from composites import Backgrounds
from networks import PRESETS, Autoencoder, TextEncoder, is_adapter, unet
from scenes import SCENES
from tokens import LENGTH, Tokenizer

SEED = 20261125


def all_captions():
    return sorted({
        composites.phrase(kind, opening, words)
        for kind in subjects.CLASSES for scene in SCENES for words in scene.words for opening in composites.OPENINGS})


def pictures(array):
    """[n, h, w, 3] bytes to [n, 3, h, w], -1 to 1."""
    return torch.from_numpy(numpy.ascontiguousarray(array)).permute(0, 3, 1, 2).float() / 127.5 - 1


class Collection:
    """The subjects, found once and kept in the work folder."""

    def __init__(self, work, toys):
        path = work / "subjects.pickle"
        if path.exists():
            found = pickle.loads(path.read_bytes())
        else:
            found = subjects.all_subjects(toys)
            path.write_bytes(pickle.dumps(found))
        self.train, self.held_out = subjects.split(found)
        print(f"{len(self.train)} subjects to train on, {len(self.held_out)} held out", file=sys.stderr, flush=True)


class Stage:
    """One training run: optimiser with warm-up and cosine decay over the minutes given, running averages of the weights,
    and the state on disk."""

    def __init__(self, name, work, minutes, modules, rate, average=0.998):
        self.path = work / f"{name}.pt"
        self.name, self.minutes, self.modules, self.rate = name, minutes, modules, rate
        self.parameters = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
        self.averaged = copy.deepcopy(modules)
        self.decay, self.step, self.spent, self.losses = average, 0, 0.0, []
        if self.path.exists():
            state = torch.load(self.path, weights_only=False)
            for key, module in modules.items():
                module.load_state_dict(state["modules"][key])
                self.averaged[key].load_state_dict(state["averaged"][key])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.spent, self.losses = state["step"], state["spent"], state["losses"]
        self.last = self.saved = time.monotonic()

    def running(self):
        """True while there is time; keeps the state now and then, and at the end."""
        now = time.monotonic()
        # A machine that slept, or a run that was stopped for a while, has not trained meanwhile.
        self.spent, self.last = self.spent + min(now - self.last, 30), now
        done = self.spent >= 60 * self.minutes
        if done or now - self.saved > 120:
            self.saved = now
            self.save()
        share = min(1.0, self.spent / (60 * self.minutes))
        rate = self.rate * min(1, (self.step + 1) / 100) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * share)))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        return not done

    def learn(self, loss, **report):
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.step += 1
        # Short memories first: the weights of the first steps are worth nothing.
        decay = min(self.decay, self.step / (self.step + 10))
        with torch.no_grad():
            for key, module in self.modules.items():
                for mean, value in zip(self.averaged[key].parameters(), module.parameters()):
                    if value.requires_grad:
                        mean.lerp_(value, 1 - decay)
                for mean, value in zip(self.averaged[key].buffers(), module.buffers()):
                    mean.copy_(value)
        self.losses.append(float(loss))
        if self.step % 50 == 0:
            report = " ".join(f"{k} {float(v):.4f}" for k, v in report.items())
            print(f"{self.name} step {self.step} minute {self.spent / 60:.1f} loss {numpy.mean(self.losses[-50:]):.4f} "
                  f"{report}", flush=True)

    def save(self):
        part = self.path.with_suffix(".part")
        torch.save({
            "modules": {k: m.state_dict() for k, m in self.modules.items()},
            "averaged": {k: m.state_dict() for k, m in self.averaged.items()},
            "optimiser": self.optimiser.state_dict(), "step": self.step, "spent": self.spent, "losses": self.losses,
        }, part)
        part.replace(self.path)


def averaged(work, name):
    """The averaged weights that a stage ended with."""
    return torch.load(work / f"{name}.pt", weights_only=False)["averaged"]


def train_autoencoder(work, preset, minutes, collection):
    """On pieces of composites and references: absolute error of values and of differences of neighbours."""
    g = numpy.random.default_rng(SEED)
    backgrounds = Backgrounds(40, SEED)
    pool = []
    for i in range(1600):
        subject = collection.train[g.integers(len(collection.train))]
        pool.append(
            composites.reference(subject, g) if i % 6 == 0
            else composites.composite(subject, i % len(SCENES), backgrounds, g))
    pool = numpy.stack(pool)
    model = Autoencoder(preset).to(memory_format=torch.channels_last)
    stage = Stage("autoencoder", work, minutes, {"autoencoder": model}, 2e-3, 0.99)
    side, count = 64, 8
    while stage.running():
        rows = g.integers(len(pool), size=count)
        corner = g.integers(0, 128 - side + 1, size=(count, 2))
        x = pictures(numpy.stack([
            pool[r, y:y + side, x:x + side] for r, (y, x) in zip(rows, corner)]))
        mean, logvar = model.encode(x)
        y = model.decode(mean + torch.exp(logvar / 2) * torch.randn_like(mean))
        error = y - x
        edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        divergence = 0.5 * (mean ** 2 + logvar.exp() - 1 - logvar).mean()
        stage.learn(
            error.abs().mean() + 0.5 * edges + 5e-4 * divergence,
            psnr=10 * torch.log10(4 / (error ** 2).mean()), divergence=divergence)


class Latents:
    """The trained autoencoder's encoder: pictures to scaled means of the posterior."""

    def __init__(self, work, preset):
        self.model = Autoencoder(preset)
        self.model.load_state_dict(averaged(work, "autoencoder")["autoencoder"])
        self.model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        path = work / "latents.json"
        self.scale = 1.0
        if not path.exists():
            g = numpy.random.default_rng(SEED)
            backgrounds = Backgrounds(4, SEED)
            subject = subjects.toy(0)
            sample = [composites.composite(subject, i % len(SCENES), backgrounds, g) for i in range(96)]
            path.write_text(json.dumps({"scaling_factor": round(1 / float(self(numpy.stack(sample)).std()), 5)}))
        self.scale = json.loads(path.read_text())["scaling_factor"]

    @torch.no_grad()
    def __call__(self, array):
        return torch.cat([self.model.encode(pictures(array[i:i + 16]))[0] for i in range(0, len(array), 16)]) * self.scale


class Schedule:
    """Stable Diffusion's: alphas bar of the scaled-linear betas."""

    def __init__(self):
        betas = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000, dtype=torch.float64) ** 2
        self.alphas = (1 - betas).cumprod(0).float()

    def noised(self, z, t, noise):
        a = self.alphas[t][:, None, None, None]
        return (a.sqrt() * z + (1 - a).sqrt() * noise).to(memory_format=torch.channels_last)

    def weight(self, t):
        """Min-SNR weighting of the error of epsilon (Hang et al. 2023): easy, almost noiseless steps count less."""
        snr = self.snr(t)
        return snr.clamp(max=5) / snr

    def snr(self, t):
        return self.alphas[t] / (1 - self.alphas[t])


class Captions:
    """Ids of every caption, and the states of a batch of them, each computed once."""

    def __init__(self):
        self.tokenizer = Tokenizer(all_captions())
        self.ids = {}

    def __call__(self, captions, encoder):
        distinct = sorted(set(captions))
        for text in distinct:
            if text not in self.ids:
                self.ids[text] = self.tokenizer(text)
        states = encoder(torch.tensor([self.ids[text] for text in distinct]))
        return states[torch.tensor([distinct.index(text) for text in captions])]


class Pool:
    """Composites as latents, of which the oldest are replaced by new ones all the time."""

    def __init__(self, size, latents, collection, seed, white=0.1):
        self.white = white  # share of references, subjects on white
        self.g = numpy.random.default_rng(seed)
        self.latents, self.collection = latents, collection
        self.backgrounds = Backgrounds(40, SEED)
        self.next = 0
        side = latents(numpy.zeros((1, 128, 128, 3), numpy.uint8)).shape[-1]
        self.z = torch.zeros(size, 4, side, side)
        self.subjects = numpy.zeros(size, int)
        self.scenes = numpy.zeros(size, int)  # -1: on white
        for _ in range(0, size, 64):
            self.renew(64)

    def renew(self, count):
        made = []
        for i in range(count):
            slot = (self.next + i) % len(self.z)
            index = int(self.g.integers(len(self.collection.train)))
            scene = int(self.g.integers(len(SCENES)))
            if self.g.random() < self.white:
                scene = -1
                made.append(composites.reference(self.collection.train[index], self.g))
            else:
                made.append(composites.composite(self.collection.train[index], scene, self.backgrounds, self.g))
            self.subjects[slot], self.scenes[slot] = index, scene
        slots = [(self.next + i) % len(self.z) for i in range(count)]
        self.z[slots] = self.latents(numpy.stack(made))
        self.next = (self.next + count) % len(self.z)

    def batch(self, count):
        rows = self.g.integers(len(self.z), size=count)
        captions = [
            "" if self.scenes[r] < 0 else
            composites.caption(self.collection.train[self.subjects[r]].kind, self.scenes[r], self.g) for r in rows]
        return rows, captions


def train_base(work, preset, minutes, collection):
    """Text encoder and U-Net, without adapters."""
    latents, schedule, captions = Latents(work, preset), Schedule(), Captions()
    network = unet.UNet(preset.unet).to(memory_format=torch.channels_last)  # a tenth faster
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not is_adapter(name))
    text = TextEncoder(preset, len(captions.tokenizer.vocabulary), LENGTH)
    # Every block begins as the identity, and the prediction as zero.
    for name, parameter in network.named_parameters():
        if name.endswith(("out_layers.3.weight", "proj_out.weight", "out.2.weight")):
            torch.nn.init.zeros_(parameter)
    stage = Stage("base", work, minutes, {"unet": network, "text": text}, 1.5e-3)
    pool = Pool(2048, latents, collection, [SEED, stage.step])
    print(f"{sum(p.numel() for p in stage.parameters)} parameters", flush=True)
    while stage.running():
        pool.renew(6)
        rows, words = pool.batch(preset.batch)
        z = pool.z[torch.from_numpy(rows)]
        t = torch.randint(0, 1000, (len(rows),))
        noise = torch.randn_like(z)
        prediction = network(schedule.noised(z, t, noise), t, captions(words, text))
        # No more weight for the subject's area: where the mask says what counts, the model learns to draw too much subject.
        error = ((prediction - noise) ** 2).mean(dim=(1, 2, 3))
        stage.learn((schedule.weight(t) * error).mean(), eps=error.mean())


class References:
    """Features of each training subject's reference at the injection sites, renewed now and then."""

    def __init__(self, network, latents, schedule, context, collection, g):
        self.network, self.latents, self.schedule = network, latents, schedule
        self.context, self.collection, self.g = context, collection, g
        self.features = {}
        self.recorded = {}
        for name in network.sites:
            network.get_submodule(name).register_forward_pre_hook(self._recorder(name))
        for start in range(0, len(collection.train), 64):
            self.renew(range(start, min(start + 64, len(collection.train))))

    def _recorder(self, name):
        def hook(module, inputs):
            self.recorded[name] = inputs[0].flatten(2).transpose(1, 2)
        return hook

    @torch.no_grad()
    def renew(self, indices):
        indices = list(indices)
        z = self.latents(numpy.stack([composites.reference(self.collection.train[i], self.g) for i in indices]))
        t = torch.ones(len(z), dtype=torch.long)
        self.network(
            self.schedule.noised(z, t, torch.randn_like(z)), t, self.context.expand(len(z), -1, -1))
        for name, tokens in self.recorded.items():
            if name not in self.features:
                self.features[name] = torch.zeros(
                    len(self.collection.train), *tokens.shape[1:], dtype=torch.float16)
            self.features[name][indices] = tokens.half()

    def __call__(self, indices):
        return [self.features[name][torch.from_numpy(indices)].float() for name in self.network.sites]


@torch.no_grad()
def begin_as_self_attention(network, references):
    """Attention to the cache begins as the block's own self-attention would read those tokens, and half of its effect is given
    to it: copying need not be learnt from nothing.

    The cache holds what enters the block's normalisation and proj_in; both become part of keys and values. What a constant
    adds to all keys cancels in the softmax, so channels are divided by their spread alone.
    """
    for name in network.sites:
        site = network.get_submodule(name)
        block = site.transformer_blocks[0]
        spread = references.features[name].float().flatten(0, 1).std(dim=0).clamp(min=1e-3)
        into = site.proj_in.weight * (site.norm.weight / spread)
        # norm1 makes each token's channels vary by one.
        tokens = references.features[name][:64].float().flatten(0, 1)
        into = block.norm1.weight[:, None] * into / (tokens @ into.T).std(dim=1).mean()
        block.attn_mem.to_q.weight.copy_(block.attn1.to_q.weight)
        block.attn_mem.to_k.weight.copy_(block.attn1.to_k.weight @ into)
        block.attn_mem.to_v.weight.copy_(block.attn1.to_v.weight @ into)
        block.attn_mem.to_out.load_state_dict(block.attn1.to_out.state_dict())
        block.norm2_mem.load_state_dict(block.norm1.state_dict())
        width = len(block.linear_cat.bias)
        block.linear_cat.weight.copy_(torch.cat([0.5 * torch.eye(width)] * 2, dim=1))
        block.linear_cat.bias.zero_()


def train_adapters(work, preset, minutes, collection):
    """The adapters alone: the base is frozen, the reference is another picture of the target's subject."""
    latents, schedule, captions = Latents(work, preset), Schedule(), Captions()
    base = averaged(work, "base")
    network = unet.UNet(preset.unet).to(memory_format=torch.channels_last)  # a tenth faster
    network.load_state_dict(base["unet"])
    text = TextEncoder(preset, len(captions.tokenizer.vocabulary), LENGTH)
    text.load_state_dict(base["text"])
    text.eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(is_adapter(name))
    g = numpy.random.default_rng([SEED, 1])
    with torch.no_grad():
        nothing = captions([""], text)
    network.personal = 0
    references = References(network, latents, schedule, nothing, collection, g)
    begin_as_self_attention(network, references)
    stage = Stage("adapters", work, minutes, {"unet": network}, 1.5e-3)
    print(f"{sum(p.numel() for p in stage.parameters)} parameters", flush=True)
    pool = Pool(2048, latents, collection, [SEED, stage.step, 2], white=0)
    while stage.running():
        pool.renew(4)
        references.renew(g.integers(len(collection.train), size=4))
        rows, words = pool.batch(preset.batch)
        z = pool.z[torch.from_numpy(rows)]
        t = torch.randint(0, 1000, (len(rows),))
        noise = torch.randn_like(z)
        with torch.no_grad():
            context = captions(words, text)
        network.personal = len(rows)
        prediction = network(
            schedule.noised(z, t, noise), t, context, *references(pool.subjects[rows]))
        network.personal = 0
        error = ((prediction - noise) ** 2).mean(dim=(1, 2, 3))
        # Whose picture it becomes is decided in much noise, where the error of epsilon says little.
        early = (1 + 1 / schedule.snr(t)) ** 0.25
        stage.learn((early * schedule.weight(t) * error).mean(), eps=error.mean())


def train_judges(work, preset, minutes, collection):
    """The networks that evaluate.py judges with."""
    judges.train(lambda networks: Stage("judges", work, minutes, networks, 2e-3, 0.98), collection, SEED + 4)


STAGES = {
    "autoencoder": train_autoencoder, "base": train_base, "adapters": train_adapters, "judges": train_judges}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=[*STAGES, "cost"], help="cost: say what the stages will take, and do nothing")
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(".build/demo-model"))
    parser.add_argument("--minutes", type=float, help="instead of the preset's")
    arguments = parser.parse_args()
    if arguments.stage == "cost":
        plan = PRESETS[arguments.preset].minutes
        print(f"Preset {arguments.preset}: " + ", ".join(f"{n} {m:g} min" for n, m in plan.items())
              + f"; {sum(plan.values()):g} min of training in all, about 15 more for data and evaluation,"
              + " 4 GB of memory, 8 GB of disk for Python's packages.")
        raise SystemExit
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_flush_denormal(True)  # slow on a CPU, and worth nothing
    preset = PRESETS[arguments.preset]
    minutes = preset.minutes[arguments.stage] if arguments.minutes is None else arguments.minutes
    STAGES[arguments.stage](arguments.work, preset, minutes, Collection(arguments.work, preset.toys))
