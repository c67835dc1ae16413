"""InContextPredictor: references in, masks out."""

import io
import logging
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segic_d2.predictor import InContextPredictor
from segic_d2.structures.segmentation import Segmentation
from tests.bilinear import to_canvas
from tests.predictor.parts import H, W, picture, read_masked, square
from tests.tiny import tiny_config, tiny_episode

# ---- references --------------------------------------------------------------------------


# ---- targets -----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [-0.5, 2.0])
def test_a_zoom_out_of_its_range_is_named(share):
    with pytest.raises(ValueError, match=rf"^INPUT.REFERENCE_ZOOM is {share}; it must be in"):
        InContextPredictor(tiny_config("INPUT.REFERENCE_ZOOM", share), device="cpu")


def test_batches_equal_single_pictures_and_are_lazy(model, references):
    predictor = InContextPredictor.from_model(model, batch_size=2)
    predictor.set_references(references)
    pictures = [picture(i, size) for i, size in enumerate([(60, 90), (33, 20), (90, 60)])]
    asked = []

    def source():
        for i, p in enumerate(pictures):
            asked.append(i)
            yield p

    results = predictor.predict(source())
    assert asked == []
    first = next(results)
    assert asked == [0, 1]
    together = [first, *results]
    for result, single in zip(together, map(predictor, pictures), strict=True):
        torch.testing.assert_close(result.logits, single.logits, atol=1e-5, rtol=1e-4)
        assert (result.masks != single.masks).mean() < 1e-3
        assert result.masks.shape == single.masks.shape


def test_an_unreadable_target_comes_after_the_good_ones(predictor, references, files):
    (files / "text.png").write_text("no picture")
    predictor.set_references(references)
    wanted = [files / "cat.png", files / "text.png", files / "dog.png"]
    results = predictor.predict(wanted)
    assert next(results).file_name == str(files / "cat.png")
    with pytest.raises(ValueError, match="text.png"):
        next(results)
    skipped = []
    found = list(predictor.predict(wanted, on_error=lambda *failed: skipped.append(failed)))
    assert [r.file_name for r in found] == [str(files / "cat.png"), str(files / "dog.png")]
    ((path, error),) = skipped
    assert path == files / "text.png" and "text.png" in str(error)


def test_large_picture(predictor, references, tmp_path):
    Image.new("L", (3000, 2000), 90).save(tmp_path / "large.png")
    predictor.set_references(references)
    result = predictor(tmp_path / "large.png")
    assert result.masks.shape == (2, 2000, 3000) and result.label_map().shape == (2000, 3000)


def test_one_picture_several_and_folders(predictor, references, files):
    predictor.set_references(references)
    single = predictor(str(files / "cat.png"))
    (same,) = predictor.predict(files / "cat.png")
    np.testing.assert_array_equal(single.masks, same.masks)
    names = ["cat.png", "cat_mask.png", "dog.png", "dog_mask.png"]
    assert [Path(r.file_name).name for r in predictor.predict(str(files))] == names
    for several in (files, [files / "cat.png"]):
        with pytest.raises(ValueError, match="use predictor.predict"):
            predictor(several)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_is_shown_in_a_terminal_alone(predictor, references, files, monkeypatch):
    predictor.set_references(references)

    def shown(stream, pictures, **options):
        monkeypatch.setattr(sys, "stderr", stream)
        list(predictor.predict(pictures, on_error=lambda *failed: None, **options))
        return stream.getvalue()

    pictures = [files / "cat.png", "absent.png", files / "dog.png"]
    assert "3/3" in shown(Terminal(), pictures) and "4/4" in shown(Terminal(), files)
    assert shown(io.StringIO(), pictures) == shown(Terminal(), pictures, progress=False) == ""
    assert shown(Terminal(), pictures[0]) == ""


def test_entities_compete_unless_independent(references):
    torch.manual_seed(0)
    predictor = InContextPredictor(tiny_config("MODEL.SEGIC.TEST.ABSENT", 0.3), device="cpu")
    predictor.set_references(references)
    apart = predictor(picture(5), independent=True)
    scores = torch.from_numpy(apart.scores)
    expected = replace(apart, arrays=False, scores=scores).compete(0.3)
    found = predictor(picture(5))
    shown = expected.masks.flatten(1).any(1).tolist()
    assert found.ids == [i for i, own in zip(expected.ids, shown, strict=True) if own]
    np.testing.assert_array_equal(found.masks, expected.masks[shown].numpy())
    assert len(apart) == 2 and apart.masks.sum(0).max() == 2 and found.masks.sum(0).max() == 1
    # a minimum of one's own goes before the config's, and counts for independent ones as well
    between = float(np.mean(apart.scores))
    (best,) = predictor(picture(5), independent=True, min_score=between).ids
    assert best == apart.ids[int(apart.scores.argmax())]
    assert len(predictor(picture(5), min_score=1)) == 0
    assert len(predictor(picture(5), min_score=0)) >= len(found)
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"min_score is {wrong}; it must be from 0 to 1"):
            predictor(picture(5), min_score=wrong)


# ---- instances ---------------------------------------------------------------------------

ONE_PROMPT_EACH = "MODEL.SEGIC.INSTANCES.MIN_SIMILARITY", -1.0, "MODEL.SEGIC.INSTANCES.NMS_IOU", 1.0


def test_instances_are_the_models_own(references):
    """Objects that count from 1, with the names and classes of their entities."""
    torch.manual_seed(0)
    predictor = InContextPredictor(tiny_config(*ONE_PROMPT_EACH), device="cpu")
    predictor.set_references([(*shown[:2], {1: shown[2]}) for shown in references[::-1]])
    found = predictor(picture(5), instances=True, independent=True)
    (view,), _ = read_masked([(picture(5), square())], predictor.model)
    target = {"image": view["image"], "height": H, "width": W}
    (expected,) = predictor.model.find_instances([target], predictor.context)
    expected = expected["instances"]
    assert len(found) == len(expected) > 3 and set(found.classes) == {1, 2}
    np.testing.assert_array_equal(found.masks, expected.pred_masks.numpy())
    np.testing.assert_allclose(found.scores, expected.scores.numpy(), rtol=1e-5)
    assert found.classes == expected.pred_classes.tolist()
    assert found.names == [{1: "dog", 2: "cat"}[i] for i in found.classes]
    assert found.ids == list(range(1, len(found) + 1))
    assert set(np.unique(found.label_map())) <= {0, *found.ids}
    assert found.propagated is None and found.masks.sum(0).max() > 1
    competing = predictor(picture(5), instances=True)
    assert competing.masks.sum(0).max() == 1 and (competing.areas > 0).all()
    with pytest.raises(ValueError, match="propagated masks are of entities, not of instances"):
        predictor(picture(5), with_propagated_mask=True, instances=True)


def test_objects_that_vanish_at_the_pictures_size_are_left_out(predictor, references, monkeypatch):
    predictor.set_references(references)
    logits = torch.full((3, 32, 32), -5.0)
    logits[0, :8, :8], logits[2, 12:20] = 5, 5

    def told(features, context, limit):
        scores, frame = torch.tensor([0.9, 0.8, 0.7]), features.frames[0]
        return [Segmentation(logits, scores, [2, 2, 1], ["dog", "dog", "cat"], frame)]

    monkeypatch.setattr(predictor.model, "segment_instances", told)
    found = predictor(picture(5), instances=True)
    assert (found.ids, found.classes, found.names) == ([1, 2], [2, 1], ["dog", "cat"])
    assert found.masks.shape == (2, H, W) and found.masks.any((1, 2)).all()
    np.testing.assert_allclose(found.scores, [0.9, 0.7], rtol=1e-6)


def test_what_instances_lack_is_said(references, caplog):
    opts = (*ONE_PROMPT_EACH, "TEST.DETECTIONS_PER_IMAGE", 2)
    predictor = InContextPredictor(tiny_config(*opts), device="cpu")
    predictor.set_references(references)
    with caplog.at_level(logging.WARNING):
        assert len(predictor(references[0][0], instances=True)) == 2
    assert "cat.png: at most 2 objects are kept (TEST.DETECTIONS_PER_IMAGE)" in caplog.text
    assert "task='instance'" not in caplog.text
    predictor.context.meta = torch.zeros(2, 512)
    with caplog.at_level(logging.WARNING):
        predictor.predict(references[0][0], instances=True)
    assert "set_references(…, task='instance')" in caplog.text


# ---- contexts ----------------------------------------------------------------------------


def test_context_round_trip(predictor, references, model, tmp_path):
    predictor.set_references(references)
    expected = predictor(picture(5))
    predictor.save_context(tmp_path / "cats.safetensors")
    assert (tmp_path / "cats.safetensors").stat().st_size < 4096
    other = InContextPredictor.from_model(model)
    other.load_context(tmp_path / "cats.safetensors")
    result = other(picture(5))
    np.testing.assert_array_equal(result.masks, expected.masks)
    assert (result.names, result.ids) == (["cat", "dog"], [1, 2])


def test_context_of_another_model_is_refused(predictor, references, tmp_path):
    predictor.set_references(references)
    predictor.save_context(tmp_path / "cats.safetensors")
    torch.manual_seed(1)
    other = InContextPredictor(tiny_config(), device="cpu")
    other.set_references(references)
    before = other.context
    with pytest.raises(ValueError, match="cats.safetensors: .*another model: weights: context"):
        other.load_context(tmp_path / "cats.safetensors")
    (tmp_path / "text.safetensors").write_text("no context")
    with pytest.raises(ValueError, match="text.safetensors"):
        other.load_context(tmp_path / "text.safetensors")
    with pytest.raises(
        FileExistsError, match="text.safetensors is there already and is no context"
    ):
        other.save_context(tmp_path / "text.safetensors")
    assert (tmp_path / "text.safetensors").read_text() == "no context"
    other.save_context(tmp_path / "cats.safetensors")  # of another model, and ours
    with pytest.raises(FileNotFoundError, match="absent.safetensors"):
        other.load_context(tmp_path / "absent.safetensors")
    assert other.context is before


# ---- construction ------------------------------------------------------------------------


def test_weights_opts_and_config_file(model, references, tmp_path, caplog):
    cfg = tiny_config()
    (tmp_path / "tiny.yaml").write_text(cfg.dump())
    torch.save({"model": model.state_dict()}, tmp_path / "all.pth")
    opts = ["MODEL.SEGIC.TEST.THRESHOLD", 0.25]
    with caplog.at_level(logging.WARNING):
        loaded = InContextPredictor(
            tmp_path / "tiny.yaml", tmp_path / "all.pth", "cpu", batch_size=1, opts=opts
        )
    assert "decoder is random" not in caplog.text
    assert loaded.model.readout.threshold == 0.25 and not loaded.model.training
    for key, value in loaded.model.sem_seg_head.state_dict().items():
        assert torch.equal(value, model.sem_seg_head.state_dict()[key]), key
    with caplog.at_level(logging.WARNING):
        InContextPredictor(cfg, device="cpu")
    assert "decoder is random" in caplog.text
    with pytest.raises(FileNotFoundError, match="absent.pth"):
        InContextPredictor(cfg, "absent.pth", "cpu")
    with pytest.raises(ValueError, match="MODEL.SEGIC.FOO"):
        InContextPredictor(cfg, device="cpu", opts=["MODEL.SEGIC.FOO", 1])
    with pytest.raises(ValueError, match="all.pth holds another model's weights: .* sem_seg_head"):
        opts = ["MODEL.SEGIC.DECODER.WIDTH", 64]
        InContextPredictor(cfg, tmp_path / "all.pth", "cpu", opts=opts)
    partial = {k: v for k, v in model.state_dict().items() if "transformer" not in k}
    torch.save({"model": partial}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=r"part.pth lacks \d+ trainable tensors .*transformer"):
        InContextPredictor(cfg, tmp_path / "part.pth", "cpu")
    with pytest.raises(ValueError, match="device is 'abacus'"):
        InContextPredictor(cfg, device="abacus")
    with pytest.raises(FileNotFoundError, match="absent.yaml"):
        InContextPredictor("absent.yaml", device="cpu")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pkl"])
def test_a_file_that_is_no_checkpoint_is_named(model, tmp_path, suffix):
    file = tmp_path / f"broken{suffix}"
    file.write_bytes(b"no checkpoint at all")
    with pytest.raises(ValueError, match=f"cannot read the checkpoint .*broken{suffix}"):
        InContextPredictor(tiny_config(), file, "cpu")
    torch.save({"model": model.state_dict()}, tmp_path / "whole.pth")
    file.write_bytes((tmp_path / "whole.pth").read_bytes()[:5000])
    with pytest.raises(ValueError, match=f"cannot read the checkpoint .*broken{suffix}"):
        InContextPredictor(tiny_config(), file, "cpu")


@pytest.mark.parametrize("content", [b"e", b"", b"hello there", "picture", torch.nn.Linear(1, 1)])
def test_torchs_advice_is_not_passed_on(tmp_path, content):
    """It says a number, nothing, or to run the code that the file holds."""
    file = tmp_path / "a.png"
    if content == "picture":
        Image.fromarray(picture(0)).save(file)
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match="a.png: it is damaged, no checkpoint at all, or holds mo"):
        InContextPredictor(tiny_config(), file, "cpu")
    torch.save({"a": 1}, file)
    with pytest.raises(
        ValueError, match="a.png is no checkpoint: it holds a, and no named tensors"
    ):
        InContextPredictor(tiny_config(), file, "cpu")


def test_pictures_are_not_kept_in_memory(tmp_path):
    predictor = InContextPredictor(tiny_config("MODEL.SEGIC.FEATURE_MEMORY", 10), device="cpu")
    predictor.set_references([(picture(0), square())])
    predictor(picture(1))
    assert not predictor.model.encoder.memory._maps


def test_precision(model, references):
    exact = InContextPredictor.from_model(model)
    half = InContextPredictor.from_model(model, precision="bf16")
    for predictor in (exact, half):
        predictor.set_references(references)
    # the references are encoded in fp32 whatever the precision
    assert torch.equal(exact.context.tensors["prototypes"], half.context.tensors["prototypes"])
    a, b = exact(picture(5)), half(picture(5))
    assert not torch.equal(a.logits, b.logits)
    torch.testing.assert_close(a.logits, b.logits, atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "fp16"}, "'fp16' needs a GPU"),
        ({"precision": "int8"}, "precision is 'int8'; it must be one of"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_bad_arguments(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        InContextPredictor.from_model(model, **arguments)
    with pytest.raises(ValueError, match=message):
        InContextPredictor(tiny_config(), device="cpu", **arguments)


def test_pictures_resized_as_released(files, references):
    """INPUT.RESIZE "float": what the backbone receives is the formula, for references and targets,
    whether the predictor builds the model or is given it."""
    predictor = InContextPredictor(tiny_config("INPUT.RESIZE", "float"), device="cpu")
    seen, forward = [], predictor.model.backbone.forward
    predictor.model.backbone.forward = lambda x: seen.append(x) or forward(x)
    predictor.set_references(references)
    built = predictor(files / "cat.png")
    predictor = InContextPredictor.from_model(predictor.model)
    predictor.set_references(references)
    given = predictor(files / "cat.png")
    assert built.masks.shape == (2, H, W)
    np.testing.assert_array_equal(built.masks, given.masks)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    canvas = np.zeros((2, 112, 112, 3))
    for number in (0, 1):
        content = to_canvas(picture(number), 112)
        canvas[number, : content.shape[0], : content.shape[1]] = (content - mean) / std
    received = torch.cat(seen).permute(0, 2, 3, 1)
    np.testing.assert_allclose(received, canvas[[0, 1, 0] * 2], atol=1e-4)
    read, _ = read_masked(references, predictor.model)
    np.testing.assert_allclose(read[1]["masks"][0], to_canvas(square(x=21), 112), atol=1e-5)


def test_prediction_is_the_models_own(predictor, references):
    predictor.set_references(references)
    target = picture(5, (50, 37))
    result = predictor(target, with_propagated_mask=True, independent=True)
    read, names = read_masked(references, predictor.model)
    (view,), _ = read_masked([(target, square(size=(50, 37)))], predictor.model)
    episode = {**tiny_episode(0), "image": view["image"], "references": read}
    episode |= {"height": 50, "width": 37}
    episode["entities"] = [{"id": i, "name": n} for i, n in names.items()]
    (expected,) = predictor.model.inference([episode], outputs=("masks", "propagated_mask"))
    assert result.masks.shape == (2, 50, 37) and result.masks.any() and not result.masks.all()
    np.testing.assert_array_equal(result.masks, expected["masks"].numpy())
    np.testing.assert_allclose(result.scores, expected["scores"].numpy(), rtol=1e-5)
    np.testing.assert_allclose(result.propagated, expected["propagated_mask"].numpy(), atol=1e-6)
    assert (result.names, result.ids, result.file_name) == (["cat", "dog"], [1, 2], "")
    np.testing.assert_array_equal(result.image, target)
    assert len(result) == 2 and predictor(target).propagated is None


def test_a_few_full_size_masks_at_a_time_change_nothing(predictor, references, monkeypatch):
    predictor.set_references(references)
    whole = predictor(picture(5))
    monkeypatch.setattr("segic_d2.structures.frame.FULL_SIZE_PIXELS", 1)
    one_by_one = predictor(picture(5))
    np.testing.assert_array_equal(whole.masks, one_by_one.masks)
    np.testing.assert_array_equal(whole.scores, one_by_one.scores)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("form", ["competing", "independent", "at least", "instances"])
def test_a_score_that_is_no_number_is_refused_by_name(references, files, monkeypatch, value, form):
    """Features that are broken, by weights or precision, give no empty mask in silence."""
    torch.manual_seed(0)
    predictor = InContextPredictor(tiny_config(), device="cpu")
    predictor.set_references(references)
    backbone = predictor.model.backbone
    whole = backbone.forward
    how = {
        "independent": {"independent": True},
        "at least": {"independent": True, "min_score": 0.5},
        "instances": {"instances": True},
    }.get(form, {})

    def broken(x):
        return {name: torch.full_like(y, value) for name, y in whole(x).items()}

    monkeypatch.setattr(backbone, "forward", broken)
    with pytest.raises(ValueError, match="scores are not finite; weights, features or") as error:
        predictor(files / "cat.png", **how)
    assert form == "instances" or str(files / "cat.png") in str(error.value)


def test_on_error_has_the_pictures_whose_scores_are_no_numbers(references, files, monkeypatch):
    predictor = InContextPredictor(tiny_config(), device="cpu")
    predictor.set_references(references)
    whole, odd = predictor._segment, files / "dog.png"

    def broken(batch, context, how):
        if str(odd) in [file for _, _, file in batch]:
            raise ValueError("not finite")
        return whole(batch, context, how)

    monkeypatch.setattr(predictor, "_segment", broken)
    pictures, failed = [files / "cat.png", odd, files / "cat.png"], []
    found = predictor.predict(pictures, on_error=lambda *args: failed.append(args))
    assert [r.file_name for r in found] == [str(pictures[0])] * 2
    assert [(picture, str(error)) for picture, error in failed] == [(odd, "not finite")]
