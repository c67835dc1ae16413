"""An evaluation that was interrupted goes on exactly, in one process or two, and counts once."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.engine import launch
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators, LVISEvaluator
from detectron2.utils import comm

from segic_d2.engine.loop import progress
from segic_d2.engine.loop.evaluator_state import has_state, restore, state_of
from segic_d2.engine.loop.inference import run_inference
from segic_d2.evaluation import OneShotEvaluator
from tests.data import toy
from tests.engine.loop.resumable import KINDS, Predictor, evaluation, run

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Folders of class folders, label maps and COCO, with seven images each."""
    folder = tmp_path_factory.mktemp("data")
    toy.folder_a(folder, 7), toy.folder_b(folder, 7), toy.coco(folder, 7)
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fail_at", [0, 1, 3])
def test_an_interrupted_run_gives_the_results_of_a_whole_one(root, tmp_path, kind, fail_at):
    expected, whole = run(kind, root, tmp_path / "whole")
    assert len(whole.seen) == 7 and whole.batches == 4 and whole.training
    with pytest.raises(RuntimeError, match="interrupted"):
        run(kind, root, tmp_path, fail_at=fail_at)
    assert (tmp_path / "progress-0.npz").exists() == (fail_at > 0)
    found, rest = run(kind, root, tmp_path)
    assert rest.seen == whole.seen[2 * fail_at :]
    assert str(found) == str(expected) and found  # NaN equals NaN; floats are printed exactly
    assert not list(tmp_path.glob("progress*"))


def test_twice_interrupted_and_all_done(root, tmp_path, monkeypatch):
    """The second interruption is in the evaluator's last step: no image is seen again."""
    expected, _ = run("sem_seg", root, tmp_path / "whole")
    with pytest.raises(RuntimeError):
        run("sem_seg", root, tmp_path, fail_at=1)
    cfg, loader, evaluator = evaluation("sem_seg", root, tmp_path)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="disk full"):
        patch.setattr(
            evaluator, "evaluate", lambda: (_ for _ in ()).throw(RuntimeError("disk full"))
        )
        run_inference(cfg, Predictor(), loader, evaluator, str(tmp_path))
    found, rest = run("sem_seg", root, tmp_path)
    assert str(found) == str(expected) and not rest.seen


def test_period_zero_saves_nothing(root, tmp_path):
    with pytest.raises(RuntimeError):
        run("one_shot", root, tmp_path, "TEST.SAVE_PERIOD", 0.0, fail_at=2)
    assert not list(tmp_path.iterdir())


def test_saves_by_the_clock_and_again_only_after_the_period(root, tmp_path, monkeypatch):
    saved, write = [], progress.write
    monkeypatch.setattr(
        progress, "write", lambda *a: (saved.append(a[1]["about"]["done"]), write(*a))
    )
    monkeypatch.setattr("segic_d2.engine.loop.inference.SHARE", 0)
    run("one_shot", root, tmp_path, "TEST.SAVE_PERIOD", 1e-9)
    assert saved == [2, 4, 6, 7]
    saved.clear()
    run("one_shot", root, tmp_path)
    assert saved == [7]  # before the results are computed


@pytest.mark.parametrize("other", ["config", "weights", "dataset", "processes", "broken"])
def test_progress_of_another_evaluation_is_not_used(root, tmp_path, caplog, other):
    with pytest.raises(RuntimeError):
        run("one_shot", root, tmp_path, fail_at=2)
    cfg, loader, evaluator = evaluation("one_shot", root, tmp_path)
    model, file = Predictor(), tmp_path / "progress-0.npz"
    if other == "config":
        cfg.MODEL.SEGIC.TEST.THRESHOLD = 0.5
    elif other == "weights":
        torch.nn.init.zeros_(model.weight)
    elif other == "dataset":
        cfg.TEST.SEED = 1
        _, loader, _ = evaluation("one_shot", root, tmp_path, "TEST.SEED", 1)
    elif other == "processes":
        saved = progress.read(file)
        saved["about"]["fingerprint"]["processes"] = 2
        progress.write(file, saved)
    else:
        file.write_bytes(file.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING, "segic_d2"):
        run_inference(cfg, model, loader, evaluator, str(tmp_path))
    assert len(model.seen) == 7
    assert "starting anew" in caplog.text
    assert (
        other == "broken"
        or f"another evaluation ({'config, ' * (other == 'dataset')}{other})" in (caplog.text)
    )


@pytest.mark.parametrize("kind", ["one_shot", "coco"])
def test_a_score_that_is_no_number_ends_an_evaluation_by_name(root, tmp_path, monkeypatch, kind):
    output = Predictor.output

    def broken(self, x):
        found = output(self, x)
        if self.batches == 2:
            found["scores"] = found["instances"].scores = torch.tensor([0.5, float("nan")])
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "output", broken)
        with pytest.raises(ValueError, match=r"/\d\.\w+: the model's scores are not finite"):
            run(kind, root, tmp_path)
    _, rest = run(kind, root, tmp_path)
    assert len(rest.seen) == 5  # what came before is kept


def test_what_more_processes_left_goes_too(root, tmp_path):
    for name in ("progress-3.npz", "progress-12.npz.part", "results.txt"):
        (tmp_path / name).touch()
    run("one_shot", root, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["results.txt"]


def test_keys_that_change_no_result_do_not_matter(root, tmp_path):
    with pytest.raises(RuntimeError):
        run("one_shot", root, tmp_path, fail_at=2)
    opts = ("DATALOADER.NUM_WORKERS", 1, "OUTPUT_DIR", "elsewhere", "TEST.VERIFY", "none")
    _, rest = run("one_shot", root, tmp_path, *opts, "TEST.SAVE_PERIOD", 7.0)
    assert len(rest.seen) == 3


def test_a_progress_file_is_written_whole_or_not_at_all_and_holds_no_code(tmp_path):
    file = tmp_path / "progress-0.npz"
    entries = {"a": np.arange(3), "b": [{"score": np.float32(0.1), "x": [1, "é", None]}]}
    progress.write(file, entries)
    read = progress.read(file)
    assert read["a"].tolist() == [0, 1, 2]
    assert read["b"] == [{"score": float(np.float32(0.1)), "x": [1, "é", None]}]
    with pytest.raises(TypeError, match="set is neither"):
        progress.write(file, {"a": {1}})
    assert progress.read(file)["a"].tolist() == [0, 1, 2]
    np.savez(tmp_path / "code.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        progress.read(tmp_path / "code.npz")


def test_states_of_several_evaluators_and_of_lvis():
    first, second = (LVISEvaluator.__new__(LVISEvaluator) for _ in range(2))
    first._predictions, second._predictions = [{"image_id": 1}], []
    counts = OneShotEvaluator("x")
    counts._counts = {3: [(1, np.array([1, 2, 3, 4]))], 5: [], 4: [(0, np.array([5, 6, 7, 8]))] * 2}
    state = state_of(DatasetEvaluators([first, counts]))
    restored = OneShotEvaluator("x")
    restore(DatasetEvaluators([second, restored]), state)
    assert second._predictions == [{"image_id": 1}]
    assert str(restored._counts) == str(counts._counts)
    restored.load_state_dict(OneShotEvaluator("x").state_dict())
    assert restored._counts == {}
    assert not has_state(DatasetEvaluator())
    assert not has_state(DatasetEvaluators([first, DatasetEvaluator()]))


def test_an_evaluator_without_a_state_runs_and_says_so(root, tmp_path, caplog):
    class Counter(DatasetEvaluator):
        def evaluate(self):
            return {"x": {}}

    cfg, loader, _ = evaluation("one_shot", root, tmp_path)
    with caplog.at_level(logging.WARNING, "segic_d2"):
        assert run_inference(cfg, Predictor(), loader, Counter(), str(tmp_path)) == {"x": {}}
    assert "Counter has no state_dict" in caplog.text


def in_a_process(root, folder):
    """What each of two processes does: a whole run, and one that goes on after an interruption."""
    found = {}
    for kind in KINDS:
        whole, model = run(kind, root, f"{folder}/{kind}")
        try:
            run(kind, root, f"{folder}/{kind}", fail_at=1)
        except RuntimeError:
            comm.synchronize()
        again, rest = run(kind, root, f"{folder}/{kind}")
        comm.synchronize()  # each removes its own file
        left = [file.name for file in Path(folder, kind).glob("progress*")]
        found[kind] = str(whole), model.seen, str(again), rest.seen, left
        comm.synchronize()
    torch.save(found, f"{folder}/{comm.get_rank()}.pth")


@pytest.mark.slow
def test_two_processes_equal_one_and_count_nothing_twice(root, tmp_path):
    """Seven items: four and three."""
    launch(in_a_process, 2, dist_url="auto", args=(str(root), str(tmp_path)))
    parts = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(2)]
    for kind in KINDS:
        expected, model = run(kind, root, tmp_path / "one")
        assert parts[0][kind][0] == parts[0][kind][2] == str(expected), kind
        assert parts[1][kind][0] == "{}"
        assert parts[0][kind][1] + parts[1][kind][1] == model.seen
        for _, seen, _, rest, left in (parts[0][kind], parts[1][kind]):
            assert rest == seen[2:] and not left


SLOW = """
import sys, time
from tests.engine.loop.resumable import run
root, output = sys.argv[1:]
run("one_shot", root, output, "TEST.SAVE_PERIOD", 0.001, "DATALOADER.NUM_WORKERS", 1,
    before=lambda: time.sleep(0.5))
"""


def children(pid):
    """Processes whose parent is ``pid``."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.slow
def test_a_killed_process_goes_on_and_its_workers_end(root, tmp_path):
    expected, _ = run("one_shot", root, tmp_path / "whole")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", SLOW, str(root), str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    file = tmp_path / "progress-0.npz"
    assert until(lambda: file.exists() or process.poll() is not None, 120)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and file.exists()
    opts = ("TEST.SAVE_PERIOD", 0.001, "DATALOADER.NUM_WORKERS", 1)
    found, rest = run("one_shot", root, tmp_path, *opts)
    assert str(found) == str(expected) and 0 < len(rest.seen) < 7
    assert workers and until(lambda: not any(map(alive, workers)), 20)


def test_workers_end_with_an_exception_that_is_kept(root, tmp_path):
    before = set(children(os.getpid()))
    with pytest.raises(RuntimeError) as kept:
        run("one_shot", root, tmp_path, "DATALOADER.NUM_WORKERS", 2, fail_at=1)
    assert kept.tb is not None
    assert until(lambda: set(children(os.getpid())) <= before, 10)
