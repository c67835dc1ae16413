"""What a model says of one target: the only output type. What is derived is derived here, once.
What it shows and converts to is in ``utils.visualizer`` and ``io.results``.

Shapes: N entities, r side of the low-resolution logits, H×W the target's own size.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from PIL import Image
from torch import Tensor

from ..io import results
from ..io.annotations import Annotated, Thing, write_annotations
from ..utils.files import AnyPath, write_picture, write_whole
from .frame import Frame

SURER = 4.0  # weight of a score's logit beside a pixel's, where entities compete
LISTED = 8  # entities that a line names
PREVIEW = 1000  # px, the longest side of a preview
EXACT = 2000  # px, the longest side of maps that are painted; larger ones would show no more


class Doubt(NamedTuple):
    """How doubtful what is said of a target is, [0, 1], for ranking; that of its ``most`` doubtful
    entity, and which one that is, in words."""

    value: float
    most: float
    why: str


@dataclass(eq=False, repr=False)
class Segmentation:
    """Masks of the entities in one target, in the order of the context; or of single objects
    (instances), best first: then ids count them, names repeat, and ``classes`` are their entities.

    Attributes:
        logits: float (N, r, r) over the canvas. scores: float (N,), whose meaning is the model's
            matter.
        ids: N ids, the values of ``label_map``. names: N names or None.
        frame: where the target lies on the canvas, and its own size.
        threshold: a pixel belongs to an entity where its logit is above this.
        similarity: float (N, q, q) over the canvas, the propagated masks, or None.
        classes: N classes for ``instances`` and the conversions; None: the ids.
        image: uint8 (H, W, 3), the target as displayed, or None. file_name: its path, or "".
        exclusive: masks do not overlap, see ``compete``.
        arrays: for people: what is derived, and the scores, are NumPy arrays.
        doubt: how doubtful it is, where the predictor was asked for that (``with_doubt``).
    """

    logits: Tensor
    scores: Any
    ids: list[int]
    names: list[str | None]
    frame: Frame
    threshold: float = 0.0
    similarity: Tensor | None = None
    classes: Sequence[int] | Tensor | None = None
    image: np.ndarray | None = None
    file_name: str = ""
    exclusive: bool = False
    arrays: bool = False
    doubt: Doubt | None = field(default=None, init=False)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        """One line: the size, and each entity's score and, of masks that were made already, its
        share of the picture."""
        height, width = self.frame.size
        told = [f"{name} score {float(s):.2f}" for name, s in self._titles()[:LISTED]]
        if "masks" in self.__dict__:
            shares = [f" area {float(a) / (height * width):.1%}" for a in self.areas[:LISTED]]
            told = [one + share for one, share in zip(told, shares, strict=True)]
        rest = [f"{len(self) - LISTED} more"] if len(self) > LISTED else []
        return f"Segmentation({width}x{height} px: {'; '.join([*told, *rest]) or 'nothing'})"

    def take(self, rows: Sequence[int]) -> Segmentation:
        """Some of the entities, in the order of ``rows``."""
        similarity = None if self.similarity is None else self.similarity[rows]
        ids, names = [self.ids[i] for i in rows], [self.names[i] for i in rows]
        some = replace(
            self, logits=self.logits[rows], scores=self.scores[rows], ids=ids, names=names
        )
        some.similarity = similarity
        some.classes = None if self.classes is None else [int(self.classes[i]) for i in rows]
        if "masks" in self.__dict__:  # made already
            some.masks = self.masks[rows]
        return some

    @cached_property
    def masks(self) -> Any:
        """bool (N, H, W); they may overlap unless they are ``exclusive``."""
        if not self.exclusive:
            return self._out(self.frame.masks(self.logits, self.threshold))
        rows = torch.arange(len(self), dtype=torch.int32, device=self.logits.device)
        labels = self.frame.labels(self.logits, range(len(self)), self.threshold, -1)
        return self._out(labels == rows[:, None, None])

    def compete(self, least: float = 0.0) -> Segmentation:
        """One answer per pixel. Entities whose masks overlap share the odds of their scores, by how
        much of its mask each would lose; those of a score below ``least`` are then left out; and a
        pixel goes to the one that marks it whose logit plus ``SURER`` times the logit of whose
        score is highest."""
        above = self.logits.float() - self.threshold
        own = torch.as_tensor(self.scores).to(above)
        scores = _shared(above, own.nan_to_num(0.0), self.frame)
        scores = scores.masked_fill(own.isnan(), torch.nan)  # which ``for_people`` refuses
        passed = (~(scores < least)).tolist()
        kept = [row for row, one in enumerate(passed) if one]
        some = replace(self, scores=self._out(scores), exclusive=True).take(kept)
        above, sure = above[kept], torch.logit(scores[kept].clamp(0, 1), eps=1e-4)
        strength = (above + SURER * sure[:, None, None]).masked_fill(above <= 0, -torch.inf)
        if len(some) > 1:
            best, winner = strength.max(0)
            row = torch.arange(len(some), device=winner.device)[:, None, None]
            # as far below the threshold as another is stronger, so that edges lie between them
            behind = (strength - best).clamp(max=-1e-3)
            above = torch.where((above > 0) & (row != winner), behind, above)
        some.logits = above + self.threshold
        return some

    def label_map(self, background: int = 0) -> Any:
        """One merged map, int32 (H, W): the id of the entity with the highest logit at each pixel,
        ``background`` where no mask is. ValueError: ``background`` is the id of an entity."""
        if background in self.ids:
            raise ValueError(f"background {background} is the id of an entity; ids are {self.ids}")
        return self.labels(self.threshold, background)

    def labels(self, threshold: float | None, nothing: int) -> Any:
        """``Frame.labels`` of the entities: int32 (H, W)."""
        return self._out(self.frame.labels(self.logits, self.ids, threshold, nothing))

    @property
    def boxes(self) -> Any:
        """Tight boxes of the masks: left, upper, right, lower edge in px, zeros where a mask is
        empty. Detectron2's ``Boxes``; for people float (N, 4)."""
        return self._boxes.tensor.numpy() if self.arrays else self._boxes

    @cached_property
    def _boxes(self) -> Boxes:
        return BitMasks(torch.as_tensor(self.masks)).get_bounding_boxes()

    @property
    def areas(self) -> Any:
        """int64 (N,): px of each mask."""
        return self._out(torch.as_tensor(self.masks).flatten(1).sum(1))

    @property
    def propagated(self) -> Any:
        """The propagated masks, float (N, H, W), mean cosine to the references (Eq. 2); None where
        they were not kept. Computed at each access."""
        if self.similarity is None:
            return None
        return self._out(self.frame.upsample(self.similarity))

    def instances(self) -> Instances:
        """Detectron2's Instances of the entities whose mask is not empty, for stock evaluators."""
        masks = torch.as_tensor(self.masks)
        keep = masks.flatten(1).any(1)
        classes = self.ids if self.classes is None else self.classes
        found = Instances(tuple(masks.shape[-2:]))
        found.pred_masks = masks[keep]
        found.scores = torch.as_tensor(self.scores)[keep]
        found.pred_classes = torch.as_tensor(classes, device=masks.device)[keep]
        found.pred_boxes = self._boxes[keep.cpu()]  # on the CPU, wherever the masks are
        return found

    def sem_seg(self, num_classes: int, background: int | None = None) -> Tensor:
        """Class-wise logits for the stock SemSegEvaluator, which takes the arg-max: float
        (num_classes, H, W); −inf for a class that was not asked for. ``background``: class that
        wins where no logit passes the threshold; None: there is none. ValueError: an id out of
        range or given twice."""
        ids = self.ids
        if len(set(ids)) != len(ids) or not all(0 <= i < num_classes for i in ids):
            raise ValueError(f"entity ids {ids} are not distinct classes below {num_classes}")
        out = self.logits.new_full((num_classes, *self.frame.size), -torch.inf)
        out[ids] = self.frame.upsample(self.logits)
        if background is not None:
            out[background] = self.threshold
        return out

    def for_people(self, image: np.ndarray, file_name: str = "") -> Segmentation:
        """The same on the CPU, with its picture, uint8 (H, W, 3), and NumPy arrays; the masks are
        made where the logits are, for a device is quicker at it. ValueError: a score that is NaN
        or infinite."""
        scores = self.scores.detach().cpu()
        require_finite(scores, file_name)
        similarity = None if self.similarity is None else self.similarity.float().cpu()
        shown = replace(
            self,
            logits=self.logits.detach().cpu(),
            scores=scores.numpy(),
            similarity=similarity,
            image=image,
            file_name=file_name,
            classes=None if self.classes is None else [int(c) for c in self.classes],
            arrays=True,
        )
        shown.masks = self.masks.cpu().numpy()
        return shown

    def overlay(self, side: int | None = None) -> np.ndarray:
        """The picture with the merged map over it, one answer per pixel, and one text "name score%"
        for each entity that has pixels: uint8 (H, W, 3), or smaller, its longest side ``side`` px
        at most. ValueError: a segmentation without its picture."""
        from ..utils.visualizer import paint_labels  # brings Matplotlib

        if self.image is None:
            raise ValueError("a segmentation without its picture has no overlay")
        shown = _at_most(self.frame.size, side or max(self.frame.size))
        frame = replace(self.frame, size=_at_most(shown, EXACT))
        merged = replace(self, frame=frame, ids=list(range(len(self)))).label_map(-1)
        image = Image.fromarray(self.image).resize(shown[::-1], Image.Resampling.BILINEAR)
        labels = Image.fromarray(np.asarray(merged)).resize(image.size, Image.Resampling.NEAREST)
        texts = [f"{name} {float(score):.0%}" for name, score in self._titles()]
        return paint_labels(np.asarray(image), np.asarray(labels), self.ids, texts)

    def show(self) -> None:
        """Show the overlay in the notebook, or in the system's viewer."""
        from ..utils.visualizer import show_image

        show_image(self.overlay(PREVIEW))

    def save(self, path: AnyPath) -> None:
        """Write the overlay (.png, .jpg, .jpeg) or ``to_json`` (.json); a folder that is missing is
        made. ValueError: another suffix, or the path of the picture itself."""
        place = results.destination(path, self.file_name)
        if place.suffix.lower() == ".json":
            return write_whole(place, self.to_json())
        write_picture(place, Image.fromarray(self.overlay()), quality=92)

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows; None without a picture."""
        if self.image is None:
            return None
        file = io.BytesIO()
        Image.fromarray(self.overlay(PREVIEW)).save(file, "PNG")
        return file.getvalue()

    def to_instances(self) -> Instances:
        """``instances``; "pred_classes" are the ids of entities, as references gave them."""
        return self.instances()

    def to_coco(self) -> list[dict[str, Any]]:
        """COCO's annotations of the masks that are not empty, for JSON: "category_id" (the id of
        the entity), "score", "bbox" (x, y, width, height), "area", "iscrowd" and "segmentation",
        an RLE."""
        return results.to_coco(self._found())

    def to_supervision(self) -> Any:
        """supervision's ``Detections`` of the masks that are not empty. ImportError: the package is
        missing."""
        return results.to_supervision(self._found())

    def to_json(self) -> str:
        """JSON text of file, size and the entities whose mask is not empty; ``results.to_json``."""
        return results.to_json(self._found(), self.file_name, self.frame.size)

    def to_annotated(self) -> Annotated:
        """The masks that are not empty as things of a picture, for ``write_annotations``, which
        writes several pictures. A class without a name is "entity 3", by its id."""
        found = self._found()
        titles = [n or f"entity {c}" for n, c in zip(found.names, found.categories, strict=True)]
        names = list(dict.fromkeys(titles))
        things = [
            Thing(names.index(title), results.encode(mask))
            for title, mask in zip(titles, found.masks, strict=True)
        ]
        return Annotated(self.file_name, self.frame.size, names, things)

    def to_folder(
        self, folder: AnyPath, kind: str = "coco", names: Mapping[str, str] | None = None
    ) -> str:
        """Write picture and masks for a labelling tool: "coco", "yolo", "labelme", "cvat",
        "labelstudio" or "masks"; ``names``: class → its name in the files. Returns the name that
        reads it. ValueError: a result without a file; others as of ``write_annotations``."""
        if not self.file_name:
            raise ValueError("a segmentation of a picture without a file cannot be written so")
        return write_annotations(kind, [self.to_annotated()], os.fspath(folder), names)

    def _found(self) -> results.Found:
        some = self.take([i for i, area in enumerate(self.areas) if area])
        boxes, masks = some._boxes.tensor.numpy(), torch.as_tensor(some.masks).cpu().numpy()
        classes = some.ids if some.classes is None else list(some.classes)
        scores = [round(float(score), 6) for score in some.scores]
        return results.Found(some.ids, some.names, classes, scores, boxes, masks)

    def _titles(self) -> list[tuple[str, Any]]:
        """The name of each entity, or its id, and its score."""
        named = zip(self.names, self.ids, self.scores, strict=True)
        return [(name or str(i), score) for name, i, score in named]

    def _out(self, tensor: Tensor) -> Any:
        return tensor.cpu().numpy() if self.arrays else tensor


def require_finite(scores: Any, file_name: str | None = None) -> None:
    """Raise ValueError, naming the picture, where scores are NaN or infinite: nothing can be said
    of it then."""
    if torch.is_tensor(scores) and not bool(torch.isfinite(scores).all()):
        raise ValueError(
            f"{file_name or 'a picture'}: the model's scores are not finite; weights, features or "
            "the precision (try fp32) are broken"
        )


def _shared(above: Tensor, scores: Tensor, frame: Frame) -> Tensor:
    """Scores (N,) of entities of which one at most is right where their masks, logits (N, r, r)
    above 0, overlap: odds / (1 + odds + the others' odds, by the share of its mask that they
    mark)."""
    rows, columns = frame.rows_columns(above.shape[-1])
    inside = (above[:, :rows, :columns] > 0).flatten(1).float()
    common = inside @ inside.T
    shares = (common / common.diagonal().clamp(min=1)[:, None]).fill_diagonal_(0)
    odds = torch.logit(scores, eps=1e-4).exp()
    return odds / (1 + odds + shares @ odds)


def _at_most(size: tuple[int, int], side: int) -> tuple[int, int]:
    """A size (H, W) in px, shrunk where its longest side is above ``side``."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
