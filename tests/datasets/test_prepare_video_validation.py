"""The clips of the video settings: their list is sound, and the script writes what it says."""

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from segic_d2.io.video_masks import read_video_mask

SCRIPT = Path(__file__).resolve().parents[2] / "datasets" / "prepare_video_validation.py"


@pytest.fixture
def script(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SEGIC_D2_OFFLINE", "1")
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("prepare_video_validation", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def corners(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


@pytest.fixture
def listed(tmp_path):
    """A list of one clip, whose object 3 is hidden in its second frame, and a folder with it."""
    (tmp_path / "given").mkdir()
    (tmp_path / "given/toy.mp4").write_bytes(b"a clip")
    first = [
        {"id": 5, "polygons": [corners(0, 0, 8, 8)]},
        {"id": 3, "polygons": [corners(4, 4, 12, 12), corners(14, 0, 20, 2)]},
    ]
    clip = {"source": "pack", "file": "toy.mp4", "size": [20, 16], "objects": {"3": "a", "5": "b"}}
    clip["sha256"] = hashlib.sha256(b"a clip").hexdigest()
    clip["frames"] = {"7": first, "12": [first[0]]}
    return {"sources": {"pack": {"by": "apt", "package": "pack"}}, "clips": {"toy": clip}}


def test_the_shipped_list_is_sound(script):
    content = json.loads(script.LIST.read_text(encoding="utf-8"))
    assert {c["source"] for c in content["clips"].values()} == set(content["sources"])
    for name, clip in content["clips"].items():
        frames = {int(n): marked for n, marked in clip["frames"].items()}
        assert len(frames) == 6 and [*frames] == sorted(frames)
        maps = [script.label_map(marked, tuple(clip["size"])) for marked in frames.values()]
        ids = {int(i) for i in clip["objects"]}
        assert set(np.unique(maps[0])) == {0, *ids}, "the first frame shows all objects"
        for marked, labels in zip(frames.values(), maps, strict=True):
            assert set(np.unique(labels)) - {0} == {one["id"] for one in marked} <= ids
            for i in np.unique(labels)[1:]:
                assert 0.003 < (labels == i).mean() < 0.4
        if name == "bikes_rider":  # who is behind a van, and comes back
            assert [n for n, labels in zip(frames, maps, strict=True) if 2 not in labels] == [92]


def test_it_writes_what_evaluate_clip_reads(script, listed, tmp_path):
    written = script.write(listed, tmp_path / "out", tmp_path / "given")
    assert written == [tmp_path / "out/toy"]
    names = sorted(f.name for f in written[0].iterdir())
    assert names == ["00007.png", "00012.png", "clip.json", "toy.mp4"]
    labels = read_video_mask(written[0] / "00007.png").labels
    assert labels.shape == (16, 20)
    assert labels[5, 5] == 3 and labels[1, 1] == 5 and labels[1, 15] == 3 and labels[13, 1] == 0
    assert set(np.unique(read_video_mask(written[0] / "00012.png").labels)) == {0, 5}
    told = json.loads((written[0] / "clip.json").read_text(encoding="utf-8"))
    assert told["objects"] == {"3": "a", "5": "b"} and told["file"] == "toy.mp4"
    # the clip is kept: the folder is not needed again
    script.write(listed, tmp_path / "again")
    with pytest.raises(FileExistsError, match="again is there already"):
        script.write(listed, tmp_path / "again")


def test_another_clip_of_the_same_name_is_refused(script, listed, tmp_path):
    (tmp_path / "given/toy.mp4").write_bytes(b"another clip")
    with pytest.raises(FileNotFoundError, match=r"toy.mp4 .* pack \(apt\).*--clips FOLDER"):
        script.write(listed, tmp_path / "out", tmp_path / "given")
    assert not (tmp_path / "out").exists()


def test_a_mask_outside_the_frame_is_named(script, listed, tmp_path):
    listed["clips"]["toy"]["frames"]["12"] = [{"id": 3, "polygons": [corners(30, 30, 40, 40)]}]
    with pytest.raises(ValueError, match="object 3 is empty"):
        script.write(listed, tmp_path / "out", tmp_path / "given")
    assert not (tmp_path / "out").exists()


def test_the_toys_hide_one_and_bring_it_back(script, tmp_path):
    script.main(["--toys", "--output", str(tmp_path)])
    hidden = {"toy_two_paths": 3, "toy_one_path": 1, "toy_two_colours": 3}
    for name, away in hidden.items():
        folder = tmp_path / name
        files = sorted(folder.glob("*.png"))
        assert [int(f.stem) for f in files] == [0, 5, 15, 22, 25, 28]
        assert len([*(folder / "frames").iterdir()]) == 29
        maps = [read_video_mask(file).labels for file in files]
        assert [away in labels for labels in maps] == [True, True, False, True, True, True]
        assert all((4 - away) in labels and labels.shape == (448, 672) for labels in maps)
    with pytest.raises(SystemExit):
        script.main(["--toys", "--output", str(tmp_path)])
