"""PCK: the percentage of key points that are found close enough to the truth."""

import itertools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from .pooling import Dicts, Report

ALPHAS = (0.05, 0.1, 0.15)


def correct_points(
    found: npt.ArrayLike, truth: npt.ArrayLike, box: npt.ArrayLike, alphas: Sequence[float] = ALPHAS
) -> np.ndarray:
    """Points no farther from the truth than α × the longer side of the box: bool (k, alphas), of
    ``found`` and ``truth`` (k, 2) and ``box`` (4,) of the object, xyxy, all px of one image."""
    a, b, corners = (np.asarray(x, dtype=np.float64) for x in (found, truth, box))
    distance = np.linalg.norm(a - b, axis=1)
    longer = max(corners[2] - corners[0], corners[3] - corners[1])
    return distance[:, None] <= np.asarray(alphas) * longer


class PCKEvaluator(DatasetEvaluator):
    """PCK at several α, of all pairs and of each category: "image" is the mean over pairs of their
    shares of correct points (as in most papers); "point" is the share of all points."""

    def __init__(self, alphas: Sequence[float] = ALPHAS) -> None:
        self.alphas = alphas
        self.reset()

    def reset(self) -> None:
        self._pairs: dict[int, tuple[str, list[int]]] = {}

    def process(self, inputs: Dicts, outputs: Dicts) -> None:
        """Count a batch of ``PairMapper`` and dicts with ``keypoints`` (k, 2), px of the target's
        own file. ValueError: a target, which is named, has another number of points."""
        for x, out in zip(inputs, outputs, strict=True):
            points, asked = out["keypoints"], x["target_keypoints"]
            if points.shape != asked.shape:
                raise ValueError(
                    f"{x.get('file_name')}: {len(points)} points were found, {len(asked)} asked for"
                )
            right = correct_points(points.cpu(), asked, x["box"], self.alphas)
            counts = [len(right), *right.sum(0).tolist()]
            self._pairs[int(x["pair"])] = (x["category"], counts)

    def state_dict(self) -> dict[str, Any]:
        """All counts so far, as values of JSON."""
        return {"pairs": [[pair, *counted] for pair, counted in self._pairs.items()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._pairs = {int(pair): (category, counts) for pair, category, counts in state["pairs"]}

    def evaluate(self) -> Report | None:
        """Percentages {"pck": {"PCK@0.1_image", "PCK@0.1_point", …, "pairs", "points"}}; None on
        all but the main process. Figures per category are named "PCK@0.1_image-cat"; Detectron2's
        printed table leaves them out. ValueError: no pair was evaluated."""
        comm.synchronize()
        parts = comm.gather(self._pairs)
        if not comm.is_main_process():
            return None
        found = dict(itertools.chain.from_iterable(p.items() for p in parts))
        if not found:
            raise ValueError("no pair was evaluated")
        pairs = [found[number] for number in sorted(found)]
        result = self._percentages([counts for _, counts in pairs])
        result["pairs"] = len(pairs)
        result["points"] = sum(counts[0] for _, counts in pairs)
        for category in sorted({c for c, _ in pairs}):
            own = self._percentages([counts for c, counts in pairs if c == category])
            result.update({f"{key}-{category}": value for key, value in own.items()})
        return OrderedDict(pck=result)

    def _percentages(self, counts: Sequence[Sequence[int]]) -> OrderedDict[str, Any]:
        table = np.asarray(counts, dtype=np.int64)  # (pairs, 1 + alphas)
        points, right = table[:, :1], table[:, 1:]
        per_image, per_point = (right / points).mean(0), right.sum(0) / points.sum()
        result: OrderedDict[str, Any] = OrderedDict()
        for i, alpha in enumerate(self.alphas):
            result[f"PCK@{alpha:g}_image"] = 100 * float(per_image[i])
            result[f"PCK@{alpha:g}_point"] = 100 * float(per_point[i])
        return result
