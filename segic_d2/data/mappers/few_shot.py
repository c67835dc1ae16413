"""The mapper of the benchmarks: an episode given by names becomes pixels and masks."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from torch.nn import functional as F

from ...config.keys import check_config
from ...structures.episode import Episode, Reference, Target
from ...structures.features import image_size
from ...structures.picture import Picture
from ...structures.view import InputSpec, check_size
from ..benchmarks.base import Sample
from ..episodes import derive_seed
from ..records import File
from .base import Mapper
from .target import masks_need_pixels


class FewShotMapper(Mapper):
    """Maps a ``FewShotEpisode``, as a dict with its number ``episode``, to an episode of the form
    of ``OneShotMapper``'s. Each reference also has a ``key``, (file name, class id, object).

    With ``TEST.MASK_SIZE`` "network" the target is scored on the canvas without its padding: its
    truth is resized by nearest neighbour, and ``height`` and ``width`` are that size. A call raises
    ValueError naming the file: masks and image differ in size, a box lies outside of the image, or
    a reference shows nothing of the class.
    """

    tells_more = True

    def __init__(self, cfg: CfgNode, classes: dict[int, str], reader: Any) -> None:
        check_config(cfg, "TEST.MASK_SIZE")
        self.mask_size = cfg.TEST.MASK_SIZE
        self.classes, self.reader, self.seed = classes, reader, cfg.TEST.SEED
        self.input, self.with_pixels = InputSpec.from_config(cfg), masks_need_pixels(cfg)

    def __call__(self, item: Mapping[str, Any]) -> Episode:
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

    def files(self, item: Mapping[str, Any]) -> Iterable[File]:
        for name in (item["target"], *item["references"]):
            yield from self.reader.files(name)

    def read(
        self, file_name: str, class_id: int, object: int | None
    ) -> tuple[Sample, Picture, T.CropTransform | None]:
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

    def target(self, file_name: str, class_id: int, object: int | None = None) -> Target:
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

    def reference(self, file_name: str, class_id: int, object: int | None = None) -> Reference:
        """A reference with its soft mask (1, h, w)."""
        sample, picture, crop = self.read(file_name, class_id, object)
        view = self.input.reference(picture, sample.mask[None], crop)
        if not view["masks"].any():
            raise ValueError(
                f"the reference {sample.image} shows nothing of class {class_id} "
                f"({self.classes[class_id]}): its mask is empty"
            )
        key = file_name, class_id, object
        return {**view, "entity_ids": [class_id], "file_name": sample.image, "key": key}


def crop_to(box: Sequence[float], size: tuple[int, int], file_name: str) -> T.CropTransform:
    """The crop of an image (H, W) to a box (x0, y0, x1, y1), grown to whole pixels and cut to the
    image. ValueError: naming the file, if nothing of the image lies in the box."""
    height, width = size
    x0, y0 = max(int(box[0] // 1), 0), max(int(box[1] // 1), 0)
    x1, y1 = min(int(-(-box[2] // 1)), width), min(int(-(-box[3] // 1)), height)
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"the box {tuple(box)} lies outside of {file_name}, {width}x{height} px")
    return T.CropTransform(x0, y0, x1 - x0, y1 - y0, width, height)


def nearest(mask: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """A bool mask (H, W) at another size (h, w), as torch's "nearest" has it (HSNet's choice)."""
    return F.interpolate(mask[None, None].float(), tuple(size), mode="nearest")[0, 0].bool()
