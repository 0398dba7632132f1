"""Judges pictures that `dreamcache render` makes of held-out subjects: is it the subject, is it the scene.

    python evaluate.py --work .build/demo-model/gpu --programs .build/release --model Tools/demo-model/model > numbers.json

Prints JSON: the judges' own accuracy on real composites (the ceiling), then for each row the share of pictures whose subject is
found first among the held-out ones (chance is one in their number), and whose scene is named; the program's own score of the
same pictures (`dreamcache evaluate`), and the seconds of processor time of a picture. The sets stay in `evaluation/` below
`--work`, with the program's report.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import resource
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
        settings = "".join(f"\n      {setting}" for setting in arguments.self)
        self.configuration.write_text(
            f"spool:\n  path: {self.place.resolve()}/spool\nmodels:\n"
            f"  demo:\n    checkpoint: {model}\n    adapter: {adapter if adapter == 'self' else pathlib.Path(adapter).resolve()}\n"
            f"  self:\n    checkpoint: {model}\n    adapter: self\n" + (f"    self:{settings}\n" if settings else ""))

    def _run(self, *words):
        # One thread each: as many run at once as there are cores.
        subprocess.run(
            [self.programs / "dreamcache", *map(str, words), "--config", self.configuration], check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "DREAMCACHE_THREADS": "1"})

    def cache(self, number, references, model):
        """The .dcache of a subject's first so many references."""
        path = self.place / f"{number}-{references}-{model}.dcache"
        if not path.exists():
            folder = self.place / f"some-{number}-{references}"
            if not folder.exists():
                folder.mkdir()
                for i in range(references):
                    shutil.copy(self.place / f"references-{number}/{i}.png", folder)
            self._run("cache", folder, "--out", path, "--model", model)
        return path

    def pictures(self, number, scenes, references, fields, out):
        """One picture a scene, into the folder; without references, the plain model's. `fields` belong into the manifest."""
        manifest = {
            "prompts": prompts(self.held_out[number].kind, scenes), "seed": 1000 + 100 * number, "model": "demo",
            "guidance_scale": self.options["guidance_scale"], "num_inference_steps": self.options["steps"],
            "scheduler": self.options["scheduler"], **fields}
        path = self.place / f"{number}.json"
        path.write_text(json.dumps(manifest))
        cache = ["--cache", self.cache(number, references, manifest["model"])] if references else []
        self._run("render", path, "--out", out, *cache)
        return [numpy.asarray(Image.open(p).convert("RGB")) for p in sorted(out.glob("[0-9]*.png"))]

    def subject_match(self, sets, chosen):
        """The means and intervals of the program's own score, by set. `sets`: names and their folders of subjects' sets."""
        subjects = [{
            "name": str(n), "references": f"references-{n}",
            "sets": [{"label": name, "folder": f"{folder.name}/{n}"} for name, folder in sets.items()]} for n in chosen]
        listed = self.place / "sets.json"
        listed.write_text(json.dumps({"subjects": subjects}))
        self._run("evaluate", listed, "--model", "demo", "--protocol", "paper", "--out", self.place / "report")
        report = json.loads((self.place / "report/report.json").read_text())
        return {row["label"]: row["scores"] for row in report["rows"]}


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


def rows(strong):
    """Names, how many references, and what is asked of the manifest. `strong`: the image_scale of the rows that vary something else."""
    def scaled(model, scales):
        prefix = "" if model == "demo" else f"{model}, "
        return {f"{prefix}image_scale {scale:g}": (1, {"model": model, "image_scale": scale}) for scale in scales}

    best = {"select": {"best_of": 4, "by": "subject"}}
    return {
        "no cache": (0, {}),
        **scaled("self", (0, 0.5, 1, 2, 4)),
        "self, image_scale 2, best of 4": (1, {"model": "self", "image_scale": 2, **best}),
        "self, image_scale auto": (1, {"model": "self", "image_scale": "auto"}),
        "self, image_scale 2, two references": (2, {"model": "self", "image_scale": 2}),
        "self, image_scale 2, four references": (4, {"model": "self", "image_scale": 2}),
        **scaled("demo", (0, 0.5, 1, 2, 4)),
        f"image_scale {strong:g}, two references": (2, {"image_scale": strong}),
        f"image_scale {strong:g}, four references": (4, {"image_scale": strong}),
        f"image_scale {strong:g}, best of 4": (1, {"image_scale": strong, **best}),
        "image_scale auto": (1, {"image_scale": "auto"}),
    }


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--only", action="append", help="a row to run, by the whole of its name; may be given several times")
    parser.add_argument("--scenes", type=int, default=len(SCENES), help="scenes of each subject; %(default)s")
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
    identity, scene = judges.judge(real, [n for n, _ in every], [s for _, s in every])
    numbers, folders = {"real composites": {"identity": identity, "scene": scene}}, {}

    program = Program(arguments, held_out)
    # Where not all scenes are judged, each subject has others.
    scenes = {n: [(n + k * len(SCENES) // arguments.scenes) % len(SCENES) for k in range(arguments.scenes)] for n in chosen}
    for name, (references, fields) in rows(arguments.image_scale).items():
        if arguments.only and name not in arguments.only:
            continue
        if references:
            for number in chosen:
                program.cache(number, references, fields.get("model", "demo"))
        folders[name] = folder = program.place / f"set-{len(folders)}"
        folder.mkdir()
        before = seconds()
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as workers:
            sets = list(workers.map(
                lambda n: program.pictures(n, scenes[n], references, fields, folder / str(n)), chosen))
        pictures = [picture for pictures in sets for picture in pictures]
        spent = (seconds() - before) / len(pictures)
        identity, scene = judges.judge(
            pictures, [n for n in chosen for _ in scenes[n]], [s for n in chosen for s in scenes[n]])
        numbers[name] = {"identity": identity, "scene": scene, "pictures": len(pictures), "seconds": round(spent, 2)}
        print(name, numbers[name], file=sys.stderr, flush=True)
    for name, scores in program.subject_match(folders, chosen).items():
        if name in numbers:
            numbers[name] |= {score: {key: round(spread[key], 4) for key in ("mean", "low", "high")}
                              for score, spread in scores.items()}
        else:
            numbers[name] = scores
    print(json.dumps(numbers, indent=1))


def seconds():
    """Processor time of the programs that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
