"""Detect your classes from one example each, scored by Detectron2's own COCOEvaluator.

    python coco_evaluator.py [DATASET]

DATASET is a registered COCO data set, by default the scenes that ship with segic_d2. The first
object of each class is its example. Prints the mask AP50.
"""

import sys

from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from detectron2.engine import DefaultPredictor
from detectron2.evaluation import COCOEvaluator, inference_on_dataset

import segic_d2


def main(dataset="shapes_novel_coco"):
    cfg = segic_d2.load_config("segic_demo.yaml")
    cfg.MODEL.DEVICE, cfg.DATALOADER.NUM_WORKERS = "cpu", 0
    cfg.INPUT.CANVAS = 224  # small, for a quick look
    cfg.DATASETS.TEST = (dataset,)  # whose classes number what is found
    model = DefaultPredictor(cfg).model

    records = DatasetCatalog.get(dataset)
    names = MetadataCatalog.get(dataset).thing_classes
    examples = {}
    for record in records:
        for found in record["annotations"]:
            name = names[found["category_id"]]
            examples.setdefault(name, (record["file_name"], found["segmentation"], name))
    predictor = segic_d2.InContextPredictor.from_model(model)
    predictor.set_references(examples.values(), task="instance")
    model.context = predictor.context  # from here on it needs no references

    loader = build_detection_test_loader(cfg, dataset)
    evaluator = COCOEvaluator(dataset, tasks=("segm",), use_fast_impl=False)
    print(f"AP50 {inference_on_dataset(model, loader, evaluator)['segm']['AP50']:.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
