"""Two recordings side by side: equal to the bit, within the tolerance, or different."""

import math
from dataclasses import dataclass, field

import numpy as np

from . import layout
from .recording import Recording, summary

EQUAL, WITHIN, DIFFERENT, GONE, SKIPPED = "equal", "within", "different", "gone", "skipped"
ABSOLUTE, RELATIVE = 1e-5, 1e-4  # as close as another order of the same sums comes


@dataclass
class Part:
    """How a part compares.

    Attributes:
        state: EQUAL (to the bit), WITHIN the tolerance, DIFFERENT, GONE (it has a successor), or
            SKIPPED (the data were not there on one side).
        largest: the largest difference, and where it is.
        lines: one per difference.
    """

    state: str = EQUAL
    largest: tuple[float, str] = (0.0, "")
    lines: list[str] = field(default_factory=list)

    def differ(self, line: str) -> None:
        self.state = DIFFERENT
        self.lines.append(line)

    def add(self, name: str, difference: float, allowed: float, what: str = "") -> None:
        """A pair of values that are not the same."""
        self.largest = max(self.largest, (difference, name))
        if not difference <= allowed:  # not a number is too far as well
            self.differ(f"{name}: {what or f'{difference:.3g} apart, {allowed:.3g} allowed'}")
        elif self.state == EQUAL:
            self.state = WITHIN


def compare(
    a: Recording, b: Recording, absolute: float = ABSOLUTE, relative: float = RELATIVE
) -> dict[str, Part]:
    """{part: how it compares} of every part of either recording.

    Two floats, or two arrays of them, are within the tolerance where no value differs by more than
    max(absolute, relative · max|a|). Label maps are where no larger share than ``relative`` of
    their pixels differs. Whole numbers, texts, names and shapes have to be the same.
    """
    found = {}
    for part in dict.fromkeys([*a.parts, *b.parts, *a.skipped, *b.skipped]):
        found[part] = result = Part()
        skipped = a.skipped.get(part) or b.skipped.get(part)
        missing = [side for side, x in (("A", a), ("B", b)) if part not in x.scalars]
        if skipped:
            result.state = SKIPPED
            result.lines.append(skipped)
        elif missing == ["B"] and part in layout.SUCCESSORS:
            successor = layout.SUCCESSORS[part]
            result.state = GONE
            reason = b.failures.get(part, "not recorded")
            result.lines.append(f"gone ({reason}); its successor is {successor}")
            if successor not in b.scalars:
                result.differ(f"gone, and its successor {successor} is missing")
        elif missing:
            reasons = {side: x.failures.get(part) for side, x in (("A", a), ("B", b))}
            failed = [side for side in missing if reasons[side]]
            for side in failed or missing:
                result.differ(f"missing in {side}: {reasons[side] or 'not recorded'}")
        else:
            _scalars(result, a.scalars[part], b.scalars[part], absolute, relative)
            pairs = a.arrays.get(part, {}), b.arrays.get(part, {})
            for name in _common(result, *pairs):
                _arrays(result, name, *(x[name] for x in pairs), absolute, relative)
    return found


def _common(result, a, b):
    """The names that both sides have; the others are differences."""
    for name in [n for n in a if n not in b]:
        result.differ(f"{name}: missing in B")
    for name in [n for n in b if n not in a]:
        result.differ(f"{name}: missing in A")
    return [name for name in a if name in b]


def _scalars(result, a, b, absolute, relative):
    for name in _common(result, a, b):
        one, two = a[name], b[name]
        if type(one) is type(two) and (one == two or (one != one and two != two)):
            continue
        if isinstance(one, float) and isinstance(two, float):
            allowed = max(absolute, relative * abs(one))
            result.add(name, abs(one - two), allowed, f"{one:.6g} and {two:.6g}")
        else:
            result.differ(f"{name}: {one!r} and {two!r}")


def _arrays(result, name, one, two, absolute, relative):
    if isinstance(one, dict) or isinstance(two, dict):
        return _summaries(result, name, summary(one), summary(two), absolute, relative)
    forms = [f"{x.dtype} {x.shape}" for x in (one, two)]
    if forms[0] != forms[1]:
        result.differ(f"{name}: {forms[0]} and {forms[1]}")
    elif one.tobytes() == two.tobytes():
        return
    elif one.dtype.kind in "bui":
        share = float(np.mean(one != two))
        result.add(name, share, relative, f"{int((one != two).sum())} of {one.size} differ")
    elif one.dtype.kind != "f":
        result.differ(f"{name}: other values")
    else:
        apart = np.abs(one.astype(np.float64) - two.astype(np.float64))
        allowed = max(absolute, relative * float(np.abs(one).max()))
        result.add(name, float(apart.max()), allowed)


def _summaries(result, name, one, two, absolute, relative):
    forms = [f"{x['dtype']} {tuple(x['shape'])}" for x in (one, two)]
    if forms[0] != forms[1]:
        result.differ(f"{name}: {forms[0]} and {forms[1]}")
    elif one == two:
        return
    elif "counts" in one:
        counts = [{k: x["counts"].get(k, 0) for k in one["counts"]} for x in (one, two)]
        apart = max((abs(counts[0][k] - counts[1][k]) for k in counts[0]), default=0)
        result.add(name, apart / max(math.prod(one["shape"]), 1), relative)
    else:
        values = [np.array(x["figures"]) for x in (one, two)]
        allowed = max(absolute, relative * float(np.abs(values[0]).max()))
        result.add(name, float(np.abs(values[0] - values[1]).max()), allowed)


def table(found: dict[str, Part]) -> str:
    """One row per part, as Markdown."""
    rows = ["| part | result | largest difference |", "|---|---|---|"]
    words = {EQUAL: "equal to the bit", WITHIN: "within the tolerance"}
    for part, result in found.items():
        largest, name = result.largest
        where = f"{largest:.3g} ({name})" if name else ""
        rows.append(f"| {part} | {words.get(result.state, result.state)} | {where} |")
    return "\n".join(rows)


def remarks(found: dict[str, Part]) -> tuple[list[str], list[str]]:
    """Lines that count as differences, and lines that do not."""
    lines = {True: [], False: []}
    for part, result in found.items():
        lines[result.state == DIFFERENT] += [f"{part}: {line}" for line in result.lines]
    return lines[True], lines[False]
