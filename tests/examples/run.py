"""Runs an example as a user does: by itself, in a folder of its own."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def figures(name, folder, *args):
    """The numbers in the last line that an example prints."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, args)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [float(x) for x in re.findall(r"\d+\.\d+", done.stdout.splitlines()[-1])]
