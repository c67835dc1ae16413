"""Say what a data set holds, and what is wrong with it.

segic check coco:/data/cells.json:/data/images
segic check labelme:/data/mushrooms --full

DATA is what `segic train` takes: a folder, FORMAT:PLACE (docs/formats.md), or a registered data
set. The exit status is 1 where something is wrong.
"""

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

from .train import dataset

LISTED = 50  # classes, and things that are wrong; --all lists the others


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``segic check``."""
    add = parser.add_argument
    add("data", metavar="DATA")
    add("--full", action="store_true", help="read every file to its end, not its head alone")
    add("--all", action="store_true", help=f"list all classes and faults, not {LISTED}")


def run(args: argparse.Namespace) -> int:
    """Print the tables; returns the exit status."""
    name = dataset(args.data)
    from segic_d2.data.health.survey import survey

    with contextlib.suppress(KeyError):
        found = survey(name, args.full)
        for line in lines(found, None if args.all else LISTED):
            print(line)
        return int(bool(found.wrong))
    raise ValueError(f"{name!r} is no registered data set, no folder and no FORMAT:PLACE")


def lines(found: Any, limit: int | None) -> Iterator[str]:
    """The lines of a ``Survey``."""
    splits = ", ".join(f"{split or 'no split'} {n:,}" for split, n in found.splits.items())
    named = f" ({splits})" if any(found.splits) else ""
    yield f"pictures   {found.pictures:,}{named}"
    if found.sizes:
        from segic_d2.data.health.survey import median_size

        by_area = sorted(found.sizes, key=lambda size: size[0] * size[1])
        ends = (by_area[0], median_size(found.sizes), by_area[-1])
        least, middle, most = (f"{w}x{h}" for h, w in ends)
        yield f"sizes      {least} to {most} px, median {middle}"
    yield f"classes    {len(found.classes):,}"
    if found.objects is not None:
        yield f"objects    {found.objects:,}"
    for what, number in found.left_out.items():
        yield f"left out   {number:,} {what}"
    if found.classes:
        width = max(len("class"), *(len(c[0]) for c in found.classes[:limit]))
        yield ""
        yield f"{'class':{width}}  pictures  objects"
        for label, pictures, objects in found.classes[:limit]:
            shown = "-" if objects is None else f"{objects:,}"
            yield f"{label:{width}}  {pictures:8,}  {shown:>7}"
        yield from _more(len(found.classes), limit)
    yield ""
    yield f"wrong: {len(found.wrong):,}" if found.wrong else "nothing is wrong"
    yield from (f"  {' '.join(text.split())}" for text in found.wrong[:limit])
    yield from _more(len(found.wrong), limit)


def _more(number: int, limit: int | None) -> Iterator[str]:
    if limit is not None and number > limit:
        yield f"… and {number - limit:,} more (--all)"
