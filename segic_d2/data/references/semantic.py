"""References of all classes of a dataset, for evaluation with one fixed context."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, build_detection_test_loader
from detectron2.data.samplers import InferenceSampler
from torch.utils.data import DataLoader

from ...structures.episode import Reference
from ..augmentation.feature_cache import FeatureCache
from ..mappers.base import EpisodeMapper
from ..mappers.one_shot import OneShotMapper
from .plan import ReferencePlan


class ReferenceGroups:
    """Maps a group of images to their references, one per image with all classes that it shows;
    ``INPUT.REFERENCE_ZOOM`` cuts about all of these classes together."""

    def __init__(self, mappers: Sequence[EpisodeMapper]) -> None:
        self.mappers = mappers

    def __call__(self, group: Sequence[tuple[int, int, Any]]) -> list[Reference]:
        references = []
        for number, image, entities in group:
            mapper, (own_ids, entity_ids) = self.mappers[number], zip(*entities, strict=True)
            record, picture, masks, _ = mapper.read_classes(image, own_ids)
            view = mapper.input.reference(picture, masks)
            references.append(mapper.reference(record, view, entity_ids))
        return references


def build_reference_loader(
    cfg: CfgNode, plan: ReferencePlan, shots: int, cache: FeatureCache | None = None
) -> DataLoader[Any]:
    """Build a loader of a plan's references in groups (lists) of ``MODEL.SEGIC.IMAGE_CHUNK``, so
    hundreds of pictures are never held at once. Processes share the groups, which do not depend on
    their number. Each image comes once, with all n classes that it stands for: ``masks`` (n, h, w),
    n ``entity_ids``. ``shots`` is what the plan is cut to; shot k of class c is the entity c·shots
    + k."""
    images = {}
    for class_id, picks in plan.picks.items():
        for shot, (number, image, own_id) in enumerate(picks):
            images.setdefault((number, image), []).append((own_id, class_id * shots + shot))
    items = [(*image, entities) for image, entities in images.items()]
    size = cfg.MODEL.SEGIC.IMAGE_CHUNK
    groups = [items[i : i + size] for i in range(0, len(items), size)]
    mappers = [OneShotMapper(cfg, source).with_cache(cache) for source in plan.sources]
    return build_detection_test_loader(
        DatasetFromList(groups, copy=False),
        mapper=ReferenceGroups(mappers),
        sampler=InferenceSampler(len(groups)),
        batch_size=1,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=itemgetter(0),
    )
