import logging

import numpy as np
import pytest
from PIL import Image

from segic_d2.data import register_folder_dataset
from segic_d2.data.index import load_records
from segic_d2.io.annotations import references_in
from segic_d2.io.class_folders import pair_files
from tests.data import toy

SIZE = 48, 64


def photo(seed=0):
    """Coloured things on a coloured ground."""
    shades = np.random.default_rng(seed).integers(60, 200, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(shades.repeat(8, 0).repeat(8, 1))


def mask(seed=0):
    shown = np.zeros(SIZE, np.uint8)
    shown[10 + seed : 30, 15:40] = 255
    return Image.fromarray(shown)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "tif", "webp"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pictures_in_png_and_masks_beside_them(tmp_path, caplog, suffix, mode):
    for i in range(7):
        save(tmp_path / "cup" / f"{i}.png", photo(i))
        save(tmp_path / "cup" / f"{i}.{suffix}", mask(i).convert(mode))
    name = toy.unique("folder")
    register_folder_dataset(name, tmp_path)
    with caplog.at_level(logging.WARNING):
        records = load_records(name)
    own = tmp_path / "cup"
    assert [(r["file_name"], r["mask_file_name"]) for r in records] == [
        (str(own / f"{i}.png"), str(own / f"{i}.{suffix}")) for i in range(7)
    ]
    (line,) = [r.getMessage() for r in caplog.records]
    assert line == (
        f"{own}: the PNG files look like pictures, and the .{suffix} files are black and white: "
        "they are taken as the masks"
    )
    (_, masks, _), *_ = references_in(f"folder:{tmp_path}")
    assert abs(int(masks.sum()) - 500) < 20


def test_usual_roles_are_kept(tmp_path, caplog):
    dark = Image.fromarray(np.zeros((*SIZE, 3), np.uint8))  # a photograph at night
    ids = mask().point(lambda v: v // 255).convert("P")
    for i, (picture, own) in enumerate(
        [(photo(), mask()), (dark, mask()), (mask().convert("RGB"), mask()), (photo(), ids)]
    ):
        save(tmp_path / f"{i}.jpg", picture)
        save(tmp_path / f"{i}.png", own)
    pairs, errors = pair_files(tmp_path)
    assert pairs == [(tmp_path / f"{i}.jpg", tmp_path / f"{i}.png") for i in range(4)]
    assert not errors and not caplog.records


def test_names_tell_masks_of_any_format(tmp_path):
    save(tmp_path / "a.png", photo())
    save(tmp_path / "a_mask.jpg", mask())
    assert pair_files(tmp_path) == ([(tmp_path / "a.png", tmp_path / "a_mask.jpg")], {})


def test_roles_that_change_within_a_folder_are_wrong(tmp_path):
    for i in range(4):
        pair = (photo(i), mask(i))[:: -1 if i == 2 else 1]
        for image, suffix in zip(pair, ("jpg", "png"), strict=True):
            save(tmp_path / "cup" / f"{i}.{suffix}", image)
    name, own = toy.unique("folder"), tmp_path / "cup"
    register_folder_dataset(name, tmp_path)
    with pytest.raises(ValueError) as error:
        load_records(name)
    assert str(error.value).count("2.jpg looks like the mask of") == 1
    for part in (f"{own / '0.png'} like that of {own / '0.jpg'}", "name all masks N_mask.png"):
        assert part in str(error.value)
