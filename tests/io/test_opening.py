"""Pictures that are bombs, programs, or read by many threads."""

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from segic_d2.io import opening
from segic_d2.io.masks import to_masks
from segic_d2.io.pictures import image_size, read_image


def png_header(width, height, bits=8, colour=0):
    """A PNG file of a few bytes that says how large it is."""
    about = b"IHDR" + struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 99)
    parts = (
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (about, data)
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg_header(width, height):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    data = bytearray(file.getvalue())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


BOMBS = {
    "a.png": (png_header(200_000, 200_000), "200000x200000"),
    "thin.png": (png_header(2**31 - 1, 1), "2147483647x1"),
    "b.jpg": (jpeg_header(65_000, 65_000), "65000x65000"),
    "c.png": (png_header(30_000, 30_000, 1), "30000x30000"),
    "d.bmp": (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 60_000, 60_000, 1, 24, *[0] * 6),
        "60000x60000",
    ),
    "e.ppm": (b"P6 99999 99999 255\n", "99999x99999"),
    "f.pgm": (b"P5 17000 17000 255\n", "17000x17000"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(tmp_path, name):
    data, size = BOMBS[name]
    (tmp_path / name).write_bytes(data)
    message = rf"cannot read image .*{name}: it is {size} px, more than the 268 million"
    for read in (read_image, image_size, lambda path: to_masks(path, (60, 90))):
        with pytest.raises(ValueError, match=message) as error:
            read(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_large_picture_is_read(tmp_path):
    """More than Pillow's own bound of errors, less than ours."""
    assert 14_000**2 > 2 * Image.MAX_IMAGE_PIXELS and 14_000**2 < opening.MOST
    (tmp_path / "a.png").write_bytes(png_header(14_000, 14_000, 1))
    assert image_size(tmp_path / "a.png") == (14_000, 14_000)
    with pytest.raises(ValueError, match=r"cannot read image .*a\.png: \S"):
        read_image(tmp_path / "a.png")  # which lacks its pixels


def test_an_error_without_words_is_told_by_its_kind(tmp_path, monkeypatch):
    Image.new("L", (2, 2)).save(tmp_path / "a.png")

    def fail(*args):
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(ValueError, match=r"a\.png: MemoryError"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.eps", "a.jpg"])
def test_no_program_is_run_for_postscript(tmp_path, name, monkeypatch):
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "EPS")
    (tmp_path / name).write_bytes(file.getvalue())
    monkeypatch.setattr("subprocess.check_call", lambda *a, **k: pytest.fail("Ghostscript was run"))
    with pytest.raises(ValueError, match="no picture that Pillow knows"):
        read_image(tmp_path / name)


def test_pillows_bound_and_the_warnings_return_after_threads(tmp_path):
    Image.fromarray(np.zeros((50, 50), np.uint8)).save(tmp_path / "a.png")
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)

    def read():
        for _ in range(100):
            read_image(tmp_path / "a.png")

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Image.MAX_IMAGE_PIXELS == limit is not None and list(warnings.filters) == filters
