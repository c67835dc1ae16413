"""Where the weights of a frozen backbone come from, and whether they can be had from there."""

import os

import timm
import torch
from detectron2.config import CfgNode
from timm.models import get_pretrained_cfg

from ...checkpoint.files import KEY, fetch
from ...utils.remote import missing_on_hub, unreachable
from .diffusion_backbone import check_pipeline

RANDOM = "random"
OWN = {"build_diffusion_backbone": check_pipeline}  # builders that never are without weights
_FILES = ("model.safetensors", "pytorch_model.bin")  # of timm in a repository of the hub


def check_backbone_weights(cfg: CfgNode) -> None:
    """Make sure that what ``MODEL.BACKBONE.WEIGHTS`` names is, or can be brought, on this machine.
    It ends within seconds where there is no network; a single file is downloaded here.

    Raises:
        FileNotFoundError: it cannot be had; says the key to set.
        ValueError: the key is empty, or the hub has no such weights.
        ImportError: a package is missing that the backbone needs.
    """
    weights, own = cfg.MODEL.BACKBONE.WEIGHTS, OWN.get(cfg.MODEL.BACKBONE.NAME)
    if own and not weights:
        own(cfg.MODEL.DIFFUSION.NAME)
    elif not weights:
        raise ValueError(
            f"{KEY} is empty, so that the frozen backbone would be random: set it to a file, a "
            f"URL, 'embedded' or 'timm', or to {RANDOM!r} where that is meant"
        )
    elif weights == "timm" or weights.startswith("timm:"):
        timm_hub_name(cfg.MODEL.TIMM.NAME, weights.partition(":")[2])
    elif weights == "embedded":
        from .embedded import embedded_weights  # which is also run as a script

        embedded_weights()
    elif weights != RANDOM:
        fetch(weights)


def timm_hub_name(name: str, tag: str = "") -> str:
    """The full name of a timm model's weights on its hub.

    Args:
        name: the model, with or without a tag of its own. tag: one that takes its place.

    Raises:
        FileNotFoundError: they are not on this machine, and the hub cannot be reached.
        ValueError: timm has no such weights; lists the tags.
    """
    source = f"{KEY} {'timm:' + tag if tag else 'timm'!r}"
    architecture = name.partition(".")[0]
    known = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if not known or (tag and tag not in known):
        raise ValueError(
            f"{source}: timm has no such weights for {architecture}; "
            f"tags: {', '.join(known) or 'none'}"
        )
    name = f"{architecture}.{tag}" if tag else name
    found, reason = get_pretrained_cfg(name), ""
    if found and found.hf_hub_id:
        files = [found.hf_hub_filename] if found.hf_hub_filename else _FILES
        reason = missing_on_hub(found.hf_hub_id.partition("@")[0], files)
    elif found and found.url:
        kept = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(found.url))
        reason = "" if os.path.isfile(kept) else unreachable(found.url)
    if reason:
        raise not_fetched(source, name, reason)
    return name


def not_fetched(source: str, name: str, reason: str) -> FileNotFoundError:
    """The error of weights that cannot be had, with what to do about it."""
    return FileNotFoundError(
        f"{source}: could not fetch {name} from its hub ({reason}); place the file on this machine "
        f"and set {KEY} to its path"
    )
