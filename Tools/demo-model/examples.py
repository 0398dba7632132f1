"""Writes pictures of held-out subjects to where the project shows and tests them.

    python examples.py --work .build/demo-model/gpu --root .
"""

import argparse
import pathlib

import numpy
from PIL import Image

import composites
from train import SEED, held_out

# Held-out subject to the folder's name under spool/examples: a few poses each.
EXAMPLES = {
    "openclipart tools/hurricane_lamp_ganson": "lantern",
    "emoji crown": "crown",
    "openclipart recreation/toys/simple_teddy_bear_gerald_01": "teddy",
    "toy 120": "toy",
}
# And to the file's name under Tests/Fixtures/demo-subjects: one plain picture each.
FIXTURES = {
    "toy 120": "toy-120", "toy 10": "toy-10", "toy 4": "toy-4", "toy 2044": "toy-2044", "emoji crown": "crown",
    "emoji turtle": "turtle", "openclipart buildings/homes/house_juliane_krug_01": "house",
    "openclipart food/fruit/pineapple": "pineapple",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path("."))
    arguments = parser.parse_args()
    subjects = {s.name: s for s in held_out(arguments.work)}
    g = numpy.random.default_rng(SEED + 5)
    for name, folder in EXAMPLES.items():
        path = arguments.root / "spool/examples" / folder
        path.mkdir(parents=True, exist_ok=True)
        for i in range(3):
            pixels = composites.reference(subjects[name], g if i else None, is_disturbed=False)
            Image.fromarray(pixels).save(path / f"{i}.png", optimize=True)
    for name, file in FIXTURES.items():
        path = arguments.root / f"Tests/Fixtures/demo-subjects/{file}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(composites.reference(subjects[name])).save(path, optimize=True)


if __name__ == "__main__":
    main()
