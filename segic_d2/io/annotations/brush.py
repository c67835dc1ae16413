"""Label Studio's brush RLE: bits, for a picture of four equal channels of which alpha counts.

32 bits: how many values; 5: bits of a value, less 1; 4 times 4: bits of a length, less 1; then
blocks: 1 bit (a run, or values one by one), 2 (which length), the length less 1, the value(s).
"""

from collections.abc import Sequence

import numpy as np

SIZES = (3, 4, 8, 16)  # bits of a length, as Label Studio writes them
MAX_RUN = 1 << SIZES[-1]


def decode_brush(rle: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """The mask, bool (H, W) = ``size``: where alpha is above 0. ValueError: bytes that are none, or
    of another size."""
    data = np.asarray(rle)
    if data.ndim != 1 or data.dtype.kind not in "iu" or not data.size:
        raise ValueError("its rle is no list of bytes")
    if data.min() < 0 or data.max() > 255:
        raise ValueError(f"its rle has {data.min() if data.min() < 0 else data.max()}, no byte")
    bits = _Bits(data.astype(np.uint8))
    number = bits.take(32)
    if number != size[0] * size[1] * 4:
        raise ValueError(f"its rle has {number} values, {size[1]}x{size[0]} px have 4 each")
    word = bits.take(5) + 1
    lengths = [bits.take(4) + 1 for _ in range(4)]
    out, at = np.zeros(number, np.uint8), 0
    while at < number:
        run = bits.take(1)
        end = at + 1 + bits.take(lengths[bits.take(2)])
        if end > number:
            raise ValueError("its rle runs over the end of the picture")
        if run:
            out[at:end] = min(bits.take(word), 255)
        else:
            out[at:end] = [min(bits.take(word), 255) for _ in range(end - at)]
        at = end
    return out.reshape(*size, 4)[..., 3] > 0


def encode_brush(mask: np.ndarray) -> list[int]:
    """The bytes of a mask, bool (H, W)."""
    flat = np.repeat(mask.ravel(), 4)
    edges = [0, *np.flatnonzero(np.diff(flat)).__add__(1).tolist(), flat.size]
    words = [f"{flat.size:032b}", f"{8 - 1:05b}", *(f"{n - 1:04b}" for n in SIZES)]
    for start, end in zip(edges, edges[1:], strict=False):
        value = f"{255 if flat[start] else 0:08b}"
        for at in range(start, end, MAX_RUN):
            length = min(end - at, MAX_RUN) - 1
            which = next(i for i, n in enumerate(SIZES) if length < 1 << n)
            words.append(f"1{which:02b}{length:0{SIZES[which]}b}{value}")
    text = "".join(words)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


class _Bits:
    def __init__(self, data: np.ndarray) -> None:
        self.text = "".join(map(str, np.unpackbits(data).tolist()))
        self.at = 0

    def take(self, number: int) -> int:
        self.at += number
        if self.at > len(self.text):
            raise ValueError("its rle ends too early")
        return int(self.text[self.at - number : self.at], 2)
