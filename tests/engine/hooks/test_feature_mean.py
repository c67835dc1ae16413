"""The mean feature that training computes for itself before it starts."""

import torch
from safetensors.torch import save_file

from segic_d2.data.build import build_train_loader, training_pictures
from segic_d2.engine import EpisodeTrainer
from tests.engine.short_runs import short_config, train

OPTS = "MODEL.SEGIC.SIMILARITY.CENTER", "fixed", "MODEL.SEGIC.SIMILARITY.MEAN_IMAGES", 5


def mean_of(trainer):
    return trainer.model.sem_seg_head.similarity.feature_mean


def test_it_is_that_of_the_first_different_targets_and_resuming_keeps_it(tmp_path):
    opts = (*OPTS, "SOLVER.MAX_ITER", 1)
    trainer, _ = train(tmp_path / "a", *opts)
    model, expected, seen = trainer.model, 0, set()
    for batch in build_train_loader(short_config(tmp_path, *opts)):
        for episode in batch:
            if episode["file_name"] not in seen and len(seen) < 5:
                seen.add(episode["file_name"])
                height, width = episode["image"].shape[1:]
                cells = model.encode_images([episode]).map[0]
                inside = [
                    cells[:, y, x]
                    for y in range(8)
                    for x in range(8)
                    if 14 * y + 7 < height and 14 * x + 7 < width
                ]
                expected = expected + torch.stack(inside).mean(0) / 5
        if len(seen) == 5:
            break
    torch.testing.assert_close(mean_of(trainer), expected, atol=1e-5, rtol=1e-4)
    other = (*OPTS[:3], 2, "SOLVER.MAX_ITER", 2)
    again, _ = train(tmp_path / "a", *other, resume=True)
    assert torch.equal(mean_of(again), mean_of(trainer))


def test_weights_bring_their_own(tmp_path):
    first, _ = train(tmp_path / "a", *OPTS, "SOLVER.MAX_ITER", 1)
    state = {k: v.contiguous() for k, v in first.model.sem_seg_head.state_dict().items()}
    state = {f"sem_seg_head.{k}": v + 1 if k == "feature_mean" else v for k, v in state.items()}
    save_file(state, tmp_path / "w.safetensors")
    weights = "MODEL.WEIGHTS", str(tmp_path / "w.safetensors")
    second, _ = train(tmp_path / "b", *OPTS, *weights, "SOLVER.MAX_ITER", 1)
    assert torch.equal(mean_of(second), mean_of(first) + 1)


def test_without_centering_there_is_none(tmp_path):
    trainer = EpisodeTrainer(short_config(tmp_path))
    assert mean_of(trainer) is None


def test_few_pictures_are_all_taken_once(tmp_path):
    cfg = short_config(tmp_path, "DATASETS.TRAIN", ("shapes_novel_coco",))
    found = [x["file_name"] for x in training_pictures(cfg, 100)]
    assert len(set(found)) == len(found)
    assert 70 < len(found) <= 80
