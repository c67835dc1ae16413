"""Which files are pictures by their names, and which of them this installation reads."""

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image, features

from ..utils.files import AnyPath
from ..utils.remote import is_web_address

ALWAYS = (
    ".jpg",
    ".jpeg",
    ".jfif",
    ".png",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".gif",
    ".ppm",
    ".pgm",
)
HEIF = (".heic", ".heif")
IMAGE_SUFFIXES = (*ALWAYS, ".jp2", ".avif", *HEIF)

logger = logging.getLogger(__name__)


def suffix_of(path: AnyPath) -> str:
    """The suffix of a path or web address, whose query does not count, in lower case; "": none."""
    if is_web_address(path):
        with contextlib.suppress(ValueError):  # no address, which shows when it is read
            path = urlsplit(str(path)).path
    return os.path.splitext(path)[1].lower()


@cache
def lacking(suffix: str) -> str:
    """What this installation lacks to read pictures of a suffix, as one does it; "": nothing, or
    it is no suffix of pictures."""
    known, suffix = _known(), suffix.lower()
    if suffix == ".jp2":
        return "" if features.check_codec("jpg_2000") else "install a Pillow with OpenJPEG"
    if suffix == ".avif":
        return "" if suffix in known else "pip install 'pillow>=11.3'"
    return "" if suffix not in HEIF or suffix in known else "pip install pillow-heif"


@cache
def _known() -> set[str]:
    """The suffixes that Pillow knows, after it was taught HEIC where that is possible."""
    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return set(Image.registered_extensions())


def pictures_among(files: Iterable[AnyPath]) -> list[Path]:
    """The pictures among a folder's files, by their suffixes. Of those that this installation does
    not read the log says how many are passed over, and what it lacks."""
    found, passed = [], Counter[str]()
    for file in map(Path, files):
        suffix = file.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            if lacking(suffix):
                passed[suffix] += 1
            else:
                found.append(file)
    for suffix, count in passed.items():
        noun = "file" if count == 1 else "files"
        were = "was" if count == 1 else "were"
        logger.warning("%d %s of %s %s passed over: %s", count, noun, suffix, were, lacking(suffix))
    return found
