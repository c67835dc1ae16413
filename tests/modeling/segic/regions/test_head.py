"""The region head as a SEM_SEG_HEAD: names of its tensors, what it refuses."""

import pytest
import torch
from detectron2.modeling import build_model

from segic_d2.modeling import InContextMaskHead, RegionMatchingHead
from segic_d2.modeling.segic.regions.matcher import RegionMatcher
from tests.modeling.segic.parts import build
from tests.tiny import tiny_config, tiny_episode

HEAD = "MODEL.SEM_SEG_HEAD.NAME", "RegionMatchingHead"


def test_its_tensors_are_the_decoders():
    plain, regions = build(), build(*HEAD, seed=1)
    assert isinstance(regions.sem_seg_head, RegionMatchingHead)
    assert type(plain.sem_seg_head) is InContextMaskHead
    regions.load_state_dict(plain.state_dict(), strict=True)
    episode = tiny_episode(0, 2)
    episode["seed"] = 0
    for name, value in regions.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name])


def test_it_is_trained_as_the_decoder_is(monkeypatch):
    """With padded views, and without cells of references, of which training asks none."""
    reversed_too = "MODEL.SEGIC.REVERSION.PROB", 1.0
    plain = build(*reversed_too)
    regions = build(*HEAD, *reversed_too, "INPUT.MULTIPLE", 14, "INPUT.REFERENCE_WHOLE", True)
    monkeypatch.delattr(RegionMatcher, "shots")
    batch = [tiny_episode(i, 2, size=(90, 75), training=True) for i in (0, 1)]
    losses = [m.train()(batch) for m in (plain, regions)]
    assert losses[0].keys() == losses[1].keys()
    assert len(losses[0]) > 2 and all(torch.equal(losses[0][k], losses[1][k]) for k in losses[0])


def test_what_it_refuses():
    with pytest.raises(ValueError, match="RELEASED is True, which knows no RegionMatchingHead"):
        build_model(tiny_config(*HEAD, "MODEL.SEGIC.RELEASED", True))
    with pytest.raises(ValueError, match="MODEL.SEGIC.REGIONS.RELATIVE is 1.5; it must be in"):
        build_model(tiny_config(*HEAD, "MODEL.SEGIC.REGIONS.RELATIVE", 1.5))
    with pytest.raises(ValueError, match="REGIONS.WHITENING .* is for"):
        build_model(tiny_config(*HEAD, "MODEL.SEGIC.REGIONS.WHITENING", "embedded"))
