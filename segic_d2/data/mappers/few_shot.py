"""The mapper of the benchmarks: an episode given by names becomes pixels and masks."""

import torch
from detectron2.data import transforms as T
from torch.nn import functional as F

from ...structures.features import image_size
from ...structures.picture import Picture
from ...structures.view import InputSpec, check_size
from ..episodes import derive_seed
from .target import masks_need_pixels

MASK_SIZES = "original", "network"


class FewShotMapper:
    """Maps a ``FewShotEpisode``, as a dict with its number ``episode``, to a test episode.

    The episode has the form of ``OneShotMapper``'s: plain views, soft reference masks, and the
    class name as text. Each reference also has a ``key``, (file name, class id, object); equal keys
    are equal references. With ``TEST.MASK_SIZE`` "network" the target is scored on the canvas
    without its padding. Its truth is then resized by nearest neighbour, and ``height`` and
    ``width`` are that size.

    Args:
        cfg: config.
        classes: dict class id → class name.
        reader: see ``READER_REGISTRY``.

    Raises:
        ValueError: ``TEST.MASK_SIZE`` has another value. When called, with the file's name: masks
            and image differ in size, a box lies outside of the image, or a reference shows nothing
            of the class.
    """

    cache = None  # as in EpisodeMapper
    tells_more = True  # an episode shows more damage than its files do, see health.verify

    def __init__(self, cfg, classes, reader):
        self.mask_size = cfg.TEST.MASK_SIZE
        if self.mask_size not in MASK_SIZES:
            raise ValueError(
                f"TEST.MASK_SIZE is {self.mask_size!r}; it must be one of {MASK_SIZES}"
            )
        self.classes, self.reader, self.seed = classes, reader, cfg.TEST.SEED
        self.input, self.with_pixels = InputSpec.from_config(cfg), masks_need_pixels(cfg)

    def __call__(self, item):
        class_id, number, names = item["class_id"], item["episode"], item["references"]
        target, *shown = item["objects"] or [None] * (1 + len(names))
        pairs = zip(names, shown, strict=True)
        return {
            **self.target(item["target"], class_id, target),
            "task": "semantic",
            "seed": derive_seed(self.seed, number),
            "episode": number,
            "entities": [{"id": class_id, "name": self.classes[class_id]}],
            "references": [self.reference(name, class_id, index) for name, index in pairs],
        }

    def files(self, item):
        """The files that an episode reads; see ``health.verify``."""
        for name in (item["target"], *item["references"]):
            yield from self.reader.files(name)

    def read(self, file_name, class_id, object):
        """``Sample`` whose masks are cropped to its box, its ``Picture``, and that crop or None."""
        sample = self.reader.read(file_name, class_id, object)
        picture = Picture(sample.image, self.cache)
        size = picture.size  # before the masks: an unreadable picture is the first thing to name
        masks = {"mask": sample.mask, "ignore": sample.ignore}
        masks = {key: mask for key, mask in masks.items() if mask is not None}
        for mask in masks.values():
            check_size(mask, size, "as the benchmark gives it", sample.image)
        crop = None if sample.box is None else crop_to(sample.box, size, sample.image)
        if crop is not None:
            masks = {key: crop.apply_segmentation(mask) for key, mask in masks.items()}
        return sample._replace(**masks), picture, crop

    def target(self, file_name, class_id, object=None):
        """The fields of an episode that hold its target and the truth."""
        sample, picture, crop = self.read(file_name, class_id, object)
        view = self.input.target(picture, crop, with_pixels=self.with_pixels)
        maps = {"gt_masks": sample.mask, "gt_ignore": sample.ignore}
        maps = {k: torch.from_numpy(m.copy()) for k, m in maps.items() if m is not None}
        if self.mask_size == "network":
            maps = {key: nearest(mask, image_size(view)) for key, mask in maps.items()}
        height, width = maps["gt_masks"].shape
        maps["gt_masks"] = maps["gt_masks"][None]
        header = {"file_name": sample.image, "image_id": file_name}
        return {**header, "height": height, "width": width, **view, **maps}

    def reference(self, file_name, class_id, object=None):
        """A reference with its soft mask (1, h, w)."""
        sample, picture, crop = self.read(file_name, class_id, object)
        view = self.input.reference(picture, sample.mask[None], crop)
        if not view["masks"].any():
            raise ValueError(
                f"the reference {sample.image} shows nothing of class {class_id} "
                f"({self.classes[class_id]}): its mask is empty"
            )
        return {
            **view,
            "entity_ids": [class_id],
            "file_name": sample.image,
            "key": (file_name, class_id, object),
        }


def crop_to(box, size, file_name):
    """The crop of an image (H, W) to a box (x0, y0, x1, y1), grown to whole pixels and cut to the
    image.

    Raises:
        ValueError: naming the file, if nothing of the image lies in the box.
    """
    height, width = size
    x0, y0 = max(int(box[0] // 1), 0), max(int(box[1] // 1), 0)
    x1, y1 = min(int(-(-box[2] // 1)), width), min(int(-(-box[3] // 1)), height)
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"the box {tuple(box)} lies outside of {file_name}, {width}x{height} px")
    return T.CropTransform(x0, y0, x1 - x0, y1 - y0, width, height)


def nearest(mask, size):
    """A bool mask (H, W) at another size (h, w), as torch's "nearest" has it (HSNet's choice)."""
    return F.interpolate(mask[None, None].float(), tuple(size), mode="nearest")[0, 0].bool()
