"""What mappers of training share: they map plans of our loader, and records of Detectron2's own.

``build_detection_train_loader(cfg, mapper=SemanticMapper(cfg, True))`` samples records of the one
dataset in ``DATASETS.TRAIN`` and calls the mapper with each, as it calls a ``DatasetMapper``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from ...config.keys import check_config
from ...structures.episode import Episode
from ..index import Source
from .base import EpisodeMapper, TrainingMapper

_KEY = ("file_name", "mask_file_name", "sem_seg_file_name", "image_id", "category_id")


class RecordMapper(EpisodeMapper, TrainingMapper):
    """Makes an episode of a plan, or, built of True, of a plain record, which becomes the target.

    Of a record, classes (or objects), references and augmentations are drawn by numpy's global
    generator, which Detectron2 seeds in every worker. A record that no episode can be made of
    (no object with a mask, no class that another image shows) gives None, and Detectron2's loader
    goes on with another. ValueError: a record of another dataset.
    """

    def __init__(self, cfg: CfgNode, source: Source | bool) -> None:
        self.rows: dict[tuple[str, ...], int] | None = None  # of the records, where these come
        if isinstance(source, bool):
            source = self._only_source(cfg, source)
            self.rows = {_key(record): row for row, record in enumerate(source.records)}
        super().__init__(cfg, source)
        self.read_source(source)

    def read_source(self, source: Source) -> None:
        """Take from the source what ``draw`` needs."""
        raise NotImplementedError

    def draw(self, rng: np.random.Generator, target: int | None = None) -> dict[str, Any]:
        """The plan of an episode, of a given target or of any."""
        raise NotImplementedError

    def shows(self, image_index: int) -> bool:
        """Whether an image can be the target of an episode."""
        raise NotImplementedError

    def episode(self, plan: dict[str, Any]) -> Episode:
        """The pixels and masks of a plan with its ``seed``."""
        raise NotImplementedError

    def __call__(self, item: dict[str, Any]) -> Episode | None:
        plan = item if self.rows is None else self._plan(item)
        return None if plan is None else self.episode(plan)

    def _plan(self, record):
        row = self.rows.get(_key(record))
        if row is None:
            raise ValueError(f"{record['file_name']} is no image of dataset {self.dataset!r}")
        if not self.shows(row):
            return None
        rng = np.random.default_rng(np.random.randint(2**31, size=4))
        seed = int(rng.integers(2**63))
        return {**self.draw(rng, row), "seed": seed}

    def _only_source(self, cfg, is_train):
        call = f"{type(self).__name__}(cfg, {is_train})"
        if not is_train:
            raise ValueError(
                f"{call}: of training alone; build_one_shot_loader makes test episodes"
            )
        check_config(cfg, "INPUT", "DATASETS")
        names = tuple(cfg.DATASETS.TRAIN)
        if len(names) != 1:
            raise ValueError(
                f"{call} maps one dataset, DATASETS.TRAIN has {len(names)}: {names}; "
                "segic_d2.build_train_loader(cfg) mixes several"
            )
        return Source(names[0])


def _key(record: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(record.get(name, "")) for name in _KEY)
