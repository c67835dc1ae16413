"""Reads which files the lists and annotations of a data set name, for datasets/verify.py."""

import gzip
import json
from pathlib import Path

from segic_d2.data.benchmarks.safe_pickle import read_plain_pickle


def read_list(path):
    """Read a list: the lines of a .txt that are not empty, else the content of the file.

    Args:
        path: Path of a .txt, .pkl (plain containers only), .json or .json.gz.

    Raises:
        OSError, EOFError, ValueError: the file cannot be read.
    """
    if path.suffix == ".txt":
        lines = path.read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip()]
    if path.suffix == ".pkl":
        return read_plain_pickle(path)
    data = path.read_bytes()
    return json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)


def names_in(content):
    """The different names of a list, or of a dict class → list of names.

    Raises:
        ValueError: it is neither.
    """
    lists = content.values() if isinstance(content, dict) else [content]
    if not all(isinstance(names, list) for names in lists):
        raise ValueError("it holds no lists of names")
    return {str(name) for names in lists for name in names}


def listed_stems(root, places):
    """File names, without folder and suffix, from all places that exist and can be read.

    Args:
        root: Path that the places are relative to.
        places: of lists (see ``read_list``; PASCAL-5i's ``name__class`` are names), of
            annotations in COCO's form, or ``folder/*.jpg``; or tuples of places, of which the first
            that exists counts.

    Returns:
        sorted list of str; it is empty if none of the places exists.
    """
    stems = set()
    for place in places:
        for path in (place,) if isinstance(place, str) else place:
            found = [root / path] if "*" not in path else sorted(root.glob(path))
            if found and found[0].is_file():
                stems |= {f.stem for f in found} if "*" in path else _stems_in(found[0])
                break
    return sorted(stems)


def _stems_in(path):
    try:
        content = read_list(path)
        if isinstance(content, dict) and isinstance(content.get("images"), list):
            names = {i.get("file_name") or i["coco_url"] for i in content["images"]}
        else:
            names = names_in(content)
    except (OSError, EOFError, ValueError, KeyError, AttributeError):
        return set()  # the file's own part says that it is damaged
    return {Path(name).stem.partition("__")[0] for name in names}
