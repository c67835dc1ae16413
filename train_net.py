#!/usr/bin/env python
"""Train and evaluate SegIC, as every Detectron2 project:

python train_net.py --config-file configs/segic_shapes_S.yaml --num-gpus 1 \\
    [--resume] [--eval-only] [KEY VALUE …]
"""

import logging
import sys

from detectron2.engine import default_argument_parser, default_setup, launch

from segic_d2.checkpoint import SegICCheckpointer
from segic_d2.config import check_config, load_config
from segic_d2.data import check_data
from segic_d2.engine import EpisodeTrainer, find_evaluations
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
    return cfg


def main(args):
    cfg = setup(args)
    if args.eval_only:
        model = Trainer.build_model(cfg)
        if not (cfg.MODEL.WEIGHTS or args.resume):
            logging.getLogger("segic_d2").warning("MODEL.WEIGHTS is empty: the decoder is random")
        SegICCheckpointer(model, cfg.OUTPUT_DIR, complete=True).resume_or_load(
            cfg.MODEL.WEIGHTS, resume=args.resume
        )
        return Trainer.test(cfg, model)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def require_data(args):
    """End with one line where a key is out of its range or the files of a dataset are missing,
    before any process starts."""
    try:
        cfg = load_config(args.config_file, args.opts)
        check_config(cfg, "MODEL", "INPUT", "DATASETS", "SOLVER", "MODEL_EMA", "TEST")
        find_evaluations(cfg)
        check_data(cfg, training=not args.eval_only)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    args = default_argument_parser().parse_args()
    require_data(args)
    launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
