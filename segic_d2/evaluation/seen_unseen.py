"""Figures of sets that part their objects into seen and unseen: YouTube-VOS and LVOS.

Which frames the server of YouTube-VOS leaves out is not published. The rule here is our own, and
its figure is named "G (local rule)": it may not be reported as YouTube-VOS's G.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from .object_scores import ObjectScore, VideoScore

STEP = 5  # frames from one annotation of LVOS to the next


def ytvos_frames(listed: Mapping[int, Sequence[str]], names: Sequence[str]) -> dict[int, list[int]]:
    """The frames at which the local rule scores each object, for ``score_frames``: all that
    meta.json lists of the object after its first one, in which it is given.

    Args:
        listed: by object id, the names of the object's frames in meta.json.
        names: the names of the video's T frames.

    ValueError: a listed frame is none of the video's.
    """
    return {k: _numbers(k, frames, names)[1:] for k, frames in listed.items()}


def lvos_frames(
    ranges: Mapping[int, tuple[int, int]], names: Sequence[str], step: int = STEP
) -> dict[int, list[int]]:
    """The frames at which LVOS scores each object, for ``score_frames``: start, start + ``step``, …
    below end, less the first and the last of them.

    Args:
        ranges: by object id, (start, end) of "frame_range" in valid_meta.json.
        names: the names of the video's T frames, each a number.

    ValueError: a frame of the range is none of the video's.
    """
    numbers = [int(name) for name in names]
    return {k: _numbers(k, range(*r, step), numbers)[1:-1] for k, r in ranges.items()}


def ytvos_summary(
    videos: Mapping[str, VideoScore],
    categories: Mapping[str, Mapping[int, str]],
    seen: Collection[str],
) -> dict[str, float]:
    """ "G (local rule)" in percent, the mean of the four "J seen", "J unseen", "F seen" and
    "F unseen", each a mean over objects; then the numbers "objects seen" and "objects unseen". A
    mean of no object is nan, and so is G then.

    Args:
        videos: scores by video and object id.
        categories: the category by video and object id, as in meta.json.
        seen: the categories of the training set.

    ValueError: an object has no category.
    """
    groups: dict[bool, list[ObjectScore]] = {True: [], False: []}
    for video, scores in sorted(videos.items()):
        for k, score in scores.items():
            if k not in categories.get(video, {}):
                raise ValueError(f"{video}: the object {k} has no category")
            groups[categories[video][k] in seen].append(score)
    return _four("G (local rule)", groups)


def lvos_summary(videos: Mapping[str, VideoScore], unseen: Collection[str]) -> dict[str, float]:
    """ "J&F" in percent, the mean of the four as in ``ytvos_summary``, where a video is seen or
    unseen with all its objects; "V" is the deviation of an object's J&F over time from its own
    mean, the root of the mean square, as a mean over objects (lower is steadier).

    Args:
        videos: scores by video and object id.
        unseen: names of videos.
    """
    groups: dict[bool, list[ObjectScore]] = {True: [], False: []}
    for video, scores in sorted(videos.items()):
        groups[video not in unseen].extend(scores.values())
    deviations = [np.std((s.j + s.f) / 2) for s in groups[True] + groups[False]]
    return {**_four("J&F", groups), "V": 100 * _mean(deviations)}


def _four(name: str, groups: Mapping[bool, Sequence[ObjectScore]]) -> dict[str, float]:
    words = {True: "seen", False: "unseen"}
    means = {
        f"{letter} {words[known]}": 100 * _mean(getattr(s, letter.lower()).mean() for s in scores)
        for letter in "JF"
        for known, scores in groups.items()
    }
    counts = {f"objects {words[known]}": len(scores) for known, scores in groups.items()}
    return {name: _mean(means.values()), **means, **counts}


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return float(np.mean(listed)) if listed else float("nan")


def _numbers(k: int, wanted: Iterable[str | int], names: Sequence[str | int]) -> list[int]:
    """Places of frames among those of the video."""
    place = {name: i for i, name in enumerate(names)}
    frames = list(wanted)
    for frame in frames:
        if frame not in place:
            raise ValueError(f"the object {k} has the frame {frame}, which the video lacks")
    return [place[frame] for frame in frames]
