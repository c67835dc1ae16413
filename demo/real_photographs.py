"""Segments photographs of scikit-image and matplotlib with what ships.

The masks are those of the validation set (datasets/real_validation.json), and one coin.
"""

import importlib.util
import json
import time
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageDraw

from segic_d2.utils.visualizer import heat_map, overlay, panel, save_image

DATASETS = Path(__file__).resolve().parents[1] / "datasets"
# One coin of scikit-image's "coins" and the seat of its "motorcycle", marked by hand (x, y).
COIN = (189, 169.5, 236.5, 216.5)
SEAT = [145, 165, 175, 162, 225, 172, 262, 188, 300, 190, 345, 188, 356, 192, 350, 205, 310, 225]
SEAT += [270, 256, 250, 240, 225, 215, 180, 207, 150, 205]
TOGETHER = "coins", "motorcycle", "person"  # asked for at once
PAIRS = ("motorcycle", 0, 1), ("rocket", 0, 1), ("person", 1, 2)


def photograph(name):
    """Read one of scikit-image's photographs, uint8 (H, W, 3)."""
    return np.asarray(Image.open(Path(skimage.data.__file__).parent / name).convert("RGB"))


def drawn_mask(image, draw_shape):
    """The mask that ``draw_shape(ImageDraw)`` fills at the image's size, bool (H, W)."""
    mask = Image.new("1", image.shape[1::-1])
    draw_shape(ImageDraw.Draw(mask))
    return np.array(mask)


def one_coin():
    """(picture, mask) of one coin among many."""
    coins = photograph("coins.png")
    return coins, drawn_mask(coins, lambda d: d.ellipse(COIN, fill=1))


def pairs():
    """Yield (name, reference, its mask, target, its mask or None) of each example.

    Pictures are uint8 (H, W, 3), masks bool (H, W).
    """
    coins, coin = one_coin()
    yield "coins", coins, coin, coins, None
    spec = importlib.util.spec_from_file_location("real", DATASETS / "prepare_real_validation.py")
    real = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(real)
    content = json.loads(real.LIST.read_text(encoding="utf-8"))
    wanted = {k: [content["classes"][k][i] for i in (a, b)] for k, a, b in PAIRS}
    names = {entry["picture"] for entries in wanted.values() for entry in entries}
    content["pictures"] = {k: v for k, v in content["pictures"].items() if k in names}
    files = real.photographs(content)
    for name, entries in wanted.items():
        shown = []
        for entry in entries:
            about = content["pictures"][entry["picture"]]
            picture = real.make_picture(files[entry["picture"]], about)
            shown += [np.asarray(picture), real.make_mask(entry, picture.size)]
        yield name, *shown


def draw(predictor, reference, mask, target, truth=None):
    """Draw a panel: reference, propagated mask, prediction and, if it is known, the truth."""
    predictor.set_references([(reference, mask)])
    result = predictor(target, with_propagated_mask=True, independent=True)
    pictures = [
        ("reference", overlay(reference, mask[None])),
        ("propagated mask", heat_map(target, result.propagated[0])),
        (f"prediction, score {result.scores[0]:.2f}", overlay(target, result.masks)),
    ]
    if truth is not None:
        pictures.append(("ground truth", overlay(target, truth)))
    return panel(pictures)


def draw_competing(predictor, shown):
    """Draw a panel of all targets (name, reference, its mask, target, …), each asked for everything
    at once; an answer leaves out what is absent."""
    predictor.set_references([(reference, mask, name) for name, reference, mask, *_ in shown])
    results = predictor.predict([target for *_, target, _ in shown], progress=False)
    return panel([(f"{len(shown)} kinds asked", result.overlay()) for result in results])


def draw_instances(predictor, picture, mask, name):
    """Draw a panel of one marked thing and of all its like, one by one."""
    predictor.set_references([(picture, mask, name)])
    found = predictor(picture, instances=True)
    pictures = [("reference", overlay(picture, mask[None]))]
    return panel([*pictures, (f"{len(found)} objects", found.overlay())], height=320)


def segment_photographs(predictor, folder):
    """Draw ``real_NAME.jpg`` of each pair into a folder, ``real_classes.jpg`` of all together and
    ``real_instances.jpg`` of the coins; returns the seconds that it took."""
    start, shown = time.perf_counter(), list(pairs())
    for name, reference, mask, target, truth in shown:
        sheet = draw(predictor, reference, mask, target, None if truth is None else truth[None])
        save_image(Path(folder) / f"real_{name}.jpg", sheet)
    together = [one for one in shown if one[0] in TOGETHER]
    save_image(Path(folder) / "real_classes.jpg", draw_competing(predictor, together))
    _, coins, coin, *_ = shown[0]
    save_image(Path(folder) / "real_instances.jpg", draw_instances(predictor, coins, coin, "coin"))
    return time.perf_counter() - start
