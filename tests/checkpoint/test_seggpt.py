"""Released checkpoints of SegGPT, and those of transformers, load as they are: all or none."""

import argparse
import logging

import pytest
import torch
from safetensors.torch import save_file

from segic_d2.checkpoint import SegICCheckpointer, save_weights
from segic_d2.checkpoint.seggpt import seggpt_names, seggpt_shapes
from tests.modeling.seggpt.parts import tiny_model


def released(model):
    return {k.removeprefix("net."): v.clone() for k, v in model.state_dict().items()}


def of_transformers(model):
    own = released(model)
    names = seggpt_names(seggpt_shapes(model.state_dict()))
    return {theirs: own[ours] for theirs, ours in names.items() if theirs != ours}


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("form", ["released", "bare", "training", "transformers", "safetensors"])
def test_every_tensor_is_loaded(tmp_path, form, caplog):
    source, model = tiny_model(seed=1), tiny_model(seed=2)
    state, file = released(source), tmp_path / "weights.pth"
    if form == "released":
        torch.save({"model": state}, file)
    elif form == "bare":
        torch.save(state, file)
    elif form == "training":  # as Painter's own saver writes
        args = argparse.Namespace(lr=1e-3, run=print)
        torch.save({"model": state, "optimizer": {}, "epoch": 3, "args": args}, file)
    elif form == "transformers":
        torch.save(of_transformers(source), file)
    else:
        file = tmp_path / "model.safetensors"
        save_file(of_transformers(source), file)
    assert not same(source, model)
    with caplog.at_level(logging.WARNING):
        SegICCheckpointer(model, complete=True).load(str(file))
    assert same(source, model)
    assert ("argparse.Namespace, builtins.print beside tensors" in caplog.text) == (
        form == "training"
    )


def test_our_own_files_go_on(tmp_path):
    source, model = tiny_model(seed=1), tiny_model(seed=2)
    save_weights(source, tmp_path / "own.safetensors")
    SegICCheckpointer(model, complete=True).load(str(tmp_path / "own.safetensors"))
    assert same(source, model)


def test_the_table_knows_every_name():
    own = released(tiny_model())
    theirs = of_transformers(tiny_model())
    assert len(theirs) == len(own) and not {*theirs} & {*own}
    assert "model.encoder.layers.4.attention.rel_pos_h" in theirs
    assert "model.encoder.layers.0.mlp.lin2.bias" in theirs
    assert {"decoder.decoder_pred.layernorm.weight", "model.encoder.layernorm.bias"} <= {*theirs}


def changed(state, name, value):
    rest = {k: v for k, v in state.items() if k != name}
    return rest if value is None else {**rest, name: value}


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("blocks.1.attn.proj.bias", None, "missing: blocks.1.attn.proj.bias, expected \\(32,\\)"),
        ("blocks.9.norm1.bias", torch.zeros(32), "unused: blocks.9.norm1.bias, found \\(32,\\)"),
        ("norm.bias", torch.zeros(31), "another shape: norm.bias, found \\(31,\\)"),
        ("mask_token", torch.full((1, 1, 1, 32), torch.nan), "infinite or undefined numbers"),
        ("type_token_cls", None, "missing: type_token_cls"),
    ],
)
def test_what_does_not_fit_changes_nothing(tmp_path, name, value, said):
    model, file = tiny_model(seed=2), tmp_path / "weights.pth"
    torch.save({"model": changed(released(tiny_model(seed=1)), name, value)}, file)
    with pytest.raises(ValueError, match=said) as error:
        SegICCheckpointer(model, complete=True).load(str(file))
    assert "does not fit as a SegGPT checkpoint" in str(error.value)
    assert same(model, tiny_model(seed=2))


def test_a_seggpt_may_start_from_painter_and_painter_from_itself(tmp_path):
    painter, file = tiny_model(seed=1, TYPE_TOKENS=False), tmp_path / "painter.pth"
    torch.save({"model": released(painter)}, file)
    other = tiny_model(seed=2, TYPE_TOKENS=False)
    SegICCheckpointer(other, complete=True).load(str(file))
    assert same(painter, other)
    model = tiny_model(seed=2)
    with pytest.raises(ValueError, match="2 tensors are missing"):
        SegICCheckpointer(model, complete=True).load(str(file))
    SegICCheckpointer(model).load(str(file))
    assert torch.equal(model.net.mask_token, painter.net.mask_token)
    assert torch.equal(model.net.type_token_cls, tiny_model(seed=2).net.type_token_cls)


def test_another_kind_of_file_is_said_to_be_one(tmp_path):
    file = tmp_path / "other.pth"
    torch.save({"model": {"layer.weight": torch.zeros(2)}}, file)
    with pytest.raises(ValueError, match="unused: layer.weight"):
        SegICCheckpointer(tiny_model()).load(str(file))
