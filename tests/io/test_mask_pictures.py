"""Masks as drawing programs and optimisers write them mean what their authors see."""

import re

import numpy as np
import pytest
from PIL import Image, ImageFilter

from segic_d2.io.masks import read_binary_mask, read_label_map, to_masks

H, W = 48, 64
BLACK, WHITE, RED, GREEN = (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 200, 40)


def disc(y=24, x=32, radius=15):
    rows, columns = np.ogrid[:H, :W]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def indexed(indices, *colours):
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette([v for colour in colours for v in colour])
    return image


def painted(*areas, ground=BLACK):
    rgb = np.full((H, W, 3), ground, np.uint8)
    for area, colour in areas:
        rgb[area] = colour
    return Image.fromarray(rgb)


def smooth(image):
    return image.filter(ImageFilter.GaussianBlur(1))


def grey():
    return Image.fromarray(disc().astype(np.uint8) * 255)


def iou(mask, other):
    return (mask & other).sum() / (mask | other).sum()


FORMS = {
    "white first": lambda: indexed(~disc(), WHITE, BLACK),
    "black first": lambda: indexed(disc(), BLACK, WHITE),
    "grey first": lambda: indexed(~disc(), (230, 230, 230), (10, 10, 10)),
    "white first, more colours unused": lambda: indexed(~disc() * 3, WHITE, RED, GREEN, BLACK),
    "quantised": lambda: grey().convert("RGB").quantize(2),
    "quantised, smooth": lambda: smooth(grey()).convert("RGB").quantize(6),
    "paint first": lambda: indexed(~disc(), RED, BLACK),
    "quantised paint": lambda: smooth(painted((disc(), RED))).quantize(8),
    "red": lambda: painted((disc(), RED)),
    "red, smooth": lambda: smooth(painted((disc(), RED))),
    "dark paint": lambda: painted((disc(), (64, 0, 0))),
    "two paints": lambda: painted((disc(), RED), (disc(20, 30, 6), GREEN)),
    "paints and white": lambda: smooth(painted((disc(), WHITE), (disc(20, 30, 6), GREEN))),
    "nearly black": lambda: painted((disc(), (240, 250, 245)), ground=(3, 0, 8)),
    "paint with opacity": lambda: painted((disc(), RED)).convert("RGBA"),
    "smooth": lambda: smooth(grey()),
    "16 bits": lambda: Image.fromarray(disc().astype(np.uint16) * 65535),
    "12 bits": lambda: Image.fromarray(np.uint16(np.asarray(smooth(grey()))) * 16),
    "int32": lambda: Image.fromarray(disc().astype(np.int32) * 255),
    "floats": lambda: Image.fromarray(disc() * np.float32(0.9)),
    "probabilities": lambda: Image.fromarray(np.asarray(smooth(grey())) / np.float32(255)),
    "floats to 255": lambda: Image.fromarray(disc() * np.float32(255)),
}


LEAST = {form: 0.95 for form in ("smooth", "red, smooth", "12 bits", "probabilities")}
LEAST |= {"paints and white": 0.95, "quantised, smooth": 0.9, "quantised paint": 0.8}


@pytest.mark.parametrize("form", FORMS)
def test_the_disc_in_every_form(form, tmp_path):
    image = FORMS[form]()
    path = tmp_path / f"mask.{'tif' if image.mode in 'FI' else 'png'}"
    image.save(path)
    for mask in (to_masks(path, (H, W)), to_masks(image, (H, W)), {1: read_binary_mask(path)}):
        assert list(mask) == [1]
        assert iou(mask[1], disc()) >= LEAST.get(form, 1)


@pytest.mark.parametrize("colour", [WHITE, RED])
def test_jpeg_of_a_painted_mask(tmp_path, colour):
    painted((disc(), colour)).save(tmp_path / "mask.jpg", quality=75)
    assert iou(to_masks(tmp_path / "mask.jpg", (H, W))[1], disc()) > 0.9


def test_palettes_of_ids_stay_ids(tmp_path):
    two = disc(20, 20, 9) * 1 + disc(30, 45, 9) * 2
    voc = indexed(two, BLACK, (128, 0, 0), (0, 128, 0))
    greys = indexed(two, BLACK, (100, 100, 100), WHITE)  # ids that are shown in greys
    plain = indexed(two, *[(i, i, i) for i in range(256)])
    ground = indexed(two, WHITE, RED, GREEN)
    void = indexed(two * 127 + (two == 2), *[BLACK, *[(90, i, 7) for i in range(255)]])
    for image in (voc, greys, plain, ground):
        masks = to_masks(image, (H, W))
        assert list(masks) == [1, 2] and (masks[2] == (two == 2)).all()
    assert list(to_masks(void, (H, W))) == [127] and read_binary_mask_of(void, tmp_path).sum() > 0
    one = indexed((two == 1) * 15, BLACK, *[(i, 128, 128) for i in range(15)])
    assert list(to_masks(one, (H, W))) == [15]


def read_binary_mask_of(image, folder):
    image.save(folder / "mask.png")
    return read_binary_mask(folder / "mask.png")


def test_black_on_white_in_a_label_map_is_the_background(tmp_path):
    indexed(~disc(), WHITE, BLACK).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), disc())
    indexed(~disc(), RED, BLACK).save(tmp_path / "b.png")  # by value
    np.testing.assert_array_equal(read_label_map(tmp_path / "b.png"), ~disc())
    Image.fromarray(disc() * np.float32(3)).save(tmp_path / "c.tif")
    np.testing.assert_array_equal(read_label_map(tmp_path / "c.tif"), disc() * 3)


def test_a_dithered_palette_is_not_dozens_of_ids(tmp_path):
    """A coloured mask that was saved as GIF, or dithered by a palette."""
    three = painted((disc(), RED), (disc(9, 9, 8), GREEN), (disc(38, 9, 8), (30, 60, 220)))
    three.convert("P").save(tmp_path / "dithered.png")
    smooth(three).save(tmp_path / "smooth.gif")
    for name in ("dithered.png", "smooth.gif"):
        for read in (lambda f: to_masks(f, (H, W)), read_label_map):
            with pytest.raises(ValueError, match=rf"{name}: .*palette has \d+ colours, of which"):
                read(tmp_path / name)
    specks = np.random.default_rng(0).integers(0, 21, (H, W))
    ids = indexed(specks, *[(i % 3 * 90, i // 3 % 3 * 90, i // 9 * 90) for i in range(21)])
    assert len(to_masks(ids, (H, W))) == 20  # none of which covers an area, or is near another
    ids = indexed(specks, *[(i, i, i) for i in range(256)])
    ids.save(tmp_path / "greys.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "greys.png"), specks)


WAVES = np.indices((H, W)).sum(0)[..., None] * np.array([2.0, 1.2, 0.7]) + 9
PHOTO = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
THREE = np.where(disc(), 200, 0) + np.where(disc(8, 8, 6), 100, 0)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (indexed(THREE // 100, GREEN, BLACK, RED), r"ambiguous: id 0 is \(0, 200, 40\), black is"),
        (painted((disc(), RED), ground=WHITE), r"the colours \(255, 0, 0\), \(255, 255, 255\), no"),
        (Image.fromarray(WAVES.astype(np.uint8)), "a mask with 111 colours, as photographs have;"),
        (Image.fromarray(WAVES.astype(np.uint8)[..., 0]), "with 11. greys, as photographs have;"),
        (Image.fromarray(PHOTO), "a mask with 30.. colours, as photographs have; save it in"),
        (Image.fromarray(np.uint8(THREE)), "the values 0, 100, 200 in flat areas: are they ids"),
        (Image.fromarray(np.uint16(THREE * 300)), "the values 0, 30000, 60000 in flat areas"),
        (Image.fromarray(np.float32(THREE + 0.5)), "floats .* from 0.5 to 200.5; probabilities"),
        (Image.fromarray(np.float32(disc()) * np.nan), "floats with \\d+ values nan"),
        (Image.fromarray(np.int32(THREE) - 1), "negative value -1"),
        # ids, one of which is nearly black
        (Image.fromarray(np.uint8(THREE // 100 + (THREE == 200) * 253)), "the values 0, 1, 255 in"),
        (Image.fromarray(np.uint16(THREE // 100 + (THREE == 200) * 298)), "the values 0, 1, 300"),
        (
            Image.fromarray(
                np.kron(np.arange(192).reshape(12, 16), np.ones((4, 4))).astype(np.uint8)
            ),
            "the values 0, 1, 2, 3, 4, 5, 186 more in flat areas: are they ids",
        ),
        (Image.fromarray(np.uint8(disc()) * 90), "without foreground, .* the values 0, 90"),
    ],
)
def test_what_may_be_something_else_is_refused(tmp_path, image, message):
    path = tmp_path / f"mask.{'tif' if image.mode in 'FI' else 'png'}"
    image.save(path)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: .*{message}"):
        read_binary_mask(path)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (painted((disc(), RED)), r"coloured, with the colours \(0, 0, 0\), \(255, 0, 0\): save"),
        (Image.fromarray(disc() * np.float32(0.5)), "mode 'F' with the values 0.0, 0.5"),
        (
            Image.fromarray(disc() * np.float32(2**31)),
            "a label map with the id 2147483648; ids are",
        ),
        (
            Image.fromarray(disc() * np.float32(2**63)),
            "with the id 9223372036854775808; ids are from",
        ),
        (Image.fromarray(-disc().astype(np.int32)), "the id -1; ids are from 0 to 2147483647"),
    ],
)
def test_what_is_no_label_map(tmp_path, image, message):
    image.save(tmp_path / "map.tif")
    with pytest.raises(ValueError, match=f"map.tif: .*{message}"):
        read_label_map(tmp_path / "map.tif")


def test_the_highest_id_of_a_label_map(tmp_path):
    Image.fromarray(disc() * np.int32(2**31 - 1)).save(tmp_path / "map.tif")
    np.testing.assert_array_equal(read_label_map(tmp_path / "map.tif"), disc() * (2**31 - 1))


@pytest.mark.parametrize("quality", [95, 30])
@pytest.mark.parametrize("paint", [RED, (0, 0, 255), (0, 64, 0), (64, 0, 128)])
def test_colours_that_jpeg_has_run_over_edges(tmp_path, paint, quality):
    painted((disc(), paint)).save(tmp_path / "m.jpg", quality=quality)
    assert iou(read_binary_mask(tmp_path / "m.jpg"), disc()) > 0.95


def test_a_darker_paint_of_the_same_hue_is_a_paint_in_jpeg_too(tmp_path):
    rgb = np.zeros((H, 3 * W, 3), np.uint8)
    rgb[8:40, 8:40], rgb[8:40, 40:80], rgb[8:40, 130:150] = (200, 0, 0), (70, 0, 0), (70, 0, 0)
    Image.fromarray(rgb).save(tmp_path / "m.jpg", quality=60)
    assert iou(read_binary_mask(tmp_path / "m.jpg"), rgb[..., 0] > 0) > 0.9


def test_the_void_of_voc_in_colours_is_no_paint():
    void, one = (224, 224, 192), disc(radius=12)
    image = painted((disc(), void), (one, (128, 0, 0)))
    np.testing.assert_array_equal(to_masks(image, (H, W))[1], one)
    np.testing.assert_array_equal(to_masks(painted((one, void)), (H, W))[1], one)  # nothing else


def test_a_transparent_white_is_not_what_a_palette_shows(tmp_path):
    indexed(disc(), WHITE, BLACK).save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(to_masks(tmp_path / "a.png", (H, W))[1], disc())
