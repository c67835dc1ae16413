"""The region head as a SEM_SEG_HEAD: names of its tensors, what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from segic_d2.modeling import InContextMaskHead, RegionMatchingHead
from segic_d2.modeling.segic.regions.matcher import RegionMatcher
from segic_d2.predictor import InContextPredictor
from segic_d2.structures.picture import Picture
from tests.modeling.segic.parts import build
from tests.tiny import tiny_config, tiny_episode

HEAD = "MODEL.SEM_SEG_HEAD.NAME", "RegionMatchingHead"
FUSED = (
    *("MODEL.SEGIC.REGIONS.DECODER", 0.2, "MODEL.SEGIC.TEST.REFINE.RADIUS", 2),
    *("MODEL.SEGIC.TEST.REFINE.SECOND_LOOK", 0.3),
    *("INPUT.MULTIPLE", 14, "INPUT.REFERENCE_ZOOM", 0.7, "INPUT.REFERENCE_WHOLE", True),
)


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


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("task", ["semantic", "instance"])
def test_pictures_of_any_size_in_one_batch(precision, task):
    """Also of one row, and smaller than a cell; several entities that compete."""
    model = build(*HEAD, *FUSED)
    predictor = InContextPredictor.from_model(model, precision, batch_size=6)
    g = np.random.default_rng(0)
    sizes = [(60, 80), (1, 300), (300, 1), (5, 5), (1, 1), (130, 97)]
    pictures = [g.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    masks = np.zeros((2, 60, 80), bool)
    masks[0, 10:30, 20:50] = masks[1, 40:, 60:] = True
    predictor.set_references([(pictures[0], masks[i], "ab"[i]) for i in (0, 1)], task)
    for picture, found in zip(pictures, predictor.predict(pictures, independent=True), strict=True):
        assert found.masks.shape == (2, *picture.shape[:2]) and torch.isfinite(found.logits).all()
        assert set(np.unique(found.label_map())) <= {0, *found.ids}
    views = [model.input.target(Picture(picture)) for picture in pictures]
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        instances = model.find_instances(views, predictor.context)
    assert all(np.isfinite(x["instances"].scores).all() for x in instances)


def test_a_model_that_holds_a_context_of_cells_takes_plain_inputs(tmp_path):
    episode, file = tiny_episode(0, 2), str(tmp_path / "c.safetensors")
    build(*HEAD, *FUSED).encode_context(episode["references"]).save(file)
    model = build(*HEAD, *FUSED, "MODEL.SEGIC.CONTEXT", file)
    (found,) = model([{"image": torch.rand(3, 50, 33) * 255, "height": 100, "width": 66}])
    assert found["masks"].shape == (2, 100, 66) and found["instances"].image_size == (100, 66)


def test_a_share_that_was_tuned_goes_with_the_weights():
    model, other, plain = build(*HEAD, *FUSED), build(*HEAD, *FUSED, seed=1), build(seed=2)
    names = set(model.state_dict())
    model.stock = replace(model.stock, absent=0.2)
    assert model.absent == 0.2
    model.sem_seg_head.set_share(0.5)
    assert model.absent == 0  # its scores are nobody's calibration
    (name,) = set(model.state_dict()) - names
    state = model.state_dict()
    other.load_state_dict(state, strict=True)
    assert other.sem_seg_head.share == 0.5 and name in other.state_dict()
    found = plain.load_state_dict(state, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == ([], [name])
    other.load_state_dict({k: state[k] for k in names}, strict=True)  # of an untuned model
    assert other.sem_seg_head.share == 0.2 and name not in other.state_dict()


def test_at_a_share_of_one_the_decoder_is_alone(monkeypatch):
    fused, plain = build(*HEAD, *FUSED, "MODEL.SEGIC.REGIONS.BOXES", False), build(*FUSED)
    plain.load_state_dict(fused.state_dict())
    fused.sem_seg_head.set_share(1.0)
    monkeypatch.setattr(RegionMatcher, "forward", None)
    episode = tiny_episode(0, 2, size=(84, 112))
    one, other = (m([episode])[0] for m in (fused, plain))
    assert torch.equal(one["masks"], other["masks"]) and one["masks"].any()
    assert torch.equal(one["scores"], other["scores"])
