"""Identity switches: how often another predicted id takes over a true object."""

import numpy as np

from .video import VOID, LabelMaps, label_pairs

OVERLAP = 0.5  # IoU from which a predicted object covers a true one


def identity_switches(
    truth: LabelMaps, predicted: LabelMaps, name: str = "the video"
) -> dict[int, int]:
    """The number of switches of each true object, by id.

    At each frame a true object goes with the predicted id whose mask has the highest IoU with its
    own, if that is at least 0.5. A switch is a frame at which this id differs from the one that it
    last went with, also if frames without any lie between. As in CLEAR-MOT (Bernardin and
    Stiefelhagen, 2008), an id that still fits is kept on a tie, frames without a match count
    nothing, and an id need not equal the true one: a swap is counted once, where it happens, and
    ids that are wrong from the first frame on are none. All frames count. 255 in the truth is void.

    Args:
        truth, predicted: label maps of the same T frames (see ``video``).
        name: the video, for errors.

    ValueError, naming the video and the frame: missing frames, two sizes, no label map.
    """
    last: dict[int, int] = {}
    switches: dict[int, int] = {}
    for _, a, b in label_pairs(truth, predicted, range(len(truth)), name):
        for k, fits in _covering(a, b).items():
            switches.setdefault(k, 0)
            if fits and last.get(k) not in fits:
                switches[k] += k in last
                last[k] = fits[0]
    return dict(sorted(switches.items()))


def _covering(a: np.ndarray, b: np.ndarray) -> dict[int, list[int]]:
    """For each true object of a frame, the predicted ids with the highest IoU, if at least 0.5;
    two can only be equal at 0.5 sharp. Lower ids come first."""
    true, true_area = np.unique(a, return_counts=True)
    found, found_area = np.unique(b, return_counts=True)
    areas = dict(zip(true.tolist(), true_area.tolist(), strict=True))
    others = dict(zip(found.tolist(), found_area.tolist(), strict=True))
    code = a.astype(np.int64) * (int(found[-1]) + 1) + b
    pairs, shared = np.unique(code[(a != 0) & (b != 0)], return_counts=True)
    fits: dict[int, list[int]] = {k: [] for k in areas if k not in (0, VOID)}
    for pair, both in zip(pairs.tolist(), shared.tolist(), strict=True):
        k, p = divmod(pair, int(found[-1]) + 1)
        if k in fits and both >= OVERLAP * (areas[k] + others[p] - both):
            fits[k].append(p)
    return fits
