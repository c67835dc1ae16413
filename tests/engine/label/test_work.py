"""Processes and actors label to the same files as one process."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from segic_d2.engine.label import label_folder
from segic_d2.engine.label.folder import Workers
from segic_d2.engine.label.work import Recipe, label_pictures
from tests.engine.label.boxes import files_of, slow_predictor, tiny_predictor, write_pictures

ROOT = Path(__file__).resolve().parents[3]


def labels_of(folder):
    files = files_of(folder)
    return {k: v for k, v in files.items() if not k.endswith("report.json")}


def test_records_are_in_order_and_name_what_cannot_be_read(tmp_path):
    pictures = write_pictures(tmp_path / "in", 4)
    (pictures / "0002.png").write_bytes(b"")
    files = [str(f) for f in sorted(pictures.iterdir())]
    records = label_pictures(tiny_predictor(), files, Recipe())
    assert [record["file"] for record in records] == files
    assert [list(record) == ["file", "error"] for record in records] == [False, False, True, False]
    for record in records[:2]:
        assert record["size"] == [60, 80] and record["names"] == ["box"]
        assert all(0 <= score <= 1 for _, score, _ in record["things"])
        assert 0 <= record["doubt"] <= 1 and record["why"]


def test_where_nothing_is_found_is_the_most_doubtful_if_asked(tmp_path):
    predictor = tiny_predictor()
    file = str(write_pictures(tmp_path / "in", 1) / "0000.png")
    for never_empty in (False, True):
        (found,) = label_pictures(predictor, [file], Recipe(False, 1.0, never_empty))
        assert found["things"] == [] and (found["doubt"] == 1) == never_empty
    assert found["why"] == "nothing found" and found["most"] == 1
    (found,) = label_pictures(predictor, [file], Recipe(False, 0.0, True))
    assert found["things"] and found["doubt"] < 1


@pytest.mark.slow
def test_two_processes_label_the_same(tmp_path):
    predictor = tiny_predictor(batch_size=1)
    pictures = write_pictures(tmp_path / "in", 30)
    label_folder(predictor, pictures, tmp_path / "one")
    label_folder(predictor, pictures, tmp_path / "two", workers=Workers(2))
    assert labels_of(tmp_path / "one") == labels_of(tmp_path / "two")


@pytest.mark.slow
def test_a_process_that_dies_is_told_and_loses_nothing(tmp_path):
    predictor = slow_predictor()
    pictures = write_pictures(tmp_path / "in", 60)
    killer = threading.Thread(target=kill_one, args=(tmp_path / "out", b"spawn_main"), daemon=True)
    killer.start()
    with pytest.raises(ChildProcessError, match="run the same again"):
        label_folder(predictor, pictures, tmp_path / "out", workers=Workers(2))
    killer.join()
    label_folder(predictor, pictures, tmp_path / "out")
    label_folder(predictor, pictures, tmp_path / "whole")
    assert labels_of(tmp_path / "out") == labels_of(tmp_path / "whole")


@pytest.mark.slow
def test_an_actor_of_ray_that_dies_loses_and_doubles_nothing(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    predictor = slow_predictor()
    pictures = write_pictures(tmp_path / "in", 80)
    killed = []
    args = tmp_path / "out", b"_Actor", killed
    killer = threading.Thread(target=kill_one, args=args, daemon=True)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        killer.start()
        label_folder(predictor, pictures, tmp_path / "out", workers=Workers(2, ray=True))
    finally:
        ray.shutdown()
    killer.join(1)
    assert len(killed) == 1
    label_folder(predictor, pictures, tmp_path / "whole")
    assert labels_of(tmp_path / "out") == labels_of(tmp_path / "whole")


def kill_one(output, word, killed=None):
    """Kill a process of ours whose command has a word, as soon as a chunk is done."""
    chunks = output / "round-1/chunks"
    while not (chunks.is_dir() and any(chunks.glob("*.json"))):
        time.sleep(0.02)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if word in (entry / "cmdline").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)
                    if killed is not None:
                        killed.append(entry.name)
                    return
            except OSError:
                continue
