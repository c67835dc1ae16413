"""The pack for a GPU machine: its dry run, its parts and their limit, and what comes back."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import compare_half
import gpu_pack
import gpu_parts
import gpu_scenes
import gpu_train
from composites.table import read_backgrounds, read_objects
from segic_d2.config.load import load_config
from tests.datasets.composites.toy_sources import make_sources
from tests.tiny import tiny_config

TOOLS = Path(__file__).resolve().parents[2] / "tools"
SCRIPT = TOOLS / "gpu_train.sh"
MB = 2**20


def run(*args, **environment):
    environment = {**os.environ, "PYTHON": sys.executable, "WHEELS": "", **environment}
    command = ["bash", str(SCRIPT), *args]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
def test_the_dry_run_trains_weights_that_load(tmp_path):
    start = cpu_seconds()
    done = run("--dry-run", OUT=str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert cpu_seconds() - start < 60  # others may use the machine
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["dry_run"] and summary["torch"] == torch.__version__
    assert {name: step["status"] for name, step in summary["steps"].items()} == dict.fromkeys(
        ("scenes", "decoder", "export"), "ok"
    )
    told = summary["trainings"]["decoder"]
    assert told["samples"] == 48 and told["samples_per_second"] > 0 and "error" not in told
    names = ["decoder", "decoder-average", "decoder-average-16", "decoder-average-32"]
    assert told["weights"] == [f"{name}.safetensors" for name in names]
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == sorted([*told["weights"], "curve.png", "log.txt", "summary.json"])
    assert "Total training time" in (tmp_path / "out/log.txt").read_text()
    states = [load_file(tmp_path / "out" / name) for name in told["weights"]]
    cfg = load_config(
        "segic_stamps_S.yaml", ["MODEL.BACKBONE.WEIGHTS", "random", "MODEL.DEVICE", "cpu"]
    )
    model = compare_half.build_model(cfg)
    for state in states:
        _, unexpected = model.load_state_dict(state, strict=False)
        assert not unexpected and state.keys() == states[0].keys()
        assert all(torch.isfinite(tensor).all() for tensor in state.values())
    changed = [n for n in states[0] if not torch.equal(states[0][n], states[1][n])]
    assert changed  # the average is another


def test_sizes_are_told_and_too_much_is_refused():
    assert gpu_parts.report(8_000_000, {"part1": 53_000_000}) == [
        "checkout: 8.0 MB",
        "part1: 53.0 MB, with the checkout 58.2 of 64 MiB",
    ]
    most = 64 * MB - 8_000_000
    gpu_parts.report(8_000_000, {"part1": most})
    with pytest.raises(ValueError, match=r"part2: 60.2 MB.*65.0 of 64 MiB: 1.0 MiB too much"):
        gpu_parts.report(8_000_000, {"part1": most, "part2": most + MB})


def test_a_part_that_is_too_large_gets_no_checksums(tmp_path, monkeypatch):
    parts = [tmp_path / "part1", tmp_path / "part2"]
    for part in parts:
        part.mkdir()
        (part / "file").write_bytes(bytes(3000))
    monkeypatch.setattr(gpu_pack, "checkout_size", lambda: 2000)
    monkeypatch.setattr(gpu_parts, "LIMIT", 4999)
    with pytest.raises(ValueError, match="part1"):
        gpu_pack._closed(parts)
    assert not (parts[0] / gpu_parts.SUMS).exists()
    monkeypatch.setattr(gpu_parts, "LIMIT", 5000)
    assert len(gpu_pack._closed(parts)) == 3
    assert [gpu_parts.check_sums(part) for part in parts] == [1, 1]


def test_the_checkout_is_what_git_knows_or_would_add(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("big\n")  # 4 bytes
    (tmp_path / "big").write_bytes(bytes(1000))
    (tmp_path / "new").write_bytes(bytes(70))
    assert gpu_parts.checkout_size(tmp_path) == 74


def test_a_part_must_arrive_as_it_was_packed(tmp_path, capsys):
    assert gpu_parts.main([str(tmp_path)]) == 1 and "gpu_train.sh pack" in capsys.readouterr().err
    (tmp_path / "wheels").mkdir()
    file = tmp_path / "wheels/a.whl"
    file.write_bytes(b"abc")
    gpu_parts.write_sums(tmp_path)
    assert gpu_parts.main([str(tmp_path)]) == 0
    checked = subprocess.run(["sha256sum", "--check", gpu_parts.SUMS], cwd=tmp_path)
    assert checked.returncode == 0
    file.write_bytes(b"abd")
    assert gpu_parts.main([str(tmp_path)]) == 1
    assert "a.whl is not the file that was packed" in capsys.readouterr().err
    file.unlink()
    with pytest.raises(ValueError, match="a.whl is missing"):
        gpu_parts.check_sums(tmp_path)


def test_all_wheels_are_packed_or_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no wheel of yacs>=0.1.8, termcolor"):
        gpu_pack.needed_wheels(tmp_path)
    for module, _, _ in gpu_pack.NEEDED:
        for version in ("1.0", "1.1"):
            (tmp_path / f"{gpu_pack.FILES.get(module, module)}-{version}-any.whl").touch()
    found = [path.name for path in gpu_pack.needed_wheels(tmp_path)]
    assert len(found) == len(gpu_pack.NEEDED) and all("-1.1-" in name for name in found)


def test_half_precision_changes_features_a_little(tmp_path):
    backbone = compare_half.build_model(tiny_config()).encoder.backbone
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    state = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    compare_half.write_whole(whole, compare_half.save(state))
    compare_half.write_half(state, half)
    assert all(tensor.dtype == torch.float16 for tensor in load_file(half).values())
    picture = tmp_path / "picture.png"
    pixels = torch.randint(0, 256, (90, 112, 3), generator=torch.Generator().manual_seed(0))
    Image.fromarray(pixels.byte().numpy()).save(picture)
    cfg = tiny_config("MODEL.BACKBONE.WEIGHTS", str(whole), "MODEL.TIMM.BLOCKS", (0,))
    assert compare_half.changes(cfg, whole, [picture]).tolist() == [[0.0]]
    found = compare_half.changes(cfg, half, [picture, picture])
    assert found.shape == (2, 1) and 1e-6 < found.max() < 2e-3
    with pytest.raises(ValueError, match="patch.bias does not fit half"):
        compare_half.write_half({**state, "patch.bias": state["patch.bias"] + 1e6}, half)


def test_scenes_are_made_without_the_packages(tmp_path, monkeypatch):
    monkeypatch.delenv("SEGIC_D2_CACHE", raising=False)
    made = gpu_pack.pack_toy(tmp_path / "pack")
    assert made[0].startswith("checkout: ") and made[2].startswith("part2: 0.")
    part = tmp_path / "pack/part2"
    objects = read_objects(part / "objects.csv")
    backgrounds = read_backgrounds(part / "backgrounds.csv")
    assert (objects, backgrounds) == make_sources(tmp_path / "again")
    sizes = {"train": 4, "choice_train": 2}
    gpu_scenes.make_scenes(part, tmp_path / "data", sizes, processes=1)
    assert len(list((tmp_path / "data/choice_train/images").iterdir())) == 2
    data = json.loads((tmp_path / "data/train/instances.json").read_text())
    assert len(data["images"]) == 4 and len(data["annotations"]) >= 8
    assert "SEGIC_D2_CACHE" not in os.environ
    gpu_scenes.prepared_background(backgrounds[0], next(part.glob("comp*"))).unlink()
    with pytest.raises(FileNotFoundError, match="no source file .*sources"):
        gpu_scenes.make_scenes(part, tmp_path / "other", sizes, processes=1)


def checkpoint(path, iteration, average=True):
    """A checkpoint whose only weight is its number of iterations, its average that plus a half."""
    done = float(iteration + 1)
    hooks = {"AverageHook": {"average": {"sem_seg_head.w": torch.tensor([done + 0.5])}}}
    model = {"sem_seg_head.w": torch.tensor([done])}
    torch.save({"model": model, "iteration": iteration, "trainer": {"hooks": hooks}}, path)


def test_weights_of_a_training_that_the_clock_stopped(tmp_path):
    folder, out = tmp_path / "work/runs/decoder", tmp_path / "out"
    folder.mkdir(parents=True)
    out.mkdir()
    (folder / "config.yaml").write_text("SOLVER: {IMS_PER_BATCH: 8}\n")
    lines = [{"iteration": n, "total_loss": 1.0, "samples_per_second": n} for n in (10, 20, 60)]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for done in range(10, 81, 10):
        checkpoint(folder / f"model_{done - 1:07d}.pth", done - 1)
    found = gpu_train.collect(["decoder", "other"], tmp_path / "work", out)
    assert found["other"] == {"samples": 0, "weights": [], "error": "no checkpoint"}
    told = found["decoder"]
    assert told == {
        "samples": 640,
        "samples_per_second": 20,
        "weights": ["decoder.safetensors", "decoder-average.safetensors"],
    }
    weights = {path.stem: float(load_file(path)["sem_seg_head.w"]) for path in out.glob("*.saf*")}
    assert weights == {"decoder": 80, "decoder-average": 80.5}
    checkpoint(folder / "model_final.pth", 89)  # a run that came to its end
    found = gpu_train.collect(["decoder"], tmp_path / "work", out)
    weights = {path.stem: float(load_file(path)["sem_seg_head.w"]) for path in out.glob("*.saf*")}
    spread = {"decoder-average-160": 20.5, "decoder-average-320": 40.5, "decoder-average-560": 70.5}
    assert weights == {"decoder": 80, "decoder-average": 90.5, **spread}
    assert sorted(found["decoder"]["weights"]) == sorted(f"{name}.safetensors" for name in weights)
    assert len(list(out.iterdir())) + 1 == gpu_train.FILES  # and the summary


def test_weights_that_a_training_writes_itself_are_copied(tmp_path):
    folder, out = tmp_path / "work/runs/choice", tmp_path / "out"
    folder.mkdir(parents=True)
    out.mkdir()
    (folder / "metrics.json").write_text('{"iteration": 1, "total_loss": 2.0}\n')
    for number in range(7):
        (folder / f"w{number}.safetensors").write_bytes(bytes([number]))
    told = gpu_train.collect(["choice"], tmp_path / "work", out)["choice"]
    names = [f"choice-w{number}.safetensors" for number in range(5)]
    assert told == {"samples": 0, "weights": names}
    assert (out / names[4]).read_bytes() == bytes([4])
    assert len(list(out.iterdir())) == gpu_train.FILES - 1


def test_the_command_of_a_training(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", "")
    words = ("train.py", "{run}/cache", "--config-file", "{config}", "--seconds", "{seconds}")
    training = gpu_train.Training("choice", 0.25, (*words, "{opts}"))
    args = SimpleNamespace(config="a.yaml", work=tmp_path, minutes=4, toy=True)
    command = gpu_train.training_step(training, args).command
    expected = ["train.py", f"{tmp_path}/runs/choice/cache", "--config-file", "a.yaml"]
    assert command[:6] == [*expected, "--seconds", "60"]
    assert command[6:8] == ["MODEL.BACKBONE.WEIGHTS", f"{tmp_path}/backbone.safetensors"]
    assert os.environ["DETECTRON2_DATASETS"] == f"{tmp_path}/data"
    assert (tmp_path / "runs/choice").is_dir()


def test_shares_fill_the_minutes_and_the_call_has_time_for_them():
    assert sum(training.share for training in gpu_train.TRAININGS) == pytest.approx(1)
    assert gpu_train.SCENES + 6 * 60 + gpu_train.AFTER <= gpu_train.SECONDS < 600
