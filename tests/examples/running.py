"""How an example is run: as a script, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_example(name, folder, *words):
    """The numbers in the last line that an example prints."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "examples" / name), *words]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len((ROOT / "examples" / name).read_text().splitlines()) < 50
    return [float(x) for x in re.findall(r"\d+\.\d+", done.stdout.splitlines()[-1])]
