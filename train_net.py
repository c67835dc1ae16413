#!/usr/bin/env python
"""Train and evaluate SegIC, as every Detectron2 project:

python train_net.py --config-file configs/segic_shapes_S.yaml --num-gpus 1 \\
    [--resume] [--eval-only] [KEY VALUE …]
"""

import logging
import sys

from detectron2.engine import default_argument_parser, default_setup, launch
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from segic_d2.checkpoint import SegICCheckpointer
from segic_d2.config import check_config, load_config
from segic_d2.engine import EpisodeTrainer, find_evaluations, find_missing
from segic_d2.utils.devices import is_available


class Trainer(EpisodeTrainer):
    """The trainer of this project; override its class methods to change a part."""


def setup(args):
    """The frozen config of a run; without a GPU it falls back to the CPU."""
    cfg = load_config(args.config_file, args.opts)
    if not is_available(cfg.MODEL.DEVICE):
        cfg.MODEL.DEVICE = "cpu"
    cfg.freeze()
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="segic_d2")
    return cfg


def main(args):
    cfg = setup(args)
    if args.eval_only:
        model = Trainer.build_model(cfg)
        if not (cfg.MODEL.WEIGHTS or args.resume) and getattr(model, "needs_weights", True):
            logging.getLogger("segic_d2").warning("MODEL.WEIGHTS is empty: the decoder is random")
        SegICCheckpointer(model, cfg.OUTPUT_DIR, complete=True).resume_or_load(
            cfg.MODEL.WEIGHTS, resume=args.resume
        )
        return Trainer.test(cfg, model)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def parse_args(argv=None):
    """Detectron2's flags; on one machine every run finds a free port of its own."""
    parser = default_argument_parser()
    parser.set_defaults(dist_url="auto")
    return parser.parse_args(argv)


def require(args):
    """End with one line for each thing that is wrong or missing, before any process starts."""
    problems = []
    if args.num_machines > 1 and args.dist_url == "auto":
        problems += [
            f"--num-machines {args.num_machines} needs --dist-url tcp://HOST:PORT, a free port of "
            "the machine of rank 0, the same for all machines"
        ]
    try:
        cfg = load_config(args.config_file, args.opts)
        check_config(cfg, "MODEL", "INPUT", "DATASETS", "SOLVER", "MODEL_EMA", "TEST")
        find_evaluations(cfg)
        problems += find_missing(cfg, training=not args.eval_only, resume=args.resume)
    except (FileNotFoundError, ValueError) as error:  # of a config that cannot be read on
        problems += [str(error)]
    if problems:
        sys.exit("\n".join(f"error: {problem}" for problem in problems))


if __name__ == "__main__":
    args = parse_args()
    require(args)
    launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
