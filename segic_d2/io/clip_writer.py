"""Pictures with their times → an mp4 file that can be played however its writing ends."""

import logging
from contextlib import AbstractContextManager
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from ..utils.files import AnyPath
from .video_files import need_av

logger = logging.getLogger(__name__)

TICK = Fraction(1, 60000)  # s; MPEG-4 knows nothing finer than 1 / 65535
KEYS = 24  # frames from one key frame to the next: a killed process loses at most these
BACK = 1  # s; a time that falls back by more is of a clip that begins anew
ENCODERS = ("libx264", "libopenh264", "mpeg4")
OPTIONS = {"libx264": {"preset": "veryfast", "crf": "20", "tune": "zerolatency"}}
BITS = 0.25  # per pixel and frame, of encoders that are not told a quality


class ClipWriter(AbstractContextManager[Any]):
    """Writes H.264, or MPEG-4 where there is no encoder of it, in parts: a file that was not closed
    plays to its last part. All pictures get the size of the first, which is padded to even sides;
    later ones of another size are fitted into it. The log says both once.

    Args:
        path: of the file, which is written over. rate: nominal frames per second; times are exact.
        comment: metadata of the file. aspect: width of a pixel over its height.
    """

    def __init__(
        self, path: AnyPath, rate: Fraction, comment: str = "", aspect: Fraction | None = None
    ) -> None:
        self.path, self._av = str(path), need_av()
        self._rate = rate if 0 < rate <= 240 else Fraction(25)  # headers say anything
        self._comment, self._aspect = comment, aspect
        self._container: Any = None
        self._stream: Any = None
        self._clock = _Clock(1 / self._rate)
        self._fitted = False

    def write(self, image: np.ndarray, time: Fraction | None = None) -> None:
        """Add a picture, uint8 (H, W, 3), shown from a time in s on; None: at the nominal rate."""
        if self._stream is None:
            self._open(*image.shape[:2])
        frame = self._av.VideoFrame.from_ndarray(self._fit(image), "rgb24")
        frame.pts, frame.time_base = round(self._clock.next(time) / TICK), TICK
        frame.duration = round(1 / self._rate / TICK)
        self._container.mux(self._stream.encode(frame))

    def _open(self, height: int, width: int) -> None:
        self._size = height, width
        # from FFmpeg 8 on a file that is closed is no longer in parts, and so has a length
        hybrid = self._av.library_versions["libavformat"] >= (62,)
        flags = "hybrid_fragmented" if hybrid else "frag_keyframe+empty_moov"
        options = {"movflags": flags, "flush_packets": "1"}
        self._container = self._av.open(f"file:{self.path}", "w", format="mp4", options=options)
        if self._comment:
            self._container.metadata["comment"] = self._comment
        name = next(name for name in ENCODERS if _has(self._av, name))
        stream = self._container.add_stream(name, rate=self._rate)
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt, stream.gop_size, stream.max_b_frames = "yuv420p", KEYS, 0
        stream.options = OPTIONS.get(name, {})
        if not stream.options:
            stream.bit_rate = max(500_000, int(height * width * self._rate * BITS))
        stream.codec_context.time_base = TICK
        if self._aspect and self._aspect != 1:
            stream.codec_context.sample_aspect_ratio = self._aspect
        self._stream = stream
        if height % 2 or width % 2:
            added = " and ".join(["a column"] * (width % 2) + ["a row"] * (height % 2))
            text = "%s: %dx%d px is odd, which video does not know; added: %s"
            logger.warning(text, self.path, width, height, added)

    def _fit(self, image: np.ndarray) -> np.ndarray:
        """A picture of the file's size: with black around it where it has another form."""
        height, width = self._size
        if image.shape[:2] != self._size:
            if not self._fitted:
                text = "%s: frames of %dx%d px are fitted into %dx%d, the size of the first"
                logger.warning(text, self.path, *image.shape[1::-1], width, height)
                self._fitted = True
            scale = min(height / image.shape[0], width / image.shape[1])
            own = [max(1, round(side * scale)) for side in image.shape[:2]]
            small = np.asarray(Image.fromarray(image).resize(own[::-1]))
            before = [(whole - part) // 2 for whole, part in zip(self._size, own, strict=True)]
            image = np.zeros((height, width, 3), np.uint8)
            image[before[0] : before[0] + own[0], before[1] : before[1] + own[1]] = small
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        return image

    def close(self) -> None:
        """End the file; without a picture there is none."""
        if self._container is None:
            return
        container, self._container = self._container, None
        try:
            container.mux(self._stream.encode())
        finally:
            container.close()

    def __exit__(self, *_: object) -> None:
        self.close()


class _Clock:
    """Times of a source → times of a file, which rise: from 0 on, as long apart as they were. What
    falls back a little follows half a frame later, what has no time a frame later."""

    def __init__(self, step: Fraction) -> None:
        self._step, self._shift, self._last = step, Fraction(0), Fraction(-1)

    def next(self, time: Fraction | None) -> Fraction:
        if self._last < 0:
            self._shift, self._last = -(time or Fraction(0)), Fraction(0)
            return self._last
        shown = self._last + self._step if time is None else time + self._shift
        if shown <= self._last - BACK:
            self._shift += self._last + self._step - shown
            shown = self._last + self._step
        self._last = max(shown, self._last + self._step / 2) if shown <= self._last else shown
        return self._last


def _has(av: Any, encoder: str) -> bool:
    try:
        av.Codec(encoder, "w")
    except ValueError:
        return False
    return True
