#!/usr/bin/env python
"""Runs the whole path in minutes on a CPU.

It segments real photographs with what ships (``real_*.jpg``). Then it trains a small decoder on the
embedded data, measures and draws. It ends with one-shot mIoU on novel classes before and after
training (Detectron2's tables). Pictures and ``results.json`` are in ``output/demo/``.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from detectron2.engine import default_setup
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset, print_csv_format
from PIL import Image

from segic_d2 import InContextPredictor, load_config
from segic_d2.data import build_one_shot_loader
from segic_d2.engine import EpisodeTrainer
from segic_d2.evaluation import BestThresholdEvaluator, OneShotEvaluator
from segic_d2.utils.devices import is_available
from segic_d2.utils.files import write_whole
from segic_d2.utils.visualizer import save_image

sys.path.insert(0, str(Path(__file__).resolve().parent))
from real_photographs import (  # noqa: E402
    SEAT,
    draw,
    drawn_mask,
    one_coin,
    photograph,
    segment_photographs,
)


class WithPropagatedMask(torch.nn.Module):
    """A model that also returns its propagated masks."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        return self.model.inference(batch, outputs=("masks", "propagated_mask"))


def evaluate(cfg, model):
    """Measure the one-shot mIoU of the decoder and of the best threshold, in percent."""
    name = cfg.DATASETS.TEST[0]
    evaluators = DatasetEvaluators([OneShotEvaluator(name), BestThresholdEvaluator(name)])
    loader = build_one_shot_loader(cfg, name)
    results = inference_on_dataset(WithPropagatedMask(model), loader, evaluators)
    print_csv_format(results)
    return results["one_shot"]["mIoU"], results["propagated_mask"]["mIoU"]


def draw_episodes(cfg, predictor, folder, count):
    """Draw panels of the first test episodes."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.EPISODES, cfg.TEST.BATCH_SIZE = count, 1
    for (episode,) in build_one_shot_loader(cfg, cfg.DATASETS.TEST[0]):
        shown = episode["references"][0]
        target = np.asarray(Image.open(episode["file_name"]).convert("RGB"))
        sheet = draw(
            predictor,
            shown["image"].permute(1, 2, 0).numpy(),
            shown["masks"][0].numpy() > 0.5,
            target,
            episode["gt_masks"],
        )
        name = episode["entities"][0]["name"].replace(" ", "_")
        save_image(folder / f"novel_{episode['episode']}_{name}.jpg", sheet)


def draw_photographs(predictor, folder):
    """Draw photographs: one coin finds the coins, a seat is found in the other stereo picture."""
    coins, coin = one_coin()
    save_image(folder / "photo_coins.jpg", draw(predictor, coins, coin, coins))
    left, right = photograph("motorcycle_left.png"), photograph("motorcycle_right.png")
    seat = drawn_mask(left, lambda d: d.polygon(SEAT, fill=1))
    save_image(folder / "photo_motorcycle.jpg", draw(predictor, left, seat, right))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", default="segic_shapes_S.yaml")
    parser.add_argument("--output", default="output/demo")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE … of the config")
    args = parser.parse_args(argv)
    started = time.perf_counter()
    folder = Path(args.output)
    cfg = load_config(args.config_file, ["OUTPUT_DIR", str(folder), *args.opts])
    if not is_available(cfg.MODEL.DEVICE):
        cfg.MODEL.DEVICE = "cpu"
    cfg.freeze()
    folder.mkdir(parents=True, exist_ok=True)

    shipped = InContextPredictor.from_pretrained("segic-demo", device=cfg.MODEL.DEVICE)
    seconds = segment_photographs(shipped, folder)
    print(f"Real photographs, one reference each: {seconds:.0f} s, {folder}/real_*.jpg", flush=True)

    # seeds only now, so that the training is that of train_net.py whatever ran before
    default_setup(cfg, argparse.Namespace(config_file="", eval_only=False))
    trainer = EpisodeTrainer(cfg)
    model = getattr(trainer.model, "module", trainer.model)
    print("Novel classes, before training:", flush=True)
    untrained, threshold = evaluate(cfg, model)
    trainer.train()
    print("Novel classes, after training:", flush=True)
    trained, _ = evaluate(cfg, model)
    predictor = InContextPredictor.from_model(model)
    draw_episodes(cfg, predictor, folder, 6)
    draw_photographs(predictor, folder)
    results = {
        "miou_untrained": untrained,
        "miou_trained": trained,
        "miou_propagated_mask": threshold,
        "seconds_photographs": seconds,
        "seconds": time.perf_counter() - started,
    }
    write_whole(folder / "results.json", json.dumps(results, indent=1) + "\n")
    print(
        f"one-shot mIoU on novel classes: {untrained:.1f} untrained, {threshold:.1f} by the best "
        f"threshold on the propagated mask, {trained:.1f} trained; {results['seconds']:.0f} s\n"
        f"pictures and results.json in {folder}/, trained weights in {folder}/model_final.pth"
    )
    return results


if __name__ == "__main__":
    main()
