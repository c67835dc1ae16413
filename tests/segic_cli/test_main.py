"""``segic`` as a shell calls it."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from segic_cli import main as cli
from segic_cli.checks import Problems, UsageError

ROOT = Path(__file__).resolve().parents[2]
LIGHT = (  # a call that ends in a status, and what it has imported by then
    "import sys\n"
    "from segic_cli.main import main\n"
    "try:\n"
    "    status = main()\n"
    "except SystemExit as end:\n"
    "    status = end.code\n"
    "print(*{'torch', 'segic_d2', 'detectron2', 'numpy', 'PIL', 'iopath'} & {*sys.modules})\n"
    "sys.exit(status)\n"
)


def light(*argv, cwd=ROOT):
    """The status, the lines of errors, and the output of a call that imports nothing heavy."""
    line = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{LIGHT}", *argv]
    done = subprocess.run(line, cwd=cwd, capture_output=True, text=True)
    *text, imported = done.stdout.splitlines()
    assert not imported, f"imported: {imported}"
    return done.returncode, done.stderr.splitlines(), text


def seconds(*argv):
    """CPU seconds of a call."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *argv], cwd=ROOT, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_an_odd_name_is_one_harmless_line():
    name = "a\nb\x1b[31m\udcff.png"
    status, errors, _ = light("segment", "--reference", name, name, "--input", "x", "--output", "y")
    assert status == 1 and errors
    assert all(line.startswith("error: ") and line.isprintable() for line in errors)
    assert "a\\nb\\x1b[31m\\udcff.png" in errors[0]


def test_help_is_there_at_once():
    status, errors, text = light("--help")
    assert (status, errors) == (0, [])
    for name in cli.COMMANDS:
        assert any(line.split()[:1] == [name] for line in text)
        status, errors, own = light(name, "--help")
        assert (status, errors) == (0, []) and own[0].startswith(f"usage: segic {name}")
    assert min(seconds("-m", "segic_cli.main", "--help") for _ in range(3)) < 0.5


def test_the_import_warns_of_nothing():
    line = [sys.executable, "-c", "import segic_d2, warnings; warnings.warn('mine')"]
    done = subprocess.run(line, cwd=ROOT, check=True, capture_output=True, text=True)
    (shown,) = [x for x in done.stderr.splitlines() if "Warning" in x]  # ours are still shown
    assert "UserWarning: mine" in shown


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["sgment"], "argument COMMAND: invalid choice: 'sgment'"),
        (["segment", "--input", "x"], "the following arguments are required: --output"),
        (["completion", "bash", "more"], "unrecognized arguments: more"),
    ],
)
def test_wrong_usage_is_one_line(argv, message):
    status, (line,), _ = light(*argv)
    assert status == 2 and line.startswith(f"error: {message}")
    assert line.endswith("--help lists the options)")


@pytest.mark.parametrize(
    ("error", "status", "lines"),
    [
        (UsageError("give one"), 2, ["give one"]),
        (FileNotFoundError("no a.jpg"), 1, ["no a.jpg"]),
        (ImportError("no detectron2"), 1, ["no detectron2"]),
        (Problems(["no b", "no c"]), 1, ["no b", "no c"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
    ],
)
def test_errors_end_in_lines(monkeypatch, capsys, error, status, lines):
    def run(args):
        raise error

    monkeypatch.setattr("segic_cli.completion.run", run)
    assert cli.main(["completion", "bash"]) == status
    assert capsys.readouterr().err.splitlines() == [f"error: {line}" for line in lines]


def test_other_errors_are_bugs_and_show_where(monkeypatch):
    monkeypatch.setattr("segic_cli.completion.run", lambda args: {}["missing"])
    with pytest.raises(KeyError):
        cli.main(["completion", "bash"])


@pytest.mark.medium
def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "segic_d2", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout.startswith("usage: segic [-h] COMMAND")
