"""The example as a user runs it: somewhere else, with nothing of the checkout but the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from segic_d2.modeling.backbone import embedded

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "mask_rcnn_on_dino.py"


def test_it_is_short():
    assert len(EXAMPLE.read_text().splitlines()) < 50


@pytest.mark.slow
@pytest.mark.skipif(
    not embedded.cache_path().is_file(), reason="embedded weights not prepared: make setup"
)
def test_mask_rcnn_overfits_16_scenes_over_the_frozen_backbone(tmp_path):
    shutil.copy(EXAMPLE, tmp_path)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    env["OMP_NUM_THREADS"] = "1"  # two would wait for each other beside other processes
    run = [sys.executable, EXAMPLE.name, str(tmp_path / "out")]
    done = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    last = done.stdout.strip().splitlines()[-1]
    found = re.fullmatch(r"AP50 of boxes (\S+), of masks (\S+)", last)
    assert found, last
    assert all(float(value) >= 20 for value in found.groups()), last
