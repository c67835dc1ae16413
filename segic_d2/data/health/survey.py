"""What a dataset holds, and what is wrong with it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ...io.pictures import image_size
from ..datasets.annotated import AnnotatedRecords
from ..index import Source
from ..records import record_files, usable_annotations
from .damaged import ERRORS, leaving_out, one_line
from .verify import verify_files


@dataclass
class Survey:
    """Of a dataset.

    Attributes:
        pictures, objects: their numbers; objects are None where label maps do not tell them apart.
        splits: {split: pictures}. sizes: (H, W) of each picture that can be read.
        classes: (name, pictures, objects or None) of each. left_out: {why: number of annotations}.
        wrong: a line each.
    """

    pictures: int = 0
    objects: int | None = None
    splits: Counter[str] = field(default_factory=Counter)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    classes: list[tuple[str, int, int | None]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def survey(name: str, full: bool = False) -> Survey:
    """Look at a dataset: its annotations, and the head of each picture; ``full`` reads every file.
    FileNotFoundError, ValueError, KeyError: it cannot be loaded at all."""
    found = Survey()
    with leaving_out() as noted:
        try:
            source = Source(name)
        except ERRORS as error:
            if not noted:
                raise
            found.wrong = [d.reason for d in noted.values()] + [one_line(error)]
            return found
    found.wrong = [damage.reason for damage in noted.values()]
    if isinstance(source.records, AnnotatedRecords):
        found.left_out = source.records.pictures.notes
    found.pictures = len(source.records)
    objects, shown = Counter[int](), Counter[int]()
    for record, classes in zip(source.records, source.presence, strict=True):
        found.splits[record.get("split", "")] += 1
        shown.update(classes)
        if source.counts is not None:
            objects.update(a["category_id"] for a in usable_annotations(record))
    if source.counts is not None:
        found.objects = objects.total()
    found.classes = [
        (label, shown[i], objects[i] if source.counts is not None else None)
        for i, label in enumerate(source.names)
        if shown[i] or label != "background"
    ]
    found.wrong += _of_files(source, found.sizes, full)
    if not shown:
        found.wrong.append(f"{name}: no picture shows anything")
    return found


def _of_files(source: Source, sizes: list[tuple[int, int]], full: bool) -> Iterator[str]:
    """What is wrong with pictures, and with mask files where all are read."""
    for record in source.records:
        file = record["file_name"]
        try:
            size = image_size(file)
        except ERRORS as error:
            yield one_line(error)
            continue
        sizes.append(size)
        said = record.get("height", size[0]), record.get("width", size[1])
        if said != size:
            yield (
                f"{file} is {size[1]}x{size[0]} px as displayed, its record says "
                f"{said[1]}x{said[0]} px"
            )
    if full:
        files = dict.fromkeys(f for record in source.records for f in record_files(record))
        yield from (damage.reason for damage in verify_files(files))


def median_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The size (H, W) in the middle, by area."""
    return sorted(sizes, key=lambda s: s[0] * s[1])[len(sizes) // 2]
