"""Training episodes of classes: a target, and other images of its classes as references."""

import logging
from typing import Any

import numpy as np
import torch

from ...structures.episode import Episode
from ..augmentation.transforms import apply_labels, semantic_augmentations
from ..augmentation.view_pool import ViewPool
from ..augmentation.views import draw_showing
from ..episodes import REFERENCE, TARGET, TEXT, derive_seed, draw_semantic, generator
from ..index import Source
from .record import RecordMapper

logger = logging.getLogger(__name__)


class SemanticMapper(RecordMapper):
    """Makes class-wise episodes. Target and references are augmented independently.

    A view that lost its object is drawn again, up to ``INPUT.MAX_REDRAWS`` times. After that a
    reference shows its whole image, and a target stays without the object. With
    ``INPUT.SEMANTIC.SQUARE_REFERENCE`` references are jittered onto a square of r·CANVAS px, as in
    the released code. An absent first entity (``INPUT.ABSENT_PROB``) has an empty mask. It is built
    of a ``Source``, or, under Detectron2's own loader, of True (``RecordMapper``). ValueError: a
    class has a single image and ``DATASETS.SINGLE_IMAGE_CLASSES`` is ``"error"``.
    """

    def read_source(self, source: Source) -> None:
        cfg = self.cfg
        self.pool = ViewPool(cfg)
        low, high = cfg.INPUT.SEMANTIC.SCALE  # up to 1, nothing is cropped: but for flips, one view
        self.recurs = self.pool.size > 0 or low == high <= 1
        self.index = source.class_index(cfg.DATASETS.SINGLE_IMAGE_CLASSES)
        self.absent_prob = cfg.INPUT.ABSENT_PROB
        if self.absent_prob and "neg_category_ids" in self.records[0]:
            self.absent_prob = 0.0
            logger.warning(
                "INPUT.ABSENT_PROB does not apply to dataset %r: its images are not annotated with "
                "all classes that they show",
                self.dataset,
            )
        found = self.index.most_classes + (self.absent_prob > 0)  # an absent one is one more
        self.most_entities = min(cfg.INPUT.SEMANTIC.MAX_ENTITIES, found)
        self.augmentations = semantic_augmentations(cfg)
        square = cfg.INPUT.SEMANTIC.SQUARE_REFERENCE
        self.reference_augmentations = semantic_augmentations(cfg, square)

    def shows(self, image_index: int) -> bool:
        return len(self.index.classes_of(image_index)) > 0

    def draw(self, rng: np.random.Generator, target: int | None = None) -> dict[str, Any]:
        options = self.cfg.INPUT.SEMANTIC
        return draw_semantic(
            rng,
            self.index,
            draw=options.DRAW,
            max_entities=options.MAX_ENTITIES,
            max_shots=options.MAX_SHOTS,
            absent_prob=self.absent_prob,
            target=target,
        )

    def episode(self, plan: dict[str, Any]) -> Episode:
        seed, classes = plan["seed"], plan["entities"]
        # two draws per entity: as usual, and when the roles are reversed
        names, reversed_names = (
            [self.names[c] if kept else None for c, kept in zip(classes, keep, strict=True)]
            for keep in generator(seed, TEXT).random((2, len(classes)))
            < self.cfg.INPUT.TEXT_KEEP_PROB
        )
        return {
            **self._target(plan["target"], classes, derive_seed(seed, TARGET)),
            "task": "semantic",
            "seed": seed,
            "entities": [
                {"id": c, "name": name, "reversed_name": reversed_name}
                for c, name, reversed_name in zip(classes, names, reversed_names, strict=True)
            ],
            "references": [
                self._reference(image, class_id, derive_seed(seed, REFERENCE, n))
                for n, (image, class_id) in enumerate(plan["references"])
            ],
        }

    def _target(self, image_index, classes, seed):
        record, picture, masks, ignore = self.read_classes(image_index, classes)
        shown = torch.from_numpy(masks.any((1, 2)))  # all but an absent entity
        soft, transforms = draw_showing(
            picture,
            masks,
            self.augmentations,
            self.pool.seeds(image_index, seed),
            visible=lambda soft: bool((soft[shown] >= 0.5).flatten(1).any(1).all()),
        )
        target = {
            **self.header(image_index, record, picture),
            **picture.view(transforms, self.recurs),
            "masks": soft >= 0.5,
        }
        if ignore is not None:
            target["ignore"] = apply_labels(transforms, ignore)
        return target

    def _reference(self, image_index, class_id, seed):
        record, picture, masks, ignore = self.read_classes(image_index, [class_id])
        seeds = self.pool.seeds(image_index, seed)
        soft, transforms = draw_showing(
            picture, masks, self.reference_augmentations, seeds, fallback=self.input.plain
        )
        view = picture.view(transforms, self.recurs)
        reference = self.reference(record, {**view, "masks": soft}, [class_id])
        if ignore is not None:
            reference["ignore"] = apply_labels(transforms, ignore)
        return reference
