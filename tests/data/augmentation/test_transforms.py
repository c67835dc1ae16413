import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T

from segic_d2.data.augmentation.transforms import (
    ColorJitter,
    RandomResizedCrop,
    apply_labels,
    instance_augmentations,
    semantic_augmentations,
)
from segic_d2.data.augmentation.views import draw_showing
from segic_d2.data.episodes import derive_seed
from segic_d2.structures.picture import seeded
from segic_d2.structures.resize import ResizeLongestSide, apply_soft
from segic_d2.structures.view import zoomed
from tests.data import toy
from tests.views import draw_view, plain_augmentations


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)


def draws():
    return np.random.rand(), random.random(), torch.rand(1).item()


def test_seeded_reproduces_and_restores_all_three_generators():
    np.random.seed(1), random.seed(1), torch.manual_seed(1)
    before = draws()
    np.random.seed(1), random.seed(1), torch.manual_seed(1)
    with seeded(2**62 + 1):
        first = draws()
    assert draws() == before
    with seeded(2**62 + 1):
        assert draws() == first
    with seeded(1):  # the high bits count too
        assert draws()[0] != first[0]
    with pytest.raises(RuntimeError), seeded(3):
        np.random.seed(1), random.seed(1), torch.manual_seed(1)
        raise RuntimeError
    assert draws() != before


@pytest.mark.parametrize(
    "size, expected", [((480, 640), (672, 896)), ((640, 480), (896, 672)), ((1, 5000), (1, 896))]
)
def test_longest_side_is_resized_and_aspect_kept(size, expected):
    view, _ = draw_view(
        np.zeros((*size, 3), np.uint8), T.AugmentationList([ResizeLongestSide(896)]), 0
    )
    assert view.shape[:2] == expected


def test_semantic_views_fit_the_canvas_over_the_whole_range(image):
    augmentations = semantic_augmentations(toy.config())
    sizes = [max(draw_view(image, augmentations, s)[0].shape) for s in range(200)]
    assert max(sizes) == 56 and min(sizes) < 10
    # r uniform in 0.1…2: 1/1.9 of the views are larger than the canvas and cropped
    assert 0.42 < np.mean(np.array(sizes) == 56) < 0.63


def test_crops_reach_every_corner_of_an_enlarged_image():
    coordinates = np.zeros((50, 50, 3), np.uint8)
    coordinates[..., 0], coordinates[..., 1] = np.mgrid[:50, :50] * 5
    augmentations = semantic_augmentations(toy.config(input__semantic__scale=(2.0, 2.0)))
    views = [draw_view(coordinates, augmentations, s)[0].astype(int) for s in range(60)]
    rows, columns = (np.array([v[..., c].mean() for v in views]) for c in (0, 1))
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.5  # drawn apart, not along the diagonal


def test_resized_crops_keep_to_area_and_aspect(image):
    aug = RandomResizedCrop(56, (0.3, 1.0), (3 / 4, 4 / 3))
    for seed in range(50):
        view, transforms = draw_view(image, T.AugmentationList([aug]), seed)
        crop, resize = transforms.transforms
        assert view.shape == (56, 56, 3) and (resize.new_h, resize.new_w) == (56, 56)
        assert 0.28 < crop.w * crop.h / (60 * 80) <= 1
        assert 0.72 < crop.w / crop.h < 1.39
        assert 0 <= crop.x0 and crop.x0 + crop.w <= 80 and 0 <= crop.y0 <= 60 - crop.h


def test_colour_jitter_changes_colours_in_range_and_nothing_else(image):
    view, transforms = draw_view(image, T.AugmentationList([ColorJitter()]), 0)
    np.testing.assert_array_equal(view, image)
    grey = np.full((4, 4, 3), 100, np.uint8)
    means = [
        draw_view(grey, T.AugmentationList([ColorJitter(brightness=0.4)]), s)[0].mean()
        for s in range(60)
    ]
    assert 60 <= min(means) < 70 and 130 < max(means) <= 140
    mask = np.eye(60, 80)[None] > 0
    assert torch.equal(apply_soft(transforms, mask), torch.tensor(mask, dtype=torch.float32))


@pytest.mark.parametrize("make", [semantic_augmentations, instance_augmentations])
def test_masks_move_with_their_image(make):
    mask = np.zeros((60, 80), bool)
    mask[20:45, 10:50] = True
    image = np.repeat(mask[..., None], 3, -1).astype(np.uint8) * 255
    augmentations = make(toy.config(input__instance__jitter_prob=0.0))
    for seed in range(20):
        view, transforms = draw_view(image, augmentations, seed)
        soft = apply_soft(transforms, mask[None])[0]
        assert soft.shape == view.shape[:2]
        assert np.abs(soft.numpy() - view[..., 0] / 255.0).mean() < 0.05
        labels = apply_labels(transforms, mask)
        assert (labels != (soft >= 0.5)).float().mean() < 0.15


@pytest.mark.parametrize("make", [semantic_augmentations, instance_augmentations])
def test_binary_masks_move_as_soft_ones_to_the_bit(make):
    masks = np.random.default_rng(0).random((2, 60, 80)) < 0.5
    masks[1] = False
    masks[1, 40:43, 11:20] = True
    shape = np.zeros((60, 80, 3), np.uint8)
    for seed in range(30):
        _, transforms = draw_view(shape, make(toy.config()), seed)
        soft = apply_soft(transforms, masks.astype(np.float32))
        assert torch.equal(apply_soft(transforms, masks), soft)


def test_a_small_object_in_a_large_image_never_vanishes():
    image = np.zeros((1500, 2000, 3), np.uint8)
    mask = np.zeros((1, 1500, 2000), bool)
    mask[0, 1003:1013, 333:343] = True
    share = mask.mean()
    for canvas in (896, 56, 14):
        view, transforms = draw_view(
            image, plain_augmentations(toy.config(input__canvas=canvas)), 0
        )
        soft = apply_soft(transforms, mask)
        assert soft.shape[1:] == view.shape[:2] and max(view.shape) == canvas
        assert soft.sum() > 0
        assert 0.5 < soft.mean() / share < 4  # its share of the image is about kept


def zoom(mask, share):
    """Region (top, bottom, left, right) that is seen of a picture."""
    height, width = mask.shape[-2:]
    where = np.stack(np.mgrid[:height, :width], -1).astype(np.float32)
    plain = T.AugmentationList([T.NoOpTransform()])
    augmentations = zoomed(plain, mask, share)
    if augmentations is plain:
        return 0, height, 0, width
    seen = T.AugInput(where)
    augmentations(seen)
    (top, left), (bottom, right) = seen.image[0, 0].astype(int), seen.image[-1, -1].astype(int)
    assert seen.image.shape[:2] == (bottom + 1 - top, right + 1 - left)
    return top, bottom + 1, left, right + 1


def test_a_small_thing_is_seen_larger():
    mask = np.zeros((1, 100, 200), dtype=bool)
    mask[0, 40:50, 100:120] = True  # 10x20 px about (45, 110)
    assert zoom(mask, 0.5) == (25, 65, 90, 130)
    assert zoom(mask, 0.18) == (0, 100, 54, 166)  # 112 px, more than there are in height
    assert zoom(mask, 0.1) == zoom(mask, 0.0) == (0, 100, 0, 200)
    assert zoom(~mask, 1.0) == (0, 100, 0, 200)
    assert zoom(mask & False, 0.5) == (0, 100, 0, 200)
    corner = np.zeros_like(mask)
    corner[0, 90:, :10] = True  # the window is moved into the picture
    assert zoom(corner, 0.5) == (80, 100, 0, 20)
    assert zoom(np.concatenate([mask, corner]), 0.8) == (0, 100, 0, 150)  # of all masks: 120 px


def test_views_are_drawn_again_until_the_object_shows():
    image = SimpleNamespace(
        draw=lambda augs, seed: draw_view(np.zeros((60, 80, 3), np.uint8), augs, seed)[1]
    )
    mask = np.zeros((1, 60, 80), bool)
    mask[0, 45:55, 60:70] = True

    def seeds(seed, redraws):
        return [derive_seed(seed, attempt) for attempt in range(redraws + 1)]

    zoom = semantic_augmentations(toy.config(input__semantic__scale=(4.0, 4.0)))
    once, often = (
        [bool(draw_showing(image, mask, zoom, seeds(s, n))[0].sum() > 0) for s in range(30)]
        for n in (0, 10)
    )
    assert 0 < sum(once) < 10 and sum(often) > 15
    plain = plain_augmentations(toy.config())
    for seed in range(30):
        soft, _ = draw_showing(image, mask, zoom, seeds(seed, 0), fallback=plain)
        assert soft.sum() > 0
        assert soft.shape == ((1, 56, 56) if once[seed] else (1, 42, 56))
