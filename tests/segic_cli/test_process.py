import os
import subprocess
import sys
import warnings

import pytest

from segic_cli import process
from tests.segic_cli.test_main import ROOT


def test_warnings_for_programmers_are_hidden(monkeypatch):
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        process.hide_warnings()
        warnings.warn("soon gone", FutureWarning, stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        warnings.warn("torch.meshgrid: in an upcoming release", UserWarning, stacklevel=1)
        warnings.warn("for people", UserWarning, stacklevel=1)
    assert [str(w.message) for w in seen] == ["for people"]
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        process.hide_warnings()
        warnings.warn("soon gone", FutureWarning, stacklevel=1)
    assert len(seen) == 1


def test_threads_rest_unless_it_is_too_late_or_said_otherwise(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setitem(sys.modules, "torch", object())
    process.rest_waiting_threads()
    assert os.environ == {}
    monkeypatch.delitem(sys.modules, "torch")
    process.rest_waiting_threads()
    assert os.environ == {"OMP_WAIT_POLICY": "PASSIVE"}
    os.environ["OMP_WAIT_POLICY"] = "ACTIVE"
    process.rest_waiting_threads()
    assert os.environ == {"OMP_WAIT_POLICY": "ACTIVE"}


@pytest.mark.medium
def test_importing_the_package_brings_nothing_that_only_some_need():
    heavy = ("matplotlib", "open_clip", "diffusers", "transformers", "onnx", "skimage")
    code = f"import segic_d2, sys; print(*{{*{heavy}}} & {{*sys.modules}})"
    line = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
