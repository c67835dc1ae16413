"""Rounds that tune the decoder."""

import json

import numpy as np
import torch

from segic_d2.engine.label import label_again, label_folder
from segic_d2.engine.tune import TuneReport
from tests.engine.label.boxes import SlowPredictor, draw, tiny_predictor, write_pictures


def corrected(tmp_path, predictor, number):
    """A first round, of which ``number`` pictures are corrected in place."""
    pictures = write_pictures(tmp_path / "in", number + 2)
    label_folder(predictor, pictures, tmp_path / "out", "labelme")
    for i in range(number):
        mask = draw(i)[1]
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        (y0, y1), (x0, x1) = ((int(v[0]), int(v[-1]) + 1) for v in (rows, columns))
        file = tmp_path / f"out/round-1/labels/{i:04d}.json"
        content = json.loads(file.read_text())
        points = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
        content["shapes"] = [{"label": "box", "points": points, "shape_type": "polygon"}]
        file.write_text(json.dumps(content))
    return tmp_path / "out"


def test_too_few_are_told_and_labelled_without(tmp_path):
    predictor = tiny_predictor()
    out = corrected(tmp_path, predictor, 1)
    report = label_again(predictor, out, str(out / "round-1/labels"), tune=True)
    assert report.tuned.startswith("not tuned: ") and report.given == 1
    assert not list(out.glob("round-2/weights*"))


class Tunable(SlowPredictor):
    """Its tuning adds 1 to a weight, and finds that better."""

    def fine_tune(self, references):
        self.learned = [(names, int(masks.sum())) for _, masks, names in references]
        with torch.no_grad():
            weight(self).add_(1)
        return TuneReport(50.0, 60.0, "after", None, 3, 1, 100, 1.0)


def weight(predictor):
    return next(p for n, p in sorted(predictor.model.named_parameters()) if "encoder" not in n)


def test_tuned_weights_are_of_this_round_and_of_those_after_it(tmp_path):
    predictor = tiny_predictor()
    out = corrected(tmp_path, predictor, 3)
    predictor.__class__ = Tunable
    before = weight(predictor).detach().clone()
    report = label_again(predictor, out, str(out / "round-1/labels"), tune=True)
    assert predictor.learned == [(["box"], 750)] * 3
    assert "before 50.0, after 60.0" in report.tuned
    later = tiny_predictor()  # as another process would build it
    part = tmp_path / "part"
    part.mkdir()
    for name in ("0003.png", "0003.json"):
        (part / name).write_bytes((out / "round-2/labels" / name).read_bytes())
    label_again(later, out, f"labelme:{part}")
    assert torch.allclose(weight(later), before + 1)


def test_weights_of_a_round_that_never_began_are_forgotten(tmp_path):
    predictor = tiny_predictor()
    out = corrected(tmp_path, predictor, 3)
    stale = out / "round-2/weights.safetensors"  # of a process that was killed after tuning
    stale.parent.mkdir()
    stale.write_bytes(b"stale")
    assert label_again(predictor, out, str(out / "round-1/labels")).tuned == ""
    assert not stale.exists()
