"""The tool that measures what corrections gain."""

import json
from dataclasses import replace

import numpy as np
import pycocotools.mask
import pytest
from PIL import Image

import label_gain
from label_gain import Kind, composite_kinds, pair_kinds, part, simulate
from tests.engine.label.boxes import draw, tiny_predictor
from tests.tiny import tiny_config

FILES = [f"{i}.jpg" for i in range(12)]


class Told:
    """A kind of known IoU, which each reference beside the first raises by 0.01."""

    def __init__(self, doubt):
        rng = np.random.default_rng(0)
        self.ious = dict(zip(FILES, rng.permutation(12) / 20, strict=True))
        self.doubts = {"perfect": {f: 1 - v for f, v in self.ious.items()}, "none": {}}[doubt]
        self.seen = []

    def context(self, first, corrected, shots):
        return [first, *corrected]

    def iou(self, file, context):
        self.seen.append((file, tuple(context)))
        return self.ious[file] + (len(context) - 1) / 100

    def doubt(self, file, context):
        assert len(context) == 1
        return self.doubts.get(file, 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_the_worst_first_gain_more_than_any_others(seed):
    kind = Told("perfect")
    found = simulate(kind, FILES, seed, 5)
    parts = part(FILES, seed)
    folder = [*parts.offered, *parts.fixed]
    for count in (1, 3):
        for order in ("doubtful", "random"):
            given = sorted(parts.offered, key=kind.ious.get)[:count]
            if order == "random":
                given = parts.offered[:count]
            ious = {f: 1.0 if f in given else kind.ious[f] + count / 100 for f in folder}
            assert found[f"a {count} {order}"] == pytest.approx(np.mean(list(ious.values())))
            fixed = np.mean([kind.ious[f] for f in parts.fixed]) + count / 100
            assert found[f"b {count} {order}"] == pytest.approx(fixed)
        assert found[f"a {count} doubtful"] > found[f"a {count} random"]
    assert found["a 0"] == pytest.approx(np.mean([kind.ious[f] for f in folder]))


def test_the_fixed_half_is_never_given_and_never_changes():
    halves = []
    for seed in range(3):
        parts = part(FILES, seed)
        assert sorted([parts.first, *parts.offered, *parts.fixed]) == sorted(FILES)
        assert (len(parts.offered), len(parts.fixed)) == (6, 5)
        halves.append(parts.fixed)
        for doubt in ("perfect", "none"):
            kind = Told(doubt)
            simulate(kind, FILES, seed, 5)
            shown = {file for _, context in kind.seen for file in context}
            assert parts.first in shown and not shown & set(parts.fixed)
            for file in parts.fixed:  # at every count and order
                assert {len(c) for f, c in kind.seen if f == file} == {1, 2, 4}
    assert halves[0] != halves[1] != halves[2]


def test_without_doubt_the_order_is_the_random_one():
    found = simulate(Told("none"), FILES, 0, 5)
    assert found["a 3 doubtful"] == found["a 3 random"]


@pytest.fixture
def pairs(tmp_path):
    """Three pictures of a box, and two of another class."""
    for name, number in (("box", 3), ("few", 2)):
        (tmp_path / "pairs" / name).mkdir(parents=True)
        for i in range(number):
            pixels, mask = draw(i)
            Image.fromarray(pixels).save(tmp_path / f"pairs/{name}/{i}.jpg", quality=95)
            Image.fromarray(mask).save(tmp_path / f"pairs/{name}/{i}.png")
    return tmp_path / "pairs"


def test_a_given_mask_counts_as_it_is_and_what_is_left_out_as_nothing(pairs):
    (kinds,) = [pair_kinds(str(pairs), 3)]
    assert list(kinds) == ["box"]
    predictor = tiny_predictor()
    kind = Kind(predictor, "box", kinds["box"])
    found = simulate(kind, list(kinds["box"]), 0, 5)
    # one is offered and one fixed; more cannot be corrected
    assert found["a 1 random"] == pytest.approx((1 + found["b 1 random"]) / 2)
    assert found["a 3 doubtful"] == found["a 1 random"]
    assert 0 < found["a 0"] < 1
    predictor.model.stock = replace(predictor.model.stock, absent=1.0)
    found = simulate(kind, list(kinds["box"]), 0, 5)
    assert (found["a 0"], found["b 1 random"], found["a 1 random"]) == (0, 0, 0.5)


def test_pictures_are_encoded_once(pairs, monkeypatch):
    predictor, calls = tiny_predictor(), []
    real = predictor.model.encoder.forward

    def forward(images, *args):
        calls.append(len(images))
        return real(images, *args)

    monkeypatch.setattr(predictor.model.encoder, "forward", forward)
    kind = Kind(predictor, "box", pair_kinds(str(pairs), 3)["box"])
    for seed in range(5):  # each picture is the first one, and corrected
        simulate(kind, list(kind.masks), seed, 5)
    assert sum(calls) == 2 * 3  # as target, as reference


def test_categories_with_enough_scenes(tmp_path):
    whole, dot = np.zeros((60, 80), bool), np.zeros((60, 80), bool)
    whole[:30], dot[40:45, 5:9] = True, True  # half of the frame; 0.4 %

    def thing(scene, category, mask):
        rle = pycocotools.mask.encode(np.asfortranarray(mask, np.uint8))
        rle["counts"] = rle["counts"].decode()
        return {"image_id": scene, "category_id": category, "segmentation": rle}

    scenes = [{"id": i, "file_name": f"{i}.jpg", "height": 60, "width": 80} for i in (1, 2, 3)]
    things = [thing(i, 1, whole) for i in (1, 2, 3)] + [thing(1, 1, dot)]
    things += [thing(i, 2, dot) for i in (1, 2, 3)] + [thing(3, 3, whole)]
    names = [{"id": i, "name": name} for i, name in ((1, "wide"), (2, "dot"), (3, "rare"))]
    content = {"images": scenes, "annotations": things, "categories": names}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    (masks,) = composite_kinds(str(tmp_path), 1, 2).values()
    assert list(masks) == [str(tmp_path / f"images/{i}.jpg") for i in (1, 2)]
    np.testing.assert_array_equal(masks[str(tmp_path / "images/1.jpg")], whole | dot)
    assert list(composite_kinds(str(tmp_path), 2, 1)) == ["rare", "wide"]
    with pytest.raises(ValueError, match="1 categories have 2 pictures, 2 are asked for"):
        composite_kinds(str(tmp_path), 2, 2)


def test_a_row_for_each_class(pairs, tmp_path, capsys):
    config, output = tmp_path / "tiny.yaml", tmp_path / "gain.json"
    config.write_text(tiny_config().dump())
    arguments = ["--config-file", str(config), "--output", str(output), "--seeds", "2"]
    label_gain.main(["--pairs", str(pairs), "--least", "3", *arguments])
    text, found = capsys.readouterr().out, json.loads(output.read_text())
    (title,) = found
    assert title == f"{pairs}: box" and list(found[title]) == ["box 0", "box 1"]
    runs = found[title].values()
    value, more = (100 * np.mean([r["b 3 doubtful"] - x * r["b 0"] for r in runs]) for x in (0, 1))
    assert f"| {title} | 1 × 3 | " in text and f" | {value:.1f} ({more:+.1f} ± " in text
    for least, error in (("4", "nothing to measure"), ("2", "--least and --pictures are 3")):
        with pytest.raises(SystemExit, match=f"error: {error}"):
            label_gain.main(["--pairs", str(pairs), "--least", least, *arguments])
