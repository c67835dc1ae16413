"""Pairs of images with corresponding key points (SPair-71k), as test items."""

from collections.abc import Iterable
from typing import Any

import torch
from detectron2.config import CfgNode

from ...structures.picture import Picture
from ...structures.view import InputSpec
from ..records import File
from .base import Mapper


class PairMapper(Mapper):
    """Maps a record of ``load_spair`` to a test item. Its key points count pixels: (0, 0) is the
    centre of the first one. An item is a dict:

    - ``pair`` and ``image_id`` (its number), ``category``, ``file_name`` of the target;
    - ``source``, ``target``: dicts ``image`` (3, h, w), or what stands for it (see
      ``mappers.base``), ``height``, ``width`` of the file as displayed, ``file_name``;
    - ``source_keypoints``, ``target_keypoints``: float64 (k, 2), x and y in px of the files;
    - ``box``: float64 (4,), xyxy of the object in the target, px of the file.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.input = InputSpec.from_config(cfg)

    def __call__(self, item: tuple[int, dict[str, Any]]) -> dict[str, Any]:
        number, record = item
        return {
            "pair": number,
            "image_id": number,
            "category": record["category"],
            "file_name": record["file_name"],
            "source": self._view(record["source_file_name"]),
            "target": self._view(record["file_name"]),
            "source_keypoints": torch.tensor(record["source_keypoints"], dtype=torch.float64),
            "target_keypoints": torch.tensor(record["keypoints"], dtype=torch.float64),
            "box": torch.tensor(record["box"], dtype=torch.float64),
        }

    def files(self, item: tuple[int, dict[str, Any]]) -> Iterable[File]:
        """The pictures of a pair, far fewer than pairs."""
        return [File(item[1][key], "image") for key in ("source_file_name", "file_name")]

    def _view(self, file_name):
        picture = Picture(file_name, self.cache)
        height, width = picture.size
        view = self.input.target(picture)
        return {**view, "height": height, "width": width, "file_name": file_name}
