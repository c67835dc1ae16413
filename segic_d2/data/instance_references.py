"""References of single objects, class by class, for one-shot instance segmentation.

As in training, where a reference shows objects and not the union of a class, the mask of a
reference is one object: the largest of its class in an image that is drawn with the seed.
"""

import logging
import re
from pathlib import Path

from .augmentation import apply_soft, plain_augmentations
from .background import background_ids
from .episode_mapper import EpisodeMapper
from .episodes import generator
from .index import Source, class_names, load_records
from .masks import instance_masks, mask_file, usable_annotations
from .reference_plan import ReferencePlan, cut_to_readable
from .views import check_size

logger = logging.getLogger(__name__)
COCO_FILE = re.compile(r"(?:COCO_\w+_)?(\d{12})")  # one picture has a name in 2014, another in 2017


def picture_key(file_name):
    """What two files of one picture have in common: COCO's number, else the path."""
    coco = COCO_FILE.fullmatch(Path(file_name).stem)
    return coco[1] if coco else str(Path(file_name).absolute())


class InstanceReferences:
    """``TEST.SHOTS`` single objects of every class, drawn with ``TEST.SEED``, decoded when needed.

    Classes are matched by name across datasets; ids are those of the target dataset. Images that
    the target dataset has too are never references. A class with fewer images has fewer shots; one
    without is left out, with a line in the log. A damaged picture is reported (``damaged.py``), and
    the next one of its class takes its place.

    Args:
        cfg: config.
        dataset_names: registered datasets with ``annotations`` to draw from.
        target_dataset: the dataset to be segmented.
        cache: :class:`~segic_d2.data.feature_cache.FeatureCache` for the pictures, or None.

    Attributes:
        names: dict class id → class name, of the classes that have references.
        files: dict class id → list of image file names, one per shot.
        missing: names of the classes that have none.

    Raises:
        ValueError: a dataset without objects, or no class of the target dataset in other images.
    """

    def __init__(self, cfg, dataset_names, target_dataset, cache=None):
        self.plain = plain_augmentations(cfg)
        self.mappers = [EpisodeMapper(cfg, source) for source in map(Source, dataset_names)]
        for mapper in self.mappers:
            mapper.cache = cache
        targets = load_records(target_dataset)
        wanted = class_names(target_dataset, targets)
        seen = {picture_key(r["file_name"]) for r in targets}
        hidden = background_ids(target_dataset, wanted)
        pools = {i: [] for i in range(len(wanted)) if i not in hidden}
        for number, mapper in enumerate(self.mappers):
            self._fill(pools, wanted, seen, number, mapper)
        self.missing = missing = [wanted[i] for i, pool in pools.items() if not pool]
        if len(missing) == len(pools):
            raise ValueError(
                f"{tuple(dataset_names)} show no class of dataset {target_dataset!r} in images "
                "that are not its own; name other DATASETS.REFERENCE"
            )
        if missing:
            logger.warning("no references, so never predicted: %s", ", ".join(map(str, missing)))
        drawn = {}
        for class_id, pool in pools.items():
            order = generator(cfg.TEST.SEED, class_id).permutation(len(pool))
            if len(pool):
                drawn[class_id] = [pool[i] for i in order]
        plan = ReferencePlan(self.mappers, drawn, {i: wanted[i] for i in drawn})
        plan, _ = cut_to_readable(cfg, plan, cfg.TEST.SHOTS)
        self.missing += [wanted[i] for i in drawn if i not in plan.picks]
        self.names = {i: wanted[i] for i in plan.picks}
        self.shots = plan.picks
        self.files = {c: [plan.file(p) for p in picks] for c, picks in plan.picks.items()}

    @staticmethod
    def _fill(pools, wanted, seen, number, mapper):
        """Add (dataset, image, the class's id there) to the pools of the classes of an image."""
        same, ids = mapper.names == wanted, {n: i for i, n in enumerate(wanted)}
        for image, record in enumerate(mapper.records):
            if "annotations" not in record:
                raise ValueError(
                    f"dataset {mapper.dataset!r}: {record['file_name']} has no 'annotations', but "
                    "references of instances are single objects"
                )
            if picture_key(record["file_name"]) in seen:
                continue
            for own in sorted({a["category_id"] for a in usable_annotations(record)}):
                class_id = own if same else ids.get(mapper.names[own])
                if class_id in pools:
                    pools[class_id].append((number, image, own))

    def __len__(self):
        return len(self.names)

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
        transforms = picture.draw(self.plain, 0)
        soft = apply_soft(transforms, masks[largest : largest + 1])
        return mapper.reference(record, picture.view(transforms, recurs=True), soft, [class_id])
