"""Checkpoints of other trainers are loaded for their tensors, or refused by name."""

import argparse
import collections
import logging
import pathlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from segic_d2.checkpoint import SegICCheckpointer
from segic_d2.checkpoint.files import read_checkpoint
from segic_d2.checkpoint.foreign import named_tensors


class Ran:
    """What runs when it is unpickled."""

    ran = 0

    def __reduce__(self):
        return _run, ()


def _run():
    Ran.ran += 1
    return {}


def model():
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(3)
    return model().state_dict()


def prefixed(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


FORMS = {
    "numpy numbers": lambda s: {"model": s, "best": np.float64(1.5), "n": np.int64(3)},
    "numpy arrays": lambda s: {"model": s, "curve": np.arange(4.0), "rng": np.random.get_state()},
    "options": lambda s: {"model": s, "args": argparse.Namespace(lr=1), "out": pathlib.Path("x")},
    "collections": lambda s: {
        "model": s, "log": collections.defaultdict(list), "count": collections.Counter("aab"),
    },
    "code": lambda s: {"model": s, "evil": Ran()},
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "state_dict with options": lambda s: {"state_dict": s, "args": argparse.Namespace(lr=1)},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer": {"state": {}}},
    "named": lambda s: {"model": "segic", "state_dict": s},
    "deep": lambda s: {"model": {"state_dict": s, "version": 2}},
    "lightning": lambda s: {"state_dict": prefixed("model.", s), "hyper_parameters": {"a": 1}},
    "parallel": lambda s: {"model": prefixed("module.", s)},
    "compiled in parallel": lambda s: {"model": prefixed("module._orig_mod.", s)},
    "with a loss": lambda s: {"state_dict": {**prefixed("model.", s), "loss.w": torch.ones(1)}},
    "averaged": lambda s: {"ema_model": prefixed("module.", s), "step": 4},
    "averaged beside": lambda s: {"ema": {k: v * 0 for k, v in s.items()}, "model": s},
    "plain": lambda s: s,
    "plain, with a number": lambda s: {**s, "epoch": 4},
    "two of them": lambda s: {
        "teacher": {k: v * 0 for k, v in prefixed("x.", s).items()}, "state_dict": s,
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_tensors_are_loaded(state, tmp_path, form, caplog):
    path = tmp_path / "foreign.pth"
    torch.save(FORMS[form](state), path)
    own = model()
    with caplog.at_level(logging.WARNING):
        SegICCheckpointer(own, complete=True).load(str(path))
    assert all(torch.equal(value, state[name]) for name, value in own.state_dict().items())
    assert Ran.ran == 0
    if form == "options":
        assert f"{path} holds argparse.Namespace, pathlib." in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "best": 0.5}, r"foreign.pth is no checkpoint: it holds epoch, best, and no"),
        ({"state_dict": {}}, "it holds state_dict, and no named tensors"),
        ({"model": {"a": 1, "b": 2}}, "it holds a, b, and no named tensors"),
        ({"model": {"a": np.ones(3)}}, "it holds a, and no named tensors"),
        ([1, 2], "it holds a list, not named tensors"),
        ({"state_dict": {"other.weight": torch.ones(2)}}, "holds none of the model's trainable"),
    ],
)
def test_what_holds_no_tensors_of_ours_says_what_it_holds(tmp_path, content, message):
    torch.save(content, tmp_path / "foreign.pth")
    with pytest.raises(ValueError, match=message) as error:
        SegICCheckpointer(model()).load(str(tmp_path / "foreign.pth"))
    assert "\n" not in str(error.value)


def test_the_container_with_the_most_names_counts(state):
    half = dict(list(state.items())[:2])
    assert named_tensors({"model": half, "state_dict": state}, state) == state
    assert named_tensors({"a.b": torch.ones(1), "epoch": 3}, state).keys() == {"a.b"}


def test_backbones_too(state, tmp_path):
    torch.save({"state_dict": state, "args": argparse.Namespace(lr=1)}, tmp_path / "b.pth")
    tensors, _ = read_checkpoint(tmp_path / "b.pth")
    assert tensors.keys() == state.keys()


@pytest.mark.parametrize("prefix", ["", "model.", "module."])
def test_safetensors_of_other_trainers(state, tmp_path, prefix):
    save_file(prefixed(prefix, state), tmp_path / "w.safetensors")
    own = model()
    SegICCheckpointer(own, complete=True).load(str(tmp_path / "w.safetensors"))
    assert all(torch.equal(value, state[name]) for name, value in own.state_dict().items())
