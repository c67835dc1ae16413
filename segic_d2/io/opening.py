"""Pillow's own guards, for files of which nobody knows what they hold."""

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from typing import IO

from PIL import Image

MOST = 2**28  # pixels of a picture; reading one takes up to 15 bytes for each
PROGRAMS = ("EPS",)  # formats that Pillow gives to other programs, whatever the file's suffix


class _Lenient:
    """Pillow without its bound of pixels and its warnings, of harmless broken metadata, as long as
    any thread reads; both belong to the whole process, and return with the last one."""

    def __init__(self) -> None:
        self._lock, self._readers = threading.Lock(), 0
        self._limit: int | None = None
        self._quiet = warnings.catch_warnings()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        with self._lock:
            self._readers += 1
            if self._readers == 1:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
                self._quiet = warnings.catch_warnings()
                self._quiet.__enter__()
                warnings.simplefilter("ignore")
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    Image.MAX_IMAGE_PIXELS = self._limit
                    self._quiet.__exit__(None, None, None)


_lenient = _Lenient()
if hasattr(os, "register_at_fork"):  # a child has none of the threads that may hold the lock

    def _anew() -> None:
        global _lenient
        _lenient = _Lenient()

    os.register_at_fork(after_in_child=_anew)


@contextlib.contextmanager
def open_image(file: IO[bytes]) -> Iterator[Image.Image]:
    """A Pillow image, not loaded yet, of a file of any format that Pillow itself reads.
    ValueError: more than ``MOST`` pixels; and whatever Pillow raises."""
    Image.init()
    formats = [name for name in Image.ID if name not in PROGRAMS]
    with _lenient.reading(), Image.open(file, formats=formats) as image:
        width, height = image.size
        if width * height > MOST:
            raise ValueError(
                f"it is {width}x{height} px, more than the {MOST // 10**6} million that are read: "
                "make it smaller, or cut it into parts"
            )
        yield image
