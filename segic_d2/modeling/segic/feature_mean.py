"""The mean feature of a backbone, which the similarity leaves out (``SIMILARITY.CENTER``).

Features of one backbone share a large common part, so that raw cosines are high between any two
positions. Without it they tell things apart better. The mean is fixed and comes from other
pictures, so that a context stays independent of its targets; it is kept with the weights.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from detectron2.config import CfgNode
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ...structures.episode import View
from ...utils.files import write_whole
from ..protocol import InContextModel

TENSOR = "feature_mean"


@torch.no_grad()
def compute_feature_mean(model: InContextModel, images: Iterable[Tensor | View]) -> Tensor:
    """Mean over pictures (``encode_images``), none padded, of the mean feature of a picture,
    whatever their sizes: float (C,) on the CPU. ValueError: no pictures."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for image in images:
        features = model.encode_images([image])
        inside = features.frames[0].cells(features.map.shape[-1], features.map.device)
        total = total + features.map[0][:, inside].double().mean(1).cpu()
        count += 1
    if not count:
        raise ValueError("no pictures to compute the mean feature of")
    return (total / count).float()


def save_feature_mean(mean: Tensor, path: str | Path) -> None:
    """Write a mean (C,) for ``MODEL.SEGIC.SIMILARITY.MEAN``."""
    write_whole(path, save({TENSOR: mean.contiguous()}))


def configured_mean(cfg: CfgNode, channels: int) -> Tensor | None:
    """The mean (C,) of ``SIMILARITY.MEAN``, zeros where weights will bring it; None: raw cosines.
    Errors of ``load_feature_mean``, and ValueError: a mean beside the released rules."""
    options = cfg.MODEL.SEGIC.SIMILARITY
    if options.CENTER != "fixed":
        return None
    if cfg.MODEL.SEGIC.RELEASED:
        raise ValueError(
            "MODEL.SEGIC.SIMILARITY.CENTER is 'fixed', which MODEL.SEGIC.RELEASED does not know; "
            "it must be 'none'"
        )
    return load_feature_mean(options.MEAN, channels) if options.MEAN else torch.zeros(channels)


def load_feature_mean(path: str, channels: int) -> Tensor:
    """Read the mean (C,) from a .safetensors file. FileNotFoundError: no such file; ValueError: no
    mean in it, or one of another number of channels."""
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
