"""A model that implements the protocol alone works in the predictor and with contexts on disk.

Its evaluations are in tests/engine/evaluations/test_base.py.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog, build_detection_test_loader
from detectron2.engine import DefaultPredictor
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.modeling import build_model
from detectron2.utils.visualizer import ColorMode, Visualizer
from PIL import Image

from segic_d2.evaluation import build_sem_seg_evaluator
from segic_d2.modeling.protocol import InContextModel
from segic_d2.predictor import InContextPredictor
from segic_d2.structures.context import Context
from segic_d2.structures.stock import StockForms
from tests import toy_model
from tests.data import toy
from tests.tiny import tiny_config
from tests.toy_model import MeanColour

RED, BLUE, GREY = (220, 20, 20), (20, 20, 220), (90, 90, 90)


def picture(red, blue, size=(80, 120)):
    """Boxes (y0, x0, y1, x1) of two colours on grey: the picture, and a label map (1, 2)."""
    image, labels = np.full((*size, 3), GREY, np.uint8), np.zeros(size, np.uint8)
    for label, colour, (y0, x0, y1, x1) in ((1, RED, red), (2, BLUE, blue)):
        image[y0:y1, x0:x1], labels[y0:y1, x0:x1] = colour, label
    return image, labels


REFERENCE = picture((10, 10, 50, 50), (30, 70, 70, 110))
TARGET = picture((40, 60, 72, 100), (8, 8, 32, 48))


def predictor():
    found = InContextPredictor.from_model(MeanColour(), batch_size=2)
    found.set_references([(*REFERENCE, {1: "red", 2: "blue"})])
    return found


def test_the_toy_is_short_and_implements_what_is_abstract():
    assert len(Path(toy_model.__file__).read_text().splitlines()) <= 60
    own = {name for name in vars(MeanColour) if not name.startswith("_")}
    assert own == InContextModel.__abstractmethods__


def test_a_model_that_tells_no_objects_apart_says_so():
    with pytest.raises(ValueError, match="MeanColour does not tell the objects of an entity apart"):
        predictor()(TARGET[0], instances=True)


def test_it_segments_for_people():
    results = list(predictor().predict([TARGET[0], REFERENCE[0], TARGET[0]]))
    for result, (image, labels) in zip(results, (TARGET, REFERENCE, TARGET), strict=True):
        assert result.names == ["red", "blue"] and result.propagated is None
        assert result.image is not None and np.array_equal(result.image, image)
        merged = result.label_map()
        assert (merged == labels).mean() > 0.97 and result.scores.min() > 0.9
        for row, label in enumerate((1, 2)):
            both = result.masks[row] & (labels == label)
            assert both.sum() / (result.masks[row] | (labels == label)).sum() > 0.8


def test_its_contexts_are_saved_and_refused_by_other_models(tmp_path):
    first, path = predictor(), tmp_path / "colours.safetensors"
    first.save_context(path)
    second = InContextPredictor.from_model(MeanColour())
    second.load_context(path)
    assert torch.equal(second.context.tensors["colours"], first.context.tensors["colours"])
    assert second.context.kind == "colours"
    expected, found = first(TARGET[0]), second(TARGET[0])
    assert np.array_equal(expected.masks, found.masks)
    other = InContextPredictor.from_model(MeanColour(canvas=56))
    with pytest.raises(ValueError, match="colours.safetensors: .*: canvas: context 112"):
        other.load_context(path)
    assert other.context is None


def test_entities_are_joined_and_dropped():
    model = MeanColour()
    read = predictor().context
    one = read.drop([2])
    joined = Context.join_entities([one, read.drop([1])])
    assert joined.ids == [1, 2] and joined.names == ["red", "blue"]
    assert torch.equal(joined.tensors["colours"], read.tensors["colours"])
    image = torch.from_numpy(TARGET[0]).permute(2, 0, 1)
    features = model.encode_images([image])
    (alone,), (both,) = model.segment(features, one), model.segment(features, joined)
    assert torch.equal(alone.logits, both.logits[:1])


def test_a_model_may_hold_a_context():
    model = MeanColour().eval()
    image = torch.from_numpy(TARGET[0]).permute(2, 0, 1)
    target = {"image": image, "height": 160, "width": 240}
    with pytest.raises(ValueError, match="a model holds a Context .*, not None"):
        model.segment_plain([target])
    with pytest.raises(ValueError, match="an input has no references.*model.context = "):
        model([target])
    model.context = predictor().context
    (found,) = model([target])
    assert found["masks"].shape == (2, 160, 240) and found["masks"].flatten(1).any(1).all()
    with pytest.raises(ValueError, match="2 contexts for 1 targets"):
        model.inference([target], [model.context] * 2)
    with pytest.raises(NotImplementedError, match="MeanColour has no training"):
        model.train()([{**target, "references": []}])


def test_detectron2s_predictor_serves_a_model_that_holds_a_context():
    """On a picture as it is, larger than the canvas, as our own predictor does."""
    stock = DefaultPredictor(tiny_config("INPUT.MIN_SIZE_TEST", 0, "DATASETS.TEST", ()))
    ours = InContextPredictor.from_model(stock.model)
    ours.set_references([REFERENCE])
    stock.model.context = ours.context
    large = np.ascontiguousarray(np.kron(TARGET[0], np.ones((3, 3, 1), np.uint8)))
    found, expected = stock(large[:, :, ::-1]), ours(large, independent=True)
    assert np.array_equal(found["masks"].numpy(), expected.masks)
    assert found["sem_seg"].shape == (3, *large.shape[:2])  # two, and none of them
    assert np.array_equal(found["sem_seg"].argmax(0), (expected.label_map() - 1) % 3)
    kept = [i for i, mask in enumerate(expected.masks) if mask.any()]
    assert found["instances"].pred_classes.tolist() == kept


def test_a_config_names_the_context_that_is_held(tmp_path):
    """Its file is read when the model is built, and must be of that model when it is used."""
    opts = ("INPUT.MIN_SIZE_TEST", 0, "DATASETS.TEST", ())
    torch.manual_seed(0)
    first = InContextPredictor(tiny_config(*opts))
    first.set_references([(*REFERENCE, {1: "red", 2: "blue"})])
    file, weights = tmp_path / "held.safetensors", tmp_path / "all.pth"
    first.save_context(file)
    torch.save(first.model.state_dict(), weights)
    opts += ("MODEL.SEGIC.CONTEXT", str(file), "MODEL.WEIGHTS", str(weights))
    found = DefaultPredictor(tiny_config(*opts))(TARGET[0][:, :, ::-1])
    expected = first(TARGET[0], independent=True)
    assert np.array_equal(found["masks"].numpy(), expected.masks)
    ours = InContextPredictor(tiny_config(*opts))  # holds it as well
    assert ours(TARGET[0], independent=True).names == ["red", "blue"]
    other = DefaultPredictor(tiny_config(*opts, "INPUT.REFERENCE_ZOOM", 0.5))
    with pytest.raises(ValueError, match="made by another model: zoom: context None, model 0.5"):
        other(TARGET[0][:, :, ::-1])
    opts = ("MODEL.SEGIC.CONTEXT", str(tmp_path / "none.safetensors"))
    with pytest.raises(FileNotFoundError, match="MODEL.SEGIC.CONTEXT: context file not found: .*n"):
        build_model(tiny_config(*opts))
    with pytest.raises(ValueError, match="MODEL.SEGIC.CONTEXT: .*all.pth is not a context file"):
        build_model(tiny_config("MODEL.SEGIC.CONTEXT", str(weights)))


@pytest.mark.parametrize("branch", ["instances", "sem_seg"])
def test_a_viewer_of_detectron2s_kind_paints_what_is_held(branch):
    """Its demo: DefaultPredictor, then Visualizer by what the predictions have."""
    name, classes = f"viewer_{branch}", ["blue", "red"]
    key = "thing" if branch == "instances" else "stuff"
    metadata = MetadataCatalog.get(name)
    metadata.set(**{f"{key}_classes": classes, f"{key}_colors": [(255, 255, 0), (0, 255, 0)]})
    stock = DefaultPredictor(tiny_config("DATASETS.TEST", (name,), "INPUT.MIN_SIZE_TEST", 0))
    stock.model, forms = MeanColour().eval(), stock.model.stock
    stock.model.context, stock.model.stock = predictor().context, forms
    image, labels = (np.kron(x, np.ones((5, 5, 1)[: x.ndim], np.uint8)) for x in TARGET)
    predictions = stock(image[:, :, ::-1])
    assert {"instances", "sem_seg"} & set(predictions) == {branch}
    viewer = Visualizer(image, metadata, instance_mode=ColorMode.SEGMENTATION)
    if branch == "sem_seg":
        drawn = viewer.draw_sem_seg(predictions["sem_seg"].argmax(0), alpha=1).get_image()
    else:
        found = predictions["instances"]
        assert [classes[i] for i in found.pred_classes] == ["red", "blue"]
        drawn = viewer.draw_instance_predictions(found).get_image()
    drawn, grey = drawn.astype(int), labels == 0
    assert drawn.shape == image.shape
    red, blue = (np.median(drawn[labels == i], 0) for i in (1, 2))
    assert red[1] > red[0] + 40 and min(blue[:2]) > blue[2] + 40  # green, yellow
    assert (abs(drawn[grey] - image[grey]).max(1) < 30).mean() > 0.85
    if folder := os.environ.get("SEGIC_D2_PICTURES"):  # to look at
        Image.fromarray(drawn.astype(np.uint8)).save(Path(folder) / f"viewer_{branch}.png")


def test_plain_pictures_come_in_the_order_of_channels_of_the_config():
    """Detectron2's own default is BGR; whatever the size, also where nothing is resized."""
    model, image = MeanColour().eval(), torch.from_numpy(TARGET[0]).permute(2, 0, 1)
    model.context = predictor().context
    for size in ((80, 120), (75, 112)):  # 112 is the canvas
        picture = image[:, : size[0], : size[1]]
        (expected,) = model([{"image": picture}])
        model.stock = StockForms(format="BGR")
        (found,) = model([{"image": picture.flip(0).float()}])
        model.stock = StockForms()
        assert expected["masks"].any() and torch.equal(found["masks"], expected["masks"])


def test_a_context_of_instances_gives_instances_alone():
    model, image = MeanColour().eval(), torch.from_numpy(TARGET[0]).permute(2, 0, 1)
    model.context = replace(predictor().context, task="instance")
    (found,) = model([{"image": image, "height": 80, "width": 120}])
    assert list(found) == ["scores", "instances"]
    assert found["instances"].pred_classes.tolist() == [0, 1]  # ids 1 and 2
    MetadataCatalog.get("only_stuff").stuff_classes = ["red", "blue"]
    model.stock = StockForms(("only_stuff",))
    with pytest.raises(ValueError, match="a context of instances needs thing_classes"):
        model([{"image": image}])


def test_things_and_stuff_of_one_context():
    """As a panoptic data set has them: each is told in its own form."""
    model, image = MeanColour().eval(), torch.from_numpy(TARGET[0]).permute(2, 0, 1)
    model.context = predictor().context
    (plain,) = model([{"image": image}])
    MetadataCatalog.get("panoptic_toy").set(
        thing_classes=["dog", "red"], stuff_classes=["things", "sky", "blue"]
    )
    model.stock = StockForms(("panoptic_toy",))
    (found,) = model([{"image": image}])
    assert torch.equal(found["masks"], plain["masks"])
    assert found["instances"].pred_classes.tolist() == [1]
    assert torch.equal(found["instances"].pred_masks[0], plain["masks"][0])
    assert found["sem_seg"].shape[0] == 4 and torch.equal(
        found["sem_seg"].argmax(0) == 2, plain["masks"][1]
    )
    model.stock = StockForms(limit=1)
    (best,) = model([{"image": image}])
    assert best["instances"].scores.tolist() == [max(plain["scores"].tolist())]


def test_inputs_that_do_not_serve_are_named():
    model, image = MeanColour().eval(), torch.zeros(4, 30, 40)
    model.context = predictor().context
    assert model([]) == []
    with pytest.raises(
        ValueError, match=r"an image has the shape \(4, 30, 40\); it must be \(3, H"
    ):
        model([{"image": image}])
    mixed = [{"image": image[:3]}, {"image": image[:3], "references": []}]
    with pytest.raises(ValueError, match="give each input of a batch its own, or none"):
        model(mixed)
    with pytest.raises(ValueError, match="training needs episodes"):
        model.train()([{"image": image[:3]}])
    model.context = "pets.safetensors"
    with pytest.raises(ValueError, match=r"holds a Context \(Context.load.*not 'pets.safetensors'"):
        model.eval()([{"image": image[:3]}])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_stock_loaders_and_evaluators_serve_it_too(tmp_path):
    model, name = MeanColour().eval(), toy.coco(tmp_path)
    model.context = colours({0: None, 1: None, 2: None})
    cfg = tiny_config("INPUT.MIN_SIZE_TEST", 300, "DATALOADER.NUM_WORKERS", 0)
    loader = build_detection_test_loader(cfg, name)
    evaluator = COCOEvaluator(name, tasks=("segm",), use_fast_impl=False)
    found = inference_on_dataset(model, loader, evaluator)["segm"]
    assert found["AP50"] > 20  # two things of one class are one mask here


def colours(names):
    """A context of the three pure colours, {id: name}."""
    patches = 255 * torch.eye(3)[:, :, None, None].expand(3, 3, 8, 8)
    shown = zip(names, patches, strict=True)
    references = [
        {"image": patch, "masks": torch.ones(1, 8, 8), "entity_ids": [i]} for i, patch in shown
    ]
    return MeanColour().encode_context(references, names)


def test_label_maps_are_scored_by_the_stock_evaluator(tmp_path):
    """The names say which class an entity is, and the background takes what no entity takes."""
    model, name = MeanColour().eval(), toy.sem_seg(tmp_path)
    red, green, blue = toy.NAMES
    model.context = colours({4: red, 2: green, 9: blue}).take([2, 0, 1])
    cfg = tiny_config("INPUT.MIN_SIZE_TEST", 0, "DATALOADER.NUM_WORKERS", 0)
    model.stock = replace(StockForms.from_config(cfg), datasets=(name,))
    loader = build_detection_test_loader(cfg, name)
    evaluator = build_sem_seg_evaluator(name)
    found = inference_on_dataset(model, loader, evaluator)["sem_seg"]
    assert min(found[f"IoU-{c}"] for c in ("background", *toy.NAMES)) > 70
    model.context = colours({4: red, 2: blue, 9: green})  # two of them changed
    swapped = inference_on_dataset(model, loader, evaluator)["sem_seg"]
    assert swapped[f"IoU-{red}"] > 70 and swapped[f"IoU-{green}"] < 5
