"""One video of a data set followed, and how videos are shared out over processes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...data.health.damaged import ERRORS, Damaged, one_line
from ...data.health.verify import verify_files
from ...data.records import File
from ...data.videos import VideoClip
from ...io.ahead import ahead
from ...io.video_masks import write_video_mask


def share(lengths: Sequence[int], processes: int) -> list[list[int]]:
    """The numbers of the videos that each process takes, whole: the longest first, each by the one
    that has the fewest frames so far, of equals the first."""
    parts: list[list[int]] = [[] for _ in range(processes)]
    frames = [0] * processes
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        least = frames.index(min(frames))
        parts[least].append(i)
        frames[least] += lengths[i]
    return parts


def follow(video: Any, clip: VideoClip, folder: Path, frames: str = "all") -> None:
    """Write the masks of a video's required frames, ``FRAME.png``, with the palette that came in.

    Args:
        video: a ``VideoPredictor`` that follows nothing yet.
        folder: where to.
        frames: of ``TEST.VIDEO.FRAMES``: "all", or "required": those and the given ones.

    ValueError, FileNotFoundError: naming the file that cannot be read, or does not fit.
    """
    required = frozenset(clip.required)
    names = [f for f in clip.frames if frames == "all" or f in required or f in clip.given]
    results: Iterator[Any] | None = None  # from the first frame on in which an object is given
    for n, name in enumerate(names):
        if name in clip.given and (given := clip.given_labels(name)).any():
            video.add(clip.frame(name), given)
            results = results or video.track(ahead(_read(clip, names[n:])))
        labels = next(results).label_map() if results else np.zeros(clip.size, np.uint8)
        if name in required:
            write_video_mask(folder / f"{name}.png", labels, clip.palette)


def _read(clip: VideoClip, names: Sequence[str]) -> Iterator[np.ndarray]:
    for name in names:
        yield clip.frame(name)


def faults(clip: VideoClip, verify: str) -> list[Damaged]:
    """What is wrong with a video, by ``TEST.VERIFY``: its given masks, with "full" its frames and
    truth as well; the item is its name."""
    if verify == "none":
        return []
    try:
        clip.check(full=verify == "full")
    except ERRORS as error:
        return [Damaged(clip.name, one_line(error))]
    if verify != "full":
        return []
    found = verify_files([File(file, "image") for file in clip.frames.values()])
    return [Damaged(clip.name, fault.reason) for fault in found]
