"""Episode mappers turn the plan of an episode (images, classes) into its pixels and masks.

An ``EPISODE_MAPPER`` is built as ``NAME(cfg, source)`` from a ``Source``; one of targets without
references from the name of a loaded dataset. ``plan["seed"]`` decides everything random that the
plan leaves open. Training mappers are ``semantic`` and ``instance``. An episode is a dict:

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

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from detectron2.config import CfgNode
from detectron2.utils.registry import Registry

from ...structures.episode import Reference, Target
from ...structures.picture import Picture
from ...structures.view import InputSpec, check_size
from ..augmentation.feature_cache import FeatureCache
from ..index import Source
from ..records import File, class_masks, mask_file

AnyMapper = TypeVar("AnyMapper", bound="Mapper")

EPISODE_MAPPER_REGISTRY = Registry("EPISODE_MAPPER")
EPISODE_MAPPER_REGISTRY.__doc__ = "Classes or functions (cfg, source) → ``Mapper``, by name."


class Mapper:
    """Maps an item of a loader to what the model reads; views that recur are looked up in
    ``cache``. ``labels`` are the values that label maps may hold, if the evaluator reads them
    (None: any); ``tells_more``: an item shows more damage than its files do, see ``health.verify``.
    """

    cache: FeatureCache | None = None
    labels: frozenset[int] | None = None
    tells_more: bool = False

    def with_cache(self: AnyMapper, cache: FeatureCache | None) -> AnyMapper:
        """The mapper itself; it looks views up in a cache from now on."""
        self.cache = cache
        return self

    def files(self, item: Any) -> Iterable[File]:
        """The files that an item of a test loader reads; see ``health.verify``."""
        raise NotImplementedError(f"{type(self).__name__} maps no items of test loaders")

    def __call__(self, item: Any) -> dict[str, Any]:
        raise NotImplementedError


class TrainingMapper(Mapper):
    """Draws plans from a dataset's ``records`` and maps them to episodes of training. ``recurs``:
    the same view of an image is asked for again; ``most_entities`` of an episode, or None if
    unknown."""

    dataset: str
    records: Sequence[dict[str, Any]]
    recurs: bool = False
    most_entities: int | None = None

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """The plan of an episode: numbers of images and classes, no pixels."""
        raise NotImplementedError


class EpisodeMapper(Mapper):
    """What mappers of a dataset's records share: readers and the plain view. Of the source only
    what workers need is kept."""

    def __init__(self, cfg: CfgNode, source: Source) -> None:
        self.cfg = cfg
        self.dataset = source.name
        self.records = source.records
        self.names = source.names
        self.input = InputSpec.from_config(cfg)

    def read(self, image_index: int) -> tuple[dict[str, Any], Picture]:
        """Dataset dict and ``Picture``."""
        record = self.records[image_index]
        return record, Picture(record["file_name"], self.cache)

    def read_classes(
        self, image_index: int, class_ids: Sequence[int]
    ) -> tuple[dict[str, Any], Picture, np.ndarray, np.ndarray | None]:
        """Dataset dict, ``Picture``, bool masks (N, H, W), bool ignore (H, W) or None. ValueError:
        naming both files and sizes, if masks and picture differ in size."""
        record, picture = self.read(image_index)
        size = picture.size  # before the masks: an unreadable picture is the first thing to name
        masks, ignore = class_masks(record, class_ids)
        check_size(masks, size, mask_file(record), record["file_name"])
        return record, picture, masks, ignore

    def header(self, image_index: int, record: Mapping[str, Any], picture: Picture) -> Target:
        """The fields of an episode that name its target."""
        return {
            "file_name": record["file_name"],
            "image_id": record.get("image_id", image_index),
            "height": picture.size[0],
            "width": picture.size[1],
        }

    def reference(
        self, record: Mapping[str, Any], view: Mapping[str, Any], entity_ids: Sequence[int]
    ) -> Reference:
        """A reference from its view, with its soft ``masks`` (n, h, w). ValueError: naming the file
        and the entity, if a mask is empty."""
        for entity_id, weight in zip(entity_ids, view["masks"].sum((1, 2)), strict=True):
            if weight <= 0:
                raise ValueError(
                    f"the reference {record['file_name']} shows nothing of entity {entity_id} of "
                    f"dataset {self.dataset!r}: its mask in {mask_file(record)} is empty"
                )
        return {**view, "entity_ids": list(entity_ids), "file_name": record["file_name"]}

    def plain_reference(self, image_index: int, class_id: int) -> Reference:
        """A reference of one class in its plain view (``InputSpec.reference``)."""
        record, picture, masks, _ = self.read_classes(image_index, [class_id])
        return self.reference(record, self.input.reference(picture, masks), [class_id])
