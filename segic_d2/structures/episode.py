"""Episodes and their parts as typed dicts: Detectron2's dataset dicts, with references."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from torch import Tensor

Names = Mapping[int, str | None]  # by entity id, in the order of the entities; None: no text


class View(TypedDict, total=False):
    """A picture on the canvas, as pixels or as features that stand for them."""

    image: Tensor  # (3, h, w) RGB, uint8 or float32 in 0–255; no side above the canvas
    features: Tensor  # (C, g, g), in place of the image or beside it
    image_size: tuple[int, int]  # (h, w) that the features saw
    feature_key: str  # under which the features of this view are missed
    file_name: str


class Entity(TypedDict, total=False):
    """One thing asked for."""

    id: int  # contiguous class id; 0…N-1 in instance episodes
    name: str | None  # None: no text
    category: int  # instance episodes: its class
    reversed_name: str | None  # the text where references and target change their roles


class MaskedView(View, total=False):
    """A picture on the canvas with masks of entities."""

    masks: Tensor  # float32 in [0, 1], (n, h, w)


class Reference(MaskedView, total=False):
    """An example image with one mask, of a positive sum, per entity that it shows."""

    whole: MaskedView  # its whole picture, where the reference may be a cut of it
    entity_ids: Sequence[int] | Tensor  # n ids
    ignore: Tensor  # training: bool (h, w), neither entity nor background
    key: tuple[Any, ...]  # equal keys are equal references


class Target(View, total=False):
    """The image to segment; the fields of a Detectron2 dataset dict."""

    height: int  # of the file as displayed
    width: int
    image_id: Any
    present: Sequence[int]  # test: ids of the classes that it shows


class Episode(Target, total=False):
    """One target with its references: the unit of training and of one-shot evaluation."""

    task: str  # "semantic" or "instance"
    seed: int  # below 2**63, for the model's own draws
    entities: list[Entity]
    references: list[Reference]
    masks: Tensor  # training: bool (N, h, w), empty for an entity that is absent
    ignore: Tensor  # training: bool (h, w)
    episode: int  # test: its number
    gt_masks: Tensor  # test: bool (N, height, width)
    gt_ignore: Tensor  # test: bool (height, width)
