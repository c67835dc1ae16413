"""Pictures to look at: propagated masks as heat maps, masks over images, panels side by side.
Images are uint8 (H, W, 3) RGB arrays throughout."""

import os
import sys
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import torch
from detectron2.utils.colormap import colormap
from detectron2.utils.visualizer import Visualizer
from matplotlib import colormaps
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from .files import write_picture
from .texts import one_line

GAP, TITLE = 8, 22  # px between the pictures of a panel, and above them
LETTER, LINE = 48, 500  # shares of an image's longer side: height of letters, width of outlines

Box = tuple[int, int, int, int]  # its left, upper, right and lower edge, px


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
    # Matplotlib takes what stands between dollars for a formula
    texts = [text and one_line(text).replace("$", r"\$") for text in texts]
    canvas, colours = Visualizer(image), entity_colours() / 255
    for mask, i, text in zip(masks, ids, texts, strict=True):
        if mask.any():
            canvas.draw_binary_mask(mask, color=colours[int(i) % 256], text=text, area_threshold=0)
    return canvas.get_output().get_image()


def paint_labels(
    image: np.ndarray, labels: np.ndarray, ids: Sequence[int], texts: Sequence[str]
) -> np.ndarray:
    """An image with a label map over it: every pixel shows one answer.

    ``labels``, int (H, W), are rows of the N ``ids`` and ``texts``, −1 where nothing is. What has
    pixels is painted and outlined in the colour of its id. Its text stands on its own largest part,
    above it where it would cover half of it, or as near as it can without lying on another text;
    where there is no room, none stands. ValueError: labels are of another size than the image.
    """
    image, rows = _image(image), np.asarray(labels)
    if rows.shape != image.shape[:2]:
        raise ValueError(f"labels are {rows.shape}, expected {image.shape[:2]}")
    colours, side = entity_colours()[np.asarray(ids, int).reshape(-1) % 256], max(rows.shape)
    there, painted = rows >= 0, image.copy()
    painted[there] = (image[there].astype(np.uint16) + colours[rows[there]]) // 2
    numbers = (rows + 1).astype(np.uint16)  # 0 where nothing is
    kernel = np.ones((1 + 2 * max(1, round(side / LINE)),) * 2, np.uint8)
    edge = there & (cv2.morphologyEx(numbers, cv2.MORPH_GRADIENT, kernel) > 0)
    painted[edge] = colours[rows[edge]]
    sheet, taken = Image.fromarray(painted), list[Box]()
    draw, font = ImageDraw.Draw(sheet), _font(max(10, round(side / LETTER)))
    for _, row, (x, y), (top, bottom) in sorted(_largest_parts(numbers)):  # the least room first
        text = _shortened(one_line(texts[row]), font, sheet.width - 4)
        size = round(font.getlength(text)) + 4, sum(font.getmetrics()) + 1
        covered = 2 * size[1] > bottom - top  # by a text on it
        place = _free_place((x, top - size[1] // 2 if covered else y), size, sheet.size, taken)
        if text and place is not None:
            taken.append(place)
            colour = tuple(colours[row].tolist())
            draw.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=colour)
            dark = np.dot(colour, (0.299, 0.587, 0.114)) < 128
            draw.text((place[0] + 2, place[1]), text, "white" if dark else "black", font)
    return np.asarray(sheet)


def _largest_parts(numbers: np.ndarray) -> list[tuple[int, int, tuple[int, int], tuple[int, int]]]:
    """(area, row, the pixel (x, y) deepest inside, upper and lower edge) of the largest part of
    each row of a map, uint16 (H, W) of row + 1, that has pixels."""
    found = []
    for row, place in enumerate(ndimage.find_objects(numbers)):
        if place is not None:
            own = np.pad(numbers[place] == row + 1, 1).astype(np.uint8)
            _, parts, about, _ = cv2.connectedComponentsWithStats(own, connectivity=4)
            part = 1 + int(about[1:, cv2.CC_STAT_AREA].argmax())
            depth = cv2.distanceTransform((parts == part).astype(np.uint8), cv2.DIST_L2, 3)
            y, x = np.unravel_index(int(depth.argmax()), depth.shape)
            left, upper = place[1].start - 1, place[0].start - 1
            top, height = about[part, [cv2.CC_STAT_TOP, cv2.CC_STAT_HEIGHT]].tolist()
            edges = upper + top, upper + top + height
            area = int(about[part, cv2.CC_STAT_AREA])
            found.append((area, row, (left + int(x), upper + int(y)), edges))
    return found


def _free_place(
    anchor: tuple[int, int], size: tuple[int, int], canvas: tuple[int, int], taken: Sequence[Box]
) -> Box | None:
    """The box of a size (w, h) on a canvas (W, H) whose centre is the nearest to an anchor (x, y),
    and which lies on none of those that are taken; None: there is none."""
    if size[0] > canvas[0] or size[1] > canvas[1]:
        return None
    step, starts = max(1, size[1] // 2), []
    for centre, own, whole in zip(anchor, size, canvas, strict=True):
        ideal = centre - own // 2
        starts.append(np.unique(np.arange(ideal % step - step, whole, step).clip(0, whole - own)))
    x, y = (start.reshape(-1) for start in np.meshgrid(*starts))
    free = np.ones(len(x), bool)
    for left, top, right, bottom in taken:
        free &= (x >= right) | (x + size[0] <= left) | (y >= bottom) | (y + size[1] <= top)
    if not free.any():
        return None
    away = np.hypot(x + size[0] / 2 - anchor[0], y + size[1] / 2 - anchor[1])
    best = int(np.where(free, away, np.inf).argmin())
    return int(x[best]), int(y[best]), int(x[best]) + size[0], int(y[best]) + size[1]


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
    font = _font(14)
    draw, x = ImageDraw.Draw(sheet), GAP
    for title, picture in scaled:
        sheet.paste(picture, (x, TITLE))
        draw.text((x, 3), _shortened(one_line(title), font, picture.width), fill="black", font=font)
        x += picture.width + GAP
    return np.asarray(sheet)


def save_image(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write uint8 (H, W, 3); the suffix of the path chooses the format."""
    write_picture(path, Image.fromarray(_image(image)), quality=92)


def show_image(image: np.ndarray) -> None:
    """Show uint8 (H, W, 3) in the notebook, or in the viewer that Pillow finds."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if ipython and hasattr(shell, "kernel"):  # a terminal's shell has none, and shows no pictures
        ipython.display.display(Image.fromarray(_image(image)))
    else:
        Image.fromarray(_image(image)).show()


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(findfont("DejaVu Sans"), size)  # the font inside Matplotlib


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
