"""Folders of pictures of a red box on noise, and a tiny predictor that was shown one."""

import time

import numpy as np
import torch
from PIL import Image

from segic_d2.predictor import InContextPredictor
from tests.tiny import tiny_config

SIZE = 60, 80
RED = 200, 60, 40


def draw(seed):
    """A picture uint8 (60, 80, 3), and the mask of its box."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 80, (*SIZE, 3), dtype=np.uint8)
    y, x = rng.integers(0, 30, 2)
    mask = np.zeros(SIZE, bool)
    mask[y : y + 25, x : x + 30] = True
    pixels[mask] = RED
    return pixels, mask


def write_pictures(folder, number, seed=0):
    """``number`` pictures in a new folder; returns it."""
    folder.mkdir(parents=True)
    for i in range(number):
        Image.fromarray(draw(seed + i)[0]).save(folder / f"{i:04d}.png")
    return folder


def tiny_predictor(names=("box",), batch_size=2):
    """A random predictor that was shown a box."""
    torch.manual_seed(0)
    predictor = InContextPredictor(tiny_config(), batch_size=batch_size)
    predictor.set_references([(*draw(1000 + i), name) for i, name in enumerate(names)])
    return predictor


def files_of(folder, but=("label.json", "context.safetensors", "chunks")):
    """{name: bytes} of all files of a folder and below."""
    files = (f for f in sorted(folder.rglob("*")) if f.is_file())
    names = ((f, f.relative_to(folder)) for f in files)
    return {str(n): f.read_bytes() for f, n in names if not set(n.parts) & {*but, ".lock"}}


class SlowPredictor(InContextPredictor):
    """Takes its time for each call, so that something can happen meanwhile."""

    def predict(self, *args, **how):
        time.sleep(0.2)
        return super().predict(*args, **how)


def slow_predictor():
    """``tiny_predictor`` as a ``SlowPredictor``."""
    predictor = tiny_predictor(batch_size=1)
    predictor.__class__ = SlowPredictor
    return predictor
