"""The demo's script at a toy size: every figure and picture that it promises."""

import json

import numpy as np
import torch
from PIL import Image

from segic_d2 import InContextPredictor
from segic_d2.engine import EpisodeTrainer
from tests.engine.test_training import TINY
from tests.tiny import tiny_config


def test_the_demo_writes_figures_and_pictures(tmp_path, monkeypatch):
    from demo.run_demo import main

    def shipped(name, device):  # test_pretrained.py has the real one
        assert name == "segic-demo"
        return InContextPredictor(tiny_config(), device=device)

    class Seen(EpisodeTrainer):
        def __init__(self, cfg):
            states.append((cfg.SEED, torch.get_rng_state()))
            super().__init__(cfg)

    states = []
    monkeypatch.setattr(InContextPredictor, "from_pretrained", shipped)
    monkeypatch.setattr("demo.run_demo.EpisodeTrainer", Seen)
    results = main(["--output", str(tmp_path), *TINY, "SOLVER.MAX_ITER", "2", "TEST.EPISODES", "8"])
    ((seed, state),) = states  # nothing that ran before moves the training
    assert seed >= 0 and torch.equal(state, torch.Generator().manual_seed(seed).get_state())
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved == results
    assert set(saved) == {
        *("miou_untrained", "miou_trained", "miou_propagated_mask"),
        *("seconds_photographs", "seconds"),
    }
    assert all(0 <= saved[k] <= 100 for k in saved if k.startswith("miou"))
    # two iterations of a random backbone change the decoder, not the propagated mask's threshold
    assert saved["miou_propagated_mask"] > 0 and saved["seconds"] > 0
    assert len(list(tmp_path.glob("novel_*.jpg"))) == 6
    real = [
        f"real_{name}.jpg"
        for name in ("coins", "motorcycle", "rocket", "person", "classes", "instances")
    ]
    assert sorted(real) == sorted(p.name for p in tmp_path.glob("real_*"))
    for name in ("photo_coins.jpg", "photo_motorcycle.jpg", *real):
        picture = np.asarray(Image.open(tmp_path / name))
        assert picture.shape[1] > 800 and picture.std() > 20
    assert (tmp_path / "model_final.pth").is_file()
