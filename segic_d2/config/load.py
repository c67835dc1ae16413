"""How a config is found by name, read and overridden."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg

from .keys import IN_ITERATIONS, add_segic_config


def get_config_file(name: str | os.PathLike[str]) -> str:
    """Path of a config that ships with segic_d2, e.g. ``"segic_demo.yaml"``.

    Found inside the installed package or, in a checkout, in its ``configs/`` folder.

    Raises:
        FileNotFoundError: naming the config and the folder that was searched.
    """
    package = Path(__file__).resolve().parents[1]
    for root in (package / "configs", package.parent / "configs"):
        if (root / name).is_file():
            return str(root / name)
    raise FileNotFoundError(f"no config {name!r} in {package / 'configs'} or beside the package")


def load_config(file: str | os.PathLike[str] = "", opts: Sequence[Any] = ()) -> CfgNode:
    """A Detectron2 config with segic_d2's keys, merged from a file or shipped name and options.

    Args:
        file: path of a YAML file, or the name of a shipped config, or "" for the defaults.
        opts: flat KEY VALUE pairs, as on Detectron2's command line.

    Raises:
        FileNotFoundError: no such config.
        ValueError: naming an unknown key, or a value of another type in opts.
    """
    cfg = get_cfg()
    add_segic_config(cfg)
    if file:
        try:
            cfg.merge_from_file(file if Path(file).is_file() else get_config_file(file))
        except KeyError as error:  # yacs: an unknown key, such as one of an older version
            raise ValueError(f"{file}: {error.args[0]}; CHANGELOG.md lists what went") from error
    merge_options(cfg, opts)
    return cfg


def merge_options(cfg: CfgNode, opts: Sequence[Any]) -> None:
    """Set KEY VALUE pairs in a config; ValueError names what does not fit.

    A schedule given here in iterations takes the place of the config's in samples, and the other
    way round.
    """
    opts = list(opts)
    try:
        cfg.merge_from_list(opts)
    except AssertionError as error:  # yacs: an unknown key, or a key without a value
        raise ValueError(str(error)) from error
    for samples, iterations in IN_ITERATIONS.items():
        given = [f"SOLVER.{key}" in opts[::2] for key in (samples, iterations)]
        if given == [False, True]:
            cfg.SOLVER[samples] = type(cfg.SOLVER[samples])()
        elif given == [True, False] and cfg.SOLVER[samples]:
            cfg.SOLVER[iterations] = type(cfg.SOLVER[iterations])()
