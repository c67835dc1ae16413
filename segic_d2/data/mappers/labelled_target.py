"""The mapper of targets that come with the classes of their label map."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ...io.masks import IGNORE_LABEL, read_label_map
from ...structures.episode import Target
from ...structures.view import check_size
from ..datasets.class_list import background_ids
from .target import TargetMapper


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
