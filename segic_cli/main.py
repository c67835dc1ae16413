"""``segic COMMAND …``: the parser of all commands, and how a command ends.

A command is a module of this package that is named in ``COMMANDS``, with - for _: the first line of
its docstring is its help, ``add_arguments(parser)`` adds its options, and ``run(args)`` returns the
exit status.
"""

import argparse
import importlib
import io
import sys
from collections.abc import Sequence
from typing import NoReturn

from .checks import UsageError
from .process import hide_warnings

COMMANDS = (
    *("segment", "label", "video", "train", "tune-context", "evaluate", "check"),
    "completion",
)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} ({self.prog} --help lists the options)\n")


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(prog="segic", description="Segments pictures by example.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"{__package__}.{name.replace('-', '_')}")
        text = module.__doc__ or ""
        formatter = argparse.RawDescriptionHelpFormatter
        own = commands.add_parser(
            name, help=text.splitlines()[0], description=text, formatter_class=formatter
        )
        own.set_defaults(run=module.run)
        module.add_arguments(own)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 where something failed, 2 for wrong usage.

    Words that no option takes go to ``args.words`` of a command whose defaults have that name,
    wherever they stand among the options.
    """
    parser = build_parser()
    args, words = parser.parse_known_args(argv)
    if hasattr(args, "words"):
        args.words = [word for word in words if word != "--"]
    elif words:
        parser.error(f"unrecognized arguments: {' '.join(words)}")
    hide_warnings()
    for stream in (sys.stdout, sys.stderr):  # names of files are any bytes
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return args.run(args)
    except UsageError as error:
        return _failed(error, 2)
    except (ValueError, OSError, ImportError) as error:
        return _failed(error, 1)
    except KeyboardInterrupt:
        return _failed("interrupted", 130)


def _failed(error: object, status: int) -> int:
    for line in getattr(error, "lines", [error]):
        # names of files may hold line breaks, and what a terminal would obey
        shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(line))
        print(f"error: {shown}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
