"""demo/demo.py end to end on pictures made here, with the tiny backbone."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segic_d2.io.masks import read_label_map
from segic_d2.predictor import InContextPredictor
from tests.predictor.parts import picture, square
from tests.tiny import tiny_config

DEMO = Path(__file__).parents[2] / "demo" / "demo.py"
spec = importlib.util.spec_from_file_location("segic_demo", DEMO)
demo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(demo)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with a config, weights, two references, and pictures that share a stem."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = InContextPredictor(tiny_config(), device="cpu").model
    torch.save({"model": model.state_dict()}, "tiny.pth")
    backbone = {k[len("backbone.") :]: v for k, v in model.state_dict().items() if "patch" in k}
    torch.save(backbone, "backbone.pth")
    Path("tiny.yaml").write_text(tiny_config("MODEL.BACKBONE.WEIGHTS", "backbone.pth").dump())
    for seed, name in enumerate(("cat", "dog")):
        Image.fromarray(picture(seed)).save(f"{name}.jpg")
        Image.fromarray(square(x=20 + 9 * seed)).save(f"{name}.png")
    for seed, name in enumerate(("one/x.png", "two/x.jpg", "two/y.png")):
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(picture(5 + seed, (40 + seed, 50))).save(name)
    return tmp_path


CONFIG = ["--config-file", "tiny.yaml", "--weights", "tiny.pth", "--device", "cpu"]
CAT, DOG = ["--reference", "cat.jpg", "cat.png", "cat"], ["--reference", "dog.jpg", "dog.png"]


def files(folder):
    return sorted(p.name for p in Path(folder).iterdir())


def test_masks_overlays_and_label_maps(work):
    arguments = [
        *CONFIG,
        *CAT,
        *DOG,
        "a dog/puppy",
        "--merge",
        "--save-context",
        "pets.safetensors",
    ]
    assert demo.main([*arguments, "--input", "one", "two", "--output", "new/out"]) == 0
    kinds = ("a_dog_puppy.png", "cat.png", "labels.png", "overlay.jpg")
    assert files("new/out") == [f"{s}_{k}" for s in ("one_x", "two_x", "y") for k in kinds]
    predictor = InContextPredictor("tiny.yaml", "tiny.pth", "cpu")
    predictor.set_references([("cat.jpg", "cat.png", "cat"), ("dog.jpg", "dog.png", "a dog/puppy")])
    for stem, path in (("one_x", "one/x.png"), ("two_x", "two/x.jpg"), ("y", "two/y.png")):
        result = predictor(path)
        for i, name in enumerate(("cat", "a_dog_puppy")):
            mask = np.asarray(Image.open(f"new/out/{stem}_{name}.png"))
            np.testing.assert_array_equal(mask, result.masks[i] * np.uint8(255))
        assert Image.open(f"new/out/{stem}_labels.png").mode == "P"
        labels = read_label_map(f"new/out/{stem}_labels.png")
        np.testing.assert_array_equal(labels, result.label_map())
        assert Image.open(f"new/out/{stem}_overlay.jpg").size == result.image.shape[1::-1]
    # the saved context gives the same files
    again = [*CONFIG, "--context", "pets.safetensors", "--input", "two/y.png", "--output", "again"]
    assert demo.main(again) == 0
    for name in files("again"):
        assert Path("again", name).read_bytes() == Path("new/out", name).read_bytes()


def test_broken_pictures_are_reported_and_do_not_stop_the_rest(work, capsys, monkeypatch):
    Path("two/a.jpg").write_text("no picture")
    Path("broken.png").write_bytes(Path("one/x.png").read_bytes()[:60])
    monkeypatch.setenv("SEGIC_D2_OFFLINE", "1")
    inputs = ["--input", "broken.png", "https://example.org//b.jpg", "two", "--output", "out"]
    assert demo.main([*CONFIG, *CAT, *inputs]) == 1
    assert files("out") == ["x_cat.png", "x_overlay.jpg", "y_cat.png", "y_overlay.jpg"]
    printed = capsys.readouterr()
    assert "broken.png" in printed.err and "a.jpg" in printed.err
    assert "failed: https://example.org//b.jpg cannot be fetched: SEGIC_D2_OFFL" in printed.err
    assert "3 pictures failed" in printed.out


def test_web_addresses_are_inputs(work, monkeypatch):
    content = Path("two/y.png").read_bytes()
    monkeypatch.setattr("segic_d2.io.pictures.download", {"https://x.org/z?a=1": content}.get)
    inputs = ["--input", "https://x.org/z?a=1", "two/y.png", "--output", "out"]
    assert demo.main([*CONFIG, *CAT, *inputs]) == 0
    web, own = (np.asarray(Image.open(f"out/{name}_cat.png")) for name in ("z_a_1", "y"))
    np.testing.assert_array_equal(web, own)


def test_results_are_not_segmented_when_they_lie_among_the_inputs(work):
    arguments = [*CONFIG, *CAT, "--input", "two", "--output", "two/out"]
    assert demo.main(arguments) == 0
    first = files("two/out")
    assert demo.main(arguments) == 0
    assert files("two/out") == first


@pytest.mark.parametrize("head", ["InContextMaskHead", "RegionMatchingHead"])
def test_threshold_and_opts(work, head):
    common = [*CONFIG, *CAT, "--input", "one/x.png", "--output", "out", "--threshold"]
    for threshold, everything in (("1000", False), ("-1000", True)):
        assert demo.main([*common, threshold, "--opts", "MODEL.SEM_SEG_HEAD.NAME", head]) == 0
        mask = Path("out/x_cat.png")  # there is none of what has no pixel
        assert np.asarray(Image.open(mask)).all() if everything else not mask.exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--reference", "cat.jpg"], 2, "--reference cat.jpg: expected IMAGE MASK"),
        ([], 2, "give either --reference"),
        ([*CAT, "--context", "c.safetensors"], 2, "give either --reference"),
        (["--reference", "cat.jpg", "absent.png"], 1, "--reference: no such file: absent.png"),
        (["--reference", "cat.jpg", "one/x.png", "a", "b"], 1, "reference 1 (one/x.png): mask"),
        ([*CAT, "--precision", "fp16"], 1, "'fp16' needs a GPU"),
        ([*CAT, "--weights", "absent.pth"], 1, "absent.pth"),
        ([*CAT, "--weights", "cat.jpg"], 1, "cannot read the checkpoint cat.jpg"),
        ([*CAT, "--opts", "MODEL.SEGIC.FOO", "1"], 1, "MODEL.SEGIC.FOO"),
    ],
)
def test_bad_arguments(work, capsys, arguments, status, message):
    assert demo.main([*CONFIG, "--input", "one", "--output", "out", *arguments]) == status
    assert message in capsys.readouterr().err


def test_as_a_script(work):
    environment = {**os.environ, "PYTHONPATH": str(DEMO.parents[1])}
    arguments = ["--reference", "cat.jpg", "--input", "one", "--output", "out"]
    found = subprocess.run(
        [sys.executable, DEMO, *arguments], env=environment, capture_output=True, text=True
    )
    assert found.returncode == 2 and "expected IMAGE MASK" in found.stderr


def test_a_text_tower_that_cannot_be_had_is_one_line(work, monkeypatch, capsys):
    """Found when the references are encoded; without minutes of retries and without a traceback."""
    pytest.importorskip("open_clip", reason="pip install 'segic_d2[text]'")
    monkeypatch.setenv("SEGIC_D2_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(work))
    opts = ("MODEL.SEGIC.META", True, "MODEL.BACKBONE.WEIGHTS", "backbone.pth")
    model = InContextPredictor(tiny_config(*opts), device="cpu").model
    torch.save({"model": model.state_dict()}, "text.pth")
    Path("text.yaml").write_text(tiny_config(*opts).dump())
    arguments = ["--config-file", "text.yaml", "--weights", "text.pth", "--device", "cpu", *CAT]
    assert demo.main([*arguments, "--input", "one", "--output", "out"]) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert line.startswith("error: MODEL.SEGIC.TEXT.WEIGHTS 'openai': could not load ViT-L-14")
    assert "set MODEL.SEGIC.META False to do without text" in line
