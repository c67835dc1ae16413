import numpy as np
from PIL import Image


def test_one_coin_finds_and_paints_the_coins(run_example, tmp_path):
    (share,) = run_example("default_predictor.py", "drawn.png")
    assert 20 < share < 40  # 24 coins cover about a third
    drawn = np.asarray(Image.open(tmp_path / "drawn.png").convert("RGB")).astype(int)
    assert 0.15 < (drawn.max(2) - drawn.min(2) > 20).mean() < 0.5  # colour on a grey picture
