"""Miniature sets of videos, as ``train_net.py --eval-only`` runs them."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.engine import launch
from detectron2.utils import comm
from PIL import Image

from segic_d2.data import check_data
from segic_d2.data.health.damaged import DamagedDataError
from segic_d2.data.videos import load_videos
from segic_d2.engine.evaluations import evaluate
from segic_d2.engine.evaluations.video import Video
from segic_d2.engine.evaluations.video_run import share
from segic_d2.io.video_masks import read_video_mask, voc_palette, write_video_mask
from tests.miniatures import videos
from tests.predictor.clips import colour_predictor
from tests.tiny import tiny_config

MAKE = {
    "davis17_val": videos.make_davis,
    "davis16_val": videos.make_davis,
    "mose_valid": lambda root: videos.make_mose(root, truth=True),
    "ytvos18_valid": lambda root: videos.make_ytvos(root, truth=True),
    "lvos_valid": videos.make_lvos,
}


COLOURS = (  # as of ``colour_predictor``
    *("MODEL.SEM_SEG_HEAD.NAME", "RegionMatchingHead"),
    *("MODEL.BACKBONE.NAME", "build_colour_backbone"),
    *("INPUT.REFERENCE_WHOLE", True, "INPUT.REFERENCE_ZOOM", 0.7),
    *("MODEL.SEGIC.REGIONS.WHITENING", "", "MODEL.SEGIC.INSTANCES.PARTS", True),
)


def config(output, name, *opts):
    options = "DATASETS.TEST", (name,), "TEST.EVALUATORS", ("video",), "OUTPUT_DIR", str(output)
    return tiny_config(*COLOURS, *options, *opts, canvas=168)


@pytest.fixture(scope="module")
def model():
    return colour_predictor().model


def run(output, name, model, *opts):
    found = evaluate(config(output, name, *opts), model, name)
    folder = output / "inference" / name / "video"
    return found, json.loads((folder / "results.json").read_text()), folder


class Oracle:
    """Stands in for ``VideoPredictor``: it knows the truth of a clip, of the objects that were
    added, and what was added when."""

    def __init__(self, name, late):
        self.name, self.late, self.objects, self.added = name, late, {}, []

    def add(self, frame, labels):
        self.objects |= {int(i): None for i in np.unique(labels) if i}
        self.added.append(sorted(np.unique(labels[labels > 0]).tolist()))

    def track(self, frames):
        for n, _ in enumerate(frames):
            yield _Truth(videos.labels(self.name, n, self.late), self.objects)


class _Truth:
    def __init__(self, labels, objects):
        self.labels, self.objects = labels, objects

    def label_map(self):
        shown = np.where(np.isin(self.labels, [*self.objects]), self.labels, 0)
        return shown.astype(np.int32)


@pytest.mark.parametrize("name", MAKE)
def test_predictions_equal_to_the_truth_have_exactly_100(name, model, tmp_path, monkeypatch):
    MAKE[name](tmp_path / "data")
    made = []

    def oracle(self):
        one = Oracle(["alpha", "beta"][len(made)], name.startswith(("ytvos", "lvos")))
        if name == "davis16_val":
            one.track = lambda frames: (
                _Truth((videos.labels(one.name, n) > 0).astype(int), one.objects)
                for n, _ in enumerate(frames)
            )
        made.append(one)
        return one

    monkeypatch.setattr(Video, "_predictor", oracle)
    with videos.registered(tmp_path / "data"):
        check_data(config(tmp_path / "out", name), training=False)
        found, content, folder = run(tmp_path / "out", name, model)
    (metrics,) = found.values()
    shares = {k: v for k, v in metrics.items() if "Decay" not in k and "objects" not in k}
    del shares["videos"]
    deviation = shares.pop("V", 0.0)
    assert shares and set(shares.values()) == {100.0} and deviation == 0 and metrics["videos"] == 2
    assert content["metrics"] == metrics and not content["standard"]
    assert not any("-" in name for name in metrics)  # Detectron2 would not print it
    assert content["benchmark"] == f"video-{name.split('_')[0].replace('ytvos18', 'ytvos')}"
    late = {"ytvos18_valid": [[1], [3]], "lvos_valid": [[1], [3]], "davis16_val": [[1]]}
    assert made[0].added == late.get(name, [[1, 3]]) and made[1].added == [[1]]
    objects = {"davis16_val": 2, "davis17_val": 4}.get(name, 3)  # the id 2 is below the highest
    assert metrics["objects"] == objects
    if name == "ytvos18_valid":
        assert metrics["G (local rule)"] == 100.0 and metrics["objects unseen"] == 1
        assert "not YouTube-VOS's G" in content["note"]
    if name == "lvos_valid":
        assert metrics["J&F"] == 100.0 and metrics["objects seen"] == 2
    assert (folder / "submission.zip").is_file() == (name != "davis16_val")


def archive(folder):
    with zipfile.ZipFile(folder / "submission.zip") as file:
        return {n: file.read(n) for n in file.namelist()}


def test_davis_is_followed_written_and_scored(model, tmp_path):
    videos.make_davis(tmp_path)
    with videos.registered(tmp_path):
        found, content, folder = run(tmp_path / "out", "davis17_val", model)
    assert 60 < found["video-davis17"]["J&F_Mean"] < 100
    assert set(content["objects"]["alpha"]) == {"1", "2", "3"}
    files = archive(folder)
    expected = [f"{v}/{n:05d}.png" for v, count in videos.VIDEOS.items() for n in range(count)]
    assert sorted(files) == sorted(expected)
    for name, data in files.items():
        path = folder / "masks" / name
        assert path.read_bytes() == data
        with Image.open(path) as image:
            assert image.mode == "P" and image.getpalette() == voc_palette()
    given = read_video_mask(folder / "masks/alpha/00000.png").labels
    np.testing.assert_array_equal(given, videos.labels("alpha", 0))
    last = read_video_mask(folder / "masks/alpha/00004.png").labels
    assert set(np.unique(last)) == {0, 1, 3}


def test_late_objects_of_ytvos_and_incomplete_later_masks(model, tmp_path):
    videos.make_ytvos(tmp_path, every_frame=True)
    with videos.registered(tmp_path):
        found, content, folder = run(tmp_path / "a", "ytvos18_valid", model)
        few = "TEST.VIDEO.FRAMES", "required"
        _, other, _ = run(tmp_path / "b", "ytvos18_valid", model, *few)
    assert found["video-ytvos"] == {"videos": 2} and "no truth" in content["note"]
    assert (content["frames"], other["frames"]) == ("all", "required")
    expected = [
        f"Annotations/{v}/{5 * n:05d}.png" for v, c in videos.VIDEOS.items() for n in range(c)
    ]
    assert sorted(archive(folder)) == sorted(expected)
    shown = [
        set(np.unique(read_video_mask(folder / f"masks/alpha/{5 * n:05d}.png").labels).tolist())
        for n in range(5)
    ]
    assert shown == [{0, 1}, {0, 1}, {0, 1, 3}, {0, 1, 3}, {0, 1, 3}]


def test_a_killed_run_goes_on_behind_whole_videos(model, tmp_path, monkeypatch):
    videos.make_mose(tmp_path)
    with videos.registered(tmp_path):
        _, whole, _ = run(tmp_path / "whole", "mose_valid", model)
        predictor, made = Video._predictor, []

        def dies(self):
            if made:
                raise KeyboardInterrupt
            made.append(1)
            return predictor(self)

        monkeypatch.setattr(Video, "_predictor", dies)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "out", "mose_valid", model)
        masks = tmp_path / "out/inference/mose_valid/video/masks"
        assert [f.name for f in masks.iterdir()] == ["alpha"]
        before = (masks / "alpha/00000.png").stat().st_mtime_ns

        def counts(self):
            made.append(2)
            return predictor(self)

        monkeypatch.setattr(Video, "_predictor", counts)
        _, content, folder = run(tmp_path / "out", "mose_valid", model)
        assert made == [1, 2] and (masks / "alpha/00000.png").stat().st_mtime_ns == before
        assert content == whole
        same = "whole/inference/mose_valid/video/submission.zip"
        assert (folder / "submission.zip").read_bytes() == (tmp_path / same).read_bytes()
        run(tmp_path / "out", "mose_valid", model, "TEST.VIDEO.ABSENT", 0.4)
        assert made == [1, 2, 2, 2]  # another config: nothing is kept
        file = tmp_path / "MOSE/valid/Annotations/beta/00000.png"
        write_video_mask(file, 5 * (videos.labels("beta", 0) > 0))
        run(tmp_path / "out", "mose_valid", model, "TEST.VIDEO.ABSENT", 0.4)
        assert made == [1, 2, 2, 2, 2, 2]  # nor behind another given mask
    last = read_video_mask(masks / "beta/00003.png").labels
    assert set(np.unique(last)) == {0, 5}


def test_videos_are_shared_out_whole_the_longest_first():
    assert share([3, 9, 4, 4, 2], 2) == [[1, 4], [2, 3, 0]]
    assert share([5], 3) == [[0], [], []]


def in_a_process(root):
    with videos.registered(Path(root)):
        name = "davis17_val"
        evaluate(config(Path(root, "two"), name), colour_predictor().model, name)
    comm.synchronize()
    torch.distributed.destroy_process_group()
    os._exit(0)  # gloo's threads may outlive the group, and abort a process that takes itself down


@pytest.mark.slow
def test_two_processes_have_the_results_of_one(tmp_path):
    videos.make_davis(tmp_path)
    with videos.registered(tmp_path):
        _, one, folder = run(tmp_path / "one", "davis17_val", colour_predictor().model)
    launch(in_a_process, 2, dist_url="auto", args=(str(tmp_path),))
    other = tmp_path / "two/inference/davis17_val/video"
    assert json.loads((other / "results.json").read_text()) == one
    assert archive(other) == archive(folder)


def test_what_is_wrong_with_a_video_is_named_or_it_is_left_out(model, tmp_path):
    videos.make_davis(tmp_path)
    file = tmp_path / "DAVIS/Annotations/480p/beta/00000.png"
    colours = np.zeros((112, 168, 3), np.uint8)
    colours[:60] = 200, 30, 9
    Image.fromarray(colours).save(file)
    with videos.registered(tmp_path):
        with pytest.raises(DamagedDataError, match="beta/00000.png.* coloured"):
            run(tmp_path / "out", "davis17_val", model)
        found, content, folder = run(tmp_path / "out", "davis17_val", model, "TEST.DAMAGED", "skip")
    assert found["video-davis17"]["videos"] == 1 and found["video-davis17"]["skipped"] == 1
    assert content["skipped"][0].startswith("beta: ") and sorted(content["objects"]) == ["alpha"]
    assert all(name.startswith("alpha/") for name in archive(folder))


def test_frames_are_read_before_the_run_where_that_is_asked_for(model, tmp_path):
    videos.make_mose(tmp_path)
    file = tmp_path / "MOSE/valid/JPEGImages/beta/00002.jpg"
    file.write_bytes(file.read_bytes()[:99])
    with videos.registered(tmp_path):
        with pytest.raises(DamagedDataError, match="beta/00002.jpg"):
            run(tmp_path / "out", "mose_valid", model, "TEST.VERIFY", "full")
        masks = tmp_path / "out/inference/mose_valid/video/masks"
        assert not masks.exists()
        with pytest.raises(ValueError, match="beta/00002.jpg"):
            run(tmp_path / "out", "mose_valid", model)
    assert [f.name for f in masks.iterdir()] == ["alpha"]  # nothing of a video that is not whole


def test_a_folder_with_all_masks_is_scored(model, tmp_path):
    videos.make_ytvos(tmp_path, truth=True)
    name = f"vos:{tmp_path / 'YouTubeVOS/2018/valid'}"
    cfg = config(tmp_path / "out", name)
    check_data(cfg, training=False)
    found = evaluate(cfg, model, name)["video-folder"]
    assert found["objects"] == 3 and 60 < found["J&F_Mean"] < 100


def test_a_set_without_videos_is_named():
    with pytest.raises(ValueError, match="'shapes_novel_coco' has no videos: name davis17_val"):
        load_videos("shapes_novel_coco")
