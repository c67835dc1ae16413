"""Pictures to look at: propagated masks as heat maps, masks over images, panels side by side.
Images are uint8 (H, W, 3) RGB arrays throughout."""

import os
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from detectron2.utils.colormap import colormap
from detectron2.utils.visualizer import Visualizer
from matplotlib import colormaps
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

GAP, TITLE = 8, 22  # px between the pictures of a panel, and above them


def heat_map(
    image: np.ndarray,
    values: np.ndarray | torch.Tensor,
    low: float | None = None,
    high: float | None = None,
    alpha: float = 0.6,
) -> np.ndarray:
    """A map of values, float (h, w) of any size over the same field of view, in JET colours over
    its image. ``low`` becomes blue and ``high`` red; default: the lowest and highest value.
    ``alpha`` is the share of the colours, 0 … 1. ValueError: values are not one finite map."""
    image, values = _image(image), np.asarray(values, np.float32)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"expected one finite map (h, w), found shape {values.shape}")
    low = values.min() if low is None else low
    high = values.max() if high is None else high
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    size = image.shape[1], image.shape[0]
    scaled = np.asarray(Image.fromarray(scaled).resize(size, Image.Resampling.BILINEAR))
    colours = colormaps["jet"](scaled)[..., :3] * 255
    return (image * (1 - alpha) + colours * alpha).round().astype(np.uint8)


def overlay(
    image: np.ndarray,
    masks: np.ndarray | torch.Tensor,
    ids: Iterable[int] | None = None,
    texts: Iterable[str | None] | None = None,
) -> np.ndarray:
    """An image with masks, bool (N, H, W), in the colours of their ids (default 1 … N), with N
    texts. ValueError: masks are of another size than the image, or other than N ids or texts."""
    image, masks = _image(image), np.asarray(masks).astype(bool)
    height, width = image.shape[:2]
    if masks.ndim != 3 or masks.shape[1:] != (height, width):
        raise ValueError(f"masks are {masks.shape}, expected (N, {height}, {width})")
    ids = range(1, len(masks) + 1) if ids is None else ids
    texts = [None] * len(masks) if texts is None else texts
    canvas, colours = Visualizer(image), entity_colours() / 255
    for mask, i, text in zip(masks, ids, texts, strict=True):
        if mask.any():
            canvas.draw_binary_mask(mask, color=colours[int(i) % 256], text=text, area_threshold=0)
    return canvas.get_output().get_image()


def panel(pictures: Sequence[tuple[str, np.ndarray]], height: int = 240) -> np.ndarray:
    """Pictures, (title, image) each, scaled to one ``height`` in px, side by side on white: uint8
    (height + title, sum of widths, 3). ValueError: there is no picture."""
    if not pictures:
        raise ValueError("a panel needs at least one picture")
    scaled = []
    for title, image in pictures:
        picture = Image.fromarray(_image(image))
        size = max(1, round(picture.width * height / picture.height)), height
        scaled.append((title, picture.resize(size, Image.Resampling.LANCZOS)))
    width = sum(picture.width for _, picture in scaled) + GAP * (len(scaled) + 1)
    sheet = Image.new("RGB", (width, height + TITLE + GAP), "white")
    font = ImageFont.truetype(findfont("DejaVu Sans"), 14)  # the font inside Matplotlib
    draw, x = ImageDraw.Draw(sheet), GAP
    for title, picture in scaled:
        sheet.paste(picture, (x, TITLE))
        draw.text((x, 3), _shortened(title, font, picture.width), fill="black", font=font)
        x += picture.width + GAP
    return np.asarray(sheet)


def save_image(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write uint8 (H, W, 3); the suffix of the path chooses the format."""
    Image.fromarray(_image(image)).save(path, quality=92)


def _shortened(title: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(title) <= width:
        return title
    while title and font.getlength(title + "…") > width:
        title = title[:-1]
    return title + "…"


def _image(image: np.ndarray | torch.Tensor) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected uint8 (H, W, 3), found {image.dtype} {image.shape}")
    return image


def entity_colours() -> np.ndarray:
    """uint8 (256, 3) RGB by id: black for 0, then Detectron2's colours, white for 255."""
    colours = colormap(rgb=True).astype(np.uint8)
    table = colours[(np.arange(256) - 1) % len(colours)]
    table[0], table[255] = 0, 255
    return table
