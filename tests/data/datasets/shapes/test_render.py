"""How scenes of the embedded dataset are drawn."""

import numpy as np
import pytest

from segic_d2.data.datasets.shapes import render as shapes_render
from segic_d2.data.datasets.shapes import textures as shapes_textures
from segic_d2.data.datasets.shapes.families import FAMILIES, outline
from segic_d2.data.datasets.shapes.render import Thing, lay_out, plan_scene, render_scene
from segic_d2.data.datasets.shapes.splits import VOCABULARIES

TRAIN = VOCABULARIES["train"]


def things_of(seed):
    return plan_scene(TRAIN, 1 + seed % len(TRAIN.categories), np.random.default_rng(seed))


def layouts(count):
    """A few scenes that could be laid out: list of (places back to front, owner)."""
    tried = (lay_out(things_of(s), (60, 90), np.random.default_rng(s)) for s in range(99))
    return [found for found in tried if found][:count]


def test_a_pixel_belongs_to_the_front_most_thing_that_covers_it():
    occluded = 0
    for placed, owner in layouts(4):
        for y in range(owner.shape[0]):
            for x in range(owner.shape[1]):
                covering = []
                for number, p in enumerate(placed, 1):
                    rows, cols = p.window
                    inside = rows.start <= y < rows.stop and cols.start <= x < cols.stop
                    if inside and p.cover[y - rows.start, x - cols.start] >= 0.5 * 255:
                        covering.append(number)
                assert owner[y, x] == (covering[-1] if covering else 0)
                occluded += len(covering) > 1
    assert occluded > 100


def test_every_thing_stays_visible():
    for placed, owner in layouts(20):
        for number, p in enumerate(placed, 1):
            assert (owner == number).sum() >= max(24, 0.35 * p.whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_outlines_fill_their_box_and_vary(family):
    parts = outline(family, np.random.default_rng(0))
    points = np.concatenate([p for p, fill in parts if fill])
    assert np.ptp(points, 0).max() == pytest.approx(2)
    np.testing.assert_allclose(points.max(0) + points.min(0), 0, atol=1e-9)
    drawn = {
        np.concatenate([p for p, _ in outline(family, np.random.default_rng(seed))]).tobytes()
        for seed in range(6)
    }
    assert len(drawn) == (1 if family == "disc" else 2 if family == "horse" else 6)


def test_coverage_is_the_area_of_the_outline():
    cover = shapes_render._coverage
    disc = cover(outline("disc", np.random.default_rng(0)), 0.3, np.ones(2), 40, 100) / 255
    assert disc.sum() == pytest.approx(np.pi * 40**2, rel=0.02)
    y, x = np.mgrid[:100, :100] + 0.5 - 50
    distance = np.hypot(x, y)
    np.testing.assert_allclose(disc[distance < 38], 1)
    np.testing.assert_allclose(disc[distance > 42], 0)
    slab = [(np.array([(-1, -0.5), (1, -0.5), (1, 0.5), (-1, 0.5)]), 1)]
    turned = cover(slab, np.pi / 6, np.ones(2), 40, 120) / 255
    y, x = np.mgrid[:120, :120] + 0.5 - 60
    along = x * np.cos(np.pi / 6) + y * np.sin(np.pi / 6)
    across = -x * np.sin(np.pi / 6) + y * np.cos(np.pi / 6)
    inside = (np.abs(along) < 40) & (np.abs(across) < 20)
    assert ((turned > 0.5) != inside).sum() < 0.02 * inside.sum()
    ring = cover([*slab, (slab[0][0] / 2, 0)], 0, np.ones(2), 40, 100) / 255
    assert ring.sum() == pytest.approx(80 * 40 * 0.75, rel=0.04)


def test_a_distractor_takes_on_the_colours_it_is_given():
    rng = np.random.default_rng(0)
    thing = Thing("disc", "engine", 0.8, colours_of="suit")
    (place,), _ = lay_out([thing], (100, 120), rng)
    plain = Thing("disc", "engine", 0.8)
    (other,), _ = lay_out([plain], (100, 120), rng)

    def redness(p):
        mean = np.clip(shapes_render._texture(p, rng), 0, 255)[p.mask].mean(0)
        return mean[0] / mean[2]

    mean, _ = shapes_textures.texture_statistics("suit")
    assert redness(place) == pytest.approx(mean[0] / mean[2], rel=0.25)
    assert redness(other) < 0.7 * redness(place)


def test_scenes_vary_in_size_scale_and_number():
    scales = [t.scale for s in range(300) for t in things_of(s)]
    assert 0.05 <= min(scales) < 0.08 and 0.9 < max(scales) <= 1.0
    assert {len({t.category for t in things_of(s)} - {0}) for s in range(50)} >= {1, 2, 3}
    scenes = [render_scene(TRAIN, 3, np.random.default_rng(s)) for s in range(8)]
    sizes = [s.image.shape[:2] for s in scenes]
    assert len(set(sizes)) == 8 and any(h > w for h, w in sizes)
    assert all(220 <= min(size) and max(size) <= 400 for size in sizes)
    for scene in scenes:
        assert scene.image.shape[:2] == scene.owner.shape
        assert scene.owner.max() == len(scene.things)
        assert any(t.category == 3 for t in scene.things)


def test_only_photographs_inside_scikit_image_are_used():
    files = {t.file for t in shapes_textures.TEXTURES.values()} | set(shapes_textures.BACKGROUNDS)
    assert all((shapes_textures.photograph_folder() / f).is_file() for f in files)
    assert "coins.png" not in files  # the demo's unseen picture


def test_backgrounds_never_show_the_photograph_of_a_texture(monkeypatch):
    opened = set()
    original = shapes_textures._background
    monkeypatch.setattr(shapes_textures, "_background", lambda f: opened.add(f) or original(f))
    rng = np.random.default_rng(0)
    for _ in range(60):
        cut = shapes_textures.background((33, 22), {"fur", "engine", "shelf"}, rng)
        assert cut.size == (33, 22)
    banned = {"chelsea.png", "motorcycle_left.png"}
    assert opened == set(shapes_textures.BACKGROUNDS) - banned


def test_unknown_names_and_missing_photographs_are_errors(monkeypatch):
    with pytest.raises(ValueError, match="unknown shape family 'cube'"):
        outline("cube", np.random.default_rng(0))
    with pytest.raises(ValueError, match="unknown texture 'velvet'"):
        shapes_textures.texture_tile("velvet")
    with pytest.raises(FileNotFoundError, match="lena.png"):
        shapes_textures.open_photograph("lena.png")
    monkeypatch.setattr(shapes_textures.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install scikit-image"):
        shapes_textures.photograph_folder()
