"""Pictures and masks of the network, which are fetched before they are used."""

import logging
import tempfile
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit


def fetch(place: str, folder: str) -> str:
    """The path of a file: the place itself, or where an http(s) URL was downloaded to, in a folder
    of its own inside ``folder``. FileNotFoundError: naming the URL and why it cannot be had."""
    if not place.startswith(("http://", "https://")):
        return place
    from iopath.common import download  # Detectron2's

    from segic_d2.utils.remote import first_line, unreachable

    reason, parts = unreachable(place), urlsplit(place)
    if reason:
        raise FileNotFoundError(f"{place}: {reason}")
    own = Path(tempfile.mkdtemp(dir=folder)) / (parts.hostname or "host")
    name = PurePosixPath(unquote(parts.path)).name or "picture"
    logging.getLogger(download.__name__).disabled = True  # it says twice what it raises
    try:
        return download.download(place, str(own), filename=name, progress=False)
    except (OSError, HTTPException) as error:
        raise FileNotFoundError(f"{place}: {first_line(error)}") from error
