"""Plans scenes of the composites: which objects, how many and how large. Draws are seeded.

Sizes are the longer side of an object over the shorter side of the frame.
"""

import math
from dataclasses import dataclass

KINDS = ("close", "large", "several", "pile", "small")
SHARES = (0.35, 0.3, 0.22, 0.09, 0.04)
SMALLEST, LARGEST = 0.05, 1.3
CLOSEST = 2.0  # a close view leaves the frame


@dataclass(frozen=True)
class Thing:
    """An object of a scene; `near` is the number of the thing that it lies beside, or None."""

    item: object
    scale: float
    near: int = None


class Vocabulary:
    """The objects of a split by category and by supercategory."""

    def __init__(self, objects):
        self.objects = objects
        self.by_category, self.by_super = {}, {}
        for o in objects:
            self.by_category.setdefault(o.category, []).append(o)
            self.by_super.setdefault(o.supercategory, []).append(o)
        self.categories = sorted(self.by_category)


def pick(rng, values):
    """One of the values, uniformly."""
    return values[int(rng.integers(len(values)))]


def log_uniform(rng, low, high):
    """A float between two positive ones, uniform in its logarithm."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _other(rng, vocabulary, category, alike):
    """An object of another category, of the same supercategory with probability `alike`."""
    pool = vocabulary.objects
    if rng.random() < alike:
        pool = vocabulary.by_super[vocabulary.by_category[category][0].supercategory]
    pool = [o for o in pool if o.category != category]
    return pick(rng, pool or [o for o in vocabulary.objects if o.category != category])


def plan_scene(vocabulary, focal, rng):
    """Plan a scene about an object: (kind, list of ``Thing``, the focal one first).

    The kinds are "close" (the object fills the frame or leaves it, with one other thing), "large"
    (it fills much of the frame or leaves it), "several" (2 to 6 things of all sizes), "pile" (3 to
    10 of its category together), and "small" (it is tiny beside larger things). At least one thing
    is of another category, often of the same supercategory.

    Args:
        vocabulary: ``Vocabulary`` of two categories or more.
        focal: object that must be there.
        rng: numpy ``Generator``.
    """
    kind = str(rng.choice(KINDS, p=SHARES))
    own = vocabulary.by_category[focal.category]
    if kind == "close":
        things = [Thing(focal, log_uniform(rng, 0.9, CLOSEST))]
        rest, low, high = 1, 0.25, 0.7
    elif kind == "large":
        things = [Thing(focal, rng.uniform(0.65, LARGEST))]
        rest, low, high = int(rng.integers(1, 3)), 0.2, 0.7
    elif kind == "pile":
        scale = log_uniform(rng, 0.2, 0.6)
        things = [Thing(focal, scale)]
        same = rng.random() < 0.5
        for i in range(int(rng.integers(2, 10))):
            item = focal if same else pick(rng, own)
            things.append(Thing(item, scale * rng.uniform(0.75, 1.3), int(rng.integers(i + 1))))
        rest, low, high = int(rng.integers(1, 3)), 0.2, 0.6
    elif kind == "small":
        things = [Thing(focal, log_uniform(rng, SMALLEST, 0.18))]
        rest, low, high = int(rng.integers(1, 5)), 0.08, 0.8
    else:
        things = [Thing(focal, log_uniform(rng, 0.35, 1.0))]
        if rng.random() < 0.35:  # another one of the category
            things.append(Thing(pick(rng, own), log_uniform(rng, 0.25, 0.9)))
        rest, low, high = int(rng.integers(1, 4)), 0.2, 0.9
    for _ in range(rest):
        item = _other(rng, vocabulary, focal.category, 0.35)
        near = 0 if rng.random() < 0.4 else None
        things.append(Thing(item, log_uniform(rng, low, high), near))
    return kind, things
