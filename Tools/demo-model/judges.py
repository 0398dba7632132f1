"""Judges of the demonstration model, trained on real composites and independent of the generator: a network that finds the
subject of a picture again, and one that names its scene.

Both see pictures at 64 x 64, blurred, noisy and shifted in colour while they are trained, so that they judge what is shown and
not how sharply.
"""

import numpy
import torch
import torch.nn.functional as F
from torch import nn

import composites
import lots
from scenes import SCENES


def judged(pictures):
    """[n, 128, 128, 3] bytes to what the judges see."""
    return F.interpolate(lots.values(pictures), (64, 64), mode="area")


def disturbed(x):
    n = len(x)

    def random(*shape):
        return torch.rand(n, *shape, device=x.device)

    blurred = F.interpolate(F.avg_pool2d(x, 2), x.shape[-2:], mode="bilinear")
    share = random(1, 1, 1)
    x = x * share + blurred * (1 - share)
    x = x * (0.85 + 0.3 * random(3, 1, 1)) + 0.15 * (random(3, 1, 1) - 0.5)
    return (x + 0.08 * random(1, 1, 1) * torch.randn_like(x)).clamp(-1, 1)


def trunk(widths):
    layers, inputs = [], 3
    for width in widths:
        layers += [
            nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers)


class SubjectJudge(nn.Module):
    """A picture to a point on a sphere; pictures of one subject lie close together."""

    def __init__(self):
        super().__init__()
        self.trunk = trunk((24, 48, 96, 128))
        self.head = nn.Linear(128 * 16, 64)
        self.temperature = nn.Parameter(torch.tensor(2.5))

    def forward(self, x):
        return F.normalize(self.head(self.trunk(x).flatten(1)), dim=1)


class SceneJudge(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = trunk((16, 32, 32))
        self.head = nn.Linear(32 * 64, len(SCENES))

    def forward(self, x):
        return self.head(self.trunk(x).flatten(1))


def errors(subject, scene):
    """What both are trained on: pairs of a composite and a reference of one subject, of which the other subjects of the lot are
    the wrong answers; and the composites' scenes."""
    def errors(targets, references, scenes):
        seen = disturbed(judged(targets))
        points = subject(torch.cat([seen, judged(references)]))
        count = len(seen)
        likeness = points[:count] @ points[count:].T * subject.temperature.exp()
        answers = torch.arange(count, device=points.device)
        logits = scene(seen)
        loss = (F.cross_entropy(likeness, answers) + F.cross_entropy(likeness.T, answers)) / 2
        return loss + F.cross_entropy(logits, scenes), {
            "retrieval": (likeness.argmax(1) == answers).float().mean(),
            "scene": (logits.argmax(1) == scenes).float().mean()}

    return errors


class Judges:
    """The trained judges over the held-out subjects."""

    def __init__(self, weights, held_out):
        self.subject, self.scene = SubjectJudge(), SceneJudge()
        self.subject.load_state_dict(weights["subject"])
        self.scene.load_state_dict(weights["scene"])
        self.subject.eval()
        self.scene.eval()
        self.gallery = self.points([composites.reference(s) for s in held_out])

    @torch.no_grad()
    def points(self, pictures):
        return self.subject(judged(torch.from_numpy(numpy.stack(pictures))))

    @torch.no_grad()
    def judge(self, pictures, subjects, scenes):
        """Shares of pictures whose subject is found first among the held-out ones, and whose scene is named."""
        found = (self.points(pictures) @ self.gallery.T).argmax(1).numpy()
        named = self.scene(judged(torch.from_numpy(numpy.stack(pictures)))).argmax(1).numpy()
        return float((found == numpy.array(subjects)).mean()), float((named == numpy.array(scenes)).mean())
