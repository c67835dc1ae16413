"""Positional debias against principal directions by the definition."""

import numpy as np
import pytest
import torch

from segic_d2.modeling.layers.frozen_encoder import FrozenEncoder
from segic_d2.modeling.segic.regions.positional import Debias
from segic_d2.modeling.segic.regions.whitening import Whitening
from segic_d2.structures.view import InputSpec
from tests.modeling.segic.parts import build
from tests.tiny import TinyBackbone, tiny_episode

HEAD = "MODEL.SEM_SEG_HEAD.NAME", "RegionMatchingHead", "INPUT.MULTIPLE", 14
KEY = "MODEL.SEGIC.REGIONS.DEBIAS"


class Placed(TinyBackbone):
    """Features that depend on where a cell lies, too."""

    def forward(self, x):
        found = super().forward(x)["feat"]
        place = torch.randn(24, 5, generator=torch.Generator().manual_seed(1))
        y, x = torch.meshgrid(*(torch.arange(n) / 8 for n in found.shape[2:]), indexing="ij")
        waves = torch.stack([y, x, y * x, (3 * y).sin(), (3 * x).cos()])
        return {"feat": found + torch.einsum("cw,whx->chx", place, waves)}


def encoder(seed=0):
    torch.manual_seed(seed)
    return FrozenEncoder(Placed(), "feat", InputSpec(112, (120.0,) * 3, (60.0,) * 3))


def leading(cells, count):
    """The leading eigenvectors of the covariance, in columns; cells are rows."""
    _, vectors = np.linalg.eigh(np.cov(cells, rowvar=False))
    return vectors[:, ::-1][:, :count]


def test_directions_are_the_flat_pictures_and_are_projected_out():
    found, debias, features = encoder(), Debias(2, 24, 3), torch.randn(1, 24, 5)
    plain = Whitening(2, 24, debias=debias).units(features)  # before a backbone was asked
    assert torch.equal(plain, Whitening(2, 24).units(features))
    debias.look(found)
    flat = found([torch.full((3, 112, 112), 128.0)]).map[0].flatten(1).T.double().numpy()
    units = Whitening(2, 24, debias=debias).units(features)[0]
    for g in (0, 1):
        own = slice(12 * g, 12 * g + 12)
        directions = leading(flat[:, own], 3)
        for cell in range(5):
            x = features[0, own, cell].double().numpy()
            for k in range(3):
                x = x - (x @ directions[:, k]) * directions[:, k]
            x /= np.linalg.norm(x) * 2**0.5
            np.testing.assert_allclose(units[cell, own], x, atol=1e-4)
    kept = Whitening(2, 24, debias=debias).units(features, whiten=False)
    assert torch.equal(kept, plain)  # regions are linked with positions


def test_cells_of_a_flat_picture_tell_positions_no_more():
    found, debias = encoder(), Debias(1, 24, 5)
    cells = found([torch.full((3, 112, 112), 90.0)]).map[:, None].flatten(3).transpose(2, 3)
    spread = cells.std(2).max()
    debias.look(found)
    assert debias(cells).std(2).max() < 1e-3 * spread


def test_a_backbone_is_asked_once_and_again_with_other_weights():
    found, debias = encoder(), Debias(2, 24, 3)
    debias.look(found)
    first = debias.directions
    debias.look(found)
    assert debias.directions is first
    debias.look(encoder(seed=1))
    assert not torch.equal(debias.directions, first)
    off = Debias(2, 24, 0)
    off.look(found)
    assert off.directions is None


def test_contexts_know_how_many_and_checkpoints_hold_none():
    model, episode = build(*HEAD, KEY, 3), tiny_episode(0, 1)
    context, plain = model.encode_context(episode["references"]), build(*HEAD)
    assert model.state_dict().keys() == plain.state_dict().keys()
    features = model.encode_images([episode])
    expected = model.segment(features, context)[0].logits
    again = build(*HEAD, KEY, 3)  # that made no context itself
    assert torch.equal(again.segment(features, context)[0].logits, expected)
    assert "debias" not in plain.fingerprint["regions"]
    for other in (plain, build(*HEAD, KEY, 4)):
        with pytest.raises(ValueError, match="made by another model: regions"):
            other.segment(features, context)


def test_not_all_of_a_feature_is_left_out():
    with pytest.raises(ValueError, match="DEBIAS is 12; it must be below 12, the channels of a"):
        Debias(2, 24, 12)
    with pytest.raises(ValueError, match="REGIONS.DEBIAS is 24; it must be below 24"):
        build(*HEAD, KEY, 24)
