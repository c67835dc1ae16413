"""Checks whether a data set is whole and where it belongs, for datasets/verify.py."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from segic_d2.data.health.verify import fault
from segic_d2.data.records import File
from segic_d2.data.videos.sets import SETS, find_set
from trees.expected import GROUPS, TREES
from trees.listed import listed_stems, names_in, read_list

IMAGES = {".jpg": "image", ".png": "labels", ".tif": "labels"}
NAMED = 5  # classes or files in one line


def known_sets():
    """The names that ``verify_tree`` takes."""
    return [*TREES, *GROUPS]


def verify_tree(name, root, full=False):
    """Look for all files of a data set.

    Args:
        name: of ``expected.TREES`` or ``expected.GROUPS``.
        root: as ``$DETECTRON2_DATASETS``.
        full: also read every image and label map, and parse every JSON file.

    Returns:
        (lines that say what is missing, lines that say what is there or optional).

    Raises:
        ValueError: no such data set.
    """
    if name not in TREES and name not in GROUPS:
        raise ValueError(f"no data set {name!r}; there are: {', '.join(known_sets())}")
    missing, fine = [], []
    for part in dict.fromkeys(p for n in GROUPS.get(name, (name,)) for p in TREES[n]):
        faults, there = _verify_part(part, Path(root), full)
        why = f" ({part.why})" if part.why and faults else ""
        target = fine if part.optional else missing
        target += [f"{'optional: ' * part.optional}{text}{why}" for text in faults]
        fine += [] if faults else there
    if not missing:
        for own in (n for n in GROUPS.get(name, (name,)) if n in SETS):
            faults, there = _verify_videos(own, root, full)
            missing, fine = missing + faults, fine + there
    return list(dict.fromkeys(missing)), list(dict.fromkeys(fine))


def _verify_videos(name, root, full):
    """What the reader of a set says; with ``full`` also of every mask and frame."""
    home = find_set(name, root)
    try:
        clips = SETS[name].read(home)
    except (OSError, ValueError) as error:
        return [str(error)], []
    faults = []
    for clip in clips if full else ():
        try:
            clip.check(full=True)
        except (OSError, ValueError) as error:
            faults.append(str(error))
    files = [Path(file) for clip in clips for file in clip.frames.values()]
    faults += _read(files) if full else []
    return faults, [f"{home}: {len(clips)} videos, {len(files):,} frames"]


def _verify_part(part, root, full):
    path = _first(root, part.paths, part.pattern)
    if path is None:
        what = "folder" if part.pattern else "file"
        return [f"no {what} {root / part.paths[0]}{_others(root, part.paths[1:])}"], []
    if not part.pattern:
        return _verify_file(part, path, full)
    if part.lists:
        return _verify_classes(part, path, root, full)
    files = sorted(path.glob(part.pattern))
    faults = _wrong_count(f"{path}/{part.pattern}", len(files), part.count)
    faults += _lost(part, path, files, root)
    return faults + (_read(files) if full else []), [f"{path}/{part.pattern}: {len(files)}"]


def _others(root, paths):
    if len(paths) > 2:
        return f", nor one of the {len(paths)} other places that are searched"
    return "".join(f", nor {root / path}" for path in paths)


def _first(root, paths, folder):
    there = Path.is_dir if folder else Path.is_file
    return next((root / p for p in paths if there(root / p)), None)


def _wrong_count(what, number, expected):
    if number == 0:
        return [f"nothing at {what}" + (f", expected {expected:,} files" if expected else "")]
    if expected is None or number == expected:
        return []
    verb = f"{expected - number:,} missing" if number < expected else "too many"
    return [f"{what}: {number:,} files, expected {expected:,}: {verb}"]


def _lost(part, path, files, root):
    """One line that names files which lists or annotations name and which do not exist."""
    if not files or len(files) == part.count:
        return []
    there = {file.stem for file in files}
    stems = [stem for stem in listed_stems(root, part.listed) if stem not in there]
    if not stems:
        return []
    named = ", ".join(part.pattern.replace("*", stem) for stem in stems[:NAMED])
    more = f" and {len(stems) - NAMED:,} more" if len(stems) > NAMED else ""
    return [f"not in {path}: {named}{more}"]


def _verify_file(part, path, full):
    if path.stat().st_size == 0:
        return [f"{path} is empty"], []
    if part.entries is not None:
        try:
            number = count_entries(path)
        except (OSError, ValueError, EOFError) as error:
            return [f"cannot read {path}: {error}"], []
        if number != part.entries:
            return [f"{path}: {number:,} entries, expected {part.entries:,}"], []
        return [], [f"{path}: {number:,} entries"]
    if full and path.suffix == ".json":
        try:
            json.loads(path.read_bytes())
        except ValueError as error:
            return [f"cannot read {path}: {error}"], []
    return [], [str(path)]


def count_entries(path):
    """Count the entries of a list: lines that are not empty, or a dict's different names."""
    content = read_list(path)
    return len(content) if path.suffix == ".txt" else len(names_in(content))


def _verify_classes(part, path, root, full):
    paths = (part.lists,) if isinstance(part.lists, str) else part.lists
    file = _first(root, paths, False)
    if file is None:
        return [], []  # the list's own part says so
    names = file.read_text(encoding="utf-8").split()
    wrong, files = [], []
    for name in names:
        found = sorted((path / name).glob(part.pattern.removeprefix("{}/")))
        files += found
        if len(found) != part.count:
            wrong.append(f"{name} ({len(found)})")
    faults = []
    if wrong:
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        faults = [
            f"{path}: {len(wrong)} of {len(names)} classes have not {part.count} "
            f"{part.pattern.removeprefix('{}/')}: {', '.join(wrong[:NAMED])}{more}"
        ]
    return faults + (_read(files) if full else []), [f"{path}: {len(names)} classes"]


def _read(files):
    """Read images and label maps; returns up to ``NAMED`` that cannot be read."""
    asked = [File(str(f), _kind(f)) for f in files if f.suffix in IMAGES or f.suffix == ".json"]
    with ThreadPoolExecutor() as pool:
        faults = [reason for reason in pool.map(_fault, asked) if reason]
    more = [f"and {len(faults) - NAMED} more"] if len(faults) > NAMED else []
    return faults[:NAMED] + more


def _kind(file):
    return IMAGES.get(file.suffix, "json")


def _fault(file):
    if file.kind == "json":
        try:
            json.loads(Path(file.path).read_bytes())
        except ValueError as error:
            return f"cannot read {file.path}: {error}"
        return None
    return fault(file)
