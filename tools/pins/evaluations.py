"""Every evaluation on the miniatures, and the lists of episodes."""

import contextlib
import hashlib
import io
import json
import runpy
from pathlib import Path

import numpy as np

from . import running
from .recording import Recording

SHORT = {"TEST.FIRST_EPISODES": 8, "TEST.SEEN": "seen", "TEST.BATCH_SIZE": 2}
# most classes have no image in a miniature, some have one
SKIP = {"TEST.DAMAGED": "skip"}
SINGLE = {"DATASETS.SINGLE_IMAGE_CLASSES": "skip"}
META = {"MODEL.SEGIC.META": True}
BASE, DEMO, EVAL = "configs/Base-SegIC.yaml", "configs/segic_demo.yaml", "configs/eval"


def stock(evaluator: str, test: str, reference: str, **more) -> tuple[str, dict]:
    """An evaluator by name, on datasets by name."""
    options = {
        "DATASETS.TEST": (test,),
        "DATASETS.REFERENCE": (reference,),
        "TEST.EVALUATORS": (evaluator,),
        "TEST.EPISODES": 24,
    }
    return BASE, {**options, **SKIP, **SINGLE, **more}


def demo(evaluator: str, form: str) -> tuple[str, dict]:
    """What ships, on the embedded data; its masks are right often enough for AP."""
    datasets = (f"shapes_{split}_{form}" for split in ("seen", "train"))
    _, options = stock(evaluator, *datasets)
    return DEMO, {**options, "MODEL.DEVICE": "cpu", "INPUT.CANVAS": 224}


def shipped(name: str, **more) -> tuple[str, dict]:
    """A config of configs/eval."""
    return f"{EVAL}/{name}.yaml", more


SHAPES = "shapes_seen_{0}", "shapes_train_{0}"
ADE = "ade20k_sem_seg_val", "ade20k_sem_seg_train"
COCO = "coco_2017_val", "coco_2017_train"
QUALITY = {"MODEL.SEGIC.TEST.SCORE": "quality"}
CASES = {  # root → {part: (config, options)}
    "labels": {
        "a847": shipped("a847", **SKIP),
        "ade20k150": shipped("ade20k150", **SKIP, **META),
        "coco_semantic": shipped("coco_semantic", **SKIP),
        "pc459": shipped("pc459", **SKIP),
        "coco20i": shipped("coco20i", **META),
        "coco20i_5shot": shipped("coco20i_5shot"),
        "fss1000": shipped("fss1000"),
        "fss1000_5shot": shipped("fss1000_5shot"),
        "pascal5i": shipped("pascal5i"),
        "pascal5i_5shot": shipped("pascal5i_5shot", **{"TEST.SHOTS": 2}),
        "pascal_part": shipped("pascal_part"),
        "spair71k": shipped("spair71k"),
        "sem_seg_ade20k": stock("sem_seg", *ADE),
    },
    "objects": {
        "coco_instances": shipped("coco_instances", **SKIP, **META),
        "lvis_instances": shipped("lvis_instances", **SKIP),
        "coco": stock("coco", *COCO),
        "one_shot_coco": stock("one_shot", *COCO),
        "one_shot_2shots": stock("one_shot", *COCO, **{"TEST.SHOTS": 2}),
        "one_shot_shapes": stock("one_shot", "shapes_novel_coco", "shapes_train_coco"),
        "one_shot_refined": stock(
            *("one_shot", "shapes_novel_coco", "shapes_train_coco"),
            **{"MODEL.SEGIC.TEST.REFINE.WALK": 0.8, "MODEL.SEGIC.TEST.REFINE.RADIUS": 2},
        ),
        "semantic_shapes": stock("semantic", *(n.format("sem_seg") for n in SHAPES)),
        "sem_seg_shapes": stock("sem_seg", *(n.format("sem_seg") for n in SHAPES)),
        "instances_shapes": stock("coco_instances", *(n.format("coco") for n in SHAPES), **QUALITY),
        "one_shot_demo": demo("one_shot", "coco"),
        "semantic_demo": demo("semantic", "sem_seg"),
        "instances_demo": demo("coco_instances", "coco"),
        "coco_shapes": stock("coco", *(n.format("coco") for n in SHAPES)),
    },
    "lvis92i": {
        "lvis92i": shipped("lvis92i"),
        "lvis92i_5shot": shipped("lvis92i_5shot", **{"TEST.SHOTS": 2}),
    },
    "paco": {"paco_part": shipped("paco_part")},
    "cheap": {
        "ade20k150": shipped("ade20k150", **SKIP),
        "coco_instances": shipped("coco_instances", **SKIP, **META),
        "fss1000_5shot": shipped("fss1000_5shot"),
        "spair71k": shipped("spair71k"),
        "one_shot_coco": stock("one_shot", *COCO),
    },
}
LISTS = {  # root → benchmarks whose episodes are listed, with the shots
    "labels": (("coco20i", 5), ("pascal5i", 1), ("fss1000", 5), ("pascal_part", 1)),
    "lvis92i": (("lvis92i", 1),),
    "paco": (("paco_part", 1),),
    "cheap": (("fss1000", 5),),
}


def record(root: str, folder: Path, into: Recording) -> None:
    """All cases of a root, whose miniatures stand in $DETECTRON2_DATASETS."""
    for name, (config, options) in CASES[root].items():
        part = f"evaluations/{name}"
        try:
            into.add(part, *evaluate(config, options, folder / name, folder))
        except Exception as error:  # recorded, so that the other parts are compared
            line = str(error).strip().partition("\n")[0]
            into.failures[part] = f"{type(error).__name__}: {line}"
    if root in LISTS:
        into.add(f"evaluations/episodes_{root}", dict(map(listed, LISTS[root])))


def evaluate(config: str, options: dict, output: Path, files: Path) -> tuple[dict, dict]:
    """Figures and found instances of one evaluation ; its weights are random but for DEMO."""
    options = {**SHORT, **options}
    if config != DEMO:
        options = running.complete(config, options, files)
    results = running.run(config, {**options, "OUTPUT_DIR": str(output)}, "--eval-only")
    return running.figures(results), instances(output)


def instances(output: Path) -> dict[str, np.ndarray]:
    """What an instance evaluation has written in COCO's format, most certain ones first."""
    import pycocotools.mask as mask_util

    found = []
    for file in output.rglob("*instances_results.json"):
        for x in json.loads(file.read_text()):
            area = int(mask_util.area(x["segmentation"]))
            found.append((x["image_id"], x["category_id"], -x["score"], area))
    if not found:
        return {}
    images, categories, scores, areas = map(np.array, zip(*sorted(found), strict=True))
    ids = np.stack([images, categories])
    return {"instances": ids, "scores": -scores, "areas": areas.astype(np.float64)}


def listed(case: tuple[str, int]) -> tuple[str, str]:
    """What tools/list_episodes.py prints, as a hash."""
    benchmark, shots = case
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main = runpy.run_path("tools/list_episodes.py")["main"]
        code = main([benchmark, "--shots", str(shots)])
    digest = hashlib.sha256(out.getvalue().encode()).hexdigest()[:16]
    return f"{benchmark} {shots}-shot", f"{code}, {out.getvalue().count(chr(10))} lines, {digest}"
