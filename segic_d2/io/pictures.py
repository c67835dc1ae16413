"""Pictures as people have them → arrays: EXIF, grey, palette, alpha, 16-bit, CMYK, huge."""

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from functools import lru_cache
from typing import IO, TypeAlias

import numpy as np
import torch
from detectron2.utils.file_io import PathManager
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ..utils.files import AnyPath
from ..utils.remote import download, first_line, is_web_address
from ..utils.texts import printable
from .formats import lacking, suffix_of
from .opening import open_image
from .ranges import depth, to_eight_bits

logger = logging.getLogger(__name__)

DARK = 32  # of 256, up to which a picture of 16 bits per colour uses few of them
ONE_PICTURE = "MPO", "PSD"  # formats whose other frames are previews and layers of the first

# a picture as people have it, see `to_picture`
AnyPicture: TypeAlias = AnyPath | Image.Image | np.ndarray | torch.Tensor


@contextlib.contextmanager
def opened(path: AnyPath, decode: bool = True) -> Iterator[Image.Image]:
    """A loaded Pillow image, see ``open_image``; whatever fails becomes an error that names the
    file."""
    path = str(path)
    missing = lacking(suffix_of(path))  # asked first, as it may teach Pillow a format
    file = open_file(path)
    try:
        with file, open_image(file) as image:
            if decode:
                _say_frames(path, image)
                tiles = getattr(image, "tile", ())  # until it is loaded
                wide = any(";16" in str(tile) for tile in tiles)
                image.load()
                _say_dark(path, image, wide)
            yield image
    except Exception as error:  # decoders fail in many ways: OSError, SyntaxError, struct.error, …
        if isinstance(error, UnidentifiedImageError):
            error = ValueError(missing or "its content is no picture that Pillow knows")
        text = printable(f"cannot read image {path}: {str(error) or type(error).__name__}")
        raise ValueError(text) from error


def open_file(path: str) -> IO[bytes]:
    """The bytes of a file, or of a web address, which are kept nowhere. FileNotFoundError, or
    ValueError for an address of an unknown kind, names it."""
    if is_web_address(path):
        return io.BytesIO(download(path))
    try:
        if not PathManager.isfile(path):
            raise FileNotFoundError(printable(f"no such file: {path or repr(path)}"))
        return PathManager.open(path, "rb")
    except NotImplementedError:  # of a scheme that has no handler
        text = printable(f"cannot read {path}: its kind of address is not known")
        raise ValueError(text) from None


def _say_frames(path: str, image: Image.Image) -> None:
    """Log that a file has more pictures than the one that is taken."""
    with contextlib.suppress(Exception):  # a file may be broken behind its first frame
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format not in ONE_PICTURE:
            _say_once(f"{path} has {frames} frames or pages: the first is taken")


def _say_dark(path: str, image: Image.Image, wide: bool) -> None:
    """Log that of 16 bits per colour, whose upper 8 Pillow reads, few are used."""
    if wide and image.mode == "RGB" and int(np.asarray(image).max()) < DARK:
        _say_once(
            f"{path} has 16 bits per colour and uses less than {100 * DARK // 256} % of their "
            "range: it comes out nearly black; save it with 8 bits, scaled to their full range"
        )


@lru_cache(1024)
def _say_once(text: str) -> None:
    logger.warning(printable(text))


def upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  EXIF is written by anything; a broken block is no rotation
        return image


def has_alpha(image: Image.Image) -> bool:
    """Whether an image says which of its pixels are transparent, by a channel or its palette."""
    palette = getattr(image.palette, "mode", "") if image.mode == "P" else image.mode
    return palette in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info


def alpha_of(image: Image.Image) -> np.ndarray | None:
    """An image's opacity, uint8 (H, W); None: it has no alpha, or nothing in it is transparent,
    that is below 128."""
    if not has_alpha(image) or image.mode.startswith("I"):  # 16 bits have no alpha in Pillow
        return None
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return alpha if alpha.min() < 128 else None


def to_rgb(image: Image.Image, source: str = "") -> Image.Image:
    """A picture in RGB, on white; ``source`` names it in what is logged. ValueError: floats."""
    if image.mode.startswith("I"):  # "I;16", "I;16B", and "I", which older Pillow uses for 16 bits
        image = Image.fromarray(to_eight_bits(np.asarray(image), source))
    elif image.mode == "F":
        raise ValueError("floating-point images are not supported; save it with 8 or 16 bits")
    if has_alpha(image):
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def read_image(path: AnyPath) -> np.ndarray:
    """Read a picture as it is displayed: uint8 (H, W, 3), RGB, writable and contiguous.

    EXIF rotation is applied; transparency is composited on white; grey of more than 8 bits is
    scaled by the range that it uses (``to_eight_bits``);
    grey, palette, bilevel and CMYK become RGB; of several frames or pages the first is taken, and a
    warning says so. The path may be a web address, or a URL that Detectron2's ``PathManager``
    understands. FileNotFoundError or ValueError names a file that is missing or cannot be fetched,
    no image, or of an unsupported pixel format.
    """
    with opened(path) as image:
        return np.array(to_rgb(upright(image), str(path)))


def image_size(path: AnyPath) -> tuple[int, int]:
    """(H, W) in px of ``read_image``'s result, from the file's header alone; errors too, as far as
    it tells."""
    with opened(path, decode=False) as image:
        width, height = image.size
        with contextlib.suppress(Exception):  # a broken EXIF block is no rotation, see `upright`
            if image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8):
                width, height = height, width
        return height, width


def file_of(source: object) -> str:
    """Path of a picture or mask for messages; "" where it did not come from a file."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return getattr(source, "filename", "") or ""


def array_of(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as an array; what NumPy has no type for, such as bfloat16, as float32. ValueError:
    it holds no such values: sparse, quantised, on "meta"."""
    try:
        tensor = tensor.detach().cpu()
        narrow = tensor.is_floating_point() and tensor.dtype.itemsize < 4
        return (tensor.float() if narrow else tensor).numpy()
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"an image or mask as a tensor of {tensor.dtype} is no array: {first_line(error)}"
        ) from error


def to_picture(image: AnyPicture) -> np.ndarray:
    """A picture as it is displayed, uint8 (H, W, 3) RGB, of a path, a PIL image (EXIF rotation is
    applied) or a uint8 or uint16 array (H, W), (H, W, 3) or (H, W, 4) in RGB order.
    FileNotFoundError or ValueError names the file, or the type, shape and dtype that came."""
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, Image.Image):
        return np.array(to_rgb(upright(image), file_of(image)))
    if isinstance(image, torch.Tensor):
        image = array_of(image)
    if not isinstance(image, np.ndarray):
        raise ValueError(f"an image is a path, a PIL image or an array, not {type(image).__name__}")
    planes = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))
    if image.dtype not in (np.uint8, np.uint16) or not planes or not image.size:
        raise ValueError(
            f"image array of shape {image.shape} and type {image.dtype}; expected uint8 or uint16 "
            "(H, W), (H, W, 3) or (H, W, 4)"
        )
    if image.dtype == np.uint16:
        image = _eight_bits(image)
    return np.array(to_rgb(Image.fromarray(np.ascontiguousarray(image))))


def _eight_bits(image: np.ndarray) -> np.ndarray:
    """A uint16 array as uint8; its alpha has a range of its own."""
    colours = image if image.ndim == 2 else image[..., :3]
    scaled = to_eight_bits(colours)
    if image.ndim == 2 or image.shape[2] == 3:
        return scaled
    alpha = image[..., 3:]
    return np.concatenate([scaled, alpha >> max(depth(alpha) - 8, 0)], -1).astype(np.uint8)


def to_cut_out(image: AnyPicture) -> np.ndarray | None:
    """What a picture of ``to_picture`` shows where it is a cut-out, bool (H, W) as it is displayed:
    an opacity of 128 and above. None: it has no alpha, or nothing in it is transparent."""
    if isinstance(image, torch.Tensor):
        image = array_of(image)
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 4:
            return None
        opaque = (image if image.dtype == np.uint8 else _eight_bits(image))[..., 3] >= 128
        return None if opaque.all() else opaque
    if isinstance(image, Image.Image):
        alpha = alpha_of(upright(image))
    else:
        with opened(image) as file:
            alpha = alpha_of(upright(file))
    return None if alpha is None else alpha >= 128
