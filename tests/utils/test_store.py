"""Folders here and on other machines behave alike."""

import pytest

from segic_d2.utils.store import Store, fetch, files_below, is_remote, open_remote


@pytest.mark.parametrize("place", ["{tmp}/out", "memory://store/out"])
def test_files_are_written_read_and_listed(place, tmp_path):
    store = Store(place.format(tmp=tmp_path))
    assert store.remote == place.startswith("memory") and store.names("a") == []
    assert not store.exists("a/b.json")
    store.write("a/b.json", "ü")
    store.write("a/c.json", b"1")
    store.write("a/b.json", "ä")
    assert store.read("a/b.json").decode() == "ä" and store.exists("a/b.json")
    assert store.names("a") == ["b.json", "c.json"] and store.names("") == ["a"]
    assert store.path("a/c.json") == f"{store.place}/a/c.json"
    with pytest.raises(FileNotFoundError):
        store.read("a/d.json")


def test_files_of_another_machine_are_listed_and_fetched(tmp_path):
    store = Store("memory://pictures")
    for name in ("b/2.png", "a.png", ".hidden/3.png"):
        store.write(name, name.encode())
    found = files_below("memory://pictures")
    assert [f.rpartition("pictures/")[2] for f in found] == ["a.png", "b/2.png"]
    assert fetch(found[1], tmp_path).read_bytes() == b"b/2.png"
    with pytest.raises(FileNotFoundError, match="no such file: memory://pictures/none.png"):
        fetch("memory://pictures/none.png", tmp_path)
    with pytest.raises(FileNotFoundError, match="no files in memory://nothing"):
        files_below("memory://nothing")


def test_a_folder_is_uploaded(tmp_path):
    (tmp_path / "own/deep").mkdir(parents=True)
    (tmp_path / "own/deep/a.txt").write_text("a")
    store = Store("memory://uploads")
    store.upload(tmp_path / "own", "labels")
    assert store.read("labels/deep/a.txt") == b"a"


def test_what_cannot_be_opened_is_named():
    with pytest.raises(ValueError, match="nosuch://place"):
        open_remote("nosuch://place")
    assert is_remote("s3://bucket") and not is_remote("/data") and not is_remote("https://x/y.png")
