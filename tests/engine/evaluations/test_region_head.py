"""Every evaluation with a head that chooses regions, the decoder's probability among its cues."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

from segic_d2.engine import evaluate
from segic_d2.structures.context import CELLS, Context
from tests.data.paper_data import registered
from tests.engine.evaluations import semantic_runs
from tests.miniatures import a847, coco20i, coco_instances
from tests.tiny import tiny_config

REGIONS = (
    *("MODEL.SEM_SEG_HEAD.NAME", "RegionMatchingHead", "MODEL.SEGIC.REGIONS.DECODER", 0.2),
    *("MODEL.SEGIC.REGIONS.CELLS", 12, "MODEL.SEGIC.TEST.REFINE.RADIUS", 2),
    *("INPUT.MULTIPLE", 14, "INPUT.REFERENCE_ZOOM", 0.7, "INPUT.REFERENCE_WHOLE", True),
)


def result(tmp_path, evaluation, dataset, *opts):
    """The figures of an evaluation of a dataset, {name: figures}."""
    cfg = tiny_config(
        *("OUTPUT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", 0, "DATASETS.TEST", (dataset,)),
        *("TEST.EVALUATORS", (evaluation,), *REGIONS, *opts),
        canvas=56,
    )
    torch.manual_seed(0)
    return evaluate(cfg, build_model(cfg).eval(), dataset)


@pytest.mark.parametrize("shots", [1, 2])
def test_few_shot(tmp_path, monkeypatch, shots):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    coco20i.make(tmp_path)
    opts = "TEST.FIRST_EPISODES", 6, "TEST.SHOTS", shots, "TEST.BATCH_SIZE", 4
    ((_, found),) = result(tmp_path, "few_shot", "coco20i_fold1", *opts).items()
    assert found["episodes"] == 6 and 0 < found["mIoU"] < 100


def test_one_shot(tmp_path):
    name, original = "shapes_twelve_coco", "shapes_novel_coco"
    DatasetCatalog.register(name, lambda: DatasetCatalog.get(original)[:12])
    MetadataCatalog.get(name).set(thing_classes=MetadataCatalog.get(original).thing_classes)
    try:
        opts = "DATASETS.SINGLE_IMAGE_CLASSES", "skip"
        ((_, found),) = result(tmp_path, "one_shot", name, *opts).items()
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert 0 < found["mIoU"] < 100


def test_coco_instances(tmp_path):
    coco_instances.make(tmp_path)
    opts = "DATASETS.REFERENCE", ("coco_2017_train",), "TEST.SEEN", "unseen", "TEST.DAMAGED", "skip"
    with registered(tmp_path):
        ((_, found),) = result(tmp_path, "coco_instances", "coco_2017_val", *opts).items()
    assert 0 <= found["AP"] <= 100


def test_semantic_with_its_context_on_disk(tmp_path):
    a847.make(tmp_path)
    semantic_runs.register_below(tmp_path)
    cfg = semantic_runs.settings(tmp_path, "a847", *REGIONS)
    first = semantic_runs.run(cfg)
    (file,) = tmp_path.rglob("*.safetensors")
    context = Context.load(file)
    assert context.kind == CELLS and context.tensors["cells"].dtype == torch.float16
    model = semantic_runs.built(cfg)
    sizes = semantic_runs.calls(model)
    again = semantic_runs.run(cfg, model)
    for mode, figures in first[0].items():
        assert 0 < figures["mIoU"] < 100
        np.testing.assert_equal(dict(again[0][mode]), dict(figures))
    assert sum(sizes) == len(DatasetCatalog.get("a847_sem_seg_val"))  # no reference again
