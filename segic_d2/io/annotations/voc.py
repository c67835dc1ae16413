"""PASCAL VOC's folders of label maps, as CVAT ("Segmentation mask") and labelme write them too."""

from pathlib import Path

import numpy as np

from ..pictures import image_size, opened
from ..rle import encode
from .files import lines_of, need_folder, pictures_in
from .records import AnnotationSet
from .registry import ANNOTATION_REGISTRY

# of PASCAL VOC, by the values of its maps
CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
VOID = 255
Colour = tuple[int, int, int]
COLOURED_VOID = (224, 224, 192)  # of VOC's palette at 255


@ANNOTATION_REGISTRY.register()
class voc:  # the name of the format
    """``voc:FOLDER``, or ``voc:FOLDER:SPLIT`` with a list in ``ImageSets/Segmentation``."""

    @staticmethod
    def read(place: str) -> AnnotationSet:
        """Read ``JPEGImages/`` and ``SegmentationClass/``. The classes are those of
        ``labelmap.txt`` (name:r,g,b), of ``class_names.txt`` (a line for each value), or VOC's.
        Coloured maps, which need ``labelmap.txt``, become a thing for each class."""
        root, split = _parts(place)
        images = need_folder(root / "JPEGImages", "of the pictures")
        maps = need_folder(root / "SegmentationClass", "of the label maps")
        colours = _labelmap(root / "labelmap.txt")
        found = AnnotationSet(place, colours or _names(root))
        pictures = {p.relative_to(images).with_suffix(""): p for p in pictures_in(images)}
        pngs = (p for p in pictures_in(maps) if p.suffix.lower() == ".png")
        files = {p.relative_to(maps).with_suffix(""): p for p in pngs}
        for stem, listed in _listed(root, maps, split).items():
            map_file = files.get(stem, maps / f"{stem}.png")
            if stem not in pictures:
                found.fault(f"mask without an image: {map_file}; expected {images / stem}.jpg")
            elif not map_file.is_file():
                found.fault(f"image without a mask: {pictures[stem]}; expected {map_file}")
            else:
                _add(found, pictures[stem], map_file, listed, colours)
        return found


def _add(
    found: AnnotationSet, picture: Path, map_file: Path, split: str, colours: dict[str, Colour]
) -> None:
    try:
        with opened(map_file, decode=False) as image:
            ordered = next(iter(colours), "background") == "background"
            plain = image.mode in ("1", "L") or image.mode.startswith("I")
            indexed = image.mode == "P" and (not colours or _agrees(image.getpalette(), colours))
            as_ids = ordered and (plain or indexed)
            width, height = image.size
        if not as_ids and not colours:
            raise ValueError(f"{map_file} is coloured, and no labelmap.txt names its colours")
        size = image_size(picture)
        if (height, width) != size:  # of which nothing is decoded
            raise ValueError(f"{map_file} is {width}x{height} px, its image {size[1]}x{size[0]} px")
        if as_ids:
            found.add_picture(str(picture), size, split=split, label_file=str(map_file))
            return
        with opened(map_file) as image:
            coloured = np.asarray(image.convert("RGB"))
        row = found.add_picture(str(picture), size, split=split)
        _add_colours(found, row, coloured, map_file, colours)
    except (ValueError, OSError) as error:
        found.fault(str(error))


def _add_colours(
    found: AnnotationSet, row: int, map_: np.ndarray, file: Path, colours: dict[str, Colour]
) -> None:
    codes = map_.astype(np.int64) @ (1 << 16, 1 << 8, 1)
    known = {int(np.dot(c, (1 << 16, 1 << 8, 1))): i for i, c in enumerate(colours.values())}
    void = int(np.dot(COLOURED_VOID, (1 << 16, 1 << 8, 1)))
    for code in np.unique(codes).tolist():
        label = known.get(code)
        if label is None and code not in (0, void):
            colour = (code >> 16, code >> 8 & 255, code & 255)
            found.fault(f"{file} shows the colour {colour}, which labelmap.txt does not name")
        elif label is not None and found.names[label] != "background":
            found.add(row, label, encode(codes == code), str(file))


def _parts(place: str) -> tuple[Path, str]:
    """The folder and the split."""
    folder, colon, split = place.rpartition(":")
    if colon and not Path(place).is_dir() and not set(split) & set("/\\"):
        return need_folder(Path(folder), "of VOC's layout"), split
    return need_folder(Path(place), "of VOC's layout"), ""


def _listed(root: Path, maps: Path, split: str) -> dict[Path, str]:
    """The stems and the split of each; those of all maps where no split is asked for."""
    lists = root / "ImageSets" / "Segmentation"
    if split:
        if not (lists / f"{split}.txt").is_file():
            raise FileNotFoundError(f"no such file: {lists / split}.txt")
        return {Path(stem): split for stem in _lines(lists / f"{split}.txt")}
    of = {Path(s): f.stem for f in sorted(lists.glob("*.txt")) for s in _lines(f)}
    for name in ("val", "train"):  # which trainval, read before, has too
        if (lists / f"{name}.txt").is_file():
            of |= {Path(s): name for s in _lines(lists / f"{name}.txt")}
    stems = (f.relative_to(maps).with_suffix("") for f in pictures_in(maps))
    found = {stem: of.get(stem, "") for stem in stems}
    if not found:
        raise FileNotFoundError(f"no label maps in {maps}")
    return found


def _lines(file: Path) -> list[str]:
    lines = (line.split() for line in lines_of(file))
    return [line[0] for line in lines if line]


def _names(root: Path) -> list[str]:
    file = root / "class_names.txt"
    if not file.is_file():
        return list(CLASSES)
    names = [line.strip() for line in lines_of(file)]
    return ["background" if n == "_background_" else n for n in names if n and n != "__ignore__"]


def _labelmap(file: Path) -> dict[str, Colour]:
    """{name: colour}, {} if there is no file. ValueError: the line that is none."""
    if not file.is_file():
        return {}
    found: dict[str, Colour] = {}
    for number, line in enumerate(lines_of(file), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, rest = line.partition(":")
        try:
            red, green, blue = (int(v) for v in rest.split(":")[0].split(","))
        except ValueError as error:
            shown = repr(line[:80])
            raise ValueError(f"{file}, line {number}: expected name:r,g,b, not {shown}") from error
        if not all(0 <= v <= 255 for v in (red, green, blue)):
            raise ValueError(f"{file}, line {number}: {red},{green},{blue} is no colour up to 255")
        found[name.strip()] = (red, green, blue)
    return found


def _agrees(palette: list[int] | None, colours: dict[str, Colour]) -> bool:
    """Whether the values of a palette are the lines of ``labelmap.txt``."""
    shown = np.array(palette or []).reshape(-1, 3)[: len(colours)].tolist()
    return shown == [list(c) for c in colours.values()]
