"""The data sets of videos by name, with ``$DETECTRON2_DATASETS``:

================ ====================================================================
davis17_val      DAVIS/ as published, also unpacked with 2017/ or 2017/trainval/ between
davis17_test_dev DAVIS/ or DAVIS/2017/test-dev/: no truth
davis16_val      DAVIS16/, or DAVIS/: one foreground
ytvos18_valid    YouTubeVOS/2018/valid/, or YouTube2018/valid/; frames in between from
                 valid_all_frames/ or all_frames/valid_all_frames/ beside it
ytvos19_valid    the same of YouTubeVOS/2019, or YouTube/
mose_valid       MOSE/valid/
lvos_valid       LVOS/valid/, or LVOSv2/valid/
================ ====================================================================

A name "vos:FOLDER" has JPEGImages/VIDEO and Annotations/VIDEO (``layouts.read_folder``).
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...utils.files import AnyPath
from ..index import load_records
from .clip import VideoClip
from .layouts import read_davis, read_folder, read_lvos, read_mose, read_ytvos

FIELD = "clip"  # of a record, which has "video" and "file_name" beside


class _Set(NamedTuple):
    """Folders, of which the first that has ``mark`` counts, and what reads it."""

    folders: tuple[str, ...]
    mark: str
    read: Callable[[Path], list[VideoClip]]


def _davis(year: int, split: str, *folders: str) -> _Set:
    layout = f"davis{year}"
    mark = f"ImageSets/20{year}/{split}.txt"
    places = (*folders, "DAVIS", f"DAVIS/20{year}", "DAVIS/2017", "DAVIS/2017/trainval")
    places = (*dict.fromkeys(places), *(["DAVIS/2017/test-dev"] if split == "test-dev" else []))
    return _Set(places, mark, partial(read_davis, layout=layout, split=split))


def _ytvos(*homes: str) -> _Set:
    def read(folder: Path) -> list[VideoClip]:
        names = "valid_all_frames", "all_frames/valid_all_frames"
        return read_ytvos(folder, [folder.parent / name for name in names])

    return _Set(tuple(f"{home}/valid" for home in homes), "meta.json", read)


SETS = {
    "davis17_val": _davis(17, "val"),
    "davis17_test_dev": _davis(17, "test-dev"),
    "davis16_val": _davis(16, "val", "DAVIS16"),
    "ytvos18_valid": _ytvos("YouTubeVOS/2018", "YouTube2018"),
    "ytvos19_valid": _ytvos("YouTubeVOS/2019", "YouTube"),
    "mose_valid": _Set(("MOSE/valid",), "JPEGImages", read_mose),
    "lvos_valid": _Set(("LVOS/valid", "LVOSv2/valid"), "JPEGImages", read_lvos),
}


def find_set(name: str, root: AnyPath) -> Path:
    """The folder of a set below a folder of data sets: the first that has what marks it, else the
    first that exists, else where it is expected."""
    places = [Path(root, folder) for folder in SETS[name].folders]
    marked = (place for place in places if (place / SETS[name].mark).exists())
    return next(marked, next((place for place in places if place.is_dir()), places[0]))


def register_all_videos(root: AnyPath) -> None:
    """Register the sets below a folder of data sets. A record has "video", its name, "file_name",
    its first frame, and "clip"."""
    for name in SETS:
        home = find_set(name, root)
        DatasetCatalog.register(name, partial(_records, name, home))
        MetadataCatalog.get(name).set(root=str(home), evaluator_type="video")


def load_videos(dataset_name: str) -> list[VideoClip]:
    """The videos of a registered set, or of "vos:FOLDER". FileNotFoundError, ValueError: what is
    missing or wrong; a data set that has no videos."""
    if dataset_name.startswith("vos:"):
        return read_folder(dataset_name.removeprefix("vos:"))
    if MetadataCatalog.get(dataset_name).get("evaluator_type") == "video":
        return [record[FIELD] for record in load_records(dataset_name)]
    raise ValueError(
        f"the dataset {dataset_name!r} has no videos: name {', '.join(SETS)}, or vos:FOLDER, which "
        "has JPEGImages/VIDEO and Annotations/VIDEO"
    )


def _records(name: str, home: Path) -> list[dict[str, Any]]:
    clips = SETS[name].read(home)
    return [{"video": c.name, "file_name": c.frames[next(iter(c.frames))], FIELD: c} for c in clips]


if "davis17_val" not in DatasetCatalog:  # another project may have its own
    register_all_videos(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))
