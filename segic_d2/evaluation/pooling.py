"""Integer counts per class, collected from all processes. Each episode is counted once and on its
own, so that results do not depend on how the episodes were split over processes."""

import itertools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

Dicts = Sequence[Mapping[str, Any]]  # a batch
Report = OrderedDict[str, OrderedDict[str, Any]]  # {task: {metric: value}}


class EpisodeCounts(DatasetEvaluator):
    """Base of evaluators that pool counts over one-shot test episodes. ``key`` names the maps in an
    output, the dataset its classes; ``episodes`` is how many were counted, after ``gather``."""

    key: str

    def __init__(self, dataset_name: str) -> None:
        self.dataset_name, self.episodes = dataset_name, 0
        self.reset()

    def reset(self) -> None:
        self._counts: dict[int, list[tuple[int, Any]]] = {}

    def count(self, values: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
        """The counts of one entity, int64, of the known pixels of its map and truth, (P,) each."""
        raise NotImplementedError

    def process(self, inputs: Dicts, outputs: Dicts) -> None:
        """Count test episodes with ``episode``, ``entities``, ``gt_masks`` bool (N, H, W) and
        optional ``gt_ignore`` bool (H, W); outputs are dicts with maps (N, H, W) at the target's
        own size. ValueError: an episode without ground truth, or an output of another shape."""
        for x, out in zip(inputs, outputs, strict=True):
            truth: torch.Tensor | None = x.get("gt_masks")
            if truth is None:
                raise ValueError(f"{x.get('file_name')}: the episode has no gt_masks to compare to")
            maps: Any = out.get(self.key)
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

    def state_dict(self) -> dict[str, Any]:
        """All counts so far, as arrays."""
        rows = [(n, c, v) for n, entities in self._counts.items() for c, v in entities]
        episodes, classes, counts = zip(*rows, strict=True) if rows else ((), (), ())
        return {
            "all_episodes": np.array(list(self._counts)),  # also those without entities
            "episodes": np.array(episodes),
            "classes": np.array(classes, dtype=np.int64),
            "counts": np.array(counts),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._counts = {n: [] for n in state["all_episodes"].tolist()}
        rows = state["episodes"].tolist(), state["classes"].tolist(), state["counts"]
        for episode, class_id, counts in zip(*rows, strict=True):
            self._counts[episode].append((class_id, counts))

    def gather(self) -> dict[int, Any] | None:
        """{class id: summed counts} over all processes; None on all but the main one."""
        comm.synchronize()
        parts = comm.gather(self._counts)
        if not comm.is_main_process():
            return None
        episodes = dict(itertools.chain.from_iterable(p.items() for p in parts))
        self.episodes = len(episodes)
        totals: dict[int, Any] = {}
        for entity, counts in itertools.chain.from_iterable(episodes.values()):
            totals[entity] = totals.get(entity, 0) + counts
        if not totals:
            raise ValueError(f"no episode of {self.dataset_name} was evaluated")
        return dict(sorted(totals.items()))

    def class_name(self, class_id: int) -> str:
        meta = MetadataCatalog.get(self.dataset_name)
        names = meta.get("thing_classes") or meta.get("stuff_classes") or ()
        return names[class_id] if class_id < len(names) else str(class_id)
