"""Where the host waits for a device: the lists of docs/gpu.md are whole, and nothing else is."""

import re
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from segic_d2.predictor import InContextPredictor
from segic_d2.structures.frame import Frame
from tests.devices import KIND, PretendedDevice
from tests.modeling.test_pretended_device import (
    REFINED,
    RELEASED,
    STRATEGIES,
    batches,
    picture,
    predictor,
    shown,
)
from tests.tiny import tiny_config

DOCS = Path(__file__).resolve().parents[2] / "docs" / "gpu.md"


def documented(title):
    """{(what, where)} of a table of docs/gpu.md."""
    section = DOCS.read_text().split(f"### {title}\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \| (.+?) \|$", section, re.M)
    assert all(len(reason) > 10 for *_, reason in rows)
    return {(what, where) for where, what, _ in rows}


@pytest.mark.parametrize("opts", [(), REFINED, RELEASED, STRATEGIES])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_picture_waits_where_the_docs_say(opts, precision):
    with PretendedDevice() as device:
        there = predictor(KIND, *opts, precision=precision)
        device.waits.clear()
        result = there(picture(7))
        first = set(device.waits)
        device.waits.clear()
        result = there(picture(8), with_propagated_mask=True)
        result.label_map(0)
    assert first == set(device.waits) == documented("One picture")


def test_masks_are_made_on_the_device_and_then_wait_for_nothing(monkeypatch):
    """As large as the picture they are the most work after the decoder."""
    masks, there = Frame.masks, []
    with PretendedDevice() as device:

        def noted(frame, logits, *args):
            there.append(device.holds(logits))
            return masks(frame, logits, *args)

        monkeypatch.setattr(Frame, "masks", noted)
        result = predictor(KIND)(picture(7), with_propagated_mask=True, independent=True)
        device.waits.clear()
        assert result.masks.any() and result.scores.any() and result.propagated.any()
        assert len(result.instances()) and len(result.boxes)
    assert there == [True] and not device.waits


def test_references_wait_where_the_docs_say():
    with PretendedDevice() as device:
        there = InContextPredictor(tiny_config(*STRATEGIES), device=KIND)
        device.waits.clear()
        there.set_references(shown())
        first = set(device.waits)
        device.waits.clear()
        there.set_references(shown())
    assert first == documented("References") and len(set(device.waits)) == 1


def test_a_training_step_waits_where_the_docs_say():
    with PretendedDevice() as device:
        torch.manual_seed(0)
        model = build_model(tiny_config(*STRATEGIES, "MODEL.DEVICE", KIND)).train()
        device.waits.clear()
        sum(model(next(batches())).values()).backward()
    assert set(device.waits) == documented("A training step")
