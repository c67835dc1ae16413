"""In which order people look at labels: a table, and a page of the most doubtful pictures."""

from __future__ import annotations

import base64
import contextlib
import csv
import html
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from ...io.names import safe_name
from ...io.pictures import to_picture
from ...io.rle import decode
from ...utils.store import fetch, is_remote
from ...utils.texts import one_line
from ...utils.visualizer import paint_labels
from .state import Place, Record, Round

DOUBTFUL = 0.5  # of an entity, from which on somebody should look
SHOWN, SIDE = 100, 320  # pictures of the page, and their longest side, px
COLUMNS = ("rank", "file", "doubt", "doubtful", "why", "things", "lowest_score", "error")
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>
body{{font:15px sans-serif;margin:2em}}main{{display:flex;flex-wrap:wrap;gap:16px}}
figure{{width:{side}px;margin:0}}img{{max-width:100%;max-height:{side}px}}
figcaption{{overflow-wrap:anywhere;font-size:13px}}b{{font-size:15px}}</style>
<h1>{title}</h1><p>{text}</p><main>
{figures}
</main></html>
"""


@dataclass(frozen=True)
class Row:
    """What the table says of a picture."""

    place: Place
    doubt: float
    most: float
    why: str
    things: int
    lowest: float | None
    error: str
    given: bool

    @classmethod
    def of(cls, place: Place, record: Record) -> Row:
        """The row of a record."""
        things = record.get("things", ())
        lowest = min((score for _, score, _ in things), default=None)
        doubt = record.get("doubt", 0.0), record.get("most", 0.0), record.get("why", "")
        return cls(
            place, *doubt, len(things), lowest, record.get("error", ""), bool(record.get("given"))
        )

    @property
    def doubtful(self) -> bool:
        """Whether somebody should look at it."""
        return not self.error and not self.given and self.most >= DOUBTFUL

    def rank(self) -> tuple[bool, bool, float]:
        """For sorting: what cannot be read, then by doubt, at last what people gave."""
        return not self.error, self.given, -self.doubt


def csv_text(rows: Sequence[Row]) -> str:
    """The table of sorted rows, as CSV."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(COLUMNS)
    for number, row in enumerate(rows, 1):
        lowest = "" if row.lowest is None else row.lowest
        name = row.place.file.encode(errors="backslashreplace").decode()
        told = row.doubt, "yes" if row.doubtful else "", row.why, row.things, lowest, row.error
        table.writerow([number, *(one_line(str(x)) for x in (name, *told))])
    return file.getvalue()


def contact_sheet(state: Round, rows: Sequence[Row], titles: Sequence[str]) -> str:
    """A page of the ``SHOWN`` most doubtful pictures of sorted rows with their labels, in the
    colours of their classes, ``titles``, as HTML that needs no other file."""
    shown = [row for row in rows if not row.error and not row.given][:SHOWN]
    figures = []
    for number, row in enumerate(shown, 1):
        try:
            thumbnail = _thumbnail(state.record(row.place), titles)
        except (OSError, ValueError):  # the picture has gone since it was labelled
            thumbnail = b""
        data = base64.b64encode(thumbnail).decode()
        name = html.escape(one_line(row.place.file.encode(errors="backslashreplace").decode()))
        alt = safe_name(Path(row.place.file).stem)
        figures.append(
            f'<figure><img src="data:image/jpeg;base64,{data}" alt="{alt}"><figcaption><b>{number}.'
            f" doubt {row.doubt:.2f}</b> {html.escape(one_line(row.why))}<br>{name}</figcaption>"
            "</figure>"
        )
    title = f"Round {state.number}: the most doubtful pictures"
    text = f"{len(shown)} of {len(rows)} pictures, the most doubtful first."
    return PAGE.format(title=title, text=text, side=SIDE, figures="\n".join(figures))


def _thumbnail(record: Record, titles: Sequence[str]) -> bytes:
    """A picture with its labels, as JPEG."""
    with _here(record["file"]) as file:
        picture = Image.fromarray(to_picture(file))
    picture.thumbnail((SIDE, SIDE))
    labels, texts = np.full(picture.size[::-1], -1, np.int32), []
    colours = [titles.index(record["names"][label]) + 1 for label, _, _ in record["things"]]
    height, width = record["size"]
    for row, (label, score, counts) in enumerate(record["things"]):
        mask = decode({"size": [height, width], "counts": counts}, height, width)
        small = Image.fromarray(mask).resize(picture.size, Image.Resampling.NEAREST)
        labels[np.asarray(small)] = row
        texts.append(f"{record['names'][label]} {score:.0%}")
    shown = paint_labels(np.asarray(picture), labels, colours, texts)
    data = io.BytesIO()
    Image.fromarray(shown).save(data, "JPEG", quality=85)
    return data.getvalue()


@contextlib.contextmanager
def _here(file: str) -> Iterator[str]:
    if not is_remote(file):
        yield file
        return
    with TemporaryDirectory(prefix="segic_d2-") as folder:
        yield str(fetch(file, folder))


def class_masks(record: Record) -> dict[str, np.ndarray]:
    """All pixels of each class that a record shows: bool (H, W)."""
    height, width = record["size"]
    found: dict[str, np.ndarray] = {}
    for label, _, counts in record["things"]:
        name = record["names"][label]
        mask = decode({"size": [height, width], "counts": counts}, height, width)
        found[name] = found[name] | mask if name in found else mask
    return found
