import multiprocessing
import os

import pytest

from segic_d2.utils.files import locked, part_of, whole_file, write_whole


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
