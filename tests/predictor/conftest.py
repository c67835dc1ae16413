"""A tiny model, and two references as files."""

import pytest
import torch
from PIL import Image

from segic_d2.predictor import InContextPredictor
from tests.predictor.clips import colour_predictor
from tests.predictor.parts import picture, square
from tests.tiny import tiny_config


@pytest.fixture(scope="package")
def model():
    torch.manual_seed(0)
    return InContextPredictor(tiny_config(), device="cpu").model


@pytest.fixture
def predictor(model):
    return InContextPredictor.from_model(model)


@pytest.fixture
def files(tmp_path):
    """cat.png, dog.png and their masks."""
    for seed, name in enumerate(("cat", "dog")):
        Image.fromarray(picture(seed)).save(tmp_path / f"{name}.png")
        Image.fromarray(square(x=20 + seed)).save(tmp_path / f"{name}_mask.png")
    return tmp_path


@pytest.fixture
def references(files):
    return [(files / f"{n}.png", files / f"{n}_mask.png", n) for n in ("cat", "dog")]


@pytest.fixture(scope="module")
def colours():
    """A predictor that sees colours; ``tests.predictor.clips``."""
    return colour_predictor()
