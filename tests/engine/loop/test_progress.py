"""Progress files that are not ours, or that another process works with."""

import io
import json
import logging
import multiprocessing
import zipfile

import numpy as np
import pytest

from segic_d2.engine.loop import progress
from segic_d2.utils.claim import Claim
from tests.data import toy
from tests.engine.loop.resumable import run


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    toy.folder_a(folder, 7)
    return folder


def array(value):
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


def text(value):
    return array(np.frombuffer(json.dumps(value).encode(), np.uint8))


def bomb():
    """A part that says it has 10¹³ numbers."""
    file = io.BytesIO()
    about = {"descr": "<f8", "fortran_order": False, "shape": (10**13,)}
    np.lib.format.write_array_header_1_0(file, about)
    return file.getvalue() + b"\0" * 100


FOREIGN = {  # {part: its content}, over those of a good file; None: it is not there
    "no about": {"about.json.npy": None},
    "about is a list": {"about.json.npy": text([1])},
    "about is null": {"about.json.npy": text(None)},
    "about is nested": {"about.json.npy": array(np.full(100_000, ord("["), np.uint8))},
    "no text": {"about.json.npy": array(np.full(9, 255, np.uint8))},
    "far": ("done", 10**9),
    "below zero": ("done", -3),
    "words": ("done", "2"),
    "a fraction": ("done", 2.5),
    "true": ("done", True),
    "damage": ("damaged", [{"nothing": 1}]),
    "no damage": ("damaged", 5),
    "fingerprint": ("fingerprint", 5),
    "no state": "state",
    "bomb": {"state/x.npy": bomb()},
    "no array": {"state/x.npy": b"nothing"},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_whatever_a_file_holds_the_run_starts_anew(root, tmp_path, caplog, kind):
    with pytest.raises(RuntimeError, match="interrupted"):
        run("one_shot", root, tmp_path, fail_at=2)
    file, change = tmp_path / "progress-0.npz", FOREIGN[kind]
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    if change == "state":
        parts = {k: v for k, v in parts.items() if not k.startswith("state/")}
    elif isinstance(change, tuple):
        about = progress.read(file)["about"]
        parts["about.json.npy"] = text({**about, change[0]: change[1]})
    else:
        parts |= change
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            if content is not None:
                archive.writestr(name, content)
    with caplog.at_level(logging.WARNING, "segic_d2"):
        _, rest = run("one_shot", root, tmp_path)
    assert len(rest.seen) == 7 and not list(tmp_path.glob("progress*"))
    assert "not continuing from" in caplog.text and "starting anew" in caplog.text


def test_a_compressed_file_is_not_unpacked(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(10**7))
    with pytest.raises(ValueError, match="compressed"):
        progress.read(tmp_path / "a.npz")


def _hold(path, begun, end):
    with Claim(path):
        begun.set()
        end.wait(60)


def test_two_evaluations_do_not_share_a_file(root, tmp_path, caplog):
    """While another process works with it: not read, not written, not removed."""
    with pytest.raises(RuntimeError, match="interrupted"):
        run("one_shot", root, tmp_path, fail_at=2)
    file = tmp_path / "progress-0.npz"
    before = file.read_bytes()
    context = multiprocessing.get_context("fork")
    begun, end = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(f"{file}.lock", begun, end))
    process.start()
    try:
        assert begun.wait(30)
        with caplog.at_level(logging.WARNING, "segic_d2"):
            found, whole = run("one_shot", root, tmp_path, "TEST.SAVE_PERIOD", 1e-9)
    finally:
        end.set()
        process.join()
    assert len(whole.seen) == 7 and found and file.read_bytes() == before
    assert "another evaluation writes into" in caplog.text and str(process.pid) in caplog.text
    _, rest = run("one_shot", root, tmp_path)  # whose file it is goes on
    assert len(rest.seen) == 3


def test_what_killed_writers_left_is_removed(root, tmp_path):
    (tmp_path / "progress-0.npz.0123abcd.part").write_bytes(b"half")
    run("one_shot", root, tmp_path)
    assert not list(tmp_path.iterdir())
