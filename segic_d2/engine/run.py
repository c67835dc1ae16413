"""A run from its command line: what it lacks, its config, and training or evaluation.

``args`` are those of Detectron2's ``default_argument_parser``.
"""

import argparse
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..checkpoint import SegICCheckpointer
from ..config.keys import check_config
from ..config.load import load_config
from ..utils.agreement import require_alike
from ..utils.claim import claim_output
from ..utils.devices import is_available
from .episode_trainer import EpisodeTrainer
from .evaluations import find_evaluations
from .requirements import find_missing


def find_problems(args: argparse.Namespace) -> list[str]:
    """A line for each thing that is wrong or missing, before any process starts."""
    problems = []
    if args.num_machines > 1 and args.dist_url == "auto":
        problems += [
            f"--num-machines {args.num_machines} needs --dist-url tcp://HOST:PORT, a free port of "
            "the machine of rank 0, the same for all machines"
        ]
    rank = getattr(args, "machine_rank", 0)
    if not 0 <= rank < args.num_machines:
        problems += [f"--machine-rank {rank} is not one of 0 to {args.num_machines - 1}"]
    try:
        cfg = load_config(args.config_file, args.opts)
        check_config(cfg, "MODEL", "INPUT", "DATASETS", "SOLVER", "MODEL_EMA", "TEST")
        find_evaluations(cfg)
        problems += find_missing(cfg, training=not args.eval_only, resume=args.resume)
        if os.path.lexists(cfg.OUTPUT_DIR) and not os.path.isdir(cfg.OUTPUT_DIR):
            problems += [f"OUTPUT_DIR is {cfg.OUTPUT_DIR!r}, which is there already and no folder"]
        if rank == 0 and os.path.isdir(cfg.OUTPUT_DIR):
            claim_output(cfg.OUTPUT_DIR).close()
    except (OSError, ValueError) as error:  # of a config that cannot be read on
        problems += [str(error)]
    return problems


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line where this package says what is wrong with data, files or keys:
    with a ValueError or OSError that it raises itself. All other errors keep their traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        raised = traceback.extract_tb(error.__traceback__)[-1].filename
        if not Path(raised).is_relative_to(Path(__file__).parents[1]):
            raise
        sys.exit(f"error: {' '.join(str(error).split())}")


def setup(args: argparse.Namespace) -> CfgNode:
    """The frozen config of a run, which is logged; without a GPU it falls back to the CPU."""
    cfg = load_config(args.config_file, args.opts)
    if not is_available(cfg.MODEL.DEVICE):
        cfg.MODEL.DEVICE = "cpu"
    cfg.freeze()
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="segic_d2")
    return cfg


def run(
    args: argparse.Namespace, trainer: type[EpisodeTrainer] = EpisodeTrainer
) -> OrderedDict[str, Any]:
    """Train, or evaluate with ``args.eval_only``; returns the results of ``trainer.test``.
    ValueError: another run has the same ``OUTPUT_DIR``. Processes of ``launch`` end with the one
    that started them, however it ends."""
    end_with_parent()
    folder = load_config(args.config_file, args.opts).OUTPUT_DIR
    main = comm.is_main_process() and folder
    with claim_output(folder) if main else contextlib.nullcontext():
        return _run(args, trainer)


def end_with_parent() -> None:
    """Let this process end when the one that started it by ``multiprocessing`` does. torch sends
    SIGINT then, which is ignored in background jobs of scripts."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=watch, daemon=True).start()


def _run(args: argparse.Namespace, trainer: type[EpisodeTrainer]) -> OrderedDict[str, Any]:
    require_alike({"--eval-only": args.eval_only})
    cfg = setup(args)
    if args.eval_only:
        model = trainer.build_model(cfg)
        if not (cfg.MODEL.WEIGHTS or args.resume) and getattr(model, "needs_weights", True):
            logging.getLogger("segic_d2").warning("MODEL.WEIGHTS is empty: the decoder is random")
        SegICCheckpointer(model, cfg.OUTPUT_DIR, complete=True).resume_or_load(
            cfg.MODEL.WEIGHTS, resume=args.resume
        )
        return trainer.test(cfg, model)
    training = trainer(cfg)
    training.resume_or_load(resume=args.resume)
    return training.train()
