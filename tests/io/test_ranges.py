import logging

import numpy as np
import pytest
from PIL import Image

from segic_d2.io import ranges
from segic_d2.io.pictures import read_image, to_cut_out, to_picture
from segic_d2.io.ranges import to_eight_bits

GREY = np.random.default_rng(0).integers(0, 250, (48, 64))
GREY[0, :2] = 0, 249


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(ranges, "_said", set())


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_a_picture_of_some_bits_is_that_of_8(tmp_path, caplog, bits, kind):
    values = (GREY << (bits - 8)).astype(kind)
    path = tmp_path / f"a.{'png' if kind is np.uint16 else 'tif'}"
    Image.fromarray(values).save(path)
    with caplog.at_level(logging.WARNING):
        for shown in (read_image(path), read_image(path)):
            assert np.abs(shown[..., 0].astype(int) - GREY).max() <= 1
    told = [r.getMessage() for r in caplog.records]
    top = 249 << (bits - 8)
    line = f"{path} has grey values up to {top}: they are taken as {bits} bits (said once)"
    assert told == ([line] if bits < 16 else [])


@pytest.mark.parametrize(
    "values",
    [GREY * 8 + 29000, GREY * 16 - 1024, GREY * 1000 + 10**6, GREY * 2 + 60000],
    ids=["temperatures", "tomography", "above 16 bits", "narrow"],
)
def test_what_is_narrow_or_of_no_depth_is_stretched(tmp_path, caplog, values):
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "a.tif")
    shown = read_image(tmp_path / "a.tif")[..., 0]
    np.testing.assert_allclose(shown, GREY * (255 / 249), atol=0.51)
    (line,) = [r.getMessage() for r in caplog.records]
    assert line == (
        f"{tmp_path / 'a.tif'} has grey values {values.min()} to {values.max()}: they are "
        "stretched from the least to the largest (said once)"
    )


def test_one_value(caplog):
    assert (to_eight_bits(np.full((2, 3), 65535)) == 255).all()
    assert (to_eight_bits(np.full((2, 3), 0)) == 0).all()
    assert (to_eight_bits(np.full((2, 3), -5)) == 127).all()
    assert not caplog.records


def test_arrays_of_16_bits_have_a_range_too():
    rgb = np.stack([GREY] * 3, -1).astype(np.uint16) * 16
    assert np.abs(to_picture(rgb).astype(int) - GREY[..., None]).max() <= 1
    shown = GREY > 90
    for top in (4095, 65535):  # of the alpha
        rgba = np.dstack([rgb, shown * np.uint16(top)])
        np.testing.assert_array_equal(to_cut_out(rgba), shown)
        assert (to_picture(rgba)[~shown] == 255).all()


def test_few_bits_of_16_per_colour_are_said(tmp_path, caplog):
    import struct
    import zlib

    rows = b"".join(b"\0" + (GREY[:1] * 16).astype(">u2").repeat(3).tobytes() for _ in range(9))
    head = struct.pack(">IIBBBBB", 64, 9, 16, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n"
    for name, data in parts:
        png += struct.pack(">I", len(data)) + name + data
        png += struct.pack(">I", zlib.crc32(name + data))
    (tmp_path / "a.png").write_bytes(png)
    assert read_image(tmp_path / "a.png").max() == 15
    (line,) = [r.getMessage() for r in caplog.records]
    assert line.startswith(f"{tmp_path / 'a.png'} has 16 bits per colour and uses less than 12 %")
