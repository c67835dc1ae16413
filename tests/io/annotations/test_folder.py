"""Folders as references."""

import numpy as np
import pytest
from PIL import Image

from segic_d2.io.annotations import read_annotations, references_in
from tests.io.annotations.parts import SIZE, box, picture, write


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def test_a_folder_per_class(tmp_path):
    for stem, mask in (("1.png", "1_mask.png"), ("2.JPG", "2.png")):
        picture(tmp_path / "big_cat" / stem.lower()).rename(tmp_path / "big_cat" / stem)
        save(tmp_path / "big_cat" / mask, box(5, 5, 20, 20).astype(np.uint8) * 255)
    found = list(references_in(f"folder:{tmp_path}"))
    assert [f[0].rsplit("/")[-1] for f in found] == ["1.png", "2.JPG"]
    for _, masks, names in found:
        assert names == ["big cat"]
        np.testing.assert_array_equal(masks, [box(5, 5, 20, 20)])
    picture(tmp_path / "big_cat" / "3.jpg")
    with pytest.raises(ValueError, match="image without a mask: .*3.jpg"):
        list(references_in(f"folder:{tmp_path}"))


def test_label_maps(tmp_path):
    picture(tmp_path / "images" / "a.jpg")
    labels = np.zeros(SIZE, np.uint8)
    labels[box(5, 5, 20, 20)], labels[box(30, 5, 50, 30)] = 3, 255
    save(tmp_path / "masks" / "a.png", labels)
    ((_, masks, names),) = references_in(f"folder:{tmp_path}")
    assert names == ["class 3"] and masks.sum() == 225
    write(tmp_path / "classes.txt", "3 polar bear\n")
    ((_, _, names),) = references_in(f"folder:{tmp_path}")
    assert names == ["polar bear"]
    save(tmp_path / "masks" / "a.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(ValueError, match="nothing is marked in its 1 pictures"):
        list(references_in(f"folder:{tmp_path}"))
    for line in ("three bears", "65536 bears", f"{2**63} bears", "9" * 5000 + " bears"):
        write(tmp_path / "classes.txt", f"{line}\n")
        with pytest.raises(ValueError, match='classes.txt, line 1: expected "id name", an id up'):
            read_annotations(f"folder:{tmp_path}")
