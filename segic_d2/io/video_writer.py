"""What was found in a video, frame by frame → an overlaid clip, label files, JSON."""

import hashlib
import logging
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ..structures.segmentation import Segmentation
from ..utils.claim import Claim
from ..utils.files import AnyPath
from .clip_writer import ClipWriter
from .opening import open_image
from .track_writer import TrackWriter
from .video_files import need_av
from .video_frames import Video, VideoFrame
from .video_masks import LIMIT, Palette, write_video_mask

logger = logging.getLogger(__name__)

OUTPUTS = ("overlay", "labels", "json")


class VideoWriter(AbstractContextManager[Any]):
    """Writes into a folder, as the frames come:

    - "overlay": ``overlay.mp4``, at the rate and times of the video (``ClipWriter``);
    - "labels": ``labels/NAME.png`` by the frames' names, ids with a palette; in three channels
      where an id is above 254 (``write_video_mask``);
    - "json": ``results.json``, written at the end (``TrackWriter``).

    Earlier results of the same video are written over, whatever else is there is not. Closing it is
    quick, and leaves all files whole.

    Args:
        folder: made where it is missing. video: whose frames will come. outputs: some of
            ``OUTPUTS``. palette: r, g, b, … of the ids; None: PASCAL VOC's. keep: files that were
            given, such as masks.

    Raises:
        ValueError: files of others are in the way, among them those to keep. BlockingIOError:
        another process writes there. ImportError: PyAV is missing, for "overlay".
    """

    def __init__(
        self,
        folder: AnyPath,
        video: Video,
        outputs: Iterable[str] = OUTPUTS,
        palette: Palette | None = None,
        keep: Iterable[AnyPath] = (),
    ) -> None:
        self.folder, self._palette = Path(folder), palette
        wanted, source = set(outputs), os.path.abspath(video.source)
        self._mark = f"segic_d2 {hashlib.sha256(os.fsencode(source)).hexdigest()[:16]}"
        self._labels = self.folder / "labels" if "labels" in wanted else None
        self._refuse_given([*keep, video.source])
        self._stack, self._video = ExitStack(), video
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(Claim(self.folder / ".segic_video.lock"))
            self._clip = self._tracks = None
            if "overlay" in wanted:
                path = self.folder / "overlay.mp4"
                self._need_own(path, _comment_of_clip(path))
                self._clip = stack.enter_context(
                    ClipWriter(path, video.rate, self._mark, video.aspect)
                )
            if "json" in wanted:
                name = Path(source).name or source
                tracks = TrackWriter(self.folder / "results.json", name)
                self._tracks = stack.enter_context(tracks)
            self._earlier = self._earlier_labels()
            self._stack = stack.pop_all()

    def _refuse_given(self, given: Iterable[AnyPath]) -> None:
        own = [self.folder / name for name in ("overlay.mp4", "results.json", "labels")]
        places = [path.resolve() for path in own]
        for file in given:
            path = Path(file).resolve()
            if any(path == place or place in path.parents for place in places):
                raise ValueError(
                    f"{file} lies where the results go, and would be written over: give another "
                    "folder for them"
                )

    def _need_own(self, path: Path, comment: str) -> None:
        if os.path.lexists(path) and comment != self._mark and not _is_empty(path):
            raise ValueError(
                f"{path}: it is there already and is no result of {self._video.source}, which "
                "alone are written over: give another folder"
            )

    def _earlier_labels(self) -> list[Path]:
        """Labels of an earlier run, of which there may be more, and which go at the first frame."""
        folder = self._labels
        files = sorted(folder.iterdir()) if folder is not None and folder.is_dir() else []
        for file in files:
            self._need_own(file, _comment_of_picture(file))
        return files

    def write(self, frame: VideoFrame, result: Segmentation | None) -> None:
        """Add a frame, in order; None: nothing is followed yet."""
        height, width = frame.image.shape[:2]
        while self._earlier:
            self._earlier.pop().unlink()
        if self._clip:
            shown = frame.image if result is None or not len(result) else result.overlay()
            self._clip.write(shown, frame.time)
        if self._labels:
            labels = np.zeros((height, width), np.int32) if result is None else result.label_map()
            path = self._labels / f"{frame.name}.png"
            packed = bool(labels.max(initial=0) > LIMIT)
            write_video_mask(path, labels, self._palette, packed, comment=self._mark)
        if self._tracks:
            self._tracks.write(frame.number, result)

    def close(self) -> None:
        """End all files."""
        self._stack.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_empty(path: Path) -> bool:
    """Whether a file has no content, as one that was never begun."""
    return path.is_file() and not path.stat().st_size


def _comment_of_clip(path: Path) -> str:
    """What a clip says of itself; "" where it is none, or says nothing."""
    if not path.is_file():
        return ""
    av = need_av()
    try:
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            return str(container.metadata.get("comment", ""))
    except av.FFmpegError:
        return ""


def _comment_of_picture(path: Path) -> str:
    try:
        with open(path, "rb") as file, open_image(file) as image:
            return str(image.info.get("Comment", ""))
    except Exception:  # noqa: BLE001  files of other people are anything
        return ""
