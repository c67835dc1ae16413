"""What J and F over a video's frames say of an object, and of all objects of a data set.

Shape shorthand: n scored frames of an object. Figures are percentages, means of float64.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

BINS = 4  # parts of an object's time, of which decay compares the first and the last


@dataclass(frozen=True)
class ObjectScore:
    """One object's J and F, each float64 (n,) in [0, 1], at its scored ``frames``, numbers of the
    video's frames from 0."""

    frames: tuple[int, ...]
    j: np.ndarray
    f: np.ndarray

    def summary(self) -> dict[str, float]:
        """Percentages under the official names: "J&F-Mean", and "J-Mean", "J-Recall", "J-Decay",
        the same of F."""
        names = ("Mean", "Recall", "Decay")
        found = {
            f"{letter}-{name}": 100 * value
            for letter, values in (("J", self.j), ("F", self.f))
            for name, value in zip(names, statistics(values), strict=True)
        }
        return {"J&F-Mean": (found["J-Mean"] + found["F-Mean"]) / 2, **found}


VideoScore = dict[int, ObjectScore]  # by object id


def statistics(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, recall and decay of one object's values (n,): recall is the share of values above 0.5,
    decay the mean of the first quarter less that of the last. Neighbouring quarters share a frame.
    The official tool holds the quarters' edges in 8 bits, so that its decay of more than 256 frames
    is wrong or no number; here it is right. ValueError: no value."""
    if not len(values):
        raise ValueError("an object without a scored frame has no mean")
    edges = np.round(np.linspace(1, len(values), BINS + 1) + 1e-10).astype(int) - 1
    first, last = values[: edges[1] + 1], values[edges[-2] :]
    return float(values.mean()), float((values > 0.5).mean()), float(first.mean() - last.mean())


def summarize(videos: Mapping[str, Mapping[int, ObjectScore]]) -> dict[str, float]:
    """Means over the objects of all videos, not over videos: the percentages of
    ``ObjectScore.summary``, then the numbers of "objects" and "videos". The order of the videos
    does not matter. ValueError: there is no object."""
    rows = [videos[v][k].summary() for v in sorted(videos) for k in sorted(videos[v])]
    if not rows:
        raise ValueError(f"no object was scored in {len(videos)} videos")
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {**means, "objects": len(rows), "videos": len(videos)}
