"""Judges pictures that `dreamcache render` makes of held-out subjects: is it the subject, is it the scene.

    python evaluate.py --work .build/demo-model/gpu --programs .build/release --model Tools/demo-model/model > numbers.json

Prints JSON: the judges' own accuracy on real composites (the ceiling), then for each condition the share of pictures whose
subject is found first among the held-out ones (chance is one in their number), and whose scene is named.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy
from PIL import Image

import composites
import train
from composites import Backgrounds
from judges import Judges
from scenes import SCENES
from train import SEED

SUBJECTS = 64


def prompts(kind, scenes):
    return [composites.phrase(kind, composites.OPENINGS[0], SCENES[s].words[0]) for s in scenes]


class Program:
    """`dreamcache` with the model, and folders of held-out references."""

    def __init__(self, arguments, held_out):
        self.place = arguments.work / "evaluation"
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        self.programs, self.held_out, self.options = arguments.programs, held_out, arguments.option
        g = numpy.random.default_rng(SEED + 1)
        for number, subject in enumerate(held_out):
            folder = self.place / f"references-{number}"
            folder.mkdir()
            for i in range(4):
                pixels = composites.reference(subject) if i == 0 else composites.reference(subject, g, is_disturbed=False)
                Image.fromarray(pixels).save(folder / f"{i}.png")
        self.configuration = self.place / "dreamcached.yaml"
        model = arguments.model.resolve()
        adapter = arguments.adapter or model / "adapter.safetensors"
        self.configuration.write_text(
            f"spool:\n  path: {self.place.resolve()}/spool\nmodels:\n  demo:\n    checkpoint: {model}\n"
            f"    adapter: {adapter if adapter == 'self' else pathlib.Path(adapter).resolve()}\n" + (
                f"    self:\n{''.join(f'      {setting}{chr(10)}' for setting in arguments.self)}" if arguments.self else ""))

    def _run(self, *words):
        # One thread each: as many run at once as there are cores.
        subprocess.run(
            [self.programs / "dreamcache", *map(str, words), "--config", self.configuration], check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "DREAMCACHE_THREADS": "1"})

    def cache(self, number, references):
        """The .dcache of a subject's first so many references."""
        path = self.place / f"{number}-{references}.dcache"
        if not path.exists():
            folder = self.place / f"some-{number}-{references}"
            folder.mkdir()
            for i in range(references):
                shutil.copy(self.place / f"references-{number}/{i}.png", folder)
            self._run("cache", folder, "--out", path)
        return path

    def pictures(self, number, scenes, references, image_scale):
        """One picture a scene; without references, the plain model's."""
        out = self.place / f"set-{number}"
        shutil.rmtree(out, ignore_errors=True)
        manifest = {
            "prompts": prompts(self.held_out[number].kind, scenes), "seed": 1000 + 100 * number,
            "image_scale": image_scale, "guidance_scale": self.options["guidance_scale"],
            "num_inference_steps": self.options["steps"], "scheduler": self.options["scheduler"]}
        path = self.place / f"{number}.json"
        path.write_text(json.dumps(manifest))
        cache = ["--cache", self.cache(number, references)] if references else []
        self._run("render", path, "--out", out, *cache)
        return [numpy.asarray(Image.open(p).convert("RGB")) for p in sorted(out.glob("[0-9]*.png"))]


def parser_of(description):
    """The options that every judging of the program has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--programs", type=pathlib.Path, default=pathlib.Path(".build/release"))
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="judge only every so many subjects (a quick look)")
    parser.add_argument("--adapter", help="self, or an adapter's file; the model's own when not given")
    parser.add_argument(
        "--self", action="append", default=[], metavar="'KEY: VALUE'",
        help="a setting of the adapter self, as in the configuration; may be given several times")
    parser.add_argument("--image-scale", type=float, default=4, help="where a row names no other; %(default)s")
    return parser


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--only", help="conditions to run, by the beginning of their names")
    parser.add_argument("--guidance", type=float, default=7.5, help="%(default)s")
    arguments = parser.parse_args()
    arguments.option = {
        "guidance_scale": arguments.guidance, "steps": 12, "scheduler": "DPMSolverMultistepScheduler"}
    held_out = train.held_out(arguments.work)[:SUBJECTS]
    judges = Judges(train.averaged(arguments.work, "judges"), held_out)
    chosen = range(0, len(held_out), arguments.every)

    g = numpy.random.default_rng(SEED + 2)
    backgrounds = Backgrounds(20, SEED + 3)
    every = [(n, s) for n in range(len(held_out)) for s in range(len(SCENES))]
    real = [composites.composite(held_out[n], s, backgrounds, g) for n, s in every]
    numbers = {"real composites": judges.judge(real, [n for n, _ in every], [s for _, s in every])}

    program = Program(arguments, held_out)
    scenes = list(range(len(SCENES)))
    strong = arguments.image_scale
    conditions = {f"image_scale {strong:g}": (1, strong), "no cache": (0, 0)}
    conditions |= {f"{references} references, image_scale {strong:g}": (references, strong) for references in (2, 4)}
    conditions |= {f"image_scale {scale:g}": (1, scale) for scale in (0, 0.5, 1, 2, 4)}
    for name, (references, scale) in conditions.items():
        if arguments.only and not name.startswith(arguments.only):
            continue
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as workers:
            sets = list(workers.map(lambda number: program.pictures(number, scenes, references, scale), chosen))
        numbers[name] = judges.judge(
            [picture for pictures in sets for picture in pictures], [n for n in chosen for _ in scenes],
            scenes * len(sets))
        print(name, numbers[name], file=sys.stderr, flush=True)
        sheet = numpy.concatenate([numpy.concatenate(pictures, 1) for pictures in sets[:12]])
        Image.fromarray(sheet).save(arguments.work / f"{name.replace(' ', '-').replace(',', '')}.png")
    print(json.dumps({name: {"identity": a, "scene": b} for name, (a, b) in numbers.items()}, indent=1))


if __name__ == "__main__":
    main()
