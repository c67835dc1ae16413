"""The mapper of one-shot (or K-shot) test episodes of registered datasets."""

from collections.abc import Iterable
from typing import Any

import torch

from ...structures.episode import Episode
from ..episodes import derive_seed
from ..records import File, record_files
from .base import EpisodeMapper
from .target import masks_need_pixels


class OneShotMapper(EpisodeMapper):
    """Maps an entry of ``one_shot_episodes`` to a test episode of plain views. The truth stays at
    the target's own size, where the metrics are computed. The class name is always given."""

    def __call__(self, plan: dict[str, Any]) -> Episode:
        class_id = plan["class"]
        record, picture, masks, ignore = self.read_classes(plan["target"], [class_id])
        episode = {
            **self.header(plan["target"], record, picture),
            **self.input.target(picture, with_pixels=masks_need_pixels(self.cfg)),
            "task": "semantic",
            "seed": derive_seed(self.cfg.TEST.SEED, plan["episode"]),
            "episode": plan["episode"],
            "entities": [{"id": class_id, "name": self.names[class_id]}],
            "references": [self.plain_reference(i, class_id) for i in plan["references"]],
            "gt_masks": torch.from_numpy(masks),
        }
        if ignore is not None:
            episode["gt_ignore"] = torch.from_numpy(ignore)
        return episode

    def files(self, plan: dict[str, Any]) -> Iterable[File]:
        for image in (plan["target"], *plan["references"]):
            yield from record_files(self.records[image])
