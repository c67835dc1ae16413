"""Features that images bring along from a store on disk, or leave behind there.

The model knows a store by what it does: ``get(key)`` → features (C, g, g) or None, ``put(key,
features)``, and ``dtype``, to which features are rounded; the engine hands one over.
"""

import hashlib
from dataclasses import dataclass

import torch


def image_size(image):
    """(h, w) in px of an image of an episode: of its pixels, or of those that its features saw."""
    return tuple(image["image_size"] if "features" in image else image["image"].shape[-2:])


def brought_features(image, shape):
    """The features that an image brings along, (C, g, g) as they were stored, or None.

    Raises:
        ValueError: naming the file, if they have another shape than the backbone's.
    """
    features = image.get("features")
    if features is not None and tuple(features.shape) != tuple(shape):
        raise ValueError(
            f"the features of {image.get('file_name', 'an image')} are {tuple(features.shape)}, "
            f"this model's backbone gives {tuple(shape)}"
        )
    return features


def round_features(features, dtype, file_name):
    """Features in the type that a store keeps, on the CPU.

    Raises:
        ValueError: naming the file, if they do not fit the type.
    """
    rounded = features.to(dtype).cpu()
    if not torch.isfinite(rounded).all():
        raise ValueError(
            f"INPUT.FEATURE_CACHE.DTYPE: the features of {file_name} do not fit "
            f"{str(dtype).removeprefix('torch.')}, the largest is {features.abs().max().item():g}"
        )
    return rounded


@dataclass
class Features:
    """Feature maps of images on the canvas: map float (B, C, g, g), image_sizes B (h, w).

    ``pictures`` are the images themselves, B (3, h, w) or None each, for
    ``MODEL.SEGIC.TEST.REFINE``; None: there are none.
    """

    map: torch.Tensor
    image_sizes: list
    pictures: list | None = None

    def __len__(self):
        return len(self.map)

    def __getitem__(self, part):
        """The images of a slice, or of a list of rows."""
        rows = range(len(self))[part] if isinstance(part, slice) else part
        pictures = None if self.pictures is None else [self.pictures[row] for row in rows]
        return Features(self.map[part], [self.image_sizes[row] for row in rows], pictures)


def tensor_bytes(tensor):
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()


def tensor_hash(tensor):
    return hashlib.sha256(tensor_bytes(tensor)).hexdigest()[:16]
