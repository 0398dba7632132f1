"""Trains autoencoder, base and judges of the demonstration model; its adapters are trained by `dreamcache train`.
`python train.py --help`.

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
import lots
import subjects
from composites import Backgrounds
from networks import PRESETS, Autoencoder, TextEncoder, unet
from scenes import SCENES, SIZE
from tokens import LENGTH, Tokenizer

SEED = 20261125
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def mixed_precision():
    """bf16 where it is fast, on a GPU; without the cache of converted weights, which a recorded graph must not share."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda", cache_enabled=False)


def compiled(function):
    """Fused kernels on a GPU. On a CPU compiling needs a C++ compiler and gains little at these sizes."""
    return torch.compile(function, dynamic=False) if DEVICE.type == "cuda" else function


def replayed(function):
    """function(*tensors); on a GPU its kernels are recorded at the fourth call and replayed from then on, since starting
    hundreds of small ones takes longer than they do. Arguments always have the same shapes; they are copied to fixed places, and
    results are overwritten by the next call."""
    if DEVICE.type != "cuda":
        return function
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    calls, places, results = 0, [], None

    def call(*arguments):
        nonlocal calls, places, results
        calls += 1
        if calls < 4:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                eager = function(*(a.to(DEVICE) for a in arguments))
            torch.cuda.current_stream().wait_stream(stream)
            return eager
        if calls == 4:
            places = [a.to(DEVICE, copy=True) for a in arguments]
            torch.cuda.synchronize()
            # The thread that pins new pictures may go on meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                results = function(*places)
        for place, argument in zip(places, arguments):
            place.copy_(argument, non_blocking=True)
        graph.replay()
        return results

    return call


def all_captions():
    return sorted({
        composites.phrase(kind, opening, words)
        for kind in subjects.CLASSES for scene in SCENES for words in scene.words for opening in composites.OPENINGS})


def held_out(work):
    """The subjects that no stage has seen."""
    return subjects.split(pickle.loads((work / "subjects.pickle").read_bytes()))[1]


class Collection:
    """The subjects to train on, found once and kept in the work folder."""

    def __init__(self, work, preset):
        path = work / "subjects.pickle"
        if path.exists():
            found = pickle.loads(path.read_bytes())
        else:
            found = subjects.all_subjects(preset.toys)
            part = path.with_suffix(".part")
            part.write_bytes(pickle.dumps(found))
            part.replace(path)
        self.train, _ = subjects.split(found)
        self.train += [
            subjects.recoloured(s, n + 1) for s in self.train if s.source != "toy" for n in range(preset.recoloured)]
        print(f"{len(self.train)} subjects to train on", file=sys.stderr, flush=True)


def learnt(module):
    """The state of a module without what is frozen, which is another stage's."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


class Stage:
    """One training run: optimiser with warm-up and cosine decay over the minutes given, running averages of the weights,
    and the state on disk."""

    def __init__(self, name, work, minutes, modules, rate, average=0.998):
        self.path = work / f"{name}.pt"
        self.name, self.minutes, self.modules, self.rate = name, minutes, modules, rate
        self.parameters = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=DEVICE.type == "cuda")
        self.averaged = copy.deepcopy(modules)
        self.means, values = ([p for m in ms.values() for p in m.parameters()] for ms in (self.averaged, modules))
        self.means = [mean for mean, value in zip(self.means, values) if value.requires_grad]
        self.decay, self.step, self.spent = average, 0, 0.0
        if self.path.exists():
            state = torch.load(self.path, weights_only=False, map_location=DEVICE)
            for key, module in modules.items():
                module.load_state_dict(state["modules"][key], strict=False)
                self.averaged[key].load_state_dict(state["averaged"][key], strict=False)
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.spent = state["step"], state["spent"]

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

    def train(self, renew, errors):
        """Until the time is over: one step after the other down the gradient of errors, which returns a loss and what to
        report beside it. Before each, renew draws something new; what it returns, if anything, are the arguments of errors."""
        def gradients(*inputs):
            self.optimiser.zero_grad(set_to_none=True)
            loss, report = errors(*inputs)
            loss.backward()
            return loss.detach(), {name: value.detach() for name, value in report.items()}

        gradients = replayed(gradients)
        torch.manual_seed(SEED + self.step)
        self.last = self.saved = time.monotonic()
        recent = []
        while self.running():
            loss, report = gradients(*(renew() or ()))
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimiser.step()
            self.step += 1
            # Short memories first: the weights of the first steps are worth nothing.
            decay = min(self.decay, self.step / (self.step + 10))
            with torch.no_grad():
                torch._foreach_lerp_(self.means, self.parameters, 1 - decay)
            recent.append(loss.clone())
            if self.step % 50 == 0:  # reading a number waits for the GPU
                report = {"loss": torch.stack(recent).mean(), **report}
                recent.clear()
                print(f"{self.name} step {self.step} minute {self.spent / 60:.1f}",
                      *(f"{name} {float(value):.4f}" for name, value in report.items()), flush=True)

    def save(self):
        for key, module in self.modules.items():
            for mean, value in zip(self.averaged[key].buffers(), module.buffers()):
                mean.copy_(value)
        part = self.path.with_suffix(".part")
        torch.save({
            "modules": {k: learnt(m) for k, m in self.modules.items()},
            "averaged": {k: learnt(m) for k, m in self.averaged.items()},
            "optimiser": self.optimiser.state_dict(), "step": self.step, "spent": self.spent,
        }, part)
        part.replace(self.path)


def averaged(work, name):
    """The averaged weights that a stage ended with."""
    return torch.load(work / f"{name}.pt", weights_only=False, map_location="cpu")["averaged"]


def train_autoencoder(work, preset, minutes, collection):
    """On pieces of composites and references: absolute error of values and of differences of neighbours."""
    model = Autoencoder(preset).to(DEVICE, memory_format=torch.channels_last)
    encode, decode = compiled(model.encode), compiled(model.decode)
    stage = Stage("autoencoder", work, minutes, {"autoencoder": model}, preset.autoencoder_rate, 0.99)
    source = lots.scattered(collection, preset.fresh, [SEED, 0, stage.step], preset.workers, white=1 / 6)
    pool = lots.Pool(preset.pool, source, lambda drawn: drawn.to(DEVICE, non_blocking=True))
    side = torch.arange(preset.autoencoder_side, device=DEVICE)

    def errors():
        whole, _, _ = pool.batch(preset.autoencoder_batch)
        y, x = (
            torch.randint(SIZE - len(side) + 1, (len(whole), 1), device=DEVICE) + side for _ in range(2))
        piece = lots.values(whole[torch.arange(len(whole), device=DEVICE)[:, None, None], y[:, :, None], x[:, None, :]])
        with mixed_precision():
            mean, logvar = (v.float() for v in encode(piece))
            z = mean + torch.exp(logvar / 2) * torch.randn_like(mean)
            error = decode(z).float() - piece
        edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        divergence = 0.5 * (mean ** 2 + logvar.exp() - 1 - logvar).mean()
        return error.abs().mean() + 0.5 * edges + 5e-4 * divergence, {
            "psnr": 10 * torch.log10(4 / (error ** 2).mean()), "divergence": divergence}

    stage.train(pool.renew, errors)
    g = numpy.random.default_rng(SEED)
    backgrounds = Backgrounds(4, SEED)
    sample = [composites.composite(subjects.toy(0), i % len(SCENES), backgrounds, g) for i in range(96)]
    spread = float(Latents(work, preset, scale=1)(torch.from_numpy(numpy.stack(sample))).std())
    (work / "latents.json").write_text(json.dumps({"scaling_factor": round(1 / spread, 5)}))


class Latents:
    """The trained autoencoder's encoder: pictures to means of the posterior, scaled so that they vary by one."""

    def __init__(self, work, preset, scale=None):
        self.model = Autoencoder(preset)
        self.model.load_state_dict(averaged(work, "autoencoder")["autoencoder"])
        self.model.eval().requires_grad_(False).to(DEVICE, memory_format=torch.channels_last)
        self.encode = replayed(self._encode)
        self.scale = scale or json.loads((work / "latents.json").read_text())["scaling_factor"]

    @torch.no_grad()
    def _encode(self, drawn):
        # Sixteen at a time, which a CPU's cache has room for.
        return torch.cat([self.model.encode(lots.values(part))[0]
                          for part in drawn.to(DEVICE, non_blocking=True).split(16)])

    def __call__(self, drawn):
        """[n, 128, 128, 3] bytes to [n, 4, 32, 32]."""
        return self.encode(drawn) * self.scale


class Schedule:
    """Stable Diffusion's: alphas bar of the scaled-linear betas."""

    def __init__(self):
        betas = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000, dtype=torch.float64) ** 2
        self.alphas = (1 - betas).cumprod(0).float().to(DEVICE)

    def noised(self, z, t, noise):
        a = self.alphas[t][:, None, None, None]
        return (a.sqrt() * z + (1 - a).sqrt() * noise).to(memory_format=torch.channels_last)

    def errors(self, z, predict):
        """The mean squared error of epsilon for each of z, [n], in noise of random timesteps, and these; of
        predict(noised, timesteps)."""
        t, noise = torch.randint(0, 1000, (len(z),), device=DEVICE), torch.randn_like(z)
        with mixed_precision():
            prediction = predict(self.noised(z, t, noise), t)
        return ((prediction.float() - noise) ** 2).mean(dim=(1, 2, 3)), t

    def weight(self, t):
        """Min-SNR weighting of the error of epsilon (Hang et al. 2023): easy, almost noiseless steps count less."""
        snr = self.alphas[t] / (1 - self.alphas[t])
        return snr.clamp(max=5) / snr


class Captions:
    """Ids of every caption, and random ones that fit subjects and scenes."""

    def __init__(self, collection):
        self.tokenizer = Tokenizer(all_captions())
        captions, self.ways = [""], torch.tensor([len(s.words) * len(composites.OPENINGS) for s in SCENES])
        self.first = torch.zeros(len(subjects.CLASSES), len(SCENES), dtype=torch.long)
        for k, kind in enumerate(subjects.CLASSES):
            for s, scene in enumerate(SCENES):
                self.first[k, s] = len(captions)
                captions += [
                    composites.phrase(kind, opening, words) for opening in composites.OPENINGS for words in scene.words]
        self.ids = torch.tensor([self.tokenizer(text) for text in captions]).to(DEVICE)
        self.kinds = torch.tensor([subjects.CLASSES.index(s.kind) for s in collection.train]).to(DEVICE)
        self.first, self.ways = self.first.to(DEVICE), self.ways.to(DEVICE)

    def of(self, numbers, scenes):
        """Ids of one of the ways to say each; without words on white, and now and then, for guidance."""
        way = (torch.rand(len(scenes), device=DEVICE) * self.ways[scenes]).long()
        row = self.first[self.kinds[numbers], scenes] + way
        return self.ids[row * ((scenes >= 0) & (torch.rand(len(scenes), device=DEVICE) >= 0.08))]


def train_base(work, preset, minutes, collection):
    """Text encoder and U-Net, without adapters."""
    latents, schedule, captions = Latents(work, preset), Schedule(), Captions(collection)
    network = unet.UNet(preset.unet)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not unet.is_adapter(name))
        # Every block begins as the identity, and the prediction as zero.
        if name.endswith(("out_layers.3.weight", "proj_out.weight", "out.2.weight")):
            torch.nn.init.zeros_(parameter)
    network.to(DEVICE, memory_format=torch.channels_last)  # a tenth faster on a CPU
    text = TextEncoder(preset, len(captions.tokenizer.vocabulary), LENGTH).to(DEVICE)
    predict, encode_text = compiled(network), compiled(text)
    stage = Stage("base", work, minutes, {"unet": network, "text": text}, preset.rate)
    source = lots.scattered(collection, preset.fresh, [SEED, 1, stage.step], preset.workers, white=0.1)
    pool = lots.Pool(preset.pool, source, latents)
    print(f"{sum(p.numel() for p in stage.parameters)} parameters", flush=True)

    def errors():
        z, numbers, scenes = pool.batch(preset.batch)
        error, t = schedule.errors(z, lambda noised, t: predict(noised, t, encode_text(captions.of(numbers, scenes))))
        # No more weight for the subject's area: where the mask says what counts, the model learns to draw too much subject.
        return (schedule.weight(t) * error).mean(), {"eps": error.mean()}

    stage.train(pool.renew, errors)


def train_judges(work, preset, minutes, collection):
    """The networks that evaluate.py judges with."""
    networks = {"subject": judges.SubjectJudge().to(DEVICE), "scene": judges.SceneJudge().to(DEVICE)}
    stage = Stage("judges", work, minutes, networks, 2e-3, 0.98)
    pairs = lots.pairs(collection, 64, [SEED, 4, stage.step], preset.workers)
    stage.train(lambda: next(pairs), judges.errors(**networks))


STAGES = {
    "autoencoder": train_autoencoder, "base": train_base, "judges": train_judges}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=[*STAGES, "cost"], help="cost: say what the stages will take, and do nothing")
    parser.add_argument("--preset", choices=PRESETS, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, help="instead of the preset's")
    arguments = parser.parse_args()
    if arguments.stage == "cost":
        plan = PRESETS[arguments.preset].minutes
        print(f"Preset {arguments.preset}: " + ", ".join(f"{n} {m:g} min" for n, m in plan.items())
              + f"; {sum(plan.values()):g} min of training in all, then, on the CPU, the adapters by dreamcache train (it "
              + "shows the time left) and an hour of two cores for the evaluation;"
              + " 8 GB of memory, 10 GB of disk, most of it for Python's packages.")
        raise SystemExit
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_flush_denormal(True)  # slow on a CPU, and worth nothing
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    preset = PRESETS[arguments.preset]
    minutes = preset.minutes[arguments.stage] if arguments.minutes is None else arguments.minutes
    STAGES[arguments.stage](arguments.work, preset, minutes, Collection(arguments.work, preset))
