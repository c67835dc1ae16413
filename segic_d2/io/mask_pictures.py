"""What a picture of a mask means: its foreground, or the ids of a label map.

Shape shorthand: H×W as displayed.
"""

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from .odd_masks import listed
from .pictures import alpha_of, upright

DARK, LIGHT = 16, 239  # as black and as white as JPEG leaves them
FLAT = 16  # values up to which a grey picture may be one of ids
TINT = 24  # of channels, below which a colour is a grey
NEAR = 52  # of channels, up to which colours are shades of one another; dithering has steps of 51
FEW, PAINTS = 8, 48  # colours that are paints whatever they cover; at most
MOST = 50_000  # colours of a picture that may be painted
HIGHEST_ID = 2**31 - 1  # label maps are int32; Pillow reads 32 bits with a sign
BLOCK = 16  # px, of JPEG's colours
VOID = 224, 224, 192  # the colour of what VOC leaves open
PAINTED = 0.5  # share of what is not black that the paints cover, but for edges
ADVICE = "save it in black and white, or give an array of ids"


def to_binary_mask(image: Image.Image) -> np.ndarray:
    """An image's foreground, bool (H, W), as displayed (EXIF rotation is applied).

    - A palette of black and white, greys or one colour on black is a picture; another one holds
      ids, and its foreground is > 0.
    - Grey: > 0 in {0, 1}, else from half of the range of 8, 10, 12, … bits that it uses.
    - Floats: from 0.5 on in [0, 1]; whole numbers are grey.
    - Colours on black, smooth edges or not: what is painted, but for VOC's void.
    - Where a part of an image with alpha is transparent (opacity below 128) the image is a cut-out,
      and what is opaque is foreground, dark or bright. Only where its opaque part is both black and
      white, without any other colour, was a mask drawn on a transparent layer: the white one.

    ValueError: what is ambiguous (several flat greys, a palette whose 0 is not the black that it
    has), or no mask (a photograph); the message lists the values.
    """
    image = upright(image)
    alpha = alpha_of(image) if image.mode in ("RGBA", "LA", "PA", "P") else None
    if alpha is not None and not _black_and_white(image, alpha >= 128):
        return alpha >= 128
    if image.mode == "1" or (image.mode == "P" and alpha is None and holds_ids(image)):
        return np.asarray(image) > 0
    if image.mode in ("RGBA", "LA", "PA") or alpha is not None:  # not painted: background
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    if image.mode == "F":
        return _of_floats(np.asarray(image))
    if image.mode.startswith("I") or image.mode == "L":
        return _of_greys(np.asarray(image))
    colours = np.asarray(image.convert("RGB"))
    if int(np.ptp(colours, axis=2).max(initial=0)) <= TINT:
        return _of_greys(np.asarray(image.convert("L")))
    return _of_colours(colours)


def holds_ids(image: Image.Image) -> bool:
    """Whether the indices of a palette image are ids, as VOC's and DAVIS' are; else it is a picture
    that its colours tell. ValueError: it may be both, or is dithered."""
    indices, colours = np.asarray(image), _used(image)
    if len(set(colours.values())) < len(colours):
        return True  # what has no colour of its own is told by its number
    black = [i for i, colour in colours.items() if max(colour) <= DARK]
    flat = _flat(indices)
    if all(max(colour) - min(colour) <= TINT for colour in colours.values()):
        levels = {i: colour[0] for i, colour in colours.items()}
        middle = any(DARK < levels[i] < LIGHT for i in flat)
        if all(i == level for i, level in levels.items()):  # a grey file with a palette
            return len(levels) < 3 or middle or max(i for i in levels if i != 255) < 128
        if len(levels) < 3 or not middle:
            return len(levels) == 2 and black == [0]
    elif len(colours) == 2 and black:
        return black == [0]
    elif black and len(paint := flat - {*black, 255}) == 1:
        shades = [c for i, c in colours.items() if i not in (*black, *paint, 255)]
        if len(shades) > 2 and _are_shades(shades, colours[paint.pop()]):
            return False  # smooth edges
    _check_shades(colours, flat)
    if 0 not in colours or not black or 0 in black:
        return True
    raise ValueError(
        f"its palette is ambiguous: id 0 is {colours[0]}, black is id {black[0]}, and either may "
        f"be the background; {ADVICE}"
    )


def to_label_map(image: Image.Image) -> np.ndarray:
    """The ids of a label map, int32 (H, W), as displayed. ValueError: as of ``read_label_map``,
    listing the values; a JPEG of more than two values, which are never all ids."""
    if image.format in ("JPEG", "MPO") and len(np.unique(np.asarray(image.convert("L")))) > 2:
        raise ValueError("a JPEG changes the ids of a label map: save it as PNG")
    image = upright(image)
    if image.mode in ("LA", "La"):
        image = image.getchannel(0)
    ids = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(ids).all() or (ids != np.rint(ids)).any():
            raise ValueError(
                f"mode 'F' with {listed('values', np.unique(ids).tolist())} is not a label map; "
                "save it as PNG of integers"
            )
    elif image.mode not in ("1", "L", "P", "RGB", "RGBA") and not image.mode.startswith("I"):
        raise ValueError(f"mode {image.mode!r} is not a label map; save it as PNG of integers")
    if image.mode == "P" and alpha_of(image) is None and _is_black_on_white(image):
        return (ids == 0).astype(np.int32)
    if image.mode == "P" and np.count_nonzero(np.bincount(ids.reshape(-1))) > FEW:
        _check_shades(_used(image), _flat(ids))
    if ids.ndim == 3:
        if (ids[..., 0] != ids[..., 1]).any() or (ids[..., 0] != ids[..., 2]).any():
            found = _apart(np.unique(_packed(ids[..., :3]))).tolist()
            raise ValueError(
                "a label map has one channel of integer ids, this one is coloured, with "
                f"{listed('colours', [tuple(c) for c in found])}: save the ids, or a palette file"
            )
        ids = ids[..., 0]
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high > HIGHEST_ID:
        odd = low if low < 0 else high
        raise ValueError(f"a label map with the id {odd}; ids are from 0 to {HIGHEST_ID}")
    return ids.astype(np.int32)


def _used(image: Image.Image) -> dict[int, tuple[int, ...]]:
    """The colours of the indices that a palette image shows."""
    found, first = np.unique(np.asarray(image), return_index=True)
    colours = np.asarray(image.convert("RGB")).reshape(-1, 3)[first]
    return {i: tuple(c) for i, c in zip(found.tolist(), colours.tolist(), strict=True)}


def _check_shades(colours: dict[int, tuple[int, ...]], flat: set[int]) -> None:
    """ValueError: most of the indices are mere shades, which cover no area and are near another
    colour that has an index, too; as ids they would be dozens of classes."""
    thin = [i for i in colours if i not in flat]
    if len(thin) <= FEW or len(set(colours.values())) < len(colours):
        return
    own = np.array(list(colours.values()))
    if np.ptp(own, axis=1).max() <= TINT:  # ids as greys are near by their numbers
        return
    rows = np.array([colours[i] for i in thin])
    apart = np.abs(rows[:, None] - own).max(-1)
    shades = int(((apart <= NEAR).sum(1) > 1).sum())  # each is near itself
    if shades > FEW and 2 * shades > len(colours):
        raise ValueError(
            f"its palette has {len(colours)} colours, of which {shades} are shades that cover no "
            f"area: it is dithered, or its edges are smooth, and it holds no ids; {ADVICE}"
        )


def _is_black_on_white(image: Image.Image) -> bool:
    """Whether a palette has white for 0, and black alone beside it, as optimisers number them."""
    used = _used(image)
    return len(used) == 2 and min(used.get(0, (0,))) >= LIGHT and max(used[max(used)]) <= DARK


def _flat(values: np.ndarray) -> set[int]:
    """Values that cover squares of 3x3 px, as edges do not."""
    return set(np.unique(values[_is_flat(values)]).tolist())


def _is_flat(values: np.ndarray) -> np.ndarray:
    same: np.ndarray = ndimage.minimum_filter(values, 3) == ndimage.maximum_filter(values, 3)
    return same


def _are_shades(colours: list[tuple[int, ...]], paint: tuple[int, ...]) -> bool:
    """Whether colours lie between black and a paint."""
    full, some = np.array(paint, np.float64), np.array(colours, np.float64)
    share = np.clip(some @ full / (full @ full), 0, 1)
    return bool((np.abs(some - share[:, None] * full) <= TINT).all())


def _of_floats(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high):
        odd = values[~np.isfinite(values)]
        raise ValueError(f"a mask of floats with {odd.size} values {odd[0]:g}; {ADVICE}")
    if low >= 0 and high <= 1:
        return values >= 0.5
    if low >= 0 and (values == np.rint(values)).all() and high < 2**31:
        return _of_greys(values.astype(np.int64))
    raise ValueError(
        f"a mask of floats (mode 'F') from {low:g} to {high:g}; probabilities are in [0, 1]: "
        f"{ADVICE}"
    )


def _of_greys(grey: np.ndarray) -> np.ndarray:
    low, top = int(grey.min()), int(grey.max())
    if low < 0:
        raise ValueError(f"a mask with the negative value {low}; {ADVICE}")
    if top <= 1:
        return grey > 0
    full = max(1 << top.bit_length(), 256)
    levels = np.unique(grey)
    if len(levels) > 2 and top >= full // 2 and _may_be_ids(grey, levels, full / FLAT):
        raise ValueError(
            f"a mask with {listed('values', levels.tolist())} in flat areas: are they ids? "
            f"Name them by id, or {ADVICE}"
        )
    if len(levels) > FLAT and ((grey > full // 6) & (grey < full - full // 6)).mean() > 0.5:
        raise ValueError(f"a mask with {len(levels)} greys, as photographs have; {ADVICE}")
    return grey >= full // 2


def _may_be_ids(grey: np.ndarray, levels: np.ndarray, edge: float) -> bool:
    """Whether values between the least and the greatest cover areas, as edges do not: any, of few
    levels, or most of the area. JPEG leaves many levels, near black and white (``edge``)."""
    values = grey[_is_flat(grey)]
    low, top = (0 if len(levels) <= FEW else edge) + levels[0], levels[-1] - edge
    between = (values > low) & (values < top)
    if len(levels) <= FLAT:
        return bool(between.any())
    return bool(between.sum() > 0.5 * (values > low).sum())


def _of_colours(colours: np.ndarray) -> np.ndarray:
    """The painted part of (H, W, 3): each colour counts as the nearest of those that are few, or
    cover areas, as far as JPEG leaves them alike."""
    packed = _packed(colours)
    found, where, counts = np.unique(packed, return_inverse=True, return_counts=True)
    own = _apart(found)
    few = len(found) <= FEW
    paints = own if few else _apart(np.array(sorted(_flat(_packed(colours // 16))), np.int32)) * 17
    if not 0 < len(paints) <= PAINTS or len(found) > MOST or (not few and _run_over(paints)):
        raise ValueError(f"a mask with {len(found)} colours, as photographs have; {ADVICE}")
    far = np.stack([np.abs(own - paint).max(-1) for paint in paints], -1)
    bright = own.max(-1) > 2 * TINT
    if counts[bright & (far.min(-1) <= 2 * TINT)].sum() < PAINTED * counts[bright].sum():
        raise ValueError(f"a mask with {len(found)} colours, as photographs have; {ADVICE}")
    black = paints.max(-1) <= DARK
    if not black.any():
        raise ValueError(
            f"a mask painted in {listed('colours', [tuple(c) for c in paints.tolist()])}, none of "
            f"which is the black of a background; {ADVICE}"
        )
    if black.all():
        raise ValueError(f"a mask whose colours cover no area; {ADVICE}")
    nearest = far.argmin(-1)[where].reshape(packed.shape)
    if not few:
        black |= _blurred(paints, nearest)
    void = np.abs(paints - VOID).max(-1) <= (0 if few else 16)
    if not (black | void).all():
        black |= void
    painted = far[:, ~black].min(-1) <= far[:, black].min(-1)
    return painted[where].reshape(packed.shape)


def _blurred(paints: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Which paints, bool (n,), are another's darker edge that JPEG has blurred: all of it is narrow
    and within a block of the other. ``nearest``, (H, W): the paint of each pixel."""
    found = np.zeros(len(paints), dtype=bool)
    for i, paint in enumerate(paints.tolist()):
        fuller = [
            j
            for j, full in enumerate(paints.tolist())
            if 2 * max(paint) < max(full) and _are_shades([tuple(paint)], tuple(full))
        ]
        if fuller and max(paint) > DARK:
            own, others = nearest == i, np.isin(nearest, fuller)
            wide = ndimage.minimum_filter(own, BLOCK + 1).any()
            found[i] = not wide and not (own & ~ndimage.maximum_filter(others, 2 * BLOCK + 1)).any()
    return found


def _run_over(paints: np.ndarray) -> bool:
    """Whether paints of bins of 17 run into one another far, as shades do."""
    apart = np.abs(paints[:, None] - paints).max(-1)
    number, group = connected_components(csr_array(apart <= 26), directed=False)
    return any(np.ptp(paints[group == i], axis=0).max() > 80 for i in range(number))


def _packed(colours: np.ndarray) -> np.ndarray:
    return colours.astype(np.int32) @ np.array([65536, 256, 1], np.int32)


def _apart(packed: np.ndarray) -> np.ndarray:
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], -1).astype(np.int16)


def _black_and_white(image: Image.Image, shown: np.ndarray) -> bool:
    colours = np.asarray(image.convert("RGB"))[shown]
    grey = colours[:, :1]
    pure = ((colours == grey) & ((grey == 0) | (grey == 255))).all()
    return bool(pure and grey.any() and not grey.all())
