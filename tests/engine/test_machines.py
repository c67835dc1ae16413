"""Two machines, which are two commands on this host over gloo: what one machine with two processes
trains, to the bit; and the end of one is the end of the other."""

import json
import os
import signal
import socket
import subprocess
import time

import pytest
import torch

from tests.engine.test_training import ROOT, command, run

pytestmark = pytest.mark.slow
SHORT = {"SOLVER__MAX_ITER": 4, "DATALOADER__NUM_WORKERS": 0, "TEST__EPISODES": 4}
LASTING = {"SOLVER__MAX_ITER": 100_000, "SOLVER__CHECKPOINT_PERIOD": 2, "DATASETS__TEST": "()"}


def start(folders, logs, **changes):
    """One process of train_net.py for each machine; they write into their own of two folders."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    machines = []
    for rank, folder in enumerate(folders):
        flags = ("--num-machines", "2", "--machine-rank", str(rank), "--num-gpus", "1")
        line = command(folder, *flags, "--dist-url", url, **{**SHORT, **changes})
        with open(logs / f"{rank}.log", "w") as log:
            env = {**os.environ, "OMP_NUM_THREADS": "1"}
            machines += [subprocess.Popen(line, cwd=ROOT, env=env, stdout=log, stderr=log)]
    return machines


def end(machines):
    for machine in machines:
        machine.kill()  # its own processes end with it
        machine.wait()


def what_counts(folder):
    """Metrics without times, and weights."""
    lines = [json.loads(x) for x in (folder / "metrics.json").read_text().splitlines()]
    metrics = {k: v for line in lines for k, v in line.items()}
    for key in ("data_share", "data_time", "rank_data_time", "samples_per_second", "time"):
        del metrics[key]
    return metrics, torch.load(folder / "model_final.pth", weights_only=True)["model"]


def test_two_machines_train_and_evaluate_as_one(tmp_path):
    run(tmp_path / "one", "--num-gpus", "2", **SHORT)
    machines = start([tmp_path / "two"] * 2, tmp_path)  # one OUTPUT_DIR, which only rank 0 claims
    try:
        status = [machine.wait(timeout=120) for machine in machines]
    finally:
        end(machines)
    assert status == [0, 0], (tmp_path / "0.log").read_text() + (tmp_path / "1.log").read_text()
    (one, weights), (two, weights_of_two) = (what_counts(tmp_path / x) for x in ("one", "two"))
    assert one == two and one["one_shot/episodes"] == 4 and one["iteration"] == 4
    assert weights.keys() == weights_of_two.keys()
    assert all(torch.equal(weights[k], weights_of_two[k]) for k in weights)
    assert "copypaste: Task: one_shot" not in (tmp_path / "1.log").read_text()


def test_the_end_of_one_machine_ends_the_other(tmp_path):
    """SIGKILL of the command alone. The folders are two machines' own: rank 1 writes its log."""
    machines = start([tmp_path / "first", tmp_path / "second"], tmp_path, **LASTING)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "first/last_checkpoint").exists():
            assert [m.poll() for m in machines] == [None, None] and time.monotonic() < deadline
            time.sleep(0.1)
        machines[1].send_signal(signal.SIGKILL)
        assert machines[0].wait(timeout=30) == 1
    finally:
        end(machines)
    assert "RuntimeError" in (tmp_path / "0.log").read_text()
    assert os.listdir(tmp_path / "second") == ["log.txt.rank1"]
    assert not (tmp_path / "first/model_final.pth").exists()
    assert not (tmp_path / "first/.lock").exists()
