"""A predictor whose context is learned; tests/engine/test_tune.py has its ``fine_tune``."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segic_d2.engine import tune_context
from segic_d2.predictor import InContextPredictor
from tests.engine.test_tune import FUSED, PICTURES, given
from tests.modeling.segic.parts import build


def test_the_learned_context_is_used_saved_and_loaded(monkeypatch, tmp_path):
    scores = [50.0, 60.0]
    monkeypatch.setattr(tune_context.HeldOut, "score", lambda self: scores.pop(0))
    predictor = InContextPredictor.from_model(build(*FUSED))
    report = predictor.tune_context(given(PICTURES), given(PICTURES[:2]), steps=2, seed=3)
    assert (report.kept, report.learned, report.held_out) == ("after", 8, 2)
    assert predictor.entities == {1: "red"} and predictor.context.about["tuned"]["seed"] == 3
    file = tmp_path / "tuned.safetensors"
    predictor.save_context(file)
    other = InContextPredictor.from_model(build(*FUSED))
    other.load_context(file)
    assert other.context.about == predictor.context.about
    masks = [p(PICTURES[5].image).masks for p in (predictor, other)]
    assert np.array_equal(*masks) and masks[0].any()


def test_what_fails_changes_nothing():
    predictor = InContextPredictor.from_model(build(*FUSED))
    predictor.set_references(given(PICTURES[:1]))
    held = predictor.context
    with pytest.raises(ValueError, match="class 'red' has 2 pictures with a mask"):
        predictor.tune_context(given(PICTURES[:2]))
    with pytest.raises(ValueError, match="^'nothere' is neither a folder nor a registered"):
        predictor.tune_context(["nothere"])
    assert predictor.context is held


def test_names_of_data_sets_may_be_several(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(tune_context, "tune_context", lambda *args: seen.append(args) or (0, 0))
    for n, one in enumerate(PICTURES[:4]):
        file = Path(tmp_path, str(n % 2), "red", f"{n}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one.image).save(file)
        Image.fromarray(one.masks[1]).save(file.with_name(f"{n}_mask.png"))
    predictor = InContextPredictor.from_model(build())
    predictor.tune_context([tmp_path / "0", str(tmp_path / "1")])
    ((_, pictures, names, test),) = seen
    assert (len(pictures), dict(names), test) == (4, {0: "red"}, [])
