"""The mapper of targets without references, for a context that was made beforehand."""

from ...structures.picture import Picture
from ...structures.view import InputSpec
from ..health.verify import record_files
from .base import EPISODE_MAPPER_REGISTRY


@EPISODE_MAPPER_REGISTRY.register()
def target(cfg, source):
    """See ``TargetMapper``."""
    return TargetMapper(cfg, source)


def masks_need_pixels(cfg):
    """Whether targets need their pixels beside features from a cache (``TEST.REFINE``)."""
    return cfg.MODEL.SEGIC.TEST.REFINE.RADIUS > 0


class TargetMapper:
    """Adds the picture to a dataset dict, for Detectron2's stock evaluators.

    ``annotations`` are left out; ``file_name``, ``image_id`` and all other fields stay.

    Raises:
        ValueError: naming the file and both sizes, if the record gives another size.
    """

    cache = None  # as in EpisodeMapper
    labels = None  # values that label maps may hold, which the evaluator reads; None: any

    def __init__(self, cfg, source=None):
        self.input, self.with_pixels = InputSpec.from_config(cfg), masks_need_pixels(cfg)

    def __call__(self, record):
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

    def files(self, record):
        """The files of a target and of its truth; see ``health.verify``."""
        return record_files(record, self.labels)
