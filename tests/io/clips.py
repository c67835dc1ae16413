"""Small clips, encoded here; tests that need them are skipped without PyAV, but not on CI."""

import os
from fractions import Fraction

import numpy as np
import pytest
import torch

from segic_d2.structures.frame import Frame
from segic_d2.structures.segmentation import Segmentation

av = __import__("av") if os.environ.get("CI") else pytest.importorskip("av")


def greys(count, size=(48, 64), step=16):
    """Flat frames, uint8 (H, W, 3), that tell their number by their grey."""
    return [np.full((*size, 3), 16 + step * i, np.uint8) for i in range(count)]


def number_of(image, step=16):
    """The number of a frame of ``greys``."""
    return round((float(image.mean()) - 16) / step)


def square(number, size=(48, 64)):
    """A bright square on dark that moves by 2 px a frame, and its mask, bool (H, W)."""
    mask = np.zeros(size, bool)
    mask[16:32, 4 + 2 * number : 20 + 2 * number] = True
    return np.where(mask[..., None], np.uint8(220), np.uint8(40)).repeat(3, -1), mask


def write_clip(path, frames, codec="libx264", rate=25, times=None, rotation=None, streams=1):
    """Encode frames into each of some streams, ``times`` in ticks of 1/600 s (None: by the rate).
    A rotation (degrees, hflip) goes into the header."""
    pixels = {"mjpeg": "yuvj420p", "rawvideo": "rgb24"}.get(codec, "yuv420p")
    options = {"bf": "0", "g": "6"} if codec == "libx264" else {}
    with av.open(str(path), "w") as container:
        made = [container.add_stream(codec, rate=rate, options=options) for _ in range(streams)]
        for stream in made:
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = pixels
            if rotation is not None:
                stream.set_display_rotation(rotation[0], hflip=rotation[1])
            if times is not None:
                stream.codec_context.time_base = Fraction(1, 600)
        for i, image in enumerate(frames):
            for stream in made:
                frame = av.VideoFrame.from_ndarray(image, "rgb24")
                if times is not None:
                    frame.pts, frame.time_base = times[i], Fraction(1, 600)
                container.mux(stream.encode(frame))
        for stream in made:
            container.mux(stream.encode())
    return path


def found(masks, ids, scores=None, size=(48, 64), classes=None, names=None):
    """A result whose masks are these, bool (H, W), pixel by pixel; with a grey picture."""
    logits = torch.full((len(ids), 64, 64), -9.0)
    for row, mask in enumerate(masks):
        logits[row, : size[0], : size[1]][torch.from_numpy(mask)] = 9.0
    scores = torch.tensor(scores or [0.5] * len(ids))
    names = names or [None] * len(ids)
    result = Segmentation(logits, scores, list(ids), names, Frame(64, size, size), classes=classes)
    return result.for_people(np.full((*size, 3), 90, np.uint8))
