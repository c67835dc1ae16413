"""Objects followed through a video: frames in one after the other, masks with steady ids out.

>>> video = VideoPredictor(InContextPredictor.from_pretrained())
>>> video.add(frames[0], "first.png")  # ids are those of the mask
>>> for result in video.track(frames):
...     result.ids, result.masks, result.scores, result.label_map()

Shapes: N objects, H×W a video frame as displayed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from ..io.pictures import AnyPicture
from ..io.prompts import AnyPrompt
from ..structures.segmentation import Segmentation
from .image import InContextPredictor
from .references import AnyNames


class VideoPredictor:
    """Follows objects through a video, one frame at a time; what it holds does not grow.

    Args:
        predictor: with the model, see ``InContextPredictor``; its references are not used unless
            ``follow_references`` is called.
    """

    def __init__(self, predictor: InContextPredictor) -> None:
        raise NotImplementedError

    @property
    def objects(self) -> dict[int, str | None]:
        """{id: name} of what is followed, ids ascending."""
        raise NotImplementedError

    @property
    def frame_number(self) -> int:
        """How many frames were stepped through."""
        raise NotImplementedError

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
            names: as of ``read_references``: in the order of the ids, or {id: name}.

        Returns {id: self-IoU}: how much of it the model finds in this very frame, 0 to 1. It is
        logged, and below 0.5 warned of: that object will be followed badly. ValueError,
        FileNotFoundError: as of ``to_picture`` and ``to_marked``; an empty mask; ids that are not
        distinct or not above 0, or of another number than what is marked.
        """
        raise NotImplementedError

    def follow_references(self) -> None:
        """Follow the single objects of the classes that the predictor's references show; ids count
        them from 1 in the order of their appearance. RuntimeError: no references, or ``add`` was
        called before."""
        raise NotImplementedError

    def step(self, frame: AnyPicture) -> Segmentation:
        """The objects in the next frame: ids ascending, those of objects that are not seen among
        them, with an empty mask; ``names``, ``scores``, ``masks`` bool (N, H, W), ``label_map()``
        int32 (H, W). RuntimeError: nothing is followed. ValueError, FileNotFoundError: as of
        ``to_picture``."""
        raise NotImplementedError

    def track(
        self, frames: Iterable[AnyPicture], batch_size: int | None = None
    ) -> Iterator[Segmentation]:
        """``step`` for each of many frames. One frame is held at a time; where frames do not depend
        on each other (``TEST.VIDEO.MEMORY`` "first") ``batch_size`` of them are encoded at once
        (None: the predictor's). ``add`` and ``remove`` between two results act on the frames that
        are not out yet."""
        raise NotImplementedError

    def remove(self, id: int) -> None:
        """Follow an object no longer. ValueError: no such id."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget all objects and frames."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what is remembered to a .safetensors file of some KB per object."""
        raise NotImplementedError

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from the file that ``save`` wrote. FileNotFoundError: no file; ValueError: another
        kind of file, or another model's (the differences are named)."""
        raise NotImplementedError
