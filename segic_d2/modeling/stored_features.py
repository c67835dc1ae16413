"""Features that images bring along from a store on disk, or leave behind there.

The model knows a store by what it does: ``get(key)`` → features (C, g, g) or None, ``put(key,
features)``, and ``dtype``, to which features are rounded; the engine hands one over.
"""

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
