import os

import pytest
import torch

from segic_d2.structures.context import Context


def context(entities=2, shots=3, seed=0, **changes):
    g = torch.Generator().manual_seed(seed)
    exists = torch.arange(shots) < torch.randint(1, shots + 1, (entities, 1), generator=g)
    values = {
        "prototypes": torch.randn(entities, shots, 384, generator=g) * exists[..., None],
        "unit_prototypes": torch.rand(entities, shots, 384, generator=g) * exists[..., None],
        "shots": exists,
        "meta": torch.randn(entities, 768, generator=g),
        "ids": list(range(7, 7 + entities)),
        "names": ["cat", None][:entities] + ["x"] * (entities - 2),
        "task": "semantic",
        "fingerprint": {"backbone": "tiny", "canvas": 112, "text": None},
    }
    return Context(**{**values, **changes})


@pytest.mark.parametrize("meta", [True, False])
def test_a_saved_context_comes_back(tmp_path, meta):
    c = context(**({} if meta else {"meta": None}))
    c.save(tmp_path / "c.safetensors")
    back = Context.load(tmp_path / "c.safetensors")
    for name in ("prototypes", "unit_prototypes", "shots"):
        assert torch.equal(getattr(back, name), getattr(c, name))
    assert (back.meta is None) == (not meta) and (not meta or torch.equal(back.meta, c.meta))
    for name in ("ids", "names", "task", "fingerprint"):
        assert getattr(back, name) == getattr(c, name)


def test_a_saved_context_is_readable_by_whoever_may_read_new_files(tmp_path):
    context().save(tmp_path / "c.safetensors")
    (tmp_path / "plain").write_bytes(b"")
    modes = [(tmp_path / name).stat().st_mode for name in ("c.safetensors", "plain")]
    assert modes[0] == modes[1]


def test_a_saved_context_remembers_what_it_is_about(tmp_path):
    c = context(about={"files": [["a.jpg"], ["b.jpg", "c.jpg"]], "seed": 3})
    c.save(tmp_path / "c.safetensors")
    assert Context.load(tmp_path / "c.safetensors").about == c.about
    context().save(tmp_path / "c.safetensors")
    assert Context.load(tmp_path / "c.safetensors").about == {}


def test_some_entities_and_some_shots():
    c = context(3, 2, names=["a", "b", "c"])
    c.shots = torch.ones(3, 2, dtype=torch.bool)
    kept = torch.tensor([[True, False], [True, True], [False, True]])
    part = c.take([2, 0], kept)
    assert part.ids == [9, 7] and part.names == ["c", "a"] and len(part) == 2
    assert part.shots.tolist() == [[False, True], [True, False]]
    torch.testing.assert_close(part.mean_unit()[0], c.unit_prototypes[2, 1])
    torch.testing.assert_close(part.mean_unit()[1], c.unit_prototypes[0, 0])
    assert torch.equal(part.meta, c.meta[[2, 0]]) and c.shots.all()
    assert len(c.take([])) == 0


def test_one_entity_takes_a_few_kilobytes(tmp_path):
    context(1, 1).save(tmp_path / "c.safetensors")
    assert os.path.getsize(tmp_path / "c.safetensors") < 8 * 1024


def test_a_file_that_is_no_context_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.safetensors"):
        Context.load(tmp_path / "nowhere.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ValueError, match="bad.safetensors is not a context"):
        Context.load(tmp_path / "bad.safetensors")


def test_another_models_context_is_refused_with_every_difference():
    c = context()
    c.check({"backbone": "tiny", "canvas": 112, "text": None})
    with pytest.raises(ValueError) as e:
        c.check({"backbone": "big", "canvas": 896, "text": None})
    assert "backbone: context 'tiny', model 'big'" in str(e.value)
    assert "canvas: context 112, model 896" in str(e.value)


def test_shots_fuse_by_the_mean_of_unit_prototypes():
    c = context(3, 3, seed=3)
    got, released = c.mean_unit(), c.mean_unit(released=True)
    for n in range(3):
        shots = [k for k in range(3) if c.shots[n, k]]
        torch.testing.assert_close(got[n], sum(c.unit_prototypes[n, k] for k in shots) / len(shots))
        direction = sum(c.prototypes[n, k] / c.prototypes[n, k].norm() for k in shots) / len(shots)
        torch.testing.assert_close(released[n], direction)
