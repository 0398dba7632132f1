"""Those who are measured: dreamcache itself, PyTorch and OpenVINO, each with the same parts.

A part is `unet` (one evaluation, no cache), `personal` (one with the cache of one reference), `step` (guidance in three
evaluations, as the authors run it), `batch` (guidance as one batch of three) or `train` (one sample forward and back, to the
gradients of the adapters alone).
"""

import json
import os
import subprocess
import time
import warnings

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from unet import file_key, is_adapter, noised

GUIDANCE_SCALE, IMAGE_SCALE = 7.5, 0.4


def guided(prompted, negative, plain):
    """DreamCache's guidance of the personal predictions and the plain one."""
    return plain + GUIDANCE_SCALE * (prompted - negative) + IMAGE_SCALE * (negative - plain)


class Inputs:
    """The arguments of the module for each kind of evaluation."""

    def __init__(self, tensors, sites):
        self.latent = tensors["bench.latent"][None]
        self.noise = tensors["bench.noise"][None]
        self.timestep = tensors["bench.timestep"]
        self.prompt = tensors["bench.prompt"][None]
        self.negative = tensors["bench.negative"][None]
        self.memory = [tensors[f"bench.cache.{site}"][None] for site in sites]

    def plain(self, context):
        return (self.latent, self.timestep, context)

    def personal(self, context):
        return (self.latent, self.timestep, context, *self.memory)

    def training(self):
        return (noised(self.latent, self.noise, self.timestep), self.timestep, self.prompt, *self.memory)

    def batch(self):
        contexts = torch.cat([self.prompt, self.negative, self.negative])
        return (self.latent.expand(3, -1, -1, -1).contiguous(), self.timestep, contexts, *self.memory)


class Peer:
    """Guidance on top of three kinds of evaluation; a kind says how many entries of how many are personal."""

    KINDS = {"plain": (0, 1), "personal": (1, 1), "batch": (2, 3)}

    def __init__(self, inputs, parts):
        self.inputs = inputs
        self.parts = list(parts)
        self.notes = {}

    def evaluate(self, kind, arguments):
        raise NotImplementedError

    def train(self):
        raise NotImplementedError

    def run(self, part):
        """The prediction [4, h, w], or all gradients in the order of their keys."""
        inputs = self.inputs
        if part == "train":
            return self.train()
        if part == "unet":
            return self.evaluate("plain", inputs.plain(inputs.prompt))[0]
        if part == "personal":
            return self.evaluate("personal", inputs.personal(inputs.prompt))[0]
        if part == "step":
            return guided(
                self.evaluate("personal", inputs.personal(inputs.prompt))[0],
                self.evaluate("personal", inputs.personal(inputs.negative))[0],
                self.evaluate("plain", inputs.plain(inputs.negative))[0])
        return guided(*self.evaluate("batch", inputs.batch()))

    def measure(self, part):
        """Seconds, and how many cores were busy."""
        start, busy = time.perf_counter(), time.process_time()
        self.run(part)
        seconds = time.perf_counter() - start
        return seconds, (time.process_time() - busy) / seconds

    def prepare(self):
        """What has to be so before `measure`; contenders share modules."""

    def close(self):
        pass


class PyTorch(Peer):
    """The module in one precision; `layouts` are the orders of images in memory to choose the faster of."""

    LAYOUTS = {"channels-first": torch.contiguous_format, "channels-last": torch.channels_last}

    def __init__(self, module, inputs, parts, precision, layouts=tuple(LAYOUTS)):
        super().__init__(inputs, parts)
        self.name = f"PyTorch {precision}"
        self.is_exact = precision == "fp32"
        self.autocast = precision == "bf16 autocast"
        self.type = torch.bfloat16 if precision == "bf16" else torch.float32
        self.module = module
        self.trained = sorted(
            (file_key(name), parameter) for name, parameter in module.named_parameters() if is_adapter(name))
        # Read by `train` alone: evaluations run in inference mode.
        for _, parameter in self.trained:
            parameter.requires_grad_("train" in parts)
        seconds = {}
        trial = "train" if list(parts) == ["train"] else "personal"
        for self.layout in layouts:
            self.prepare()
            self.run(trial)
            seconds[self.layout] = self.measure(trial)[0]
        self.layout = min(seconds, key=seconds.get)
        self.notes = {"threads": torch.get_num_threads(), "layout": self.layout}

    def prepare(self):
        self.module.to(memory_format=self.LAYOUTS[self.layout])

    @torch.inference_mode()
    def evaluate(self, kind, arguments):
        self.module.personal = self.KINDS[kind][0]
        latent, timestep, *others = arguments
        latent = latent.to(self.type).contiguous(memory_format=self.LAYOUTS[self.layout])
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            return self.module(latent, timestep, *(x.to(self.type) for x in others)).float()

    def train(self):
        self.module.personal = 1
        for _, parameter in self.trained:
            parameter.grad = None
        latent, *others = self.inputs.training()
        latent = latent.contiguous(memory_format=self.LAYOUTS[self.layout])
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            prediction = self.module(latent, *others)
        F.mse_loss(prediction.float(), self.inputs.noise).backward()
        return torch.cat([parameter.grad.flatten() for _, parameter in self.trained])


class OpenVINO(Peer):
    def __init__(self, module, inputs, parts, precision, threads):
        super().__init__(inputs, parts)
        import openvino

        self.name = f"OpenVINO {precision}"
        self.is_exact = precision == "fp32"
        hints = {
            "INFERENCE_PRECISION_HINT": {"bf16": "bf16", "fp32": "f32"}[precision],
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        # Each keeps the weights of its own, 4.7 GB for SD 2.1 in fp32.
        examples = {"plain": inputs.plain(inputs.prompt), "personal": inputs.personal(inputs.prompt)}
        if "batch" in parts:
            examples["batch"] = inputs.batch()
        core = openvino.Core()
        self.compiled = {}
        module.to(memory_format=torch.contiguous_format)
        for kind, arguments in examples.items():
            module.personal = self.KINDS[kind][0]
            with torch.no_grad(), warnings.catch_warnings():
                # Tracing warns that shapes become constants, which they are.
                warnings.simplefilter("ignore")
                # Without clones, arguments that are one tensor would become one input.
                model = openvino.convert_model(module, example_input=tuple(x.clone() for x in arguments))
            model.reshape({port: list(x.shape) for port, x in zip(model.inputs, arguments)})
            self.compiled[kind] = core.compile_model(model, "CPU", hints)
        any_model = self.compiled["plain"]
        self.notes["threads"] = any_model.get_property("INFERENCE_NUM_THREADS")
        self.notes["precision"] = str(any_model.get_property("INFERENCE_PRECISION_HINT"))

    def evaluate(self, kind, arguments):
        result = self.compiled[kind]([x.numpy() for x in arguments])
        return torch.from_numpy(result[0].copy())


class DreamCache:
    """`dreamcache bench --interactive` in a process of its own. Its step is its own: it shares what branches share."""

    def __init__(self, program, geometry, weights, compute, threads, parts, outputs):
        self.parts = [part for part in parts if part != "batch"]
        self.name = f"dreamcache {compute}"
        self.process = subprocess.Popen(
            [program, "bench", "--interactive", "--geometry", geometry, "--weights", weights, "--compute", compute,
             "--threads", str(threads), "--parts", ",".join(self.parts), "--outputs", outputs],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready = self.answer()
        self.name = f"dreamcache {ready['compute']}"
        self.is_exact = not ready["compute"].endswith("bf16")
        self.notes = {"threads": ready["threads"], "matmul ceiling, GFLOP/s": round(ready["ceiling_gflop_per_second"])}
        self.outputs = load_file(outputs)
        gradients = sorted(name for name in self.outputs if name.startswith("train."))
        if gradients:
            self.outputs["train"] = torch.cat([self.outputs.pop(name).flatten() for name in gradients])
        self.gflop = {}

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: ended with exit code {self.process.wait()} (see its message above)")
        return json.loads(line)

    def busy(self):
        """Seconds of CPU time so far: fields 14 and 15 of /proc/PID/stat (proc(5))."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def prepare(self):
        pass

    def run(self, part):
        return self.outputs[part]

    def measure(self, part):
        busy = self.busy()
        self.process.stdin.write(part + "\n")
        self.process.stdin.flush()
        answer = self.answer()
        self.gflop[part] = answer["gflop"]
        self.notes["peak memory, MB"] = answer["peak_memory_bytes"] >> 20
        return answer["seconds"], (self.busy() - busy) / answer["seconds"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()
