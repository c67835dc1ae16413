"""One picture, several, and folders of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segic_d2.predictor.targets import check_one, each_picture
from tests.predictor.parts import picture


@pytest.fixture
def folder(tmp_path):
    """b.jpg, deep/a.png and a text."""
    (tmp_path / "deep").mkdir()
    for name in ("b.jpg", "deep/a.png"):
        Image.fromarray(picture(0)).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    return tmp_path


def listed(images):
    pictures, count = each_picture(images)
    found = list(pictures)
    assert count in (None, len(found))
    return found, count


def test_one_picture_is_not_walked_over():
    for image in (
        "a.jpg",
        Path("a.jpg"),
        "https://x.org/a.jpg",
        picture(0),
        Image.new("L", (3, 4)),
    ):
        (found,), count = listed(image)
        assert found is image and count == 1
        check_one(image)
    assert listed(torch.zeros(4, 5, dtype=torch.uint8))[1] == 1
    assert [x.shape for x in listed(np.zeros((2, 4, 5, 3), np.uint8))[0]] == [(4, 5, 3)] * 2


def test_folders(folder):
    inside = [folder / "b.jpg", folder / "deep/a.png"]
    assert listed(folder) == listed(str(folder)) == (inside, 2)
    assert listed([folder / "b.jpg", str(folder)]) == ([inside[0], *inside], None)
    assert listed(iter(["a.jpg", folder / "deep"])) == (["a.jpg", inside[1]], None)
    assert listed(("a.jpg", "b.jpg")) == (["a.jpg", "b.jpg"], 2) and listed([]) == ([], 0)
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="no pictures in the folder .*empty"):
        each_picture(folder / "empty")


def test_several_where_one_is_asked_for(folder):
    for images, message in (
        (["a.jpg", "b.jpg"], r"one picture is asked for, .*\(list\): use predictor.predict\(…\)$"),
        ((x for x in "ab"), r"\(generator\): use predictor.predict"),
        (folder, f"^{folder} is a folder: use predictor.predict\\('{folder}'\\)$"),
    ):
        with pytest.raises(ValueError, match=message):
            check_one(images)
    with pytest.raises(ValueError, match="pictures are asked for, not int"):
        each_picture(5)
