"""The steps of gpu_check.sh, each in a process and with a time limit of its own.

A step prints a line "RESULT {…}" for everything that it finds. Each is written to gpu_check.json
and gpu_check.txt at once, so that a run that is cut short still says something. A step that ends
early leaves its time to those after it; one that fails or hangs takes nothing from them.
"""

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS, DRY_SECONDS = 230, 110  # for all steps together, what went before them included
RESULT = "RESULT "
TAIL = 25  # lines of output of a step that failed


@dataclass
class Step:
    """A name, what is asked, its share of the time, and the command; then what came of it."""

    name: str
    about: str
    share: float
    command: list
    status: str = "not run"
    seconds: float = 0.0
    results: list = field(default_factory=list)
    tail: list = field(default_factory=list)


def plan(dry):
    """The steps, the most telling first."""
    marked = [p for p in ROOT.glob("tests/**/test_*.py") if "pytest.mark.gpu" in p.read_text()]
    tests = ["-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", *map(str, sorted(marked))]
    run = ["--toy"] if dry else []
    equal, speed = str(ROOT / "tools" / "gpu_equal.py"), str(ROOT / "tools" / "gpu_speed.py")
    return [
        Step("tests", "tests marked gpu", 0.3, tests),
        Step("equal", "does it find what the CPU finds?", 0.2, [equal, *run]),
        Step(
            "pictures", "ms per target, beside the bare backbone", 0.18, [speed, "pictures", *run]
        ),
        Step("training", "samples/s and peak memory", 0.18, [speed, "training", *run]),
        Step("compiled", "the profiler's top ten; torch.compile", 0.14, [speed, "compiled", *run]),
    ]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, at toy size")
    args = parser.parse_args(argv)
    folder = Path(os.environ.get("OUT") or ROOT / "output" / "gpu_check")
    folder.mkdir(parents=True, exist_ok=True)
    # the tests marked gpu, and all else, run on this device
    os.environ["SEGIC_D2_TEST_DEVICE"] = "cpu" if args.dry_run else "cuda"
    started = float(os.environ.get("GPU_CHECK_STARTED") or time.time())
    steps, seconds = plan(args.dry_run), DRY_SECONDS if args.dry_run else SECONDS

    def save():
        write(folder, steps, time.time() - started, args.dry_run)

    end = started
    for step in steps:
        end += seconds * step.share
        run_step(step, end - time.time(), save)
        print(section(step), flush=True)
    print(f"{time.time() - started:.0f} s, {folder / 'gpu_check.txt'}")
    return int(any(step.status != "ok" for step in steps))


def run_step(step, limit, save):
    """Run a step for ``limit`` seconds at most; ``save`` is called whenever there is news."""
    begin, step.status, lines = time.time(), "running", queue.Queue()
    save()
    process = subprocess.Popen(
        [sys.executable, *step.command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # a group, so that its own processes end with it
    )
    reader = threading.Thread(target=lambda: [lines.put(x) for x in process.stdout], daemon=True)
    reader.start()
    output, late = [], False
    while reader.is_alive() or not lines.empty():
        with contextlib.suppress(queue.Empty):
            line = lines.get(timeout=0.2).rstrip()
            if line.startswith(RESULT):
                step.results.append(json.loads(line.removeprefix(RESULT)))
                save()
            elif line:
                output.append(line)
        if time.time() - begin > limit and not late:
            late = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    step.seconds = round(time.time() - begin, 1)
    step.status = f"stopped after {limit:.0f} s" if late else "ok" if code == 0 else "failed"
    if step.name == "tests" and output:
        step.results.append({"name": output[-1].strip("= ")})
    if any(result.get("fails") for result in step.results):
        step.status = "failed"
    if step.status != "ok":
        step.tail = output[-TAIL:]
    save()


def write(folder, steps, seconds, dry):
    """gpu_check.json and gpu_check.txt, each replaced as a whole."""
    data = {"dry_run": dry, "seconds": round(seconds, 1), "steps": [vars(step) for step in steps]}
    kind = "dry run on the CPU at toy size: figures mean nothing" if dry else "run"
    text = [f"gpu_check, {kind}, {seconds:.0f} s", *map(section, steps)]
    for name, content in (
        ("gpu_check.json", json.dumps(data, indent=1)),
        ("gpu_check.txt", "\n\n".join(text) + "\n"),
    ):
        part = folder / f".{name}"
        part.write_text(content)
        part.replace(folder / name)


def section(step):
    """A step as text."""
    lines = [f"{step.name}: {step.about}: {step.status}, {step.seconds:.0f} s"]
    for result in step.results:
        rest = ", ".join(f"{k} {_figure(v)}" for k, v in result.items() if k != "name")
        lines.append(f"  {result['name']}" + (f": {rest}" if rest else ""))
    return "\n".join(lines + [f"  | {line}" for line in step.tail])


def _figure(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
