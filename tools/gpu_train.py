"""The steps of gpu_train.sh train: scenes, training by the clock, weights, curve and log.

    python tools/gpu_train.py [CONFIG] --pack FOLDER --work FOLDER [--minutes 6] [--toy]

Every step is a process with a time limit, as in gpu_check.py. A training that is stopped by the
clock leaves the checkpoints that it wrote every ``SAMPLES`` samples; their weights are taken. What
is found goes into $OUT, at most ``FILES`` files, and summary.json grows with every step.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

import export_weights
import plot_training
from gpu_check import ROOT, Step, run_step
from segic_d2.utils.devices import best_device, device_name
from segic_d2.utils.files import write_whole

SAMPLES = 800  # between checkpoints: seconds on a GPU
SECONDS, AFTER = 570, 25  # for the whole call; of them for what comes after the trainings
SCENES = 150  # seconds for the scenes at most
FILES = 8  # that come back
WEIGHTS = FILES - 3  # besides summary, curve and log
TOY = (  # what makes a training small, all else as it is
    *("INPUT.CANVAS", 112, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_SAMPLES", 48),
    *("SOLVER.CHECKPOINT_SAMPLES", 16, "MODEL.SEGIC.SIMILARITY.MEAN_IMAGES", 8),
    *("MODEL.SEGIC.LOSS.NUM_POINTS", 256),
)


@dataclass(frozen=True)
class Training:
    """A training: its name, its share of the minutes, and the command.

    {config}, {run} and {seconds} in it stand for the config file, for a folder of its own and for
    the time that it has; the word {opts} for config keys. What it leaves in {run} is taken:
    checkpoints as train_net.py writes them, or weights as *.safetensors; metrics.json, log.txt and
    config.yaml, as far as there are any. It may be stopped at any time, and then has what it wrote
    by then. Scenes lie where DETECTRON2_DATASETS says.
    """

    name: str
    share: float
    command: tuple


# every further training is a row here; what one leaves of its share is for those after it
TRAININGS = (
    Training(
        "decoder",
        1.0,
        ("train_net.py", "--config-file", "{config}", "OUTPUT_DIR", "{run}", "{opts}"),
    ),
)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("config", nargs="?", default="configs/segic_stamps_S.yaml")
    parser.add_argument("--pack", type=Path, required=True, help="folder with part2")
    parser.add_argument("--work", type=Path, required=True, help="folder with backbone.safetensors")
    parser.add_argument("--minutes", type=float, default=6, help="of training, all together")
    parser.add_argument("--scenes", type=int, help="number of scenes of a split")
    parser.add_argument("--toy", action="store_true", help="on the CPU, at toy size")
    args = parser.parse_args(argv)
    started = float(os.environ.get("GPU_TRAIN_STARTED") or time.time())
    if best_device() == "cpu" and not args.toy:
        sys.exit("error: torch finds no GPU here; --dry-run runs on a CPU")
    if not (args.work / "backbone.safetensors").is_file():
        sys.exit(f"error: no backbone in {args.work}; bash tools/gpu_train.sh unpack puts it there")
    out = Path(os.environ.get("OUT") or args.work / "out")
    out.mkdir(parents=True, exist_ok=True)
    summary = {
        "dry_run": args.toy,
        "config": args.config,
        "device": "cpu" if args.toy else device_name(best_device()),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "steps": {},
        "trainings": {},
    }

    def save():
        summary["seconds"] = round(time.time() - started, 1)
        write_whole(out / "summary.json", json.dumps(summary, indent=1))

    shutil.rmtree(args.work / "runs", ignore_errors=True)
    scenes = scene_step(args)
    done = run(scenes, SCENES, summary, save)
    steps = []
    end, trained = started + SECONDS - AFTER, time.time()
    for training in TRAININGS if done else ():
        trained += 60 * args.minutes * training.share
        step = training_step(training, args)
        run(step, min(trained, end) - time.time(), summary, save)
        steps.append(step)
    with timed(summary, "export"):
        summary["trainings"] = collect([t.name for t in TRAININGS], args.work, out)
    save()
    for name, found in summary["trainings"].items():
        print(f"{name}: {found}")
    print(f"{summary['seconds']:.0f} s, {out}")
    missing = [name for name, found in summary["trainings"].items() if not found["weights"]]
    if missing or not done:
        print("\n".join(line for s in (scenes, *steps) for line in s.tail), file=sys.stderr)
    return int(bool(missing) or not done)


def scene_step(args):
    """The step that writes the scenes, into a new folder."""
    shutil.rmtree(args.work / "data", ignore_errors=True)
    place = str(args.work / "data/composites")
    command = [str(ROOT / "tools/gpu_scenes.py"), str(args.pack / "part2"), place]
    command += [] if args.scenes is None else ["--scenes", str(args.scenes)]
    return Step("scenes", "scenes from cut-outs and backgrounds", 0, command)


def training_step(training, args):
    """The step of a training, without any evaluation."""
    place = args.work.resolve()
    run_folder = place / "runs" / training.name
    os.environ["DETECTRON2_DATASETS"] = str(place / "data")
    opts = (
        *("MODEL.BACKBONE.WEIGHTS", place / "backbone.safetensors", "DATASETS.TEST", "()"),
        *("MODEL.DEVICE", "cpu" if args.toy else best_device()),
        *("INPUT.FEATURE_CACHE.DIR", place / "features", "SOLVER.CHECKPOINT_SAMPLES", SAMPLES),
        *("DATALOADER.NUM_WORKERS", 0 if args.toy else min(12, os.cpu_count() or 1)),
        *(TOY if args.toy else ()),
    )
    words = {"{config}": args.config, "{run}": run_folder}
    words["{seconds}"] = int(60 * args.minutes * training.share)
    command = []
    for part in training.command:
        for word, value in words.items():
            part = part.replace(word, str(value))
        command += map(str, opts) if part == "{opts}" else [part]
    run_folder.mkdir(parents=True)
    return Step(training.name, "training", training.share, command)


def run(step, limit, summary, save):
    """Run a step; its seconds and status go into the summary. Whether it ended well by itself."""
    run_step(step, limit, save)
    summary["steps"][step.name] = {"seconds": step.seconds, "status": step.status}
    if step.tail:
        summary["steps"][step.name]["tail"] = step.tail
    save()
    print(f"{step.name}: {step.status}, {step.seconds:.0f} s", flush=True)
    return step.status == "ok"


@contextlib.contextmanager
def timed(summary, name):
    """Note how long something takes."""
    begin = time.time()
    yield
    summary["steps"][name] = {"seconds": round(time.time() - begin, 1), "status": "ok"}


def collect(names, work, out):
    """Write what trainings left into ``out``, flat: weights, one curve and one log.

    Of each training there are the last weights on the way, NAME.safetensors, and the moving average
    at its end, NAME-average.safetensors; then, as long as there is room for files, averages on the
    way, evenly spread, NAME-average-SAMPLES.safetensors.

    Returns:
        {name: dict of samples, samples_per_second, the weights' file names, and what went wrong}.
    """
    runs = {name: work / "runs" / name for name in names}
    room = WEIGHTS // max(len(runs), 1)
    found = {name: _weights(name, folder, out, room) for name, folder in runs.items()}
    logs = [(name, folder / "log.txt") for name, folder in runs.items()]
    write_whole(
        out / "log.txt",
        "".join(f"== {name}\n{log.read_text()}" for name, log in logs if log.is_file()),
    )
    drawn = {}
    for name, folder in runs.items():
        with contextlib.suppress(FileNotFoundError, ValueError):
            drawn[name] = lines = plot_training.read_metrics(folder)
            if speeds := [x["samples_per_second"] for x in lines if "samples_per_second" in x]:
                found[name]["samples_per_second"] = round(statistics.median(speeds), 1)
    if drawn:
        plot_training.draw(drawn, out / "curve.png")
    return found


def _weights(name, folder, out, room):
    """Write at most ``room`` files of weights of a training; what ``collect`` tells of it."""
    way, last = checkpoints(folder)
    told = {"samples": last * _batch(folder), "weights": []}
    for file in sorted(folder.glob("*.safetensors"))[:room]:
        told["weights"].append(f"{name}-{file.name}")
        shutil.copyfile(file, out / told["weights"][-1])
    if told["weights"]:
        return told
    if not last:
        return {**told, "error": "no checkpoint"}
    before = [n for n in way if n < last] or [last]
    spread = [last * part / (room - 1) for part in range(1, room - 1)]
    chosen = sorted({min(before, key=lambda n, at=at: abs(n - at)) for at in spread})
    wanted = [(name, max(before) if way[last].stem == "model_final" else last, False)]
    wanted += [(f"{name}-average", last, True)]
    wanted += [(f"{name}-average-{n * _batch(folder)}", n, True) for n in chosen]
    for stem, number, average in wanted:
        file = out / f"{stem}.safetensors"
        try:
            export_weights.main([str(way[number]), str(file), *(["--average"] if average else [])])
            told["weights"].append(file.name)
        except SystemExit as error:
            told["error"] = str(error)
    return told


def checkpoints(folder):
    """({iterations that are done: file}, the most of them or 0) of a run's folder. At the end of
    a run it is model_final, whose weights are the average already."""
    found = {}
    for path in sorted(folder.glob("model_*.pth")):
        if number := re.fullmatch(r"model_(\d+)", path.stem):
            found[int(number[1]) + 1] = path
        elif path.stem == "model_final":
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            found[loaded["iteration"] + 1] = path
    return found, max(found, default=0)


def _batch(folder):
    """Samples per iteration of a run."""
    path = folder / "config.yaml"
    return yaml.safe_load(path.read_text())["SOLVER"]["IMS_PER_BATCH"] if path.is_file() else 0


if __name__ == "__main__":
    sys.exit(main())
