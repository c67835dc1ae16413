"""Data that several test files of this folder read."""

import runpy

import pytest

from tests.data import paper_data
from tests.engine.evaluations.semantic_runs import ROOT, register_below
from tests.miniatures import a847, ade20k, coco_semantic, pc459


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """All four datasets where Detectron2 looks for its own, prepared as documented."""
    root = tmp_path_factory.mktemp("datasets")
    with paper_data.registered(root), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGIC_D2_CACHE", str(root / "cache"))
        for miniature in (a847, pc459, ade20k, coco_semantic):
            miniature.make(root)
        register_below(root)
        prepare = runpy.run_path(str(ROOT / "datasets/prepare_ade20k.py"))["main"]
        assert prepare([str(root / "ADEChallengeData2016")]) == 0
        assert runpy.run_path(str(ROOT / "datasets/prepare_coco_semantic.py"))["main"](["val"]) == 0
        yield root
    register_below("datasets")
