"""Objects followed through a video: frames in one after the other, masks with steady ids out.

>>> video = VideoPredictor(InContextPredictor.from_pretrained())
>>> video.add(frames[0], "first.png")  # ids are those of the mask
>>> for result in video.track(frames):
...     result.ids, result.masks, result.scores, result.label_map()

Shapes: N objects, H×W a video frame as displayed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice

import numpy as np
import torch

from ..io.pictures import AnyPicture
from ..io.prompts import AnyPrompt
from ..structures.features import Features
from ..structures.memory import Memory
from ..structures.segmentation import Segmentation
from .class_tracks import ClassTracks
from .cuts import histogram, is_cut
from .given_masks import encode_given, read_given
from .image import InContextPredictor
from .merging import boxes_of, inside, merged, nearest_first, with_given, within_windows, without
from .motion import Motion, meeting
from .references import AnyNames
from .targets import ReadTarget, read_target
from .video_file import read_state, write_state
from .video_options import VideoOptions

BELIEVED = 0.5  # self-IoU below which an object will be followed badly
SURE = 0.75  # share of its own score from which an object that was missed is followed again

logger = logging.getLogger(__name__)


@dataclass
class _Given:
    """The frame that masks were given in last, as it was read, and its features."""

    picture: np.ndarray
    features: Features
    masks: dict[int, np.ndarray] = field(default_factory=dict)


class VideoPredictor:
    """Follows objects through a video, one frame at a time; what it holds does not grow. Where the
    picture changes so much that a new shot begins, recent memory and windows are dropped.

    Args:
        predictor: with the model, see ``InContextPredictor``; its references are not used unless
            ``follow_references`` is called.
        options: see ``VideoOptions``; None: those of the predictor's config (``TEST.VIDEO``).
    """

    def __init__(self, predictor: InContextPredictor, options: VideoOptions | None = None) -> None:
        self.predictor, self.options = predictor, options or predictor.video
        self.reset()

    def reset(self) -> None:
        """Forget all objects and frames."""
        self.memory = Memory(self.options.memory)
        self.frame_number = 0  # frames that were stepped through
        self._seen: dict[int, Motion] = {}
        self._given: _Given | None = None
        self._colours: np.ndarray | None = None  # of the last frame
        self._classes: ClassTracks | None = None

    @property
    def objects(self) -> dict[int, str | None]:
        """{id: name} of what is followed, ids ascending; of classes, of what was seen lately."""
        if self._classes is not None:
            names = self.predictor.entities
            return {i: names[t.category] for i, t in sorted(self._classes.tracks.items())}
        return {i: self.memory[i].given.names[0] for i in self.memory.ids}

    @property
    def bytes(self) -> int:
        """What the tensors of its memory take."""
        return self.memory.bytes

    @torch.no_grad()
    def add(
        self,
        frame: AnyPicture,
        masks: AnyPrompt,
        ids: Sequence[int] | None = None,
        names: AnyNames = None,
    ) -> dict[int, float]:
        """Follow what is marked in a frame from it on. An id that is followed already is corrected:
        it gets one more given shot, and what was remembered of recent frames is dropped.

        If this frame is stepped next, what is marked comes back as it was given.

        Args:
            frame: as displayed. masks: a label map of ids, or any prompt of ``to_marked``.
            ids: distinct, above 0, for what is marked, in the order of its own ids; None: these.
            names: as of ``read_references``: in the order of the ids, or {id: name}; of a corrected
                object None keeps its name.

        Returns:
            {id: self-IoU}: how much of it the model finds in this very frame, 0 to 1. It is logged,
            and below 0.5 warned of: that object will be followed badly.

        Raises:
            ValueError, FileNotFoundError: as of ``to_picture`` and ``to_marked``; an empty mask;
                ids that are not distinct, not above 0, or of another number than what is marked.
            RuntimeError: classes are followed.
        """
        if self._classes is not None:
            raise RuntimeError("classes are followed; masks are added after reset()")
        model = self.predictor.model
        view, picture, _ = read_target(frame, model.input)
        found, named = read_given(frame, picture, masks, ids, names, model)
        given = self._given
        if given is None or not np.array_equal(given.picture, picture):
            given = _Given(picture, model.encode_images([view]))
        features, views = given.features, self.options.views
        context = encode_given(model, picture, found, named, features, views, "instance")
        seen = model.segment_frame(features, context, self.options.cross_points)
        marked = {i: found[i] for i in context.ids}
        own = torch.from_numpy(np.stack([*marked.values()])).to(seen.logits.device)
        ious = dict(zip(context.ids, _ious(seen.masks, own), strict=True))
        scores = dict(zip(context.ids, seen.scores.tolist(), strict=True))
        parts = None
        if self.options.memory.parts:
            known = with_given(seen, marked)
            parts = model.remember(features, known, "instance", self.options.memory.parts)
        self.memory.give(context, scores, ious, parts)
        for i in context.ids:
            self._seen[i] = Motion()
        given.masks |= found
        self._given = given
        self._tell(ious)
        return ious

    def _tell(self, ious: dict[int, float]) -> None:
        for i, iou in ious.items():
            name = self.objects[i]
            shown = f"object {i} ({name})" if name else f"object {i}"
            text = "%s: the model finds it in its own frame with an IoU of %.2f%s"
            advice = "; expect bad masks, and add it in another frame" if iou < BELIEVED else ""
            logger.log(logging.WARNING if advice else logging.INFO, text, shown, iou, advice)

    def follow_references(self) -> None:
        """Follow the single objects of the classes that the predictor's references show; ids count
        them from 1 in the order of their appearance. RuntimeError: no references, or masks were
        added before. ValueError: a model that does not tell objects apart; give it masks."""
        if len(self.memory):
            raise RuntimeError("objects are followed; classes are after reset()")
        _ = self.predictor.entities  # RuntimeError: no references
        self.predictor.model.require_objects()
        self._classes = ClassTracks(self.options.lost)

    def step(self, frame: AnyPicture) -> Segmentation:
        """The objects in the next frame: ids ascending, those of objects that are not seen among
        them, with an empty mask; of classes, only those that are seen. ``names``, ``scores``,
        ``masks`` bool (N, H, W), ``label_map()`` int32 (H, W). RuntimeError: nothing is followed.
        ValueError, FileNotFoundError: as of ``to_picture``."""
        read = read_target(frame, self.predictor.model.input)
        return self._step(read, self._features_of(read))

    def track(
        self, frames: Iterable[AnyPicture], batch_size: int | None = None
    ) -> Iterator[Segmentation]:
        """``step`` for each of many frames. One frame is held at a time; where frames do not depend
        on each other (``TEST.VIDEO.MEMORY`` "first") ``batch_size`` of them are encoded at once
        (None: the predictor's). ``add`` and ``remove`` between two results act on the frames that
        are not out yet. ValueError: a ``batch_size`` below 1."""
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be a whole number from 1 on")
        dependent = self.options.memory.kind != "first" and self._classes is None
        at_once = 1 if dependent else batch_size or self.predictor.batch_size
        rest = iter(frames)
        while chunk := list(islice(rest, at_once)):
            if len(chunk) == 1:
                yield self.step(chunk.pop())
                continue
            read = [read_target(frame, self.predictor.model.input) for frame in chunk]
            chunk.clear()
            features = self._encoded(read)
            for row, one in enumerate(read):
                yield self._step(one, features[row : row + 1])

    def remove(self, id: int) -> None:
        """Follow an object no longer. ValueError: no such id."""
        self.memory.remove(id)
        del self._seen[id]
        if self._given is not None:
            self._given.masks.pop(id, None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what is remembered to a .safetensors file of some KB per object (of a model that
        remembers cells, 400 KB per shot). A frame that masks were given in is not in it: step
        through it before."""
        state = {
            "frame": self.frame_number,
            "seen": {str(i): asdict(seen) for i, seen in self._seen.items()},
            "colours": None if self._colours is None else self._colours.tolist(),
        }
        write_state(path, state, self.memory, self._classes, self.predictor.model.fingerprint)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from the file that ``save`` wrote, by its memory's options. A call that fails
        changes nothing. FileNotFoundError: no file; ValueError: another kind of file, or another
        model's (the differences are named)."""
        model = self.predictor.model
        state, memory, classes = read_state(path, model.fingerprint, model.device)
        self.reset()
        self.memory, self._classes = memory, classes
        self.options = replace(self.options, memory=memory.options)
        self.frame_number, colours = state["frame"], state["colours"]
        self._colours = None if colours is None else np.array(colours)
        for i, seen in state["seen"].items():
            self._seen[int(i)] = Motion.unpacked(seen)

    def _features_of(self, read: ReadTarget) -> Features:
        """The features of a frame; of the one that masks were given in they are known."""
        if self._given is not None and np.array_equal(self._given.picture, read[1]):
            return self._given.features
        return self._encoded([read])

    @torch.no_grad()
    def _encoded(self, read: Sequence[ReadTarget]) -> Features:
        with self.predictor.autocast():
            return self.predictor.model.encode_images([view for view, *_ in read])

    @torch.no_grad()
    def _step(self, read: ReadTarget, features: Features) -> Segmentation:
        _, picture, file = read
        if not len(self.memory) and self._classes is None:
            raise RuntimeError("nothing is followed: add(frame, masks) first")
        colours = histogram(picture)
        cut = self._colours is not None and is_cut(self._colours, colours)
        self._colours = colours
        self.frame_number += 1
        if self._classes is not None:
            return self._of_classes(features, self._classes, cut).for_people(picture, file)
        if cut:
            logger.info("frame %d: a new shot begins", self.frame_number - 1)
            self.memory.forget_recent()
            self._seen = dict.fromkeys(self._seen, Motion())
        given, self._given = self._given, None
        known = given.masks if given and np.array_equal(given.picture, picture) else {}
        found = self._found(features)
        self._write(features, found, known)
        return with_given(found, known).for_people(picture, file)

    def _found(self, features: Features) -> Segmentation:
        """All objects in a frame, merged; their last boxes are noted."""
        options, found = self.options, self._decoded(features)
        if options.window:
            seen = [self._seen[i] for i in found.ids]
            boxes = [one.expected for one in seen]
            margins = [options.window * (1 + one.missed) for one in seen]
            found = within_windows(found, boxes, margins)
        floors = [options.absent * self.memory[i].own_score for i in found.ids]
        low = [s < floor for s, floor in zip(found.scores.tolist(), floors, strict=True)]
        found = without(found, low)
        if options.window and options.merge != "independent":
            found = nearest_first(
                found, boxes, [one.size for one in seen], [one.missed > 0 for one in seen]
            )
        return merged(found, options.merge)

    def _decoded(self, features: Features) -> Segmentation:
        """All objects as the model finds them; independent ones each by itself, so that no other
        changes a bit of it."""
        model, options, cross = self.predictor.model, self.options, self.options.cross_points
        with self.predictor.autocast():
            if options.merge != "independent":
                return model.segment_frame(features, self.memory.read(), cross)
            alone = [
                model.segment_frame(features, self.memory.read([i]), cross) for i in self.memory.ids
            ]
        first, ids, names = alone[0], [one.ids[0] for one in alone], [one.names[0] for one in alone]
        logits, scores = torch.cat([x.logits for x in alone]), torch.cat([x.scores for x in alone])
        return replace(first, logits=logits, scores=scores, ids=ids, names=names, similarity=None)

    def _write(self, features: Features, found: Segmentation, known: dict[int, np.ndarray]) -> None:
        """Note where the objects are, and remember those whose turn it is; what was given in this
        very frame is remembered already."""
        shown = with_given(found, known)
        marked = inside(shown)
        met = meeting([self._seen[i].expected for i in found.ids])
        floors = [SURE * self.memory[i].own_score for i in found.ids]
        sure = [s >= floor for s, floor in zip(shown.scores.tolist(), floors, strict=True)]
        for i, box, *told in zip(found.ids, boxes_of(marked), met, sure, strict=True):
            self._seen[i] = self._seen[i].after(box, self.options.lost, *told)
        cell = (found.logits.shape[-1] / features.map.shape[-1]) ** 2
        areas = inside(found).flatten(1).sum(1).tolist()
        scores = {
            i: score
            for i, score, area in zip(found.ids, found.scores.tolist(), areas, strict=True)
            if area >= cell and i not in known
        }
        if due := self.memory.due(scores):
            # of those that are there alone, but competing with all
            rows = [row for row, i in enumerate(found.ids) if i in scores]
            context = self.predictor.model.remember(
                features, found.take(rows), "instance", self.options.memory.parts
            )
            written = [row for row, i in enumerate(context.ids) if i in due]
            self.memory.write(context.take(written), scores)

    def _of_classes(self, features: Features, tracks: ClassTracks, cut: bool) -> Segmentation:
        """The single objects of the references' classes in a frame, by id."""
        predictor, model = self.predictor, self.predictor.model
        context = predictor.context
        assert context is not None  # since ``follow_references``
        with predictor.autocast():
            found = model.segment_instances(features, context, model.stock.limit)[0]
        found = found.compete(model.absent)
        boxes = boxes_of(inside(found))
        there = [row for row, box in enumerate(boxes) if box is not None]
        found, places = found.take(there), [box for box in boxes if box is not None]
        if not there:
            tracks.assign([], found.logits.new_zeros(0, 1), [], cut)
            return found
        categories = [int(i) for i in found.ids]
        found.ids = [*range(len(there))]
        seen = model.remember(features, found, context.task)
        units = seen.tensors["unit_prototypes"][:, 0]
        found.ids = tracks.assign(places, units, categories, cut)
        found.classes = categories
        return found.take(np.argsort(found.ids).tolist())


def _ious(found: torch.Tensor, true: torch.Tensor) -> list[float]:
    """IoU of bool masks (N, H, W), pair by pair."""
    found, true = found.flatten(1), true.flatten(1)
    common, either = (found & true).sum(1), (found | true).sum(1)
    return (common / either.clamp(min=1)).tolist()
