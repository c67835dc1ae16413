import sys
import threading
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from segic_d2.io.video import natural, open_video
from tests.io.clips import greys, number_of, write_clip


def numbers(video, **how):
    return [number_of(frame.image) for frame in video.frames(**how)]


def test_a_folder(tmp_path, caplog):
    for i, name in enumerate(["1.png", "2.PNG", "10.jpg"]):
        Image.fromarray(greys(3)[i]).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("none")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    Image.fromarray(greys(4)[3]).save(tmp_path / "b11.jpg", exif=exif)
    (tmp_path / "b3.png").write_text("broken")
    video = open_video(tmp_path)
    assert video.about == "5 frames, 1.png to b11.jpg"
    frames = list(video)
    assert [(f.number, f.name, number_of(f.image)) for f in frames] == [
        (0, "1", 0),
        (1, "2", 1),
        (2, "10", 2),
        (4, "b11", 3),
    ]
    assert frames[-1].image.shape == (64, 48, 3) and frames[-1].time == Fraction(4, 24)
    assert (video.damaged, video.expected) == (1, 5) and "b3.png" in caplog.text
    assert [f.name for f in video.frames(2)] == ["10", "b11"]


def test_a_folder_without_pictures(tmp_path):
    with pytest.raises(ValueError, match="no pictures in the folder"):
        open_video(tmp_path)
    (tmp_path / "1.png").write_text("broken")
    with pytest.raises(ValueError, match="cannot read a picture of the folder"):
        list(open_video(tmp_path))


def test_natural_order():
    names = ["10.png", "2.png", "a", "B2", "b10", "b1"]
    assert sorted(names, key=natural) == ["2.png", "10.png", "a", "b1", "B2", "b10"]


class Camera:
    """OpenCV's, with four blue frames."""

    asked, released = [], 0

    def __init__(self, source):
        Camera.asked.append(source)
        self.left = 4

    def isOpened(self):  # noqa: N802
        return Camera.asked[-1] != 9

    def read(self):
        self.left -= 1
        return self.left >= 0, np.full((4, 6, 3), [255, 0, 0], np.uint8)

    def release(self):
        Camera.released += 1


def test_a_camera(monkeypatch):
    monkeypatch.setattr("segic_d2.io.video.cv2.VideoCapture", Camera)
    video = open_video("camera:3")
    *_, last = video
    assert Camera.asked == [3] and video.live and Camera.released == 1
    assert (
        last.number < 4
        and last.name == f"{last.number:05d}"
        and last.time >= 0
        and (last.image == [0, 0, 255]).all()
    )
    list(open_video("/dev/video0"))
    assert Camera.asked == [3, "/dev/video0"]
    with pytest.raises(ValueError, match="cannot open the camera camera:9"):
        list(open_video("camera:9"))
    assert Camera.released == 3


def test_without_av(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4", greys(2))
    folder = tmp_path / "frames"
    folder.mkdir()
    Image.fromarray(greys(1)[0]).save(folder / "0.png")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"need PyAV .*pip install 'segic_d2\[video\]'"):
        open_video(path)
    assert numbers(open_video(folder)) == [0]


def test_frames_of_a_camera_are_numbered_without_gaps(monkeypatch):
    taken = threading.Event()

    class Slow(Camera):
        """Its frames 1 to 3 come while somebody is busy with the first."""

        def read(self):
            if self.left == 3:
                taken.wait(5)
            elif self.left == 0:
                gone.set()
            return super().read()

    gone = threading.Event()
    monkeypatch.setattr("segic_d2.io.video.cv2.VideoCapture", Slow)
    frames = open_video("camera:0").frames()
    assert next(frames).number == 0
    taken.set()
    assert gone.wait(5)
    assert [frame.number for frame in frames] == [1]
