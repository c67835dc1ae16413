"""Which checkpoint a run goes on from, and what is left of one whose writing failed."""

import os
import shutil

import pytest
import torch
from detectron2.utils import comm
from torch import nn

from segic_d2.checkpoint import SegICCheckpointer, save_weights
from segic_d2.checkpoint.files import fault_of
from tests.full_disk import full_disk


class Counter:
    """What a trainer keeps."""

    def state_dict(self):
        return {"seen": 1}

    def load_state_dict(self, state):
        self.seen = state["seen"]


def checkpointer(folder):
    torch.manual_seed(0)
    return SegICCheckpointer(nn.Linear(200, 3), str(folder), trainer=Counter())


@pytest.fixture
def run(tmp_path):
    """A folder with the checkpoints of iterations 1, 3, 5 and other files beside them."""
    writer = checkpointer(tmp_path)
    for iteration in (1, 3, 5):
        writer.save(f"model_{iteration:07d}", iteration=iteration)
    save_weights(writer.model, tmp_path / "weights.pth")  # no state of a training
    (tmp_path / "notes.pth").write_bytes(b"no checkpoint")
    os.utime(tmp_path / "model_0000001.pth")  # copied last: its time means nothing
    return tmp_path


def resumed(folder):
    """The iteration at which a run goes on; None: it starts."""
    own = checkpointer(folder)
    assert own.has_checkpoint() == bool(own.get_checkpoint_file())
    return own.resume_or_load("", resume=True).get("iteration")


WRONG = {
    "empty": b"",
    "blank": b" \n",
    "gone": b"model_0000007.pth",
    "a folder": b".",
    "no text": b"\xff\xfe\x00",
    "with NUL": b"model\0.pth",
    "of another place": b"../nowhere/model.pth",
}


def test_a_run_goes_on_from_what_last_checkpoint_names(run, caplog):
    assert resumed(run) == 5
    (run / "last_checkpoint").write_text("model_0000003.pth\n")
    assert resumed(run) == 3 and "names no whole" not in caplog.text


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_last_checkpoint_gives_way_to_the_newest_good_one(run, kind, caplog):
    (run / "last_checkpoint").write_bytes(WRONG[kind])
    assert resumed(run) == 5
    assert "last_checkpoint names no whole checkpoint" in caplog.text
    shutil.copy(run / "notes.pth", run / "model_0000005.pth")
    assert resumed(run) == 3


def test_a_missing_last_checkpoint_does_so_too(run):
    (run / "last_checkpoint").unlink()
    assert resumed(run) == 5


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(run, damage):
    file = run / "model_0000005.pth"
    data = bytearray(file.read_bytes())
    if damage == "flipped":
        weight = torch.load(file, weights_only=True)["model"]["weight"]
        data[data.index(weight.numpy().tobytes())] ^= 1
    data = b"other" if damage == "other" else data[: {"cut": -100, "empty": 0}.get(damage)]
    file.write_bytes(data)
    assert resumed(run) == 3


def test_nothing_to_go_on_from(tmp_path):
    assert not checkpointer(tmp_path).has_checkpoint() and not checkpointer("").has_checkpoint()
    (tmp_path / "last_checkpoint").write_text("")
    assert not checkpointer(tmp_path).has_checkpoint()
    (tmp_path / "last_checkpoint").write_text("gone.pth")
    with pytest.raises(ValueError, match=r"last_checkpoint names gone.pth .*without --resume"):
        checkpointer(tmp_path).has_checkpoint()


def test_a_flipped_bit_is_noticed(run):
    """Anywhere in the numbers; what torch reads is otherwise accepted in silence."""
    whole = (run / "model_0000003.pth").read_bytes()
    values = torch.load(run / "model_0000003.pth", weights_only=True)["model"]["weight"]
    start = whole.index(values.numpy().tobytes())
    file, generator = run / "flipped.pth", torch.Generator().manual_seed(0)
    for place in torch.randint(values.numel() * 4, (30,), generator=generator).tolist():
        data = bytearray(whole)
        data[start + place] ^= 1 << place % 8
        file.write_bytes(data)
        with pytest.raises(ValueError, match="flipped.pth: it is damaged: wrong checksum"):
            checkpointer(run).load(str(file))
    assert not fault_of(run / "model_0000003.pth")


def test_a_full_disk_leaves_the_older_checkpoint(run):
    whole = {p.name: p.read_bytes() for p in run.iterdir()}
    for write in (
        lambda: checkpointer(run).save("model_0000005", iteration=6),
        lambda: save_weights(nn.Linear(200, 3), run / "weights.pth"),
        lambda: save_weights(nn.Linear(200, 3), run / "new.safetensors"),
    ):
        with full_disk(), pytest.raises(OSError, match=r"(weights|model_0000005|new)\.") as error:
            write()
        assert error.value.errno
        assert {p.name: p.read_bytes() for p in run.iterdir()} == whole


def of_two_machines(monkeypatch, folders, weights=("", "")):
    """Let machine 0 resume, then machine 1, which compares; returns the iteration of machine 1."""
    sent = []
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "all_gather", lambda own: sent.append(own) or [sent[0], own])
    for folder, file in zip(folders, weights, strict=True):
        found = checkpointer(folder).resume_or_load(str(file), resume=True)
    return found.get("iteration")


def test_machines_resume_from_copies_of_one_checkpoint(run, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp("other") / "output"
    shutil.copytree(run, other)
    assert of_two_machines(monkeypatch, (run, other)) == 5
    (other / "last_checkpoint").write_text("model_0000003.pth")
    with pytest.raises(ValueError, match=r"start from is model_0+5.pth \(SHA.* and model_0+3.pth"):
        of_two_machines(monkeypatch, (run, other))
    shutil.copy(run / "model_0000003.pth", run / "model_0000009.pth")
    shutil.copy(run / "model_0000005.pth", other / "model_0000009.pth")
    for folder in (run, other):
        (folder / "last_checkpoint").write_text("model_0000009.pth")
    with pytest.raises(ValueError, match=r"is model_0+9.pth .* in process 0, and model_0+9.pth"):
        of_two_machines(monkeypatch, (run, other))


def test_a_machine_without_the_checkpoint_does_not_begin_anew(run, tmp_path_factory, monkeypatch):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(ValueError, match="process 0, and none in process 1: it must be the same"):
        of_two_machines(monkeypatch, (run, empty))
    weights = run / "weights.pth"  # which both would start from without --resume
    with pytest.raises(ValueError, match="process 0, and weights.pth .* in process 1"):
        of_two_machines(monkeypatch, (run, empty), (weights, weights))
