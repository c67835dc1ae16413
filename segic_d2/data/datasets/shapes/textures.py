"""Textures and backgrounds of the embedded dataset, cut from photographs in scikit-image's wheel,
so nothing is downloaded. `coins` is left out on purpose: the demo segments it as a picture that
training has never seen."""

import functools
import importlib.util
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

TILE = 1024  # px, side of a mirrored texture tile


@dataclass(frozen=True)
class Texture:
    """A region of a photograph: file, (left, top, right, bottom) px, height px it is scaled to."""

    file: str
    box: tuple[int, int, int, int]
    height: int
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)  # RGB factors, to colour grey photographs


TEXTURES = {
    "brick": Texture("brick.png", (0, 0, 512, 512), 330, (1.3, 0.8, 0.65)),
    "fur": Texture("chelsea.png", (125, 4, 255, 76), 130),
    "wood": Texture("coffee.png", (440, 295, 600, 400), 150),
    "tissue": Texture("ihc.png", (0, 25, 180, 170), 200),
    "stroma": Texture("ihc.png", (195, 255, 330, 330), 130),
    "galaxy": Texture("hubble_deep_field.jpg", (0, 0, 1000, 872), 420),
    "print": Texture("page.png", (0, 40, 384, 125), 100),
    "engine": Texture("motorcycle_left.png", (290, 225, 480, 370), 160),
    "gravel": Texture("gravel.png", (0, 0, 512, 512), 300),
    "suit": Texture("astronaut.png", (95, 240, 185, 345), 170),
    "grass": Texture("grass.png", (0, 0, 512, 512), 330, (0.75, 1.15, 0.5)),
    "retina": Texture("retina.jpg", (300, 300, 1120, 1120), 300),
    "script": Texture("text.png", (20, 20, 448, 172), 130),
    "night": Texture("rocket.jpg", (380, 150, 540, 420), 200),
    "scales": Texture("logo.png", (214, 138, 312, 220), 150),
    "shelf": Texture("motorcycle_left.png", (500, 45, 741, 205), 160),
    "slats": Texture("motorcycle_left.png", (35, 85, 165, 165), 120),
    "concrete": Texture("motorcycle_left.png", (10, 380, 215, 495), 180),
    "saucer": Texture("coffee.png", (150, 130, 215, 250), 170),
    "crater": Texture("moon.png", (0, 0, 512, 512), 330, (0.75, 0.95, 1.25)),
    "lawn": Texture("camera.png", (350, 270, 512, 500), 230, (1.05, 0.85, 1.2)),
    "vessels": Texture("microaneurysms.png", (0, 0, 102, 102), 160, (2.0, 1.7, 0.9)),
    "flag": Texture("astronaut.png", (5, 20, 75, 210), 260),
    "gauze": Texture("cell.png", (20, 40, 340, 600), 330, (0.9, 2.2, 1.9)),
}

BACKGROUNDS = ("rocket.jpg", "camera.png", "astronaut.png", "coffee.png", "motorcycle_left.png")
BACKGROUNDS += ("chelsea.png", "clock_motion.png", "cell.png", "moon.png")
BACKGROUNDS += ("hubble_deep_field.jpg", "ihc.png")


def photograph_folder() -> Path:
    """Folder of the photographs inside the installed scikit-image, or ModuleNotFoundError."""
    spec = importlib.util.find_spec("skimage")
    if spec is None:
        raise ModuleNotFoundError(
            "the embedded dataset is cut from photographs inside scikit-image: "
            "pip install scikit-image"
        )
    return Path(spec.origin).parent / "data"


def open_photograph(file: str) -> Image.Image:
    """One of scikit-image's photographs as an RGB PIL image. FileNotFoundError: the installed
    scikit-image does not ship it."""
    path = photograph_folder() / file
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not in this scikit-image; 0.20 to 0.26 ship it")
    with Image.open(path) as image:
        return image.convert("RGB")


@functools.cache
def texture_tile(name: str) -> Image.Image:
    """A texture repeated with mirrored seams, PIL RGB image of TILE × TILE px. ValueError: naming
    an unknown texture."""
    if name not in TEXTURES:
        raise ValueError(f"unknown texture {name!r}; known: {', '.join(TEXTURES)}")
    t = TEXTURES[name]
    patch = open_photograph(t.file).crop(t.box)
    size = (round(t.height * patch.width / patch.height), t.height)
    patch = np.asarray(patch.resize(size, Image.Resampling.LANCZOS), np.float32) * t.tint
    rows, cols = (_mirrored(n) for n in patch.shape[:2])
    return Image.fromarray(np.clip(patch, 0, 255).astype(np.uint8)[rows][:, cols])


def _mirrored(n):
    i = np.arange(TILE) % (2 * n)
    return np.minimum(i, 2 * n - 1 - i)


@functools.cache
def texture_statistics(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel of a texture, float32 arrays (3,), in 0…255."""
    pixels = np.asarray(texture_tile(name), np.float32).reshape(-1, 3)
    return pixels.mean(0), pixels.std(0)


@functools.cache
def _background(file):
    image = open_photograph(file)
    image.thumbnail((800, 800))
    return image


def background(
    size: tuple[int, int], banned: Collection[str], rng: np.random.Generator
) -> Image.Image:
    """A random cut of a background photograph, PIL RGB image of size (width, height). No photograph
    that a banned texture is cut from is used, so that it never shows what a mask leaves out."""
    files = {TEXTURES[name].file for name in banned}
    image = _background(str(rng.choice([b for b in BACKGROUNDS if b not in files])))
    scale = min(image.width / size[0], image.height / size[1]) * rng.uniform(0.5, 1.0)
    w, h = size[0] * scale, size[1] * scale
    x, y = rng.uniform(0, image.width - w), rng.uniform(0, image.height - h)
    box = (x, y, x + w, y + h)
    cut = image.resize(size, Image.Resampling.BILINEAR, box=box)
    cut = cut.filter(ImageFilter.BoxBlur(rng.uniform(0, 4)))  # often out of focus
    return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else cut
