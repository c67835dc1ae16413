"""The tool that plots PCK against mIoU: from files, and by running two backbones on miniatures."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

import tests.tiny  # noqa: F401  registers its backbone
from segic_d2 import get_config_file
from tests.miniatures import fss1000, spair71k

TOOL = Path(__file__).resolve().parents[2] / "tools" / "analyze_correspondence.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("analyze_correspondence", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder, **content):
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(content))


def backbone(root, pck, mious, shots=1):
    metrics = {"PCK@0.1_image": pck, "PCK@0.1_point": pck + 1}
    write(root / "inference/spair71k_test/pck", benchmark="pck", metrics=metrics)
    for fold, miou in enumerate(mious):
        write(
            root / f"inference/coco20i_fold{fold}/few_shot",
            benchmark="coco20i",
            fold=fold,
            shots=shots,
            metrics={"mIoU": miou, "FB_IoU": 1.0},
        )


def test_a_table_and_a_plot_from_files(tool, tmp_path, capsys):
    places = {"A": (50.0, [40, 60]), "B": (60.0, [70]), "C": (20.0, [45])}
    for label, (pck, mious) in places.items():
        backbone(tmp_path / label, pck, mious)
    write(tmp_path / "A/mean", benchmark="coco20i", fold="mean", shots=1, metrics={"mIoU": 0})
    write(tmp_path / "A/other", benchmark="coco20i", fold=0, shots=5, metrics={"mIoU": 99})
    args = [f"{label}={tmp_path / label}" for label in places]
    tool.main([*args, "--output", str(tmp_path / "out")])
    written = json.loads((tmp_path / "out/correspondence.json").read_text())
    got = [(p["label"], p["pck"], p["miou"], p["folds"]) for p in written["backbones"]]
    assert got == [("A", 50, 50, [0, 1]), ("B", 60, 70, [0]), ("C", 20, 45, [0])]
    assert written["spearman"] == pytest.approx(1) and written["pearson"] == pytest.approx(
        0.817, abs=1e-3
    )
    lines = (tmp_path / "out/correspondence.csv").read_text().splitlines()
    assert lines[:2] == ["backbone,PCK@0.1_image,coco20i mIoU,folds", "A,50.00,50.00,0 1"]
    assert (tmp_path / "out/correspondence.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "out/correspondence.svg").read_text()
    assert "A,50.00,50.00,0 1" in capsys.readouterr().out
    (point,) = tool.main([args[0], "--per", "point", "--output", str(tmp_path / "one")])
    assert point["pck"] == 51


def test_what_is_missing_is_named(tool, tmp_path):
    backbone(tmp_path / "a", 50.0, [40])
    out = ["--output", str(tmp_path / "out")]
    for args, message in (
        ([f"A={tmp_path / 'a'}", "--shots", "5"], "A: 1 results with 'PCK@0.1_image' and 0 of"),
        ([f"A={tmp_path / 'a'}", "--alpha", "0.05"], "A: 0 results with 'PCK@0.05_image'"),
        ([f"A={tmp_path}/a", f"A={tmp_path}/a"], "the label 'A' is given twice"),
        ([str(tmp_path / "a")], "expected LABEL=PLACE"),
        ([f"A={tmp_path / 'a'}", "--weights", "B=x"], "--weights names B, which is no label"),
    ):
        with pytest.raises(ValueError, match=message):
            tool.main([*args, *out])
    with pytest.raises(FileNotFoundError, match="no results.json below .*nowhere"):
        tool.main([f"A={tmp_path / 'nowhere'}", *out])
    (tmp_path / "a/results.json").write_text("{")
    with pytest.raises(ValueError, match="results.json is no JSON"):
        tool.main([f"A={tmp_path / 'a'}", *out])


def test_ties_share_their_rank(tool):
    points = [{"pck": x, "miou": y} for x, y in ((1, 1), (1, 2), (3, 3))]
    assert tool.correlation(points)["spearman"] == pytest.approx(0.866, abs=1e-3)
    assert tool.correlation(points[:2]) == {"pearson": None, "spearman": None}
    assert tool.correlation([{"pck": 1, "miou": 1}] * 3)["pearson"] is None


def test_running_two_backbones(tool, tmp_path, monkeypatch):
    """The canvas stands for the backbone here: two configs, from pictures to the plot."""
    torch.manual_seed(0)
    data = tmp_path / "data"
    data.mkdir()
    spair71k.make(data)
    fss1000.make(data)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(data))
    configs = []
    for canvas in (56, 112):
        config = tmp_path / f"{canvas}.yaml"
        base = get_config_file("Base-SegIC.yaml")
        config.write_text(f"_BASE_: {base}\nINPUT: {{CANVAS: {canvas}}}\n")
        configs.append(f"canvas{canvas}={config}")
    tiny = {
        "MODEL.BACKBONE.NAME": "build_tiny_backbone",
        "MODEL.DEVICE": "cpu",
        "MODEL.SEGIC.META": "False",
        "MODEL.SEGIC.DECODER.WIDTH": "32",
        "MODEL.SEGIC.DECODER.HEADS": "4",
        "DATALOADER.NUM_WORKERS": "0",
        "TEST.FIRST_EPISODES": "4",
        "TEST.SEEN": "unseen",
    }
    monkeypatch.setattr("segic_d2.checkpoint.SegICCheckpointer.load", lambda *args: None)
    with spair71k.registered(data):
        points = tool.main(
            [
                *configs,
                *("--run", "--output", str(tmp_path / "out"), "--benchmark", "fss1000"),
                *("--test", "('fss1000_test',)", "--opts"),
                *[x for pair in tiny.items() for x in pair],
            ]
        )
    assert [p["label"] for p in points] == ["canvas56", "canvas112"]
    assert all(0 <= p["pck"] <= 100 and 0 <= p["miou"] <= 100 for p in points)
    assert points[0]["pck"] != points[1]["pck"]
    assert (tmp_path / "out/correspondence.svg").is_file()
