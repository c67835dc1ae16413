"""Sets of videos in miniature, two videos each: shapes that move, ids {1, 3}, one of them late."""

import contextlib
import json

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from segic_d2.data.videos.sets import SETS, register_all_videos
from segic_d2.io.video_masks import write_video_mask
from tests.predictor import clips

VIDEOS = {"alpha": 5, "beta": 4}  # frames
LATE = 2  # the frame in which the object 3 of "alpha" starts, where it starts late


def ids_at(name, number, late):
    """Objects that a frame shows."""
    return (1, 3) if name == "alpha" and (not late or number >= LATE) else (1,)


def labels(name, number, late=False):
    return clips.labels(number, ids_at(name, number, late))


def picture(path, name, number, late=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(clips.frame(number, ids_at(name, number, late))).save(path, quality=95)


def mask(path, shown):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video_mask(path, shown)


def make_davis(root, truth=True):
    """DAVIS 2017 and 2016, whose list is that of the 2017 archive."""
    home = root / "DAVIS"
    for name, count in VIDEOS.items():
        for n in range(count):
            picture(home / f"JPEGImages/480p/{name}/{n:05d}.jpg", name, n)
            if truth or not n:
                mask(home / f"Annotations/480p/{name}/{n:05d}.png", labels(name, n))
    for year in (2016, 2017):
        (home / f"ImageSets/{year}").mkdir(parents=True)
        (home / f"ImageSets/{year}/val.txt").write_text("beta\nalpha\n")


def make_mose(root, truth=False):
    for name, count in VIDEOS.items():
        for n in range(count):
            picture(root / f"MOSE/valid/JPEGImages/{name}/{n:05d}.jpg", name, n)
            if truth or not n:
                mask(root / f"MOSE/valid/Annotations/{name}/{n:05d}.png", labels(name, n))


def make_ytvos(root, truth=False, every_frame=False):
    """Every fifth frame; the later given mask shows the new object alone, unless it is truth."""
    home, about = root / "YouTubeVOS/2018", {}
    for name, count in VIDEOS.items():
        stems = [f"{5 * n:05d}" for n in range(count)]
        for n, stem in enumerate(stems):
            picture(home / f"valid/JPEGImages/{name}/{stem}.jpg", name, n, late=True)
            given = not n or (name == "alpha" and n == LATE)
            if truth or given:
                shown = labels(name, n, late=True)
                mask(
                    home / f"valid/Annotations/{name}/{stem}.png",
                    shown if truth or not n else np.where(shown == 3, shown, 0),
                )
        objects = {"1": {"category": "disk", "frames": stems}}
        if name == "alpha":
            objects["3"] = {"category": "moon", "frames": stems[LATE:]}
        about[name] = {"objects": objects}
        for n in range(5 * count - 4) if every_frame else ():
            file = home / f"valid_all_frames/JPEGImages/{name}/{n:05d}.jpg"
            picture(file, name, n // 5, late=True)
    (home / "valid/meta.json").write_text(json.dumps({"videos": about}))
    train = {"videos": {"t": {"objects": {"1": {"category": "disk", "frames": []}}}}}
    (home / "train").mkdir()
    (home / "train/meta.json").write_text(json.dumps(train))


def make_lvos(root):
    """The full annotation, of which each object's first mask is given."""
    home, about = root / "LVOS", {}
    for name, count in VIDEOS.items():
        stems = [f"{5 * n + 1:08d}" for n in range(count)]
        for n, stem in enumerate(stems):
            picture(home / f"valid/JPEGImages/{name}/{stem}.jpg", name, n, late=True)
            mask(home / f"valid/Annotations/{name}/{stem}.png", labels(name, n, late=True))
        end = 5 * count + 1
        ranges = {1: 1, 3: 5 * LATE + 1} if name == "alpha" else {1: 1}
        about[name] = {
            "objects": {
                str(i): {"frame_range": {"start": str(start), "end": str(end), "frame_nums": 0}}
                for i, start in ranges.items()
            }
        }
    (home / "valid_meta.json").write_text(json.dumps({"videos": about}))
    (home / "unseen_videos.txt").write_text("beta\n")


@contextlib.contextmanager
def registered(root):
    """The sets for a while looked for below another root."""
    before = {name: (DatasetCatalog.pop(name), MetadataCatalog.pop(name)) for name in SETS}
    register_all_videos(root)
    try:
        yield root
    finally:
        for name, (load, metadata) in before.items():
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
            DatasetCatalog.register(name, load)
            MetadataCatalog[name] = metadata
