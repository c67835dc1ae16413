"""Private members of other packages are touched in compat.py alone, and exist as installed."""

import ast
import importlib
import inspect
import logging
import pkgutil
import re
from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.engine import SimpleTrainer
from detectron2.evaluation import COCOEvaluator, DatasetEvaluators, LVISEvaluator, SemSegEvaluator
from detectron2.utils.registry import Registry
from torch import nn
from torch.utils.data import DataLoader

import segic_d2
from segic_d2 import compat

PACKAGE = Path(segic_d2.__file__).parent
MODULES = [m.name for m in pkgutil.walk_packages([str(PACKAGE)], "segic_d2.")]
THEIRS = "detectron2", "fvcore", "iopath", "torch", "timm"
ALLOWED = {
    ("data/mappers/few_shot.py", "_replace"),  # of a NamedTuple: public, and named so by Python
    ("io/annotations/registry.py", "_replace"),
    ("io/video_frames.py", "_replace"),
    ("structures/resize.py", "_set_attributes"),  # fvcore's own way for subclasses
}


def private(name):
    return name.startswith("_") and not name.startswith("__") and name != "_"


def is_self(node):
    return ast.unparse(node) in ("self", "cls", "super()")


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=str)
def test_private_members_stay_in_compat(file):
    where = file.relative_to(PACKAGE).as_posix()
    if where == "compat.py":
        return
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    own = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    own |= {n.attr for n in nodes if isinstance(n, ast.Attribute) and is_self(n.value)}
    for n in nodes:
        names = []
        if isinstance(n, ast.Attribute) and not is_self(n.value):
            names = [n.attr]
        elif isinstance(n, ast.ImportFrom) and not n.level:
            names = [alias.name for alias in n.names]
        elif isinstance(n, ast.Call) and ast.unparse(n.func) in ("getattr", "setattr", "hasattr"):
            names = [a.value for a in n.args if isinstance(a, ast.Constant)]
        for name in (x for x in names if isinstance(x, str) and private(x)):
            assert name in own or (where, name) in ALLOWED, f"{where}:{n.lineno} touches {name}"


def classes(module):
    found = vars(importlib.import_module(module)).values()
    return [c for c in found if inspect.isclass(c) and c.__module__ == module]


@pytest.mark.parametrize("module", MODULES)
def test_no_subclass_touches_a_private_attribute_of_its_base(module):
    for kind in classes(module) if module != "segic_d2.compat" else ():
        theirs = [b for b in kind.__mro__ if b.__module__.partition(".")[0] in THEIRS]
        source = "".join(map(inspect.getsource, theirs))
        of_base = {*re.findall(r"self\.(_\w+)", source), *(n for b in theirs for n in vars(b))}
        used = set(re.findall(r"self\.(_\w+)", inspect.getsource(kind)))
        methods = {n for b in kind.__mro__ if b not in theirs for n in vars(b)}
        touched = {n for n in used & of_base - methods if private(n)}
        touched -= {n for where, n in ALLOWED if where == f"{module[9:].replace('.', '/')}.py"}
        assert not touched, f"{module}.{kind.__name__} touches {touched} of its base"


def test_a_module_with_other_members_is_a_copy():
    module = nn.Sequential(nn.Linear(2, 2))
    module.register_parameter("scale", nn.Parameter(torch.ones(1)))
    copied = compat.with_members(module, {"scale": torch.zeros(1)}, {"0": nn.Identity()})
    assert copied.scale == 0 and module.scale == 1
    assert copied(torch.ones(2)).tolist() == [1, 1] and isinstance(module[0], nn.Linear)


def test_a_tensor_that_is_written_has_another_version():
    tensor = torch.zeros(1)
    before = compat.version_of(tensor)
    tensor.add_(1)
    assert compat.version_of(tensor) > before


def test_workers_end():
    batches = iter(DataLoader([1, 2, 3], num_workers=1))
    (worker,) = batches._workers
    compat.end_workers(batches)
    assert not worker.is_alive()
    compat.end_workers(iter([]))
    compat.end_workers(None)


def test_names_in_a_registry_are_free():
    registry = Registry("TEST")
    compat.register_as(registry, "another name", len)
    assert registry.get("another name") is len


def test_a_clipper_clips_one_tensor():
    options = get_cfg().SOLVER.CLIP_GRADIENTS
    options.CLIP_TYPE, options.CLIP_VALUE = "value", 0.5
    p = nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([2.0, 0.1])
    compat.gradient_clipper(options)(p)
    assert p.grad.tolist() == pytest.approx([0.5, 0.1])


def test_a_checkpointer_loads_after_a_failed_load(tmp_path):
    checkpointer = DetectionCheckpointer(nn.Linear(1, 1), str(tmp_path))
    torch.save({"x": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(ValueError):
        checkpointer.load(f"{tmp_path / 'a.pth'}?other=1")
    compat.forget_failed_load(checkpointer)
    checkpointer.load(str(tmp_path / "a.pth"))


def test_a_trainer_stands_around_another():
    model = nn.Linear(1, 1)
    inner = SimpleTrainer(model, [1], torch.optim.SGD(model.parameters(), 0.1))
    trainer = compat.GivenTrainer(inner)
    assert trainer.model is model and trainer.data_loader == [1]


def test_evaluators_hold_what_they_count_where_it_is_looked_for():
    for kind, names in compat.COUNTS.items():
        source = inspect.getsource(kind)
        assert all(f"self.{name}" in source for name in names), kind
    assert set(compat.COUNTS) == {SemSegEvaluator, COCOEvaluator, LVISEvaluator}
    counting = inspect.getsource(SemSegEvaluator)
    for name in (
        "num_classes",
        "compute_boundary_iou",
        "class_names",
        "contiguous_id_to_dataset_id",
    ):
        assert f"self._{name} = " in counting
    assert "self._coco_api = COCO(" in inspect.getsource(COCOEvaluator)
    parts = [SemSegEvaluator.__new__(SemSegEvaluator)]
    assert compat.parts_of(DatasetEvaluators(parts)) == parts
    assert compat.counts_of(parts[0]) == compat.COUNTS[SemSegEvaluator]
    assert compat.counts_of(DatasetEvaluators([])) is None


def test_a_checkpointer_is_told_what_did_not_fit(tmp_path, caplog):
    checkpointer = DetectionCheckpointer(nn.Linear(1, 1), str(tmp_path))
    with caplog.at_level(logging.ERROR):
        found = checkpointer._load_model({"model": {"weight": torch.zeros(1, 1)}})
    assert isinstance(found, compat.IncompatibleKeys) and found.missing_keys == ["bias"]
