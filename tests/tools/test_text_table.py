"""Text tables: which texts they hold, how they grow, and a training that needs nothing else."""

import hashlib
import importlib.util
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from segic_d2.data import build_train_loader
from segic_d2.data.index import Source
from segic_d2.modeling import TEXT_ENCODER_REGISTRY, read_text_table, save_text_table
from tests.data import toy
from tests.tiny import tiny_config
from text_table import dataset_classes, extend_table, registered_datasets, texts_of

TOOL = Path(__file__).resolve().parents[2] / "tools" / "precompute_text.py"
DIM = 16


class RandomTexts:
    """A vector that depends on the text alone; remembers what it was asked."""

    dim, identity = DIM, "random-texts"
    asked = []

    def encode(self, texts):
        RandomTexts.asked.append(list(texts))
        seeds = [int(hashlib.sha256(t.encode()).hexdigest()[:12], 16) for t in texts]
        return torch.stack(
            [torch.randn(DIM, generator=torch.Generator().manual_seed(s)) for s in seeds]
        )


@TEXT_ENCODER_REGISTRY.register()
def random_texts(cfg):
    return RandomTexts()


@pytest.fixture(autouse=True)
def asked():
    RandomTexts.asked.clear()
    return RandomTexts.asked


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("precompute_text", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config(*opts):
    text = ("MODEL.SEGIC.META", True, "MODEL.SEGIC.TEXT.DIM", DIM)
    return tiny_config(*text, "MODEL.SEGIC.TEXT.NAME", "random_texts", *opts)


def test_the_texts_are_those_of_the_templates_in_a_fixed_order():
    cfg = config()
    texts = texts_of(cfg, ["shapes_train_sem_seg", "shapes_train_coco"], ["my text", ""])
    assert texts[:2] == ["", "please segment the instances"]
    assert texts[2:-1] == [f"a photo of a {n}" for n in dataset_classes("shapes_train_coco")]
    assert texts[-1] == "my text" and len(set(texts)) == len(texts)


def test_names_of_the_papers_data_are_known_without_its_files():
    cfg = config()
    names = ("coco_2014_train@fold1", "ade20k_sem_seg_train", "lvis_v1_train")
    counts = [len(dataset_classes(n)) for n in names]
    assert counts == [80, 150, 1203]
    assert len(texts_of(cfg, names)) > 1200  # some names are in several
    assert {"coco_2014_train", "lvis_v1_train"} <= set(registered_datasets())
    with pytest.raises(ValueError, match="'nowhere' is no registered dataset"):
        dataset_classes("nowhere")


@pytest.mark.parametrize("form", toy.FORMS)
def test_names_are_those_that_episodes_use(form, tmp_path):
    name = toy.FORMS[form](tmp_path)
    source = Source(name)
    used = {source.names[c] for classes in source.presence for c in classes}
    assert used <= set(dataset_classes(name)) and "background" not in dataset_classes(name)


def test_a_table_grows_and_nothing_is_encoded_twice(tmp_path, asked):
    path, encoder = tmp_path / "new" / "table.safetensors", RandomTexts()
    texts = [f"text {i}" for i in range(7)]
    assert extend_table(path, texts[:5], encoder, batch_size=2) == (5, texts[:5])
    assert asked == [texts[:2], texts[2:4], texts[4:5]]
    asked.clear()
    assert extend_table(path, [texts[6], *texts[:6]], encoder) == (7, [texts[6], texts[5]])
    assert asked == [[texts[6], texts[5]]]
    found, vectors, made_by = read_text_table(path)
    assert found == [*texts[:5], texts[6], texts[5]] and made_by == "random-texts"
    assert torch.equal(vectors, encoder.encode(found))
    asked.clear()
    before = path.stat().st_mtime_ns
    assert extend_table(path, texts, encoder) == (7, [])
    assert not asked and path.stat().st_mtime_ns == before
    assert [p.name for p in path.parent.iterdir()] == ["table.safetensors"]


def test_a_table_that_does_not_fit_is_left_alone(tmp_path):
    path = tmp_path / "table.safetensors"
    save_text_table(path, ["a"], torch.zeros(1, DIM), "another")
    with pytest.raises(
        ValueError, match="table.safetensors holds vectors of another, not of random"
    ):
        extend_table(path, ["b"], RandomTexts())
    save_text_table(path, ["a"], torch.zeros(1, DIM))
    with pytest.raises(ValueError, match="vectors of an unnamed encoder"):
        extend_table(path, ["b"], RandomTexts())
    path.write_bytes(b"not a table")
    with pytest.raises(ValueError, match="is no table of text vectors"):
        extend_table(path, ["b"], RandomTexts())
    assert path.read_bytes() == b"not a table"
    with pytest.raises(ValueError, match=r"'two\\nlines' has a line break"):
        extend_table(tmp_path / "other.safetensors", ["two\nlines"], RandomTexts())


def run(tool, *args):
    opts = ["MODEL.SEGIC.TEXT.NAME", "random_texts", "MODEL.SEGIC.TEXT.DIM", str(DIM)]
    return tool.main([*args, "--opts", *opts])


def test_the_tool_prints_what_is_new(tool, tmp_path, capsys):
    path, table = str(tmp_path / "t.safetensors"), ["--config-file", "segic_shapes_S.yaml"]
    assert run(tool, *table, "--output", path, "--datasets", "shapes_train_coco") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}: 18 texts, 18 new, for shapes_train_coco"
    assert lines[1:3] == ["  ''", "  'please segment the instances'"]
    assert lines[-1].startswith("  and 8 more, the last 'a photo of a ")
    assert run(tool, *table, "--output", path, "--extra", "one", "two") == 0  # TRAIN and TEST
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}: 28 texts, 10 new, for shapes_train_coco, shapes_novel_coco"
    assert lines[-2:] == ["  'one'", "  'two'"]
    assert run(tool, *table, "--output", path, "--datasets", "all") == 0
    assert "datasets" in capsys.readouterr().out


def test_the_tool_fails_in_one_line(tool, tmp_path, capsys):
    path = str(tmp_path / "t.safetensors")
    for args, message in (
        (["--datasets", "nowhere", "--output", path], "'nowhere' is no registered dataset"),
        ([], "give --output, or MODEL.SEGIC.TEXT.TABLE in the config"),
        (["--config-file", "nowhere.yaml"], "no config 'nowhere.yaml'"),
    ):
        assert run(tool, *args) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert tool.main(["--output", path, "--opts", "MODEL.SEGIC.TEXT.NAME", "table"]) == 1
    assert "'table', which computes nothing" in capsys.readouterr().err


def test_a_tower_whose_weights_cannot_be_had_is_one_line_too(tool, tmp_path, capsys):
    pytest.importorskip("open_clip")
    path, missing = tmp_path / "t.safetensors", str(tmp_path / "tower.pt")
    args = ["--config-file", "segic_shapes_S.yaml", "--output", str(path), "--opts"]
    assert tool.main([*args, "MODEL.SEGIC.TEXT.WEIGHTS", missing]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: MODEL.SEGIC.TEXT.WEIGHTS {missing!r}: could not load ViT-L-14")
    assert "or the key to a file on this machine" in error and not path.exists()


def test_training_with_a_table_loads_no_tower(tool, tmp_path, asked):
    """Steps on both tasks, of equal losses with the encoder and with its table; and the error."""
    name, path = toy.coco(tmp_path), str(tmp_path / "t.safetensors")
    assert run(tool, "--datasets", name, "--output", path) == 0
    opts = ["DATASETS.TRAIN", str((name, name)), "DATASETS.EPISODE_MAPPERS"]
    opts += ["('semantic', 'instance')", "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 8]
    table = ["MODEL.SEGIC.TEXT.NAME", "table", "MODEL.SEGIC.TEXT.TABLE", path]
    batch = next(iter(build_train_loader(config(*opts))))
    assert {e["task"] for e in batch} == {"semantic", "instance"}
    assert {e["name"] for x in batch for e in x["entities"]} >= {
        None
    }  # the empty text is asked too
    losses = []
    for extra in ([], table):
        torch.manual_seed(0)
        model = build_model(config(*opts, *extra)).train()
        asked.clear()
        losses.append(model(batch))
        assert bool(asked) == (not extra)
    assert losses[0].keys() == losses[1].keys()
    assert all(torch.equal(losses[0][k], losses[1][k]) for k in losses[0])
    sum(losses[1].values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)

    texts, vectors, _ = read_text_table(path)
    lost = next(
        e["name"] for x in batch if x["task"] == "semantic" for e in x["entities"] if e["name"]
    )
    kept = [i for i, t in enumerate(texts) if lost not in t]
    save_text_table(path, [texts[i] for i in kept], vectors[kept])
    model = build_model(config(*opts, *table)).train()
    with pytest.raises(
        KeyError, match=f"'a photo of a {lost}' is not in the table {path}; tools/pre"
    ):
        model(batch)
