#!/usr/bin/env python
"""Train and evaluate SegIC, as every Detectron2 project:

python train_net.py --config-file configs/segic_shapes_S.yaml --num-gpus 1 \\
    [--resume] [--eval-only] [KEY VALUE …]
"""

import sys

from detectron2.engine import default_argument_parser, launch

from segic_d2.engine import EpisodeTrainer
from segic_d2.engine.run import find_problems, one_line_errors, run


class Trainer(EpisodeTrainer):
    """The trainer of this project; override its class methods to change a part."""


def main(args):
    return run(args, Trainer)


def parse_args(argv=None):
    """Detectron2's flags; on one machine every run finds a free port of its own."""
    parser = default_argument_parser()
    parser.set_defaults(dist_url="auto")
    return parser.parse_args(argv)


def require(args):
    """End with one line for each thing that is wrong or missing, before any process starts."""
    problems = find_problems(args)
    if problems:
        sys.exit("\n".join(f"error: {problem}" for problem in problems))


if __name__ == "__main__":
    args = parse_args()
    require(args)
    with one_line_errors():
        launch(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
