"""Predicted masks of videos → the ZIP file that a benchmark's server takes."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..utils.files import AnyPath, whole_file
from .pictures import opened

TOP = {  # benchmark → the folder above those of the videos; DAVIS's server refuses any
    "davis17": "",
    "mose": "",
    "ytvos": "Annotations/",
    "lvos": "Annotations/",
}
MODES = ("P", "L")  # one channel of 8 bits
WHEN = (1980, 1, 1, 0, 0, 0)  # so that equal masks make equal files


def write_submission(
    file: AnyPath, folder: AnyPath, frames: Mapping[str, Sequence[str]], benchmark: str
) -> None:
    """Write the ZIP file of a benchmark's test server: davis17, mose, ytvos, lvos.

    Args:
        file: the ZIP file.
        folder: the predictions, ``<video>/<frame>.png``.
        frames: by video, the names of all frames that the server wants. Nothing else enters.
        benchmark: whose layout it has: the folders of the videos at the top, or in "Annotations".

    Raises:
        ValueError: an unknown benchmark, no video, a mask that is not of one channel of 8 bits,
            masks of a video of two sizes; the file is named.
        FileNotFoundError: masks are missing; the first one, and how many.
    """
    if benchmark not in TOP:
        raise ValueError(f"the benchmark is {benchmark!r}: choose one of {', '.join(TOP)}")
    if not any(frames.values()):
        raise ValueError(f"{file}: there is no frame to submit")
    listed = {
        video: [Path(folder, video, f"{name}.png") for name in sorted(names)]
        for video, names in sorted(frames.items())
    }
    missing = [path for paths in listed.values() for path in paths if not path.is_file()]
    if missing:
        count = sum(map(len, listed.values()))
        raise FileNotFoundError(f"{len(missing)} of {count} masks are missing: {missing[0]} …")
    for paths in listed.values():
        _check(paths)
    with whole_file(file) as part, zipfile.ZipFile(part, "w") as archive:  # PNGs are compressed
        for video, paths in listed.items():
            for path in paths:
                entry = zipfile.ZipInfo(f"{TOP[benchmark]}{video}/{path.name}", WHEN)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, path.read_bytes())


def _check(paths: Sequence[Path]) -> None:
    """ValueError: masks that the server cannot read as ids of one video."""
    first: tuple[int, int] | None = None
    for path in paths:
        with opened(path, decode=False) as image:
            mode, size = image.mode, image.size
        if mode not in MODES:
            raise ValueError(f"{path} has the mode {mode!r}: ids are one channel of 8 bits")
        first = first or size
        if size != first:
            raise ValueError(
                f"{path} is {size[0]}x{size[1]} px, {paths[0].name} {first[0]}x{first[1]} px"
            )
