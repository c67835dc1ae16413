"""Pictures as people have them → arrays: EXIF, grey, palette, alpha, 16-bit, CMYK, huge."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch
from detectron2.utils.file_io import PathManager
from PIL import ExifTags, Image, ImageOps

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")

# a picture as people have it, see `to_picture`
AnyPicture: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray | torch.Tensor


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], decode: bool = True) -> Iterator[Image.Image]:
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


def upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  EXIF is written by anything; a broken block is no rotation
        return image


def _grey16_to_8(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"mode {image.mode!r} with values {values.min()} to {values.max()}; "
            "8 or 16 bits per channel are supported"
        )
    return Image.fromarray(np.rint(values / 257.0).astype(np.uint8))


def to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # "I;16", "I;16B", and "I", which older Pillow uses for 16 bits
        image = _grey16_to_8(image)
    elif image.mode == "F":
        raise ValueError("floating-point images are not supported; save it with 8 or 16 bits")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a picture as it is displayed.

    EXIF rotation is applied; transparency is composited on white; 16-bit grey is scaled by 1/257;
    grey, palette, bilevel and CMYK become RGB; of an animation the first frame is taken.

    Args:
        path: file path, or a URL that Detectron2's ``PathManager`` understands.

    Returns:
        uint8 (H, W, 3), RGB, writable and contiguous.

    Raises:
        FileNotFoundError: naming the missing file.
        ValueError: naming the file, if it is not an image or its pixel format is not supported.
    """
    with opened(path) as image:
        return np.array(to_rgb(upright(image)))


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(H, W) in px of ``read_image``'s result, from the file's header alone.

    Raises:
        FileNotFoundError, ValueError: as ``read_image``, as far as the header tells.
    """
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


def to_picture(image: AnyPicture) -> np.ndarray:
    """A picture as it is displayed, uint8 (H, W, 3) RGB.

    Args:
        image: path; PIL image (EXIF rotation is applied); uint8 or uint16 array (H, W), (H, W, 3)
            or (H, W, 4), RGB order.

    Raises:
        FileNotFoundError, ValueError: naming the file, or the type, shape and dtype that came.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, Image.Image):
        return np.array(to_rgb(upright(image)))
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu().numpy()
    if not isinstance(image, np.ndarray):
        raise ValueError(f"an image is a path, a PIL image or an array, not {type(image).__name__}")
    colours = image.ndim == 3 and image.shape[2] in (3, 4)
    if (
        image.dtype not in (np.uint8, np.uint16)
        or not (image.ndim == 2 or colours)
        or not image.size
    ):
        raise ValueError(
            f"image array of shape {image.shape} and type {image.dtype}; expected uint8 or uint16 "
            "(H, W), (H, W, 3) or (H, W, 4)"
        )
    if image.dtype == np.uint16:
        image = np.rint(image / 257).astype(np.uint8)
    return np.array(to_rgb(Image.fromarray(np.ascontiguousarray(image))))
