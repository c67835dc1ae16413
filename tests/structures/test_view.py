"""One spec of the input for views, model and fingerprint; plain views against the slow way."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from PIL import Image

from segic_d2.structures.picture import Picture
from segic_d2.structures.soft_masks import soft_resize
from segic_d2.structures.view import InputSpec
from tests.tiny import TinyBackbone, tiny_config, tiny_episode

SPEC = InputSpec(56, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


def photograph(height=60, width=90):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def square(y, x, side=10, size=(60, 90)):
    mask = np.zeros(size, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def test_targets_are_the_whole_picture_with_its_longest_side_at_the_canvas():
    view = SPEC.target(Picture(photograph()))
    expected = np.asarray(Image.fromarray(photograph()).resize((56, 37), Image.BILINEAR))
    assert view.keys() == {"image"} and view["image"].dtype == torch.uint8
    assert np.array_equal(view["image"].permute(1, 2, 0), expected)


def test_references_bring_soft_masks_of_the_same_view():
    masks = np.stack([square(10, 20), square(0, 0, 3)])
    view = SPEC.reference(Picture(photograph()), masks)
    assert torch.equal(view["image"], SPEC.target(Picture(photograph()))["image"])
    torch.testing.assert_close(view["masks"], soft_resize(masks, (37, 56)))


@pytest.mark.parametrize("zoom, side", [(0.25, 48), (0.5, 24), (1.0, 12)])
def test_a_zoomed_reference_is_the_cut_picture(zoom, side):
    mask = square(20, 30, 12)
    view = replace(SPEC, zoom=zoom).reference(Picture(photograph()), mask[None])
    y, x = max(20 + 6 - side // 2, 0), 30 + 6 - side // 2
    cut = np.s_[y : y + side, x : x + side]
    expected = SPEC.reference(Picture(photograph()[cut].copy()), mask[cut][None])
    assert torch.equal(view["image"], expected["image"])
    assert torch.equal(view["masks"], expected["masks"]) and view["image"].shape == (3, 56, 56)


@pytest.mark.parametrize("side", [12, 60])
def test_the_whole_picture_comes_along(side):
    """Encoded once, and the same tensors, where nothing is cut."""
    mask = square(0, 30, side)
    spec = replace(SPEC, zoom=0.5, whole=True)
    view, crop = spec.reference(Picture(photograph()), mask[None]), side == 12
    expected = SPEC.reference(Picture(photograph()), mask[None])
    assert view["whole"].keys() == {"image", "masks"}
    assert torch.equal(view["whole"]["image"], expected["image"])
    assert torch.equal(view["whole"]["masks"], expected["masks"])
    assert (view["whole"]["masks"] is view["masks"]) != crop
    assert "whole" not in replace(spec, whole=False).reference(Picture(photograph()), mask[None])


def test_a_zoom_may_be_about_one_of_the_masks():
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    masks = np.zeros((2, 120, 160), bool)
    masks[0, 10:30, 20:40] = masks[1, 80:110, 100:150] = True
    spec = InputSpec(112, (0, 0, 0), (1, 1, 1), zoom=0.5, whole=True)
    found = spec.reference(Picture(pixels), masks, about=masks[0])
    alone = spec.reference(Picture(pixels), masks[:1])
    assert torch.equal(found["image"], alone["image"])
    assert torch.equal(found["masks"][:1], alone["masks"]) and not found["masks"][1].any()
    assert found["whole"]["masks"][1].any()  # which is uncut


def test_sides_are_multiples():
    spec = replace(SPEC, multiple=14)
    image = spec.target(Picture(photograph()))["image"]
    resized = Image.fromarray(photograph()).resize((56, 42), Image.BILINEAR)  # 56x37 without
    assert np.array_equal(image.permute(1, 2, 0), np.asarray(resized))
    assert spec.target(Picture(photograph(8, 90)))["image"].shape == (3, 14, 56)
    view = replace(spec, zoom=0.5).reference(Picture(photograph()), square(3, 4, 7)[None])
    assert view["image"].shape == (3, 56, 56) and view["masks"].shape == (1, 56, 56)
    with pytest.raises(ValueError, match="INPUT.CANVAS 112 is no multiple of INPUT.MULTIPLE 30"):
        InputSpec.from_config(tiny_config("INPUT.MULTIPLE", 30))


def test_what_is_cropped_before_is_a_picture_of_its_own():
    crop, cut = T.CropTransform(10, 5, 40, 30, 90, 60), np.s_[5:35, 10:50]
    mask, spec = square(12, 20, 6), replace(SPEC, zoom=0.5)
    whole, part = Picture(photograph()), Picture(photograph()[cut].copy())
    assert torch.equal(spec.target(whole, crop)["image"], spec.target(part)["image"])
    found = spec.reference(whole, mask[cut][None], crop)
    expected = spec.reference(part, mask[cut][None])
    assert torch.equal(found["image"], expected["image"])
    assert torch.equal(found["masks"], expected["masks"])


CHANGES = {  # every key that can change a prototype
    "INPUT.CANVAS": 126,
    "INPUT.RESIZE": "float",
    "INPUT.REFERENCE_ZOOM": 0.5,
    "INPUT.REFERENCE_WHOLE": True,
    "INPUT.MULTIPLE": 14,
    "MODEL.SEGIC.RELEASED": True,
    "MODEL.SEGIC.BINARIZE_MASKS": True,
    "MODEL.SEGIC.SIMILARITY.CENTER": "fixed",
    "MODEL.SEGIC.SIMILARITY.GROUPS": 2,
    "MODEL.SEGIC.BACKGROUND": True,
}


def fingerprint(*opts):
    torch.manual_seed(0)
    return build_model(tiny_config(*opts)).fingerprint


@pytest.mark.parametrize("key", CHANGES)
def test_a_key_that_can_change_a_prototype_changes_the_fingerprint(key):
    assert fingerprint(key, CHANGES[key]) != fingerprint()


@pytest.mark.parametrize(
    "key, value",
    [("PIXEL_MEAN", [0.0, 1.0, 2.0]), ("PIXEL_STD", [1.0, 2.0, 3.0]), ("FORMAT", "BGR")],
)
def test_statistics_of_the_config_count_where_the_backbone_has_none(key, value):
    default = tiny_config()
    other = tiny_config("INPUT.FORMAT" if key == "FORMAT" else f"MODEL.{key}", value)
    assert InputSpec.from_config(default) != InputSpec.from_config(other)
    assert InputSpec.from_config(default).fingerprint != InputSpec.from_config(other).fingerprint
    own = TinyBackbone()
    assert InputSpec.from_config(default, own) == InputSpec.from_config(other, own)
    assert list(InputSpec.from_config(default, own).mean) == own.pixel_mean


def test_a_context_made_with_another_zoom_is_refused():
    torch.manual_seed(0)
    model = build_model(tiny_config()).eval()
    context = model.encode_context(tiny_episode(0, 1)["references"])
    zoomed = build_model(tiny_config("INPUT.REFERENCE_ZOOM", 0.5)).eval()
    zoomed.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="zoom: context None, model 0.5"):
        context.check(zoomed.fingerprint)


def test_the_spec_is_that_of_the_config():
    cfg = tiny_config(*(x for pair in CHANGES.items() for x in pair), canvas=126)
    spec = InputSpec.from_config(cfg, TinyBackbone())
    assert (spec.canvas, spec.resize, spec.zoom) == (126, "float", 0.5)
    assert spec.binarize and spec.released and spec.format == "RGB"


def test_what_may_be_a_view_already():
    """By the longest side, or where pictures are squashed by both."""
    whole = InputSpec(32, (0.0,) * 3, (1.0,) * 3)
    assert [whole.seen(s) for s in ((32, 20), (32, 32), (40, 32))] == [True, True, False]
    squashed = InputSpec(32, (0.0,) * 3, (1.0,) * 3, resize="squash")
    assert [squashed.seen(s) for s in ((32, 20), (32, 32), (40, 32))] == [False, True, False]
    view = squashed.reference(Picture(np.zeros((20, 50, 3), np.uint8)), [np.ones((20, 50), bool)])
    assert view["image"].shape == (3, 32, 32) and view["masks"].shape == (1, 32, 32)
