"""A tiny made-up folder of sources: cut-outs, one model, backgrounds, and their tables."""

import hashlib
import io
import zipfile

import numpy as np
from PIL import Image, ImageDraw

from composites.table import Background, Object

CUBE = """mtllib cube.mtl
v -1 -1 -1\nv 1 -1 -1\nv 1 1 -1\nv -1 1 -1\nv -1 -1 1\nv 1 -1 1\nv 1 1 1\nv -1 1 1
vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1
usemtl red
f 5/1 6/2 7/3 8/4
usemtl blue
f 1 4 3 2\nf 1 2 6 5\nf 4 8 7 3\nf 1 5 8 4\nf 2 3 7 6
"""
CUBE_MATERIALS = "newmtl red\nKd 1 0 0\nnewmtl blue\nKd 0 0 1\nKs 0.5 0.5 0.5\n"
CATALOG = "id#3=other\nmodel#7=/toys/cube/cube.obj\nwidth#7=10\nheight#7=30\ndepth#7=10\n"


def png(image):
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue()


def stamp(colour, shape):
    """A disc or a slab on a transparent ground, uint8 (90, 120, 4)."""
    image = Image.new("RGBA", (120, 90), (255, 255, 255, 0))
    box = (20, 10, 90, 80) if shape == "disc" else (10, 30, 110, 60)
    draw = ImageDraw.Draw(image)
    (draw.ellipse if shape == "disc" else draw.rectangle)(box, fill=(*colour, 255))
    return np.asarray(image)


STAMPS = {  # file → category, split, colour, shape
    "a/red.png": ("disc", "train", (200, 30, 30), "disc"),
    "a/pink.png": ("disc", "train", (220, 120, 120), "disc"),
    "a/wine.png": ("disc", "train", (120, 10, 40), "disc"),
    "a/rust.png": ("disc", "train", (160, 70, 20), "disc"),
    "b/sea.png": ("slab", "train", (20, 120, 160), "slab"),
    "c/lime.png": ("lime", "novel", (120, 220, 30), "disc"),
    "c/olive.png": ("lime", "novel", (90, 120, 30), "disc"),
    "c/moss.png": ("moss", "novel", (60, 90, 40), "slab"),
}


def make_sources(root):
    """Write the folder; returns (objects, backgrounds), tables of what stands in it."""
    rng = np.random.default_rng(0)
    folder = root / "tuxpaint-stamps-default/usr/share/tuxpaint/stamps"
    objects = []
    for file, (category, split, colour, shape) in STAMPS.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        data = png(stamp(colour, shape))
        (folder / file).write_bytes(data)
        objects.append((category, "thing", split, "stamps", file, hashlib.sha256(data).hexdigest()))
    library = root / "sweethome3d-furniture/usr/share/sweethome3d/furniture"
    library.mkdir(parents=True)
    members = {"toys/cube/cube.mtl": CUBE_MATERIALS, "toys/cube/cube.obj": CUBE}
    with zipfile.ZipFile(library / "Toys.sh3f", "w") as archive:
        for name, text in {**members, "PluginFurnitureCatalog.properties": CATALOG}.items():
            archive.writestr(name, text)
    text = "".join(name + members[name] for name in sorted(members))
    digest = hashlib.sha256(text.encode()).hexdigest()
    objects.append(("cube", "thing", "train", "models", "Toys/toys/cube/cube.obj", digest))

    backgrounds = []
    pictures = root / "mate-backgrounds/usr/share/backgrounds/mate/nature"
    pictures.mkdir(parents=True)
    for number in range(6):
        small = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((300, 220), Image.Resampling.BICUBIC)
        image.save(pictures / f"{number}.jpg")
        data = (pictures / f"{number}.jpg").read_bytes()
        file = f"usr/share/backgrounds/mate/nature/{number}.jpg"
        shows = frozenset(["disc"]) if number == 0 else frozenset()
        digest = hashlib.sha256(data).hexdigest()
        backgrounds.append(Background("mate-backgrounds", file, digest, shows))
    archive = root / "gcompris-qt-data/usr/share/gcompris-qt/rcc"
    archive.mkdir(parents=True)
    webp = io.BytesIO()
    image.save(webp, "WEBP", quality=80)
    (archive / "some.rcc").write_bytes(b"qres....RIFF1234WAVE" + webp.getvalue() + b"rest")
    digest = hashlib.sha256(webp.getvalue()).hexdigest()
    file = "usr/share/gcompris-qt/rcc/some.rcc#0"
    backgrounds.append(Background("gcompris-qt-data", file, digest))
    for package, place in (
        ("lomiri-wallpapers-16.04", "usr/share/backgrounds"),
        ("tuxpaint-data", "usr/share/tuxpaint/templates"),
    ):
        (root / package / place).mkdir(parents=True)
    return [Object(i, *row) for i, row in enumerate(objects)], backgrounds
