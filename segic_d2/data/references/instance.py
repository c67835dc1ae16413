"""References of single objects, class by class, for one-shot instance segmentation.

The mask of a reference is one object, because training shows objects and not the union of a class.
It is the largest object of its class in an image that is drawn with the seed.
"""

import re
from pathlib import Path

from ...structures.view import check_size
from ..index import load_records
from ..mappers.base import EpisodeMapper
from ..records import instance_masks, mask_file, usable_annotations
from .plan import cut_to_readable, plan_references

COCO_FILE = re.compile(r"(?:COCO_\w+_)?(\d{12})")  # one picture has a name in 2014, another in 2017


def picture_key(file_name):
    """A key that is the same for all files of one picture: COCO's number, else the path."""
    coco = COCO_FILE.fullmatch(Path(file_name).stem)
    return coco[1] if coco else str(Path(file_name).absolute())


class InstanceReferences:
    """Holds ``TEST.SHOTS`` single objects of every class, drawn with ``TEST.SEED``.

    Classes are matched by name across datasets; ids are those of the target dataset. Images that
    the target dataset has too are never references. A class with fewer images has fewer shots, and
    a class without any is left out, with a line in the log. A damaged picture is reported
    (``health.damaged``), and the next one of its class takes its place. Objects are decoded when
    they are asked for.

    Args:
        cfg: config.
        dataset_names: registered datasets with ``annotations`` to draw from.
        target_dataset: the dataset to be segmented.
        cache: ``FeatureCache`` for the pictures, or None.

    Attributes:
        names: dict class id → class name, of the classes that have references.
        files: dict class id → list of image file names, one per shot.
        missing: names of the classes that have none.

    Raises:
        ValueError: a dataset without objects, or no class of the target dataset in other images.
    """

    def __init__(self, cfg, dataset_names, target_dataset, cache=None):
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
        self.mappers = [EpisodeMapper(cfg, source) for source in plan.sources]
        for mapper in self.mappers:
            mapper.cache = cache
        self.missing = [name for i, name in plan.names.items() if i not in plan.picks]
        self.names = {i: plan.names[i] for i in plan.picks}
        self.shots = plan.picks
        self.files = {c: [plan.file(p) for p in picks] for c, picks in plan.picks.items()}

    def of_class(self, class_id):
        """The references of a class: list of dicts ``image`` (3, h, w), ``masks`` (1, h, w),
        ``entity_ids`` ([class id]), ``file_name``, in plain views."""
        return [self._reference(class_id, *shot) for shot in self.shots[class_id]]

    def _reference(self, class_id, number, image, own):
        mapper = self.mappers[number]
        record, picture = mapper.read(image)
        size = picture.size
        objects = usable_annotations(record)
        rows = [i for i, a in enumerate(objects) if a["category_id"] == own]
        masks, _ = instance_masks(record, rows)
        check_size(masks, size, mask_file(record), record["file_name"])
        largest = masks.sum((1, 2)).argmax()
        mask = masks[largest : largest + 1]
        return mapper.reference(record, mapper.input.reference(picture, mask), [class_id])
