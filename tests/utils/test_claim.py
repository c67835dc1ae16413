"""A claim is held by one process, and by nobody once that has ended, however it did."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segic_d2.utils.claim import Claim, claim_output

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import os, sys, time
from segic_d2.utils.claim import Claim
claim = Claim(sys.argv[1])
if os.fork():  # as a loader's workers
    print("held", flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def holding(path):
    """A process that holds a claim, and its child, which does not."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def _try(path, answer):
    try:
        Claim(path).close()
        answer.put("")
    except BlockingIOError as error:
        answer.put(error.strerror)


def other(path):
    """What another process hears of a claim; "": it gets it."""
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    process = context.Process(target=_try, args=(path, answer))
    process.start()
    process.join()
    return answer.get()


def test_one_process_has_it_and_another_is_told_who(tmp_path):
    path = tmp_path / "new" / ".lock"
    with Claim(path):
        told = other(path)
        assert f"{path} is held by process {os.getpid()} on" in told and "since" in told
        assert other(path) == told  # to have asked changes nothing
    assert not path.exists() and other(path) == ""
    path.write_text("process 1 on somewhere since\n\x1b[31m")  # left behind: nobody holds it
    assert other(path) == ""


def test_a_claim_ends_with_its_process_though_children_go_on(tmp_path):
    path = tmp_path / ".lock"
    with holding(path) as process:
        with pytest.raises(
            ValueError, match=rf"OUTPUT_DIR {tmp_path}: another run .*{process.pid}"
        ):
            claim_output(tmp_path)
        process.kill()
        process.wait()
        claim_output(tmp_path).close()


def test_many_that_come_and_go_never_hold_it_together(tmp_path):
    """Also where one removes the file that another has just opened."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_come_and_go, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0] * 4
    assert len((tmp_path / "log").read_text().split()) > 4


def _come_and_go(folder):
    end = time.monotonic() + 1
    while time.monotonic() < end:
        try:
            with Claim(folder / ".lock"):
                (folder / "inside").mkdir()  # fails where another is inside
                with open(folder / "log", "a") as file:
                    file.write("x\n")
                (folder / "inside").rmdir()
        except BlockingIOError:
            time.sleep(0.0005)
