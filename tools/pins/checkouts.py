"""A whole recording of one checkout: its processes, one after the other."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from . import toys
from .recording import Recording

HOME = Path(__file__).resolve().parents[2]
TOOL = HOME / "tools" / "same_behaviour.py"
PARTS = "pairs", "predictor", "training", "evaluations", "tensors"
SMALL_CANVAS = ["--opts", "INPUT.CANVAS", "336"]


@contextlib.contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A git revision in a temporary worktree.

    Raises:
        ValueError: git knows no such revision.
    """
    done = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if done.returncode:
        raise ValueError(f"{revision} is neither a recording nor a git revision")
    with tempfile.TemporaryDirectory(prefix="same_behaviour_") as folder:
        place = Path(folder) / "checkout"
        added = _git("worktree", "add", "--detach", str(place), done.stdout.strip())
        if added.returncode:
            raise ValueError(f"cannot check out {revision}: {added.stderr.strip()}")
        try:
            yield place
        finally:
            _git("worktree", "remove", "--force", str(place))


def _git(*arguments, cwd=HOME):
    return subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True)


def jobs(only: list[str], cheap: bool) -> list[dict]:
    """The processes of a recording but pairs', each with its kinds, its miniatures and options."""
    wanted = [p for p in PARTS if p != "pairs" and (not only or p in only)]
    if cheap:
        return [{"kinds": wanted, "root": "cheap", "cheap": True, "processes": 1}] if wanted else []
    found = [{"kinds": [k]} for k in ("tensors", "predictor") if k in wanted]
    if "evaluations" in wanted:
        roots = [r for r in toys.ROOTS if r != "cheap"]
        found += [{"kinds": ["evaluations"], "root": root} for root in roots]
    if "training" in wanted:
        one = {"kinds": ["training"], "root": "objects"}
        found += [{**one, "processes": number} for number in (1, 2)]
    return found


def record(
    checkout: Path,
    only: list[str] = (),
    cheap: bool = False,
    full: bool = False,
    pairs: Path | None = None,
    keys: Path | None = None,
    say=print,
) -> Recording:
    """What a checkout does.

    Args:
        only: names of PARTS; (): all. cheap: the subset that a test records.
        full: pairs at the config's own canvas, with five shots and with abstention.
        pairs: folder of pairs; keys: file of official names; None: not here, which is noted.
        say: called with a line per process.
    """
    checkout, whole = Path(checkout).resolve(), Recording()
    with tempfile.TemporaryDirectory(prefix="same_behaviour_") as folder:
        cache = toys.own_cache(Path(folder) / "cache")
        for number, job in enumerate(jobs(only, cheap)):
            place, start = Path(folder) / str(number), time.time()
            (place / "data").mkdir(parents=True)
            job |= {"checkout": str(checkout), "files": str(place), "out": str(place / "out")}
            job["keys"] = str(keys) if keys else None
            path = place / "job.json"
            path.write_text(json.dumps(job))
            env = environment(checkout, place / "data", cache)
            error = _run([sys.executable, str(TOOL), "work", str(path)], checkout, env)
            name = " ".join([*job["kinds"], job.get("root", ""), str(job.get("processes", ""))])
            if error:
                whole.failures["+".join(job["kinds"]) + f" {job.get('root', '')}"] = error
            else:
                whole.update(Recording.load(job["out"]))
            say(f"{name}: {time.time() - start:.0f} s {error}".rstrip())
        if not cheap and (not only or "pairs" in only):
            start = time.time()
            _pairs(whole, checkout, pairs, full, environment(checkout, Path(folder), cache))
            say(f"pairs: {time.time() - start:.0f} s")
    head = _git("rev-parse", "HEAD", cwd=checkout).stdout.strip()
    changed = _git("status", "--porcelain", "--untracked-files=no", cwd=checkout).stdout.strip()
    whole.facts["commit"] = head + (" and changes" if changed else "")
    return whole


def environment(checkout: Path, data: Path, cache: Path) -> dict:
    """One thread, the checkout's modules, data and cache of this recording alone."""
    return {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "DETECTRON2_DATASETS": str(data),
        "SEGIC_D2_CACHE": str(cache),
    }


def _run(command, cwd, env) -> str:
    """Run; the last line of what went wrong, or ""."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if not done.returncode:
        return ""
    print(done.stderr[-3000:], file=sys.stderr)
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def _pairs(whole: Recording, checkout: Path, pairs: Path | None, full: bool, env: dict) -> None:
    """The figures of tools/evaluate_pairs.py, of the model and of the best threshold."""
    if pairs is None or not pairs.is_dir():
        whole.skipped["pairs"] = f"no folder of pairs ({pairs})"
        return
    runs = {"pairs": SMALL_CANVAS}
    if full:
        runs = {"pairs": ["--abstention"], "pairs/5 shots": ["--shots", "5"]}
    for part, options in runs.items():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out.json"
            command = [sys.executable, "tools/evaluate_pairs.py", str(pairs), "--threads", "1"]
            error = _run([*command, "--output", str(out), *options], checkout, env)
            if error:
                whole.failures[part] = error
                continue
            found = json.loads(out.read_text())
        whole.add(part, numbers({k: found[k] for k in ("episodes", "results")}))
        whole.add(part, numbers(found.get("abstention", {}), "abstention/"))


def numbers(content: dict, prefix: str = "") -> dict:
    """{"a/b/c": number} of nested dicts."""
    found = {}
    for key, value in content.items():
        if isinstance(value, dict):
            found |= numbers(value, f"{prefix}{key}/")
        else:
            found[prefix + key] = value
    return found
