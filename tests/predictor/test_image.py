"""InContextPredictor: references in, masks out."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from segic_d2.predictor import InContextPredictor
from segic_d2.predictor.references import read_references
from segic_d2.structures.frame import to_label_map
from tests.bilinear import to_canvas
from tests.io.test_masks import palette_image
from tests.tiny import tiny_config, tiny_episode

H, W = 60, 90


def picture(seed, size=(H, W)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def square(y=10, x=20, size=(H, W)):
    mask = np.zeros(size, dtype=bool)
    mask[y : y + 20, x : x + 30] = True
    return mask


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return InContextPredictor(tiny_config(), device="cpu").model


@pytest.fixture
def predictor(model):
    return InContextPredictor.from_model(model)


@pytest.fixture
def files(tmp_path):
    """cat.png, dog.png and their masks."""
    for seed, name in enumerate(("cat", "dog")):
        Image.fromarray(picture(seed)).save(tmp_path / f"{name}.png")
        Image.fromarray(square(x=20 + seed)).save(tmp_path / f"{name}_mask.png")
    return tmp_path


@pytest.fixture
def references(files):
    return [(files / f"{n}.png", files / f"{n}_mask.png", n) for n in ("cat", "dog")]


def entities(predictor, references):
    """(names, ids) of the entities, and the reference entries with their entity ids."""
    read, names = read_references(references, predictor.model.input)
    return names, [r["entity_ids"].tolist() for r in read]


# ---- references --------------------------------------------------------------------------


def test_entities_by_name_then_by_id(predictor):
    a, mask = picture(0), square()
    ids = np.zeros((H, W), dtype=np.uint8)
    ids[:20], ids[30:40], ids[50:] = 1, 4, 9
    label = palette_image(ids)
    found = lambda *refs: entities(predictor, refs)  # noqa: E731
    assert found((a, mask, "cat"), (a, mask, "dog"), (a, mask, "cat")) == (
        {1: "cat", 2: "dog"},
        [[1], [2], [1]],
    )
    assert found((a, mask), (a, mask)) == ({1: None}, [[1], [1]])
    assert found((a, label)) == ({1: None, 4: None, 9: None}, [[1, 4, 9]])
    # nameless: the same id is the same entity, a binary mask has id 1
    assert found((a, label), {"image": a, "mask": mask}) == (
        {1: None, 4: None, 9: None},
        [[1, 4, 9], [1]],
    )
    # the first entity with an id keeps it, and the next one gets what is free
    assert found((a, mask, "cat"), (a, label, {1: "dog", 4: "cat", 9: "emu"})) == (
        {1: "cat", 2: "dog", 9: "emu"},
        [[1], [2, 1, 9]],
    )
    assert found((a, label, ["x", "y", "z"])) == ({1: "x", 4: "y", 9: "z"}, [[1, 4, 9]])
    assert found((a, label, {9: "emu"})) == ({9: "emu"}, [[9]])
    assert found((a, label, {9: None})) == ({9: None}, [[9]])


def test_two_ids_of_one_name_are_one_mask(predictor):
    ids = np.zeros((H, W), dtype=np.int64)
    ids[:20], ids[30:40] = 1, 2
    read, _ = read_references(
        [(picture(0), ids, {1: "a", 2: "a"}), (picture(0), ids > 0, "a")], predictor.model.input
    )
    assert read[0]["masks"].shape[0] == 1
    assert torch.equal(read[0]["masks"], read[1]["masks"])


@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        (("cat.png", "cat_mask.png", 3), ValueError, r"cat_mask.png\): mask: names 3 are neither"),
        (("absent.png", "cat_mask.png"), FileNotFoundError, r"2 \(.*absent.png\): image: no such"),
        (("cat.png", "absent.png"), FileNotFoundError, r"2 \(.*absent.png\): mask: no such"),
        (("text.png", "cat_mask.png"), ValueError, r"2 \(.*text.png\): image: cannot read"),
        (("cat.png", "text.png"), ValueError, r"2 \(.*text.png\): mask: cannot read"),
        (("cat.png", "empty.png"), ValueError, r"2 \(.*empty.png\): mask is empty"),
        (("cat.png", "small.png"), ValueError, r"small.png\): mask is 8x9 px, .* is 90x60 px"),
        (("cat.png", "ids.png", "cat"), ValueError, r"ids.png\): mask has the ids 3, 5, the names"),
        (("cat.png", "ids.png", {4: "x"}), ValueError, r"mask has no id 4 \('x'\); it has 3, 5"),
        (("cat.png", "ids.png", {3: 7}), ValueError, "a name must be a string, not 7"),
        (("cat.png",), ValueError, r"reference 2: expected \(image, mask\)"),
        ("cat.png", ValueError, "reference 2: expected"),
    ],
)
def test_bad_reference_is_named_and_loses_nothing(predictor, references, files, bad, kind, message):
    (files / "text.png").write_text("no picture")
    Image.fromarray(np.zeros((H, W), np.uint8)).save(files / "empty.png")
    Image.fromarray(np.ones((9, 8), np.uint8)).save(files / "small.png")
    ids = np.zeros((H, W), dtype=np.uint8)
    ids[:20], ids[30:40] = 3, 5
    palette_image(ids).save(files / "ids.png")
    predictor.set_references(references)
    before = predictor.context
    if isinstance(bad, tuple):
        bad = tuple(files / b if isinstance(b, str) and "." in b else b for b in bad)
    with pytest.raises(kind, match=message):
        predictor.set_references([references[0], bad])
    assert predictor.context is before


def test_bad_sets_of_references(predictor):
    empty = np.stack([square(), np.zeros((H, W), bool)])
    for bad, message in (
        ([], "no references"),
        ("cat.png", "references must be a list"),
        ([(picture(0), empty, ["a", "b"])], r"reference 1: mask of id 2 \('b'\) is empty"),
        ([(picture(0), np.zeros((H, W)))], "reference 1: mask is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            predictor.set_references(bad)
    with pytest.raises(ValueError, match="task is 'part'"):
        predictor.set_references([(picture(0), square())], task="part")
    with pytest.raises(RuntimeError, match="set_references"):
        predictor(picture(0))
    with pytest.raises(RuntimeError, match="set_references"):
        predictor.save_context("nowhere")


def test_masks_are_in_the_displayed_orientation(predictor, tmp_path):
    stored, mask = picture(0), square()
    exif = Image.Exif()
    exif[0x0112] = 6  # displayed after a quarter turn clockwise
    Image.fromarray(stored).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(mask).save(tmp_path / "stored.png")
    displayed = np.ascontiguousarray(np.rot90(mask, -1))
    Image.fromarray(displayed).save(tmp_path / "displayed.png")
    with pytest.raises(ValueError, match=r"stored.png\): mask is 90x60 px, .* is 60x90 px"):
        predictor.set_references([(tmp_path / "turned.png", tmp_path / "stored.png")])
    predictor.set_references([(tmp_path / "turned.png", tmp_path / "displayed.png")])
    turned = predictor.context
    predictor.set_references([(np.rot90(stored, -1), displayed)])
    assert torch.equal(turned.prototypes, predictor.context.prototypes)
    assert predictor(tmp_path / "turned.png").masks.shape == (1, W, H)


def test_ten_pixels_of_three_million_reach_the_prototype(predictor, tmp_path):
    image = np.full((1500, 2000, 3), 40, dtype=np.uint8)
    mask = np.zeros((1500, 2000), dtype=bool)
    mask[733:743, 1201:1211] = True
    image[mask] = 255
    Image.fromarray(image).save(tmp_path / "image.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (read,), _ = read_references(
        [(tmp_path / "image.png", tmp_path / "mask.png")], predictor.model.input
    )
    shrunk = read["masks"].sum() * (2000 / 112) ** 2
    assert shrunk == pytest.approx(100, rel=0.25)  # px² of the file that arrive on the canvas
    predictor.set_references([(tmp_path / "image.png", tmp_path / "mask.png", "speck")])
    context = predictor.context
    features = predictor.model.encode_images([read["image"]])
    row, column = (int(0.5 * (a + b) * 112 / 2000 // 14) for a, b in ((733, 743), (1201, 1211)))
    assert context.shots.tolist() == [[True]]
    torch.testing.assert_close(context.prototypes[0, 0], features.map[0, :, row, column])


# ---- targets -----------------------------------------------------------------------------


def test_a_zoomed_reference_is_the_cut_picture():
    """Masks of 20x30 px in 60x90 px, both of one picture, as if it was cut by hand."""
    first, second = square(y=30, x=10), square(y=20, x=40)
    masks, names = first + 2 * (second & ~first).astype(np.uint8), {1: "a", 2: "b"}
    torch.manual_seed(0)
    zooming = InContextPredictor(tiny_config("INPUT.REFERENCE_ZOOM", 1.0), device="cpu")
    torch.manual_seed(0)
    plain = InContextPredictor(tiny_config(), device="cpu")
    whole = picture(0)
    zooming.set_references([(whole, masks, names)])
    plain.set_references([(whole[:, 10:70], masks[:, 10:70], names)])  # they reach from 10 to 70
    assert torch.equal(zooming.context.prototypes, plain.context.prototypes)
    plain.set_references([(whole, masks, names)])
    assert not torch.equal(zooming.context.prototypes, plain.context.prototypes)


@pytest.mark.parametrize("share", [-0.5, 2.0])
def test_a_zoom_out_of_its_range_is_named(share):
    with pytest.raises(ValueError, match=rf"^INPUT.REFERENCE_ZOOM is {share}; it must be in"):
        InContextPredictor(tiny_config("INPUT.REFERENCE_ZOOM", share), device="cpu")


def test_prediction_is_the_models_own(predictor, references):
    predictor.set_references(references)
    target = picture(5, (50, 37))
    result = predictor(target, with_propagated_mask=True)
    read, names = read_references(references, predictor.model.input)
    (view,), _ = read_references([(target, square(size=(50, 37)))], predictor.model.input)
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


def test_label_map_equals_a_plain_loop(predictor):
    predictor.set_references([(picture(i), square(i, 5 * i), f"e{i}") for i in range(4)])
    result = predictor(picture(9))
    logits = result._full_size(result._logits)
    labels = result.label_map(background=7)
    for y in range(0, H, 3):
        for x in range(0, W, 3):
            best = max(range(4), key=lambda n: logits[n, y, x])
            expected = result.ids[best] if logits[best, y, x] > 0 else 7
            assert labels[y, x] == expected, (y, x)
    assert len(np.unique(labels)) > 2  # the picture has background and at least two entities
    merged = to_label_map(torch.from_numpy(logits), result.ids, 7)
    np.testing.assert_array_equal(labels, merged.numpy())
    np.testing.assert_array_equal(labels != 7, result.masks.any(0))
    with pytest.raises(ValueError, match="background 2 is the id"):
        result.label_map(background=2)


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
        torch.testing.assert_close(result._logits, single._logits, atol=1e-5, rtol=1e-4)
        assert (result.masks != single.masks).mean() < 1e-3
        assert result.masks.shape == single.masks.shape


def test_a_few_full_size_masks_at_a_time_change_nothing(predictor, references, monkeypatch):
    predictor.set_references(references)
    whole = predictor(picture(5))
    monkeypatch.setattr("segic_d2.structures.frame.FULL_SIZE_PIXELS", 1)
    one_by_one = predictor(picture(5))
    np.testing.assert_array_equal(whole.masks, one_by_one.masks)
    np.testing.assert_array_equal(whole.scores, one_by_one.scores)


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
    assert loaded.model.threshold == 0.25 and not loaded.model.training
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


def test_pictures_are_not_kept_in_memory(tmp_path):
    predictor = InContextPredictor(tiny_config("MODEL.SEGIC.FEATURE_MEMORY", 10), device="cpu")
    predictor.set_references([(picture(0), square())])
    predictor(picture(1))
    assert not predictor.model.memory._maps


def test_precision(model, references):
    exact = InContextPredictor.from_model(model)
    half = InContextPredictor.from_model(model, precision="bf16")
    for predictor in (exact, half):
        predictor.set_references(references)
    # the references are encoded in fp32 whatever the precision
    assert torch.equal(exact.context.prototypes, half.context.prototypes)
    a, b = exact(picture(5)), half(picture(5))
    assert not torch.equal(a._logits, b._logits)
    torch.testing.assert_close(a._logits, b._logits, atol=0.1, rtol=0.1)


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
    read, _ = read_references(references, predictor.model.input)
    np.testing.assert_allclose(read[1]["masks"][0], to_canvas(square(x=21), 112), atol=1e-5)
