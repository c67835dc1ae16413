"""References of single objects for one-shot instance segmentation. The mask is one object, because
training shows objects and not the union of a class: the largest of its class in its image."""

import re
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode

from ...structures.episode import Reference
from ...structures.view import check_size
from ...utils.files import AnyPath
from ..augmentation.feature_cache import FeatureCache
from ..index import load_records
from ..mappers.base import EpisodeMapper
from ..records import instance_masks, mask_file, usable_annotations
from .plan import cut_to_readable, plan_references

COCO_FILE = re.compile(r"(?:COCO_\w+_)?(\d{12})")  # one picture has a name in 2014, another in 2017


def picture_key(file_name: AnyPath) -> str:
    """A key that is the same for all files of one picture: COCO's number, else the path."""
    coco = COCO_FILE.fullmatch(Path(file_name).stem)
    return coco[1] if coco else str(Path(file_name).absolute())


class InstanceReferences:
    """Holds ``TEST.SHOTS`` single objects of every class, drawn with ``TEST.SEED``
    (``plan_references``) from images that the target dataset lacks, and decoded when they are asked
    for. A class with fewer images has fewer shots. A damaged picture is reported
    (``health.damaged``), and the next one of its class takes its place.

    ``names`` is {class id: name} of the classes that have references, ``files`` {class id: image
    files, one per shot}, ``missing`` the names of the other classes, which are left out.
    ValueError: a dataset without objects, or no class of the target dataset in other images.
    """

    def __init__(
        self,
        cfg: CfgNode,
        dataset_names: Sequence[str],
        target_dataset: str,
        cache: FeatureCache | None = None,
    ) -> None:
        targets = {picture_key(r["file_name"]) for r in load_records(target_dataset)}

        def usable(source, image):
            if source.counts is None:
                raise ValueError(
                    f"dataset {source.name!r}: {source.files[image]} has no 'annotations', but "
                    "references of instances are single objects"
                )
            return picture_key(source.files[image]) not in targets

        plan = plan_references(cfg, dataset_names, target_dataset, usable)
        plan, _ = cut_to_readable(cfg, plan, cfg.TEST.SHOTS)
        self.mappers = [EpisodeMapper(cfg, source).with_cache(cache) for source in plan.sources]
        self.missing = [name for i, name in plan.names.items() if i not in plan.picks]
        self.names = {i: plan.names[i] for i in plan.picks}
        self.shots = plan.picks
        self.files = {c: [plan.file(p) for p in picks] for c, picks in plan.picks.items()}

    def of_class(self, class_id: int) -> list[Reference]:
        """The references of a class, as in ``mappers.base``, in plain views."""
        return [self._reference(class_id, *shot) for shot in self.shots[class_id]]

    def _reference(self, class_id, number, image, own):
        mapper = self.mappers[number]
        record, picture = mapper.read(image)
        size = picture.size
        objects = enumerate(usable_annotations(record))
        rows = [i for i, a in objects if a["category_id"] == own]
        masks, _ = instance_masks(record, rows)
        check_size(masks, size, mask_file(record), record["file_name"])
        largest = masks.sum((1, 2)).argmax()
        mask = masks[largest : largest + 1]
        return mapper.reference(record, mapper.input.reference(picture, mask), [class_id])
