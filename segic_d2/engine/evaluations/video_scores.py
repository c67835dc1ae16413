"""What the masks of videos are worth, by the rules of their data sets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...data.videos import VideoClip
from ...evaluation.object_scores import VideoScore, summarize
from ...evaluation.seen_unseen import lvos_frames, lvos_summary, ytvos_frames, ytvos_summary
from ...evaluation.video import score_frames, score_video
from ...io.video_masks import read_video_mask

RULES = {"davis17": "davis17", "davis16": "davis16", "mose": "objects", "folder": "objects"}
PUBLISHED = {"davis17": 30, "davis16": 20}  # videos of the sets that published figures are of
NOTES = {
    "ytvos": "G (local rule) is not YouTube-VOS's G: which frames its server leaves out is not "
    "published",
    "mose": "scored by vos-benchmark's rules on local truth; the server's is hidden",
    "folder": "scored by vos-benchmark's rules",
    "lvos": "J&F by LVOS's rules; J&F_Mean is the mean over all objects",
}


class _Maps(Sequence[np.ndarray]):
    """Label maps that are read when they are asked for."""

    def __init__(self, names: Sequence[str], read: Any) -> None:
        self.names, self.read = names, read

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: Any) -> Any:
        return self.read(self.names[i])


def score_clip(clip: VideoClip, folder: Path) -> VideoScore:
    """J and F of a video's objects, from its masks in a folder. ValueError, FileNotFoundError: as
    of ``evaluation.score_video``; a mask is missing or unreadable."""
    truth = _Maps(clip.required, clip.labels)
    predicted = _Maps(clip.required, lambda f: read_video_mask(folder / f"{f}.png").labels)
    if clip.layout in RULES:
        return score_video(truth, predicted, RULES[clip.layout], clip.name)
    try:
        if clip.layout == "ytvos":
            frames = ytvos_frames(clip.listed, clip.required)
        else:
            frames = lvos_frames(clip.ranges, clip.required)
    except ValueError as error:
        raise ValueError(f"{clip.name}: {error}") from error
    return score_frames(truth, predicted, frames, clip.name)


def summary_of(
    clips: Sequence[VideoClip], scores: Mapping[str, VideoScore]
) -> tuple[dict[str, float], str, bool]:
    """Metrics of all scored videos, a note, and whether published figures are of these videos.
    ``metrics`` count the "videos" alone where no truth is there. Clips are of one layout."""
    layout = clips[0].layout
    if not any(scores.values()):
        note = "no truth is there: the submission is for the set's server"
        return {"videos": len(clips)}, note, False
    # Detectron2 prints no name with "-" in its table
    metrics = {k.replace("-", "_"): v for k, v in summarize(scores).items()}
    note = NOTES.get(layout, "")
    seen = {clip.name: clip.seen for clip in clips}
    if any(seen.values()):
        metrics = _seen_unseen(layout, scores, seen) | metrics
    elif layout in ("ytvos", "lvos"):
        note += "; which objects training knows is not: there is no list of them"
    if missing := len(clips) - len(scores):
        note += f"; {missing} of {len(clips)} videos have no truth"
    return metrics, note.removeprefix("; "), len(scores) == PUBLISHED.get(layout)


def _seen_unseen(
    layout: str, scores: Mapping[str, VideoScore], seen: Mapping[str, Mapping[int, bool]]
) -> dict[str, float]:
    if layout == "lvos":
        return lvos_summary(scores, [v for v, own in seen.items() if not any(own.values())])
    kinds = {v: {i: str(known) for i, known in own.items()} for v, own in seen.items()}
    return ytvos_summary(scores, kinds, [str(True)])
