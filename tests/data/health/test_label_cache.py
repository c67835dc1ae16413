import os

import numpy as np
import pytest
from PIL import Image

from segic_d2.data.health import label_cache
from segic_d2.data.health.label_cache import label_values
from segic_d2.utils.files import cache_folder
from tests.full_disk import full_disk


def forbid(monkeypatch):
    def read(files):
        raise AssertionError("read again")

    monkeypatch.setattr(label_cache, "_read_values", read)


def test_label_maps_are_read_once_and_again_when_they_change(maps, monkeypatch):
    expected = [[0, 1, 255], [0, 2, 255], [0, 3, 255]]
    assert label_values(maps) == expected
    with monkeypatch.context() as patch:
        forbid(patch)
        assert label_values(maps) == expected
    Image.fromarray(np.full((1, 3), 9, np.uint8)).save(maps[0])
    os.utime(maps[0], ns=(1, 1))
    assert label_values(maps) == [[9], *expected[1:]]


@pytest.mark.parametrize(
    "content",
    ["[[0, 1", "", "null", "5", "[[1]]", "[1, 2, 3]", '[["a"], [1], [2]]', "[" * 10**6, "\x00"],
)
def test_a_damaged_cache_file_is_replaced(maps, monkeypatch, content):
    expected = label_values(maps)
    (file,) = (cache_folder() / "label_values").glob("*.json")
    file.write_text(content)
    assert label_values(maps) == expected
    forbid(monkeypatch)
    assert label_values(maps) == expected


def test_a_full_disk_does_not_end_a_run(maps, monkeypatch, caplog):
    expected = label_values(maps)
    (file,) = (cache_folder() / "label_values").glob("*.json")
    file.unlink()
    with full_disk(8):
        assert label_values(maps) == expected
    assert "no label index is kept" in caplog.text and not file.exists()


def test_large_ids(tmp_path, maps):
    Image.fromarray(np.array([[0, 70000, 3]], np.int32)).save(tmp_path / "large.tif")
    assert label_values([tmp_path / "large.tif"]) == [[0, 3, 70000]]


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("SEGIC_D2_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "segic_d2"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "segic_d2"
