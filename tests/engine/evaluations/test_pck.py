"""PCK of a whole miniature SPair-71k, as ``train_net.py --eval-only`` runs it."""

import json

import pytest
import torch
from detectron2.modeling import build_model

from segic_d2.data import check_data
from segic_d2.data.build import build_pair_loader
from segic_d2.data.datasets.spair import load_spair
from segic_d2.data.health.damaged import DamagedDataError
from segic_d2.data.mappers.pairs import PairMapper
from segic_d2.engine import EpisodeTrainer
from tests.miniatures import spair71k
from tests.tiny import tiny_config

OPTIONS = (
    *("DATASETS.TEST", ("spair71k_test",), "TEST.EVALUATORS", ("pck",)),
    *("DATALOADER.NUM_WORKERS", 0, "MODEL.SEGIC.FEATURE_MEMORY", 16),
)


@pytest.fixture()
def data(tmp_path):
    spair71k.make(tmp_path)
    with spair71k.registered(tmp_path):
        yield tmp_path / "SPair-71k"


def run(output, *opts):
    cfg = tiny_config(*OPTIONS, "OUTPUT_DIR", str(output), *opts)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    seen, forward = [], model.backbone.forward
    model.backbone.forward = lambda x: seen.append(len(x)) or forward(x)
    return EpisodeTrainer.test(cfg, model), sum(seen)


def test_pck_of_all_pairs_each_image_encoded_once(data, tmp_path):
    result, encoded = run(tmp_path / "a")
    metrics = result["pck-spair71k_test"]
    assert metrics["pairs"] == 12 and metrics["points"] == 48 and encoded == 6
    assert 0 < metrics["PCK@0.15_image"] <= 100
    assert {k for k in metrics if k.endswith("aeroplane")} == {
        f"PCK@{a}_{kind}-aeroplane" for a in (0.05, 0.1, 0.15) for kind in ("image", "point")
    }
    again, _ = run(tmp_path / "b", "TEST.BATCH_SIZE", 5, "DATALOADER.NUM_WORKERS", 2)
    assert again == result
    written = json.loads((tmp_path / "a/inference/spair71k_test/pck/results.json").read_text())
    assert written["metrics"] == metrics and written["pairs"] == 12 and written["standard"]
    assert written["backbone"] == "tiny-24-14"


def test_key_points_and_pictures_of_an_item(data):
    cfg = tiny_config(*OPTIONS)
    check_data(cfg, training=False)
    records = load_spair("spair71k_test", data, "test")
    assert [r["category"] for r in records] == ["aeroplane"] * 6 + ["tvmonitor"] * 6
    item = PairMapper(cfg)((1, records[1]))  # picture 0 → picture 2
    assert item["source"]["image"].shape == (3, 75, 112)  # of 60×90
    assert item["target"]["image"].shape == (3, 112, 112)
    assert (item["target"]["height"], item["target"]["width"]) == (80, 80)
    assert item["source_keypoints"].tolist() == spair71k.keypoints(0)
    assert item["target_keypoints"].tolist() == spair71k.keypoints(2)
    assert item["box"].tolist() == [16, 16, 56, 64] and item["category"] == "aeroplane"
    assert len(build_pair_loader(cfg, "spair71k_trn")) == 2


def test_what_is_missing_or_wrong_is_named(data):
    cfg = tiny_config(*OPTIONS)
    with pytest.raises(
        ValueError, match="'pck', which needs pairs .* 'shapes_novel_coco' has none"
    ):
        build_pair_loader(cfg, "shapes_novel_coco")
    file = next((data / "PairAnnotation/test").glob("*.json"))
    about = json.loads(file.read_text())
    for change, message in (
        (json.dumps({**about, "trg_kps": about["trg_kps"][1:]}), "4 key points .* 3 in the target"),
        (json.dumps({k: v for k, v in about.items() if k != "trg_bndbox"}), "lacks trg_bndbox"),
        ("{", "is no JSON"),
    ):
        file.write_text(change)
        with pytest.raises(ValueError, match=message) as error:
            load_spair("x", data, "test")
        assert str(file) in str(error.value)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="the annotation of a pair") as error:
        load_spair("x", data, "test")
    assert str(file) in str(error.value)
    (data / "Layout/large/test.txt").write_text("\n")
    with pytest.raises(ValueError, match="test.txt lists no pair"):
        load_spair("x", data, "test")
    (data / "Layout/large/test.txt").unlink()
    with pytest.raises(FileNotFoundError, match="dataset 'x': no file .*test.txt"):
        load_spair("x", data, "test")


def test_a_damaged_picture_is_named_once_before_the_run_or_its_pairs_are_left_out(data, tmp_path):
    picture = next((data / "JPEGImages/aeroplane").glob("*.jpg"))
    picture.write_bytes(picture.read_bytes()[:-60])
    with pytest.raises(DamagedDataError) as error:
        run(tmp_path / "a", "TEST.VERIFY", "full")
    assert str(error.value).count(picture.name) == 1
    result, _ = run(tmp_path / "b", "TEST.DAMAGED", "skip")
    metrics = result["pck-spair71k_test"]
    assert metrics["pairs"] == 8 and metrics["skipped"] == 4  # of 3 pictures, 2 remain


def test_pairs_that_are_left_out_are_named_by_their_names(data, tmp_path):
    picture = data / "JPEGImages/aeroplane/2008_000000.jpg"
    picture.write_bytes(picture.read_bytes()[:300])
    result, _ = run(tmp_path / "a", "TEST.DAMAGED", "skip")
    assert result["pck-spair71k_test"]["skipped"] == 4 and result["pck-spair71k_test"]["pairs"] == 8
    written = json.loads((tmp_path / "a/inference/spair71k_test/pck/results.json").read_text())
    assert len(written["skipped"]) == 4
    name = "pair 000001-2008_000000-2008_000001:aeroplane"
    assert written["skipped"][0].startswith(f"{name}: cannot read image {picture}")
