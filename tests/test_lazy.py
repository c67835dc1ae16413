"""The nodes of ``segic_d2.lazy`` build what the configs of the same names build."""

import dataclasses

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from detectron2.solver import LRMultiplier, build_lr_scheduler

from segic_d2 import SegIC, build_train_loader, lazy, load_config
from segic_d2.checkpoint import SegICCheckpointer
from segic_d2.data import build_one_shot_loader
from segic_d2.engine import EpisodeTrainer
from segic_d2.engine.schedule import settle_schedule
from tests.tiny import tiny_episode

CPU = ("MODEL.DEVICE", "cpu")
PAIRS = [(lazy.demo, "segic_demo.yaml"), (lazy.dinov2_L, "segic_dinov2_L.yaml")]


def options(module):
    """What a module was told, of the options that are no tensors or modules."""
    return {k: v for k, v in vars(module).items() if not k.startswith("_")}


def same_matcher(one, other):
    """Whether the parts that choose regions are the same, or there are none."""
    assert type(one) is type(other)
    if one is not None:
        assert (options(one), one.fingerprint) == (options(other), other.fingerprint)
        assert one.whitening.channels == other.whitening.channels


def same(one, other):
    """Whether two models have the same tensors, by names and shapes, and the same options."""
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (one, other)]
    assert shapes[0] == shapes[1]
    assert one.input == other.input and one.backbone.tap == other.backbone.tap
    assert type(one.sem_seg_head) is type(other.sem_seg_head)
    for part in ("sem_seg_head", "sem_seg_head.similarity"):
        assert options(one.get_submodule(part)) == options(other.get_submodule(part))
    same_matcher(one.sem_seg_head.matcher, other.sem_seg_head.matcher)
    assert (one.encoder.chunk, one.cross_entity) == (other.encoder.chunk, other.cross_entity)
    assert (one.criterion, one.instances) == (other.criterion, other.instances)
    assert (one.entity_chunk, vars(one.readout)) == (other.entity_chunk, vars(other.readout))
    told = [
        {
            **dataclasses.asdict(dataclasses.replace(m.contexts.texts, encoder=None)),
            "encoder": getattr(m.contexts.texts.encoder, "identity", None),
        }
        for m in (one, other)
    ]
    assert told[0] == told[1]


def test_the_demo_is_the_shipped_one():
    cfg = lazy.demo()
    cfg.model.encoder.canvas = 224  # quicker
    built = instantiate(cfg.model)
    configured = build_model(load_config("segic_demo.yaml", [*CPU, "INPUT.CANVAS", 224]))
    same(built, configured)
    for model in (built, configured):
        SegICCheckpointer(model.eval(), complete=True).load("segic-demo")
    assert built.fingerprint == configured.fingerprint
    episode = [tiny_episode(0, size=(98, 140))]
    found, expected = (
        m.inference(episode, outputs=("masks", "propagated_mask"))[0] for m in (built, configured)
    )
    assert expected["masks"].any()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_dinov2_l_has_the_structure_of_its_config():
    with torch.device("meta"):
        same(instantiate(lazy.dinov2_L().model), SegIC(load_config("segic_dinov2_L.yaml")))


@pytest.mark.parametrize("recipe, config", PAIRS)
def test_optimizer_and_rates_are_those_of_the_config(recipe, config):
    model, lazily = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2)), recipe()
    cfg = settle_schedule(load_config(config, CPU), 1)
    lazily.optimizer.params.model = model
    optimizers = instantiate(lazily.optimizer), EpisodeTrainer.build_optimizer(cfg, model)
    groups = [[{k: v for k, v in g.items()} for g in o.param_groups] for o in optimizers]
    assert groups[0] == groups[1]
    assert lazily.train.max_iter == cfg.SOLVER.MAX_ITER
    assert lazily.train.checkpointer.period == cfg.SOLVER.CHECKPOINT_PERIOD
    rates = LRMultiplier(optimizers[0], instantiate(lazily.lr_multiplier), lazily.train.max_iter)
    expected = build_lr_scheduler(cfg, optimizers[1])
    for iteration in range(0, lazily.train.max_iter, 10):
        rates.last_epoch = expected.last_epoch = iteration
        assert rates.get_lr() == expected.get_lr()


def test_loaders_are_those_of_the_config(caplog):
    data, names = lazy.demo().dataloader, ["shapes_train_coco"]
    opts = ["DATASETS.TRAIN", names, "DATASETS.EPISODE_MAPPERS", ["semantic"]]
    cfg = load_config("segic_demo.yaml", [*opts, "DATASETS.WEIGHTS", (), "TEST.EPISODES", 2])
    data.train.update(datasets=names, mappers=["semantic"], weights=[])
    data.test.update(episodes=2, dataset="shapes_seen_coco")
    assert instantiate(data.evaluator).__class__.__name__ == "OneShotEvaluator"
    pairs = [
        (instantiate(data.train), build_train_loader(cfg)),
        (instantiate(data.test), build_one_shot_loader(cfg, "shapes_seen_coco")),
    ]
    for built, configured in pairs:
        for one, other in zip(next(iter(built)), next(iter(configured)), strict=True):
            assert one["file_name"] == other["file_name"]
            assert torch.equal(one["image"], other["image"])
            shown, expected = one["references"][0], other["references"][0]
            assert torch.equal(shown["image"], expected["image"])
            assert ("whole" in shown) == ("whole" in expected) == (built is pairs[1][0])
            assert torch.equal(*(x.get("whole", x)["masks"] for x in (shown, expected)))
    assert caplog.text.count("SOLVER.MAX_SAMPLES is") == 1  # of the config's alone


def test_an_unknown_field_of_a_loader_is_named():
    data = lazy.demo().dataloader
    data.train.batch_size = 4
    with pytest.raises(ValueError, match="no field 'batch_size'; there are .*'total_batch_size'"):
        instantiate(data.train)


@pytest.mark.parametrize("recipe, config", PAIRS)
def test_the_data_are_those_of_the_config(recipe, config):
    cfg, train = load_config(config), recipe().dataloader.train
    assert train.config == config and not train.options
    for field, key in lazy.FIELDS.items():
        if field in train:
            value = cfg
            for part in key.split("."):
                value = value[part]
            value = list(value) if isinstance(value, tuple) else value
            assert train[field] == value, field


def test_a_dotted_name_reaches_every_part(tmp_path):
    words = ["model.encoder.canvas=112", "model.sem_seg_head.num_points=3", "optimizer.lr=0.5"]
    words += ["model.encoder.backbone={name: test_vit, weights: '', blocks: [-1]}"]
    words += ["model.sem_seg_head.channels=64", "model.sem_seg_head.similarity.groups=1"]
    words += ["model.sem_seg_head.similarity.propagated=1", "model.readout.threshold=0.25"]
    words += ["model.sem_seg_head.similarity.shape.stride=16", "model.encoder.multiple=16"]
    cfg = LazyConfig.apply_overrides(lazy.demo(), words)
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    cfg = LazyConfig.load(str(tmp_path / "config.yaml"))
    model = instantiate(cfg.model)
    assert model.input.canvas == model.sem_seg_head.canvas == cfg.dataloader.train.canvas == 112
    assert model.input.multiple == cfg.dataloader.test.multiple == 16
    assert model.sem_seg_head.matcher.stride == 16 and cfg.dataloader.train.whole
    assert model.sem_seg_head.num_points == 3 and cfg.optimizer.params.base_lr == 0.5
    assert model.criterion.criterion.threshold == model.readout.threshold == 0.25
    assert model.sem_seg_head.similarity.feature_mean.shape == (64,)
    assert lazy.demo().model.encoder.canvas == 448  # a fresh copy at every call


@pytest.mark.parametrize(
    "word, found",
    [("blocks=[9,11]", "768 channels and stride 14"), ("stride=16", "1152 channels and stride 16")],
)
def test_a_head_for_another_map_is_named_when_it_is_built(word, found):
    cfg = LazyConfig.apply_overrides(lazy.demo(), [f"model.encoder.backbone.{word}"])
    told = f"'feat' has {found}, the head takes 1152 channels and stride 14: set sem_seg_head.ch"
    with torch.device("meta"), pytest.raises(ValueError, match=told):
        instantiate(cfg.model)


def test_a_lazy_config_file_may_take_its_parts(tmp_path):
    lines = ["from segic_d2 import lazy", "parts = lazy.demo()", "model = parts.model"]
    (tmp_path / "mine.py").write_text("\n".join([*lines, "dataloader = parts.dataloader", ""]))
    cfg = LazyConfig.load(str(tmp_path / "mine.py"))
    cfg.model.encoder.canvas = 140
    assert cfg.dataloader.test.canvas == cfg.model.sem_seg_head.similarity.canvas == 140


def test_a_lazy_model_may_hold_a_context(tmp_path):
    cfg, file = lazy.demo(), tmp_path / "held.safetensors"
    cfg.model.encoder.canvas = 112
    cfg.model.encoder.backbone.weights = "random"
    model = instantiate(cfg.model)
    read = model.encode_context(tiny_episode(0)["references"], {0: "cat", 1: "dog"})
    read.fingerprint = {}
    read.save(file)
    MetadataCatalog.get("lazy_pets").thing_classes = ["dog", "bird", "cat"]
    words = [f"model.context={file}", "model.stock.datasets=[lazy_pets]"]
    held = instantiate(LazyConfig.apply_overrides(cfg, words).model).eval()
    assert held.context.names == ["cat", "dog"]
    assert held.stock.numbers(held.context) == ({0: 2, 1: 0}, {})
    assert "instances" in held([{"image": torch.zeros(3, 50, 60)}])[0]
