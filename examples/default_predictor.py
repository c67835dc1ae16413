"""Detectron2's DefaultPredictor and Visualizer, by one example: segment a picture of any size.

    python default_predictor.py [OUT.png]

One coin of a photograph of scikit-image is the example. Prints the share of the picture that is
found to be coins (24 of them cover about a third), and paints it.
"""

import sys

import numpy as np
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.utils.visualizer import ColorMode, Visualizer
from skimage.data import coins

import segic_d2

CONTEXT = "coins.safetensors"


def main(out="coins.png"):
    picture = np.stack([coins()] * 3, -1)  # (303, 384, 3), BGR for Detectron2
    y, x = np.ogrid[: picture.shape[0], : picture.shape[1]]
    coin = (y - 193) ** 2 + (x - 213) ** 2 < 23.5**2

    references = segic_d2.InContextPredictor.from_pretrained("segic-demo", device="cpu")
    references.set_references([(picture[:, :, ::-1], coin, "coin")])
    references.save_context(CONTEXT)

    cfg = get_cfg()
    segic_d2.add_segic_config(cfg)
    cfg.merge_from_file(segic_d2.get_config_file("segic_demo.yaml"))
    cfg.MODEL.DEVICE, cfg.MODEL.SEGIC.CONTEXT = "cpu", CONTEXT
    cfg.DATASETS.TEST = ("coins",)
    about = MetadataCatalog.get("coins").set(thing_classes=["coin"], thing_colors=[(255, 96, 0)])

    found = DefaultPredictor(cfg)(picture)["instances"]
    painter = Visualizer(picture[:, :, ::-1], about, instance_mode=ColorMode.SEGMENTATION)
    painter.draw_instance_predictions(found).save(out)
    print(f"coins {100 * found.pred_masks.any(0).float().mean():.1f} %")


if __name__ == "__main__":
    main(*sys.argv[1:])
