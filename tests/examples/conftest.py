"""Runs an example as a user does: a script in an empty folder, with the wheel and no checkout."""

import re

import pytest

from segic_d2.modeling.backbone.embedded import cache_path
from tests.wheel import ROOT, run_code


@pytest.fixture
def run_example(installed, tmp_path):
    """(name, words of the command line) → the numbers in the last line that it prints."""
    if not cache_path().is_file():
        pytest.skip("the embedded weights are not prepared")

    def run(name, *words):
        file = ROOT / "examples" / name
        assert len(file.read_text().splitlines()) < 50
        code = f"import runpy, sys, segic_d2\nsys.argv[:] = {[str(file), *words]!r}\n"
        code += f"assert segic_d2.__file__.startswith({str(installed)!r})\n"
        code += f"runpy.run_path({str(file)!r}, run_name='__main__')\n"
        done = run_code(code, tmp_path, installed, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        return [float(x) for x in re.findall(r"\d+\.\d+", done.stdout.splitlines()[-1])]

    return run
