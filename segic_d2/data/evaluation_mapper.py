"""Test episodes: one-shot (or K-shot) pairs, and bare targets for a context made beforehand."""

import torch

from .augmentation import plain_augmentations
from .episode_mapper import EPISODE_MAPPER_REGISTRY, EpisodeMapper
from .episodes import derive_seed
from .picture import Picture
from .verify import record_files


@EPISODE_MAPPER_REGISTRY.register()
def one_shot(cfg, source):
    """See :class:`OneShotMapper`."""
    return OneShotMapper(cfg, source)


@EPISODE_MAPPER_REGISTRY.register()
def target(cfg, source):
    """See :class:`TargetMapper`."""
    return TargetMapper(cfg, source)


def masks_need_pixels(cfg):
    """Whether targets need their pixels beside features from a cache (``TEST.REFINE``)."""
    return cfg.MODEL.SEGIC.TEST.REFINE.RADIUS > 0


class OneShotMapper(EpisodeMapper):
    """An entry of :func:`~segic_d2.data.episodes.one_shot_episodes` → a test episode.

    Images are resized to the canvas by their longest side; the ground truth stays at its own
    resolution, where the metrics are computed; the class name is always given.
    """

    def __call__(self, plan):
        class_id = plan["class"]
        record, picture, masks, ignore = self.read_classes(plan["target"], [class_id])
        episode = {
            **self.header(plan["target"], record, picture),
            **picture.view(picture.draw(self.plain, 0), True, masks_need_pixels(self.cfg)),
            "task": "semantic",
            "seed": derive_seed(self.cfg.TEST.SEED, plan["episode"]),
            "episode": plan["episode"],
            "entities": [{"id": class_id, "name": self.names[class_id]}],
            "references": [self.plain_reference(i, class_id) for i in plan["references"]],
            "gt_masks": torch.from_numpy(masks),
        }
        if ignore is not None:
            episode["gt_ignore"] = torch.from_numpy(ignore)
        return episode

    def files(self, plan):
        """The files behind an episode, see ``verify.py``."""
        for image in (plan["target"], *plan["references"]):
            yield from record_files(self.records[image])


class TargetMapper:
    """A dataset dict → the same dict with its picture, for Detectron2's stock evaluators.

    ``annotations`` are left out; ``file_name``, ``image_id`` and all other fields stay.

    Raises:
        ValueError: naming the file and both sizes, if the record gives another size.
    """

    cache = None  # as in EpisodeMapper
    labels = None  # values that label maps may hold, which the evaluator reads; None: any

    def __init__(self, cfg, source=None):
        self.plain, self.with_pixels = plain_augmentations(cfg), masks_need_pixels(cfg)

    def __call__(self, record):
        picture = Picture(record["file_name"], self.cache)
        height, width = picture.size
        said = record.get("height", height), record.get("width", width)
        if said != (height, width):
            raise ValueError(
                f"{record['file_name']} is {width}x{height} px as displayed, "
                f"its record says {said[1]}x{said[0]} px"
            )
        view = picture.view(picture.draw(self.plain, 0), True, self.with_pixels)
        rest = {k: v for k, v in record.items() if k != "annotations"}
        return {**rest, **view, "height": height, "width": width}

    def files(self, record):
        """The files of a target and of its ground truth, see ``verify.py``."""
        return record_files(record, self.labels)
