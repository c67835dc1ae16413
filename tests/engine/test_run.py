"""A run from its command line: one per OUTPUT_DIR, its log, and what is left of a killed one."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import train_net
from segic_d2.engine.run import find_problems
from tests.engine.test_training import ROOT, command, options, run
from tests.utils.test_claim import holding


def problems(output):
    config = str(ROOT / "configs/Base-SegIC.yaml")
    return find_problems(train_net.parse_args(["--config-file", config, *options(output)]))


def test_a_second_run_in_a_folder_is_one_line_before_anything_starts(tmp_path):
    with holding(tmp_path / ".lock") as process:
        (problem,) = problems(tmp_path)
    assert problem.startswith(f"OUTPUT_DIR {tmp_path}: another run writes there")
    assert f"process {process.pid} on" in problem and "\n" not in problem
    assert not problems(tmp_path) and not os.listdir(tmp_path)
    assert not problems(tmp_path / "new") and not (tmp_path / "new").exists()


def test_an_output_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    (problem,) = problems(tmp_path / "file")
    assert f"'{tmp_path / 'file'}', which is there already and no folder" in problem


@pytest.mark.slow
def test_a_second_run_that_starts_at_the_same_moment_ends_too(tmp_path):
    """Its checks came too early to notice; nothing of the first one is touched."""
    line = command(tmp_path, SOLVER__MAX_ITER=1, DATALOADER__NUM_WORKERS=0, DATASETS__TEST="()")
    check = "import sys, train_net as t; t.run(t.parse_args(sys.argv[1:]), t.Trainer)"
    line = [line[0], "-c", check, *line[2:]]
    with holding(tmp_path / ".lock"):
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert os.listdir(tmp_path) == [".lock"]
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"ValueError: OUTPUT_DIR {tmp_path}: another")


@pytest.mark.slow
def test_what_the_package_says_is_in_the_log(tmp_path):
    """Information and warnings, in the console's output and in log.txt; the lock is gone."""
    changes = {"SOLVER__MAX_ITER": 1, "DATALOADER__NUM_WORKERS": 0, "DATASETS__TEST": "()"}
    out = run(tmp_path, **changes)
    log = (tmp_path / "log.txt").read_text()
    for text in (out, log):
        assert "segic_d2.engine.trainer INFO: " in text or " trainable of " in text
    (tmp_path / "last_checkpoint").write_text("")
    run(tmp_path, "--resume", **{**changes, "SEED": 5})
    log = (tmp_path / "log.txt").read_text()
    assert "WARNING: SEED is 5, and was 42 until now" in log
    assert "names no whole checkpoint" in log and not (tmp_path / ".lock").exists()


def children(pid):
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    """Whether a process runs; one that is dead and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_ranks_end_with_a_launcher_that_was_killed(tmp_path):
    """SIGINT is ignored, as in ``nohup … &`` of a script; the run goes on where it was."""
    log = (tmp_path / "log").open("w")
    changes = {"SOLVER__CHECKPOINT_PERIOD": 1, "DATALOADER__NUM_WORKERS": 0, "DATASETS__TEST": "()"}
    process = subprocess.Popen(
        command(tmp_path / "out", "--num-gpus", "2", SOLVER__MAX_ITER=100_000, **changes),
        cwd=ROOT,
        stdout=log,
        stderr=log,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    ranks = []
    try:
        for _ in range(1200):
            assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
            if (tmp_path / "out/last_checkpoint").exists():
                break
            time.sleep(0.1)
        ranks = children(process.pid)
        assert len(ranks) >= 2 and all(map(alive, ranks))
        process.kill()
        process.wait()
        for _ in range(100):
            if not any(map(alive, ranks)):
                break
            time.sleep(0.1)
        assert not any(map(alive, ranks))
    finally:
        process.kill()
        for rank in filter(alive, ranks):
            os.kill(rank, signal.SIGKILL)
    assert not problems(tmp_path / "out")  # its claim ended with it
