"""The hand-drawn validation set: its list is sound, and the script writes what the list says."""

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).resolve().parents[2] / "datasets" / "prepare_real_validation.py"


@pytest.fixture
def script(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SEGIC_D2_OFFLINE", "1")
    spec = importlib.util.spec_from_file_location("prepare_real_validation", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def listed(tmp_path):
    """A list of one photograph, seen whole and as an enlarged crop, and the photograph's folder."""
    rows, columns = np.mgrid[:20, :30]
    pixels = np.stack([rows * 12, columns * 8, 200 - rows * 4], 2).astype(np.uint8)
    (tmp_path / "given" / "deep").mkdir(parents=True)
    file = tmp_path / "given" / "deep" / "photo.png"
    Image.fromarray(pixels).save(file)
    photo = {
        "source": "pack",
        "file": "photo.png",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    square = [2, 3, 12, 3, 12, 13, 2, 13]
    return {
        "sources": {"pack": {"by": "apt", "package": "pack", "license": "free"}},
        "pictures": {
            "whole": {**photo, "size": [30, 20]},
            "part": {**photo, "crop": [10, 0, 30, 10], "size": [40, 20]},
        },
        "classes": {
            "thing": [
                {"picture": "whole", "polygons": [square], "holes": [[4, 5, 8, 5, 8, 9, 4, 9]]},
                {"picture": "part", "polygons": [[0, 0, 40, 0, 40, 20, 0, 20]]},
            ]
        },
        "groups": {"B": {"corner": [{"picture": "part", "polygons": [square]}]}, "C": {}},
    }


def _masks(script, content, kinds):
    """Paint all masks of kinds as (kind, share of the frame); the polygons lie in the pictures."""
    for kind, entries in kinds.items():
        for entry in entries:
            width, height = size = tuple(content["pictures"][entry["picture"]]["size"])
            for x, y in np.concatenate([np.reshape(p, (-1, 2)) for p in entry["polygons"]]):
                assert -60 <= x <= width + 60 and -60 <= y <= height + 60
            yield kind, script.make_mask(entry, size).mean()


def _episodes(kinds):
    numbers = [len(entries) for entries in kinds.values()]
    assert min(numbers) >= 2
    return sum(n * (n - 1) for n in numbers)


def test_the_shipped_list_promises_what_the_document_says(script):
    content = json.loads(script.LIST.read_text(encoding="utf-8"))
    groups = {"A": content["classes"], **content["groups"]}
    assert tuple(groups) == script.GROUPS
    assert {g: len(kinds) for g, kinds in groups.items()} == {"A": 24, "B": 7, "C": 6}
    assert {g: _episodes(kinds) for g, kinds in groups.items()} == {"A": 94, "B": 34, "C": 24}
    used = {e["picture"] for kinds in groups.values() for k in kinds.values() for e in k}
    assert used == set(content["pictures"])
    assert {p["source"] for p in content["pictures"].values()} == set(content["sources"])
    for group, (low, high) in {"A": (0.005, 0.95), "B": (0.005, 0.95), "C": (0.001, 0.02)}.items():
        for kind, share in _masks(script, content, groups[group]):
            assert low < share < high, (group, kind, share)


def test_a_picture_shows_a_kind_of_its_group_once(script):
    content = json.loads(script.LIST.read_text(encoding="utf-8"))
    for kinds in (content["classes"], *content["groups"].values()):
        for kind, entries in kinds.items():
            names = [entry["picture"] for entry in entries]
            assert len(set(names)) == len(names), kind


def test_it_writes_pictures_and_masks_by_class(script, listed, tmp_path):
    written = script.write(listed, tmp_path / "out", tmp_path / "given", ("A",))
    assert written == [tmp_path / "out"]
    files = sorted(str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*.*"))
    assert files == ["thing/1.jpg", "thing/1.png", "thing/2.jpg", "thing/2.png"]
    mask = np.asarray(Image.open(tmp_path / "out/thing/1.png"))
    expected = np.zeros((20, 30), np.uint8)
    expected[3:13, 2:12] = 255
    expected[5:9, 4:8] = 0
    assert (mask == expected).all()
    pixels = np.asarray(Image.open(tmp_path / "given/deep/photo.png"))
    picture = np.asarray(Image.open(tmp_path / "out/thing/1.jpg"))
    assert np.abs(picture.astype(int) - pixels).mean() < 4  # JPEG
    part = Image.fromarray(pixels[:10, 10:]).resize((40, 20), Image.LANCZOS)
    found = np.asarray(Image.open(tmp_path / "out/thing/2.jpg")).astype(int)
    assert np.abs(found - np.asarray(part)).mean() < 4
    # the photograph is kept: the folder is not needed again
    script.write(listed, tmp_path / "again", groups=("A",))
    with pytest.raises(FileExistsError, match="again"):
        script.write(listed, tmp_path / "again", groups=("A",))


def test_another_group_lies_beside_the_first(script, listed, tmp_path):
    own = {**listed["pictures"]["whole"], "file": "absent.png", "sha256": "0"}
    listed["pictures"]["whole"] = own  # of group A alone: B needs it not
    written = script.write(listed, tmp_path / "out", tmp_path / "given", ("B",))
    assert written == [tmp_path / "out_B"] and not (tmp_path / "out").exists()
    files = sorted(str(f.relative_to(tmp_path)) for f in (tmp_path / "out_B").rglob("*.*"))
    assert files == ["out_B/corner/1.jpg", "out_B/corner/1.png"]
    with pytest.raises(FileExistsError, match=r"out_B is there already; .*--groups"):
        script.write(listed, tmp_path / "out", tmp_path / "given")
    assert not (tmp_path / "out").exists()


def test_another_file_of_the_same_name_is_refused(script, listed, tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "given/deep/photo.png")
    with pytest.raises(FileNotFoundError, match=r"photo.png .* pack \(apt\).*--photographs"):
        script.write(listed, tmp_path / "out", tmp_path / "given", ("A",))
    assert not (tmp_path / "out").exists()


def test_photographs_of_a_source_archive_are_asked_for_as_such(script, monkeypatch):
    monkeypatch.setattr(script, "offline", lambda: False)
    asked = []

    def run(command, **_):
        asked.append(command[3:])
        return script.subprocess.CompletedProcess(command, 1, "", "no network")

    monkeypatch.setattr(script.subprocess, "run", run)
    for by in ("pip", "sdist"):
        assert not list(script._fetched({"by": by, "package": "pack==1.0"}))
    plain = ["download", "-q", "--no-deps", "pack==1.0"]
    assert asked == [plain, [*plain, "--no-binary", "pack"]]


def test_a_polygon_needs_three_corners_and_an_area(script):
    with pytest.raises(ValueError, match="whole has no three corners"):
        script.make_mask({"picture": "whole", "polygons": [[1, 1, 2, 2]]}, (30, 20))
    square = [2, 3, 12, 3, 12, 13, 2, 13]
    with pytest.raises(ValueError, match="whole is empty"):
        script.make_mask({"picture": "whole", "polygons": [square], "holes": [square]}, (30, 20))


def test_archives_are_unpacked(script, tmp_path):
    import tarfile
    import zipfile

    (tmp_path / "a.txt").write_text("a")
    with zipfile.ZipFile(tmp_path / "p.whl", "w") as file:
        file.write(tmp_path / "a.txt", "in/a.txt")
    with tarfile.open(tmp_path / "p.tar.gz", "w:gz") as file:
        file.add(tmp_path / "a.txt", "in/b.txt")
    for name in ("p.whl", "p.tar.gz"):
        script.unpack(tmp_path / name, tmp_path / "out")
    assert sorted(f.name for f in (tmp_path / "out/in").iterdir()) == ["a.txt", "b.txt"]
