"""The layouts of data sets of videos → their clips, sorted by name.

Every reader takes the folder that it names, and raises FileNotFoundError or ValueError, a line that
names the video and the frame or file.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...io.annotations.files import load_json
from ...io.formats import pictures_among
from ...io.names import distinct_stems
from ...io.video import natural
from ...io.video_masks import read_video_mask
from ...utils.files import AnyPath
from .clip import VideoClip

SIZES = ("480p", "Full-Resolution", "1080p")  # folders in between; published figures are at 480p
LISTS = {  # of DAVIS, by layout and split
    "davis17": "ImageSets/2017/{}.txt",
    "davis16": "ImageSets/2016/{}.txt",
}
OLD_LIST = "ImageSets/480p/{}.txt"  # of DAVIS 2016 itself: "image path mask path" a line
META = "valid_meta.json"  # of LVOS
UNSEEN = "unseen_videos.txt"  # of LVOS's own evaluation: names of videos
SCORED = 3  # frames that a video needs, of which the first and the last are not scored
Files = dict[str, str]  # {stem: file}, in time


def read_davis(root: AnyPath, layout: str, split: str) -> list[VideoClip]:
    """DAVIS 2017 or 2016: the mask of the first frame is given, all frames are written."""
    home = Path(root)
    places = [home / LISTS[layout].format(split), home / OLD_LIST.format(split)]
    file = next((f for f in places[: 2 if layout == "davis16" else 1] if f.is_file()), None)
    if file is None:
        raise FileNotFoundError(f"no file {places[0]}, the list of the videos")
    lines = [line.split()[0] for line in file.read_text("utf-8").splitlines() if line.strip()]
    names = [Path(line).parent.name if "/" in line else line for line in lines]
    if not names:
        raise ValueError(f"{file} lists no video")
    return [_dense(home, name, layout) for name in sorted(set(names))]


def read_mose(root: AnyPath) -> list[VideoClip]:
    """MOSE: as DAVIS, without lists."""
    return [_dense(Path(root), name, "mose") for name in _videos(Path(root))]


def read_ytvos(root: AnyPath, every_frame: Sequence[AnyPath] = ()) -> list[VideoClip]:
    """YouTube-VOS: objects start late, and the frames of meta.json are written. Pictures between
    them are taken from the first folder of ``every_frame`` that exists."""
    home = Path(root)
    about = _videos_of(home / "meta.json")
    train = home.parent / "train" / "meta.json"
    known = None
    if train.is_file():
        kinds = (o.get("category") for v in _videos_of(train).values() for o in _objects(v))
        known = {kind for kind in kinds if kind}
    dense = next((Path(f) for f in every_frame if Path(f).is_dir()), home)
    return [_listed(home, dense, name, about[name], known) for name in sorted(about)]


def read_lvos(root: AnyPath) -> list[VideoClip]:
    """LVOS: the full annotation may be there; of it each object's first mask is given."""
    home = Path(root)
    places = home, home.parent
    file = next((p / META for p in places if (p / META).is_file()), home / META)
    unseen = next((p / UNSEEN for p in places if (p / UNSEEN).is_file()), None)
    names = {*unseen.read_text("utf-8").split()} if unseen else None
    about = _videos_of(file)
    return [_ranged(home, name, about[name], names, file) for name in sorted(about)]


def read_folder(root: AnyPath) -> list[VideoClip]:
    """JPEGImages/VIDEO and Annotations/VIDEO. Where every frame of a video has a mask, these are
    the truth, and each object is given where it is first seen; else all masks are given."""
    clips = []
    for name in _videos(Path(root)):
        frames, maps = _files(Path(root), name)
        given: dict[str, frozenset[int] | None] = dict.fromkeys(maps)
        if truth := len(maps) == len(frames) >= SCORED:
            first: dict[int, str] = {}
            for frame, file in maps.items():
                for i in np.unique(read_video_mask(file).labels).tolist():
                    if i:
                        first.setdefault(i, frame)
            starts = {f: frozenset(i for i in first if first[i] == f) for f in maps}
            given = {f: ids for f, ids in starts.items() if ids}
        if not given:
            raise ValueError(f"no mask shows an object in the video {name}: {Path(root)}")
        clips.append(VideoClip(name, "folder", frames, maps, given, (*frames,), truth))
    return clips


def _dense(home: Path, name: str, layout: str) -> VideoClip:
    """A video whose frames are numbered without a hole; its first frame's mask is given."""
    frames, maps = _files(home, name)
    names = [*frames]
    for one, two in zip(names, names[1:], strict=False):
        if one.isdecimal() and two.isdecimal() and int(two) != int(one) + 1:
            missing = f"{int(one) + 1:0{len(one)}d}"
            raise FileNotFoundError(f"the video {name} lacks the frame {missing}: {frames[one]}")
    if names[0] not in maps:
        raise FileNotFoundError(f"the video {name} lacks the mask of its first frame, {names[0]}")
    if 1 < len(maps) < len(names):
        lost = next(f for f in names if f not in maps)
        raise FileNotFoundError(f"the video {name} lacks the mask of the frame {lost}")
    truth, given = len(maps) == len(names) >= SCORED, {names[0]: None}
    return VideoClip(name, layout, frames, maps, given, (*names,), truth)


def _listed(home: Path, dense: Path, name: str, about: Any, known: set[str] | None) -> VideoClip:
    """A video of YouTube-VOS."""
    sparse, maps = _files(home, name)
    frames = _frames(dense, name) if dense != home else sparse
    listed: dict[int, tuple[str, ...]] = {}
    seen: dict[int, bool] = {}
    for i, of in about.get("objects", {}).items():
        listed[int(i)] = tuple(sorted(map(str, of.get("frames", ()))))
        if not listed[int(i)]:
            raise ValueError(f"{home / 'meta.json'}: the object {i} of {name} has no frames")
        if known is not None:
            seen[int(i)] = of.get("category") in known
    if not listed:
        raise ValueError(f"{home / 'meta.json'}: the video {name} has no objects")
    required = tuple(sorted(frozenset().union(*listed.values())))
    for frame in (*required, *maps):
        if frame not in frames:
            raise FileNotFoundError(f"the video {name} lacks the frame {frame}, which is listed")
    first = sorted({own[0] for own in listed.values()})
    starts = {f: frozenset(i for i, own in listed.items() if own[0] == f) for f in first}
    for frame, ids in starts.items():
        if frame not in maps:
            objects = ", ".join(map(str, sorted(ids)))
            raise FileNotFoundError(
                f"the video {name} lacks the mask of the frame {frame}, where the objects "
                f"{objects} of meta.json start"
            )
    truth = set(required) <= maps.keys() and len(required) > len(starts)
    given: Mapping[str, frozenset[int] | None] = starts if truth else dict.fromkeys(maps)
    return VideoClip(
        name, "ytvos", frames, maps, given, required, truth=truth, listed=listed, seen=seen
    )


def _ranged(home: Path, name: str, about: Any, unseen: set[str] | None, meta: Path) -> VideoClip:
    """A video of LVOS."""
    frames, maps = _files(home, name)
    numbers = {int(f): f for f in frames if f.isdecimal()}
    ranges: dict[int, tuple[int, int]] = {}
    starts: dict[str, set[int]] = {}
    for i, of in about.get("objects", {}).items():
        try:
            start, end = (int(of["frame_range"][key]) for key in ("start", "end"))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{meta}: the object {i} of {name} has no frame_range") from error
        if start not in numbers:
            raise FileNotFoundError(
                f"the video {name} lacks the frame {start}, where the object {i} starts"
            )
        if numbers[start] not in maps:
            raise FileNotFoundError(
                f"the video {name} lacks the mask of the frame {numbers[start]}, where the object "
                f"{i} starts"
            )
        ranges[int(i)] = start, end
        starts.setdefault(numbers[start], set()).add(int(i))
    if not ranges:
        raise ValueError(f"{meta}: the video {name} has no objects")
    given = {frame: frozenset(starts[frame]) for frame in frames if frame in starts}
    truth = frames.keys() <= maps.keys()
    seen = dict.fromkeys(ranges, name not in unseen) if unseen is not None else {}
    return VideoClip(
        name, "lvos", frames, maps, given, (*frames,), truth=truth, ranges=ranges, seen=seen
    )


def _objects(about: Any) -> Iterable[Any]:
    return about.get("objects", {}).values()


def _videos_of(file: Path) -> dict[str, Any]:
    found = load_json(file)
    if not isinstance(found, dict) or not isinstance(found.get("videos"), dict):
        raise ValueError(f'{file} has no "videos"')
    if not found["videos"]:
        raise ValueError(f'{file}: "videos" is empty')
    return found["videos"]


def _inner(folder: Path) -> Path:
    """The folder of a resolution in it, or itself."""
    return next((folder / size for size in SIZES if (folder / size).is_dir()), folder)


def _videos(home: Path) -> list[str]:
    """Names of the videos of a folder."""
    images = _inner(home / "JPEGImages")
    if not images.is_dir():
        raise FileNotFoundError(f"no folder {home / 'JPEGImages'}, with one of frames per video")
    names = sorted(d.name for d in images.iterdir() if d.is_dir() and not d.name.startswith("."))
    if not names:
        raise FileNotFoundError(f"no folder of frames in {images}")
    return names


def _frames(home: Path, name: str) -> Files:
    return _pictures(_inner(home / "JPEGImages") / name, f"frames of the video {name}")


def _files(home: Path, name: str) -> tuple[Files, Files]:
    """The frames of a video, and its masks."""
    frames = _frames(home, name)
    maps = _pictures(_inner(home / "Annotations") / name, f"masks of the video {name}")
    if lost := [f for f in maps if f not in frames]:
        raise FileNotFoundError(
            f"the video {name} lacks the frame {lost[0]}, which has a mask: {maps[lost[0]]}"
        )
    return frames, maps


def _pictures(folder: Path, what: str) -> Files:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}, the {what}")
    visible = (f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
    files = sorted(pictures_among(visible), key=lambda file: natural(file.name))
    if not files:
        raise FileNotFoundError(f"no pictures in {folder}, the {what}")
    return dict(zip(distinct_stems(files), map(str, files), strict=True))
