#!/usr/bin/env python
"""Whether two commits behave the same, on this machine:

    python tools/same_behaviour.py record [--checkout DIR] OUT
    python tools/same_behaviour.py compare A B

OUT is a folder, or a .json file for a summary. A and B are recordings or git revisions, which are
checked out and recorded one after the other. Recorded are: figures of tools/evaluate_pairs.py on
real photographs (pairs), logits, scores and label maps of what ships (predictor), losses of short
trainings in one and two processes (training), results of every evaluation on the miniatures
(evaluations), names and shapes of checkpoints (tensors). ``compare`` prints a table and one line
per difference, and ends with 1 where there is one. What a commit renames is entered in
tools/pins/layout.py.
"""

import argparse
import json
import sys
from pathlib import Path

from pins import checkouts, comparing
from pins.layout import SUCCESSORS
from pins.recording import Recording

SHARED = checkouts.HOME.parent / "shared"


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record", help="record one checkout")
    record.add_argument("out", metavar="OUT", help="folder, or .json for a summary")
    record.add_argument("--checkout", type=Path, default=checkouts.HOME, help="default: this one")
    compare = commands.add_parser("compare", help="compare two recordings or git revisions")
    compare.add_argument("recordings", metavar=("A", "B"), nargs=2)
    compare.add_argument("--absolute", type=float, default=comparing.ABSOLUTE)
    compare.add_argument("--relative", type=float, default=comparing.RELATIVE, help="of max |a|")
    for command in (record, compare):
        command.add_argument("--only", nargs="+", choices=checkouts.PARTS, default=[])
        command.add_argument("--cheap", action="store_true", help="what the test records")
        command.add_argument("--full", action="store_true", help="pairs at full size, 5 shots too")
        command.add_argument("--pairs", type=Path, default=SHARED / "real_pairs", metavar="DIR")
    work = commands.add_parser("work")  # a process of a recording
    work.add_argument("job")
    return parser.parse_args(argv)


def recorded(args, checkout: Path) -> Recording:
    """A recording of a checkout, with the options of the command line."""
    keys = SHARED / "golden" / "official_keys.txt"
    return checkouts.record(
        checkout,
        args.only,
        args.cheap,
        args.full,
        args.pairs if args.pairs.is_dir() else None,
        keys if keys.is_file() else None,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )


def obtained(args, name: str) -> Recording:
    """The recording of that name, or of that git revision."""
    if not Path(name).exists():
        with checkouts.checked_out(name) as place:
            return recorded(args, place)
    found = Recording.load(name)
    if args.only:
        for content in (found.scalars, found.arrays, found.failures, found.skipped):
            for part in [p for p in content if not p.startswith(tuple(args.only))]:
                del content[part]
    return found


def main(argv=None) -> int:
    args = parse_args(argv)
    if args.command == "work":
        from pins.worker import work

        work(json.loads(Path(args.job).read_text()))
        return 0
    if args.command == "record":
        found = recorded(args, args.checkout)
        found.save(args.out)
        for part, reason in found.failures.items():
            print(f"{part}: {reason}")
        return int(not found.failures.keys() <= SUCCESSORS.keys())
    try:
        one, two = (obtained(args, name) for name in args.recordings)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    found = comparing.compare(one, two, args.absolute, args.relative)
    print(comparing.table(found))
    for key in sorted(one.facts.keys() | two.facts.keys()):
        if one.facts.get(key) != two.facts.get(key):
            print(f"{key}: {one.facts.get(key)} and {two.facts.get(key)}")
    differences, others = comparing.remarks(found)
    print("\n".join([*others, *differences, f"{len(differences)} differences"]))
    return int(bool(differences))


if __name__ == "__main__":
    sys.exit(main())
