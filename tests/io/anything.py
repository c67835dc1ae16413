"""Hypothesis strategies for what people give as masks, pictures and values: right, odd and broken.

Pictures have the size ``SIZE`` as displayed; others are drawn, too.
"""

import io
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image, ImageOps

from segic_d2.io.rle import encode
from tests.io.annotations.test_odd_files import places

SIZE = H, W = 6, 9
IDS = [0, 1, 2, 7, 20, 127, 128, 254, 255, 256, 9999, 65534, 65535, 65536, 2**31 - 1, 2**31]
IDS += [2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -1, -128, -(2**31), -(2**63)]
FLOATS = [0.0, 1.0, 0.5, 0.499, -0.0, 1.001, 2.0, 255.0, 65535.0, 2.0**31, -1.0, 1e-45]
FLOATS += [float("nan"), float("inf"), float("-inf")]
DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", ">u2", ">i4", "e", "f", "d", "g"]
DTYPES += ["F", "O", "U1", "S1", "M8[s]", "V2", "u1,f4"]
SHAPES = [
    *[SIZE] * 12,
    (W, H),
    (2, *SIZE),
    (1, *SIZE),
    (0, *SIZE),
    (*SIZE, 1),
    (*SIZE, 3),
]
SHAPES += [
    (*SIZE, 4),
    (*SIZE, 2),
    (H, W + 1),
    (1, 1, *SIZE),
    (),
    (4,),
    (6,),
    (0, 0),
    (H, 0),
    (3, 2),
]
TEXTS = [
    "",
    "7",
    "a",
    "a\nb",
    "$x_1$",
    "\0",
    "\x1b[31m",
    "\ud800",
    "\u202e",
    "x" * 300,
    "nan",
    "[x",
]
TEXTS += ["https://[x/a.jpg", "9" * 400, "../a", "a.jpg"]
ODD = [None, True, False, 0, 1, -1, 3, 0.5, 1e9, 1e308, float("nan"), float("inf"), [], {}, [[]]]
ODD += [2**31 - 1, 2**31, 2**63, 2**64, 2**70, 10**400, -(2**63), [None], [1, 2], {"a": 1}, *TEXTS]
KEYS = ["counts", "size", "polygon", "box", "points", "labels", "mask", "scribble", "negative"]
KEYS += ["width", "annotations", "shapes", "bbox", "text", "segmentation", ""]

odd = st.recursive(
    st.sampled_from(ODD),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*KEYS, 1]), inner, max_size=3)
    ),
    max_leaves=6,
)
near = st.integers(-1, 9) | st.floats(-1, 9, width=16)
seeds = st.integers(0, 2**32 - 1)


def scattered(values: Any, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """An array of a shape with a few values."""
    array = np.empty(len(values), getattr(values, "dtype", object))
    array[:] = values
    return np.asarray(array[np.random.default_rng(seed).integers(len(values), size=shape)])


@st.composite
def arrays(draw: Any) -> Any:
    """An array of any type, also read-only or with odd strides, or a tensor or lists of it."""
    dtype, shape = np.dtype(draw(st.sampled_from(DTYPES))), draw(st.sampled_from(SHAPES))
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        pool = [i for i in IDS if info.min <= i <= info.max]
        pool = draw(st.sampled_from([pool, [0, 1], [0, 255]]))
    else:
        pool = draw(st.sampled_from([FLOATS, FLOATS[:4]])) if dtype.kind in "fc" else [0, 1]
        pool = ["a", "1"] if dtype.kind in "US" else pool
        pool = [*ODD[:12], "a"] if dtype.kind == "O" else pool
    few = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3))
    with np.errstate(all="ignore"):
        few = few if dtype.kind == "O" else np.array(few).astype(dtype)
    array = scattered(few, shape, draw(seeds))
    form = draw(st.sampled_from(["plain", "plain", "turned", "locked", "list", "tensor", "half"]))
    if form == "turned":
        return np.asfortranarray(array)[..., ::-1]
    if form == "locked":
        array.flags.writeable = False
    if form == "list":
        return array.tolist()
    if form in ("tensor", "half") and dtype.kind in "?iufc" and dtype.isnative and dtype != "g":
        tensor = torch.from_numpy(array)
        return tensor if form == "tensor" else draw(st.sampled_from(HALVES))(tensor)
    return array


HALVES = [
    lambda t: t.bfloat16() if not t.is_complex() else t,
    lambda t: t.float().requires_grad_(),
    lambda t: t.float().to_sparse(),
    lambda t: t.to("meta"),
    lambda t: t.float().to(torch.float8_e5m2),
]


@st.composite
def changed(draw: Any, content: Any) -> Any:
    """A JSON content with one value lost, doubled or replaced."""

    def copied(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: copied(v) for k, v in value.items()}
        return [copied(v) for v in value] if isinstance(value, list) else value

    content = copied(content)
    *way, last = draw(st.sampled_from(list(places(content))))
    holder = content
    for key in way:
        holder = holder[key]
    what = draw(st.sampled_from(["lose", "double", *["replace"] * 6]))
    if what == "lose" and isinstance(holder, dict):
        del holder[last]
    elif what == "double" and isinstance(holder, list):
        holder.append(copied(holder[last]))
    else:
        holder[last] = draw(odd | near)
    return content


def runs(mask: np.ndarray) -> list[int]:
    """The counts of an RLE, one pixel after the other."""
    counts, value = [0], 0
    for pixel in mask.T.reshape(-1).astype(int).tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


MASK = np.random.default_rng(0).random(SIZE) < 0.5
LEFT = [1, 1, 5, 1, 5, 4, 1, 4]
VALID: list[Any] = [
    {"size": [*SIZE], "counts": runs(MASK)},
    encode(MASK),
    [encode(MASK), {"size": [*SIZE], "counts": runs(~MASK)}],
    [LEFT],
    [LEFT, [2.5, 0, 8.5, 0, 8.5, 6]],
    MASK.astype(int).tolist(),
    [1, 1, 5, 4],
    {"box": [1, 1, 5, 4]},
    {"box": [[1, 1, 5, 4], [6, 0, 8, 2]], "points": [[7, 5]], "labels": [0]},
    {"points": [[1, 2], [3, 4]], "labels": [1, 0]},
    {"polygon": LEFT},
    {"polygon": [[1, 1], [5, 1], [5, 4]]},
    {"scribble": [[1, 1], [5, 4]], "negative": [[[8, 5], [8, 0]]], "width": 2},
    {"mask": [LEFT]},
    [{"box": [1, 1, 5, 4]}, {"points": [3, 4]}],
]
whole = st.sampled_from(VALID)
values = st.one_of(whole, *[whole.flatmap(changed)] * 4, odd)


class File(NamedTuple):
    """A file's name and bytes; and, where they are whole, what it shows: its mode, and its values
    (H, W) or (H, W, channels) as displayed, and of a palette its colours."""

    name: str
    data: bytes
    mode: str = ""
    shown: np.ndarray | None = None
    palette: np.ndarray | None = None

    def __repr__(self) -> str:
        return f"File({self.name!r}, {self.data[:80]!r}, {self.mode!r})"


MODES = [("1", "png"), ("1", "tif"), ("L", "png"), ("L", "bmp"), ("L", "jpg"), ("L", "pgm")]
MODES += [("LA", "png"), ("P", "png"), ("P", "png"), ("P", "gif"), ("P", "bmp"), ("P", "tif")]
MODES += [("RGB", "png"), ("RGB", "jpg"), ("RGB", "webp"), ("RGB", "tif"), ("RGB", "jp2")]
MODES += [("RGBA", "png"), ("RGBA", "tif"), ("RGBA", "webp"), ("I;16", "png"), ("I;16", "tif")]
MODES += [("I", "tif"), ("F", "tif"), ("CMYK", "jpg"), ("CMYK", "tif"), ("LAB", "tif")]
MODES += [("YCbCr", "jpg"), ("RGB", "tga"), ("RGBA", "ico"), ("L", "pcx"), ("RGB", "ppm")]
STEMS = ["a", "a", "a", "a b", "a$x$", "a\nb", "ä", "a\x07", "a\u202e"]
GREYS = [(i, i, i) for i in range(256)]
PALETTES = {
    "voc": [(0, 0, 0), *[((i * 37) % 200 + 30, (i * 91) % 256, i) for i in range(1, 256)]],
    "greys": GREYS,
    "white first": [(255, 255, 255), *[(0, 0, 0)] * 255],
    "black first": [(0, 0, 0), *[(255, 255, 255)] * 255],
    "short": GREYS[:3],
    "odd": [((i * 37) % 256, (i * 91) % 256, (i * 7) % 256) for i in range(1, 257)],
}
LOSSY = "jpg", "webp", "jp2", "ico"


def pooled(mode: str) -> list[list[Any]]:
    """Values of pixels of a mode: sets of which a few are taken."""
    small = [i for i in IDS if 0 <= i <= 255]
    if mode in ("I", "I;16", "F"):
        low, high = {"I": (-(2**31), 2**31 - 1), "I;16": (0, 65535), "F": (0, 0)}[mode]
        wide = FLOATS if mode == "F" else [i for i in IDS if low <= i <= high]
        return [wide, [0, 1], [0, 255], [0, 3, 2.0**31] if mode == "F" else [0, 7, 255]]
    return [[0, 1]] if mode == "1" else [small, [0, 255], [0, 1], list(range(256))]


@st.composite
def pictures_of(draw: Any, size: tuple[int, int] = SIZE) -> tuple[Image.Image, dict[str, Any]]:
    """A picture of any mode, mostly of a size, and how it is saved."""
    mode, form = draw(st.sampled_from(MODES))
    turn = draw(st.sampled_from([0, 0, 0, 1, 3, 6, 8, 5, 9])) if form != "bmp" else 0
    shape = draw(st.sampled_from([size, size, size, size, (1, 1), size[::-1], (70, 90)]))
    shape = shape[::-1] if turn in (5, 6, 7, 8) else shape
    channels = {"LA": 2, "RGB": 3, "YCbCr": 3, "LAB": 3, "RGBA": 4, "CMYK": 4}.get(mode, 0)
    pool = draw(st.sampled_from(pooled(mode)))
    few = np.array(draw(st.lists(st.sampled_from(pool), min_size=1, max_size=4, unique=True)))
    kind = {"1": bool, "I;16": np.uint16, "I": np.int32, "F": np.float32}.get(mode, np.uint8)
    array = scattered(few.astype(kind), (*shape, channels) if channels else shape, draw(seeds))
    if channels == 3 and draw(st.booleans()):
        array = np.repeat(array[..., :1], channels, -1)
    if mode in ("LAB", "YCbCr", "CMYK", "LA"):
        bands = [Image.fromarray(np.ascontiguousarray(array[..., i])) for i in range(channels)]
        image = Image.merge(mode, bands)
    else:
        image = Image.fromarray(array, "P" if mode == "P" else None)
    about: dict[str, Any] = {"format": {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(form)}
    about["form"] = form
    if mode == "P":
        name = draw(st.sampled_from(sorted(PALETTES)))
        image.putpalette([v for colour in PALETTES[name] for v in colour])
        if form == "png" and draw(st.integers(0, 3)) == 0:
            about["transparency"] = draw(st.sampled_from([0, 7, bytes([0, 128, 255])]))
    if turn and form in ("jpg", "png", "webp", "tif"):
        about["exif"] = image.getexif()
        about["exif"][0x0112] = turn
    return image, about


@st.composite
def files(draw: Any, size: tuple[int, int] = SIZE, suffixes: bool = True) -> File:
    """A picture's file: whole, cut off, with other bytes somewhere, or of another suffix."""
    image, about = draw(pictures_of(size))
    form, exif = about.pop("form"), about.get("exif")
    form_name = about.pop("format") or {"pgm": "PPM", "ppm": "PPM"}.get(form, form.upper())
    file = io.BytesIO()
    image.save(file, form_name, **about)
    data, what = file.getvalue(), draw(st.sampled_from(["whole"] * 5 + ["cut", "bytes", "bytes"]))
    suffix = draw(st.sampled_from([form] * 8 + ["png", "txt", "npy", "json", "jpg", ""]))
    name = f"{draw(st.sampled_from(STEMS))}.{suffix if suffixes else form}"
    if what == "cut":
        return File(name, data[: draw(st.integers(0, len(data) - 1))])
    if what == "bytes":
        changed_data = bytearray(data)
        for _ in range(draw(st.integers(1, 4))):
            changed_data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        return File(name, bytes(changed_data))
    if form in LOSSY or form == "gif" or about.get("transparency") is not None:
        return File(name, data)
    palette = None
    if image.mode == "P":
        palette = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
        if np.asarray(image).max() >= len(palette):
            return File(name, data)
    if exif:
        image.getexif()[0x0112] = exif[0x0112]
        image = ImageOps.exif_transpose(image)
    return File(name, data, image.mode, np.asarray(image), palette)
