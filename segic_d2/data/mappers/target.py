"""The mappers of targets without references, for a context that was made beforehand."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ...io.masks import IGNORE_LABEL, read_label_map
from ...structures.episode import Target
from ...structures.picture import Picture
from ...structures.view import InputSpec, check_size
from ..datasets.class_list import background_ids
from ..records import File, known_labels, record_files
from .base import Mapper


def masks_need_pixels(cfg: CfgNode) -> bool:
    """Whether targets need their pixels beside features from a cache (``TEST.REFINE``)."""
    refine = cfg.MODEL.SEGIC.TEST.REFINE
    return refine.RADIUS > 0 or refine.SECOND_LOOK > 0


class TargetMapper(Mapper):
    """Adds the picture to a dataset dict, for Detectron2's stock evaluators; all its fields but
    ``annotations`` stay. A loaded dataset's metadata say what label maps may hold; None: any.
    ValueError: naming the file and both sizes, if the record gives another size."""

    def __init__(self, cfg: CfgNode, dataset_name: str | None) -> None:
        self.labels = known_labels(dataset_name) if dataset_name else None
        self.input, self.with_pixels = InputSpec.from_config(cfg), masks_need_pixels(cfg)

    def __call__(self, record: Mapping[str, Any]) -> Target:
        picture = Picture(record["file_name"], self.cache)
        height, width = picture.size
        said = record.get("height", height), record.get("width", width)
        if said != (height, width):
            raise ValueError(
                f"{record['file_name']} is {width}x{height} px as displayed, "
                f"its record says {said[1]}x{said[0]} px"
            )
        view = self.input.target(picture, with_pixels=self.with_pixels)
        rest = {k: v for k, v in record.items() if k != "annotations"}
        return {**rest, **view, "height": height, "width": width}

    def files(self, record: Mapping[str, Any]) -> Iterable[File]:
        return record_files(record, self.labels)


class LabelledTargetMapper(TargetMapper):
    """A ``TargetMapper`` whose targets, from label maps, have ``present``: the ascending ids of the
    classes shown. ValueError: a label map, which is named, shows an id that is no class of the
    dataset, or has another size than its picture."""

    def __init__(self, cfg: CfgNode, dataset_name: str) -> None:
        super().__init__(cfg, dataset_name)
        metadata = MetadataCatalog.get(dataset_name)
        self.dataset, self.count = dataset_name, len(metadata.stuff_classes)
        self.ignored = metadata.get("ignore_label", IGNORE_LABEL)
        self.background = background_ids(dataset_name, metadata.stuff_classes)

    def __call__(self, record: Mapping[str, Any]) -> Target:
        target = super().__call__(record)
        file = record["sem_seg_file_name"]
        labels = read_label_map(file)
        check_size(labels[None], (target["height"], target["width"]), file, record["file_name"])
        shown = set(np.unique(labels).tolist()) - {self.ignored}
        unknown = sorted(i for i in shown if not 0 <= i < self.count)
        if unknown:
            raise ValueError(
                f"dataset {self.dataset!r}: {file} shows the ids {unknown}, but the dataset has "
                f"{self.count} classes (0 to {self.count - 1}) and ignores {self.ignored}"
            )
        return {**target, "present": sorted(shown - self.background)}
