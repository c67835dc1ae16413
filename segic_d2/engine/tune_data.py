"""A few labelled pictures to tune on: parted, and made into episodes whose views are encoded once.

Shapes: H×W a picture, n entities that it shows, C channels, g grid side (cells).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T
from PIL import Image
from tqdm import tqdm

from ..data.augmentation.transforms import ColorJitter
from ..data.episodes import ClassIndex, draw_semantic, generator
from ..data.index import Source
from ..data.records import class_masks, mask_file
from ..io.pictures import read_image
from ..modeling.layers.frozen_encoder import FrozenEncoder
from ..modeling.protocol import InContextModel
from ..structures.episode import Episode, Names, Reference
from ..structures.picture import Picture, seeded
from ..structures.view import InputSpec, apply_soft, check_size

logger = logging.getLogger(__name__)

LARGEST = 2  # canvases, the longest side of a picture that is kept
HELD_OUT = 0.25  # of the pictures of a class
MOST = 100  # pictures to learn from, to test on, and their copies; of a data set twice as many
COPIES = 3  # of a picture: itself, and others that are cropped and of other colours
TRIES, LEFT = 8, 0.6  # of a crop, and the share of each mask that it must leave
ABSENT, SHOTS = 0.1, 2  # of an episode: how often the target lacks the entity, most references


@dataclass
class Labelled:
    """A picture uint8 (H, W, 3) with masks, bool (H, W), by entity; ``ignore``: bool (H, W), or
    None, what counts neither as an entity nor as background."""

    image: np.ndarray
    masks: dict[int, np.ndarray]
    file_name: str = ""
    ignore: np.ndarray | None = None

    @classmethod
    def of(cls, reference: Reference) -> Labelled:
        """Of a reference of any size."""
        ids = [int(i) for i in reference["entity_ids"]]
        masks = dict(zip(ids, reference["masks"].numpy() > 0, strict=True))
        image = np.ascontiguousarray(reference["image"].permute(1, 2, 0).numpy())
        return cls(image, masks, str(reference.get("file_name", "")))

    def smaller(self, side: int) -> Labelled:
        """The same with no side above ``side`` px."""
        height, width = self.image.shape[:2]
        scale = side / max(height, width)
        if scale >= 1:
            return self
        size = max(round(width * scale), 1), max(round(height * scale), 1)

        def near(mask: np.ndarray) -> np.ndarray:
            return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))

        image = np.asarray(Image.fromarray(self.image).resize(size, Image.Resampling.BOX))
        masks = {i: near(mask) for i, mask in self.masks.items()}
        ignore = None if self.ignore is None else near(self.ignore)
        return Labelled(image, masks, self.file_name, ignore)

    def changed(self, seed: int) -> Labelled:
        """A copy in other colours, and cropped where the crop leaves enough of each mask."""
        jitter = ColorJitter(0.3, 0.3, 0.3, 0.03)
        with seeded(seed):
            for _ in range(TRIES):
                crop = T.RandomCrop("relative_range", (0.6, 0.6)).get_transform(self.image)
                cut = {i: crop.apply_segmentation(mask) for i, mask in self.masks.items()}
                if all(cut[i].sum() >= LEFT * self.masks[i].sum() for i in cut):
                    break
            else:
                crop, cut = T.NoOpTransform(), self.masks
            image = crop.apply_image(self.image)
            image = jitter.get_transform(image).apply_image(image)
        ignore = None if self.ignore is None else crop.apply_segmentation(self.ignore)
        return Labelled(np.ascontiguousarray(image), cut, self.file_name, ignore)

    def reference(self, spec: InputSpec, ids: Sequence[int]) -> Reference:
        """The plain view of the picture as a reference of some of its entities."""
        view = spec.reference(Picture(self.image), np.stack([self.masks[i] for i in ids]))
        return {**view, "entity_ids": list(ids), "file_name": self.file_name}


def read_labelled(datasets: Sequence[str], side: int) -> tuple[list[Labelled], dict[int, str]]:
    """The pictures of data sets, no side above ``side`` px, and {entity: class name}. What has the
    same name in two of them is one entity. Of a large data set some are drawn. Errors are those of
    ``Source`` and of files."""
    pictures, numbers = [], dict[str, int]()
    for name in datasets:
        source = Source(name)
        for row in some([row for row, shown in enumerate(source.presence) if shown], 2 * MOST):
            record, shown = source.records[row], source.presence[row]
            image = read_image(record["file_name"])
            masks, ignore = class_masks(record, shown)
            check_size(masks, image.shape[:2], mask_file(record), record["file_name"])
            ids = [numbers.setdefault(source.names[c], len(numbers)) for c in shown]
            own = {i: mask for i, mask in zip(ids, masks, strict=True) if mask.any()}
            if own:
                one = Labelled(image, own, record["file_name"], ignore)
                pictures.append(one.smaller(side))
    return pictures, {i: name for name, i in numbers.items()}


def has_frozen_backbone(model: object) -> bool:
    """Whether features of a model stay what they are while it is tuned."""
    return isinstance(getattr(model, "encoder", None), FrozenEncoder)


def some(values: Sequence[Any], most: int, seed: int = 0) -> list[Any]:
    """``most`` of many values, in their order, and a warning; or all of them."""
    if len(values) <= most:
        return list(values)
    logger.warning("%d of %d pictures are looked at", most, len(values))
    rows = sorted(generator(seed).permutation(len(values))[:most].tolist())
    return [values[row] for row in rows]


def need(pictures: Sequence[Labelled], names: Names, least: int, why: str) -> dict[int, int]:
    """{entity: its pictures}. ValueError: one, which is named, has fewer than ``least``."""
    counts = {i: sum(i in p.masks for p in pictures) for i in names}
    for i, count in counts.items():
        if count < least:
            what = f"class {names[i]!r}" if names[i] else f"entity {i}"
            found = f"{count} picture{'s' * (count != 1)}"
            raise ValueError(
                f"{what} has {found} with a mask; tuning takes {least} at least: {why}"
            )
    return counts


def split(
    pictures: Sequence[Labelled], names: Names, seed: int
) -> tuple[list[Labelled], list[Labelled]]:
    """Pictures to learn from and held-out ones, in their order: of each class a quarter is held
    out, one at least, but two are left to learn from. ValueError: of ``need``, for three."""
    counts = need(pictures, names, 3, "two to learn from and one held out")
    order, held = generator(seed).permutation(len(pictures)).tolist(), set[int]()
    for i in sorted(counts, key=counts.__getitem__):
        for row in order:
            out = {j: sum(j in pictures[r].masks for r in held) for j in counts}
            if out[i] >= max(1, round(HELD_OUT * counts[i])):
                break
            shown = pictures[row].masks
            if i in shown and row not in held and all(counts[j] - out[j] > 2 for j in shown):
                held.add(row)
    kept = [p for row, p in enumerate(pictures) if row not in held]
    return kept, [pictures[row] for row in sorted(held)]


class TuneEpisodes:
    """Endless batches of training episodes: a target, and other pictures of its class as references
    unless these are ``left_out``. Views are encoded here where the model's backbone is frozen; an
    episode follows from seed and position. ValueError: of ``need``, for two."""

    def __init__(
        self,
        model: InContextModel,
        pictures: Sequence[Labelled],
        names: Names,
        batch: int = 4,
        seed: int = 0,
        left_out: bool = False,
    ) -> None:
        self.names, self.batch, self.seed = names, batch, seed
        self.roles = ("target",) if left_out else ("target", "reference")
        need(pictures, names, 2, "a target and a reference")
        self.index = ClassIndex([sorted(p.masks) for p in pictures])
        copies = min(COPIES, 1 + MOST // len(pictures))
        self.views = [
            [_encoded(model, p.changed(seed + n) if n else p, self.roles) for n in range(copies)]
            for p in tqdm(pictures, "encoding", unit="picture", disable=None)  # on a terminal
        ]

    def __iter__(self) -> Iterator[list[Episode]]:
        position = 0
        while True:
            yield [self.episode(position + n) for n in range(self.batch)]
            position += self.batch

    def episode(self, position: int) -> Episode:
        """The episode at a position; its pictures are features."""
        rng = generator(self.seed, position)
        plan = draw_semantic(rng, self.index, max_shots=SHOTS, absent_prob=ABSENT)
        (entity,) = plan["entities"]

        def view(picture: int, role: str) -> dict[str, Any]:
            own = self.views[picture]
            found = own[int(rng.integers(len(own)))][role]
            ids = found["entity_ids"]
            masks = found["masks"][[ids.index(entity)]] if entity in ids else None
            return {**found, "masks": masks, "entity_ids": [entity]}

        target = view(plan["target"], "target")
        if target["masks"] is None:
            target["masks"] = torch.zeros(1, *target["image_size"], dtype=torch.bool)
        name, shown = self.names[entity], plan["references"] if "reference" in self.roles else ()
        return {
            **{k: v for k, v in target.items() if k != "entity_ids"},  # type: ignore[typeddict-item]
            **{"task": "semantic", "seed": int(rng.integers(2**63)), "image_id": plan["target"]},
            "entities": [{"id": entity, "name": name, "reversed_name": name}],
            "references": [view(picture, "reference") for picture, _ in shown],
        }


@torch.no_grad()
def _encoded(
    model: InContextModel, picture: Labelled, roles: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """A picture's "target" and "reference", as far as asked for: views whose features, half (C, g,
    g), are known where the backbone is frozen, else with their images."""
    ids, spec, whole = sorted(picture.masks), model.input, Picture(picture.image)
    transforms = whole.draw(spec.plain, 0)
    soft = apply_soft(transforms, np.stack([picture.masks[i] for i in ids]))
    target: dict[str, Any] = {**whole.view(transforms), "masks": soft >= 0.5}
    height, width = picture.image.shape[:2]
    target |= {"height": height, "width": width}
    if picture.ignore is not None:
        target["ignore"] = apply_soft(transforms, picture.ignore[None])[0] >= 0.5
    found = {"target": target}
    if "reference" in roles:
        found["reference"] = {**picture.reference(spec, ids)}
        found["reference"].pop("whole", None)
    for view in found.values():
        view |= {"entity_ids": ids, "file_name": picture.file_name}
        view["image_size"] = int(view["image"].shape[-2]), int(view["image"].shape[-1])
        if has_frozen_backbone(model):
            (view["features"],) = model.encode_images([view.pop("image")]).map.half().cpu()
    return found
