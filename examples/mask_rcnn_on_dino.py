"""Detectron2's own Mask R-CNN, trainer, loader and evaluator over a frozen DINOv2 ViT-S/14 with a
pyramid: overfits 16 generated scenes. Prints the AP50 on them, of boxes and of masks.

    python examples/mask_rcnn_on_dino.py [OUTPUT_DIR]
"""

import sys

import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import COCOEvaluator
from detectron2.model_zoo import get_config_file
from detectron2.utils.env import seed_all_rng

import segic_d2

scenes, known = "shapes_16", MetadataCatalog.get("shapes_train_coco")
DatasetCatalog.register(scenes, lambda: DatasetCatalog.get("shapes_train_coco")[:16])
MetadataCatalog.get(scenes).set(thing_classes=known.thing_classes)

cfg = get_cfg()
segic_d2.add_segic_config(cfg)
cfg.merge_from_file(get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"))
model, heads = cfg.MODEL, cfg.MODEL.ROI_HEADS
model.BACKBONE.NAME, model.BACKBONE.WEIGHTS = "build_timm_fpn_backbone", "embedded"
model.TIMM.NAME, model.TIMM.STRIDE, model.TIMM.FROZEN = "vit_small_patch14_dinov2", 16, True
model.WEIGHTS, model.FPN.OUT_CHANNELS, heads.NUM_CLASSES = "", 64, len(known.thing_classes)
model.ROI_BOX_HEAD.FC_DIM, model.ROI_MASK_HEAD.CONV_DIM, model.ROI_MASK_HEAD.NUM_CONV = 256, 64, 2
heads.BATCH_SIZE_PER_IMAGE, model.RPN.PRE_NMS_TOPK_TRAIN = 64, 500
model.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
segic_d2.set_pixel_statistics(cfg)
cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (scenes,), (scenes,)
cfg.DATALOADER.NUM_WORKERS = 0
cfg.INPUT.MASK_FORMAT = "bitmask"
cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (224,), 224
cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER = 2, 0.02, 200
cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS = (160,), 20
cfg.OUTPUT_DIR = sys.argv[1] if len(sys.argv) > 1 else "output/mask_rcnn_on_dino"

seed_all_rng(0)
trainer = DefaultTrainer(cfg)
trainer.train()
evaluator = COCOEvaluator(scenes, output_dir=cfg.OUTPUT_DIR, use_fast_impl=False)
found = DefaultTrainer.test(cfg, trainer.model, evaluator)
boxes, masks = (found[kind]["AP50"] for kind in ("bbox", "segm"))
print(f"AP50 of boxes {boxes:.1f}, of masks {masks:.1f}")
