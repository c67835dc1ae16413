"""Views drawn without pixels, pictures decoded only when needed, and the pool of views."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from segic_d2.data import build_train_loader, set_cache
from segic_d2.data.augmentation.feature_cache import FeatureCache
from segic_d2.data.augmentation.transforms import instance_augmentations, semantic_augmentations
from segic_d2.data.augmentation.view_pool import ViewPool
from segic_d2.data.episodes import generator
from segic_d2.data.index import Source
from segic_d2.data.mappers.base import EPISODE_MAPPER_REGISTRY
from segic_d2.io.pictures import image_size, read_image
from segic_d2.structures.picture import Blank, Picture, to_tensor
from tests.data import toy
from tests.views import draw_view


@pytest.mark.parametrize("resize", ["pil", "float"])
@pytest.mark.parametrize("make", [semantic_augmentations, instance_augmentations])
def test_a_view_drawn_without_pixels_is_the_view(tmp_path, make, resize):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    augmentations = make(toy.config(input__resize=resize, input__instance__jitter_prob=0.5))
    for seed in range(30):
        expected, _ = draw_view(pixels, augmentations, seed)
        picture = Picture(tmp_path / "a.png")
        transforms = picture.draw(augmentations, seed)
        view = picture.view(transforms)
        assert list(view) == ["image"] and torch.equal(view["image"], to_tensor(expected))
        frame = Blank((60, 80))
        frame.transform(transforms)
        assert frame.image.shape == expected.shape and frame.image.dtype == expected.dtype


@pytest.mark.parametrize("orientation", [None, 3, 6])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_the_header_tells_the_size_as_displayed(tmp_path, orientation, suffix):
    image, exif = Image.new("RGB", (30, 20)), Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    image.save(tmp_path / f"a.{suffix}", exif=exif)
    expected = read_image(tmp_path / f"a.{suffix}").shape[:2]
    assert image_size(tmp_path / f"a.{suffix}") == expected
    assert expected == ((30, 20) if orientation == 6 else (20, 30))


def test_the_header_of_no_image_is_an_error_that_names_it(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"broken")
    with pytest.raises(ValueError, match="cannot read image .*a.jpg"):
        image_size(tmp_path / "a.jpg")


def training(dataset, mapper, cache=None, workers=0, batches=4, start=0, **options):
    cfg = toy.config((dataset,), dataloader__num_workers=workers, **options)
    cfg.DATASETS.EPISODE_MAPPERS = (mapper,)
    loader = build_train_loader(cfg, start)
    if cache is not None:
        set_cache(loader, cache)
    return [e for batch in itertools.islice(loader, batches) for e in batch]


def views(episodes):
    """Which distinct views of which file were seen, by their pixels."""
    found = {}
    for image in [x for e in episodes for x in (e, *e["references"])]:
        key = tuple(image["image"].shape), image["image"].numpy().tobytes()
        found.setdefault(image["file_name"], set()).add(key)
    return found


@pytest.mark.parametrize("mapper", ["semantic", "instance"])
def test_a_pool_bounds_the_views_of_every_image(tmp_path, mapper):
    dataset, pool = toy.coco(tmp_path, number=3), {"input__views_pool": 2}
    seen = views(training(dataset, mapper, batches=30, **pool))
    assert len(seen) == 3
    assert all(2 <= len(v) <= 3 for v in seen.values())  # the two, and the whole image
    other_seed = views(training(dataset, mapper, batches=30, seed=7, **pool))
    assert all(other_seed[k] <= seen[k] for k in seen)  # other runs meet the same views
    free = views(training(dataset, mapper, batches=30))
    assert all(len(v) > 10 for v in free.values())


@pytest.mark.parametrize("mapper", ["semantic", "instance"])
def test_a_pool_does_not_depend_on_workers_or_on_where_training_starts(tmp_path, mapper):
    dataset = toy.coco(tmp_path)
    plain, spread, late = (
        training(dataset, mapper, input__views_pool=3, **options)
        for options in ({}, {"workers": 2}, {"start": 8, "batches": 2})
    )
    for one, other in (*zip(plain, spread, strict=True), *zip(plain[8:], late, strict=True)):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["masks"], other["masks"])
        for a, b in zip(one["references"], other["references"], strict=True):
            assert torch.equal(a["image"], b["image"]) and torch.equal(a["masks"], b["masks"])


def test_the_order_of_a_pool_tries_each_view_once_and_pairs_differ():
    pool = ViewPool(toy.config(input__views_pool=4, input__max_redraws=10))
    for seed in range(20):
        seeds = list(pool.seeds(3, seed))
        assert len(set(seeds)) == len(seeds) == 4
        pairs = list(pool.pairs(3, seed))
        assert len(pairs) == 4 and all(a != b for a, b in pairs)
        assert {s for pair in pairs for s in pair} == set(seeds)
    assert set(pool.seeds(3, 0)) == set(pool.seeds(3, 1)) != set(pool.seeds(4, 0))
    assert (
        len(list(ViewPool(toy.config(input__views_pool=9, input__max_redraws=2)).seeds(0, 0))) == 3
    )


def test_pools_that_cannot_be_are_named(tmp_path):
    dataset = toy.coco(tmp_path)
    with pytest.raises(ValueError, match="VIEWS_POOL is 1.*at least 2"):
        training(dataset, "instance", input__views_pool=1)


def fill(cache, episodes):
    """What the engine does: features for every view that is missed."""
    for image in [x for e in episodes for x in (e, *e["references"])]:
        if "feature_key" in image:
            cache.put(
                image["feature_key"], torch.full((2, 4, 4), float(image["image"].sum() % 97)).half()
            )


@pytest.mark.parametrize("mapper", ["semantic", "instance"])
def test_a_hit_decodes_no_pixels_and_leaves_the_rest_of_the_episode(tmp_path, mapper, monkeypatch):
    dataset, pool = toy.coco(tmp_path), {"input__views_pool": 2}
    cache = FeatureCache(tmp_path / "cache", 1, {})
    plain = training(dataset, mapper, **pool)
    missed = training(dataset, mapper, cache, **pool)
    fill(cache, missed)
    reads = []
    real = read_image
    monkeypatch.setattr(
        "segic_d2.structures.picture.read_image",
        lambda path: reads.append(path) or real(path),
    )
    hit = training(dataset, mapper, cache, **pool)
    assert not reads
    for a, b, c in zip(plain, missed, hit, strict=True):
        for x, y, z in zip(*([e, *e["references"]] for e in (a, b, c)), strict=True):
            assert "feature_key" not in x and torch.equal(x["image"], y["image"])
            assert "image" not in z and z["image_size"] == tuple(x["image"].shape[1:])
            assert z["features"].unique().item() == x["image"].sum() % 97
            assert torch.equal(x["masks"], z["masks"])
        assert (a["height"], a["width"], a["seed"]) == (c["height"], c["width"], c["seed"])
    record = Source(dataset).records[0]
    pixels = np.zeros((*toy.SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(record["file_name"])  # changed on disk: missed again
    again = training(dataset, mapper, cache, **pool)
    for image in [x for e in again for x in (e, *e["references"])]:
        assert ("image" in image) == (image["file_name"] == record["file_name"])


def test_views_that_never_recur_are_not_looked_up(tmp_path, caplog):
    dataset = toy.coco(tmp_path)
    cache = FeatureCache(tmp_path / "cache", 1, {})
    for mapper in ("semantic", "instance"):
        episodes = training(dataset, mapper, cache)
        assert not any("feature_key" in x for e in episodes for x in (e, *e["references"]))
    assert caplog.text.count("INPUT.VIEWS_POOL is 0") == 2
    still = {"input__semantic__scale": (1.0, 1.0)}
    episodes = training(dataset, "semantic", cache, **still)  # two views: as it is, and flipped
    assert all("feature_key" in x for e in episodes for x in (e, *e["references"]))


def test_test_episodes_come_from_the_cache(tmp_path):
    mapping = EPISODE_MAPPER_REGISTRY.get("one_shot")(toy.config(), Source(toy.coco(tmp_path)))
    mapping.with_cache(FeatureCache(tmp_path / "cache", 1, {}))
    plan = {"episode": 0, "class": 0, "target": 0, "references": [2]}
    first = mapping(plan)
    fill(mapping.cache, [first])
    second = mapping(plan)
    assert "features" in second and "features" in second["references"][0]
    assert torch.equal(first["gt_masks"], second["gt_masks"])
    assert second["image_size"] == (42, 56) and "image" not in second
    config = toy.config(model__segic__test__refine__radius=4)
    mapping = EPISODE_MAPPER_REGISTRY.get("one_shot")(config, Source(toy.coco(tmp_path / "again")))
    mapping.with_cache(FeatureCache(tmp_path / "cache", 1, {}))
    fill(mapping.cache, [mapping(plan)])
    third = mapping(plan)
    assert torch.equal(third["features"], second["features"])
    assert torch.equal(third["image"], first["image"]) and third["image_size"] == (42, 56)


def test_mappers_draw_plans_as_before(tmp_path):
    """The pool changes which view is taken, not which images and objects."""
    source = Source(toy.coco(tmp_path))
    free, pooled = (
        EPISODE_MAPPER_REGISTRY.get("semantic")(toy.config(input__views_pool=n), source)
        for n in (0, 2)
    )
    assert [free.draw(generator(i)) for i in range(9)] == [
        pooled.draw(generator(i)) for i in range(9)
    ]
