"""The mean feature of a backbone, which the similarity leaves out (``SIMILARITY.CENTER``).

Features of one backbone share a large common part, so that raw cosines are high between any two
positions. Without it they tell things apart better. The mean is fixed and comes from other
pictures, so that a context stays independent of its targets; it is kept with the weights.

Shape shorthand: C feature channels, g grid side (cells).
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from ...structures.frame import valid_cells

TENSOR = "feature_mean"


@torch.no_grad()
def compute_feature_mean(model, images):
    """Mean over pictures of the mean feature of a picture, whatever their sizes.

    Args:
        model: ``SegIC``.
        images: iterable of pictures, see ``SegIC.encode_images``; none of them padded.

    Returns:
        float (C,) on the CPU.

    Raises:
        ValueError: no pictures.
    """
    total, count = 0.0, 0
    for image in images:
        features = model.encode_images([image])
        grid = features.map.shape[-1]
        inside = valid_cells(features.image_sizes, grid, model.canvas, features.map.device)[0]
        total = total + features.map[0][:, inside].double().mean(1).cpu()
        count += 1
    if not count:
        raise ValueError("no pictures to compute the mean feature of")
    return (total / count).float()


def save_feature_mean(mean, path):
    """Write a mean (C,) for ``MODEL.SEGIC.SIMILARITY.MEAN``."""
    Path(path).write_bytes(save({TENSOR: mean.contiguous()}))


def load_feature_mean(path, channels):
    """Read the mean (C,) from a .safetensors file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no mean in it, or one of another number of channels.
    """
    key = "MODEL.SEGIC.SIMILARITY.MEAN"
    if not Path(path).is_file():
        raise FileNotFoundError(f"{key} {path}: no such file")
    try:
        mean = load_file(str(path))[TENSOR].float()
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{key} {path} holds no tensor {TENSOR!r}: {error}") from error
    if mean.shape != (channels,):
        raise ValueError(
            f"{key} {path} is for {tuple(mean.shape)} channels; the backbone has {channels}"
        )
    return mean
