"""What was found in a video's frames → one JSON file, as results of YouTube-VIS are.

A list of objects, each with "video_id", "id", "name", "category_id", "score" (the mean of those of
frames that show it), "scores" and "segmentations": a number and an RLE, or null, for each frame.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..structures.segmentation import Segmentation
from ..utils.files import AnyPath, whole_file
from .rle import encode

HEAD = 4096  # bytes that tell whose a file is


@dataclass
class _Track:
    """Of an object: what is the same in all frames, and where the lines are that name it."""

    name: str | None
    category: int
    offset: int  # of its first line
    first: int  # frames
    last: int
    total: float = 0.0
    shown: int = 0


class TrackWriter(AbstractContextManager[Any]):
    """Writes a line for each frame beside the file, PATH with .jsonl in place of .json, and at the
    end the file from these lines, which then go; what it holds grows with the objects alone.

    ``video_id`` is the video's name. ValueError: a file is there already that is not of results of
    this video.
    """

    def __init__(self, path: AnyPath, video_id: str) -> None:
        self.path, self._lines = Path(path), Path(path).with_suffix(".jsonl")
        self._about = json.dumps({"video_id": video_id})[:-1]
        for file in (self.path, self._lines):
            if os.path.lexists(file) and not self._is_own(file):
                raise ValueError(
                    f"{file}: it is there already and holds no results of {video_id}, which alone "
                    "are written over: give another folder"
                )
        self._tracks: dict[int, _Track] = {}
        self._frames, self._offset = 0, 0
        self._file: IO[bytes] | None = None

    def _is_own(self, path: Path) -> bool:
        with open(path, "rb") as file:
            head = file.read(HEAD).decode(errors="replace")
        if path == self.path and re.fullmatch(r"\[\s*\]\s*", head):
            return True
        return bool(re.match(r"(\[\s*)?" + re.escape(self._about), head)) or not head

    def write(self, number: int, result: Segmentation | None) -> None:
        """Add a frame, numbers ascending; None: nothing is followed yet. Frames between that are
        never written count as frames that show nothing."""
        if self._file is None:
            self._lines.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._lines, "wb")  # noqa: SIM115  closed by `close`
        objects: dict[str, Any] = {}
        self._frames = number + 1
        for row, i in enumerate(result.ids if result is not None else ()):
            assert result is not None
            mask, score = result.masks[row], round(float(result.scores[row]), 6)
            shown = bool(mask.any())
            objects[str(i)] = {"score": score, "segmentation": encode(mask) if shown else None}
            category = i if result.classes is None else int(result.classes[row])
            new = _Track(result.names[row], category, self._offset, number, number)
            track = self._tracks.setdefault(i, new)
            track.last = number
            track.total, track.shown = track.total + score * shown, track.shown + shown
        line = self._about + f', "frame": {number}, "objects": {json.dumps(objects)}}}\n'
        self._file.write(line.encode())
        self._file.flush()
        self._offset += len(line)

    def close(self) -> None:
        """Write the file; without a frame there is none."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        with (
            whole_file(self.path) as part,
            open(part, "w", encoding="utf-8") as out,
            open(self._lines, "rb") as lines,
        ):
            out.write("[")
            for k, (i, track) in enumerate(sorted(self._tracks.items())):
                score = round(track.total / max(track.shown, 1), 6)
                about = {"id": i, "name": track.name, "category_id": track.category, "score": score}
                out.write(f"{',' if k else ''}\n{self._about}, {json.dumps(about)[1:-1]}")
                for key in ("score", "segmentation"):
                    out.write(f', "{key}s": [')
                    for n, value in enumerate(self._values(lines, str(i), track, key)):
                        out.write(f"{', ' if n else ''}{value}")
                    out.write("]")
                out.write("}")
            out.write("\n]\n")
        with suppress(OSError):
            self._lines.unlink()

    def _values(self, lines: IO[bytes], i: str, track: _Track, key: str) -> Iterator[str]:
        """The JSON of an object in each frame, "null" where it has none."""
        lines.seek(track.offset)
        number = 0
        while number <= track.last:
            row = json.loads(lines.readline())
            for _ in range(row["frame"] - number):
                yield "null"
            yield json.dumps(row["objects"].get(i, {}).get(key))
            number = row["frame"] + 1
        for _ in range(self._frames - number):
            yield "null"

    def __exit__(self, *_: object) -> None:
        self.close()
