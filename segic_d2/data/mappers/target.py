"""The mapper of targets without references, for a context that was made beforehand."""

from collections.abc import Iterable, Mapping
from typing import Any

from detectron2.config import CfgNode

from ...structures.episode import Target
from ...structures.picture import Picture
from ...structures.view import InputSpec
from ..records import File, known_labels, record_files
from .base import Mapper


def masks_need_pixels(cfg: CfgNode) -> bool:
    """Whether targets need their pixels beside features from a cache (``TEST.REFINE``)."""
    return cfg.MODEL.SEGIC.TEST.REFINE.RADIUS > 0


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
