"""Videos → frames, one after the other: files, folders of pictures, cameras."""

import logging
import re
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2

from ..utils.files import AnyPath
from .formats import pictures_among
from .names import distinct_stems
from .pictures import read_image
from .video_files import RATE, VideoFile
from .video_frames import Video, VideoFrame

logger = logging.getLogger(__name__)

FOLDER_RATE = Fraction(24)  # frames per second of folders, as the films of DAVIS
CAMERA = re.compile(r"camera:(\d+)|/dev/video\d+")


def open_video(source: AnyPath) -> Video:
    """A video file, a folder of pictures in natural order ("2" before "10"), or a camera:
    "camera:0", "/dev/video0". FileNotFoundError, ValueError: it is missing, or no video;
    ImportError: PyAV is missing, which files need."""
    path = str(source)
    if CAMERA.fullmatch(path):
        return _Camera(path)
    if Path(path).is_dir():
        return _Folder(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such video: {path}")
    return VideoFile(path)


class _Folder(Video):
    def __init__(self, source: str) -> None:
        files = pictures_among(f for f in Path(source).iterdir() if not f.name.startswith("."))
        self.files = sorted(files, key=lambda file: natural(file.name))
        if not self.files:
            raise ValueError(f"no pictures in the folder {source}")
        super().__init__(source, FOLDER_RATE, len(self.files))
        first, last = self.files[0].name, self.files[-1].name
        self.about = f"{len(self.files)} frames, {first} to {last}"

    def _decode(self, start: int) -> Iterator[VideoFrame]:
        names = distinct_stems(self.files)
        for number in range(start, len(self.files)):
            try:
                image = read_image(self.files[number])
            except (ValueError, OSError) as error:
                self.damaged += 1
                logger.warning("frame %d is left out: %s", number, error)
                continue
            yield VideoFrame(number, number / self.rate, image, names[number])
        if not start and self.damaged == len(self.files):
            raise ValueError(f"cannot read a picture of the folder {self.source}")


class _Camera(Video):
    live = True

    def __init__(self, source: str) -> None:
        super().__init__(source, RATE)

    def _decode(self, start: int) -> Iterator[VideoFrame]:
        index = CAMERA.fullmatch(self.source)
        camera = cv2.VideoCapture(int(index[1]) if index and index[1] else self.source)
        try:
            if not camera.isOpened():
                raise ValueError(f"cannot open the camera {self.source}")
            began = time.monotonic()
            while True:
                there, image = camera.read()
                if not there:
                    return
                seconds = Fraction(time.monotonic() - began).limit_denominator(1000)
                yield VideoFrame(0, seconds, cv2.cvtColor(image, cv2.COLOR_BGR2RGB), "")
        finally:
            camera.release()


def natural(name: str) -> list[int | str]:
    """A key that sorts names as people do: "2" before "10"."""
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]
