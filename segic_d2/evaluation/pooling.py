"""Integer counts per class, collected from all processes. Each episode counts once.

Counts are integers and every episode is counted on its own. So results do not depend on how the
episodes were split over processes.
"""

import itertools

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm


class EpisodeCounts(DatasetEvaluator):
    """Base of evaluators that pool counts over one-shot test episodes.

    Args:
        dataset_name: registered dataset, for the class names.
        output_dir: where results are written; None: nowhere.
    """

    def __init__(self, dataset_name, output_dir=None):
        self.dataset_name, self.output_dir = dataset_name, output_dir
        self.reset()

    def reset(self):
        self._counts = {}

    def process(self, inputs, outputs):
        """Count a batch.

        Args:
            inputs: test episodes with ``episode``, ``entities``, ``gt_masks`` bool (N, H, W) and
                optional ``gt_ignore`` bool (H, W).
            outputs: one dict per episode, with maps (N, H, W) at the target's own size.

        Raises:
            ValueError: an episode without ground truth, or an output of another shape.
        """
        for x, out in zip(inputs, outputs, strict=True):
            truth = x.get("gt_masks")
            if truth is None:
                raise ValueError(f"{x.get('file_name')}: the episode has no gt_masks to compare to")
            maps = out.get(self.key)
            shape = None if maps is None else tuple(maps.shape)
            if shape != tuple(truth.shape):
                raise ValueError(
                    f"{x.get('file_name')}: output {self.key!r} has shape {shape}, "
                    f"the ground truth {tuple(truth.shape)}"
                )
            known = x.get("gt_ignore")
            known = truth.new_ones(truth.shape[1:]) if known is None else ~known
            self._counts[x["episode"]] = [
                (int(e["id"]), self.count(m.cpu()[known], t.cpu()[known]))
                for e, m, t in zip(x["entities"], maps, truth, strict=True)
            ]

    def state_dict(self):
        """All counts so far, as arrays."""
        rows = [(n, c, v) for n, entities in self._counts.items() for c, v in entities]
        episodes, classes, counts = zip(*rows, strict=True) if rows else ((), (), ())
        return {
            "all_episodes": np.array(list(self._counts)),  # also those without entities
            "episodes": np.array(episodes),
            "classes": np.array(classes, dtype=np.int64),
            "counts": np.array(counts),
        }

    def load_state_dict(self, state):
        """Go on from the counts of ``state_dict``."""
        self._counts = {n: [] for n in state["all_episodes"].tolist()}
        rows = state["episodes"].tolist(), state["classes"].tolist(), state["counts"]
        for episode, class_id, counts in zip(*rows, strict=True):
            self._counts[episode].append((class_id, counts))

    def gather(self):
        """{class id: summed counts} over all processes; None on all but the main one."""
        comm.synchronize()
        parts = comm.gather(self._counts)
        if not comm.is_main_process():
            return None
        episodes = dict(itertools.chain.from_iterable(p.items() for p in parts))
        self.episodes = len(episodes)
        totals = {}
        for entity, counts in itertools.chain.from_iterable(episodes.values()):
            totals[entity] = totals[entity] + counts if entity in totals else counts
        if not totals:
            raise ValueError(f"no episode of {self.dataset_name} was evaluated")
        return dict(sorted(totals.items()))

    def class_name(self, class_id):
        meta = MetadataCatalog.get(self.dataset_name)
        names = meta.get("thing_classes") or meta.get("stuff_classes") or ()
        return names[class_id] if class_id < len(names) else str(class_id)
