"""Three tiers of tests: quick, medium (by place), slow (marked where it stands)."""

from pathlib import Path

import pytest

from tests.wheel import install_wheel

TESTS = Path(__file__).resolve().parent
MEDIUM = (
    *("checkpoint", "config/test_ablations", "config/test_configs", "data/test_paper_mix"),
    *("data/health/test_check", "data/test_first_command", "datasets", "demo", "engine"),
    *("examples", "modeling/backbone"),
    *("modeling/test_golden", "modeling/seggpt", "modeling/segic/regions"),
    *("test_install", "test_lazy", "tools", "predictor/test_look_alikes"),
    "predictor/test_given_masks",
    *("modeling/test_pretended_device", "data/datasets/shapes"),
    *(
        "segic_cli/test_evaluate",
        "segic_cli/test_train",
        "segic_cli/test_tune",
        "segic_cli/test_segment",
    ),
    *("modeling/test_fake_device", "evaluation/test_few_shot", "modeling/segic/test_training"),
    *("data/datasets/test_coco_folds", "data/test_ablation_data", "segic_cli/test_main"),
    *("utils/test_claim", "utils/test_remote", "io/annotations/test_outline", "io/test_ahead"),
    *("predictor/test_video", "evaluation/test_video", "data/videos", "segic_cli/test_video"),
    *("io/test_video_files", "io/test_video.py", "io/test_clip_writer", "io/test_video_writer"),
)


def pytest_collection_modifyitems(items):
    for item in items:
        if str(item.path.relative_to(TESTS)).startswith(MEDIUM):
            item.add_marker(pytest.mark.medium)


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """Folder into which a wheel of this checkout is installed, with nothing else."""
    return install_wheel(tmp_path_factory.mktemp("wheel"))
