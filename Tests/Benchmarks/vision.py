#!/usr/bin/env python3
"""The networks that look at pictures beside other programs': encoders beside transformers, the segmenter beside onnxruntime.

    python vision.py --segmenter u2netp.onnx dino-vits16 clip-vit-base-patch32

Each takes one picture of its own size, decoded and prepared, in fp32, on the same threads, in turn in one run. Encoders are
folders as transformers saves them; speed does not depend on the values, so random weights will do. See README.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import time

SEGMENTER = "segmenter"


class DreamCache:
    """`dreamcache bench --interactive --vision` in a process of its own."""

    def __init__(self, program, networks, threads):
        self.process = subprocess.Popen(
            [program, "bench", "--interactive", "--vision", ",".join(networks), "--threads", str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer()
        self.peak = 0

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"dreamcache: ended with exit code {self.process.wait()} (see its message above)")
        return json.loads(line)

    def seconds(self, network):
        self.process.stdin.write(network + "\n")
        self.process.stdin.flush()
        answer = self.answer()
        self.peak = answer["peak_memory_bytes"]
        return answer["seconds"]


def encoder(folder, threads):
    """A picture's features by transformers, as a function without arguments."""
    import torch
    from transformers import AutoConfig, CLIPModel, Dinov2Model, ViTModel

    torch.set_num_threads(threads)
    configuration = AutoConfig.from_pretrained(folder)
    kind = {"clip": CLIPModel, "dinov2": Dinov2Model, "vit": ViTModel}[configuration.model_type]
    model = kind.from_pretrained(folder, **({"add_pooling_layer": False} if kind is ViTModel else {})).float().eval()
    size = getattr(configuration, "vision_config", configuration).image_size
    with open(os.path.join(folder, "preprocessor_config.json")) as file:
        prepared = json.load(file)
    crop = prepared.get("crop_size") or prepared.get("size") or size
    side = crop if isinstance(crop, int) else crop.get("height", crop.get("shortest_edge"))
    pixels = torch.randn(1, 3, side, side)
    call = model.get_image_features if kind is CLIPModel else model

    def run():
        with torch.inference_mode():
            call(pixels)
    return run


def segmenter(path, threads):
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    pixels = {session.get_inputs()[0].name: numpy.zeros((1, 3, 320, 320), numpy.float32)}
    return lambda: session.run(None, pixels)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="*", help="folders of encoders")
    parser.add_argument("--segmenter", help="U-2-Net's small form as ONNX")
    parser.add_argument("--dreamcache", default=".build/release/dreamcache", help="the program; %(default)s")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="%(default)s")
    parser.add_argument("--repetitions", type=int, default=9, help="%(default)s")
    options = parser.parse_args()

    peers = {folder: encoder(folder, options.threads) for folder in options.encoders}
    if options.segmenter:
        peers[SEGMENTER] = segmenter(options.segmenter, options.threads)
    if not peers:
        parser.error("found no network, expected folders of encoders or --segmenter")
    print(f"{options.threads} threads, {options.repetitions} repetitions; seconds a picture: median (least)")
    ours = DreamCache(options.dreamcache, list(peers), options.threads)
    for network, run in peers.items():
        times = {"dreamcache": [], "peer": []}
        for repetition in range(-2, options.repetitions):
            start = time.perf_counter()
            run()
            pair = {"peer": time.perf_counter() - start, "dreamcache": ours.seconds(network)}
            if repetition >= 0:
                for name, seconds in pair.items():
                    times[name].append(seconds)
        medians = {name: statistics.median(seconds) for name, seconds in times.items()}
        print(f"{os.path.basename(network):24}" + "".join(
            f"  {name} {medians[name]:.4f} ({min(times[name]):.4f})" for name in times)
            + f"  ratio {medians['peer'] / medians['dreamcache']:.2f}", flush=True)
    print(f"dreamcache's peak memory, all networks together: {ours.peak >> 20} MB")


if __name__ == "__main__":
    main()
