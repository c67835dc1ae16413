"""What every format is read into and written from: pictures with the things marked in them.

A million polygons as Python lists take gigabytes. A set keeps them in a few flat arrays, and makes
the record of a picture when it is asked for.
"""

import math
from abc import ABC, abstractmethod
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, overload

import numpy as np

from ...utils.texts import printable
from ..masks import IGNORE_LABEL, VOID_16, read_label_map
from ..pictures import image_size
from ..rle import CocoMask, decode, ring_fault, rle_fault

Size = tuple[int, int]
REDRAW = "correct or delete it in the labelling tool"
SHARES = "within the first pixel (coordinates are px, not shares of the sides)"
UNLABELLED = "tasks that nobody has labelled"
FAULTS = 1000  # that are kept as text; the others are counted


def read_map(file: str, size: Size, picture: str) -> np.ndarray:
    """A label map, int32 (H, W) = ``size``, of a picture. ValueError: of another size, as its head
    says already, so that it is not decoded; and as of ``read_label_map``."""
    if image_size(file) != size or (labels := read_label_map(file)).shape != size:
        height, width = image_size(file)
        raise ValueError(
            f"{file} is {width}x{height} px, another size than {picture}, {size[1]}x{size[0]} px"
        )
    return labels


class Thing(NamedTuple):
    """One marked thing of a picture: the index of its class, its mask as polygons or RLE, whether
    it is a crowd, its id in the file, for messages, and its area there, px, NaN where there is
    none."""

    label: int
    segmentation: CocoMask
    crowd: bool = False
    id: object = None
    area: float = math.nan


@dataclass
class Annotated:
    """A picture (H, W) = ``size`` as displayed, and what is marked in it.

    Attributes:
        names: the classes that ``Thing.label`` counts. split: "train", "val", …, or "".
        label_file: a label map in place of things, whose values are labels; 255 and 65535: ignored.
        doubt: how doubtful the labels are, [0, 1], where a model made them. doubtful: somebody
            should look at them. given: somebody made
            them, so that their polygons are not simplified when they are written.
    """

    file_name: str
    size: Size
    names: Sequence[str]
    things: list[Thing] = field(default_factory=list)
    image_id: Any = None
    split: str = ""
    label_file: str = ""
    doubt: float | None = None
    doubtful: bool = False
    given: bool = False

    def masks(self) -> dict[str, np.ndarray]:
        """All pixels of each class that the picture shows, bool (H, W), crowds left out.
        ValueError: naming a label map that cannot be read, has another size, or, where classes are
        named, a value that none of them has."""
        found: dict[str, np.ndarray] = {}
        if self.label_file:
            labels = read_map(self.label_file, self.size, self.file_name)
            for value in np.unique(labels).tolist():
                if value in (0, IGNORE_LABEL, VOID_16):
                    continue
                if value >= len(self.names) > 1:
                    raise ValueError(
                        f"{self.label_file} has the value {value}; its classes are 0 to "
                        f"{len(self.names) - 1}"
                    )
                name = self.names[value] if value < len(self.names) else f"class {value}"
                if name != "background":
                    found[name] = labels == value
        for thing in self.things:
            if not thing.crowd:
                mask = decode(thing.segmentation, *self.size, self.file_name)
                name = self.names[thing.label]
                found[name] = found[name] | mask if name in found else mask
        return found


class Pictures(Sequence[Annotated], ABC):
    """Pictures of which each is made when it is asked for, by ``picture(row)``."""

    @abstractmethod
    def picture(self, row: int) -> Annotated:
        """One picture; ``row`` is 0 or more."""

    @overload
    def __getitem__(self, row: int) -> Annotated: ...
    @overload
    def __getitem__(self, row: slice) -> list[Annotated]: ...
    def __getitem__(self, row: int | slice) -> Annotated | list[Annotated]:
        if isinstance(row, slice):
            return [self[i] for i in range(len(self))[row]]
        return self.picture(range(len(self))[row])


class AnnotationSet(Pictures):
    """The pictures of a file or folder; ``add_picture`` and ``add`` fill it.

    Attributes:
        place: for messages. names: of the classes. faults: one line each for what is wrong; what
        has a fault is not in the set. notes: how often something harmless was left out.
    """

    def __init__(self, place: str, names: Iterable[str] = ()) -> None:
        self.place, self.names = place, list(names)
        self.faults: list[str] = []
        self.more_faults = 0
        self.notes: Counter[str] = Counter()
        self._pictures: list[tuple[str, Size, Any, str, str]] = []
        self._owner, self._label, self._crowd = array("q"), array("q"), array("b")
        self._ids: list[Any] = []
        self._area = array("d")
        self._rings_end, self._xy_end, self._xy = array("q", [0]), array("q", [0]), array("d")
        self._rles: dict[int, dict[str, Any]] = {}
        self._order: tuple[np.ndarray, np.ndarray] | None = None

    def fault(self, text: str) -> None:
        """Note what is wrong with something that is left out."""
        if len(self.faults) < FAULTS:
            self.faults.append(printable(text))
        else:
            self.more_faults += 1

    def leave_out(self, kind: str) -> None:
        """Count a shape that is no mask, such as a box."""
        self.notes[f"of the kind {kind}"] += 1

    def label(self, name: str) -> int:
        """The index of a class, which is appended where it is new."""
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def add_picture(
        self, file: str, size: Size, image_id: Any = None, split: str = "", label_file: str = ""
    ) -> int:
        """Add a picture; returns its row."""
        row = len(self._pictures)
        image_id = row if image_id is None else image_id
        self._pictures.append((file, size, image_id, split, label_file))
        return row

    def file(self, row: int) -> str:
        """The file of a picture."""
        return self._pictures[row][0]

    def size(self, row: int) -> Size:
        """(H, W) of a picture."""
        return self._pictures[row][1]

    @property
    def marked(self) -> int:
        """How many things there are."""
        return len(self._owner)

    @property
    def labelled(self) -> bool:
        """Whether pictures have label maps in place of things."""
        return any(label_file for *_, label_file in self._pictures)

    def add(
        self,
        row: int,
        label: int,
        segmentation: Any,
        where: str,
        crowd: bool = False,
        thing_id: object = None,
        area: float = math.nan,
    ) -> bool:
        """Add a thing to the picture ``row``: an RLE, or polygons, flat each. Returns whether it
        was taken: what is no mask is a fault, which begins with ``where``; what lies outside of the
        picture, or has no area, is a note."""
        size = self._pictures[row][1]
        if isinstance(segmentation, dict):
            if reason := rle_fault(segmentation, size):
                self.fault(f"{where}: its RLE {reason}; {REDRAW}")
                return False
            self._rles[len(self._owner)] = {**segmentation, "size": list(size)}  # not as text
        else:
            rings = self._rings(segmentation, size, where)
            if not rings:
                return False
            for ring in rings:
                self._xy.frombytes(ring.tobytes())
                self._xy_end.append(len(self._xy))
        self._rings_end.append(len(self._xy_end) - 1)
        self._owner.append(row)
        self._label.append(label)
        self._crowd.append(crowd)
        self._ids.append(thing_id)
        self._area.append(area)
        self._order = None
        return True

    def _rings(self, polygons: Any, size: Size, where: str) -> list[np.ndarray]:
        """The polygons that have a place in the picture, float64 each; a fault or a note: none."""
        rings, left_out = [], "with fewer than 3 corners"
        for number, polygon in enumerate(polygons, 1):
            try:
                ring = np.array(array("d", polygon))
            except (TypeError, OverflowError):
                values = polygon if isinstance(polygon, list | tuple) else [polygon]
                value = next((v for v in values if not _is_number(v)), polygon)
                shown = repr(value)[:80]
                self.fault(
                    f"{where}: polygon {number} has {shown} where a number belongs; {REDRAW}"
                )
                return []
            if _is_outside(ring, size):
                left_out = "outside of their picture"
                continue
            if ring.size >= 6 and ring[0] <= 1 and -1 <= ring.min() <= ring.max() <= 1 < min(size):
                left_out = SHARES
                continue
            reason = ring_fault(ring, size)
            if reason and ring.size >= 6:
                self.fault(f"{where}: polygon {number} {reason}; {REDRAW}")
                return []
            if not reason:
                rings.append(ring)
        if not rings:
            self.notes[left_out] += 1
        return rings

    def __len__(self) -> int:
        return len(self._pictures)

    def picture(self, row: int) -> Annotated:
        file, size, image_id, split, labels = self._pictures[row]
        if self._order is None:
            owner = np.frombuffer(self._owner, np.int64)
            order = np.argsort(owner, kind="stable")
            self._order = order, np.searchsorted(owner[order], np.arange(len(self) + 1))
        order, starts = self._order
        things = [self._thing(int(i)) for i in order[starts[row] : starts[row + 1]]]
        return Annotated(file, size, self.names, things, image_id, split, labels)

    def _thing(self, i: int) -> Thing:
        segmentation: Any = self._rles.get(i)
        if segmentation is None:
            rings = range(self._rings_end[i], self._rings_end[i + 1])
            segmentation = [self._xy[self._xy_end[r] : self._xy_end[r + 1]].tolist() for r in rings]
        about = bool(self._crowd[i]), self._ids[i], self._area[i]
        return Thing(self._label[i], segmentation, *about)


def _is_outside(ring: np.ndarray, size: Size) -> bool:
    """Whether all corners, which are finite, lie on one side of the picture."""
    if ring.size < 6 or ring.size % 2 or not np.isfinite(ring).all():
        return False
    x, y = ring[::2], ring[1::2]
    return bool(x.max() <= 0 or y.max() <= 0 or x.min() >= size[1] or y.min() >= size[0])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
