"""The check of a GPU: its dry run, its limits, its wheels, and that a difference is one."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tiny import tiny_config

TOOLS = Path(__file__).resolve().parents[2] / "tools"
SCRIPT = TOOLS / "gpu_check.sh"


def load(name, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.delitem(sys.modules, name)
    return module


@pytest.fixture
def check(monkeypatch):
    return load("gpu_check", monkeypatch)


@pytest.fixture
def wheels(monkeypatch):
    return load("gpu_wheels", monkeypatch)


def run(*args, **environment):
    environment = {**os.environ, "PYTHON": sys.executable, "WHEELS": "", **environment}
    command = ["bash", str(SCRIPT), *args]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_dry_run_does_every_step_in_two_minutes(tmp_path):
    start = time.time()
    done = run("--dry-run", OUT=str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.time() - start < 120
    data = json.loads((tmp_path / "out" / "gpu_check.json").read_text())
    text = (tmp_path / "out" / "gpu_check.txt").read_text()
    assert data["dry_run"] and "figures mean nothing" in text
    results = {}
    for step in data["steps"]:
        assert step["status"] == "ok" and step["results"], step
        results[step["name"]] = [result["name"] for result in step["results"]]
        assert all(name in text for name in results[step["name"]])
    assert "passed" in results["tests"][0] and "skipped" not in results["tests"][0]
    cases = ["predictor fp32", "predictor bf16", "training fp32", "training bf16"]
    assert results["equal"][1:] == [*cases, "evaluation fp32"]
    assert len(results["pictures"]) == 2 * (1 + 3) + 2 * 2 and len(results["training"]) == 4
    assert len(results["compiled"]) == 10 + 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "gpu_check.json",
        "gpu_check.txt",
    ]


def test_a_step_that_hangs_or_fails_leaves_its_results(check, tmp_path):
    code = 'print(\'RESULT {"name": "first", "ms": 2.5}\', flush=True); print(\'then\'); '
    hang = check.Step("a", "hangs", 0.5, ["-c", code + "import time; time.sleep(60)"])
    fail = check.Step("b", "fails", 0.5, ["-c", code + "raise SystemExit(3)"])
    wrong = 'print(\'RESULT {"name": "x", "fails": ["masks"]}\')'
    differ = check.Step("c", "differs", 0.5, ["-c", wrong])
    saved = []

    def save():
        check.write(tmp_path, [hang, fail, differ], 1.0, False)
        saved.append(json.loads((tmp_path / "gpu_check.json").read_text())["steps"][0])

    begin = time.time()
    for step in (hang, fail, differ):
        check.run_step(step, 2, save)
    assert time.time() - begin < 20
    assert any(s["status"] == "running" and s["results"] for s in saved)
    assert [s.status for s in (hang, fail, differ)] == ["stopped after 2 s", "failed", "failed"]
    text = (tmp_path / "gpu_check.txt").read_text()
    assert "first: ms 2.5" in text and "| then" in text


def test_the_plan_fits_into_four_minutes(check):
    for dry, most in ((True, 120), (False, 240)):
        steps = check.plan(dry)
        seconds = check.DRY_SECONDS if dry else check.SECONDS
        assert sum(step.share for step in steps) == pytest.approx(1) and seconds < most
        assert any("test_gpu.py" in word for word in steps[0].command)


def test_a_difference_is_told(monkeypatch):
    equal = load("gpu_equal", monkeypatch)
    cfg = tiny_config("SOLVER.IMS_PER_BATCH", 2)
    results = list(equal.compare(cfg, "training", "cpu"))
    assert [r["name"] for r in results] == ["training fp32", "training bf16"]
    assert results[0]["gradients"] == 0 < results[1]["gradients"]
    assert not [r for r in results if "fails" in r]
    monkeypatch.setitem(equal.TOLERANCES, "gradients", {"fp32": 0, "bf16": 1e-9})
    results = list(equal.compare(cfg, "training", "cpu"))
    assert "fails" not in results[0] and results[1]["fails"] == ["gradients"]


def test_wheels_are_listed_for_any_python():
    done = run("--list-wheels", "3.12")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 4
    assert "--python-version 3.12" in lines[0] and "pycocotools" in lines[0]
    assert "pip wheel --no-deps" in lines[1] and "fvcore" in lines[1] and "antlr4" in lines[1]
    assert "sal-detectron2==" in lines[2] and lines[3].startswith("mv ")


def test_missing_wheels_are_found_or_named(wheels, tmp_path, monkeypatch):
    assert wheels.missing(None) == []  # these tests run where nothing is missing
    here = importlib.util.find_spec
    gone = {"yacs", "hydra", "pkg_resources"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n in gone else here(n))
    with pytest.raises(FileNotFoundError, match="lacks yacs.*, hydra-core.*, setuptools.*WHEELS"):
        wheels.missing(None)
    names = ["yacs-0.1.8", "hydra_core-1.3.2", "setuptools-80.9.0", "fvcore-0.1.5"]
    files = [tmp_path / f"{name}-py3-none-any.whl" for name in names]
    for file in files:
        file.touch()
    assert wheels.missing(tmp_path) == [str(file) for file in files[:3]]
    files[0].unlink()
    with pytest.raises(FileNotFoundError, match="lacks yacs>=0.1.8, and WHEELS="):
        wheels.missing(tmp_path)
