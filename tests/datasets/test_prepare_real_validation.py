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
    }


def test_the_shipped_list_promises_what_the_document_says(script):
    content = json.loads(script.LIST.read_text(encoding="utf-8"))
    numbers = [len(entries) for entries in content["classes"].values()]
    assert len(numbers) >= 8 and min(numbers) >= 2
    assert sum(n * (n - 1) for n in numbers) == 94  # episodes
    used = {e["picture"] for entries in content["classes"].values() for e in entries}
    assert used == set(content["pictures"])
    assert {p["source"] for p in content["pictures"].values()} == set(content["sources"])
    for entries in content["classes"].values():
        for entry in entries:
            width, height = size = tuple(content["pictures"][entry["picture"]]["size"])
            assert 0.005 < script.make_mask(entry, size).mean() < 0.95
            for x, y in np.concatenate([np.reshape(p, (-1, 2)) for p in entry["polygons"]]):
                assert -60 <= x <= width + 60 and -60 <= y <= height + 60


def test_it_writes_pictures_and_masks_by_class(script, listed, tmp_path):
    script.write(listed, tmp_path / "out", tmp_path / "given")
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
    script.write(listed, tmp_path / "again")
    with pytest.raises(FileExistsError, match="again"):
        script.write(listed, tmp_path / "again")


def test_another_file_of_the_same_name_is_refused(script, listed, tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "given/deep/photo.png")
    with pytest.raises(FileNotFoundError, match=r"photo.png .* pack \(apt\).*--photographs"):
        script.write(listed, tmp_path / "out", tmp_path / "given")
    assert not (tmp_path / "out").exists()


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
