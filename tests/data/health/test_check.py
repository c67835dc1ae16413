import subprocess
import sys
from pathlib import Path

import pytest

from segic_d2.config.load import load_config
from segic_d2.data import check_data
from tests.data import paper_data, toy

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def root(tmp_path):
    """Nothing yet, where Detectron2's datasets are looked for."""
    with paper_data.registered(tmp_path):
        yield tmp_path


def config(*opts, file="segic_dinov2_L.yaml"):
    return load_config(file, opts)


def test_what_is_there_passes(paper_root):
    check_data(config())
    check_data(config(file="official/segic_dinov2_L.yaml"))
    check_data(config("DATASETS.TRAIN", "('coco_2014_train@fold0', 'fss_1000_train')"))


def test_every_missing_dataset_is_named_in_one_line(root):
    with pytest.raises(FileNotFoundError) as error:
        check_data(config())
    message = str(error.value)
    assert "\n" not in message
    for words in (
        f"'coco_2014_train' (DATASETS.TRAIN): no file {root}/coco/annotations/instances_train2014",
        f"'ade20k_sem_seg_train' (DATASETS.TRAIN): no folder {root}/ADEChallengeData2016/images",
        f"'lvis_v1_train' (DATASETS.TRAIN): no file {root}/lvis/lvis_v1_train.json",
        f"'coco_2014_val' (DATASETS.TEST): no file {root}/coco/annotations/instances_val2014.json",
        "$DETECTRON2_DATASETS",
        "datasets/README.md",
    ):
        assert words in message
    assert message.count("'coco_2014_train'") == 1  # which the config names twice


@pytest.mark.parametrize("name", ["coco_2014_train", "coco_2014_train@fold3"])
def test_half_a_dataset_is_missing_too(root, name):
    cfg = config("DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", "()")
    (root / "coco/annotations").mkdir(parents=True)
    (root / "coco/annotations/instances_train2014.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=f"no folder {root}/coco/train2014"):
        check_data(cfg)
    (root / "coco/train2014").mkdir()
    with pytest.raises(FileNotFoundError, match=f"nothing in the folder {root}/coco/train2014"):
        check_data(cfg)
    (root / "coco/train2014/1.jpg").touch()
    check_data(cfg)


def test_lvis_and_ade20k_say_what_they_need(root):
    paper_data.lvis(root)
    cfg = config("DATASETS.TRAIN", "('lvis_v1_train',)", "DATASETS.TEST", "()")
    check_data(cfg)
    (root / "coco/train2017").rename(root / "coco/elsewhere")
    with pytest.raises(FileNotFoundError, match=f"no folder {root}/coco/train2017"):
        check_data(cfg)
    paper_data.ade20k(root)
    cfg = config("DATASETS.TRAIN", "('ade20k_sem_seg_train',)", "DATASETS.TEST", "()")
    with pytest.raises(FileNotFoundError, match="training, which datasets/prepare_ade20k.py makes"):
        check_data(cfg)


def test_evaluation_reads_no_training_data_but_for_fixed_references(root):
    test = ["DATASETS.TEST", "('shapes_novel_coco',)"]
    check_data(config(*test), training=False)
    with pytest.raises(FileNotFoundError, match="coco_2014_train"):
        check_data(config(*test, "TEST.EVALUATORS", "('coco_instances',)"), training=False)
    reference = ["DATASETS.REFERENCE", "('shapes_train_coco',)"]
    check_data(config(*test, *reference, "TEST.EVALUATORS", "('coco_instances',)"), training=False)


def test_datasets_of_all_kinds_pass(tmp_path):
    names = tuple(form(tmp_path) for form in toy.FORMS.values())
    names += (f"folder:{tmp_path}/a", "shapes_train_coco")
    check_data(config("DATASETS.TRAIN", str(names), "DATASETS.TEST", "()"))
    gone = ["DATASETS.TRAIN", f"('folder:{tmp_path}/gone',)", "DATASETS.TEST", "()"]
    with pytest.raises(FileNotFoundError, match=f"no folder {tmp_path}/gone"):
        check_data(config(*gone))


def test_an_unknown_name_is_named_with_its_neighbours():
    cfg = config("DATASETS.TRAIN", "('coco_2014_trian',)")
    with pytest.raises(ValueError, match="TRAIN names 'coco_2014_trian', .*coco_2014_train"):
        check_data(cfg)


def test_a_folder_under_its_plain_name_is_told_how_to_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = config("DATASETS.TRAIN", "('cats',)", "DATASETS.TEST", "()")
    with pytest.raises(
        ValueError, match="names 'cats', which is neither a folder nor a registered"
    ):
        check_data(cfg)
    (tmp_path / "cats").mkdir()
    with pytest.raises(ValueError, match="'cats', a folder: as a dataset it is 'folder:cats'$"):
        check_data(cfg)


def test_an_unknown_name_hides_nothing_that_is_missing(root):
    cfg = config("DATASETS.TRAIN", "('a', 'coco_2014_train', 'b')", "DATASETS.TEST", "()")
    with pytest.raises(ValueError, match="'a'.*'b'.*; missing data: 'coco_2014_train'"):
        check_data(cfg)


@pytest.mark.parametrize(
    "options, message",
    [
        ((), "missing data: 'coco_2014_train' (DATASETS.TRAIN)"),
        (("TEST.SHOTS", "0"), "TEST.SHOTS is 0; it must be at least 1"),
        (("INPUT.SEMANTIC.DRAW", "any"), "INPUT.SEMANTIC.DRAW is 'any'; it must be 'class' or"),
        (("TEST.EVALUATORS", "('coco',)"), "TEST.EVALUATORS has 'coco', but there are only"),
    ],
)
def test_a_run_that_cannot_be_ends_in_one_line(tmp_path, options, message):
    """Before any process is started: eight are asked for, where there is no GPU."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "train_net.py"), "--num-gpus", "8"]
        + ["--config-file", "configs/segic_dinov2_L.yaml", "OUTPUT_DIR", str(tmp_path / "out")]
        + list(options),
        cwd=ROOT,
        env={
            **{"PATH": "", "HOME": str(tmp_path), "DETECTRON2_DATASETS": str(tmp_path)},
            "SEGIC_D2_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {message}")
    assert "Traceback" not in done.stderr
