import itertools
import os
import struct
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from segic_d2.io.video import open_video
from segic_d2.io.video_files import upright_frame
from tests.io.clips import av, greys, number_of, write_clip

MATRICES = [  # a, b, c, d of ISO 14496-12's matrix: x' = a x + c y, y' = b x + d y
    *[(a, 0, 0, d) for a in (1, -1) for d in (1, -1)],
    *[(0, b, c, 0) for b in (1, -1) for c in (1, -1)],
]


def numbers(video, **how):
    return [number_of(frame.image) for frame in video.frames(**how)]


def blank(path, packets):
    """Write zeros over some pictures of a file of motion JPEG."""
    data = path.read_bytes()
    for picture in [data.split(b"\xff\xd8\xff")[1 + i] for i in packets]:
        whole = b"\xff\xd8\xff" + picture[: picture.index(b"\xff\xd9")]
        assert data.count(whole) == 1
        data = data.replace(whole, bytes(len(whole)))
    path.write_bytes(data)


def test_frames_in_the_order_of_decoding(tmp_path):
    video = open_video(write_clip(tmp_path / "a.mp4", greys(12), rate=10))
    frames = list(video)
    assert [number_of(f.image) for f in frames] == [f.number for f in frames] == list(range(12))
    assert [f.time for f in frames] == [Fraction(i, 10) for i in range(12)]
    assert frames[7].name == "00007" and frames[7].image.shape == (48, 64, 3)
    assert (video.rate, video.expected, video.damaged, video.live) == (10, 12, 0, False)
    assert numbers(video) == list(range(12))  # anew


def test_times_of_a_variable_rate(tmp_path):
    times = [0, 24, 30, 300, 301, 900]
    video = open_video(write_clip(tmp_path / "a.mp4", greys(6), times=times))
    assert [f.time for f in video] == [Fraction(t, 600) for t in times]


def test_a_header_that_lies(tmp_path):
    path = write_clip(tmp_path / "a.avi", greys(12), "mpeg4")
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"strh") + 8 + 32, 444)  # dwLength
    struct.pack_into("<I", data, data.index(b"avih") + 8 + 16, 444)  # dwTotalFrames
    path.write_bytes(data)
    video = open_video(path)
    assert (video.expected, numbers(video)) == (444, list(range(12)))
    video = open_video(write_clip(tmp_path / "a.ts", greys(12), "mpeg2video"))  # no count at all
    assert (video.expected, numbers(video)) == (None, list(range(12)))


@pytest.mark.parametrize("a, b, c, d", MATRICES)
def test_upright_by_the_matrix(a, b, c, d):
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    matrix = np.array([a, b, 0, c, d, 0, 0, 0, 1]) * 65536
    places = {(a * x + c * y, b * x + d * y): image[y, x] for y in range(2) for x in range(3)}
    low = np.array(list(places)).min(0)
    found = upright_frame(image, matrix.astype(np.int32))
    assert found.size == image.size and found.flags.c_contiguous
    for (x, y), pixel in places.items():
        assert (found[y - low[1], x - low[0]] == pixel).all()
    assert upright_frame(image, None) is image


@pytest.mark.skipif(
    not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV writes no rotation"
)
def test_rotation_of_the_header(tmp_path):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:16] = 200  # a bar at the top
    for degrees, flip, bar in ((0, False, "top"), (90, False, "left"), (180, True, "bottom")):
        path = write_clip(tmp_path / f"{degrees}.mp4", [image], rotation=(degrees, flip))
        (frame,) = open_video(path)
        height, width = (64, 48) if degrees == 90 else (48, 64)
        assert frame.image.shape == (height, width, 3)
        edges = {"top": frame.image[:9], "left": frame.image[:, :9], "bottom": frame.image[-9:]}
        assert [name for name, part in edges.items() if part.mean() > 150] == [bar]


def test_damaged_packets_are_left_out_and_counted(tmp_path):
    path = write_clip(tmp_path / "a.avi", greys(10), "mjpeg")
    blank(path, [3, 4, 7])
    video = open_video(path)
    assert numbers(video) == [0, 1, 2, 5, 6, 8, 9] and video.damaged == 3
    assert [frame.number for frame in video] == list(range(7)) and video.damaged == 3


def test_a_file_that_was_cut_off(tmp_path):
    path = write_clip(tmp_path / "a.ts", greys(10))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    found = numbers(open_video(path))
    assert found == list(range(len(found))) and 2 < len(found) < 10


def test_a_size_that_changes(tmp_path):
    one = write_clip(tmp_path / "1.ts", greys(5), "mpeg4")
    two = write_clip(tmp_path / "2.ts", greys(5, (32, 32)), "mpeg4")
    (tmp_path / "a.ts").write_bytes(one.read_bytes() + two.read_bytes())
    sizes = [frame.image.shape[:2] for frame in open_video(tmp_path / "a.ts")]
    assert sizes == [(48, 64)] * 5 + [(32, 32)] * 5


def test_odd_sizes(tmp_path):
    path = write_clip(tmp_path / "a.avi", greys(3, (33, 47)), "rawvideo")
    assert [(f.image.shape, number_of(f.image)) for f in open_video(path)] == [
        ((33, 47, 3), i) for i in range(3)
    ]


def test_two_video_streams(tmp_path, caplog):
    video = open_video(write_clip(tmp_path / "a.mp4", greys(4), streams=2))
    assert "a.mp4 has 2 video streams: that of 64x48 px is read" in caplog.text
    assert numbers(video) == list(range(4))


def test_what_is_no_video(tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"cannot read video .*a\.mp4: Invalid data"):
        open_video(tmp_path / "a.mp4")
    with pytest.raises(FileNotFoundError, match=r"no such video: .*b\.mp4"):
        open_video(tmp_path / "b.mp4")
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(ValueError, match=r"a\.wav: it has no video stream"):
        open_video(tmp_path / "a.wav")
    blank(write_clip(tmp_path / "c.avi", greys(3), "mjpeg"), range(3))
    with pytest.raises(ValueError, match=r"c\.avi: none of its frames can be decoded"):
        list(open_video(tmp_path / "c.avi"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system lists no open files")
def test_an_abandoned_video_is_closed(tmp_path):
    path = write_clip(tmp_path / "a.mp4", greys(12))

    def is_open():
        links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
        return any(link.exists() and link.samefile(path) for link in links)

    video = open_video(path)
    assert not is_open()
    frames = video.frames()
    next(frames)
    assert is_open()
    del frames
    assert not is_open() and "segic_d2 ahead" not in {t.name for t in threading.enumerate()}


def test_goes_to_a_frame_by_the_key_frame_before_it(tmp_path, monkeypatch):
    times = [0, 24, 30, 300, 301, 900, 1000, 1024, 1500, 1501, 1502, 2000]
    video = open_video(write_clip(tmp_path / "a.mp4", greys(12), times=times))
    decoded, whole = [], type(video)._raw
    monkeypatch.setattr(
        type(video),
        "_raw",
        lambda *args: (decoded.append(f) or f for f in whole(*args)),
    )
    assert numbers(video, start=8) == [8, 9, 10, 11] and len(decoded) == 12  # not known yet
    decoded.clear()
    assert numbers(video, start=8) == [8, 9, 10, 11] and len(decoded) == 6  # a key each 6 frames
    assert [f.number for f in video.frames(8)] == [8, 9, 10, 11]
    assert numbers(video, start=12) == []


def test_times_that_repeat_tell_no_frame(tmp_path):
    video = open_video(write_clip(tmp_path / "a.mp4", greys(12)))
    list(video)
    video._times[3] = video._times[2]
    video._rising = False
    assert numbers(video, start=3) == list(range(3, 12))
    video._rising = True
    video._times[5] += 1  # an index that is wrong
    assert numbers(video, start=5) == list(range(5, 12))


class Broken:
    """A container whose reading fails some times in the middle, before it goes on."""

    def __init__(self, failures):
        self.failures, self.packets = failures, iter([0, 1, 2])

    def demux(self, stream):
        if self.failures < 3:
            yield from map(Packet, itertools.islice(self.packets, 1))
        if self.failures:
            self.failures -= 1
            raise av.InvalidDataError(1094995529, "broken")
        yield from map(Packet, self.packets)


class Packet:
    def __init__(self, number):
        self.number = number

    def decode(self):
        return [self.number]


def test_reading_goes_on_behind_what_fails(tmp_path):
    video = open_video(write_clip(tmp_path / "a.mp4", greys(1)))
    assert list(video._raw(Broken(2), None)) == [0, 1, 2] and video.damaged == 2
    video.damaged = 0
    assert list(video._raw(Broken(99), None)) == [] and video.damaged == 10  # the file has ended
