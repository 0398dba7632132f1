"""Pictures drawn without end, in lots, by so many processes as the preset has workers; and a pool of what was drawn last."""

import numpy
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

import composites
from composites import Backgrounds
from scenes import SCENES


def values(pictures):
    """[n, h, w, 3] bytes to [n, 3, h, w], -1 to 1."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


class _Endless(IterableDataset):
    def __init__(self, draw, seed):
        self.draw, self.seed = draw, seed

    def __iter__(self):
        worker = get_worker_info()
        g = numpy.random.default_rng([*self.seed, worker.id if worker else 0])
        while True:
            yield self.draw(g)


def lots(draw, seed, workers):
    """What draw(generator) returns, again and again, arrays as tensors."""
    processes = {"multiprocessing_context": "fork", "prefetch_factor": 4} if workers else {}
    return iter(DataLoader(
        _Endless(draw, seed), batch_size=None, num_workers=workers, pin_memory=torch.cuda.is_available(), **processes))


def scattered(collection, count, seed, workers, white):
    """Lots of composites of random subjects in random scenes, a share of them references, subjects on white: pictures
    [count, SIZE, SIZE, 3] in bytes, the subjects' numbers, and the scenes' (-1: on white)."""
    backgrounds = Backgrounds(40, seed[0])

    def draw(g):
        subjects = g.integers(len(collection.train), size=count)
        scenes = numpy.where(g.random(count) < white, -1, g.integers(len(SCENES), size=count))
        made = [
            composites.reference(collection.train[i], g) if s < 0 else
            composites.composite(collection.train[i], s, backgrounds, g) for i, s in zip(subjects, scenes)]
        return numpy.stack(made), subjects, scenes

    return lots(draw, seed, workers)


def pairs(collection, count, seed, workers):
    """Lots of a composite and a reference of each of so many distinct subjects, and the composites' scenes."""
    backgrounds = Backgrounds(40, seed[0])

    def draw(g):
        subjects = g.choice(len(collection.train), size=count, replace=False)
        scenes = g.integers(len(SCENES), size=count)
        targets = [composites.composite(collection.train[i], s, backgrounds, g) for i, s in zip(subjects, scenes)]
        return numpy.stack(targets), numpy.stack([composites.reference(collection.train[i], g) for i in subjects]), scenes

    return lots(draw, seed, workers)


class Pool:
    """What was drawn last, as `make` makes it of the pictures; the oldest are replaced by new ones all the time."""

    def __init__(self, size, source, make):
        self.source, self.make, self.next = source, make, 0
        pictures, subjects, scenes = next(source)
        made = make(pictures)
        self.values = made.new_zeros(size, *made.shape[1:])
        self.subjects, self.scenes = (torch.zeros(size, dtype=torch.long, device=made.device) for _ in range(2))
        for _ in range(-(-size // len(pictures))):
            self.renew()

    def renew(self):
        """The next lot in place of the oldest."""
        pictures, subjects, scenes = next(self.source)
        slots = (torch.arange(len(pictures), device=self.values.device) + self.next) % len(self.values)
        self.values[slots] = self.make(pictures)
        self.subjects[slots] = subjects.to(slots.device, non_blocking=True)
        self.scenes[slots] = scenes.to(slots.device, non_blocking=True)
        self.next = (self.next + len(pictures)) % len(self.values)

    def batch(self, count):
        """Random values with their subjects and scenes."""
        rows = torch.randint(len(self.values), (count,), device=self.values.device)
        return self.values[rows], self.subjects[rows], self.scenes[rows]
