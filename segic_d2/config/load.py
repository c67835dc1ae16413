"""How a config is found by name, read and overridden."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode, get_cfg

from .keys import IN_ITERATIONS, add_segic_config

MOST = 100_000  # values in a config file, all that its aliases repeat counted


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
        ValueError: naming an unknown key, a value of another type in opts, or what keeps the file
            or one of its ``_BASE_`` from being read, such as a YAML tag that would run code.
    """
    cfg = get_cfg()
    add_segic_config(cfg)
    if file:
        path = str(file if Path(file).is_file() else get_config_file(file))
        _check_file(path)
        try:
            cfg.merge_from_file(path, allow_unsafe=False)
        except KeyError as error:  # yacs: an unknown key, such as one of an older version
            raise ValueError(f"{file}: {error.args[0]}; CHANGELOG.md lists what went") from error
        except (ValueError, AssertionError, TypeError, AttributeError) as error:  # another kind
            raise ValueError(f"{file}: {error}") from error
    merge_options(cfg, opts)
    return cfg


def _check_file(path: str) -> None:
    """Raise ValueError where a file and its ``_BASE_`` are not plain, finite YAML. Detectron2's
    loader would let them make any Python object."""
    try:
        found = CfgNode.load_yaml_with_base(path, allow_unsafe=False)
        if not isinstance(found, dict):
            raise ValueError(f"{path}: a config holds KEY: VALUE lines, not a {_kind(found)}")
        if _count(found, {}) > MOST:
            raise ValueError(f"{path}: it holds more than {MOST:,} values, aliases repeated")
    except yaml.constructor.ConstructorError as error:
        raise ValueError(
            f"{_place(error, path)}: {error.problem}; a config holds plain values alone"
        ) from error
    except yaml.YAMLError as error:
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ValueError(f"{_place(error, path)}: no YAML: {reason}") from error
    except RecursionError:
        raise ValueError(
            f"{path}: it is its own _BASE_, by itself or by others, or nested too deep"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: it is no UTF-8 text: {error}") from error
    except (AssertionError, AttributeError, TypeError) as error:  # what is no mapping, no path
        raise ValueError(f"{path}: it or its _BASE_ is no config: {error}") from error


def _place(error: yaml.YAMLError, path: str) -> str:
    """File and line of an error, of whichever file is meant."""
    mark = getattr(error, "problem_mark", None)
    return f"{mark.name}, line {mark.line + 1}" if mark else path


def _kind(found: object) -> str:
    return "nothing at all" if found is None else type(found).__name__


def _count(value: object, counted: dict[int, int]) -> int:
    """How many values there are in one, those of aliases as often as they are repeated."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in counted:
        parts = value.values() if isinstance(value, dict) else value
        counted[id(value)] = 1 + sum(_count(part, counted) for part in parts)
    return counted[id(value)]


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
