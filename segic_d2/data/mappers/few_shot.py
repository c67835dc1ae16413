"""An episode of a benchmark, by name → its pixels and masks."""

import torch
from detectron2.data import transforms as T
from fvcore.transforms.transform import TransformList
from torch.nn import functional as F

from ...structures.view import apply_soft, check_size, plain_augmentations, zoomed
from ..augmentation.picture import Frame, Picture
from ..episodes import derive_seed
from .target import masks_need_pixels

MASK_SIZES = "original", "network"


class FewShotMapper:
    """The fields of a ``FewShotEpisode`` and its number ``episode`` → a test episode.

    It is what ``OneShotMapper`` makes of registered datasets:
    images with their longest side at the canvas, soft reference masks, the class name as text. Each
    reference also carries its ``key``, (file name, class id, object): equal keys are equal
    references. With ``TEST.MASK_SIZE`` "network" the target is scored on the canvas, padding left
    out: its truth is resized by nearest neighbour, and ``height`` and ``width`` are that size.

    Args:
        cfg: config.
        classes: dict class id → class name.
        reader: see ``READER_REGISTRY``.

    Raises:
        ValueError: ``TEST.MASK_SIZE`` is neither; when called: naming the file, if masks and image
            differ in size, a box lies outside of the image, or a reference shows nothing of the
            class.
    """

    cache = None  # as in EpisodeMapper
    tells_more = True  # reading an episode finds more damage than reading its files, see verify.py

    def __init__(self, cfg, classes, reader):
        self.mask_size = cfg.TEST.MASK_SIZE
        if self.mask_size not in MASK_SIZES:
            raise ValueError(
                f"TEST.MASK_SIZE is {self.mask_size!r}; it must be one of {MASK_SIZES}"
            )
        self.classes, self.reader, self.seed = classes, reader, cfg.TEST.SEED
        self.plain, self.zoom = plain_augmentations(cfg), cfg.INPUT.REFERENCE_ZOOM
        self.with_pixels = masks_need_pixels(cfg)

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
        """The files behind an episode, see ``verify.py``."""
        for name in (item["target"], *item["references"]):
            yield from self.reader.files(name)

    def read(self, file_name, class_id, object, zoom=0.0, with_pixels=False):
        """``Sample`` whose masks are cropped to its box, the view (``Picture.view``, also for
        ``with_pixels``; ``zoom``: of its part about the mask, see ``zoomed``), and the transforms
        of it that follow the crop."""
        sample = self.reader.read(file_name, class_id, object)
        picture = Picture(sample.image, self.cache)
        size = picture.size  # before the masks: an unreadable picture is the first thing to name
        masks = {"mask": sample.mask, "ignore": sample.ignore}
        masks = {key: mask for key, mask in masks.items() if mask is not None}
        for mask in masks.values():
            check_size(mask, size, "as the benchmark gives it", sample.image)
        frame, crop = Frame(size), TransformList([])
        if sample.box is not None:
            crop = TransformList([crop_to(sample.box, size, sample.image)])
            frame.transform(crop)
            masks = {key: crop.apply_segmentation(mask) for key, mask in masks.items()}
        plain = zoomed(self.plain, masks["mask"][None], zoom)(frame)
        view = picture.view(crop + plain, True, with_pixels)
        return sample._replace(**masks), view, plain

    def target(self, file_name, class_id, object=None):
        """The fields of an episode that say what is to be segmented, and the truth."""
        sample, view, _ = self.read(file_name, class_id, object, with_pixels=self.with_pixels)
        maps = {"gt_masks": sample.mask, "gt_ignore": sample.ignore}
        maps = {k: torch.from_numpy(m.copy()) for k, m in maps.items() if m is not None}
        if self.mask_size == "network":
            size = view["image_size"] if "features" in view else view["image"].shape[-2:]
            maps = {key: nearest(mask, size) for key, mask in maps.items()}
        height, width = maps["gt_masks"].shape
        maps["gt_masks"] = maps["gt_masks"][None]
        header = {"file_name": sample.image, "image_id": file_name}
        return {**header, "height": height, "width": width, **view, **maps}

    def reference(self, file_name, class_id, object=None):
        """A reference with its soft mask (1, h, w)."""
        sample, view, plain = self.read(file_name, class_id, object, self.zoom)
        soft = apply_soft(plain, sample.mask[None])
        if not soft.any():
            raise ValueError(
                f"the reference {sample.image} shows nothing of class {class_id} "
                f"({self.classes[class_id]}): its mask is empty"
            )
        return {
            **view,
            "masks": soft,
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
