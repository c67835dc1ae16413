"""What a round of labelling has on disk, so that it goes on after whatever ended it.

    round-1/label.json           what was asked; written when all below but the chunks is there
    round-1/context.safetensors  the references, encoded
    round-1/plan.json            the pictures, in order; a chunk is CHUNK of them
    round-1/given.json           records of corrected pictures, which are not labelled
    round-1/chunks/000000.json   the records of a chunk, written whole when all of it is labelled

A chunk is the unit of work, whoever does it: its pictures are always the same and are segmented in
the same batches, so that the results do not depend on processes and interruptions.
"""

import json
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeAlias

from ...structures.context import Context
from ...utils.store import Store

BATCHES = 8  # in a chunk
HELD = 4  # chunks that are kept in memory
GIVEN = -1

# of a picture: "file"; then "error", or "size" (H, W), "names", "things" (index of the name, score,
# counts of the RLE), "doubt", "most" and "why", see ``Doubt``; "given": somebody's, not ours
Record: TypeAlias = dict[str, Any]


class Place(NamedTuple):
    """Where the record of a picture is: the row in a chunk, or ``GIVEN``."""

    file: str
    chunk: int
    row: int


class Round:
    """One round. Errors of ``Store``."""

    def __init__(self, store: Store, number: int) -> None:
        self.store, self.number = store, number
        self._plan: list[str] | None = None
        self._given: dict[str, Record] | None = None
        self._chunks: OrderedDict[int, list[Record]] = OrderedDict()

    def name(self, file: str) -> str:
        """The name of one of its files in the store."""
        return f"round-{self.number}/{file}"

    @property
    def begun(self) -> bool:
        """Whether it was begun."""
        return self.store.exists(self.name("label.json"))

    @property
    def finished(self) -> bool:
        """Whether all is labelled and written."""
        return self.store.exists(self.name("report.json"))

    @property
    def asked(self) -> dict[str, Any]:
        """What was asked for."""
        return self._json("label.json")

    def begin(
        self,
        asked: dict[str, Any],
        context: Context,
        pictures: Sequence[str],
        given: Sequence[Record] = (),
    ) -> None:
        """Write what the round needs; ``given``: records that count in place of labelling."""
        self._write("plan.json", list(pictures))
        self._write("given.json", list(given))
        with TemporaryDirectory() as folder:
            file = Path(folder) / "context.safetensors"
            context.save(file)
            self.store.write(self.name("context.safetensors"), file.read_bytes())
        self._write("label.json", asked)

    def check(self, asked: dict[str, Any], context: Context | None) -> None:
        """ValueError: the round was begun with other arguments or references."""
        before = self.asked
        for key, value in asked.items():
            if before.get(key) != value:
                raise ValueError(
                    f"{self.store.path(self.name('label.json'))}: the round was begun with "
                    f"{key} {before.get(key)!r}, now it is {value!r}; give another --output"
                )
        if context is not None and not _alike(context, self.context()):
            raise ValueError(
                f"{self.store.path(self.name('context.safetensors'))}: the round was begun with "
                "other references; give another --output"
            )

    def context(self) -> Context:
        """The references, encoded, on the CPU."""
        with TemporaryDirectory() as folder:
            file = Path(folder) / "context.safetensors"
            file.write_bytes(self.store.read(self.name("context.safetensors")))
            return Context.load(file)

    @property
    def plan(self) -> list[str]:
        """The pictures, in order."""
        if self._plan is None:
            self._plan = self._json("plan.json")
        return self._plan

    @property
    def given(self) -> dict[str, Record]:
        """The records of corrected pictures, by file."""
        if self._given is None:
            self._given = {r["file"]: r for r in self._json("given.json")}
        return self._given

    def chunk_size(self) -> int:
        """Pictures in a chunk."""
        return self.asked["batch"] * BATCHES

    def missing(self) -> list[int]:
        """The chunks that nobody has labelled yet."""
        names = self.store.names(self.name("chunks"))
        done = {int(n.removesuffix(".json")) for n in names if n.endswith(".json")}
        return [i for i in range(math.ceil(len(self.plan) / self.chunk_size())) if i not in done]

    def files(self, chunk: int) -> list[str]:
        """The pictures of a chunk that are to be labelled."""
        size = self.chunk_size()
        own = self.plan[chunk * size : (chunk + 1) * size]
        return [f for f in own if f not in self.given]

    def add(self, chunk: int, records: Sequence[Record]) -> None:
        """Write the records of a chunk."""
        self._write(f"chunks/{chunk:06d}.json", list(records))

    def forget(self, chunk: int) -> None:
        """Remove the records of a chunk."""
        self.store.remove(self.name(f"chunks/{chunk:06d}.json"))
        self._chunks.pop(chunk, None)

    def places(self) -> Iterator[Place]:
        """Where the records of all pictures are, in order."""
        size = self.chunk_size()
        row = 0
        for i, file in enumerate(self.plan):
            row = 0 if i % size == 0 else row
            given = file in self.given
            yield Place(file, i // size, GIVEN if given else row)
            row += not given

    def record(self, place: Place) -> Record:
        """The record of a picture."""
        if place.row == GIVEN:
            return self.given[place.file]
        return self.records_of(place.chunk)[place.row]

    def records_of(self, chunk: int) -> list[Record]:
        """The records of a chunk, without given ones."""
        if chunk not in self._chunks:
            self._chunks[chunk] = self._json(f"chunks/{chunk:06d}.json")
            if len(self._chunks) > HELD:
                self._chunks.popitem(last=False)
        return self._chunks[chunk]

    def _json(self, file: str) -> Any:
        return json.loads(self.store.read(self.name(file)))

    def _write(self, file: str, value: Any) -> None:
        self.store.write(self.name(file), json.dumps(value, ensure_ascii=True))


def _alike(one: Context, other: Context) -> bool:
    """Whether two contexts are of the same references, encoded perhaps by other processors."""
    if (one.ids, one.names, one.task) != (other.ids, other.names, other.task):
        return False
    if one.fingerprint != other.fingerprint or one.shots.shape != other.shots.shape:
        return False
    pairs = ((one.tensors[k].cpu().float(), other.tensors[k].float()) for k in one.tensors)
    means = [(float(a.mean()), float(b.mean())) for a, b in pairs]
    return all(math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-4) for a, b in means)
