"""Pictures as people have them → arrays: EXIF, grey, palette, alpha, 16-bit, CMYK, huge."""

import contextlib
import warnings

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import ExifTags, Image, ImageOps

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")


@contextlib.contextmanager
def _opened(path, decode=True):
    """A loaded Pillow image of any size; whatever fails becomes an error that names the file."""
    path = str(path)
    if not PathManager.isfile(path):
        raise FileNotFoundError(f"no such image file: {path}")
    limit, Image.MAX_IMAGE_PIXELS = (Image.MAX_IMAGE_PIXELS, None)  # huge pictures are welcome
    try:
        with PathManager.open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about harmless broken metadata
            with Image.open(file) as image:
                if decode:
                    image.load()
                yield image
    except Exception as error:  # decoders fail in many ways: OSError, SyntaxError, struct.error, …
        raise ValueError(f"cannot read image {path}: {error}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def upright(image):
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  EXIF is written by anything; a broken block is no rotation
        return image


def _grey16_to_8(image):
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"mode {image.mode!r} with values {values.min()} to {values.max()}; "
            "8 or 16 bits per channel are supported"
        )
    return Image.fromarray(np.rint(values / 257.0).astype(np.uint8))


def to_rgb(image):
    if image.mode.startswith("I"):  # "I;16", "I;16B", and "I", which older Pillow uses for 16 bits
        image = _grey16_to_8(image)
    elif image.mode == "F":
        raise ValueError("floating-point images are not supported; save it with 8 or 16 bits")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def read_image(path):
    """Read a picture as it is displayed.

    EXIF rotation is applied; transparency is composited on white; 16-bit grey is scaled by 1/257;
    grey, palette, bilevel and CMYK become RGB; of an animation the first frame is taken.

    Args:
        path: file path, or a URL that Detectron2's ``PathManager`` understands.

    Returns:
        uint8 array (H, W, 3), RGB, writable and contiguous.

    Raises:
        FileNotFoundError: naming the missing file.
        ValueError: naming the file, if it is not an image or its pixel format is not supported.
    """
    with _opened(path) as image:
        return np.array(to_rgb(upright(image)))


def image_size(path):
    """(H, W) in px of :func:`read_image`'s result, from the file's header alone.

    Raises:
        FileNotFoundError, ValueError: as ``read_image``, as far as the header tells.
    """
    with _opened(path, decode=False) as image:
        width, height = image.size
        with contextlib.suppress(Exception):  # a broken EXIF block is no rotation, see `upright`
            if image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8):
                width, height = height, width
        return height, width


def read_label_map(path):
    """Read the raw ids of a label map: no palette expansion, no rotation, no scaling.

    Accepts bilevel (ids 0 and 1), 8-bit grey, palette, 16- and 32-bit integer files, and colour
    files whose channels are all equal (grey maps are often saved so).

    Returns:
        int32 array (H, W).

    Raises:
        FileNotFoundError: naming the missing file.
        ValueError: naming the file, if it is unreadable or truly a colour or float image.
    """
    with _opened(path) as image:
        if image.mode in ("LA", "La"):
            image = image.getchannel(0)
        if image.mode not in ("1", "L", "P", "RGB", "RGBA") and not image.mode.startswith("I"):
            raise ValueError(f"mode {image.mode!r} is not a label map; save it as PNG of integers")
        ids = np.asarray(image)
        if ids.ndim == 3:
            if (ids[..., 0] != ids[..., 1]).any() or (ids[..., 0] != ids[..., 2]).any():
                raise ValueError("a label map has one channel of integer ids, this one is coloured")
            ids = ids[..., 0]
        return ids.astype(np.int32)


def read_grey(path):
    """Read the luminance of a mask that is drawn in grey, colour or a palette.

    Returns:
        uint8 array (H, W).

    Raises:
        FileNotFoundError, ValueError: as :func:`read_label_map`.
    """
    with _opened(path) as image:
        return np.asarray(image.convert("L"))


def read_binary_mask(path):
    """Read a foreground mask: > 0 in palette maps and in maps of {0, 1} or {0, 255}, else ≥ 128.

    Colour masks are converted to grey first (FSS-1000 and many drawing programs save them so);
    transparency counts as background.

    Returns:
        bool array (H, W).

    Raises:
        FileNotFoundError, ValueError: as :func:`read_label_map`.
    """
    with _opened(path) as image:
        return to_binary_mask(image)


def to_binary_mask(image):
    """The foreground of a PIL image by the rules of :func:`read_binary_mask`, bool (H, W)."""
    if image.mode in ("1", "P"):
        return np.asarray(image) > 0
    if image.mode in ("RGBA", "LA"):  # what was not painted is background
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    grey = np.asarray(image if image.mode.startswith("I") else image.convert("L"))
    if grey.max() > 255:
        return grey >= 32768
    return grey > 0 if grey.max() <= 1 else grey >= 128


def is_palette(path):
    """Whether an image file holds indices into a palette."""
    with _opened(path) as image:
        return image.mode == "P"
