"""Set up everything that segic_d2 needs, in a virtual environment, from a package index alone.

    python tools/setup_env.py            (or: make setup)

Steps: environment, torch, this package (editable) with its dependencies, detectron2, embedded
weights. Each is skipped where it is done; when all are, this takes a fraction of a second. Only
the standard library is used, so that any Python can start it. Environment variables:

    VENV        folder of the environment (default .venv); an existing one is used as it is
    DETECTRON2  requirement to install as detectron2, e.g.
                git+https://github.com/facebookresearch/detectron2.git@a59f0563
                (compiled operators, needs a C++ compiler); default: what the environment has,
                else a wheel of the same code from the package index, without compiled operators
    TORCH       arguments of pip install for torch, e.g.
                "torch torchvision --index-url https://download.pytorch.org/whl/cpu"
    FORCE       1 repeats all steps
"""

import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 10)
TORCH = "torch>=2.4 torchvision>=0.19"
# Detectron2's main branch at commit a59f0563, as pure Python; tagged for one Python, runs on all.
WHEEL = "sal-detectron2==0.7.2"
WHEEL_SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
WHEEL_NAME = "sal_detectron2-0.7.2-py3-none-any.whl"
LVIS = "lvis>=0.5.3"
INPUTS = ("setup.py", "pyproject.toml", "tools/setup_env.py")

# what pip's output says → what happened and what to do
DIAGNOSES = (
    (r"No space left on device|Errno 28", "the disk is full: free some space and run again"),
    (
        r"Temporary failure in name resolution|Name or service not known|NewConnectionError"
        r"|nodename nor servname|Network is unreachable|ConnectTimeout|ReadTimeout|Max retries"
        r"|ProxyError|SSLError|Connection refused",
        "the package index cannot be reached: check the network, or point pip at your index "
        "(PIP_INDEX_URL)",
    ),
    (
        r"fatal: unable to access '(?P<what>[^']*)'|(?P<other>git clone) .*did not run successfully"
        r"|Cannot find command '(?P<tool>git)'",
        "{what} failed: check the address, the network and that git is installed, or leave "
        "DETECTRON2 empty",
    ),
    (r"Permission denied|Errno 13", "no permission to write: choose another folder with VENV="),
    (
        r"No matching distribution found for (?P<what>\S+)",
        "the package index has no {what} for this Python {python} on this machine, or cannot be "
        "reached: check the network and PIP_INDEX_URL, or try another Python with PYTHON=",
    ),
    (
        r"Failed building wheel for (?P<what>\S+)|(?P<other>error: command '\S+') failed",
        "{what} has no wheel for this Python {python} and did not compile: try another Python "
        "(3.10 to 3.13) with PYTHON=",
    ),
)


class SetupError(Exception):
    """What failed and what to do, in one line."""


class Environment:
    """A virtual environment and its pip."""

    def __init__(self, folder):
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.stamp = folder / ".segic_d2-setup.json"
        self.log = folder / "segic_d2-setup.log"

    def create(self):
        """Create the environment where it is missing, and make sure that it has pip."""
        if not self.python.exists():
            existed = self.folder.exists()
            done = _run([sys.executable, "-m", "venv", self.folder])
            if done.returncode:
                if not existed:  # half an environment would pass for one next time
                    shutil.rmtree(self.folder, ignore_errors=True)
                raise SetupError(_venv_advice(done.stdout, self.folder))
        version = self.ask("import sys; print('%d.%d' % sys.version_info[:2])")
        if version is None:
            raise SetupError(f"{self.python} does not run: remove {self.folder} and run again")
        if tuple(map(int, version.split("."))) < OLDEST:
            raise SetupError(
                f"{self.folder} has Python {version}, 3.10 or later is needed: remove it or choose "
                "another folder with VENV="
            )
        self.version = version
        if self.ask("import pip") is None:
            done = _run([self.python, "-m", "ensurepip"])
            if done.returncode:
                raise SetupError(f"{self.folder} has no pip: {self.python} -m ensurepip failed")
        self.log.write_text("")

    def ask(self, code):
        """What a line of Python prints in this environment, None if it fails."""
        # not in the checkout, whose folders would shadow what is installed
        done = _run([self.python, "-c", code], cwd=self.folder)
        return done.stdout.strip() if done.returncode == 0 else None

    def pip(self, *arguments):
        """Run pip; its output goes to the log."""
        done = _run([self.python, "-m", "pip", *arguments], cwd=ROOT)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"pip {' '.join(map(str, arguments))}\n{done.stdout}\n")
        if done.returncode:
            raise SetupError(f"{_diagnose(done.stdout, self.version)} (details in {self.log})")


def main():
    try:
        _use_new_enough_python()
        setup(Environment(Path(os.environ.get("VENV") or ROOT / ".venv").absolute()))
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {_diagnose(str(error), '')}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; run again to go on", file=sys.stderr)
        return 130
    return 0


def setup(environment):
    """Do what is not done yet."""
    detectron2 = os.environ.get("DETECTRON2", "")
    torch = os.environ.get("TORCH") or TORCH
    key = _key(detectron2, torch)
    done = _read(environment.stamp)
    embedded = _load_embedded()
    ready = environment.python.exists() and done.get("key") == key and not os.environ.get("FORCE")
    if ready and embedded.cache_path().is_file():
        return
    if not ready:
        with _step(f"environment in {environment.folder}"):
            environment.create()
            environment.stamp.unlink(missing_ok=True)  # what is half done is not done
        with _step("torch and torchvision (large, may take minutes)"):
            environment.pip("install", "setuptools<81", "wheel", *shlex.split(torch))
        with _step("segic_d2 and its dependencies"):
            # without isolation the few pure-Python source packages build with what is here
            environment.pip(
                "install", "--no-build-isolation", "--prefer-binary", "-e", ".[demo,dev]"
            )
            # LVIS's evaluator for the tests; its own list would bring a second OpenCV, with windows
            environment.pip("install", "--no-deps", "--prefer-binary", LVIS)
        with _step("detectron2"):
            install_detectron2(environment, detectron2, done.get("detectron2", ""))
            _check_import(environment)
    with _step("embedded weights"):
        prepare_weights(environment)
    environment.stamp.write_text(json.dumps({"key": key, "detectron2": detectron2}))


def install_detectron2(environment, requirement, previous):
    """Keep the detectron2 of the environment unless another requirement is asked for."""
    if requirement == previous and environment.ask("import detectron2") is not None:
        return
    if not requirement and environment.ask("import detectron2") is not None:
        return
    environment.pip("uninstall", "-y", "sal-detectron2", "detectron2")
    if requirement:
        environment.pip("install", "--no-deps", "--no-build-isolation", *shlex.split(requirement))
        return
    with tempfile.TemporaryDirectory() as folder:
        # asked for as the one Python that it is tagged for; its contents are pure Python
        environment.pip(
            *("download", "--no-deps", "--only-binary=:all:", "--python-version", "3.10"),
            *("--implementation", "cp", "--abi", "none", "--platform", "any", "-d", folder, WHEEL),
        )
        (wheel,) = Path(folder).glob("*.whl")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if digest != WHEEL_SHA256:
            raise SetupError(
                f"the package index delivered another {WHEEL} (sha256 {digest}, expected "
                f"{WHEEL_SHA256}): use another index, or set DETECTRON2= to a requirement you trust"
            )
        wheel = wheel.rename(wheel.with_name(WHEEL_NAME))
        environment.pip("install", "--no-deps", "--no-index", wheel)


def prepare_weights(environment):
    done = _run(
        [environment.python, "-m", "segic_d2.modeling.backbone.embedded"], cwd=environment.folder
    )
    if done.returncode:
        raise SetupError(_last_line(done.stdout).replace("error: ", "", 1))


def _check_import(environment):
    done = _run([environment.python, "-c", "import segic_d2"], cwd=environment.folder)
    if done.returncode:
        raise SetupError(
            f"import segic_d2 fails in {environment.folder}: {_last_line(done.stdout)}"
        )


def _use_new_enough_python():
    """Start again with a newer Python where this one is too old and a newer one is installed."""
    if sys.version_info >= OLDEST:
        return
    for minor in (13, 12, 11, 10):
        found = shutil.which(f"python3.{minor}")
        if found and _run([found, "-c", "import venv"]).returncode == 0:
            os.execv(found, [found, *sys.argv])
    version = ".".join(map(str, sys.version_info[:2]))
    raise SetupError(
        f"Python {version} is too old: install Python 3.10 or later, or set PYTHON=/path/to/python3"
    )


def _run(command, **kwargs):
    environment = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=environment,
        **kwargs,
    )


class _step:
    """Print what is being done, then how long it took."""

    def __init__(self, what):
        self.what = what

    def __enter__(self):
        print(f"setup: {self.what} …", flush=True)
        self.start = time.time()

    def __exit__(self, kind, *_):
        if kind is None:
            print(f"setup: done in {time.time() - self.start:.0f} s", flush=True)


def _key(*values):
    digest = hashlib.sha256()
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    digest.update(repr((str(ROOT), *values)).encode())
    return digest.hexdigest()


def _read(stamp):
    try:
        return json.loads(stamp.read_text())
    except (OSError, ValueError):
        return {}


def _load_embedded():
    """The module of the embedded weights, without importing the package."""
    path = ROOT / "segic_d2" / "modeling" / "backbone" / "embedded.py"
    spec = importlib.util.spec_from_file_location("embedded", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _venv_advice(output, folder):
    if "ensurepip" in output or "No module named venv" in output:
        version = ".".join(map(str, sys.version_info[:2]))
        return (
            f"Python {version} lacks the venv module: install it (Debian and Ubuntu: apt install "
            f"python{version}-venv), or set VENV= to an existing environment"
        )
    return f"cannot create {folder}: {_diagnose(output, '')}"


def _diagnose(output, python):
    for pattern, advice in DIAGNOSES:
        match = re.search(pattern, output)
        if match:
            groups = match.groupdict()
            what = next((group for group in groups.values() if group), "")
            return advice.format(what=what, python=python)
    lines = [line for line in output.splitlines() if not line.startswith("note:")]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or [_last_line(output)])[-1].strip()


def _last_line(output):
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"


if __name__ == "__main__":
    sys.exit(main())
