"""The protocol "real pairs": its episodes and its metrics.

Every ordered pair (reference, target) of a class is an episode. Intersections and unions are pooled
over the episodes of a class at the target's own size; the mean is over classes.
"""

import numpy as np
import torch
from torch.nn import functional as F

BOUNDARY_RATIO = 0.02  # width of a boundary, share of the picture's diagonal


def pair_episodes(counts, shots=1, seed=0):
    """Episodes of classes with so many examples each.

    Args:
        counts: n examples of each class, in the classes' order; at least 2.
        shots: K; a class with n ≤ K has n − 1. For each pair (reference, target) the other K − 1
            references are drawn from the rest; equal sets for a target count once.
        seed: of the draws, class by class.

    Returns:
        list of (class, references, target): index of the class, sorted tuple of K indices of its
        examples, index of another. With K = 1 these are all ordered pairs.

    Raises:
        ValueError: naming a class, by its index, with less than two examples; or K below 1.
    """
    if shots < 1:
        raise ValueError(f"shots is {shots}; it must be at least 1")
    episodes = []
    for label, count in enumerate(counts):
        if count < 2:
            raise ValueError(f"class {label} has {count} example(s); a pair needs two")
        rng = np.random.default_rng([seed, label])
        found = {}
        for target in range(count):
            for reference in range(count):
                if reference == target:
                    continue
                rest = [i for i in range(count) if i not in (reference, target)]
                others = rng.choice(rest, min(shots, count - 1) - 1, replace=False) if rest else []
                references = tuple(sorted([reference, *map(int, others)]))
                found[references, target] = None
        episodes += [(label, *key) for key in found]
    return episodes


def absent_episodes(episodes, pictures, seed=0):
    """Draw, for each episode, one whose target shows nothing of the references' class.

    Args:
        episodes: of ``pair_episodes``.
        pictures: for each class, an identifier of each example's picture. A picture that a class
            has a mask of is never "without" that class, even if it belongs to another class too.
        seed: of the draws.

    Returns:
        list of (class, references, class of the target, target). It is empty if no class has a
        picture that another lacks.
    """
    rng = np.random.default_rng([seed, 1])
    found = []
    for label, references, _ in episodes:
        own = set(pictures[label])
        free = [
            (other, i)
            for other, names in enumerate(pictures)
            for i, name in enumerate(names)
            if name not in own
        ]
        if free:
            found.append((label, references, *free[int(rng.integers(len(free)))]))
    return found


def boundary(mask, ratio=BOUNDARY_RATIO):
    """Pixels of a mask within a distance of its contour, bool (H, W) (Boundary IoU, G_d ∩ G).

    The distance is the chessboard distance: ``ratio`` of the diagonal, rounded, at least 1 px. The
    picture's frame counts as contour.

    Args:
        mask: bool (H, W).
    """
    height, width = mask.shape
    distance = max(1, round(ratio * (height**2 + width**2) ** 0.5))
    outside = F.pad((~mask).to(torch.float32)[None, None], (1, 1, 1, 1), value=1.0)
    size = 2 * distance + 1
    for kernel in ((1, size), (size, 1)):  # a square window, one side at a time
        pad = kernel[0] // 2, kernel[1] // 2
        # max_pool2d's own padding stops at half the kernel and is −inf: exactly what is needed
        outside = F.max_pool2d(outside, kernel, stride=1, padding=pad)
    near = outside[0, 0, 1:-1, 1:-1] > 0
    return mask & near


def overlap(mask, truth, truth_boundary=None):
    """Intersection and union of two bool masks (H, W), then of their boundaries: int64 (4,). A
    known ``truth_boundary`` is not computed again."""
    edge = boundary(truth) if truth_boundary is None else truth_boundary
    own = boundary(mask)
    sums = [mask & truth, mask | truth, own & edge, own | edge]
    return np.array([int(s.sum()) for s in sums], dtype=np.int64)


class PooledIoU:
    """Sums ``overlap`` per class and makes percentages of the sums."""

    def __init__(self, classes):
        self.classes = list(classes)
        self.sums = np.zeros((len(self.classes), 4), dtype=np.int64)

    def add(self, label, counts):
        self.sums[label] += counts

    def result(self):
        """{"IoU", "boundary_IoU", "classes": {name: {"IoU", "boundary_IoU"}}}, in percent; the
        first two are means over all classes."""
        keys = ("IoU", "boundary_IoU")
        values = 100 * self.sums[:, ::2] / np.maximum(self.sums[:, 1::2], 1)
        mean = {k: float(v) for k, v in zip(keys, values.mean(0), strict=True)}
        rows = (dict(zip(keys, map(float, row), strict=True)) for row in values)
        return {**mean, "classes": dict(zip(self.classes, rows, strict=True))}


def auroc(present, absent):
    """Area under the ROC curve: the share of (present, absent) couples of scores in which the
    present one is higher; equal ones count half. It is nan if either list is empty."""
    present, absent = (np.sort(np.asarray(x, dtype=np.float64)) for x in (present, absent))
    if not len(present) or not len(absent):
        return float("nan")
    below = np.searchsorted(absent, present, "left")
    not_above = np.searchsorted(absent, present, "right")
    return float((below + not_above).sum() / (2 * len(present) * len(absent)))
