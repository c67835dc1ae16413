"""Makes tables of results.json files beside published rows, for tools/collect_results.py."""

import json
import re
from collections import namedtuple
from pathlib import Path

from results.peers import BENCHMARKS, PEERS, SOURCES
from results.published import TABLE_1, TABLE_2

# column → (benchmark or data set, metrics in order of preference, folds; 1: a single split)
COLUMNS = {
    "COCO-20i": ("coco20i", ("mIoU",), 4),
    "FSS-1000": ("fss1000", ("mIoU",), 1),
    "LVIS-92i": ("lvis92i", ("mIoU",), 10),
    "DAVIS-17": ("davis17_val", ("J&F_Mean",), 1),
    "YT-VOS-18": ("ytvos18_valid", ("G",), 1),
    "COCO#": ("sem_seg-coco", ("mIoU_present",), 1),
    "ADE20K#": ("sem_seg-ade20k", ("mIoU_present",), 1),
    "PC-459#": ("sem_seg-pc459", ("mIoU_present",), 1),
    "A-847#": ("sem_seg-a847", ("mIoU_present",), 1),
}
FOLDS = [f"fold {f}" for f in range(4)]
OWN = "*"  # marks a figure that is not measured on the published episodes
ESCAPED = "\\*"  # in Markdown's text
MARKS = {
    OWN: "own episodes, masks or references: not those of the published numbers",
    "†": "damaged data were left out, or classes for want of images (results.json: skipped)",
}

Cell = namedtuple("Cell", "value marks")


def collect(folder):
    """Read all results of a folder.

    Returns:
        (name, list of dicts: the content of each results.json below the folder that names a
        benchmark, and its path as "file", sorted by path).

    Raises:
        FileNotFoundError: the folder has no result.
        ValueError: a file, which is named, is no result.
    """
    found = []
    for file in sorted(Path(folder).rglob("results.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if isinstance(content, dict) and "benchmark" not in content:
                continue  # of the demo, or of another tool
            content["benchmark"], content["metrics"].items()
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{file} is no result of an evaluation: {error!r}") from error
        found.append({**content, "file": str(file)})
    if not found:
        raise FileNotFoundError(f"no results.json of a benchmark below {folder}")
    return Path(folder).name or str(folder), found


def _cell(results, names):
    """The mean of a metric over results (one per fold), with marks; None without results."""
    values = [next((r["metrics"][n] for n in names if n in r["metrics"]), None) for r in results]
    if not values or None in values:
        return None
    marks = OWN * (not all(r.get("standard", False) for r in results))
    marks += "†" * any(r.get("skipped") for r in results)
    return Cell(sum(values) / len(values), marks)


def _of(results, benchmark, shots, seen=None):
    """{fold: result} of a benchmark or data set, without the file of the mean, which is computed
    here.

    Raises:
        ValueError: naming the files, if two of them claim the same cell with other figures.
    """
    chosen = {}
    for r in results:
        if benchmark not in (r["benchmark"], r.get("dataset")) or r.get("fold") == "mean":
            continue
        if r.get("shots", 1) != shots:
            continue
        if seen is None or r.get("seen") == seen:
            other = chosen.setdefault(r.get("fold") or 0, r)
            if other["metrics"] != r["metrics"]:
                raise ValueError(
                    f"two results of {benchmark}, fold {r.get('fold') or 0}, {shots}-shot: "
                    f"{other.get('file')} and {r.get('file')}; name their folders one by one"
                )
    return chosen


def conditions(results):
    """The conditions of a row, as far as its results agree: "1-shot, seen, text"."""
    parts = [{str(r[k]) for r in results if r.get(k)} for k in ("seen", "text")]
    return ", ".join("/".join(sorted(part)) for part in parts if part)


def table_1_row(results, shots=1):
    """{column: Cell} of a folder's results. Folds must be complete."""
    row = {}
    for column, (benchmark, metrics, folds) in COLUMNS.items():
        chosen = _of(results, benchmark, shots)
        if set(chosen) == set(range(folds)):
            row[column] = _cell([chosen[f] for f in range(folds)], metrics)
    return {k: v for k, v in row.items() if v is not None}


def table_2_row(results, shots=1, seen="unseen"):
    """{"fold 0" …, "mean": Cell}, from folds whose classes training did not name ("unseen").

    With ``seen`` "mixed" it takes folds whose classes training named in part (‡): other data sets
    than COCO have some of these classes.
    """
    chosen = _of(results, "coco20i", shots, seen)
    cells = {f"fold {f}": _cell([r], ("mIoU",)) for f, r in sorted(chosen.items())}
    cells = {k: v for k, v in cells.items() if v is not None}
    if set(cells) == set(FOLDS):
        cells["mean"] = _cell([chosen[f] for f in range(4)], ("mIoU",))
    return cells


def join_folds(rows):
    """Join folders of models that were trained for one fold each into one row.

    out_fold0, out_fold1, … become "out_fold0-3".
    """
    joined = {}
    for name, results in rows:
        joined.setdefault(re.sub(r"fold\d+", "fold0-3", name), []).extend(results)
    return list(joined.items())


def markdown(columns, published, ours):
    """A Markdown table; each published row has the number of its source.

    Args:
        columns: names.
        published: name → (source, {column: figure}).
        ours: list of (name, {column: Cell}).
    """
    sources = list(dict.fromkeys(source for source, _ in published.values()))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, (source, figures) in published.items():
        cells = [str(figures.get(column, "")) for column in columns]
        lines.append(f"| {name} [{sources.index(source) + 1}] | " + " | ".join(cells) + " |")
    used = ""
    for name, row in ours:
        cells = [f"{row[c].value:.1f}{row[c].marks}" if c in row else "" for c in columns]
        used += "".join(row[c].marks for c in columns if c in row)
        lines.append(f"| **{name}** | " + " | ".join(cells) + " |")
    notes = [f"[{i}] {source}." for i, source in enumerate(sources, 1)]
    notes += [
        f"{mark.replace(OWN, ESCAPED)} {text}." for mark, text in MARKS.items() if mark in used
    ]
    return "\n".join(lines) + "\n\n" + "  \n".join(notes)


def tables(rows):
    """Both tables as Markdown.

    Args:
        rows: list of what ``collect`` returns. Shots, text and no text are rows of their own.

    Raises:
        ValueError: a folder has two results for one cell.
    """
    first, second = [], []
    for name, results in rows:
        for shots, own in _alike(results):
            found = table_1_row(own, shots)
            if found:
                about = conditions(
                    [r for r in own if {r["benchmark"], r.get("dataset")} & _BENCHMARKS]
                )
                first.append((", ".join(filter(None, (name, f"{shots}-shot", about))), found))
    for name, results in join_folds(rows):
        for shots, own in _alike(results):
            for seen, mark in (("unseen", ""), ("mixed", "‡")):
                found = table_2_row(own, shots, seen)
                if found:
                    about = conditions(list(_of(own, "coco20i", shots, seen).values()))
                    second.append((f"{name}{mark}, {shots}-shot, {about}", found))
    parts = [
        "## Table 1: one model for all",
        markdown(list(COLUMNS), TABLE_1, first),
        "## Table 2: COCO-20i, trained without the tested fold's classes",
        markdown([*FOLDS, "mean"], TABLE_2, second),
    ]
    return "\n\n".join(parts)


OURS = "SegIC", "SegGPT", "Painter"  # rows that there are without results


def peers(rows=()):
    """Every benchmark of ``BENCHMARKS`` as a column, published rows above ours, as Markdown.

    Args:
        rows: list of (name, results) as of ``collect``; those of ``OURS`` are there in any case.

    Raises:
        ValueError: a row has two results for one cell.
    """
    given = [*rows, *((name, []) for name in OURS if name not in dict(rows))]
    order = [*OURS, *(name for name, _ in given)]
    given.sort(key=lambda row: order.index(row[0]))
    columns, numbers = list(BENCHMARKS), {name: i for i, name in enumerate(SOURCES, 1)}
    lines = [f"| | trained on | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for name, trained, figures in PEERS:
        cells = [_published(figures.get(column), numbers) for column in columns]
        lines.append(f"| {name} | {trained} | {' | '.join(cells)} |")
    used = ""
    for name, results in given:
        cells = [_measured(results, *BENCHMARKS[column][:3]) for column in columns]
        used += "".join(cells)
        lines.append(f"| **{name}, here** |  | {' | '.join(cells)} |")
    notes = [f"[{numbers[name]}] {text}." for name, text in SOURCES.items()]
    marks = [f"{m.replace(OWN, ESCAPED)} {text}." for m, text in MARKS.items() if m in used]
    return "\n".join(lines) + "\n\n" + "  \n".join([*notes, *marks])


def _published(figure, numbers):
    if figure is None:
        return ""
    one, five, source = figure
    return f"{one}/{five} [{numbers[source]}]" if five else f"{one} [{numbers[source]}]"


def _measured(results, benchmark, metrics, folds):
    found = []
    for shots in (1, 5):
        chosen = _of(results, benchmark, shots)
        whole = set(chosen) == set(range(folds))
        cell = _cell([chosen[f] for f in range(folds)], metrics) if whole else None
        found.append(f"{cell.value:.1f}{cell.marks}" if cell else "")
    return "/".join(found) if found[1] else found[0]


def _alike(results):
    """The rows of a folder: [(shots, results with these shots, all with or without text), …]."""
    keys = sorted({(r.get("shots", 1), r.get("text") or "") for r in results})
    return [
        (n, [r for r in results if (r.get("shots", 1), r.get("text") or "") == (n, text)])
        for n, text in keys
    ]


_BENCHMARKS = {benchmark for benchmark, *_ in COLUMNS.values()}
