"""Episode mappers turn the plan of an episode (images, classes) into its pixels and masks.

An ``EPISODE_MAPPER`` is built as ``NAME(cfg, source)`` from a ``Source``. A training mapper plans
with ``draw(rng) -> plan`` and executes with ``mapper(plan) -> episode``; ``plan["seed"]`` decides
everything random that is left. Training mappers are ``semantic`` and ``instance``; ``one_shot``,
``few_shot``, ``target``, ``labelled_target`` and ``pairs`` serve evaluations.

An episode is a dict:

- ``image`` tensor (3, H, W), RGB, no side above ``INPUT.CANVAS``, not padded; uint8, or float32 in
  0–255 where ``INPUT.RESIZE`` is "float". With a feature cache there is also ``feature_key``, the
  key under which the cache lacks this view; where the cache has it, ``features`` (C, g, g) and
  ``image_size`` (H, W) stand in place of both. References are given in the same way;
- ``height``, ``width`` of the file as displayed; ``file_name``; ``image_id``;
- ``task`` "semantic" or "instance"; ``seed`` int below 2**63, for the model's own draws;
- ``entities``: N dicts ``id`` (contiguous class id; 0…N-1 in instance episodes, which add
  ``category``) and ``name`` (None: no text); optional ``reversed_name``, which is drawn apart and
  is the name where references and target change their roles;
- ``references``: dicts ``image`` (3, h, w), ``masks`` float32 in [0, 1] (n, h, w), each with a
  positive sum, ``entity_ids`` (n ids), ``file_name``; training: optional ``ignore`` bool (h, w);
- training: ``masks`` bool (N, H, W), empty for an entity that the target does not show, and, where
  known, ``ignore`` bool (H, W);
- one-shot test: ``episode`` (its number), ``gt_masks`` bool (N, height, width) and, where known,
  ``gt_ignore`` bool (height, width).
"""

from detectron2.utils.registry import Registry

from ...structures.picture import Picture
from ...structures.view import InputSpec, check_size
from ..records import class_masks, mask_file

EPISODE_MAPPER_REGISTRY = Registry("EPISODE_MAPPER")
EPISODE_MAPPER_REGISTRY.__doc__ = "Functions (cfg, source) → episode mapper, by name."


class EpisodeMapper:
    """What all mappers share: the records, the names, the readers and the plain view.

    Args:
        cfg: config.
        source: ``Source``; only what workers need is kept.

    Attributes:
        cache: ``FeatureCache`` where views that recur are looked up, or None.
        recurs: whether training asks for the same view of an image again.
        most_entities: the most entities of a training episode, or None if unknown.
    """

    cache, recurs, most_entities = None, False, None

    def __init__(self, cfg, source):
        self.cfg = cfg
        self.dataset = source.name
        self.records = source.records
        self.names = source.names
        self.input = InputSpec.from_config(cfg)

    def read(self, image_index):
        """Dataset dict and ``Picture``."""
        record = self.records[image_index]
        return record, Picture(record["file_name"], self.cache)

    def read_classes(self, image_index, class_ids):
        """Dataset dict, ``Picture``, bool masks (N, H, W), bool ignore (H, W) or None.

        Raises:
            ValueError: naming both files and sizes, if masks and picture differ in size.
        """
        record, picture = self.read(image_index)
        size = picture.size  # before the masks: an unreadable picture is the first thing to name
        masks, ignore = class_masks(record, class_ids)
        check_size(masks, size, mask_file(record), record["file_name"])
        return record, picture, masks, ignore

    def header(self, image_index, record, picture):
        """The fields of an episode that name its target."""
        return {
            "file_name": record["file_name"],
            "image_id": record.get("image_id", image_index),
            "height": picture.size[0],
            "width": picture.size[1],
        }

    def reference(self, record, view, entity_ids):
        """A reference from its view, with its soft ``masks`` (n, h, w).

        Raises:
            ValueError: naming the file and the entity, if a mask is empty.
        """
        for entity_id, weight in zip(entity_ids, view["masks"].sum((1, 2)), strict=True):
            if weight <= 0:
                raise ValueError(
                    f"the reference {record['file_name']} shows nothing of entity {entity_id} of "
                    f"dataset {self.dataset!r}: its mask in {mask_file(record)} is empty"
                )
        return {
            **view,
            "entity_ids": list(entity_ids),
            "file_name": record["file_name"],
        }

    def plain_reference(self, image_index, class_id):
        """A reference of one class in its plain view (``InputSpec.reference``)."""
        record, picture, masks, _ = self.read_classes(image_index, [class_id])
        return self.reference(record, self.input.reference(picture, masks), [class_id])
