"""Pictures and masks in every form that people have, and an error for each that is none."""

import json
import re

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from PIL import Image

from segic_d2.io import pictures
from segic_d2.io.masks import to_masks
from segic_d2.io.pictures import to_cut_out, to_picture

H, W = 30, 40


@pytest.fixture
def square():
    mask = np.zeros((H, W), dtype=bool)
    mask[5:15, 10:22] = True
    return mask


def rle(mask):
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))


def uncompressed(mask):
    counts, value = [0], 0
    for pixel in mask.T.reshape(-1).astype(int).tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def palette_image(ids):
    image = Image.fromarray(ids.astype(np.uint8), mode="P")
    image.putpalette([n for i in range(256) for n in (i, 255 - i, i // 2)])
    return image


def soft_grey(mask):
    grey = np.where(mask, 230, 12).astype(np.uint8)
    grey[0, 0] = 127  # just not foreground
    return grey


@pytest.mark.parametrize(
    "form",
    [
        "bool",
        "0/1",
        "0/255",
        "float",
        "tensor",
        "stack",
        "rle",
        "rle string",
        "rle uncompressed",
        "rle list",
        "polygon",
        "polygon pairs",
        "png 0/255",
        "png 0/1",
        "png grey",
        "png colour",
        "png bilevel",
        "png palette",
        "png palette 255",
        "json rle",
        "json polygon",
        "pil",
        "pil palette",
    ],
)
def test_one_object_in_every_form(square, tmp_path, form):
    png, js = tmp_path / "mask.png", tmp_path / "mask.json"
    string = {**rle(square), "counts": rle(square)["counts"].decode()}
    polygon = [[10, 5, 22, 5, 22, 15, 10, 15]]

    def saved(image):
        image.save(png)
        return png

    def dumped(value):
        js.write_text(json.dumps(value))
        return str(js)

    eight = square.astype(np.uint8)
    mask = {
        "bool": lambda: square,
        "0/1": lambda: square.astype(np.int64),
        "0/255": lambda: eight * 255,
        "float": lambda: square * 0.7,
        "tensor": lambda: torch.from_numpy(square),
        "stack": lambda: square[None],
        "rle": lambda: rle(square),
        "rle string": lambda: string,
        "rle uncompressed": lambda: uncompressed(square),
        "rle list": lambda: [rle(square)],
        "polygon": lambda: polygon,
        "polygon pairs": lambda: [np.reshape(polygon, (-1, 2)).tolist()],
        "png 0/255": lambda: saved(Image.fromarray(eight * 255)),
        "png 0/1": lambda: saved(Image.fromarray(eight)),
        "png grey": lambda: saved(Image.fromarray(soft_grey(square))),
        "png colour": lambda: saved(Image.fromarray(eight * 255).convert("RGB")),
        "png bilevel": lambda: saved(Image.fromarray(square)),
        "png palette": lambda: saved(palette_image(eight)),
        "png palette 255": lambda: saved(palette_image(eight * 255)),
        "json rle": lambda: dumped(string),
        "json polygon": lambda: dumped(polygon),
        "pil": lambda: Image.fromarray(soft_grey(square)),
        "pil palette": lambda: palette_image(eight),
    }[form]()
    masks = to_masks(mask, (H, W))
    assert list(masks) == [1] and masks[1].dtype == bool
    np.testing.assert_array_equal(masks[1], square)


def test_an_array_of_three_equal_channels_is_a_grey_mask(square, tmp_path):
    """As OpenCV and matplotlib read files."""
    grey = soft_grey(square)
    channels = np.dstack([grey] * 3), grey[..., None], grey[..., None] / 255
    for mask in (*channels, torch.from_numpy(np.dstack([grey] * 3))):
        masks = to_masks(mask, (H, W))
        assert list(masks) == [1]
        np.testing.assert_array_equal(masks[1], square)
    np.testing.assert_array_equal(to_masks(np.dstack([square] * 3), (H, W))[1], square)
    ids = np.zeros((H, W), np.uint8)
    ids[:5], ids[10:12] = 2, 7
    masks = to_masks(np.dstack([ids] * 3), (H, W), as_ids=True)
    assert list(masks) == [2, 7] and (masks[7] == (ids == 7)).all()
    # n masks of a picture that is three pixels wide
    assert list(to_masks(np.ones((H, H, 3), bool), (H, 3))) == list(range(1, H + 1))


def test_lists_of_the_numbers_of_an_array(square, tmp_path):
    for rows in (square.tolist(), square.astype(int).tolist(), [(square * 255).tolist()]):
        (tmp_path / "rows.json").write_text(json.dumps(rows))
        for form in (rows, tmp_path / "rows.json"):
            masks = to_masks(form, (H, W))
            assert list(masks) == [1]
            np.testing.assert_array_equal(masks[1], square)
    ids = (square * 7).tolist()
    assert list(to_masks(ids, (H, W))) == [7]
    assert to_masks([[1, 1, 2, 1, 2, 2, 1, 2]], (H, W))[1].sum() == 1  # a small polygon
    (tmp_path / "rows.json").write_text(json.dumps(square[:9].astype(int).tolist()))
    with pytest.raises(ValueError, match="rows.json: mask is 40x9 px, the image as displayed is"):
        to_masks(tmp_path / "rows.json", (H, W))


def test_numpy_files(square, tmp_path):
    np.save(tmp_path / "one.npy", square)
    np.testing.assert_array_equal(to_masks(tmp_path / "one.npy", (H, W))[1], square)
    np.save(tmp_path / "two.npy", np.stack([square, ~square]))
    assert list(to_masks(str(tmp_path / "two.npy"), (H, W))) == [1, 2]
    np.save(tmp_path / "code.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "text.npy").write_text("no array")
    for name in ("code.npy", "text.npy"):
        with pytest.raises(ValueError, match=f"cannot read .*{name}: "):
            to_masks(tmp_path / name, (H, W))


def test_masks_of_web_addresses(square, tmp_path, monkeypatch):
    np.save(tmp_path / "m", square)
    Image.fromarray(square).save(tmp_path / "m.png")
    files = {
        "https://x.org/m.json?v=1": json.dumps(uncompressed(square)).encode(),
        "https://x.org/m.NPY": (tmp_path / "m.npy").read_bytes(),
        "https://x.org/m?as=.json": (tmp_path / "m.png").read_bytes(),
    }
    monkeypatch.setattr(pictures, "download", files.__getitem__)
    for address in files:
        np.testing.assert_array_equal(to_masks(address, (H, W))[1], square)
    monkeypatch.setattr(pictures, "download", lambda address: b"<html>")
    for address in ("https://x.org/m.json?v=1", "https://x.org/m.NPY"):
        with pytest.raises(ValueError, match=f"cannot read {re.escape(address)}: "):
            to_masks(address, (H, W))
    for address in ("ftp://x.org/m.json", "ftp://x.org/m.npy"):
        with pytest.raises(ValueError, match=f"^cannot read {address}: its kind of address is not"):
            to_masks(address, (H, W))


@pytest.mark.parametrize("form", ["palette file", "grey file as ids", "array", "pil", "stack"])
def test_several_ids(tmp_path, form):
    ids = np.zeros((H, W), dtype=np.uint8)
    ids[:5, :5], ids[10:12], ids[20:25, 30:], ids[28:] = 2, 7, 130, 255  # 255 is ignored
    path = tmp_path / "ids.png"
    if form == "palette file":
        palette_image(ids).save(path)
        masks = to_masks(path, (H, W))
    elif form == "grey file as ids":
        Image.fromarray(ids).save(path)
        masks = to_masks(path, (H, W), as_ids=True)
        with pytest.raises(
            ValueError, match="the values 0, 2, 7, 130, 255 in flat areas: are they"
        ):
            to_masks(path, (H, W))
    elif form == "stack":
        masks = to_masks(np.stack([ids == i for i in (2, 7, 130)]), (H, W))
        masks = dict(zip((2, 7, 130), (masks[i] for i in (1, 2, 3)), strict=True))
    else:
        masks = to_masks(ids.astype(np.int32) if form == "array" else palette_image(ids), (H, W))
    assert list(masks) == [2, 7, 130]
    for i, mask in masks.items():
        np.testing.assert_array_equal(mask, ids == i)


def cut_out(shown, kind, beneath=(0, 0, 0)):
    """A dark thing, whose colours brightness takes for background, on what is transparent."""
    rgb = np.random.default_rng(0).integers(0, 90, (H, W, 3), dtype=np.uint8)
    rgb[~shown] = beneath
    rgba = Image.fromarray(np.dstack([rgb, shown.astype(np.uint8) * 255]))
    if kind == "palette":
        return rgba.quantize(16)
    return rgba if kind == "RGBA" else rgba.convert(kind)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette"])
@pytest.mark.parametrize("beneath", [(0, 0, 0), (255, 255, 255)])
def test_a_cut_out_is_a_mask_by_its_alpha(square, tmp_path, kind, beneath):
    image = cut_out(square, kind, beneath)
    image.save(tmp_path / "cut.png")
    forms = [image, tmp_path / "cut.png"]
    if kind == "RGBA":
        forms += [np.asarray(image), torch.from_numpy(np.array(image))]
        image.save(tmp_path / "cut.webp", lossless=True)
        forms.append(tmp_path / "cut.webp")
    for form in forms:
        masks = to_masks(form, (H, W))
        assert list(masks) == [1]
        np.testing.assert_array_equal(masks[1], square)


def test_half_transparent_is_shown_from_128_on():
    alpha = np.arange(H * W, dtype=np.uint32).reshape(H, W).astype(np.uint8)
    image = np.dstack([np.full((H, W, 3), 50, np.uint8), alpha])
    np.testing.assert_array_equal(to_masks(image, (H, W))[1], alpha >= 128)
    image[..., 3] |= 128  # nothing is transparent: brightness decides
    assert not to_masks(image, (H, W))[1].any()
    image[:9, :9, :3] = 255
    assert to_masks(image, (H, W))[1].sum() == (alpha[:9, :9] >= 0).sum()


def test_black_and_white_on_a_transparent_layer_is_drawn(square):
    layer = np.zeros((H, W, 4), np.uint8)
    layer[:20] = 0, 0, 0, 255
    layer[square] = 255
    np.testing.assert_array_equal(to_masks(layer, (H, W))[1], square)
    layer[0, 0] = 9, 9, 9, 255  # another colour: a cut-out
    np.testing.assert_array_equal(to_masks(layer, (H, W))[1], layer[..., 3] > 0)


def test_a_label_map_may_have_a_transparent_background(tmp_path):
    ids = np.zeros((H, W), dtype=np.uint8)
    ids[:5, :5], ids[10:12] = 2, 7
    palette_image(ids).save(tmp_path / "ids.png", transparency=0)
    masks = to_masks(tmp_path / "ids.png", (H, W))
    assert list(masks) == [2, 7]
    np.testing.assert_array_equal(masks[7], ids == 7)
    palette_image(ids).save(tmp_path / "cut.png", transparency=7)  # no background is so
    np.testing.assert_array_equal(to_masks(tmp_path / "cut.png", (H, W))[1], ids != 7)
    as_ids = to_masks(tmp_path / "cut.png", (H, W), as_ids=True)
    assert list(as_ids) == [2, 7]


def test_an_array_in_colour_is_read_as_a_file(square):
    rgb = np.repeat(square[..., None] * np.uint8(255), 3, -1)
    np.testing.assert_array_equal(to_masks(rgb, (H, W))[1], square)
    ids = np.repeat(square[..., None] * np.uint8(5), 3, -1)
    assert list(to_masks(ids, (H, W), as_ids=True)) == [5]
    stack = np.zeros((4, 4, 4), np.uint8)  # of a picture of 4x4 px: four masks
    assert list(to_masks(stack, (4, 4))) == [1, 2, 3, 4]


def test_polygon_outside_of_the_picture_is_empty():
    inside, outside = [1, 1, 9, 1, 9, 9], [50, 1, 60, 1, 60, 9]
    assert not to_masks([outside], (H, W))[1].any()
    np.testing.assert_array_equal(
        to_masks([inside, outside], (H, W))[1], to_masks([inside], (H, W))[1]
    )


def test_the_highest_id():
    ids = np.zeros((H, W), np.uint64)
    ids[3:9] = 2**31 - 1
    for form in (ids, ids.tolist(), torch.from_numpy(ids.astype(np.int64))):
        masks = to_masks(form, (H, W))
        assert list(masks) == [2147483647]
        np.testing.assert_array_equal(masks[2147483647], ids > 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e5m2])
def test_tensors_of_narrow_floats(square, dtype):
    tensor = (torch.from_numpy(square) * 0.75).to(dtype).requires_grad_()
    np.testing.assert_array_equal(to_masks(tensor, (H, W))[1], square)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((W, H)), r"30x40 px, the image as displayed is 40x30 px \(masks are in the disp"),
        (np.zeros((3, H, W + 1)), "41x30 px, the image as displayed is 40x30"),
        (np.zeros((1, 1, H, W)), r"shape \(1, 1, 30, 40\)"),
        (np.eye(3, dtype=bool)[np.zeros((H, W), int)], r"type bool is a coloured picture: give"),
        (np.zeros((H, W, 3)), r"shape \(30, 40, 3\) and type float64 is a coloured picture: give"),
        (np.full((H, W), 2.0), r"floats has 2, outside \[0, 1\]"),
        (np.full((H, W), np.nan), r"floats has nan, outside \[0, 1\]"),
        (np.zeros((0, H, W), bool), r"shape \(0, 30, 40\) holds no mask"),
        (np.full((H, W), 2**63, np.uint64), "the id 9223372036854775808; ids end at 2147483647"),
        ({"data": {}, "annotations": []}, "it is a task of Label Studio: give labelstudio:FILE"),
        ({"counts": [-2, 2], "size": [H, W]}, "its counts sum to 0"),
        ({"counts": [-2, H * W + 2], "size": [H, W]}, "has counts below 0, such as -2"),
        ([[{"box": [1, 2, 3, 4]}]], r"nor of dicts \(boxes, points, RLE\): it has \[\{'box': \[1"),
        ([None], "nor of dicts .* it has None"),
        ([[0.1, 0.1, 0.5, 0.1, 0.5, 0.6]], "in the first pixel; coordinates are px, not shares"),
        (np.full((H, W), "a"), "type <U1"),
        (np.full((H, W), -1), "negative id -1"),
        ({"counts": [5]}, r"dict with \['counts'\]"),
        ({"shapes": []}, r"dict with \['shapes'\]; it is a labelme file: give"),
        ({"counts": [5], "size": None}, r"mask has the size None; it is \[height, width\]"),
        ({"counts": [5], "size": ["a", 2]}, r"mask has the size \['a', 2\]; it is"),
        ({"size": [H, W + 2], "counts": [H * (W + 2)]}, "42x30 px, the image as displayed"),
        ({"size": [H, W], "counts": [7]}, "no RLE of 40x30 px: its counts sum to 7"),
        ({"counts": [5], "size": []}, r"mask has the size \[\]; it is"),
        ({"counts": [5], "size": "34"}, "mask has the size '34'; it is"),
        ({"counts": [5], "size": [H, float("inf")]}, r"mask has the size \[30, inf\]; it is"),
        ({1: 2, "a": 3}, r"dict with \['1', 'a'\]"),
        ([[1, 2, 3, 4, 5, 10**400]], "not of polygons"),
        (np.full((H, W), 2**31, np.uint32), "mask has the id 2147483648; ids end at 2147483647"),
        (np.full((H, W), 2**63, np.uint64), "the id 9223372036854775808; ids end at 2147483647"),
        (np.full((H, W), 2.0**31), r"outside \[0, 1\]"),
        ([[2**63] * W] * H, "the id 9223372036854775808; ids end at"),
        ([[2**64] * W] * H, "numbers that no type of an array holds"),
        (torch.ones(H, W).to_sparse(), "a tensor of torch.float32 is no array: "),
        (torch.ones(H, W, device="meta"), "a tensor of torch.float32 is no array: "),
        ([[1, 2, 3]], "not of polygons"),
        ([[1, 2, 3, 4]], "polygon 1 of the mask has no 3 finite corners"),
        ([1, 2, 3, 4, 5, 6], "not of polygons"),
        (object(), "an array, not object"),
    ],
)
def test_bad_mask(mask, message):
    with pytest.raises(ValueError, match=message):
        to_masks(mask, (H, W))


def test_bad_mask_files(tmp_path):
    for name in ("absent.png", "absent.npy"):
        with pytest.raises(FileNotFoundError, match=name):
            to_masks(tmp_path / name, (H, W))
    with pytest.raises(ValueError, match="labels.txt is a text file, as YOLO's .* not taken: give"):
        to_masks(tmp_path / "labels.txt", (H, W))
    for name, text in (("broken.png", "no picture"), ("broken.json", "{"), ("five.json", "5")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=name):
            to_masks(tmp_path / name, (H, W))
    Image.new("1", (3, 2)).save(tmp_path / "a\nb.png")
    for name, what in (("a\nb.png", "mask is 3x2 px"), ("a\nc.png", "no such file")):
        with pytest.raises((ValueError, OSError), match=what) as error:
            to_masks(tmp_path / name, (H, W))
        assert f"{tmp_path}/{name}".replace("\n", "\ufffd") in str(error.value)


NESTED = {
    "deep": "[" * 1_000_000,
    "deep objects": '{"counts":' * 100_000,
    "closed": "[" * 900 + "]" * 900,
    "long number": "[[1, 2, 3, 4, 5, " + "9" * 5000 + "]]",
    "no size": '{"counts": [1]}',
    "null": "[null]",
    "text": '"' + "a" * 10_000 + '"',
}


@pytest.mark.parametrize("kind", NESTED)
def test_a_json_file_of_any_depth_is_one_line(tmp_path, kind):
    (tmp_path / "a.json").write_text(NESTED[kind])
    with pytest.raises(ValueError) as error:
        to_masks(tmp_path / "a.json", (6, 9))
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("shape", [(10**13,), (-1, 3), (2**63, 9)])
def test_an_array_file_that_says_it_is_huge_is_named(tmp_path, shape):
    with open(tmp_path / "a.npy", "wb") as file:
        about = {"descr": "<f8", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, about)
    with pytest.raises(ValueError, match=r"cannot read .*a\.npy: \S"):
        to_masks(tmp_path / "a.npy", (6, 9))


def test_pictures(tmp_path):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
    grey = rgb[..., 0]
    alpha = np.dstack([rgb, np.full((H, W), 255, np.uint8)])
    clear = np.dstack([rgb, np.zeros((H, W), np.uint8)])
    expected_grey = np.dstack([grey] * 3)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    for picture in (tmp_path / "rgb.png", str(tmp_path / "rgb.png"), rgb, Image.fromarray(rgb)):
        np.testing.assert_array_equal(to_picture(picture), rgb)
    np.testing.assert_array_equal(to_picture(torch.from_numpy(rgb)), rgb)
    np.testing.assert_array_equal(to_picture(alpha), rgb)
    assert (to_picture(clear) == 255).all()  # on white
    np.testing.assert_array_equal(to_picture(grey), expected_grey)
    np.testing.assert_array_equal(to_picture(grey.astype(np.uint16) * 257), expected_grey)
    np.testing.assert_array_equal(to_picture(rgb.astype(np.uint16) * 257), rgb)
    turned = Image.fromarray(rgb)
    turned.getexif()[0x0112] = 6  # displayed after a quarter turn clockwise
    np.testing.assert_array_equal(to_picture(turned), np.rot90(rgb, -1))


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette"])
def test_a_cut_out_is_seen_on_white(square, tmp_path, kind):
    image = cut_out(square, kind)
    image.save(tmp_path / "cut.png")
    for form in (image, tmp_path / "cut.png", *([np.array(image)] if kind == "RGBA" else [])):
        np.testing.assert_array_equal(to_cut_out(form), square)
        picture = to_picture(form)
        assert (picture[~square] == 255).all() and picture[square].max() < 91


def test_what_a_picture_shows_is_turned_with_it(square):
    image = cut_out(square, "RGBA")
    image.getexif()[0x0112] = 6
    np.testing.assert_array_equal(to_cut_out(image), np.rot90(square, -1))


def test_no_cut_out(square, tmp_path):
    opaque = cut_out(square | True, "RGBA")
    Image.fromarray(np.full((H, W), 300, np.uint16)).save(tmp_path / "deep.png")
    palette_image(square).save(tmp_path / "palette.png", transparency=9)  # no pixel has it
    forms = opaque, np.array(opaque), opaque.convert("RGB"), np.asarray(opaque)[..., :3]
    for form in (*forms, torch.zeros(H, W), tmp_path / "deep.png", tmp_path / "palette.png"):
        assert to_cut_out(form) is None
    keyed = Image.fromarray(square.astype(np.uint8) * 9)
    keyed.save(tmp_path / "keyed.png", transparency=0)  # a colour that is transparent
    np.testing.assert_array_equal(to_cut_out(tmp_path / "keyed.png"), square)
    wide = np.dstack([np.zeros((H, W, 3), np.uint16), square * np.uint16(65535)])
    np.testing.assert_array_equal(to_cut_out(wide), square)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((H, W, 3)), r"shape \(30, 40, 3\) and type float64"),
        (np.zeros((3, H, W), np.uint8), r"shape \(3, 30, 40\)"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
        (5, "not int"),
    ],
)
def test_bad_picture(picture, message):
    with pytest.raises(ValueError, match=message):
        to_picture(picture)
