"""What a round leaves: labels, the order in which to look at them, and what it came to."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ...io.annotations import Annotated, Pictures, Thing, write_annotations
from ...io.names import distinct_stems
from ...utils.files import remove_leftovers, whole_folder
from .review import DOUBTFUL, Row, class_masks, contact_sheet, csv_text
from .state import Place, Record, Round

CHANGED = 0.9  # IoU of two rounds, below which the labels of a picture changed


@dataclass(frozen=True)
class LabelReport:
    """What a round came to.

    Attributes:
        number: of the round. pictures: that are labelled or given. given: that people corrected.
        doubtful: with an entity of a doubt of ``DOUBTFUL`` or more. unreadable: in no file.
        changed: that the round before labelled otherwise: the mean IoU of the classes of both is
            below ``CHANGED``. None in round 1. similar: that IoU, mean over the pictures.
        tuned: what tuning says, or "". name: what reads the labels, such as "coco:FILE:IMAGES".
        review, sheet: where the CSV and the page of doubtful pictures are.
    """

    number: int
    pictures: int
    given: int
    doubtful: int
    unreadable: int
    changed: int | None
    similar: float | None
    tuned: str
    name: str
    review: str
    sheet: str

    def __str__(self) -> str:
        given = f", {self.given} of them corrected by you" if self.given else ""
        lines = [f"round {self.number}: {self.pictures} pictures{given}"]
        lines.append(f"doubtful: {self.doubtful} (in order: {self.review}; {self.sheet})")
        if self.unreadable:
            lines.append(f"could not be read: {self.unreadable} (at the top of {self.review})")
        if self.changed is not None and self.similar is not None:
            lines.append(
                f"changed since round {self.number - 1}: {self.changed} (IoU of both, mean: "
                f"{100 * self.similar:.1f} %)"
            )
        if self.tuned:
            lines.append(self.tuned)
        return "\n".join([*lines, f"labels: {self.name}"])


class RoundLabels(Pictures):
    """The labelled pictures of a round, each read when it is asked for."""

    def __init__(self, state: Round) -> None:
        self._state, self.titles = state, titles_of(state)
        self._places: list[Place] = []
        for place in state.places():
            record = state.record(place)
            if "error" not in record:
                self._places.append(place)
                self.titles += [n for n in record["names"] if n not in self.titles]
        self._rows = {title: i for i, title in enumerate(self.titles)}

    @property
    def files(self) -> list[str]:
        """The files of the pictures, in order."""
        return [place.file for place in self._places]

    def __len__(self) -> int:
        return len(self._places)

    def picture(self, row: int) -> Annotated:
        record = self._state.record(self._places[row])
        height, width = record["size"]
        things = [
            Thing(self._rows[record["names"][i]], {"size": [height, width], "counts": counts})
            for i, _, counts in record["things"]
        ]
        given = bool(record.get("given"))
        found = Annotated(record["file"], (height, width), self.titles, things, given=given)
        if not given:
            found.doubt, found.doubtful = record["doubt"], record["most"] >= DOUBTFUL
        return found


def titles_of(state: Round) -> list[str]:
    """The classes of a round's references, as labels name them."""
    context = state.context()
    return [n or f"entity {i}" for i, n in zip(context.ids, context.names, strict=True)]


def written_stems(state: Round) -> dict[str, str]:
    """{stem of a picture in the labels: the picture it is a copy of}."""
    files = RoundLabels(state).files
    return dict(zip(distinct_stems(files), files, strict=True))


def finish(state: Round) -> LabelReport:
    """Write what a labelled round leaves, the report last; each file is the same however often the
    round was interrupted."""
    store, asked, pictures = state.store, state.asked, RoundLabels(state)
    labels = state.name("labels")
    target = store.path(labels)
    kind, names, tolerance = asked["format"], asked["names"], asked["tolerance"]
    if not store.remote:
        remove_leftovers(store.path(state.name("")))
    with TemporaryDirectory(prefix="segic_d2-") as folder:
        part = Path(folder) / "labels"
        if not store.remote and store.exists(labels):  # complete, for it appears as a whole
            name = write_annotations(kind, [], part, names, tolerance)
        elif store.remote:
            name = write_annotations(kind, pictures, part, names, tolerance)
            store.upload(part, labels)
        else:
            with whole_folder(target) as part:
                name = write_annotations(kind, pictures, part, names, tolerance)
        name = name.replace(str(part), target)
    previous = Round(store, state.number - 1) if state.number > 1 else None
    rows, similar = [], []
    before = {place.file: place for place in previous.places()} if previous else {}
    for place in state.places():
        record = state.record(place)
        rows.append(Row.of(place, record))
        if previous and place.file in before:
            old = previous.record(before[place.file])
            if "error" not in old and "error" not in record:
                similar.append(_likeness(old, record))
    rows.sort(key=Row.rank)
    store.write(state.name("review.csv"), csv_text(rows))
    store.write(state.name("review.html"), contact_sheet(state, rows, pictures.titles))
    report = LabelReport(
        number=state.number,
        pictures=len(pictures),
        given=len(state.given),
        doubtful=sum(row.doubtful for row in rows),
        unreadable=sum(bool(row.error) for row in rows),
        changed=sum(x < CHANGED for x in similar) if previous else None,
        similar=sum(similar) / len(similar) if similar else None,
        tuned=asked.get("tuned", {}).get("text", ""),
        name=name,
        review=store.path(state.name("review.csv")),
        sheet=store.path(state.name("review.html")),
    )
    store.write(state.name("report.json"), json.dumps(asdict(report)))
    return report


def report_of(state: Round) -> LabelReport:
    """The report of a finished round."""
    return LabelReport(**json.loads(state.store.read(state.name("report.json"))))


def _likeness(old: Record, new: Record) -> float:
    """The mean IoU of the classes that one of two records shows; 1 where none does."""
    a, b = class_masks(old), class_masks(new)
    found = []
    for name in sorted(set(a) | set(b)):
        if name in a and name in b:
            found.append(float((a[name] & b[name]).sum() / (a[name] | b[name]).sum()))
        else:
            found.append(0.0)
    return sum(found) / len(found) if found else 1.0
