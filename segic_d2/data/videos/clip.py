"""One video of a data set: its frames, which masks are given, and which must be written.

Shape shorthand: H×W the size of the video's masks, in which frames are read and masks written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from ...io.pictures import image_size, read_image
from ...io.video_masks import Palette, read_video_mask

VOID = 255
ALIKE = 0.01  # by how much two aspect ratios may differ
VOIDS = {"davis17": "background", "davis16": "object"}  # of layouts; of others it is a fault


@dataclass(frozen=True)
class VideoClip:
    """A video. Frames are called by their files' stems.

    Attributes:
        name: of the video. layout: of its data set: "davis17", "davis16", "ytvos", "mose", "lvos"
            or "folder".
        frames: {frame: file}, in time. maps: {frame: file of its mask}, those that are there.
        given: {frame: ids that are given there; None: all that its mask shows}.
        required: the frames whose masks are written, in time.
        truth: whether the maps of all required frames are the truth.
        listed: of ytvos, by id, the frames of meta.json. ranges: of lvos, by id, (start, end).
        seen: by id, whether training knows the object's kind; empty: not known.
    """

    name: str
    layout: str
    frames: Mapping[str, str]
    maps: Mapping[str, str]
    given: Mapping[str, frozenset[int] | None]
    required: tuple[str, ...]
    truth: bool = False
    listed: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    ranges: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    seen: Mapping[int, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if Path(self.name).name != self.name:  # it becomes a folder of results
            raise ValueError(f"{self.name!r} is no name of a video: it is one of a folder")

    @cached_property
    def size(self) -> tuple[int, int]:
        """(H, W) of the first given mask."""
        return image_size(self.maps[next(iter(self.given))])

    @cached_property
    def palette(self) -> Palette | None:
        """Of the first given mask; None: it has none."""
        return read_video_mask(self.maps[next(iter(self.given))]).palette

    def frame(self, name: str) -> np.ndarray:
        """A frame, uint8 (H, W, 3), brought to the masks' size. ValueError, FileNotFoundError name
        the file: no picture, or of another shape than the masks."""
        picture = read_image(self.frames[name])
        (height, width), (h, w) = self.size, picture.shape[:2]
        if (h, w) == (height, width):
            return picture
        if abs(w * height / (h * width) - 1) > ALIKE:
            raise ValueError(
                f"{self.frames[name]} is {w}x{h} px, the masks of the video {self.name} "
                f"{width}x{height} px: another shape"
            )
        resized = Image.fromarray(picture).resize((width, height), Image.Resampling.BOX)
        return np.asarray(resized)

    def labels(self, name: str) -> np.ndarray:
        """The mask of a frame, int32 (H, W), as its file has it. ValueError, FileNotFoundError name
        the file: it is missing, coloured, of another size, or has 255, which is no id (davis17 and
        davis16 have it)."""
        labels = read_video_mask(self.maps[name]).labels
        if labels.shape != self.size:
            (h, w), (height, width) = labels.shape, self.size
            raise ValueError(
                f"{self.maps[name]} is {w}x{h} px, the first mask of the video {self.name} "
                f"{width}x{height} px"
            )
        if self.layout not in VOIDS and (labels == VOID).any():
            raise ValueError(
                f"{self.maps[name]} has the value 255, which is void: number objects 1 to 254"
            )
        return labels

    def given_labels(self, name: str) -> np.ndarray:
        """The ids that are given in a frame, int32 (H, W), 0 elsewhere: of davis16 all are 1.
        ValueError as of ``labels``; it also names the file, and the id, that shows an id which the
        video has not, or lacks one that starts there."""
        labels, ids = self.labels(name), self.given[name]
        if self.layout == "davis16":
            void = VOID if set(np.unique(labels).tolist()) - {0, VOID} else 0
            return ((labels != 0) & (labels != void)).astype(np.int32)
        labels = np.where(labels == VOID, 0, labels)
        shown = set(np.unique(labels).tolist()) - {0}
        if (known := {*self.listed, *self.ranges}) and (unknown := sorted(shown - known)):
            raise ValueError(
                f"{self.maps[name]} shows the id {unknown[0]}; the video {self.name} has the "
                f"objects {', '.join(map(str, sorted(known)))}"
            )
        starting = ids or frozenset(i for i, f in self.listed.items() if f[0] == name)
        if lost := sorted(starting - shown):
            raise ValueError(
                f"{self.maps[name]} does not show the object {lost[0]} of the video {self.name}, "
                "which starts there"
            )
        return labels if ids is None else np.where(np.isin(labels, [*ids]), labels, 0)

    def check(self, full: bool = False) -> None:
        """Read all given masks and their frames; ``full``: also the truth. ValueError,
        FileNotFoundError: what is wrong; a video in which nothing is given."""
        there = False
        for name in self.given:
            there |= bool(self.given_labels(name).any())
            self.frame(name)
        if not there:
            files = ", ".join(self.maps[name] for name in self.given)
            raise ValueError(f"no object is given in the video {self.name}: {files}")
        for name in self.required if full and self.truth else ():
            self.labels(name)
