"""Folders of images and masks: those that ``folder:`` names, see ``data/datasets/folder.py``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...utils.files import write_picture, write_whole
from ..class_folders import pair_files
from ..masks import VOID_16, read_binary_mask
from ..rle import decode, encode
from .files import add_file, copy_pictures, lines_of, need_folder, pictures_in, start_folder
from .records import Annotated, AnnotationSet
from .registry import ANNOTATION_REGISTRY

LIMIT = 254  # classes in a map of 8 bits, whose 255 is ignored

FILES = ("classes.txt", "masks")  # that are never written over


@ANNOTATION_REGISTRY.register()
class folder:  # the name of the format
    """``folder:FOLDER``: a folder per class with N.jpg and its mask N.png or N_mask.png; or
    ``images/``, ``masks/`` and perhaps ``classes.txt``."""

    files = FILES

    @staticmethod
    def read(place: str) -> AnnotationSet:
        """Read a folder for references; training has a reader of its own, which reads no mask."""
        root, found = need_folder(Path(place), "of images and masks"), AnnotationSet(place)
        if (root / "images").is_dir() and (root / "masks").is_dir():
            _read_maps(found, root)
            return found
        for own in sorted(d for d in root.iterdir() if d.is_dir() and d.name[0] != "."):
            _read_class(found, own)
        if not len(found) and not found.faults:
            raise ValueError(f"{root} has neither class folders nor images/ and masks/")
        return found


@ANNOTATION_REGISTRY.register()
class masks:  # the name of the format
    """Label maps with class names, which ``folder:`` reads."""

    read = folder.read

    @staticmethod
    def write(pictures: Sequence[Annotated], folder: Path) -> str:
        """Write ``images/``, ``masks/`` and ``classes.txt``: one map for each picture, where later
        things cover earlier ones, and 255 is a crowd. ValueError: more than 254 classes."""
        from ...utils.visualizer import entity_colours  # brings Matplotlib

        names = pictures[0].names if pictures else []
        if len(names) > LIMIT:
            raise ValueError(f"{len(names)} classes: a map of 8 bits holds {LIMIT}")
        start_folder(folder, FILES)
        places = copy_pictures(pictures, folder / "images")
        for picture, place in zip(pictures, places, strict=True):
            labels = np.zeros(picture.size, np.int32)
            for thing in sorted(picture.things, key=lambda t: not t.crowd):
                mask = decode(thing.segmentation, *picture.size, picture.file_name)
                labels[mask] = 255 if thing.crowd else thing.label + 1
            image = Image.fromarray(labels.astype(np.uint8)).convert("P")
            image.putpalette(entity_colours().reshape(-1).tolist())
            write_picture(folder / "masks" / f"{place.stem}.png", image)
        lines = "".join(f"{i} {name}\n" for i, name in enumerate(names, 1))
        write_whole(folder / "classes.txt", lines)
        return f"folder:{folder}"


def _read_class(found: AnnotationSet, own: Path) -> None:
    label = found.label(own.name.replace("_", " "))
    pairs, errors = pair_files(own)
    for text in dict.fromkeys(map(str, errors.values())):
        found.fault(text)
    for file, mask in pairs:
        row = add_file(found, file)
        if row is not None:
            try:
                found.add(row, label, encode(read_binary_mask(mask)), str(mask))
            except (ValueError, OSError) as error:
                found.fault(str(error))


def _read_maps(found: AnnotationSet, root: Path) -> None:
    found.names = ["background"]
    if (root / "classes.txt").is_file():
        for number, line in enumerate(lines_of(root / "classes.txt"), 1):
            value, _, name = line.strip().partition(" ")
            if line.strip():
                short = value.isdecimal() and len(value) < 19
                if not short or not name.strip() or int(value) > VOID_16:
                    raise ValueError(
                        f'{root}/classes.txt, line {number}: expected "id name", an id up to '
                        f"{VOID_16}, found {line[:80]!r}"
                    )
                missing = range(len(found.names), int(value) + 1)
                found.names += [f"class {i}" for i in missing]
                found.names[int(value)] = name.strip()
    maps = {f.stem: f for f in pictures_in(root / "masks")}
    for file in pictures_in(root / "images"):
        if file.stem not in maps:
            found.fault(f"image without a mask: {file}; expected {root}/masks/{file.stem}.png")
        else:
            add_file(found, file, label_file=str(maps[file.stem]))
