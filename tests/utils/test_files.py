import multiprocessing
import os

import numpy as np
import pytest
from PIL import Image

from segic_d2.utils.files import (
    locked,
    part_of,
    remove_leftovers,
    whole_file,
    whole_folder,
    write_picture,
    write_whole,
)
from tests.full_disk import full_disk


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_appears_whole_or_not_at_all(tmp_path, shared):
    path = tmp_path / "new" / "a.json"
    with whole_file(path, shared=shared, sync=True) as part:
        part.write_text("half")
        assert not path.exists() and part.parent == path.parent
        assert shared == (part != part_of(path))
    assert path.read_text() == "half"
    with pytest.raises(KeyboardInterrupt), whole_file(path, shared=shared) as part:
        part.write_text("other")
        raise KeyboardInterrupt
    assert path.read_text() == "half" and os.listdir(path.parent) == ["a.json"]


def test_text_and_bytes_are_written_for_all_who_may_read(tmp_path):
    (tmp_path / "plain").write_text("")
    write_whole(tmp_path / "text", "ä", sync=True)
    write_whole(str(tmp_path / "bytes"), b"\xff", shared=True)
    assert (tmp_path / "text").read_text(encoding="utf-8") == "ä"
    assert (tmp_path / "bytes").read_bytes() == b"\xff"
    assert len({(tmp_path / n).stat().st_mode for n in ("plain", "text", "bytes")}) == 1


def test_a_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_whole(tmp_path / "folder", "x")
    assert os.listdir(tmp_path) == ["folder"]


def _count(path):
    for _ in range(20):
        with locked(path):
            write_whole(path, str(int(path.read_text()) + 1))


def test_a_lock_is_held_by_one_process(tmp_path):
    path = tmp_path / "count"
    path.write_text("0")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_count, args=(path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert path.read_text() == "60"


def test_a_full_disk_leaves_the_old_file_and_is_named(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, "old")
    for how in ({}, {"sync": True}, {"shared": True}):
        with full_disk(), pytest.raises(OSError, match=r"a\.json") as error:
            write_whole(path, "new" * 100, **how)
        assert error.value.errno and path.read_text() == "old"
        assert os.listdir(tmp_path) == ["a.json"]


def test_links_stay_and_pipes_are_written_as_they_are(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for text in ("new", "newer"):  # dangling, then over a file
        write_whole(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == text
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / "pipe", "through")
    assert os.read(reader, 99) == b"through"
    os.close(reader)
    assert sorted(os.listdir(tmp_path)) == ["file", "link", "pipe"]
    write_whole(os.devnull, "nothing")
    assert not os.path.isfile(os.devnull)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    place = tmp_path / "new" / "data"
    with full_disk(), pytest.raises(OSError), whole_folder(place) as folder:
        (folder / "a").write_text("a")
        (folder / "b").write_text("b" * 100)
    assert not os.listdir(place.parent)
    with whole_folder(place) as folder:
        (folder / "a").write_text("a")
        assert not place.exists()
    assert (place / "a").read_text() == "a" and os.listdir(place.parent) == ["data"]
    with pytest.raises(OSError), whole_folder(place):
        pass
    assert (place / "a").read_text() == "a"


def test_a_picture_is_written_whole_in_the_format_of_its_suffix(tmp_path):
    """Also where Pillow alone would leave a part of it, without a word."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8))
    for suffix, kind in ((".png", "PNG"), (".JPG", "JPEG"), (".webp", "WEBP")):
        file = tmp_path / f"a{suffix}"
        write_picture(file, noise, quality=90)
        before = file.read_bytes()
        assert Image.open(file).format == kind
        for size in (64, len(before) - 1):
            with full_disk(size), pytest.raises(OSError, match=f"a{suffix}"):
                write_picture(file, noise, quality=90)
            assert file.read_bytes() == before
    with pytest.raises(ValueError, match="a.txt: its suffix"):
        write_picture(tmp_path / "a.txt", noise)
    assert len(os.listdir(tmp_path)) == 3


def test_what_killed_writers_left_is_removed(tmp_path):
    for name in ("a.json", "deep/b.json.part", "deep/c.1f2e.part", ".part-labels-x/labels/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    with whole_folder(tmp_path / "labels") as part:
        assert part.parent.name.startswith(".part-labels-")  # as above
    remove_leftovers(tmp_path)
    assert sorted(f.name for f in tmp_path.rglob("*")) == ["a.json", "deep", "labels"]
