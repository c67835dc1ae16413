"""``segic video`` with a predictor that is quick: files in, files out, in the right order."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segic_cli.checks import UsageError
from segic_cli.main import build_parser, main
from segic_cli.video import check, given_masks, given_names
from segic_d2.io.rle import decode
from segic_d2.io.video import open_video
from segic_d2.io.video_masks import read_video_mask, voc_palette, write_video_mask
from tests.io.clips import found, square, write_clip
from tests.predictor import clips
from tests.predictor.clips import colour_predictor
from tests.segic_cli.test_main import light


class Predictor:
    """Notes what it is asked."""

    def __init__(self, *args):
        asked.append(("made", args[0]))

    def load_context(self, path):
        asked.append(("context", path))

    def set_references(self, name, task):
        asked.append(("references", name, task))


class Tracker:
    """Finds the square of the frame's own number for all ids that were added."""

    fails = None  # the number of the frame at which the user loses patience

    def __init__(self, predictor):
        self.ids, self.number = set(), 0

    @property
    def objects(self):
        return dict.fromkeys(sorted(self.ids))

    def follow_references(self):
        asked.append("follow")
        self.ids = {5}

    def add(self, frame, mask):
        if not isinstance(mask, np.ndarray):
            mask = read_video_mask(mask).labels
        if mask.shape != frame.shape[:2]:
            raise ValueError("another size")
        self.ids |= {int(i) for i in np.unique(mask) if i}
        asked.append(("add", self.number, sorted(self.ids)))

    def track(self, frames, size):
        asked.append(("track", len(frames), size))
        for _ in frames:
            if self.number == self.fails:
                raise KeyboardInterrupt
            mask = square(self.number)[1]
            yield found([mask] * len(self.ids), sorted(self.ids))
            self.number += 1


asked = []


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with a clip of 7 frames and masks of the ids 1 and 3."""
    asked.clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("segic_d2.predictor.InContextPredictor", Predictor)
    monkeypatch.setattr("segic_d2.predictor.VideoPredictor", Tracker)
    write_clip(tmp_path / "clip.mp4", [square(i)[0] for i in range(7)], times=range(0, 140, 20))
    for i in (1, 3):
        ids = Image.fromarray(square(0)[1].astype(np.uint8) * i).convert("P")
        ids.putpalette([0, 0, 0, 9, 8, 7, *voc_palette()[6:]])
        ids.save(f"{i}.png")
    return tmp_path


def video(*argv):
    return main(["video", "clip.mp4", *argv, "--output", "out"])


def test_masks_are_added_before_their_frames(work, capsys):
    assert video("--masks", "3.png", "1.png@5", "--names", "1=dog", "--batch-size", "3") == 0
    assert asked[1:] == [
        ("add", 0, [3]),
        ("track", 3, 3),
        ("track", 2, 3),
        ("add", 5, [1, 3]),
        ("track", 2, 3),
    ]
    assert "7 frames" in capsys.readouterr().out
    first, second = json.loads((work / "out/results.json").read_text())
    assert (first["name"], second["name"], second["id"]) == ("dog", None, 3)
    assert [s is None for s in first["scores"]] == [True] * 5 + [False] * 2
    times = [f.time for f in open_video("out/overlay.mp4")]
    assert times == [f.time for f in open_video("clip.mp4")] and len(times) == 7
    labels, palette = read_video_mask("out/labels/00006.png")
    assert palette == [0, 0, 0, 9, 8, 7, *voc_palette()[6:]]
    assert (labels > 0).sum() == square(6)[1].sum()


def test_a_first_mask_in_a_later_frame(work):
    assert video("--masks", "3.png@4", "--labels") == 0
    assert [p.name for p in (work / "out").iterdir()] == ["labels"]
    shown = [read_video_mask(p).labels.max() for p in sorted((work / "out/labels").iterdir())]
    assert shown == [0, 0, 0, 0, 3, 3, 3]
    assert asked[1:3] == [("add", 0, [3]), ("track", 3, 4)]


def test_classes_of_references(work):
    (work / "cats.safetensors").write_text("cats")
    assert video("--references", "cats.safetensors", "--json") == 0
    assert asked[1:3] == [("context", "cats.safetensors"), "follow"]
    assert [p.name for p in (work / "out").iterdir()] == ["results.json"]
    assert main(["video", "clip.mp4", "--references", "labelme:x", "--output", "o"]) == 0
    assert ("references", "labelme:x", "instance") in asked


def test_a_folder(work, capsys):
    (work / "in").mkdir()
    for number, name in enumerate(["a2.png", "a10.png", "a11.png"]):
        Image.fromarray(square(number)[0]).save(work / "in" / name)
    (work / "in/a12.png").write_text("broken")
    args = ["video", "in", "--masks", "3.png", "--output", "out", "--labels"]
    assert main(args) == 1
    assert sorted(p.name for p in (work / "out/labels").iterdir()) == [
        "a10.png",
        "a11.png",
        "a2.png",
    ]
    shown = capsys.readouterr()
    assert "in: 4 frames, a2.png to a12.png" in shown.out
    assert "in: 1 damaged pictures were left out" in shown.err


def test_ctrl_c_leaves_whole_files(work, monkeypatch, capsys):
    monkeypatch.setattr(Tracker, "fails", 4)
    assert video("--masks", "3.png", "--batch-size", "2") == 130
    assert "4 frames are in out" in capsys.readouterr().err
    assert len(list(open_video("out/overlay.mp4"))) == 4
    assert len(json.loads((work / "out/results.json").read_text())[0]["scores"]) == 4
    monkeypatch.setattr(Tracker, "fails", None)
    assert video("--masks", "3.png") == 0  # written over
    assert len(list(open_video("out/overlay.mp4"))) == 7


def test_a_camera_ends_by_ctrl_c(work, monkeypatch):
    class Camera:
        def __init__(self, source):
            self.left = 3

        def isOpened(self):  # noqa: N802
            return True

        def read(self):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return True, square(0)[0]

        def release(self):
            pass

    monkeypatch.setattr("segic_d2.io.video.cv2.VideoCapture", Camera)
    args = ["video", "camera:0", "--masks", "3.png", "--output", "out", "--labels"]
    assert main(args) == 0
    assert ("track", 1, 1) in asked


def test_a_mask_of_no_frame(work, capsys):
    assert video("--masks", "3.png", "1.png@7") == 1
    text = "failed: 1.png@7: there is no such frame, 7 were read"
    assert text in capsys.readouterr().err


def test_a_mask_that_does_not_fit_is_named(work, capsys):
    Image.new("L", (9, 9), 1).save("small.png")
    assert video("--masks", "3.png", "small.png@2") == 1
    assert "error: --masks small.png, of frame 2: another size" in capsys.readouterr().err
    assert len(list(open_video("out/overlay.mp4"))) == 2


def test_nothing_is_made_where_something_is_in_the_way(work, capsys):
    (work / "out").mkdir()
    (work / "out/results.json").write_text("mine")
    assert video("--masks", "3.png") == 1
    assert "holds no results of clip.mp4" in capsys.readouterr().err and not asked
    assert (work / "out/results.json").read_text() == "mine"
    assert main(["video", "clip.mp4", "--masks", "3.png", "--output", "clip.mp4"]) == 1


def test_masks_that_are_given_stay(work, capsys):
    assert video("--masks", "3.png", "--labels") == 0
    before = (work / "out/labels/00002.png").read_bytes()
    assert video("--masks", "out/labels/00002.png@2", "--labels") == 1
    assert "lies where the results go" in capsys.readouterr().err
    assert (work / "out/labels/00002.png").read_bytes() == before


def test_without_av(work, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    assert video("--masks", "3.png") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("folders of pictures are read without it")


def test_masks_by_frame():
    assert given_masks(["a.png", "b@2.png@40"]) == {0: "a.png", 40: "b@2.png"}
    assert given_masks(["a@b.png@0"]) == {0: "a@b.png"}
    for words in (["a.png", "b.png"], ["a.png@4", "b.png@04"]):
        with pytest.raises(UsageError, match=r"a.png and b.png are both of frame [04]"):
            given_masks(words)


def test_names_by_id():
    assert given_names(["3=a cat", "1=b=c"]) == {3: "a cat", 1: "b=c"}
    for word in ("cat", "x=cat", "3=", "=cat", "0=cat"):
        with pytest.raises(UsageError, match=f"--names {word}: expected ID=NAME"):
            given_names([word])
    with pytest.raises(UsageError, match="cat and dog are both of the id 1"):
        given_names(["1=cat", "01=dog"])


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "either --masks or --references"),
        (["--masks", "3.png", "--references", "a.safetensors"], "either --masks or --references"),
        (["--masks", "no.png"], "--masks: no such file: no.png"),
        (["--references", "no.safetensors"], "--references: no such file"),
        (
            ["--references", "cats"],
            "--references cats: expected a .safetensors file, or FORMAT:PATH",
        ),
        (["--references", "a:b", "--names", "1=cat"], "references have names of their own"),
        (["--masks", "3.png", "--weights", "no.pth"], "--weights: no such file"),
        (["--masks", "3.png", "--opts", "KEY"], "expected KEY VALUE pairs"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_imported(work, argv, message):
    args = build_parser().parse_args(["video", "clip.mp4", *argv, "--output", "out"])
    with pytest.raises((UsageError, OSError), match=message):
        check(args)


def test_no_heavy_import(work):
    status, (line,), _ = light("video", "no.mp4", "--masks", "3.png", "--output", "out", cwd=work)
    assert (status, line) == (1, "error: VIDEO: no such file: no.mp4")


# ---- with the real tracker, and a backbone that sees colours ---------------------------------


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A clip of two shapes, ids 1 and 3, in 6 frames."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("segic_d2.predictor.InContextPredictor", lambda *_: colour_predictor())
    write_clip(tmp_path / "toy.mp4", [clips.frame(i) for i in range(6)])
    write_video_mask("first.png", clips.labels(0))
    return tmp_path


def labels_overlap(i):
    """The least IoU of an object in the frames' label files."""
    files = sorted(Path("out/labels").iterdir())
    assert len(files) == 6
    found = [read_video_mask(file).labels for file in files]
    return min(clips.iou(map_ == i, clips.labels(n) == i) for n, map_ in enumerate(found))


def test_objects_are_followed_through_a_clip(toy):
    assert main(["video", "toy.mp4", "--masks", "first.png", "--output", "out"]) == 0
    assert labels_overlap(1) > 0.7 and labels_overlap(3) > 0.7
    tracks = json.loads(Path("out/results.json").read_text())
    assert [track["id"] for track in tracks] == [1, 3]
    assert all(None not in track["segmentations"] for track in tracks)
    assert len(list(open_video("out/overlay.mp4"))) == 6


def test_a_name_of_no_object_is_told(toy, capsys):
    words = ["--masks", "first.png", "--names", "1=red", "9=cat", "--output", "out", "--json"]
    assert main(["video", "toy.mp4", *words]) == 1
    assert "failed: --names 9=cat: the masks have the ids [1, 3]" in capsys.readouterr().err
    assert [t["name"] for t in json.loads(Path("out/results.json").read_text())] == ["red", None]


def test_all_of_a_class_are_followed(toy):
    predictor = colour_predictor()
    predictor.set_references([(clips.frame(0), clips.labels(0) == 3, "blue")], "instance")
    predictor.save_context("blue.safetensors")
    args = ["--references", "blue.safetensors", "--output", "out"]
    assert main(["video", "toy.mp4", *args]) == 0
    (track,) = json.loads(Path("out/results.json").read_text())
    assert (track["name"], track["id"]) == ("blue", 1) and None not in track["segmentations"]
    found = [decode(s, *clips.SIZE) for s in track["segmentations"]]
    assert min(clips.iou(m, clips.labels(n) == 3) for n, m in enumerate(found)) > 0.5
