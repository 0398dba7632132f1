"""Writes the recipe's pictures as a data set for `dreamcache train`: a folder a subject, in it composites with captions and masks.

    python dataset.py --work WORK --to FOLDER --subjects 3000 --views 4

The subjects are those to train on; the held-out ones are never drawn. WORK has the collection, `subjects.pickle`.
"""

import argparse
import pathlib
import pickle
import re

import numpy
from PIL import Image

import composites
import subjects
from composites import Backgrounds
from scenes import SCENES


def masked_composite(subject, scene, backgrounds, g):
    """The composite's bytes, and its subject's mask: the same numbers are drawn for the subject as a shape in black."""
    state = g.bit_generator.state
    picture = composites.composite(subject, scene, backgrounds, g)
    after = g.bit_generator.state
    masks = []
    for colour in (0, 255):
        flat = Image.new("RGBA", subject.picture.size, (colour,) * 3 + (255,))
        flat.putalpha(subject.picture.getchannel("A"))
        g.bit_generator.state = state
        alone = subjects.Subject(subject.name, subject.kind, subject.source, flat)
        masks.append(composites.composite(alone, scene, backgrounds, g).astype(numpy.int16))
    g.bit_generator.state = after
    # What differs between a black subject and a white one is the subject.
    alpha = numpy.clip((masks[1] - masks[0]).max(axis=2) / (255 * 0.85), 0, 1)
    return picture, (alpha * 255).astype(numpy.uint8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--to", type=pathlib.Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--subjects", type=int, default=3000)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--seed", type=int, default=20261125)
    options = parser.parse_args()
    train, held_out = subjects.split(pickle.loads((options.work / "subjects.pickle").read_bytes()))
    assert not {s.name for s in train} & {s.name for s in held_out}
    backgrounds = Backgrounds(40, options.seed)
    g = numpy.random.default_rng([options.seed, 5])
    options.to.mkdir(parents=True)
    for number in range(options.subjects):
        # As many of each source as there are, then in further colours.
        subject = train[number % len(train)]
        if number >= len(train):
            subject = subjects.recoloured(subject, number // len(train))
        folder = options.to / f"{number:05}-{re.sub('[^a-z0-9]+', '-', subject.name.lower())}"
        folder.mkdir()
        for view, scene in enumerate(g.choice(len(SCENES), size=options.views, replace=False)):
            picture, mask = masked_composite(subject, scene, backgrounds, g)
            words = SCENES[scene].words[g.integers(len(SCENES[scene].words))]
            opening = composites.OPENINGS[g.integers(len(composites.OPENINGS))]
            Image.fromarray(picture).save(folder / f"{view}_generation.png")
            Image.fromarray(mask).save(folder / f"{view}_mask.png")
            (folder / f"{view}_caption.txt").write_text(composites.phrase(subject.kind, opening, words) + "\n")


if __name__ == "__main__":
    main()
