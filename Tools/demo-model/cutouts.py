"""What the cut-out is worth: the identity of held-out subjects whose one reference stands in a scene, cut out by the program, cut
out by the drawing's own alpha (a mask made by hand), and not cut out.

    python cutouts.py --work .build/demo-model/gpu --programs .build/release --model Tools/demo-model/model

Needs what `evaluate.py` needs, the trained judges of `--work` among it. Prints JSON, for each condition the share of pictures whose
subject is found first among the held-out ones, and whose scene is named; chance is one in their number.
"""

import concurrent.futures
import json
import os
import sys

import numpy
from PIL import Image

import composites
import evaluate
import train
from composites import Backgrounds
from judges import Judges
from scenes import SCENES
from train import SEED


class Alike:
    """Backgrounds of one picture: with equal seeds, a subject is posed in the same way in front of each."""

    def __init__(self, pixels):
        self.pixels = pixels

    def pick(self, scene, g):
        return self.pixels


def photo(subject, scene, backgrounds, seed):
    """A composite, and the mask of its subject: where it differs between a black and a white background."""
    background = backgrounds.pick(scene, numpy.random.default_rng(seed))
    pictures = [
        composites.composite(subject, scene, Alike(pixels), numpy.random.default_rng(seed)).astype(int)
        for pixels in (background, numpy.zeros_like(background), numpy.full_like(background, 255))]
    mask = 255 - (pictures[2] - pictures[1]).max(2)
    # A shadow is no part of the subject: it darkens white, and on black it shows nothing of its own.
    mask[(pictures[1].max(2) < 8) & (mask < 160)] = 0
    return pictures[0].astype(numpy.uint8), mask.astype(numpy.uint8)


class Program(evaluate.Program):
    """As `evaluate.py`'s, with one reference each, in front of a scene."""

    def prepare(self, background, has_masks):
        self.background, backgrounds = background, Backgrounds(20, SEED + 4)
        for number, subject in enumerate(self.held_out):
            folder = self.place / f"some-{number}-{background}-{has_masks}"
            folder.mkdir()
            pixels, mask = photo(subject, number % len(SCENES), backgrounds, SEED + 5 + number)
            Image.fromarray(pixels).save(folder / "photo.png")
            if has_masks:
                Image.fromarray(mask).save(folder / "photo_mask.png")
        self.folder = lambda number: self.place / f"some-{number}-{background}-{has_masks}"

    def cache(self, number, references, model):
        path = self.folder(number).with_suffix(".dcache")
        if not path.exists():
            self._run("cache", self.folder(number), "--out", path, "--background", self.background, "--model", model)
        return path


def main():
    arguments = evaluate.parser_of(__doc__).parse_args()
    arguments.option = {"guidance_scale": 7.5, "steps": 12, "scheduler": "DPMSolverMultistepScheduler"}
    held_out = train.held_out(arguments.work)[:evaluate.SUBJECTS]
    judges = Judges(train.averaged(arguments.work, "judges"), held_out)
    program, scenes, numbers = Program(arguments, held_out), list(range(len(SCENES))), {}
    chosen = range(0, len(held_out), arguments.every)
    for name, background, has_masks in (
            ("not cut out", "keep", False), ("cut out by itself", "auto", False), ("masks by hand", "remove", True)):
        program.prepare(background, has_masks)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as workers:
            sets = list(workers.map(
                lambda n: program.pictures(
                    n, scenes, 1, {"image_scale": arguments.image_scale}, program.folder(n).with_suffix(".set")), chosen))
        identity, scene = judges.judge(
            [picture for pictures in sets for picture in pictures], [n for n in chosen for _ in scenes],
            scenes * len(sets))
        numbers[name] = {"identity": identity, "scene": scene}
        print(name, numbers[name], file=sys.stderr, flush=True)
    print(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
