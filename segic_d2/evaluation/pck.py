"""PCK: the percentage of key points that are found close enough to the truth."""

import itertools
from collections import OrderedDict

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

ALPHAS = (0.05, 0.1, 0.15)


def correct_points(found, truth, box, alphas=ALPHAS):
    """Find the correct points: no farther from the truth than α × the longer side of the box.

    Args:
        found, truth: (k, 2), px of one image; box: (4,), xyxy of the object in it, px.

    Returns:
        bool array (k, len(alphas)).
    """
    found, truth, box = (np.asarray(x, dtype=np.float64) for x in (found, truth, box))
    distance = np.linalg.norm(found - truth, axis=1)
    return distance[:, None] <= np.asarray(alphas) * max(box[2] - box[0], box[3] - box[1])


class PCKEvaluator(DatasetEvaluator):
    """PCK at several α, per image and per point, of all pairs and of each category.

    "image" is the mean over pairs of the share of a pair's points that are correct (the numbers of
    most papers); "point" is the share of all points of all pairs.
    """

    def __init__(self, alphas=ALPHAS):
        self.alphas = alphas
        self.reset()

    def reset(self):
        self._pairs = {}

    def process(self, inputs, outputs):
        """Count a batch.

        Args:
            inputs: items of ``PairMapper``: ``pair``, ``category``, ``target_keypoints``, ``box``.
            outputs: one dict per pair with ``keypoints`` (k, 2), px of the target's own file.

        Raises:
            ValueError: a target, which is named, has another number of points.
        """
        for x, out in zip(inputs, outputs, strict=True):
            if out["keypoints"].shape != x["target_keypoints"].shape:
                raise ValueError(
                    f"{x.get('file_name')}: {len(out['keypoints'])} points were found, "
                    f"{len(x['target_keypoints'])} asked for"
                )
            right = correct_points(
                out["keypoints"].cpu(), x["target_keypoints"], x["box"], self.alphas
            )
            counts = [len(right), *right.sum(0).tolist()]
            self._pairs[int(x["pair"])] = (x["category"], counts)

    def state_dict(self):
        """All counts so far, as values of JSON."""
        return {"pairs": [[pair, *counted] for pair, counted in self._pairs.items()]}

    def load_state_dict(self, state):
        """Go on from the counts of ``state_dict``."""
        self._pairs = {int(pair): (category, counts) for pair, category, counts in state["pairs"]}

    def evaluate(self):
        """Percentages {"pck": {"PCK@0.1_image", "PCK@0.1_point", …, "pairs", "points"}}.

        Figures per category are named "PCK@0.1_image-cat"; Detectron2's printed table leaves them
        out. The result is None on all but the main process.

        Raises:
            ValueError: no pair was evaluated.
        """
        comm.synchronize()
        parts = comm.gather(self._pairs)
        if not comm.is_main_process():
            return None
        pairs = dict(itertools.chain.from_iterable(p.items() for p in parts))
        if not pairs:
            raise ValueError("no pair was evaluated")
        pairs = [pairs[number] for number in sorted(pairs)]
        result = self._percentages([counts for _, counts in pairs])
        result["pairs"] = len(pairs)
        result["points"] = sum(counts[0] for _, counts in pairs)
        for category in sorted({c for c, _ in pairs}):
            own = self._percentages([counts for c, counts in pairs if c == category])
            result.update({f"{key}-{category}": value for key, value in own.items()})
        return OrderedDict(pck=result)

    def _percentages(self, counts):
        counts = np.asarray(counts, dtype=np.int64)  # (pairs, 1 + alphas)
        points, right = counts[:, :1], counts[:, 1:]
        per_image, per_point = (right / points).mean(0), right.sum(0) / points.sum()
        result = OrderedDict()
        for i, alpha in enumerate(self.alphas):
            result[f"PCK@{alpha:g}_image"] = 100 * float(per_image[i])
            result[f"PCK@{alpha:g}_point"] = 100 * float(per_point[i])
        return result
