"""INPUT.RESIZE and the square jitter against plain formulas."""

import colorsys

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from fvcore.transforms.transform import TransformList
from PIL import Image

from segic_d2.data.augmentation.transforms import (
    ColorJitter,
    RandomResizedCrop,
    ResizeToSquare,
    apply_labels,
    semantic_augmentations,
)
from segic_d2.structures.picture import seeded
from segic_d2.structures.resize import FloatResize, ResizeLongestSide, apply_soft
from tests.bilinear import bilinear, gather, to_canvas
from tests.data import toy
from tests.views import draw_view, plain_augmentations


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def draw(augmentation, image, seed=0):
    return draw_view(image, T.AugmentationList([augmentation]), seed)


@pytest.mark.parametrize("size", [(60, 80), (81, 47), (30, 20), (56, 56), (100, 33)])
def test_the_evaluation_transform_is_the_formula(size):
    image, mask = picture(*size), np.random.default_rng(1).random(size) > 0.6
    view, transforms = draw_view(image, plain_augmentations(toy.config(input__resize="float")), 0)
    assert view.dtype == np.float32
    np.testing.assert_allclose(view, to_canvas(image, 56), atol=2e-3)
    soft = apply_soft(transforms, mask[None])[0]
    np.testing.assert_allclose(soft, to_canvas(mask, 56), atol=1e-5)


def test_sizes_are_rounded_down_as_torch_does():
    for height in range(1, 200, 7):
        for width in range(1, 200, 11):
            view, transforms = draw(
                ResizeLongestSide(56, resize="float"), np.zeros((height, width, 3), np.uint8)
            )
            scale = 56 / max(height, width)
            assert view.shape[:2] == tuple(max(int(n * scale), 1) for n in (height, width))
            assert view.shape[:2] == (transforms[0].new_h, transforms[0].new_w)
    pil, _ = draw(ResizeLongestSide(56), np.zeros((33, 100, 3), np.uint8))
    float_, _ = draw(ResizeLongestSide(56, resize="float"), np.zeros((33, 100, 3), np.uint8))
    assert (pil.shape[:2], float_.shape[:2]) == ((18, 56), (18, 56))  # 18.48
    pil, _ = draw(ResizeLongestSide(56), np.zeros((34, 101, 3), np.uint8))
    float_, _ = draw(ResizeLongestSide(56, resize="float"), np.zeros((34, 101, 3), np.uint8))
    assert (pil.shape[:2], float_.shape[:2]) == ((19, 56), (18, 56))  # 18.85
    panorama, transforms = draw(ResizeLongestSide(56, resize="float"), picture(2, 5000))
    assert panorama.shape == (1, 56, 3)
    assert apply_soft(transforms, np.ones((1, 2, 5000), bool)).shape == (1, 1, 56)


def test_the_default_is_detectron2s_own_scale_jitter():
    for seed, size in enumerate([(60, 80), (81, 47), (20, 500), (333, 334), (70, 5)] * 20):
        image = picture(*size, seed)
        ours, _ = draw(ResizeLongestSide(56, 0.2, 2.0), image, seed)
        theirs, _ = draw(T.ResizeScale(0.2, 2.0, 56, 56), image, seed)
        assert ours.dtype == np.uint8
        np.testing.assert_array_equal(ours, theirs)


def test_jitter_flips_resizes_and_crops_in_float():
    image, seen = picture(60, 80), set()
    augmentations = semantic_augmentations(toy.config(input__resize="float"))
    for seed in range(12):
        view, transforms = draw_view(image, augmentations, seed)
        flip, resize, crop = transforms.transforms
        flipped = image[:, ::-1] if isinstance(flip, T.HFlipTransform) else image
        scale = _jitter_scale(seed) * 56 / 80
        assert resize.scale == pytest.approx(scale)
        rows = gather(60, int(60 * scale), scale)[crop.y0 : crop.y0 + crop.h]
        columns = gather(80, int(80 * scale), scale)[crop.x0 : crop.x0 + crop.w]
        np.testing.assert_allclose(view, bilinear(flipped, rows, columns), atol=2e-3)
        mask = flipped[..., 0] > 99
        unflipped = (image[..., 0] > 99)[None]
        soft = apply_soft(transforms, unflipped)[0]
        np.testing.assert_allclose(soft, bilinear(mask, rows, columns), atol=1e-5)
        labels = apply_labels(transforms, unflipped[0])
        assert labels.shape == soft.shape and labels.dtype == torch.bool
        seen.add((type(flip).__name__, scale > 0.7))
    assert len(seen) == 4


def test_a_square_reference_is_distorted_to_r_canvas():
    """A reference of 480×640 px at r = 1 is 896×896 px, at its own aspect 672×896 (SPEC 13)."""
    image = picture(48, 64)
    for resize in ("pil", "float"):
        aspect, _ = draw(ResizeLongestSide(896, resize=resize), image)
        square, _ = draw(ResizeToSquare(896, resize=resize), image)
        assert (aspect.shape[:2], square.shape[:2]) == ((672, 896), (896, 896))
    rows, columns = gather(48, 896, 896 / 48), gather(64, 896, 896 / 64)
    np.testing.assert_allclose(square, bilinear(image, rows, columns), atol=2e-3)
    augmentations = semantic_augmentations(toy.config(), square=True)
    for seed in range(20):
        view, _ = draw_view(image, augmentations, seed)
        expected = min(max(round(56 * _jitter_scale(seed)), 1), 56)
        assert view.shape[:2] == (expected, expected)


def _jitter_scale(seed):
    """r of a semantic view: the draw after the one of the flip."""
    with seeded(seed):
        np.random.uniform()
        return np.random.uniform(0.1, 2.0)


def test_resized_crops_take_masks_by_nearest_neighbour():
    image, mask = picture(60, 80), np.random.default_rng(1).random((60, 80)) > 0.5
    for seed in range(5):
        view, transforms = draw(RandomResizedCrop(56, resize="float"), image, seed)
        crop, _ = transforms.transforms
        part = np.s_[crop.y0 : crop.y0 + crop.h, crop.x0 : crop.x0 + crop.w]
        rows, columns = (gather(n, 56, 56 / n) for n in (crop.h, crop.w))
        np.testing.assert_allclose(view, bilinear(image[part], rows, columns), atol=2e-3)
        nearest = [[int(i * n / 56) for i in range(56)] for n in (crop.h, crop.w)]
        expected = mask[part][np.ix_(*nearest)]
        np.testing.assert_array_equal(apply_soft(transforms, mask[None])[0], expected)


def test_colours_of_float_pictures_are_jittered_as_numbers():
    pixels = picture(5, 6).astype(np.float32) + 0.25
    jitters = {
        "brightness": lambda p, f: p * f,
        "contrast": lambda p, f: p * f + (1 - f) * (p @ [0.2989, 0.587, 0.114]).mean(),
        "saturation": lambda p, f: p * f + (1 - f) * (p @ [0.2989, 0.587, 0.114])[..., None],
    }
    for name, formula in jitters.items():
        view, transforms = draw(ColorJitter(**{name: 0.4}), pixels, 3)
        candidates = [
            np.abs(np.clip(formula(pixels / 255.0, f), 0, 1) * 255 - view).max()
            for f in np.linspace(0.6, 1.4, 8001)
        ]
        assert view.dtype == np.float32 and min(candidates) < 0.05 < max(candidates)
    view, _ = draw(ColorJitter(hue=0.1), pixels, 3)
    hues = [[colorsys.rgb_to_hsv(*(p / 255))[0] for p in x.reshape(-1, 3)] for x in (pixels, view)]
    turns = np.subtract(*hues[::-1])
    turns -= np.round(turns)
    assert 0.01 < abs(turns[0]) < 0.1
    np.testing.assert_allclose(turns, turns[0], atol=1e-3)
    np.testing.assert_array_equal(draw(ColorJitter(), pixels)[0].round(3), pixels)


def test_an_object_between_the_samples_leaves_a_trace_below_one_half():
    resize = FloatResize.by_scale(1500, 2000, 56 / 2000)
    mask = np.zeros((1500, 2000), np.float32)
    mask[703:713, 1201:1211] = 1
    assert resize.apply_mask(mask).sum() > 0 and resize.apply_mask(mask).max() < 0.5
    assert resize.apply_mask(mask[:, ::-1]).sum() > 0
    assert not resize.apply_mask(np.zeros_like(mask)).any()


def test_squash_is_pillows_bicubic_onto_the_whole_square():
    """Whatever the aspect; masks are sampled, and what would vanish leaves a pixel."""
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (30, 50, 3), np.uint8), rng.random((30, 50)) > 0.5
    thin = np.zeros((30, 50), bool)
    thin[4, 21] = True
    (step,) = T.AugmentationList([ResizeLongestSide(16, resize="squash")])(
        T.AugInput(image)
    ).transforms
    square = Image.fromarray(image).resize((16, 16), Image.Resampling.BICUBIC)
    assert np.array_equal(step.apply_image(image), np.asarray(square))
    found = apply_soft(TransformList([step]), [mask, thin])
    sampled = Image.fromarray(mask.astype(np.uint8)).resize((16, 16), Image.Resampling.NEAREST)
    assert np.array_equal(found[0].numpy(), np.asarray(sampled))
    assert found[1].sum() == 1 and found[1, 2, 6] == 1
