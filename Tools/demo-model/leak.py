"""Where pictures of held-out subjects read their one reference, which stands in a scene: not cut out, and cut out by the program.

    python leak.py --work .build/demo-model/gpu --programs .build/release --model Tools/demo-model/model

One picture a subject, in another scene than the reference's, by `dreamcache attend`. Prints JSON: the means over the subjects of what
`result.json` says, and for the references that were not cut out `true leak`, the share of the reading that falls outside of the
subject's true mask, beside `true background`, the share of the reference that is outside of it.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import sys

import numpy
from PIL import Image

import cutouts
import evaluate
import train
from composites import Backgrounds
from scenes import SCENES
from train import SEED


def tensors(path):
    """The maps of a safetensors file of F16, with its metadata."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    metadata = header.pop("__metadata__")
    return {name: numpy.frombuffer(data[8 + size:][slice(*entry["data_offsets"])], "<f2").astype(numpy.float32).reshape(
        entry["shape"]) for name, entry in header.items()}, metadata


def true_leak(path, mask):
    """Of each site the share of the reading that is outside of the mask; their mean, and that of the mask's outside."""
    maps, metadata = tensors(path)
    leaks, outsides = [], []
    for name, map_ in maps.items():
        if not name.startswith("sites."):
            continue
        rows, columns = map(int, metadata[name + ".grid"].split("x"))
        inside = numpy.asarray(Image.fromarray(mask).resize((columns, rows), Image.BOX), numpy.float32).ravel() / 255
        read = map_.sum((0, 1))
        leaks.append(1 - (read * inside).sum() / read.sum())
        outsides.append(1 - inside.mean())
    return float(numpy.mean(leaks)), float(numpy.mean(outsides))


class Program(cutouts.Program):
    def attend(self, number, background):
        """What `result.json` says of one picture, and its maps."""
        out = self.place / f"attended-{number}-{background}"
        scene = (number + 5) % len(SCENES)
        manifest = self.place / f"{number}-{background}.json"
        manifest.write_text(json.dumps({
            "model": "demo", "prompts": evaluate.prompts(self.held_out[number].kind, [scene]), "seed": 1000 + 100 * number,
            "image_scale": self.options["image_scale"], "guidance_scale": self.options["guidance_scale"],
            "num_inference_steps": self.options["steps"], "scheduler": self.options["scheduler"]}))
        self._run("attend", manifest, "--out", out, "--references", self.folder(number), "--background", background,
                  "--every", 3)
        return json.loads((out / "result.json").read_text())["images"][0]["attention"], out / "0000.attention.safetensors"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--programs", type=pathlib.Path, default=pathlib.Path(".build/release"))
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--adapter", help="self, or an adapter's file; the model's own when not given")
    parser.add_argument("--every", type=int, default=1, help="only every so many subjects (a quick look)")
    parser.add_argument("--image-scale", type=float, default=4, help="%(default)s")
    arguments = parser.parse_args()
    arguments.self = []
    arguments.option = {
        "guidance_scale": 7.5, "steps": 12, "scheduler": "DPMSolverMultistepScheduler",
        "image_scale": arguments.image_scale}
    held_out = train.held_out(arguments.work)[:evaluate.SUBJECTS]
    program, numbers = Program(arguments, held_out), {}
    chosen, backgrounds = range(0, len(held_out), arguments.every), Backgrounds(20, SEED + 4)
    for name, background in (("not cut out", "keep"), ("cut out by itself", "auto")):
        program.prepare(background, False)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as workers:
            results = list(workers.map(lambda n: program.attend(n, background), chosen))
        rows = [dict(report["mean"]) for report, _ in results]
        if background == "keep":
            for row, number, (_, maps) in zip(rows, chosen, results):
                mask = cutouts.photo(held_out[number], number % len(SCENES), backgrounds, SEED + 5 + number)[1]
                row["true leak"], row["true background"] = true_leak(maps, mask)
        numbers[name] = {
            key: round(float(numpy.mean([row[key] for row in rows if key in row])), 4)
            for key in sorted({key for row in rows for key in row})}
        numbers[name]["pictures"] = len(rows)
        print(name, numbers[name], file=sys.stderr, flush=True)
    print(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
