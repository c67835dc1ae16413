"""Training episodes of classes: a target, and other images of its classes as references."""

from .augmentation import apply_labels, semantic_augmentations
from .episode_mapper import EPISODE_MAPPER_REGISTRY, REFERENCE, TARGET, TEXT, EpisodeMapper
from .episodes import derive_seed, draw_semantic, generator
from .views import draw_showing, to_tensor


@EPISODE_MAPPER_REGISTRY.register()
def semantic(cfg, source):
    """See :class:`SemanticMapper`."""
    return SemanticMapper(cfg, source)


class SemanticMapper(EpisodeMapper):
    """Class-wise episodes; target and references are augmented independently.

    A view that lost its object is drawn again up to ``INPUT.MAX_REDRAWS`` times; then a reference
    takes its whole image, and a target stays without the object. With
    ``INPUT.SEMANTIC.SQUARE_REFERENCE`` references are jittered onto a square of r·CANVAS px, as in
    the released code, which took them to have the target's square shape.

    Raises:
        ValueError: naming class, image and dataset, if a class has a single image and
            ``DATASETS.SINGLE_IMAGE_CLASSES`` is ``"error"``.
    """

    def __init__(self, cfg, source):
        super().__init__(cfg, source)
        self.index = source.class_index(cfg.DATASETS.SINGLE_IMAGE_CLASSES)
        self.augmentations = semantic_augmentations(cfg)
        square = cfg.INPUT.SEMANTIC.SQUARE_REFERENCE
        self.reference_augmentations = semantic_augmentations(cfg, square)

    def draw(self, rng):
        options = self.cfg.INPUT.SEMANTIC
        return draw_semantic(
            rng,
            self.index,
            draw=options.DRAW,
            max_entities=options.MAX_ENTITIES,
            max_shots=options.MAX_SHOTS,
        )

    def __call__(self, plan):
        seed, classes = plan["seed"], plan["entities"]
        keep = generator(seed, TEXT).random(len(classes)) < self.cfg.INPUT.TEXT_KEEP_PROB
        return {
            **self._target(plan["target"], classes, derive_seed(seed, TARGET)),
            "task": "semantic",
            "seed": seed,
            "entities": [
                {"id": c, "name": self.names[c] if kept else None}
                for c, kept in zip(classes, keep, strict=True)
            ],
            "references": [
                self._reference(image, class_id, derive_seed(seed, REFERENCE, n))
                for n, (image, class_id) in enumerate(plan["references"])
            ],
        }

    def _target(self, image_index, classes, seed):
        record, image, masks, ignore = self.read_classes(image_index, classes)
        view, soft, transforms = draw_showing(
            image,
            masks,
            self.augmentations,
            seed,
            self.cfg.INPUT.MAX_REDRAWS,
            visible=lambda soft: bool((soft >= 0.5).flatten(1).any(1).all()),
        )
        target = {
            **self.header(image_index, record, image),
            "image": to_tensor(view),
            "masks": soft >= 0.5,
        }
        if ignore is not None:
            target["ignore"] = apply_labels(transforms, ignore)
        return target

    def _reference(self, image_index, class_id, seed):
        record, image, masks, _ = self.read_classes(image_index, [class_id])
        redraws = self.cfg.INPUT.MAX_REDRAWS
        view, soft, _ = draw_showing(
            image, masks, self.reference_augmentations, seed, redraws, fallback=self.plain
        )
        return self.reference(record, view, soft, [class_id])
