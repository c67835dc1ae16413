"""INPUT.RESIZE and INPUT.SEMANTIC.SQUARE_REFERENCE in the episode mappers."""

import numpy as np
import pytest
import torch

from segic_d2.data.episodes import generator
from segic_d2.data.index import Source
from segic_d2.data.mappers.base import EPISODE_MAPPER_REGISTRY
from segic_d2.data.records import class_masks
from tests.bilinear import to_canvas
from tests.data import toy


def test_test_mappers_give_the_formula(tmp_path):
    dataset = toy.coco(tmp_path)
    cfg, source = toy.config(input__resize="float"), Source(dataset)
    plan = {"episode": 0, "class": 1, "target": 0, "references": [1]}
    episode = EPISODE_MAPPER_REGISTRY.get("one_shot")(cfg, source)(plan)
    target = EPISODE_MAPPER_REGISTRY.get("target")(cfg, None)(source.records[0])
    images = [image for image, _ in toy.scenes(2)]
    reference = episode["references"][0]
    for got, image in zip((episode["image"], reference["image"]), images, strict=True):
        np.testing.assert_allclose(got, to_canvas(image, 56).transpose(2, 0, 1), atol=2e-3)
    assert torch.equal(target["image"], episode["image"])
    mask = class_masks(source.records[1], [1])[0][0]
    np.testing.assert_allclose(reference["masks"][0], to_canvas(mask, 56), atol=1e-5)


@pytest.mark.parametrize("resize", ["pil", "float"])
def test_only_semantic_references_are_made_square(tmp_path, resize):
    dataset = toy.coco(tmp_path)
    shapes = {}
    for square in (False, True):
        options = {"input__resize": resize, "input__semantic__square_reference": square}
        options |= {"input__semantic__scale": (0.5, 0.9), "input__max_redraws": 0}
        mapping = EPISODE_MAPPER_REGISTRY.get("semantic")(toy.config(**options), Source(dataset))
        found = [mapping({**mapping.draw(generator(s)), "seed": s}) for s in range(8)]
        shapes[square] = [(e["image"], e["references"][0]) for e in found]
        for episode in found:
            (reference,) = episode["references"]
            for image in (episode["image"], reference["image"]):
                assert image.dtype == (torch.float32 if resize == "float" else torch.uint8)
            assert reference["masks"].shape[1:] == reference["image"].shape[1:]
            height, width = reference["image"].shape[1:]
            assert (height == width) if square else height / width == pytest.approx(0.75, abs=0.05)
    for (before, _), (after, _) in zip(shapes[False], shapes[True], strict=True):
        assert torch.equal(before, after)  # the targets, and every draw


def test_instance_views_are_float_in_range(tmp_path):
    options = {"input__resize": "float", "input__instance__jitter_prob": 1.0}
    cfg = toy.config(**options)
    mapping = EPISODE_MAPPER_REGISTRY.get("instance")(cfg, Source(toy.coco(tmp_path)))
    for seed in range(4):
        episode = mapping({**mapping.draw(generator(seed)), "seed": seed})
        (reference,) = episode["references"]
        for image in (episode["image"], reference["image"]):
            assert image.dtype == torch.float32 and image.shape == (3, 56, 56)
            assert image.min() >= 0 and 100 < image.max() <= 255
        assert set(reference["masks"].unique().tolist()) <= {0.0, 1.0}
