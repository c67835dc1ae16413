"""``segic segment``; tests/demo/test_demo.py runs it from pictures to files."""

import argparse
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segic_cli import options, segment
from segic_cli.checks import UsageError
from segic_cli.main import build_parser, main
from segic_d2.config import load_config
from segic_d2.io.annotations import read_annotations
from segic_d2.predictor import PRECISIONS, InContextPredictor
from segic_d2.structures.frame import Frame
from segic_d2.structures.segmentation import Segmentation
from tests.predictor.parts import picture, square
from tests.segic_cli.test_main import light
from tests.tiny import tiny_config


class Fake:
    """A predictor that notes what it is asked, and finds a half-sure square in every picture."""

    def __init__(self, *args):
        self.asked = {"made": args}
        made.append(self)

    entities = {1: "cat"}

    def set_references(self, references, task):
        self.asked.update(references=list(references), task=task)

    def predict(self, pictures, on_error, progress, **how):
        self.asked["how"] = how
        assert not progress  # the command line has its own
        for file in pictures:
            logits = torch.full((1, 8, 8), -9.0)
            logits[:, 2:4, 2:4], logits[:, 4:6, 4:6] = 1.0, -0.5
            frame = Frame(64, (64, 64), (64, 64))
            found = Segmentation(logits, torch.tensor([0.5]), [1], ["cat"], frame, 0.0)
            yield found.for_people(np.zeros((64, 64, 3), np.uint8), str(file))


made = []


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with a reference and a picture, and a predictor that is quick."""
    made.clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("segic_d2.predictor.InContextPredictor", Fake)
    Image.fromarray(picture(0)).save("cat.jpg")
    Image.fromarray(square()).save("cat.png")
    return tmp_path


CAT = ["--reference", "cat.jpg", "cat.png", "cat"]
TO = ["--input", "cat.jpg", "--output", "out"]


def asked(*argv):
    """What the predictor is asked by a call that works."""
    assert main(["segment", *argv, *TO]) == 0
    return made[-1].asked


def area():
    return (np.asarray(Image.open("out/cat_cat.png")) > 0).sum()


def test_references_keep_their_order_and_kinds(work):
    box = ["--box", "cat.jpg", "1", "2.5", "30", "40", "dog"]
    point = ["--point", "cat.jpg", "7", "8"]
    mask = ["--reference", "cat.jpg", "cat.png", "3=cat", "1=dog=2"]
    assert asked(*box, *CAT, *point, *mask)["references"] == [
        ("cat.jpg", {"box": [1, 2.5, 30, 40]}, "dog"),
        ("cat.jpg", "cat.png", "cat"),
        ("cat.jpg", {"points": [[7, 8]]}, None),
        ("cat.jpg", "cat.png", {3: "cat", 1: "dog=2"}),
    ]


def test_names_of_a_mask():
    for values, names in (
        (["i", "m"], None),
        (["i", "m", "cat"], "cat"),
        (["i", "m", "cat", "dog"], ["cat", "dog"]),
        (["i", "m", "3=cat", "1=dog=2"], {3: "cat", 1: "dog=2"}),
    ):
        assert options.reference("--reference", values) == ("i", "m", names)


@pytest.mark.parametrize(
    ("option", "values", "message"),
    [
        ("--reference", ["i"], "--reference i: expected IMAGE MASK"),
        ("--box", ["i", "1", "2", "3"], "--box i 1 2 3: expected IMAGE X0 Y0 X1 Y1 .NAME., numb"),
        ("--box", ["i", "1", "2", "x", "4"], "--box i 1 2 x 4: expected"),
        ("--box", ["i", "1", "2", "nan", "4"], "--box i 1 2 nan 4: expected"),
        ("--box", ["i", "5", "2", "3", "4"], "px, X0 < X1 and Y0 < Y1$"),
        ("--point", ["i", "5"], "--point i 5: expected IMAGE X Y"),
        ("--point", ["i", "5", "6", "cat", "dog"], "--point i 5 6 cat dog: expected"),
    ],
)
def test_wrong_references(option, values, message):
    with pytest.raises(UsageError, match=message):
        options.reference(option, values)


def test_options_reach_the_predictor(work):
    words = ["--weights", "segic-demo", "--device", "cpu", "--precision", "bf16"]
    found = asked(*CAT, *words, "--batch-size", "2", "--instances", "--min-score", "0.25")
    assert found["made"] == ("segic_demo.yaml", "segic-demo", "cpu", "bf16", 2, [])
    assert found["how"] == {"instances": True, "min_score": 0.25}
    assert found["task"] == "instance"
    assert asked(*CAT, "--independent")["how"] == {"independent": True, "min_score": None}
    # options may stand behind the pairs of --opts
    found = asked(*CAT, "--opts", "MODEL.SEGIC.TEST.THRESHOLD", "-1.0", "--batch-size", "3")
    assert found["made"][4:] == (3, ["MODEL.SEGIC.TEST.THRESHOLD", "-1.0"])
    assert (found["how"], found["task"]) == ({"min_score": None}, "semantic")


def test_references_and_pictures_among_the_results_are_kept(work):
    """A mask of one's own that has the name of a result, and a picture that has."""
    Path("cat.png").rename("cat_cat.png")
    Image.fromarray(picture(1)).save("cat_overlay.jpg")
    before = [Path(name).read_bytes() for name in ("cat_cat.png", "cat_overlay.jpg")]
    place = ["--input", "cat.jpg", "cat_overlay.jpg", "--output", "."]
    assert main(["segment", "--reference", "cat.jpg", "cat_cat.png", "cat", *place]) == 0
    assert [Path(name).read_bytes() for name in ("cat_cat.png", "cat_overlay.jpg")] == before
    assert Path("cat_cat_2.png").is_file() and Path("cat_overlay_2.jpg").is_file()


def test_the_threshold_is_moved_from_what_the_model_has(work):
    asked(*CAT)
    plain = area()
    asked(*CAT, "--threshold", "-1")
    more = area()
    asked(*CAT, "--threshold", "0.9")
    less = area()
    asked(*CAT, "--threshold", "2")
    assert more > 1.5 * plain and 0 < less < plain and not Path("out/cat_cat.png").exists()


def test_the_help_tells_true_defaults():
    parser = argparse.ArgumentParser()
    segment.add_arguments(parser)
    args = parser.parse_args([*CAT, *TO])
    cfg = load_config(args.config_file)
    assert cfg.MODEL.SEGIC.TEST.ABSENT == segment.ABSENT > 0
    text = " ".join(parser.format_help().split())
    assert f"ABSENT of the config, {segment.ABSENT:g} in {args.config_file}" in text
    assert args.threshold == 0 and "in logits; default: 0;" in text
    assert tuple(PRECISIONS) == options.PRECISIONS


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (TO, 2, "give either --reference"),
        ([*CAT, "--context", "c.safetensors", *TO], 2, "give either --reference"),
        ([*CAT, "--references", "labelme:x", *TO], 2, "give either --reference"),
        ([*CAT, *TO, "--rename", "a=b"], 2, "--rename is of the files of --format"),
        ([*CAT, *TO, "--format", "coco", "--rename", "a"], 2, "--rename a: expected OLD=NEW"),
        ([*CAT, *TO, "--opts", "MODEL.DEVICE"], 2, "--opts MODEL.DEVICE: expected KEY VALUE"),
        ([*CAT, *TO, "--min-score", "2"], 2, "argument --min-score: invalid number from 0 to 1"),
        ([*CAT, *TO, "--threshold", "nan"], 2, "argument --threshold: invalid number value"),
        ([*CAT, *TO, "--batch-size", "0"], 2, "argument --batch-size: invalid count value: '0'"),
        (["--box", "cat.jpg", "1", *TO], 2, "--box cat.jpg 1: expected IMAGE X0 Y0 X1 Y1"),
        (["--reference", "cat.jpg", "no.png", *TO], 1, "--reference: no such file: no.png"),
        (["--point", "no.jpg", "1", "2", *TO], 1, "--point: no such file: no.jpg"),
        ([*CAT, "--input", "a", "b", "--output", "o"], 1, "--input: no such file: a, b"),
        (["--context", "c", *TO], 1, "--context: no such file: c"),
        ([*CAT, "--input", "ftp://x/a.jpg", "--output", "o"], 2, "--input ftp://x/a.jpg: of addr"),
        (["--reference", "cat.jpg", "s3://x/m.png", *TO], 2, "--reference s3://x/m.png: of addr"),
        (["--context", "https://x.org/c", *TO], 2, "--context https://x.org/c: a file of this m"),
        ([*CAT, *TO, "--save-context", "cat.jpg"], 2, "--save-context cat.jpg: it must end in .sa"),
        ([*CAT, *TO, "--weights", "w.pth"], 1, "--weights: no such file: w.pth"),
        ([*CAT, "--input", ".", "--output", "cat.png"], 1, "--output cat.png: "),
        ([*CAT, *TO, "--save-context", "cat.png/c.safetensors"], 1, "--save-context cat.png: "),
    ],
)
def test_what_is_wrong_shows_before_anything_is_imported(work, argv, status, message):
    found, (line,), _ = light("segment", *argv, cwd=work)
    assert found == status and line.startswith(f"error: {message}")


def test_quiet_but_for_a_line_and_a_bar_on_a_terminal(work, capfd, monkeypatch):
    asked(*CAT)
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("results in out\n", "")
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    asked(*CAT)
    assert "1/1" in terminal.getvalue()


def test_formats_of_labelling_tools(work):
    """What a tool exported goes in, and what it imports comes out."""
    assert asked("--references", "labelme:cats")["references"] == list("labelme:cats")
    words = ["--format", "coco", "--rename", "cat=big cat"]
    assert asked(*CAT, *words) and sorted(p.name for p in Path("out").iterdir()) == [
        "annotations.json", "cat_cat.png", "cat_overlay.jpg", "images"
    ]  # fmt: skip
    (own,) = read_annotations("coco:out/annotations.json:out/images")
    assert list(own.names) == ["big cat"] and own.masks()["big cat"].sum() == area()
    made.clear()
    assert main(["segment", *CAT, *TO, *words]) == 1 and not made  # nothing is written over


@pytest.mark.parametrize("head", ["InContextMaskHead", "RegionMatchingHead"])
def test_scores_and_thresholds_act_on_every_head(tmp_path, monkeypatch, head):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    cfg = tiny_config("MODEL.SEM_SEG_HEAD.NAME", head, "MODEL.BACKBONE.WEIGHTS", "random")
    torch.save({"model": InContextPredictor(cfg, device="cpu").model.state_dict()}, "tiny.pth")
    Path("tiny.yaml").write_text(cfg.dump())
    Image.fromarray(picture(0)).save("cat.jpg")
    Image.fromarray(square()).save("cat.png")
    common = ["segment", "--config-file", "tiny.yaml", "--weights", "tiny.pth", *CAT, *TO]
    shares = {}
    for words in ([], ["--threshold", "1000"], ["--threshold", "-1000"], ["--min-score", "1"]):
        assert main([*common, *words]) == 0
        mask = Path("out/cat_cat.png")  # an earlier one of what is absent now is gone
        shares[" ".join(words)] = np.asarray(Image.open(mask)).mean() / 255 if mask.exists() else -1
    assert shares["--threshold 1000"] == shares["--min-score 1"] == -1
    assert shares["--threshold -1000"] == 1 and 0 < shares[""] < 1


def test_the_parser_is_that_of_the_command():
    args = build_parser().parse_args(["segment", *CAT, *TO])
    assert args.run is segment.run and args.references == [("--reference", CAT[1:])]


def test_points_of_one_picture_and_name_are_one_reference():
    given = [
        options.reference("--point", ["a.jpg", "5", "6", "cat"]),
        options.reference("--point", ["a.jpg", "1", "2", "dog"]),
        options.reference("--box", ["a.jpg", "1", "2", "3", "4", "cat"]),
        options.reference("--point", ["a.jpg", "7", "8", "cat"]),
        options.reference("--point", ["b.jpg", "7", "8", "cat"]),
    ]
    cat, dog, box, other = options._joined(given)
    assert cat == ("a.jpg", {"points": [[5, 6], [7, 8]]}, "cat")
    assert dog == given[1] and box == given[2] and other == given[4]
