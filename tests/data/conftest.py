import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segic_d2.data.health import label_cache
from segic_d2.utils.files import cache_folder
from tests.data import paper_data


@pytest.fixture(autouse=True)
def own_label_cache(monkeypatch, tmp_path_factory):
    """What is learned about the tests' label maps does not go to the user's cache."""
    folder = tmp_path_factory.getbasetemp() / "label_cache"
    monkeypatch.setattr(label_cache, "cache_folder", lambda: folder)


@pytest.fixture
def maps(tmp_path, monkeypatch):
    """Three label maps, and a label cache of their own."""
    monkeypatch.setattr(label_cache, "cache_folder", cache_folder)
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path / "cache"))
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for i, file in enumerate(files):
        Image.fromarray(np.array([[0, i + 1, 255]], np.uint8)).save(file)
    return files


@pytest.fixture(scope="module")
def paper_root(tmp_path_factory):
    """The paper's training data in miniature, under Detectron2's own names."""
    root = tmp_path_factory.mktemp("paper")
    paper_data.coco(root, 2014)
    paper_data.coco(root, 2014, "val")
    paper_data.coco(root, 2017)
    paper_data.ade20k(root)
    paper_data.lvis(root)
    paper_data.fss(root, ["abacus", "ab_wheel", "abe's_flyingfish"])
    path = Path(__file__).resolve().parents[2] / "datasets" / "prepare_ade20k.py"
    subprocess.run(
        [sys.executable, str(path), str(root / "ADEChallengeData2016")],
        check=True,
        capture_output=True,
    )
    with paper_data.registered(root):
        yield root
