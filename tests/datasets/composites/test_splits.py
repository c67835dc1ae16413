"""The composites from made-up sources: files, splits, episodes, and what is said of bad sources."""

import hashlib
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pycocotools.mask
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from composites import plan as composites_plan
from composites import scene as composites_scene
from composites import sources as composites_sources
from composites import splits as composites_splits
from composites.table import objects_of_split, read_backgrounds, read_objects
from segic_d2.data.datasets import composites
from segic_d2.data.episodes import draw_references, generator
from segic_d2.data.health.damaged import leaving_out
from segic_d2.data.health.verify import report_gaps
from segic_d2.data.index import Source
from tests.datasets.composites.toy_sources import make_sources

SIZES = {"train": 16, "seen": 4, "novel": 8}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(sources, objects, backgrounds, root of the written splits), with a cache of its own."""
    folder = tmp_path_factory.mktemp("composites")
    objects, backgrounds = make_sources(folder / "sources")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGIC_D2_CACHE", str(folder / "cache"))
        composites_splits.generate(
            folder / "data/composites",
            folder / "sources",
            SIZES,
            processes=1,
            objects=objects,
            backgrounds=backgrounds,
        )
        composites.register_composites(str(folder / "data"), prefix="made")
        yield folder / "sources", objects, backgrounds, folder / "data/composites"
    for split in composites.SPLITS:
        for form in composites.FORMS:
            DatasetCatalog.remove(f"made_{split}{form}")
            MetadataCatalog.remove(f"made_{split}{form}")


def load(root, split, file="instances.json"):
    return json.loads((root / split / file).read_text())


def test_files_and_both_vocabularies_say_the_same(made):
    _, objects, _, root = made
    for split, size in SIZES.items():
        data, items = load(root, split), load(root, split, "objects.json")
        assert len(data["images"]) == size and data["images"] == items["images"]
        names = {c["id"]: c["name"] for c in data["categories"]}
        kinds = {c["id"]: c["supercategory"] for c in items["categories"]}
        for a, b in zip(data["annotations"], items["annotations"], strict=True):
            assert b["category_id"] == a["object"] + 1
            assert names[a["category_id"]] == kinds[b["category_id"]]
            assert objects[a["object"]].category == names[a["category_id"]]
            assert a["segmentation"] == b["segmentation"]
            assert a["area"] >= 40 and not a["iscrowd"]
        for image in data["images"]:
            found = [a for a in data["annotations"] if a["image_id"] == image["id"]]
            masks = [pycocotools.mask.decode(a["segmentation"]).astype(bool) for a in found]
            assert len(masks) >= 2 and np.sum(masks, axis=0).max() == 1  # visible parts only
            with Image.open(root / split / "images" / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"])
                assert 448 <= max(picture.size) <= 512


def test_novel_categories_are_never_seen_and_some_objects_are_held_out(made):
    _, _, _, root = made
    names = {s: {c["name"] for c in load(root, s)["categories"]} for s in SIZES}
    assert names["train"] == names["seen"] == {"cube", "disc", "slab"}
    assert names["novel"] == {"lime", "moss"}
    shown = {s: {a["object"] for a in load(root, s)["annotations"]} for s in SIZES}
    assert shown["train"] <= {0, 1, 2, 4, 8}
    assert shown["seen"] <= {3, 4, 8} and 3 in shown["seen"]  # the fourth disc
    assert shown["novel"] <= {5, 6, 7}


def test_a_mask_lies_on_its_object(made):
    """Inside its mask an object has its own colour, outside not: compared by their hues."""
    _, _, _, root = made
    right, total = 0, 0
    for image in load(root, "novel")["images"]:
        picture = np.asarray(Image.open(root / "novel/images" / image["file_name"]), np.float32)
        for a in load(root, "novel")["annotations"]:
            if a["image_id"] == image["id"] and a["object"] == 5:  # lime: green above all
                mask = pycocotools.mask.decode(a["segmentation"]).astype(bool)
                green = picture[..., 1] - picture[..., [0, 2]].mean(-1)
                right += green[mask].mean() > green[~mask].mean() + 20
                total += 1
    assert total >= 3 and right >= 0.9 * total  # an olive disc may lie beside it


def test_kinds_of_scenes_and_their_sizes(made):
    """1,000 plans about one object: shares, the scale of the focal thing, and who else is there."""
    _, objects, _, _ = made
    vocabulary = composites_plan.Vocabulary([o for o in objects if o.split == "train"])
    focal, rng, found = vocabulary.objects[0], np.random.default_rng(0), {}
    for _ in range(1000):
        kind, things = composites_plan.plan_scene(vocabulary, focal, rng)
        found.setdefault(kind, []).append(things)
        assert things[0].item is focal
        assert any(t.item.category != focal.category for t in things)
    ranges = {"close": (0.9, 2.0), "large": (0.65, 1.3), "several": (0.35, 1.0)}
    ranges |= {"pile": (0.2, 0.6), "small": (0.05, 0.18)}
    for kind, share in zip(composites_plan.KINDS, composites_plan.SHARES, strict=True):
        assert len(found[kind]) / 1000 == pytest.approx(share, abs=0.04)
        scales = [things[0].scale for things in found[kind]]
        low, high = ranges[kind]
        assert low <= min(scales) < low + 0.15 * (high - low)
        assert high - 0.15 * (high - low) < max(scales) <= high
    assert {len(things) for things in found["close"]} == {2}


def hashes(folder):
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_same_files_whatever_the_processes_and_sizes(made, tmp_path):
    sources, objects, backgrounds, root = made
    tables = {"objects": objects, "backgrounds": backgrounds}
    generate = composites_splits.generate
    generate(tmp_path / "two", sources, {"novel": 8}, processes=2, **tables)
    assert hashes(tmp_path / "two/novel") == hashes(root / "novel")
    generate(tmp_path / "few", sources, {"novel": 2}, processes=1, **tables)
    generate(tmp_path / "other", sources, {"novel": 2}, seed=1, processes=1, **tables)
    few, other = hashes(tmp_path / "few"), hashes(tmp_path / "other")
    pictures = [name for name in few if name.endswith(".jpg")]
    assert len(pictures) == 2
    all_eight = hashes(root)
    assert all(few[name] == all_eight[name] != other[name] for name in pictures)
    with pytest.raises(ValueError, match="exists already"):
        generate(tmp_path / "few", sources, {"novel": 2}, processes=1, **tables)
    with pytest.raises(ValueError, match="splits are"):
        generate(tmp_path / "few", sources, {"test": 2}, processes=1, **tables)


def test_a_class_that_no_scene_shows_is_no_damage(made):
    """Of the train split's classes two have a single object, so that no other one can be shown."""
    found = DatasetCatalog.get("made_train_others")
    shown = {a["category_id"] for r in found for a in r["annotations"]}
    assert len(shown) < len(MetadataCatalog.get("made_train_others").thing_classes)
    with leaving_out() as left_out:
        report_gaps("made_train_others", found)
    assert not left_out


@pytest.mark.parametrize("form", ["", "_others", "_objects"])
def test_large_ones_alone_are_asked_for(made, form):
    asked = {r["file_name"]: r["only"] for r in DatasetCatalog.get(f"made_train{form}_large")}
    found = 0
    for record in DatasetCatalog.get(f"made_train{form}"):
        areas = {}
        for a in record["annotations"]:
            mask = pycocotools.mask.decode(a["segmentation"])
            areas[a["category_id"]] = areas.get(a["category_id"], 0) + mask.mean()
        large = sorted(c for c, area in areas.items() if area >= 0.04)
        assert asked.get(record["file_name"], []) == large
        found += len(areas) - len(large)
    assert found  # some are left out


def test_references_of_others_show_other_objects(made):
    source = Source("made_novel_others")
    index = source.class_index("skip")
    names = [source.names[c] for c in index.classes]
    assert names == ["lime"]  # moss is the only one of its kind
    lime, strict = int(index.classes[0]), 0
    for target in index.images_of(lime).tolist():
        own = index.shown[target][lime]
        for draw in range(8):
            (reference,) = draw_references(generator(draw), index, lime, target, 1)
            assert reference != target
            possible = any(not index.shown[i][lime] & own for i in index.images_of(lime).tolist())
            assert not possible or not index.shown[reference][lime] & own
            strict += possible
    assert strict
    plain = Source("made_novel").class_index("skip")
    assert plain.shown is None and len(plain.classes) == 2


def test_a_class_per_object(made):
    source = Source("made_novel_objects")
    assert source.names == ["lime: lime", "lime: olive", "moss: moss"]
    index = source.class_index("skip")
    (reference,) = draw_references(generator(0), index, 0, int(index.images_of(0)[0]), 1)
    assert 0 in source.presence[reference]


def test_missing_and_damaged_data_name_the_file(made, tmp_path):
    with pytest.raises(FileNotFoundError, match="prepare_composites.py"):
        composites.load_composites("x", tmp_path, "instances.json")
    (tmp_path / "instances.json").write_text('{"images": [')
    with pytest.raises(ValueError, match="is no JSON"):
        composites.load_composites("x", tmp_path, "instances.json")


def test_bad_sources_are_named(made, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path / "cache"))
    objects, backgrounds = make_sources(tmp_path / "sources")

    def refused(error, match, table=objects):
        with pytest.raises(error, match=match):
            composites_splits.generate(
                tmp_path / "out",
                tmp_path / "sources",
                {"train": 1},
                processes=1,
                objects=table,
                backgrounds=backgrounds,
            )

    stamps = tmp_path / "sources/tuxpaint-stamps-default/usr/share/tuxpaint/stamps"
    good = (stamps / "a/pink.png").read_bytes()
    (stamps / "a/pink.png").write_bytes(good[:-40])
    refused(ValueError, "pink.png is not the file that was reviewed")
    half = objects[1].__class__(
        **{**vars(objects[1]), "sha256": hashlib.sha256(good[:-40]).hexdigest()}
    )
    refused(ValueError, "pink.png is no picture", [objects[0], half])
    (stamps / "a/pink.png").unlink()
    refused(FileNotFoundError, "no source file .*pink.png")
    (stamps / "a/pink.png").write_bytes(good)
    library = tmp_path / "sources/sweethome3d-furniture/usr/share/sweethome3d/furniture/Toys.sh3f"
    library.write_bytes(b"no archive")
    refused(ValueError, "Toys.sh3f is no library")
    picture = tmp_path / "sources/mate-backgrounds" / backgrounds[2].file
    picture.write_bytes(b"")
    refused(ValueError, "2.jpg is not the file that was reviewed", objects[:8])


def test_without_apt_it_is_said_what_to_place_where(tmp_path, monkeypatch):
    monkeypatch.setattr(composites_sources.shutil, "which", lambda tool: None)
    with pytest.raises(FileNotFoundError, match="no apt-get .*tuxpaint-stamps.*stamps exists"):
        composites_sources.fetch(tmp_path)


def test_apt_that_fails_is_quoted(tmp_path, monkeypatch):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, script in {
        "apt-get": "echo 'E: Unable to locate package' >&2; exit 100",
        "dpkg-deb": "exit 0",
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    with pytest.raises(RuntimeError, match="Unable to locate package.*apt-get update"):
        composites_sources.fetch(tmp_path / "sources", ["tuxpaint-data"])
    assert not list((tmp_path / "sources").glob("*"))


def test_command_line(made, tmp_path, monkeypatch, capsys):
    sources, objects, backgrounds, root = made
    monkeypatch.setattr(composites_splits, "read_objects", lambda: objects)
    monkeypatch.setattr(composites_splits, "read_backgrounds", lambda: backgrounds)
    script = Path(__file__).parents[3] / "datasets/prepare_composites.py"
    command = [str(script), "--sources", str(sources), "--processes", "1", "--num-train", "0"]
    command += ["--num-seen", "0", "--num-novel", "2", "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(script), run_name="__main__")
    assert done.value.code == 0 and "2 novel scenes" in capsys.readouterr().out
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(script), run_name="__main__")
    assert done.value.code == 1 and "exists already" in capsys.readouterr().err


def test_reviewed_tables():
    objects, backgrounds = read_objects(), read_backgrounds()
    groups = {}
    for o in objects:
        groups.setdefault(o.category, []).append(o)
        assert len(o.sha256) == 64
    several = {c for c, group in groups.items() if len(group) > 1}
    novel = {o.category for o in objects if o.split == "novel"}
    assert (len(objects), len(groups), len(several)) == (817, 367, 176)
    assert (len(novel), len(novel & several)) == (71, 63)
    assert not {o.category for o in objects_of_split(objects, "train")} & novel
    assert {o.category for o in objects_of_split(objects, "novel")} == novel
    held_out = set(objects_of_split(objects, "seen")) - set(objects_of_split(objects, "train"))
    assert len(held_out) == 56
    assert len(backgrounds) == 83
    assert set().union(*(b.shows for b in backgrounds)) <= set(groups)
    assert {b.package for b in backgrounds} < set(composites_sources.PACKAGES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("category,file\na,b\n", "no column supercategory"),
        ("a,b,test,stamps,f,0\n", "split is 'test'"),
        ("a,b,train,photos,f,0\n", "source is 'photos'"),
        ("a,b,train,stamps,f,0\na,b,novel,stamps,g,0\n", "line 3: 'a' was"),
        ("a,b,train,stamps,f,0\na,b,train,stamps,f,0\n", "f stands in the table twice"),
        ("a,b,train\n", "line 2: too few columns"),
        ("", "lists no object"),
    ],
)
def test_bad_tables_are_named(tmp_path, text, message):
    header = "category,supercategory,split,source,file,sha256\n"
    (tmp_path / "table.csv").write_text(text if text.startswith("category") else header + text)
    with pytest.raises(ValueError, match=message):
        read_objects(tmp_path / "table.csv")


def test_a_shadow_ends_softly():
    """Nothing shows where the window of a thing ends, only where it lies."""
    rng = np.random.default_rng(0)
    cut = np.zeros((40, 60, 4), np.float32)
    cut[5:35, 5:55] = 1
    placed = composites_scene._Placed(None, cut, 50, 60, (160, 200))
    canvas = np.ones((160, 200, 3), np.float32)
    composites_scene._darken(placed, canvas, rng)
    beside = np.abs(np.diff(canvas[70, :64, 0]))  # up to the window's left edge and beyond
    assert canvas.min() < 0.8 and beside.max() < 0.05 and canvas[0, 0, 0] == 1


def test_no_background_is_a_photograph_of_the_validation_set():
    file = Path(__file__).parents[3] / "datasets/real_validation.json"
    validation = file.read_text(encoding="utf-8")
    assert "sha256" in validation
    assert not [b.file for b in read_backgrounds() if b.sha256 in validation]
