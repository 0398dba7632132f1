#!/usr/bin/env python3
"""dreamcache against PyTorch and OpenVINO: the same geometry, weights, inputs and threads, in turn in one run.

First every contender's predictions are compared with those of PyTorch in fp32; if one disagrees, the exit code is 1 and
nothing is timed. See README.md.
"""

import argparse
import json
import math
import os
import platform
import statistics
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

from contenders import DreamCache, Inputs, OpenVINO, PyTorch
from unet import GEOMETRIES, load, random_inputs, random_parameters

# Relative L2 distance to PyTorch's fp32 that counts as agreement. Guidance multiplies differences of predictions by up to
# 7.5, and with them bf16's rounding.
EXACT = {"unet": 1e-3, "personal": 1e-3, "step": 1e-3, "batch": 1e-3, "train": 1e-4}
# On Stable Diffusion 2.1 PyTorch and dreamcache stay at 0.01 in bfloat16; OpenVINO, which rounds more than products, is at 0.10.
BF16 = {"unet": 0.03, "personal": 0.03, "step": 0.15, "batch": 0.15, "train": 0.05}
OPENVINO_BF16 = {"unet": 0.15, "personal": 0.15, "step": 0.3, "batch": 0.3}

TITLES = {
    "unet": "U-Net, no cache",
    "personal": "U-Net, one reference",
    "step": "guided step",
    "batch": "guided step, one batch of 3",
    "train": "training, one sample",
}
PEERS = ("torch-fp32", "torch-bf16", "torch-bf16-autocast", "openvino-bf16", "openvino-fp32")


def say(text):
    print(text, file=sys.stderr, flush=True)


def distance(x, reference):
    """Relative L2; infinite where a value is not finite."""
    if x.shape != reference.shape or not torch.isfinite(x).all():
        return float("inf")
    return ((x.double() - reference.double()).norm() / reference.double().norm()).item()


def write_weights(path, geometry):
    say(f"writing {path}")
    part = f"{path}.part"
    save_file(random_parameters(geometry) | random_inputs(geometry), part)
    os.replace(part, path)


def make_contenders(options, weights, folder):
    """PyTorch in fp32, the reference; then all who are to be timed."""
    def loaded():
        tensors = load_file(weights)
        module = load(GEOMETRIES[options.geometry], tensors)
        return module, Inputs(tensors, module.sites)

    parts = [part for part in options.parts if part != "batch" or options.batch]
    # Neither a module of bf16 parameters nor OpenVINO trains.
    evaluated = [part for part in parts if part != "train"]
    module, inputs = loaded()
    is_timed = "torch-fp32" in options.peers
    reference = PyTorch(module, inputs, parts, "fp32", tuple(PyTorch.LAYOUTS) if is_timed else ("channels-first",))
    contenders = []
    for compute in options.compute:
        outputs = os.path.join(folder, f"{compute}.safetensors")
        contenders.append(
            DreamCache(options.dreamcache, options.geometry, weights, compute, options.threads, parts, outputs))
    for peer in options.peers:
        say(f"preparing {peer}")
        if peer == "torch-fp32":
            contenders.append(reference)
        elif peer == "torch-bf16":
            contenders.append(PyTorch(loaded()[0].bfloat16(), inputs, evaluated, "bf16"))
        elif peer == "torch-bf16-autocast":
            contenders.append(PyTorch(module, inputs, parts, "bf16 autocast"))
        else:
            contenders.append(OpenVINO(module, inputs, evaluated, peer.removeprefix("openvino-"), options.threads))
    return reference, contenders


def check(reference, contenders):
    """Distances by contender and part, and a sentence on each that is too far."""
    reference.prepare()
    expected = {part: reference.run("step" if part == "batch" else part) for part in reference.parts}
    distances, disagreements = {}, []
    for contender in contenders:
        contender.prepare()
        limits = EXACT if contender.is_exact else OPENVINO_BF16 if isinstance(contender, OpenVINO) else BF16
        distances[contender.name] = {}
        for part in contender.parts:
            found = distance(contender.run(part), expected[part])
            distances[contender.name][part] = found
            say(f"{contender.name:24} {TITLES[part]:30} differs by {found:.1e}, at most {limits[part]:.0e} is agreement")
            # Written so that not-a-number counts as disagreement.
            if not found <= limits[part]:
                disagreements.append(
                    f"{contender.name}, {TITLES[part]}: relative L2 {found:.2e} to {reference.name}, expected at most "
                    f"{limits[part]:.0e}")
    return distances, disagreements


def time_in_turn(contenders, repetitions):
    """Seconds and busy cores by contender and part; every repetition goes through all contenders."""
    seconds = {contender.name: {part: [] for part in contender.parts} for contender in contenders}
    cores = {contender.name: {part: [] for part in contender.parts} for contender in contenders}
    for repetition in range(-1, repetitions):
        say("warming up" if repetition < 0 else f"repetition {repetition + 1} of {repetitions}")
        for contender in contenders:
            contender.prepare()
            for part in contender.parts:
                took, busy = contender.measure(part)
                if repetition >= 0:
                    seconds[contender.name][part].append(took)
                    cores[contender.name][part].append(busy)
    return seconds, cores


def report(options, contenders, distances, seconds, cores):
    """All results as one value. Arithmetic is what dreamcache counts for one evaluation, keys and values of text and cache
    left out; a peer's step is three evaluations, dreamcache's own is less because branches share the encoder."""
    ours = contenders[0]
    theirs = dict(ours.gflop)
    if "unet" in theirs and "personal" in theirs:
        theirs["step"] = theirs["batch"] = 2 * theirs["personal"] + theirs["unet"]
    entries = []
    for contender in contenders:
        parts = {}
        for part in contender.parts:
            median = statistics.median(seconds[contender.name][part])
            gflop = getattr(contender, "gflop", theirs).get(part)
            counterpart = seconds[ours.name]["step" if part == "batch" else part]
            parts[part] = {
                "median_seconds": median,
                "least_seconds": min(seconds[contender.name][part]),
                "seconds": seconds[contender.name][part],
                "gflop": gflop,
                "gflop_per_second": gflop and gflop / median,
                "busy_cores": statistics.median(cores[contender.name][part]),
                "ratio": median / statistics.median(counterpart),
                "ratio_of_least": min(seconds[contender.name][part]) / min(counterpart),
                "distance": distances[contender.name][part],
            }
        entries.append({"name": contender.name, "notes": contender.notes, "parts": parts})
    return {
        "geometry": options.geometry,
        "threads": options.threads,
        "repetitions": options.repetitions,
        "cpu": cpu(),
        "versions": versions(),
        "peers_peak_memory_mb": peak_memory_mb(),
        "contenders": entries,
    }


def peak_memory_mb():
    """Of this process, in which all peers are, so far (`VmHWM` of proc(5))."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("VmHWM:"))


def cpu():
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def versions():
    result = {"python": platform.python_version(), "torch": torch.__version__}
    if "openvino" in sys.modules:
        result["openvino"] = sys.modules["openvino"].__version__
    return result


def print_table(result):
    named = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    print(f"{result['geometry']}, {result['threads']} threads, {result['repetitions']} repetitions, {result['cpu']}; {named}")
    print("ratio: median of this row by median of dreamcache's")
    print(f"{'':58}{'median s':>10}{'least s':>10}{'GFLOP/s':>9}{'cores':>7}{'ratio':>8}")
    for part, title in TITLES.items():
        for contender in result["contenders"]:
            row = contender["parts"].get(part)
            if row:
                print(f"{title:30}{contender['name']:28}{row['median_seconds']:10.3f}{row['least_seconds']:10.3f}"
                      f"{row['gflop_per_second'] or math.nan:9.0f}{row['busy_cores']:7.1f}{row['ratio']:7.2f}x")
    for contender in result["contenders"]:
        print(f"{contender['name']}: " + ", ".join(f"{name} {value}" for name, value in contender["notes"].items()))
    print(f"all peers together: peak memory, MB {result['peers_peak_memory_mb']}")


def listed(allowed=None):
    def parse(text):
        values = [value for value in text.split(",") if value]
        for value in values:
            if allowed and value not in allowed:
                raise argparse.ArgumentTypeError(f"found '{value}', expected {', '.join(allowed)}")
        return values
    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dreamcache", default=".build/release/dreamcache", help="the program; %(default)s")
    parser.add_argument("--geometry", choices=GEOMETRIES, default="sd21")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every contender; %(default)s")
    parser.add_argument("--repetitions", type=int, default=5, help="%(default)s")
    parser.add_argument("--compute", type=listed(), default=["auto"], help="dreamcache's paths, separated by commas; auto")
    parser.add_argument("--peers", type=listed(PEERS), default=list(PEERS[:4]), help=f"of {', '.join(PEERS)}")
    parser.add_argument("--parts", type=listed(TITLES), default=list(TITLES), help=f"of {', '.join(TITLES)}")
    parser.add_argument(
        "--no-batch", dest="batch", action="store_false",
        help="no peer's step as one batch of three, for which OpenVINO holds the weights once more")
    parser.add_argument("--weights", help="safetensors to share, written if it is not there; a temporary file otherwise")
    parser.add_argument("--check", action="store_true", help="compare predictions, time nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        weights = options.weights or os.path.join(folder, "weights.safetensors")
        if not os.path.exists(weights):
            write_weights(weights, GEOMETRIES[options.geometry])
        reference, contenders = make_contenders(options, weights, folder)
        distances, disagreements = check(reference, contenders)
        for contender in contenders:
            if contender.notes["threads"] != options.threads:
                disagreements.append(
                    f"{contender.name}: computes on {contender.notes['threads']} threads, expected {options.threads}")
        if disagreements:
            sys.exit("\n".join(disagreements))
        if not options.check:
            seconds, cores = time_in_turn(contenders, options.repetitions)
            result = report(options, contenders, distances, seconds, cores)
            if options.json:
                print(json.dumps(result, indent=2))
            else:
                print_table(result)
        elif options.json:
            print(json.dumps({"geometry": options.geometry, "distances": distances}, indent=2))
        for contender in contenders:
            contender.close()


if __name__ == "__main__":
    main()
