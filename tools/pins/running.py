"""``train_net.main`` of the checkout in this process, or in two of them, and what it reports."""

import json
import math
from pathlib import Path

from detectron2.engine import default_argument_parser, launch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

import train_net  # the checkout's own
from segic_d2 import load_config

from . import layout, toys

TINY = {  # a random ViT of one block and a small decoder, on a canvas of 6×6 cells
    "MODEL.DEVICE": "cpu",
    "MODEL.TIMM.NAME": toys.BACKBONE,
    "MODEL.TIMM.BLOCKS": "(0,)",
    "INPUT.CANVAS": 96,
    "MODEL.SEGIC.META": False,
    "MODEL.SEGIC.DECODER.WIDTH": 32,
    "MODEL.SEGIC.DECODER.MLP": 64,
    "MODEL.SEGIC.LOSS.NUM_POINTS": 256,
    "DATALOADER.NUM_WORKERS": 0,
}
TEXT = {
    "MODEL.SEGIC.META": True,
    "MODEL.SEGIC.TEXT.NAME": "table",
    "MODEL.SEGIC.TEXT.DIM": toys.TEXT_DIM,
}


def has_key(cfg, key: str) -> bool:
    """Whether a config has a key "A.B"."""
    for word in key.split("."):
        if not hasattr(cfg, word):
            return False
        cfg = getattr(cfg, word)
    return True


def flat(options: dict) -> list[str]:
    """KEY VALUE pairs for the command line, as this checkout names the keys.

    Raises:
        KeyError: it lacks a key that ``layout.KEYS`` does not know.
    """
    cfg, out = load_config(), []
    for key, value in options.items():
        if not has_key(cfg, key):
            if key not in layout.KEYS:
                raise KeyError(f"this checkout has no key {key}: tools/pins/layout.py names none")
            if layout.KEYS[key] is None:
                continue
            key = layout.KEYS[key]
        out += [key, str(value)]
    return out


def complete(config: str, options: dict, files: Path) -> dict:
    """The options of a toy, with its files of weights and of texts, which are written first."""
    options = {**TINY, **options, "MODEL.BACKBONE.WEIGHTS": toys.backbone_file(files)}
    if options["MODEL.SEGIC.META"]:
        options = {**options, **TEXT, "MODEL.SEGIC.TEXT.TABLE": toys.text_file(files)}
    cfg = load_config(config, flat(options))
    name = Path(config).stem + ("_text" if options["MODEL.SEGIC.META"] else "")
    return {**options, "MODEL.WEIGHTS": toys.head_file(cfg, files / "heads" / f"{name}.pth")}


def run(config: str, options: dict, *flags: str):
    """What ``train_net.main`` returns."""
    argv = ["--config-file", config, *flags, *flat(options)]
    return train_net.main(default_argument_parser().parse_args(argv))


def train(config: str, options: dict, target: str) -> None:
    """Train, and write every iteration's losses and rate to a JSON file {name: [values]}."""
    found, put = {}, EventStorage.put_scalar

    def watch(self, name, value, *args, **kwargs):
        if "loss" in name or name == "lr":
            found.setdefault(name, []).append(float(value))
        return put(self, name, value, *args, **kwargs)

    EventStorage.put_scalar = watch
    try:
        run(config, options)
    finally:
        EventStorage.put_scalar = put
    if comm.is_main_process():
        Path(target).write_text(json.dumps(found))


def train_all(jobs: list[tuple]) -> None:
    """Several trainings, one after the other: what each of two processes does."""
    for job in jobs:
        train(*job)


def train_in(processes: int, jobs: list[tuple]) -> None:
    """Several trainings in so many processes (gloo), as ``train_net.py --num-gpus`` starts them."""
    launch(train_all, processes, dist_url="auto", args=(jobs,))


def figures(results: dict) -> dict[str, float]:
    """{"dataset/task/metric": value} of what an evaluation returns, without what is undefined."""
    found = {}

    def walk(prefix, content):
        for key, value in content.items():
            name = f"{prefix}/{layout.renamed(str(key), layout.METRICS)}".lstrip("/")
            if isinstance(value, dict):
                walk(name, value)
            elif isinstance(value, str):
                found[name] = value
            elif not math.isnan(value):  # a class that does not occur
                whole = isinstance(value, int) or type(value).__name__.startswith("int")
                found[name] = int(value) if whole else float(value)

    walk("", results)
    return found
