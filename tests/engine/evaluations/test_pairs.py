"""The protocol with a tiny model, against a predictor that is asked pair by pair."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from segic_d2.checkpoint import trainable_state_dict
from segic_d2.config.load import load_config
from segic_d2.data.augmentation.degrade import boxed, darkened
from segic_d2.data.benchmarks.pairs import PairFolder
from segic_d2.engine.evaluations.pairs import PairEvaluation
from segic_d2.evaluation.pairs import auroc, boundary
from segic_d2.predictor import InContextPredictor
from tests.tiny import tiny_config
from tests.toy_model import MeanColour

ROOT = Path(__file__).resolve().parents[3]
SIZES = [(60, 80), (90, 70), (112, 112)]


@pytest.fixture
def folder(tmp_path):
    """Classes "big dot" of 3 and "square" of 2 noisy pictures; they share one."""
    rng = np.random.default_rng(0)
    for name, count in (("big_dot", 3), ("square", 2)):
        (tmp_path / name).mkdir()
        for number in range(count):
            height, width = SIZES[number]
            picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            rows, columns = np.mgrid[:height, :width]
            mask = (rows - 30) ** 2 + (columns - 30) ** 2 < 500
            if name == "square":
                mask = (abs(rows - 40) < 15) & (abs(columns - 45) < 15)
            picture[mask] = picture[mask] // 3
            if name == "square" and number == 0:
                picture = np.asarray(Image.open(tmp_path / "big_dot" / "1.png.kept"))
            Image.fromarray(picture).save(tmp_path / name / f"{number + 1}.bmp")
            if number == 0:
                Image.fromarray(picture).save(tmp_path / name / "1.png.kept", "PNG")
            mask = Image.fromarray(mask.astype(np.uint8) * 255)
            mask.save(tmp_path / name / f"{number + 1}.png")
    for kept in tmp_path.rglob("*.kept"):
        kept.unlink()
    return tmp_path


def model(*opts):
    torch.manual_seed(0)
    return build_model(tiny_config(*opts)).eval()


def evaluation_of(folder, network, *opts, **more):
    return PairEvaluation(tiny_config(*opts), network, PairFolder(folder), **more)


def load(path):
    return np.asarray(Image.open(path))


def slow(folder, network, shots=1, mask_change=None, change=None):
    """Counts by class, and (propagated map, truth) and score of each episode, with a predictor;
    all sets of references of a class with three examples."""
    predictor = InContextPredictor.from_model(network)
    found, maps, scores = {}, [], []
    for name, count in (("big dot", 3), ("square", 2)):
        place = folder / name.replace(" ", "_")
        sums = np.zeros(4, dtype=np.int64)
        for target in range(1, count + 1):
            others = [i for i in range(1, count + 1) if i != target]
            for group in [others] if shots > 1 else [[i] for i in others]:
                masks = [load(place / f"{i}.png") > 0 for i in group]
                if mask_change:
                    masks = [mask_change(m) for m in masks]
                pictures = [place / f"{i}.bmp" for i in group]
                predictor.set_references(list(zip(pictures, masks, strict=True)))
                picture, truth = load(place / f"{target}.bmp"), load(place / f"{target}.png") > 0
                result = predictor(change(picture) if change else picture, True, independent=True)
                mask = result.masks[0]
                edges = [boundary(torch.from_numpy(m)).numpy() for m in (mask, truth)]
                both = (mask, truth), edges
                sums += [f(a, b).sum() for a, b in both for f in (np.logical_and, np.logical_or)]
                maps.append((name, result.propagated[0], truth))
                scores.append(float(result.scores[0]))
        found[name] = sums
    return found, maps, scores


def percent(counts):
    return {name: 100 * s[0] / s[1] for name, s in counts.items()}


def test_it_agrees_with_a_predictor_asked_pair_by_pair(folder):
    network = model()
    evaluation = evaluation_of(folder, network)
    plain = evaluation.plain
    result, scores = plain.evaluate(), plain.scores
    counts, maps, expected_scores = slow(folder, network)
    for name, iou in percent(counts).items():
        assert 5 < iou < 95
        got = result["classes"][name]
        assert got["IoU"] == pytest.approx(iou, abs=1e-9)
        assert got["boundary_IoU"] == pytest.approx(100 * counts[name][2] / counts[name][3])
    assert result["IoU"] == pytest.approx(np.mean(list(percent(counts).values())))
    assert sorted(scores) == pytest.approx(sorted(expected_scores), abs=1e-6)
    assert result["lost_by_abstaining"] == 0

    def thresholded(t):
        sums = {name: np.zeros(2) for name in counts}
        for name, similarity, truth in maps:
            sums[name] += [((similarity > t) & truth).sum(), ((similarity > t) | truth).sum()]
        return np.mean(list(percent(sums).values()))

    assert plain.cut(0.2)["IoU"] == pytest.approx(thresholded(0.2))
    threshold, best = plain.best()
    assert best == pytest.approx(thresholded(threshold), abs=0.1)
    assert plain.cut(threshold)["IoU"] == pytest.approx(best, abs=0.1)
    assert best >= max(thresholded(t) for t in np.arange(-1, 1, 0.02)) - 0.1
    seconds = evaluation.model.seconds
    assert all(spent > 0 for spent, _ in seconds.values())
    # four different pictures of five
    assert {name: number for name, (_, number) in seconds.items()} == {"encode": 4, "decode": 8}


def test_shots_agree_with_a_predictor(folder):
    network = model()
    evaluation = evaluation_of(folder, network, shots=5)
    assert len(evaluation.episodes.episodes) == 5
    result = evaluation.plain.evaluate()
    for name, iou in percent(slow(folder, network, shots=5)[0]).items():
        assert result["classes"][name]["IoU"] == pytest.approx(iou)


def test_worse_masks_and_targets_agree_with_a_predictor(folder):
    network = model()
    evaluation = evaluation_of(folder, network)
    rows = evaluation.robustness(0.2)
    assert len(rows) == 7 and evaluation.model.seconds["encode"][1] == 4 + 4 * 4
    plain = evaluation.plain.evaluate()["IoU"]
    for name, change in (
        ("box for a mask", {"mask_change": boxed}),
        ("target darkened", {"change": darkened}),
    ):
        mean = np.mean(list(percent(slow(folder, network, **change)[0]).values()))
        assert rows[name]["model"]["IoU"] == pytest.approx(mean)
        assert rows[name]["model"]["IoU"] != pytest.approx(plain)
        assert 0 < rows[name]["propagated mask"]["IoU"] < 100


def test_zoomed_references_agree_with_a_predictor(folder):
    """Also where the mask was made worse, which moves the cut."""
    network, plain = model("INPUT.REFERENCE_ZOOM", 0.8), model()
    evaluation = evaluation_of(folder, network, "INPUT.REFERENCE_ZOOM", 0.8)
    got = evaluation.plain.evaluate()["classes"]
    worse = evaluation.run(mask=boxed).evaluate()["classes"]
    unlike = percent(slow(folder, plain)[0])
    for name, iou in percent(slow(folder, network)[0]).items():
        assert got[name]["IoU"] == pytest.approx(iou) != pytest.approx(unlike[name])
    for name, iou in percent(slow(folder, network, mask_change=boxed)[0]).items():
        assert worse[name]["IoU"] == pytest.approx(iou)


def test_refined_masks_agree_with_a_predictor(folder):
    """Also of a target that was made worse: it is its own guide."""
    network, plain = model("MODEL.SEGIC.TEST.REFINE.RADIUS", 3), model()
    evaluation = evaluation_of(folder, network)
    got = evaluation.plain.evaluate()["classes"]
    dark = evaluation.run(picture=darkened).evaluate()["classes"]
    unlike = percent(slow(folder, plain)[0])
    for name, iou in percent(slow(folder, network)[0]).items():
        assert got[name]["IoU"] == pytest.approx(iou) != pytest.approx(unlike[name])
    for name, iou in percent(slow(folder, network, change=darkened)[0]).items():
        assert dark[name]["IoU"] == pytest.approx(iou)


def test_flips_average_the_target_and_its_mirror(folder):
    network = model()
    evaluation = evaluation_of(folder, network)
    predictor, place = InContextPredictor.from_model(network), folder / "square"
    sums = np.zeros(2)
    for a, b in ((1, 2), (2, 1)):
        predictor.set_references([(place / f"{a}.bmp", load(place / f"{a}.png") > 0)])
        picture, truth = load(place / f"{b}.bmp"), load(place / f"{b}.png") > 0
        straight, mirrored = predictor(picture), predictor(picture[:, ::-1].copy())
        mean = straight.frame.upsample(straight.logits)[0].numpy()
        mean = mean + mirrored.frame.upsample(mirrored.logits)[0].numpy()[:, ::-1]
        sums += ((mean > 0) & truth).sum(), ((mean > 0) | truth).sum()
        assert (straight.masks[0] != (mean > 0)).any()
    got = evaluation.flipped()["classes"]["square"]["IoU"]
    assert got == pytest.approx(100 * sums[0] / sums[1])


def test_abstention(folder):
    network = model()
    evaluation = evaluation_of(folder, network)
    found, scores = evaluation.abstention(), evaluation.plain.scores
    assert (found["present"], found["absent"]) == (8, 8) and 0 <= found["AUROC"] <= 1
    predictor = InContextPredictor.from_model(network)
    absent = evaluation.folder.absent(evaluation.episodes)
    expected = []
    for episode in absent.episodes:
        (reference,) = episode.references
        predictor.set_references([(reference, reference.replace(".bmp", ".png"))])
        expected.append(float(predictor(episode.target).scores[0]))
    asked = evaluation.run(episodes=absent).scores
    assert sorted(asked) == pytest.approx(sorted(expected), abs=1e-6)
    assert found["AUROC"] == auroc(scores, asked)
    never = evaluation_of(folder, network, min_score=max(scores) + 1e-6).plain.evaluate()
    assert never["IoU"] == evaluation.plain.evaluate()["IoU"] == never["lost_by_abstaining"] > 0


def test_any_model_is_measured(folder):
    evaluation = evaluation_of(folder, MeanColour())
    assert 0 < evaluation.run().evaluate()["IoU"] < 100
    with pytest.raises(ValueError, match="keeps no propagated masks"):
        evaluation.run().cut(0.2)


def test_files_that_do_not_fit_are_named(folder):
    Image.new("L", (80, 60)).save(folder / "square" / "1.png")
    with pytest.raises(ValueError, match=r"square/1.png is an empty mask"):
        evaluation_of(folder, model()).run()
    Image.new("L", (8, 6), 255).save(folder / "square" / "1.png")
    with pytest.raises(ValueError, match=r"square/1.bmp.* is 8x6 px"):
        evaluation_of(folder, model()).run()


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location(
        "evaluate_pairs", ROOT / "tools/evaluate_pairs.py"
    )
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_a_head_changes_nothing_of_its_own_config(tool):
    assert tool.CONFIGS.keys() == tool.HEADS.keys()
    for head, config in tool.CONFIGS.items():
        assert load_config(config, list(tool.HEADS[head])) == load_config(config)
    decoder = load_config("segic_demo.yaml", list(tool.HEADS["decoder"]))
    decoder.MODEL.SEGIC.REGIONS = load_config(tool.CONFIGS["decoder"]).MODEL.SEGIC.REGIONS
    decoder.MODEL.SEGIC.TEST.MIN_SCORE, decoder.MODEL.SEGIC.TEST.ABSENT = 0.08, 0.0
    assert decoder == load_config(tool.CONFIGS["decoder"])


def test_the_tool_prints_a_table_and_writes_json(tool, folder, tmp_path, capsys):
    config, weights, output = (tmp_path / name for name in ("tiny.yaml", "w.pth", "found.json"))
    config.write_text(tiny_config().dump())
    torch.save({"model": trainable_state_dict(model())}, weights)
    arguments = [str(folder), "--config-file", str(config), "--weights", str(weights)]
    tool.main([*arguments, "--threshold", "0.3", "--robustness", "--abstention"])
    text = capsys.readouterr().out
    for part in (
        "8 episodes, 1-shot, canvas 112 px",
        "| big dot |",
        "| mean |",
        "AUROC of the score, 8 present, 8 absent",
        "| target JPEG 20 |",
        "propagated mask > 0.3: IoU | boundary",
        "CPU seconds per picture: encode",
    ):
        assert part in text
    tool.main([*arguments[:3], "--output", str(output)])  # no weights
    found = json.loads(output.read_text())
    assert set(found["results"]) == {"best threshold"} and found["weights"] == ""
    best = found["results"]["best threshold"]
    assert f"| mean | {best['IoU']:.1f} | {best['boundary_IoU']:.1f} |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="error: no such folder: .*none"):
        tool.main([str(tmp_path / "none"), *arguments[1:]])
    heads = {}
    for head in ("region", "decoder"):  # the former needs no weights
        own = [*arguments[:3], "--head", head, "--abstention", "--output", str(output)]
        tool.main(own + ["--opts", "MODEL.SEGIC.REGIONS.CUT", "0.9"])
        heads[head] = json.loads(output.read_text())
    assert 0 <= heads["region"]["results"]["model"]["IoU"] <= 100
    assert "AUROC" in heads["region"]["abstention"] and heads["region"]["head"] == "region"
    assert set(heads["decoder"]["results"]) == {"best threshold"}
