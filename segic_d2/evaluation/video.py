"""J and F of the objects of a video, from label maps: value = object id, 0 = background.

Label maps are integers (T, h, w), or any sequence of T maps (h, w), which may be read when they are
asked for: each is asked for once, in order, but for the first. Shape shorthand: T frames of the
video, h and w pixels of the frame's own size.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from .boundary import boundary_f, region_similarity
from .object_scores import ObjectScore, VideoScore

LabelMaps = np.ndarray | Sequence[np.ndarray]
RULES = ("davis17", "davis16", "objects")
VOID = 255  # a value of DAVIS's annotations that is no object


def score_video(
    truth: LabelMaps, predicted: LabelMaps, rules: str = "davis17", name: str = "the video"
) -> VideoScore:
    """J and F of each object of a video. The first and the last frame are not scored.

    Args:
        truth: label maps of T frames, as annotated.
        predicted: as many label maps, each of the same size as the truth's.
        rules: "davis17", DAVIS 2017's: the objects are 1 to the highest id of the first annotation,
            255 in the truth is background, and an id that is there nowhere scores 1. "davis16":
            all ids are the one object, id 1; 255 in the truth is background, unless the first
            annotation has no other value, as DAVIS 2016's own files. "objects", vos-benchmark's,
            for folders with late objects: whatever the truth shows in a scored frame, 255 too, each
            from the scored frame on in which the truth or the prediction first shows it.
        name: the video, for errors.

    ValueError, a line that names the video and the frame: fewer than 3 frames, missing frames, two
    sizes, no label map; in davis17 also an id above the number of objects, such as 255.
    """
    if rules not in RULES:
        raise ValueError(f"the rules are {rules!r}: choose one of {', '.join(RULES)}")
    if len(truth) < 3:
        raise ValueError(
            f"{name} has {len(truth)} frames: the first and the last are not scored, so it needs 3"
        )
    frames = range(1, len(truth) - 1)
    if rules == "davis16":
        void = 0 if _ids(truth[0]) == [VOID] else VOID
        pairs = label_pairs(truth, predicted, frames, name)
        return _score(
            ((t, (a != 0) & (a != void), b != 0) for t, a, b in pairs), lambda t, a, b: (1,)
        )
    pairs = label_pairs(truth, predicted, frames, name)
    if rules == "davis17":
        count = _objects_of_first(truth[0], name)
        return _score(_known(pairs, range(1, count + 1), name), lambda t, a, b: range(1, count + 1))
    seen: set[int] = set()
    true: set[int] = set()

    def seen_so_far(t: int, a: np.ndarray, b: np.ndarray) -> Iterable[int]:
        true.update(_ids(a))
        seen.update(true, _ids(b))
        return seen

    scores = _score(pairs, seen_so_far)
    return {k: score for k, score in scores.items() if k in true}


def score_frames(
    truth: LabelMaps,
    predicted: LabelMaps,
    frames: Mapping[int, Collection[int]],
    name: str = "the video",
) -> VideoScore:
    """J and F of each object at frames of its own, {id: numbers of frames from 0}; an object
    without frames is left out. The rest is as ``score_video`` says. ValueError, naming the video
    and the frame: also a predicted id that is no object."""
    own = {k: frozenset(numbers) for k, numbers in frames.items()}
    numbers = sorted(frozenset().union(*own.values()))
    if numbers and not 0 <= numbers[0] <= numbers[-1] < len(truth):
        raise ValueError(
            f"{name} has the frames 0 to {len(truth) - 1}, not {numbers[0]} to {numbers[-1]}"
        )
    pairs = label_pairs(truth, predicted, numbers, name)
    return _score(_known(pairs, own, name), lambda t, a, b: [k for k in own if t in own[k]])


def label_pairs(
    truth: LabelMaps, predicted: LabelMaps, frames: Iterable[int], name: str
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(number, true map, predicted map) of frames. ValueError, a line that names the video and the
    frame: missing frames, two sizes, no label map."""
    if len(truth) != len(predicted):
        raise ValueError(
            f"{name}: {len(predicted)} frames are predicted, {len(truth)} are annotated: "
            "each needs a label map"
        )
    for t in frames:
        a, b = truth[t], predicted[t]
        for what, labels in (("truth", a), ("prediction", b)):
            if labels.ndim != 2 or labels.dtype.kind not in "bui":
                raise ValueError(
                    f"{name}, frame {t}: the {what} is {labels.dtype} of the shape {labels.shape}: "
                    "a label map is integers (height, width)"
                )
            if labels.dtype.kind == "i" and labels.min(initial=0) < 0:
                raise ValueError(f"{name}, frame {t}: the {what} has the id {labels.min()}")
        if a.shape != b.shape:
            raise ValueError(
                f"{name}, frame {t}: the prediction is {_size(b)}, the truth {_size(a)} "
                "(height x width)"
            )
        yield t, a, b


def _score(
    pairs: Iterable[tuple[int, np.ndarray, np.ndarray]],
    wanted: Callable[[int, np.ndarray, np.ndarray], Iterable[int]],
) -> VideoScore:
    """The scores at each frame of the objects that are ``wanted`` there."""
    rows: dict[int, list[tuple[int, float, float]]] = defaultdict(list)
    for t, a, b in pairs:
        for k in wanted(t, a, b):
            masks = a == k, b == k
            rows[k].append((t, region_similarity(*masks), boundary_f(*masks)))
    scores = {}
    for k in sorted(rows):
        frames, j, f = zip(*rows[k], strict=True)
        scores[k] = ObjectScore(frames, np.array(j), np.array(f))
    return scores


def _objects_of_first(labels: np.ndarray, name: str) -> int:
    count = int(labels.max(initial=0, where=labels != VOID))
    if not count:
        raise ValueError(f"{name}: the first annotation shows no object (rules davis17)")
    return count


def _known(
    pairs: Iterable[tuple[int, np.ndarray, np.ndarray]], objects: Collection[int], name: str
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The pairs, when no other id is predicted."""
    for t, a, b in pairs:
        unknown = [k for k in _ids(b) if k not in objects]
        if unknown:
            listed = ", ".join(map(str, objects))
            raise ValueError(
                f"{name}, frame {t}: the id {unknown[0]} is predicted; the objects are {listed}"
            )
        yield t, a, b


def _ids(labels: np.ndarray) -> list[int]:
    """The values of a label map but 0, in order."""
    if labels.dtype == np.uint8:  # np.unique sorts all pixels
        return [k for k in np.flatnonzero(np.bincount(labels.ravel())).tolist() if k]
    return [k for k in np.unique(labels).tolist() if k]


def _size(labels: np.ndarray) -> str:
    return "{}x{}".format(*labels.shape)
