import os
import signal
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import pytest

from segic_d2.io import clip_writer
from segic_d2.io.clip_writer import ClipWriter
from segic_d2.io.video import open_video
from tests.full_disk import full_disk
from tests.io.clips import av, greys, number_of

UNTIL_KILLED = """
import sys, time
from fractions import Fraction
from tests.io.clips import greys
from segic_d2.io.clip_writer import ClipWriter
writer = ClipWriter(sys.argv[1], Fraction(25))
for image in greys(50, step=4):
    writer.write(image)
print("written", flush=True)
time.sleep(60)
"""


def written(path, images, times, rate=25, **how):
    """What is read back from a clip of some pictures."""
    with ClipWriter(path, Fraction(rate), **how) as writer:
        for image, seconds in zip(images, times, strict=True):
            writer.write(image, seconds)
    return list(open_video(path))


def codec_of(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0].codec_context
        return stream.name, stream.pix_fmt, container.metadata.get("comment")


@pytest.mark.parametrize("encoders", [("libx264",), ("mpeg4",), ("libvvenc0", "mpeg4")])
def test_each_picture_at_its_time(tmp_path, monkeypatch, encoders):
    monkeypatch.setattr(clip_writer, "ENCODERS", encoders)
    times = [Fraction(x, 30) for x in (0, 1, 2, 9, 10, 31)]
    frames = written(tmp_path / "a.mp4", greys(6), times, 30, comment="by us")
    assert [f.time for f in frames] == times
    assert [number_of(f.image) for f in frames] == list(range(6))
    codec = "h264" if encoders[0] == "libx264" else "mpeg4"
    assert codec_of(tmp_path / "a.mp4") == (codec, "yuv420p", "by us")


def test_the_rate_of_film(tmp_path):
    path, rate = tmp_path / "a.mp4", Fraction(24000, 1001)
    frames = written(path, greys(9), [None] * 9, rate)
    assert all(abs(f.time - f.number / rate) < 1e-5 for f in frames)
    assert abs(open_video(path).rate / rate - 1) < 1e-4


@pytest.mark.parametrize(
    "given, shown",
    [
        ([5, 6, 8], [0, 1, 3]),  # the first is the beginning
        ([1, 2, 3, 5, 4, 6], [0, 1, 2, 4, 4.5, 5]),
        ([0, 4, 4, 4, 6], [0, 4, 4.5, 5, 6]),
        ([0, 1, None, 2], [0, 1, 2, 2.5]),
        ([50, 51, 52, 0, 1], [0, 1, 2, 3, 4]),  # begins anew
    ],
)
def test_times_rise(tmp_path, given, shown):
    times = [None if t is None else Fraction(t, 10) for t in given]
    frames = written(tmp_path / "a.mp4", greys(len(times)), times, 10)
    assert [f.time * 10 for f in frames] == shown


def test_odd_sides_are_padded(tmp_path, caplog):
    image = greys(1, (33, 47))[0]
    image[:, -1] = image[-1] = 200
    (frame,) = written(tmp_path / "a.mp4", [image], [None])
    assert frame.image.shape == (34, 48, 3)
    assert (abs(frame.image[-2:].astype(int) - 200) < 12).all()
    assert (abs(frame.image[:, -2:].astype(int) - 200) < 12).all()
    assert "47x33 px is odd, which video does not know; added: a column and a row" in caplog.text
    caplog.clear()
    written(tmp_path / "b.mp4", greys(2), [None] * 2)
    assert not caplog.records


def test_other_sizes_are_fitted_in(tmp_path, caplog):
    images = [*greys(1), *2 * [np.full((64, 32, 3), 200, np.uint8)]]
    frames = written(tmp_path / "a.mp4", images, [None] * 3)
    last = frames[-1].image.astype(int)
    assert last.shape == (48, 64, 3)
    assert (abs(last[:, 21:43] - 200) < 16).all()  # 24 columns in the middle
    assert (last[:, :18] < 16).all() and (last[:, 46:] < 16).all()
    assert caplog.text.count("frames of 32x64 px are fitted into 64x48") == 1


def test_pixels_that_are_not_square(tmp_path):
    written(tmp_path / "a.mp4", greys(2), [None] * 2, aspect=Fraction(4, 3))
    assert open_video(tmp_path / "a.mp4").aspect == Fraction(4, 3)


def test_nothing_is_no_file(tmp_path):
    ClipWriter(tmp_path / "a.mp4", Fraction(25)).close()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_plays_after_its_process_was_killed(tmp_path):
    path = tmp_path / "a.mp4"
    command = [sys.executable, "-c", UNTIL_KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ) as process:
        assert process.stdout.readline() == b"written\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    frames = list(open_video(path))
    assert 50 - clip_writer.KEYS <= len(frames) <= 50
    assert [number_of(f.image, step=4) for f in frames] == list(range(len(frames)))


def test_a_full_disk_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
    with full_disk(20_000), pytest.raises(OSError, match=r"a\.mp4"):
        written(tmp_path / "a.mp4", noise, [None] * 40)
