"""Print a script that completes commands and options in a shell.

source <(segic completion bash)     # in ~/.bashrc
source <(segic completion zsh)      # in ~/.zshrc, after compinit
"""

import argparse
import shlex
from collections.abc import Iterator

ZSH = "autoload -U +X bashcompinit && bashcompinit\n"
SCRIPT = """\
_segic() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" words=""
    local command="${{COMP_WORDS[1]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        words={commands}
    else
        case "$command $before" in
{choices}
        esac
        case "$command $word" in
{options}
        esac
    fi
    [ -z "$words" ] || COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _segic segic
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument of ``segic completion``."""
    parser.add_argument("shell", choices=("bash", "zsh"))


def run(args: argparse.Namespace) -> int:
    """Print the script; returns the exit status."""
    from .main import build_parser

    print((ZSH if args.shell == "zsh" else "") + script(build_parser()), end="")
    return 0


def script(parser: argparse.ArgumentParser) -> str:
    """The bash script of a parser of commands: their names, their options where a word begins with
    a dash, and the choices of options and arguments; else names of files."""
    commands, options, choices = _commands(parser), [], []
    for name, own in commands.items():
        flags = [flag for action in own._actions for flag in action.option_strings]
        options.append(_case(f'"{name} -"*', flags))
        for action in own._actions:
            if action.choices and action.option_strings:
                spelt = "|".join(f'"{name} {flag}"' for flag in action.option_strings)
                choices.append(_case(spelt, map(str, action.choices)))
            elif action.choices:
                choices.append(_case(f'"{name} {name}"', map(str, action.choices)))
    lines = {"choices": "\n".join(choices), "options": "\n".join(options)}
    return SCRIPT.format(commands=shlex.quote(" ".join([*commands, "--help"])), **lines)


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (found,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(found.choices)


def _case(pattern: str, words: "Iterator[str] | list[str]") -> str:
    return f"            {pattern}) words={shlex.quote(' '.join(words))} ;;"
