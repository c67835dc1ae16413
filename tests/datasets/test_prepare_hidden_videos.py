"""Clips in which a thing is hidden: what the script writes of photographs that are made here."""

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segic_d2.io.video_masks import read_video_mask

SCRIPT = Path(__file__).resolve().parents[2] / "datasets" / "prepare_hidden_videos.py"


@pytest.fixture
def script(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SEGIC_D2_OFFLINE", "1")
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("prepare_hidden_videos", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_scenes_are_of_listed_photographs(script):
    content = json.loads(script.LIST.read_text(encoding="utf-8"))
    for ground, *things in script.SCENES.values():
        assert ground in content["pictures"]
        for name, kind in things:
            assert [e["picture"] for e in content["classes"][kind]].count(name) == 1


def test_one_vanishes_and_comes_back(script, tmp_path):
    colours = {"ground": (90, 90, 90), "a": (250, 0, 0), "b": (0, 250, 0), "c": (0, 0, 250)}
    given, content = tmp_path / "given", {"pictures": {}, "classes": {"thing": []}}
    given.mkdir()
    content["sources"] = {"pack": {"by": "apt", "package": "pack"}}
    for name, colour in colours.items():
        Image.new("RGB", (80, 60), colour).save(given / f"{name}.png")
        sha = hashlib.sha256((given / f"{name}.png").read_bytes()).hexdigest()
        about = {"source": "pack", "file": f"{name}.png", "sha256": sha, "size": [80, 60]}
        content["pictures"][name] = about
        corners = [10, 10, 60, 10, 60, 50, 10, 50]
        content["classes"]["thing"].append({"picture": name, "polygons": [corners]})
    scenes = {"toy": ("ground", *((name, "thing") for name in "abc"))}
    (folder,) = script.write(content, tmp_path / "out", given, scenes)
    assert len([*(folder / "frames").iterdir()]) == 40
    maps = {int(f.stem): read_video_mask(f).labels for f in sorted(folder.glob("*.png"))}
    assert [*maps] == [0, 4, 20, 34, 37, 39]
    assert [n for n, labels in maps.items() if 1 not in labels] == [20]
    for number, labels in maps.items():
        picture = np.asarray(Image.open(folder / f"frames/{number:05}.png"))
        assert labels.shape == (320, 480) and 3 in labels
        for i, name in ((1, "a"), (3, "b"), (0, "c")):
            same = (picture == colours[name]).all(-1)
            assert (labels[same] == i).all()
            assert same.sum() >= 0.95 * (labels == i).sum() or i == 0
    with pytest.raises(FileExistsError, match="out is there already"):
        script.write(content, tmp_path / "out", given, scenes)
