import json
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from segic_d2.io.video import open_video
from segic_d2.io.video_frames import VideoFrame
from segic_d2.io.video_masks import read_video_mask, voc_palette
from segic_d2.io.video_writer import VideoWriter
from tests.io.clips import found, square, write_clip


@pytest.fixture
def clip(tmp_path):
    times = [0, 40, 41, 300, 500]
    return write_clip(tmp_path / "a.mp4", [square(i)[0] for i in range(5)], times=times)


def follow(video, folder, frames=9, ids=(3, 1), **how):
    """Write the square of each frame by the ids in turn, from the second frame on."""
    with VideoWriter(folder, video, **how) as writer:
        for frame in video:
            if frame.number < frames:
                result = found([square(frame.number)[1]], [ids[frame.number % len(ids)]])
                writer.write(frame, result if frame.number else None)


def files(folder):
    names = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return sorted(names)


def test_all_that_is_written(tmp_path, clip):
    out, video = tmp_path / "out", open_video(clip)
    follow(video, out)
    names = [f"labels/{i:05d}.png" for i in range(5)]
    assert files(out) == [*names, "overlay.mp4", "results.json"]
    shown = list(open_video(out / "overlay.mp4"))
    assert [f.time for f in shown] == [f.time for f in video]
    for number in range(5):
        labels, palette = read_video_mask(out / names[number])
        mask = square(number)[1]
        assert palette == voc_palette()
        assert (labels == np.where(mask, (3, 1)[number % 2], 0) * (number > 0)).all()
        inner = shown[number].image[20:28, 10 + 2 * number : 14 + 2 * number].astype(int)
        coloured = np.ptp(inner.reshape(-1, 3).mean(0)) > 30  # the square is grey
        assert coloured == (number > 0)
    tracks = json.loads((out / "results.json").read_text())
    assert [(t["video_id"], t["id"]) for t in tracks] == [("a.mp4", 1), ("a.mp4", 3)]
    assert [s is not None for s in tracks[0]["segmentations"]] == [False, True, False, True, False]


def test_some_of_it(tmp_path, clip):
    palette = [0, 0, 0, 1, 2, 3, 4, 5, 6]
    follow(open_video(clip), tmp_path / "out", outputs=["labels"], palette=palette)
    assert files(tmp_path / "out") == [f"labels/{i:05d}.png" for i in range(5)]
    read = read_video_mask(tmp_path / "out/labels/00001.png").palette
    assert read[:9] == palette and read[9:] == voc_palette()[9:]


def test_a_folder_keeps_its_names(tmp_path):
    (tmp_path / "in").mkdir()
    for number, name in enumerate(["b2.png", "b10.png"]):
        Image.fromarray(square(number)[0]).save(tmp_path / "in" / name)
    follow(open_video(tmp_path / "in"), tmp_path / "out")
    assert files(tmp_path / "out/labels") == ["b10.png", "b2.png"]
    assert [f.time for f in open_video(tmp_path / "out/overlay.mp4")] == [0, Fraction(1, 24)]


def test_more_than_254_objects(tmp_path, clip):
    follow(open_video(clip), tmp_path / "out", outputs=["labels"], ids=(3, 300))
    ids = [read_video_mask(p, packed=True).labels.max() for p in tmp_path.glob("out/labels/*")]
    assert sorted(ids) == [0, 3, 3, 300, 300]


def test_an_earlier_run_of_the_same_video_leaves_nothing(tmp_path, clip):
    follow(open_video(clip), tmp_path / "out")
    follow(open_video(clip), tmp_path / "out", frames=2)
    assert files(tmp_path / "out/labels") == ["00000.png", "00001.png"]
    assert len(list(open_video(tmp_path / "out/overlay.mp4"))) == 2


@pytest.mark.parametrize("name", ["overlay.mp4", "labels/00001.png", "labels/x.txt"])
def test_what_is_not_ours_stays(tmp_path, clip, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    if name.endswith("png"):
        Image.fromarray(square(0)[0]).save(path)
    else:
        path.write_text("mine")
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match=f"{name}: it is there already and is no result of .*a.mp4"
    ):
        follow(open_video(clip), tmp_path / "out")
    assert path.read_bytes() == before and files(tmp_path / "out") == [name]


def test_results_of_another_video_stay(tmp_path, clip):
    other = tmp_path / "b.mp4"
    other.write_bytes(clip.read_bytes())
    follow(open_video(clip), tmp_path / "out")
    before = (tmp_path / "out/overlay.mp4").read_bytes()
    for outputs in (["overlay"], ["labels"], ["json"]):
        with pytest.raises(ValueError, match="it is there already"):
            follow(open_video(other), tmp_path / "out", outputs=outputs)
    assert (tmp_path / "out/overlay.mp4").read_bytes() == before


def test_a_run_that_never_began_is_no_obstacle(tmp_path, clip):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/overlay.mp4").touch()
    follow(open_video(clip), tmp_path / "out")


def test_what_was_given_is_not_written_over(tmp_path, clip):
    out = tmp_path / "out"
    follow(open_video(clip), out)
    mask = out / "labels/00001.png"
    before = mask.read_bytes()
    with pytest.raises(ValueError, match=r"00001\.png lies where the results go"):
        follow(open_video(clip), out, keep=[mask])
    with pytest.raises(ValueError, match=r"overlay\.mp4 lies where the results go"):
        follow(open_video(out / "overlay.mp4"), out)
    with pytest.raises(ValueError, match=r"labels lies where the results go"):
        follow(open_video(out / "labels"), out)
    assert mask.read_bytes() == before


@pytest.mark.medium
def test_one_process_writes_there(tmp_path, clip):
    with VideoWriter(tmp_path / "out", open_video(clip)):
        code = "import sys; from segic_d2.utils.claim import Claim; Claim(sys.argv[1])"
        command = [sys.executable, "-c", code, str(tmp_path / "out/.segic_video.lock")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert "BlockingIOError" in done.stderr and "is held by process" in done.stderr
    assert files(tmp_path / "out") == []


def test_closed_in_the_middle_all_is_whole(tmp_path, clip):
    video = open_video(clip)
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "out", video) as writer:
        for frame in video:
            writer.write(frame, found([square(frame.number)[1]], [1]))
            if frame.number == 2:
                raise KeyboardInterrupt
    assert len(list(open_video(tmp_path / "out/overlay.mp4"))) == 3
    assert len(json.loads((tmp_path / "out/results.json").read_text())[0]["scores"]) == 3


def test_frames_of_other_sizes(tmp_path, clip):
    with VideoWriter(tmp_path / "out", open_video(clip), ["labels", "json"]) as writer:
        for number, size in enumerate([(48, 64), (32, 64)]):
            image = np.zeros((*size, 3), np.uint8)
            mask = square(0)[1][: size[0]]
            writer.write(
                VideoFrame(number, None, image, str(number)), found([mask], [1], size=size)
            )
    (track,) = json.loads((tmp_path / "out/results.json").read_text())
    assert [s["size"] for s in track["segmentations"]] == [[48, 64], [32, 64]]
    assert Image.open(tmp_path / "out/labels/1.png").size == (64, 32)
