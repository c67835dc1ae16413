import numpy as np
import pytest
from PIL import Image

from segic_d2.io.masks import to_masks
from segic_d2.io.video_masks import (
    odd_ids,
    read_given_mask,
    read_video_mask,
    voc_palette,
    write_video_mask,
)

LABELS = np.zeros((9, 14), np.uint8)
LABELS[1:4, 1:5], LABELS[5:8, 2:9], LABELS[:, 12] = 1, 3, 254


def test_the_palette_is_vocs():
    colours = np.reshape(voc_palette(), (256, 3)).tolist()
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128)}
    known |= {5: (128, 0, 128), 8: (64, 0, 0), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {k: tuple(colours[k]) for k in known} == known
    for i, colour in enumerate(colours):
        for first, value in enumerate(colour):  # the three channels
            bits = [i >> first + 3 * n & 1 for n in range(3)]
            assert value == 128 * bits[0] + 64 * bits[1] + 32 * bits[2]


def test_ids_come_back_and_the_palette_with_them(tmp_path):
    write_video_mask(tmp_path / "a/00000.png", LABELS)
    with Image.open(tmp_path / "a/00000.png") as image:
        assert image.mode == "P" and image.getpalette() == voc_palette()
        assert (np.asarray(image) == LABELS).all()
    data = (tmp_path / "a/00000.png").read_bytes()
    assert data[24:26] == bytes([8, 3])  # 8 bits, of a palette
    own = [9, 9, 9, 200, 1, 2]
    write_video_mask(tmp_path / "b.png", LABELS.astype(np.int64), own)
    labels, palette = read_video_mask(tmp_path / "b.png")
    assert palette == own + voc_palette()[6:] and (labels == LABELS).all()
    write_video_mask(tmp_path / "c.png", labels, palette)
    assert (tmp_path / "c.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    Image.fromarray(LABELS).save(tmp_path / "grey.png")
    labels, palette = read_video_mask(tmp_path / "grey.png")
    assert palette is None and (labels == LABELS).all()


def test_packed_ids(tmp_path):
    labels = LABELS.astype(np.int32) * 66000
    write_video_mask(tmp_path / "a.png", labels, packed=True)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "RGB" and image.getpixel((1, 1)) == (66000 % 256, 1, 1)
    assert (read_video_mask(tmp_path / "a.png", packed=True).labels == labels).all()
    with pytest.raises(ValueError, match="a.png.*this one is coloured"):
        read_video_mask(tmp_path / "a.png")
    write_video_mask(tmp_path / "b.png", LABELS)  # packed files may stand beside 8 bits
    assert (read_video_mask(tmp_path / "b.png", packed=True).labels == LABELS).all()


def test_what_cannot_be_written_is_one_line(tmp_path):
    file = tmp_path / "a.png"
    with pytest.raises(ValueError, match="a.png: the id 255 is outside 0 to 254; more objects are"):
        write_video_mask(file, LABELS + (LABELS == 254))
    with pytest.raises(ValueError, match="a.png: the id -1 is outside 0 to 254$"):
        write_video_mask(file, LABELS.astype(int) - 1)
    with pytest.raises(ValueError, match="the id 16777216 is outside 0 to 16777215$"):
        write_video_mask(file, np.full((2, 2), 2**24), packed=True)
    with pytest.raises(ValueError, match=r"a.png: float64 of the shape \(2, 2\) is no map of ids"):
        write_video_mask(file, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="a.jpg: ids are written as .png"):
        write_video_mask(tmp_path / "a.jpg", LABELS)
    assert not list(tmp_path.iterdir())


def test_odd_ids():
    assert odd_ids(LABELS) == "" == odd_ids(np.zeros((4, 4), int))
    small = LABELS.copy()
    small[3, 8] = 7  # one pixel
    assert odd_ids(small) == ""
    drawn = np.zeros((40, 60), np.uint8)
    drawn[10:30, 10:40] = 200
    smooth = np.asarray(Image.fromarray(drawn).resize((45, 30), Image.Resampling.BILINEAR))
    values = np.unique(smooth).tolist()
    assert odd_ids(smooth).startswith(f"has {len(values) - 1} ids; the ids {values[1]}, ")
    assert " 200" not in odd_ids(smooth) and "was it resized" in odd_ids(smooth)
    nearest = np.asarray(Image.fromarray(drawn).resize((45, 30), Image.Resampling.NEAREST))
    assert odd_ids(nearest) == ""
    many = np.kron(np.arange(1, 25).reshape(4, 6), np.ones((4, 4), int))
    expected = "has 24 ids, the ids 1, 2, 3, 4, 5, 6, 18 more: is each value an object?"
    assert odd_ids(many) == expected


def test_a_comment_says_whose_a_file_is(tmp_path):
    write_video_mask(tmp_path / "a.png", LABELS, comment="ours")
    assert Image.open(tmp_path / "a.png").info["Comment"] == "ours"
    assert (read_video_mask(tmp_path / "a.png").labels == LABELS).all()


def given(path):
    """What a given mask marks: pixels by id."""
    found = to_masks(read_given_mask(path).content, (40, 40), as_ids=True)
    return {i: int(mask.sum()) for i, mask in found.items()}


def test_given_files_of_ids(tmp_path, caplog):
    ids = np.zeros((40, 40), np.uint8)
    ids[2:12, 2:12], ids[20:30, 20:38] = 1, 3
    write_video_mask(tmp_path / "palette.png", ids, [0, 0, 0, 1, 2, 3])
    assert read_given_mask(tmp_path / "palette.png").palette[:6] == [0, 0, 0, 1, 2, 3]
    Image.fromarray(ids).save(tmp_path / "grey.png")
    np.save(tmp_path / "array.npy", ids)
    for name in ("palette.png", "grey.png", "array.npy"):
        assert given(tmp_path / name) == {1: 100, 3: 180}
    assert read_given_mask(tmp_path / "grey.png").palette is None and not caplog.records


def test_given_files_of_one_object(tmp_path, caplog):
    white = np.zeros((40, 40), np.uint8)
    white[8:32, 8:32] = 255
    Image.fromarray(white).save(tmp_path / "binary.png")
    assert given(tmp_path / "binary.png") == {1: 576} and not caplog.records
    Image.fromarray(white).save(tmp_path / "photo.jpg")
    smooth = Image.fromarray(white).resize((20, 20), Image.Resampling.BICUBIC).resize((40, 40))
    smooth.save(tmp_path / "smooth.png")
    Image.fromarray(white[..., None] * np.array([1, 0, 0], np.uint8)).save(tmp_path / "red.png")
    for name in ("photo.jpg", "smooth.png", "red.png"):
        caplog.clear()
        assert abs(given(tmp_path / name)[1] - 576) < 60 and [*given(tmp_path / name)] == [1]
        assert f"{name} " in caplog.text and "mask of one object" in caplog.text
    Image.fromarray(np.asarray(smooth) // 4).save(tmp_path / "dark.png")
    with pytest.raises(ValueError, match=r"dark\.png: has .* smooth edges\?; .* nothing is white"):
        read_given_mask(tmp_path / "dark.png")
    with pytest.raises(FileNotFoundError, match=r"no\.png"):
        read_given_mask(tmp_path / "no.png")
