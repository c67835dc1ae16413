"""Detectron2's own trainer, checkpointer, optimizer and loader, and a guest's own loop."""

import itertools

import pytest
import torch
from detectron2.data import build_detection_train_loader
from detectron2.engine import DefaultTrainer
from detectron2.modeling import build_model
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import segic_d2
from segic_d2.checkpoint import SegICCheckpointer
from segic_d2.checkpoint.checkpointer import trainable_state_dict
from segic_d2.data import SemanticMapper
from segic_d2.engine import EpisodeTrainer, settle_schedule
from segic_d2.engine.hooks.feature_mean import FeatureMeanHook
from tests.engine.short_runs import short_config, train
from tests.tiny import tiny_config, tiny_episode


class Stock(DefaultTrainer):
    build_train_loader = staticmethod(segic_d2.build_train_loader)


class Equipped(Stock):
    build_optimizer = EpisodeTrainer.build_optimizer
    test = EpisodeTrainer.test


class OneDataset(DefaultTrainer):
    @classmethod
    def build_train_loader(cls, cfg):
        return build_detection_train_loader(cfg, mapper=SemanticMapper(cfg, True))


def run(trainer, resume=False):
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer


@pytest.mark.parametrize("kind", [Stock, OneDataset])
def test_it_trains_saves_and_goes_on(tmp_path, kind):
    options = "SOLVER.CHECKPOINT_PERIOD", 2, "DATASETS.TEST", ("shapes_novel_coco",)
    trainer = kind(short_config(tmp_path, "SOLVER.MAX_ITER", 3, *options))
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    run(trainer)  # ends in Detectron2's warning that there is no evaluator
    after = trainer.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "sem_seg_head.neck.0.weight" in changed
    assert not any(name.startswith("encoder.") for name in changed)
    assert (tmp_path / "model_0000001.pth").is_file()
    again = kind(short_config(tmp_path, "SOLVER.MAX_ITER", 5))
    again.resume_or_load(resume=True)
    assert again.start_iter == 3
    assert all(torch.equal(v, after[k]) for k, v in again.model.state_dict().items())
    again.train()
    assert again.iter == 5
    assert not torch.equal(
        again.model.state_dict()["sem_seg_head.neck.0.weight"], after["sem_seg_head.neck.0.weight"]
    )


def test_weights_go_from_our_trainer_to_detectron2s_and_back(tmp_path):
    ours, _ = train(tmp_path / "a", "SOLVER.MAX_ITER", 1)
    file = "MODEL.WEIGHTS", str(tmp_path / "a/model_final.pth"), "SOLVER.MAX_ITER", 1
    stock = Stock(short_config(tmp_path / "b", *file))
    stock.resume_or_load(resume=False)
    for name, tensor in trainable_state_dict(ours.model).items():
        assert torch.equal(stock.model.state_dict()[name], tensor)
    stock.train()
    back = build_model(tiny_config())
    SegICCheckpointer(back, complete=True).load(str(tmp_path / "b/model_final.pth"))
    assert all(torch.equal(v, stock.model.state_dict()[k]) for k, v in back.state_dict().items())


def test_optimizer_evaluation_and_mean_feature_are_one_line_each(tmp_path):
    options = "SOLVER.MAX_ITER", 1, "MODEL.SEGIC.SIMILARITY.CENTER", "fixed"
    cfg = short_config(tmp_path, *options, "TEST.EPISODES", 2)
    cfg.MODEL.SEGIC.SIMILARITY.MEAN_IMAGES = 4
    cfg.DATASETS.TEST = ("shapes_novel_coco",)
    trainer = Equipped(cfg)
    trainer.register_hooks([FeatureMeanHook()])
    run(trainer)
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert trainer._last_eval_results["one_shot"]["mIoU"] >= 0
    assert trainer.model.sem_seg_head.similarity.feature_mean.any()


def test_a_schedule_in_samples_is_said_and_settled(tmp_path, caplog):
    cfg = short_config(tmp_path)
    cfg.SOLVER.MAX_SAMPLES = 6
    assert Stock(cfg).max_iter == 40000
    said = "SOLVER.MAX_SAMPLES is 6, which Detectron2's own trainers do not know"
    assert said in caplog.text and "settle_schedule" in caplog.text
    caplog.clear()
    assert Stock(settle_schedule(cfg)).max_iter == 3
    EpisodeTrainer(cfg)
    Stock(short_config(tmp_path, "SOLVER.MAX_SAMPLES", 6, "SOLVER.MAX_ITER", 8))
    assert said not in caplog.text
    segic_d2.build_train_loader(short_config(tmp_path, "SOLVER.MAX_SAMPLES", 6))
    assert f"{said}: they take SOLVER.MAX_ITER, 0; cfg = segic_d2.engine" in caplog.text


@pytest.mark.parametrize("kind", ["value", "norm"])
def test_detectron2s_clipping_finds_a_gradient_everywhere(tmp_path, kind):
    clip = "SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", kind
    trainer = run(Stock(short_config(tmp_path, "SOLVER.MAX_ITER", 1, *clip)))
    assert all(p.grad is not None for p in trainer.model.parameters() if p.requires_grad)


@pytest.fixture
def alone(tmp_path):
    """A group of one process, in which DistributedDataParallel can be tried."""
    init = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=init, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_plain_ddp_waits_for_no_gradient(alone):
    model = build_model(tiny_config()).train()
    wrapped = DistributedDataParallel(model, broadcast_buffers=False)  # as Detectron2 wraps it
    episodes = [tiny_episode(0, training=True)]

    def step():
        sum(wrapped(episodes).values()).backward()

    step(), step()
    model.every_gradient = False  # as our trainer has it, which looks for unused parameters
    step()
    with pytest.raises(RuntimeError, match="find_unused_parameters"):
        step()


def test_a_gradient_of_zero_changes_no_loss_and_no_other_gradient():
    model, episodes = build_model(tiny_config()).train(), [tiny_episode(0, training=True)]
    found = []
    for model.every_gradient in (True, False):
        model.zero_grad(set_to_none=True)
        losses = model(episodes)
        sum(losses.values()).backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
        found.append(({k: v.item() for k, v in losses.items()}, gradients))
    (losses, gradients), (plain_losses, plain) = found
    assert losses == plain_losses and any(g is None for g in plain.values())
    for name, gradient in plain.items():
        expected = torch.zeros_like(gradients[name]) if gradient is None else gradient
        assert torch.equal(gradients[name], expected)


class Guest(nn.Module):
    """Somebody's model: ours beside a part of their own."""

    def __init__(self):
        super().__init__()
        self.segmenter = build_model(tiny_config())
        self.brightness = nn.Linear(3, 1)

    def forward(self, episodes):
        colours = torch.stack([x["image"].float().mean((1, 2)) / 255 for x in episodes])
        error = (self.brightness(colours)[:, 0] - colours.mean(1)).square().mean()
        return {**self.segmenter(episodes), "brightness": error}


def test_our_model_is_one_of_several_in_a_guests_loop(tmp_path):
    torch.manual_seed(0)
    guest, losses = Guest().train(), []
    frozen = {k: v.clone() for k, v in guest.segmenter.backbone.state_dict().items()}
    assert not guest.segmenter.backbone.training and guest.segmenter.sem_seg_head.training
    trained = [p for p in guest.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=2e-3)
    cfg = short_config(tmp_path, "SOLVER.MAX_ITER", 1)
    batches = list(itertools.islice(segic_d2.build_train_loader(cfg), 2))
    for episodes in batches * 6:
        loss = sum(guest(episodes).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-2:]) < 0.9 * sum(losses[:2])
    kept = trainable_state_dict(guest)
    assert {"brightness.weight", "segmenter.sem_seg_head.neck.0.weight"} <= set(kept)
    assert not any(name.startswith("segmenter.encoder.") for name in kept)
    assert {n for n, p in guest.named_parameters() if p.requires_grad} <= set(kept)
    now = guest.segmenter.backbone.state_dict()
    assert all(torch.equal(v, now[k]) for k, v in frozen.items())
