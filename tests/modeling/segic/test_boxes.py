"""Masks that are filled boxes."""

import logging

import pytest
import torch

from segic_d2.modeling.segic import boxes
from segic_d2.modeling.segic.boxes import filled_boxes
from tests.modeling.segic.regions.test_matcher import region_model
from tests.tiny import tiny_episode


def box(rows, columns, size=(98, 70)):
    mask = torch.zeros(1, *size)
    mask[:, rows, columns] = 1.0
    return mask


def disc():
    y, x = torch.meshgrid(torch.arange(98), torch.arange(70), indexing="ij")
    return ((y - 49) ** 2 + (x - 35) ** 2 < 30**2).float()[None]


def test_what_is_a_filled_box():
    soft = box(slice(20, 60), slice(10, 40))
    soft[:, 19, 10:40] = soft[:, 20:60, 40] = 0.4
    holed = box(slice(20, 60), slice(10, 40))
    holed[:, 30:40, 20:30] = 0
    empty, small = torch.zeros(1, 98, 70), box(slice(4, 12), slice(4, 30))
    masks = [soft, holed, disc(), empty, small, torch.ones(1, 98, 70)]
    assert filled_boxes(torch.cat(masks)) == [True, False, False, False, False, False]


@pytest.fixture
def reference():
    one = tiny_episode(0, 1)["references"][0]
    own = box(slice(14, 70), slice(14, 56))
    masks = torch.cat([own, disc()])
    return {**one, "masks": masks, "entity_ids": torch.tensor([0, 1])}


def views(model, reference):
    maps, wholes = model._encoded([reference])
    return model.boxes([reference], maps, wholes)[0]


def test_only_boxes_change_and_only_lose(reference, monkeypatch, caplog):
    halves = torch.zeros(5 * 7, dtype=torch.bool).view(7, 5)
    halves[:, :3] = True
    monkeypatch.setattr(
        "segic_d2.modeling.segic.regions.matcher.complete_area", lambda *a: halves.flatten()
    )
    model = region_model("MODEL.SEGIC.REGIONS.DECODER", 0.2)
    with caplog.at_level(logging.INFO, boxes.__name__):
        found = views(model, reference)
    assert "reference reference0_0.png: a mask that is a filled box is taken" in caplog.text
    expected = box(slice(14, 70), slice(14, 42))  # of three columns of cells of 14 px
    assert torch.equal(found["masks"][:1], expected)
    assert torch.equal(found["masks"][1], reference["masks"][1])


def test_the_whole_picture_is_completed_too(reference):
    model = region_model("INPUT.REFERENCE_WHOLE", True)
    whole = {"image": reference["image"], "masks": reference["masks"].clone()}
    found = views(model, {**reference, "whole": whole})
    assert torch.equal(found["whole"]["masks"], found["masks"])  # the same view: the same answer
    assert found["masks"][0].sum() <= reference["masks"][0].sum()
    assert torch.equal(whole["masks"], reference["masks"])  # nothing of the caller's changes


def test_the_key_leaves_boxes_as_they_are(reference):
    """And it belongs to the fingerprint; contexts are made of what was found."""
    model = region_model("MODEL.SEGIC.REGIONS.BOXES", False)
    assert views(model, reference) is reference
    assert "boxes" not in model.fingerprint["regions"]
    assert region_model().fingerprint["regions"]["boxes"] is True


@pytest.mark.parametrize("boxed", [True, False])
def test_contexts_and_episodes_know_what_was_found(reference, boxed, monkeypatch):
    model = region_model("MODEL.SEGIC.REGIONS.BOXES", boxed)
    asked = []
    inner = model.boxes.__class__._one

    def one(self, given, *maps):
        asked.append(given)
        return inner(self, given, *maps)

    monkeypatch.setattr(model.boxes.__class__, "_one", one)
    model.encode_context([reference])
    episode = {**tiny_episode(0, 2), "references": [reference]}
    model.episode_contexts([episode])
    assert len(asked) == (2 if boxed else 0)
