"""The mapper of targets that come with the classes of their label map."""

import numpy as np
from detectron2.data import MetadataCatalog

from ...io.masks import IGNORE_LABEL, read_label_map
from ...structures.view import check_size
from ..datasets.class_list import background_ids
from .base import EPISODE_MAPPER_REGISTRY
from .target import TargetMapper


@EPISODE_MAPPER_REGISTRY.register()
def labelled_target(cfg, dataset_name):
    """See ``LabelledTargetMapper``."""
    return LabelledTargetMapper(cfg, dataset_name)


class LabelledTargetMapper(TargetMapper):
    """A ``TargetMapper`` whose targets have ``present``: the ascending ids of the classes shown.

    Args:
        cfg: config.
        dataset_name: a loaded dataset of label maps.

    Raises:
        ValueError: a label map, which is named, shows an id that is no class of the dataset, or has
            another size than its picture.
    """

    def __init__(self, cfg, dataset_name):
        super().__init__(cfg)
        metadata = MetadataCatalog.get(dataset_name)
        names = metadata.stuff_classes
        self.dataset, self.count = dataset_name, len(names)
        self.ignored = metadata.get("ignore_label", IGNORE_LABEL)
        self.background = background_ids(dataset_name, names)

    def __call__(self, record):
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
