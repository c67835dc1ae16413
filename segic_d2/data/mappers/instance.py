"""Training episodes of objects: two views of one image, one as target, one as reference."""

from typing import Any

import numpy as np
import torch

from ...structures.episode import Episode
from ...structures.view import apply_soft, check_size
from ..augmentation.transforms import instance_augmentations
from ..augmentation.view_pool import ViewPool
from ..episodes import draw_instance
from ..index import Source
from ..records import instance_masks, mask_file
from .record import RecordMapper


class InstanceMapper(RecordMapper):
    """Makes object-wise episodes from COCO-style annotations, of two independently augmented views.

    The objects are a random choice among those that both views show, as in the released code. If
    the views share no object, they are drawn again, up to ``INPUT.MAX_REDRAWS`` times; after that
    the whole image serves twice. It is built of a ``Source``, or, under Detectron2's own loader, of
    True (``RecordMapper``). ValueError: the dataset, which is named, has no object with a mask; or
    ``INPUT.VIEWS_POOL`` is 1, which would make both views the same.
    """

    def read_source(self, source: Source) -> None:
        cfg = self.cfg
        self.pool = ViewPool(cfg)
        self.recurs = self.pool.size > 0
        if self.pool.size == 1:
            raise ValueError(
                "INPUT.VIEWS_POOL is 1; instance episodes show two different views of an image, so "
                "it must be 0 (no pool) or at least 2"
            )
        if source.counts is None or not source.counts.any():
            raise ValueError(
                f"instance episodes need 'annotations' with a mask per object, which dataset "
                f"{source.name!r} lacks; give it another mapper in DATASETS.EPISODE_MAPPERS"
            )
        self.counts = source.counts
        self.most_entities = min(cfg.INPUT.INSTANCE.MAX_MASKS, int(source.counts.max()))
        self.augmentations = instance_augmentations(cfg)

    def shows(self, image_index: int) -> bool:
        return bool(self.counts[image_index])

    def draw(self, rng: np.random.Generator, target: int | None = None) -> dict[str, Any]:
        options, counts = self.cfg.INPUT.INSTANCE, self.counts
        limits = {"max_masks": options.MAX_MASKS, "cap": options.CAP}
        return draw_instance(rng, counts, **limits, target=target)

    def episode(self, plan: dict[str, Any]) -> Episode:
        record, picture = self.read(plan["target"])
        objects = _Objects(record, picture.size)
        for seeds in self.pool.pairs(plan["target"], plan["seed"]):
            target, reference = (picture.draw(self.augmentations, seed) for seed in seeds)
            shared = objects.shared(plan, target, reference, least=0.5)
            if shared:
                break
        else:
            target = reference = picture.draw(self.input.plain, 0)
            shared = objects.shared(plan, target, reference, least=0.0)
        categories, target_masks, reference_masks = zip(*shared, strict=True)
        shown = {**picture.view(reference, self.recurs), "masks": torch.cat(reference_masks)}
        return {
            **self.header(plan["target"], record, picture),
            **picture.view(target, self.recurs),
            "masks": torch.cat(target_masks),
            "task": "instance",
            "seed": plan["seed"],
            "entities": [
                {"id": i, "name": self.names[c], "category": c} for i, c in enumerate(categories)
            ],
            "references": [self.reference(record, shown, range(len(shared)))],
        }


class _Objects(dict):
    """The objects of one image. Each is decoded when it is first asked for."""

    def __init__(self, record, size):
        self.record, self.size = record, size

    def __missing__(self, index):
        mask, (category,) = instance_masks(self.record, [index])
        check_size(mask, self.size, mask_file(self.record), self.record["file_name"])
        self[index] = mask, category
        return self[index]

    def shared(self, plan, target, reference, least):
        """The first objects of a plan that both views show: (category, target mask, soft mask)."""
        found = []
        for index in plan["order"]:
            mask, category = self[index]
            views = []
            for transforms in (target, reference):
                views.append(apply_soft(transforms, mask))
                most = views[-1].max()
                if most < least or most <= 0:  # not shown
                    break
            else:
                found.append((category, views[0] >= 0.5, views[1]))
            if len(found) == plan["cap"]:
                break
        return found
