import io
import logging

import numpy as np
import pytest
from PIL import Image

from segic_d2.io import pictures
from segic_d2.io.masks import read_binary_mask, read_label_map
from segic_d2.io.pictures import image_size, read_image


@pytest.fixture
def picture():
    """4×6 px, every pixel another colour."""
    return np.arange(72, dtype=np.uint8).reshape(4, 6, 3) * 3


def saved(path, array, mode=None, **options):
    Image.fromarray(array, mode).save(path, **options)
    return path


def test_rgb_is_read_exactly(tmp_path, picture):
    image = read_image(saved(tmp_path / "a.png", picture))
    np.testing.assert_array_equal(image, picture)
    image[0, 0] = 0  # writable


@pytest.mark.parametrize(
    "orientation, turned",
    [(3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)), (8, lambda a: np.rot90(a))],
)
def test_exif_rotation_is_applied_to_pictures_and_masks(tmp_path, picture, orientation, turned):
    exif = Image.Exif()
    exif[274] = orientation
    path = saved(tmp_path / "a.png", picture, exif=exif)
    np.testing.assert_array_equal(read_image(path), turned(picture))
    labels = saved(tmp_path / "b.png", picture[..., 0].copy(), exif=exif)
    np.testing.assert_array_equal(read_label_map(labels), turned(picture)[..., 0])
    mask = saved(tmp_path / "c.png", np.uint8(picture[..., 0] > 99) * 255, exif=exif)
    np.testing.assert_array_equal(read_binary_mask(mask), turned(picture)[..., 0] > 99)


def test_grey_16_bit_is_scaled(tmp_path):
    values = np.array([[0, 257, 65535], [32896, 128, 129]], np.uint16)
    image = read_image(saved(tmp_path / "a.png", values))
    np.testing.assert_array_equal(image[..., 0], [[0, 1, 255], [128, 0, 1]])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_transparency_is_composited_on_white(tmp_path):
    rgba = np.array([[[200, 100, 0, 255], [200, 100, 0, 0]]], np.uint8)
    image = read_image(saved(tmp_path / "a.png", rgba))
    np.testing.assert_array_equal(image, [[[200, 100, 0], [255, 255, 255]]])
    grey = Image.fromarray(np.array([[[10, 255], [10, 0]]], np.uint8), "LA")
    grey.save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png")[..., 1], [[10, 255]])


def test_palette_bilevel_and_cmyk_become_rgb(tmp_path):
    palette = Image.fromarray(np.array([[0, 7]], np.uint8), "P")
    palette.putpalette([0, 0, 0] * 7 + [9, 8, 7])
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), [[[0, 0, 0], [9, 8, 7]]])
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png")[..., 0], [[255, 0]])
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.jpg")
    red = read_image(tmp_path / "c.jpg").mean((0, 1))
    assert red[0] > 200 and red[1] < 60 and red[2] < 60


def test_images_beyond_pillows_limit_are_read(tmp_path, picture, monkeypatch):
    path = saved(tmp_path / "a.png", picture)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    assert read_image(path).shape == (4, 6, 3)
    assert Image.MAX_IMAGE_PIXELS == 5


def test_label_maps_keep_raw_ids(tmp_path):
    ids = np.array([[0, 1, 2], [254, 255, 7]], np.uint8)
    palette = Image.fromarray(ids, "P")
    palette.putpalette(list(range(255, -1, -1)) * 3)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "p.png"), ids)
    np.testing.assert_array_equal(read_label_map(saved(tmp_path / "l.png", ids)), ids)
    same = np.repeat(ids[..., None], 3, -1)
    np.testing.assert_array_equal(read_label_map(saved(tmp_path / "rgb.png", same)), ids)
    large = ids.astype(np.uint16) * 200
    for suffix in ("png", "tif"):
        path = saved(tmp_path / f"i16.{suffix}", large)
        np.testing.assert_array_equal(read_label_map(path), large)
    path = saved(tmp_path / "b.png", np.array([[True, False]]))
    np.testing.assert_array_equal(read_label_map(path), [[1, 0]])


@pytest.mark.parametrize(
    "values, expected",
    [([0, 1, 1], [0, 1, 1]), ([0, 255, 0], [0, 1, 0]), ([0, 127, 128], [0, 0, 1])],
)
def test_binary_masks(tmp_path, values, expected):
    mask = read_binary_mask(saved(tmp_path / "m.png", np.array([values], np.uint8)))
    np.testing.assert_array_equal(mask, [np.array(expected, bool)])


def test_palette_and_colour_masks(tmp_path):
    palette = Image.fromarray(np.array([[0, 3]], np.uint8), "P")
    palette.putpalette([0] * 768)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_binary_mask(tmp_path / "p.png"), [[False, True]])
    for unpainted in ([255, 255, 255, 0], [0, 0, 0, 0], [0, 0, 0, 255]):  # what was not painted
        layer = np.array([[[255] * 4, unpainted]], np.uint8)
        mask = read_binary_mask(saved(tmp_path / "layer.png", layer))
        np.testing.assert_array_equal(mask, [[True, False]])
    path = saved(tmp_path / "c.png", np.array([[[255] * 3, [9, 9, 9]]], np.uint8))
    np.testing.assert_array_equal(read_binary_mask(path), [[True, False]])


@pytest.mark.parametrize("suffix", ["gif", "tif", "webp", "png"])
def test_one_frame_of_many_is_said_once(tmp_path, picture, suffix, caplog):
    frames = [Image.fromarray(picture + 9 * i) for i in range(3)]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    with caplog.at_level(logging.WARNING):
        image_size(path)
        assert not caplog.records
        first = read_image(path), read_image(path)
    assert [r.getMessage() for r in caplog.records] == [
        f"{path} has 3 frames or pages: the first is taken"
    ]
    if suffix != "gif":  # which has a palette
        np.testing.assert_array_equal(first[0], picture)
    np.testing.assert_array_equal(*first)


def test_previews_of_cameras_are_no_frames(tmp_path, picture, caplog):
    Image.fromarray(picture).save(
        tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.fromarray(picture)]
    )
    with caplog.at_level(logging.WARNING):
        assert read_image(tmp_path / "a.jpg").shape == (4, 6, 3) and not caplog.records


def test_web_addresses(picture, monkeypatch):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    pages = {"https://x.org/a.png?b=1": file.getvalue(), "http://x.org/": b"<html>"}
    monkeypatch.setattr(pictures, "download", pages.__getitem__)
    np.testing.assert_array_equal(read_image("https://x.org/a.png?b=1"), picture)
    assert image_size("https://x.org/a.png?b=1") == (4, 6)
    with pytest.raises(ValueError, match="image http://x.org/: its content is no picture that P"):
        read_image("http://x.org/")


def test_errors_name_the_file(tmp_path, picture):
    with pytest.raises(FileNotFoundError, match="missing.jpg"):
        read_image(tmp_path / "missing.jpg")
    broken = saved(tmp_path / "broken.jpg", picture.repeat(50, 0).repeat(50, 1))
    broken.write_bytes(broken.read_bytes()[:1500])
    with pytest.raises(ValueError, match="cannot read image .*broken.jpg"):
        read_image(broken)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match="read image .*text.png: its content is no picture that"):
        read_image(tmp_path / "text.png")
    with pytest.raises(ValueError, match="floating-point"):
        read_image(saved(tmp_path / "f.tif", np.zeros((2, 2), np.float32)))
    with pytest.raises(ValueError, match="a.png.*coloured"):
        read_label_map(saved(tmp_path / "a.png", picture))


def test_an_address_of_an_unknown_kind_is_a_value_error():
    with pytest.raises(ValueError, match="cannot read ftp://z/a.jpg: its kind of address is"):
        read_image("ftp://z/a.jpg")
