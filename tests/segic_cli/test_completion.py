import shutil
import subprocess

import pytest

from segic_cli.completion import script
from segic_cli.main import COMMANDS, build_parser, main


def completed(shell, text, words):
    """What a shell offers for the last of some words."""
    line = " ".join(f"'{word}'" for word in words)
    code = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _segic; echo ${{COMPREPLY[*]}}"
    # bash as on macOS, too: nothing but what its version 3 knows
    done = subprocess.run([shell, "-c", f"{text}\n{code}"], capture_output=True, text=True)
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["segic", ""], [*COMMANDS, "--help"]),
        (["segic", "s"], ["segment"]),
        (["segic", "train", "--r"], ["--resume"]),
        (["segic", "segment", "--precision", ""], ["fp32", "bf16", "fp16"]),
        (["segic", "segment", "--precision", "b"], ["bf16"]),
        (["segic", "completion", "z"], ["zsh"]),
        (["segic", "segment", "--input", "pict"], []),  # files are the shell's own
        (["segic", "nothing", "-"], []),
    ],
)
def test_bash(words, expected):
    assert completed("bash", script(build_parser()), words) == expected


def test_every_option_is_offered():
    text = script(build_parser())
    for option in ("--reference", "--min-score", "--instances", "--num-gpus", "--shots"):
        assert option in text


def test_scripts_are_printed(capsys):
    assert main(["completion", "bash"]) == 0
    bash = capsys.readouterr().out
    assert main(["completion", "zsh"]) == 0
    zsh = capsys.readouterr().out
    assert zsh == "autoload -U +X bashcompinit && bashcompinit\n" + bash
