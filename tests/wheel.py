"""A wheel of this checkout, installed by itself, and Python that can import no checkout."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GUARD = (  # not even through an editable install
    "import sys\n"
    "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
    f"sys.path[:] = [p for p in sys.path if p != {str(ROOT)!r}]\n"
)


def install_wheel(folder):
    """Build the wheel in a folder and install it there, with nothing else; returns where."""
    tracked = ["LICENSE", "MANIFEST.in", "pyproject.toml", "setup.py", "README.md"]
    tracked += [str(p.relative_to(ROOT)) for p in (ROOT / "configs").rglob("*.yaml")]
    packages = [p for name in ("segic_cli", "segic_d2") for p in (ROOT / name).rglob("*")]
    files = (p for p in packages if "__pycache__" not in p.parts)
    tracked += [str(p.relative_to(ROOT)) for p in files]
    for name in tracked:
        if (ROOT / name).is_file():
            copy = folder / "source" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder]
    subprocess.run([*pip, *build, folder / "source"], check=True, capture_output=True)
    (wheel,) = folder.glob("segic_d2-*.whl")
    install = ["install", "--no-deps", "--no-index", "--target", folder / "site"]
    subprocess.run([*pip, *install, wheel], check=True, capture_output=True)
    return folder / "site"


def run_code(code, cwd, path="", **environment):
    """Run code in a process that sees of this project what is in ``path``."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", GUARD + code],
        cwd=cwd,
        env={**env, "PYTHONPATH": str(path), **environment},
        capture_output=True,
        text=True,
    )
