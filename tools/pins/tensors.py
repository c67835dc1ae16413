"""Names and shapes of the tensors of the shipped file, of the models, of the official files."""

import hashlib
import json
from pathlib import Path

import torch
from detectron2.modeling import build_model
from safetensors import safe_open

from segic_d2 import InContextPredictor, load_config

from . import layout
from .recording import Recording

RANDOM = ["MODEL.BACKBONE.WEIGHTS", ""]


def record(checkout: Path, keys: Path | None, into: Recording, cheap: bool = False) -> None:
    """All parts.

    Args:
        keys: the file of official names and shapes, or None where it is not here.
    """
    for path in sorted((checkout / "segic_d2").rglob("*.safetensors")):
        into.add(f"tensors/file {path.name}", shapes_in(path))
    predictor = InContextPredictor.from_pretrained("segic-demo", device="cpu", opts=RANDOM)
    into.add("tensors/segic-demo", trained(predictor.model))
    configs = sorted((checkout / "configs").glob("segic_*.yaml"))
    configs += sorted((checkout / "configs/official").glob("*.yaml"))
    for path in configs:
        name = path.relative_to(checkout / "configs").as_posix()
        found = trained(on_meta(path))
        if cheap:  # the names are in the digest
            found = {"tensors": len(found), "digest": digest(found)}
        into.add(f"tensors/{name}", found)
    part = "tensors/official names"
    if keys is None:
        into.skipped[part] = "no file of official names"
        return
    needed = official(keys)
    held = trained(on_meta(checkout / "configs/official/segic_dinov2_L.yaml"))
    held = {k.removeprefix("sem_seg_head."): v for k, v in held.items()}
    into.add(part, {"tensors": len(needed), "same as the model's": held == needed})


def on_meta(config: Path) -> torch.nn.Module:
    """The model of a config without its numbers."""
    cfg = load_config(str(config), ["MODEL.DEVICE", "meta", *RANDOM])
    with torch.device("meta"):
        return build_model(cfg)


def trained(model: torch.nn.Module) -> dict[str, str]:
    """{name: shape} of what a checkpoint of a model holds."""
    return {
        layout.renamed(k, layout.TENSORS): str(tuple(v.shape))
        for k, v in sorted(model.state_dict().items())
        if layout.is_trained(k)
    }


def shapes_in(path: Path) -> dict[str, str]:
    """{name: dtype and shape} of a .safetensors file, and the hash of its bytes."""
    with safe_open(str(path), "pt") as file:
        found = {}
        for name in sorted(file.keys()):
            part = file.get_slice(name)
            found[name] = f"{part.get_dtype()} {tuple(part.get_shape())}"
    return {**found, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def digest(found: dict[str, str]) -> str:
    """A hash of names and shapes."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


def official(keys: Path) -> dict[str, str]:
    """{name: shape} of a file of lines "name [shape] dtype"."""
    found = {}
    for line in keys.read_text().splitlines():
        if line and not line.startswith("#"):
            name, shape, _ = line.split("\t")
            found[name] = str(tuple(json.loads(shape)))
    return found
