"""What every source of video frames gives, and how it is read."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from .ahead import ahead


class VideoFrame(NamedTuple):
    """A frame of a video.

    Attributes:
        number: counts from 0 in the order of decoding; of a folder, its place among the pictures;
            of a camera, how many were taken before.
        time: seconds, as the file has it, which may be out of order; None: it has none.
        image: uint8 (H, W, 3) RGB, upright. The size may change within a video.
        name: what files of its results are called: "00040", or the picture's stem.
    """

    number: int
    time: Fraction | None
    image: np.ndarray
    name: str


class Video(ABC):
    """The frames of a source. Each iteration reads it anew, in a thread at most two frames ahead,
    and holds its file open only as long; see ``open_video``.

    Attributes:
        source: where it is read from. rate: its nominal frames per second; ``VideoFrame.time``
            is exact. aspect: width of a pixel over its height. expected: the number of frames that
            it says it has, often wrong; None: it says nothing. damaged: packets, of folders
            pictures, of the latest reading that were broken and left out, as far as it has come.
        about: of a folder, which frames were found. live: whether it never waits: only the latest
            frame is kept, others are dropped.
    """

    live = False

    def __init__(self, source: str, rate: Fraction, expected: int | None = None) -> None:
        self.source, self.rate, self.expected = source, rate, expected
        self.aspect, self.damaged, self.about = Fraction(1), 0, ""

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.frames()

    def frames(self, start: int = 0) -> Iterator[VideoFrame]:
        """Frames from the number ``start`` on, of a camera all. ValueError: a source that cannot be
        read, or of which no frame can."""
        self.damaged = 0
        frames = ahead(self._decode(start), live=self.live)
        if self.live:  # numbers without gaps, for what is written of them
            return (f._replace(number=i, name=f"{i:05d}") for i, f in enumerate(frames))
        return frames

    @abstractmethod
    def _decode(self, start: int) -> Iterator[VideoFrame]: ...
