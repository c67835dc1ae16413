"""Video files → frames, with PyAV.

What a file's header says of its length is not believed: frames are counted as they are decoded.
"""

import logging
from array import array
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from typing import Any

import numpy as np

from .video_frames import Video, VideoFrame

logger = logging.getLogger(__name__)

RATE = Fraction(25)  # frames per second of files that do not say it
GIVE_UP = 10  # failed reads in a row after which a file has ended


def need_av() -> Any:
    """PyAV's module; ImportError, one line, where it is missing."""
    try:
        import av
    except ImportError as error:
        raise ImportError(
            f"video files need PyAV ({error}): pip install 'segic_d2[video]'; folders of pictures "
            "are read without it"
        ) from error
    return av


class VideoFile(Video):
    """A file; ValueError: it is no video. ImportError: PyAV is missing."""

    def __init__(self, source: str) -> None:
        self._av = need_av()
        with closing(self._open(source)) as container:
            stream = self._stream(container, source)
            rate = stream.average_rate or stream.guessed_rate or RATE
            super().__init__(source, Fraction(rate), stream.frames or None)
            self._stored_aspect = self.aspect = Fraction(stream.sample_aspect_ratio or 1)
            if others := len(container.streams.video) - 1:
                size = f"{stream.codec_context.width}x{stream.codec_context.height}"
                text = "%s has %d video streams: that of %s px is read"
                logger.warning(text, source, others + 1, size)
        self._times, self._rising = array("q"), True  # of all frames decoded so far

    def _open(self, source: str) -> Any:
        try:  # a colon in a name is no protocol
            return self._av.open(f"file:{source}", metadata_errors="replace")
        except self._av.FFmpegError as error:
            raise ValueError(f"cannot read video {source}: {error.strerror}") from error

    def _stream(self, container: Any, source: str) -> Any:
        stream = container.streams.best("video")
        if stream is None or "attached_pic" in str(stream.disposition):
            raise ValueError(f"cannot read video {source}: it has no video stream")
        return stream

    def _decode(self, start: int) -> Iterator[VideoFrame]:
        number = -1
        for number, frame in self._from(start):
            matrix = _display_matrix(frame)
            image = upright_frame(frame.to_ndarray(format="rgb24"), matrix)
            turned = matrix is not None and _is_across(matrix)
            self.aspect = 1 / self._stored_aspect if turned else self._stored_aspect
            seconds = None if frame.pts is None else frame.pts * frame.time_base
            yield VideoFrame(number, seconds, image, f"{number:05d}")
        if number < 0 and not start:
            raise ValueError(f"cannot read video {self.source}: none of its frames can be decoded")

    def _from(self, start: int) -> Iterator[tuple[int, Any]]:
        """(number, frame as decoded) from ``start`` on: by way of the key frame before it where
        its time is known and tells it from all others, else from the first frame."""
        if 0 < start < len(self._times) and self._rising:
            with closing(self._open(self.source)) as container:
                stream, number = self._stream(container, self.source), start
                container.seek(self._times[start], stream=stream)
                for frame in self._raw(container, stream):
                    if number > start or frame.pts == self._times[start]:
                        yield number, frame
                        number += 1
                    elif frame.pts is None or frame.pts > self._times[start]:
                        break  # the file's index is wrong
                if number > start:
                    return
            self.damaged = 0
        with closing(self._open(self.source)) as container:
            frames = self._raw(container, self._stream(container, self.source))
            for number, frame in enumerate(frames):
                if number == len(self._times):
                    self._note(frame.pts)
                if number >= start:
                    yield number, frame

    def _note(self, pts: int | None) -> None:
        self._rising &= pts is not None and (not self._times or pts > self._times[-1])
        self._times.append(-1 if pts is None else pts)

    def _raw(self, container: Any, stream: Any) -> Iterator[Any]:
        """The frames that can be decoded; what cannot be read is counted."""
        failures = 0
        while failures < GIVE_UP:
            try:
                for packet in container.demux(stream):
                    frames = self._frames_of(packet)
                    failures = 0 if frames else failures
                    yield from frames
                return
            except self._av.FFmpegError:
                failures += 1
                self.damaged += 1

    def _frames_of(self, packet: Any) -> list[Any]:
        try:
            return list(packet.decode())
        except self._av.FFmpegError:
            self.damaged += 1
            return []


def upright_frame(image: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """A decoded picture (H, W, 3) as a viewer shows it, by a display matrix, int (9,): a mirror
    image, or turned by a multiple of 90°, of other angles the nearest. None: as it is."""
    if matrix is None or not matrix[[0, 1, 3, 4]].any():
        return image
    a, b, c, d = matrix[[0, 1, 3, 4]].tolist()
    left, up = a, d
    if _is_across(matrix):
        image, left, up = image.transpose(1, 0, 2), c, b
    image = image[:: -1 if up < 0 else 1, :: -1 if left < 0 else 1]
    return np.ascontiguousarray(image)


def _is_across(matrix: np.ndarray) -> bool:
    """Whether columns become rows."""
    a, b, c, d = matrix[[0, 1, 3, 4]].tolist()
    return abs(b) + abs(c) > abs(a) + abs(d)


def _display_matrix(frame: Any) -> np.ndarray | None:
    data = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else np.frombuffer(bytes(data), np.int32)
