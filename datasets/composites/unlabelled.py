"""Writes the listed photographs as pictures without masks, to train on pseudo-masks."""

import io
from pathlib import Path

from PIL import Image, ImageOps

from composites.packages import read_photograph
from segic_d2.utils.files import whole_folder, write_picture

SIDE = 640  # px, longer side
QUALITY = 92


def write_photographs(folder, photographs, sources):
    """Write ``00001.jpg``, … in the order of the table, none longer than ``SIDE``.

    Args:
        folder: a new folder.
        photographs: list of ``composites.photographed.Photograph``.
        sources: folder of sources.

    Raises:
        FileNotFoundError, ValueError: naming the photograph that is missing, another or damaged,
            or the folder that is there already.
    """
    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"{folder} exists already; write into a new folder")
    with whole_folder(folder) as part:
        for number, photograph in enumerate(photographs, 1):
            data = read_photograph(photograph, sources)
            try:
                with Image.open(io.BytesIO(data)) as image:
                    picture = ImageOps.exif_transpose(image).convert("RGBA")
            except OSError as error:
                what = f"{photograph.package}/{photograph.file}"
                raise ValueError(f"{what} is no picture that can be read: {error}") from error
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture).convert("RGB")
            picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            write_picture(part / f"{number:05d}.jpg", picture, quality=QUALITY)
