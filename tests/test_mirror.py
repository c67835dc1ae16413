"""Every module has a test of its own name in its own place, or is named here with its test."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {  # module → the test that covers it, together with what it serves
    "checkpoint/files": "modeling/backbone/test_weights",  # files of backbones
    "__main__": "segic_cli/test_main",
    "config/keys": "config/test_configs",  # all shipped configs
    "config/segic_keys": "config/test_configs",
    "config/seggpt_keys": "modeling/seggpt/test_meta_arch",
    "data/augmentation/view_pool": "structures/test_picture",  # which views recur
    "data/augmentation/views": "data/augmentation/test_transforms",
    "data/benchmarks/base": "tools/test_list_episodes",  # the lists that people see
    "data/benchmarks/coco20i_masks": "data/benchmarks/test_coco20i",
    "data/benchmarks/fss1000": "data/benchmarks/test_pascal5i_fss1000",
    "data/benchmarks/pascal5i": "data/benchmarks/test_pascal5i_fss1000",
    "data/benchmarks/registered": "data/mappers/test_few_shot",
    "data/datasets/class_list": "data/datasets/test_open_vocabulary",
    "data/datasets/composites": "datasets/composites/test_splits",  # with what writes them
    "data/datasets/lvis": "data/test_paper_mix",
    "data/datasets/shapes/families": "data/datasets/shapes/test_render",
    "data/datasets/shapes/register": "data/datasets/shapes/test_splits",
    "data/datasets/shapes/textures": "data/datasets/shapes/test_render",
    "data/datasets/spair": "engine/evaluations/test_pck",
    "data/health/damaged": "engine/loop/test_skipped",  # whole evaluations of damaged data
    "data/health/survey": "segic_cli/test_check",  # the tables that people see
    "data/health/verify": "engine/loop/test_skipped",
    "data/mappers/pairs": "engine/evaluations/test_pck",
    "data/references/instance": "engine/evaluations/test_instances",
    "data/references/plan": "data/references/test_semantic",
    "data/videos/clip": "data/videos/test_layouts",  # what readers make
    "data/videos/sets": "data/videos/test_layouts",
    "engine/episode_trainer": "engine/test_training",
    "engine/evaluations/label_maps": "engine/evaluations/test_semantic",
    "engine/evaluations/one_shot": "engine/test_training",
    "engine/evaluations/reference_memory": "engine/evaluations/test_few_shot_parts",
    "engine/evaluations/video_run": "engine/evaluations/test_video",
    "engine/evaluations/video_scores": "engine/evaluations/test_video",
    "engine/label/report": "engine/label/test_folder",
    "engine/label/state": "engine/label/test_folder",
    "engine/loop/evaluator_state": "engine/loop/test_inference",
    "evaluation/object_scores": "evaluation/test_video",
    "evaluation/one_shot": "evaluation/test_evaluation",  # beside the best threshold
    "evaluation/pooling": "evaluation/test_evaluation",
    "evaluation/stock": "evaluation/test_label_maps",
    "evaluation/threshold": "evaluation/test_evaluation",
    "io/annotations/brush": "io/annotations/test_labelstudio",
    "io/annotations/coco_file": "io/annotations/test_coco",
    "io/annotations/files": "io/annotations/test_labelme",
    "io/annotations/json_stream": "io/annotations/test_coco",
    "io/annotations/records": "io/annotations/test_coco",
    "io/annotations/single": "predictor/test_references",
    "io/annotations/shapes": "io/annotations/test_cvat",
    "io/video_frames": "io/test_video",
    "modeling/segic/held_context": "modeling/segic/test_meta_arch",
    "modeling/layers/mask_decoder": "modeling/test_golden",  # the released tensors
    "modeling/layers/prompt_encoder": "modeling/test_golden",
    "modeling/layers/transformer": "modeling/test_golden",
    "segic_cli/options": "segic_cli/test_segment",  # with the command that has most of them
    "predictor/shown": "predictor/test_image",
    "predictor/video_options": "predictor/test_video",
    "structures/episode": "data/mappers/test_semantic",  # what mappers give
}
MODULES = sorted(
    str(path.relative_to(root).with_suffix(""))
    for root, package in ((ROOT / "segic_d2", "."), (ROOT, "segic_cli"))
    for path in (root / package).rglob("*.py")
    if path.name != "__init__.py"
)


def own_test(module):
    folder, _, name = module.rpartition("/")
    return ROOT / "tests" / folder / f"test_{name}.py"


@pytest.mark.parametrize("module", MODULES)
def test_has_a_test(module):
    if module in ELSEWHERE:
        assert not own_test(module).exists(), f"{module} has a test: take it out of the table"
        assert (ROOT / "tests" / f"{ELSEWHERE[module]}.py").is_file()
    else:
        assert own_test(module).is_file(), f"{module} has neither a test nor a line in the table"


def test_the_table_names_modules():
    assert set(ELSEWHERE) <= set(MODULES)


def test_the_top_level_is_a_table_of_contents():
    files = {p.name for p in (ROOT / "segic_d2").iterdir() if p.is_file()}
    assert files <= {"__init__.py", "__main__.py", "lazy.py", "compat.py", "py.typed"}
    text = (ROOT / "segic_d2/__init__.py").read_text()
    assert len(re.findall("\n", text)) <= 40
