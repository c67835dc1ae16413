"""Pictures to segment as people ask for them: one, several, folders of them."""

import os
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import TypeAlias, TypeGuard

import numpy as np
import torch
from PIL import Image

from ..io.names import list_pictures
from ..io.pictures import AnyPicture, file_of, to_picture
from ..structures.episode import Target
from ..structures.picture import Picture
from ..structures.view import InputSpec
from ..utils.files import AnyPath

AnyPictures: TypeAlias = AnyPicture | Iterable[AnyPicture]  # a folder is a path too
ReadTarget: TypeAlias = tuple[Target, np.ndarray, str]  # view, picture uint8 (H, W, 3), file


def is_folder(source: object) -> TypeGuard[AnyPath]:
    """Whether a source is the path of a folder."""
    return isinstance(source, str | os.PathLike) and Path(source).is_dir()


def is_one(source: object) -> TypeGuard[AnyPicture]:
    """Whether a source is a single picture: a path or web address, a PIL image, or an array."""
    if isinstance(source, np.ndarray | torch.Tensor):
        return source.ndim <= 3  # four axes are pictures of one size
    return isinstance(source, str | os.PathLike | Image.Image)


def check_one(image: object) -> None:
    """ValueError: several pictures, or a folder, where one is asked for."""
    if is_folder(image):
        name = os.fspath(image)
        raise ValueError(f"{name} is a folder: use predictor.predict({name!r})")
    if isinstance(image, Iterable) and not is_one(image):
        kind = type(image).__name__
        raise ValueError(
            f"one picture is asked for, not several ({kind}): use predictor.predict(…)"
        )


def each_picture(images: AnyPictures) -> tuple[Iterator[AnyPicture], int | None]:
    """The pictures of a source in order, those of folders sorted (``list_pictures``), and how many
    they are, None where only the end will tell. ValueError: a folder without pictures, or no
    pictures at all."""
    several: Iterable[AnyPicture]
    if is_folder(images):
        several = list_pictures([images])
    elif is_one(images):
        several = [images]
    elif isinstance(images, Iterable):
        several = images
    else:
        raise ValueError(f"pictures are asked for, not {type(images).__name__}")
    counted = isinstance(several, Sized) and not any(map(is_folder, several))
    return _unfolded(several), len(several) if counted else None  # type: ignore[arg-type]


def _unfolded(several: Iterable[AnyPicture]) -> Iterator[AnyPicture]:
    for image in several:
        if is_folder(image):
            yield from list_pictures([image])
        else:
            yield image


def read_target(image: AnyPicture, spec: InputSpec) -> ReadTarget:
    """One picture as a model takes it, and as it is displayed; errors as of ``to_picture``."""
    picture = to_picture(image)
    height, width = picture.shape[:2]
    view = spec.target(Picture(picture))
    return {**view, "height": height, "width": width}, picture, file_of(image)
