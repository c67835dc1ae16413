"""SPair-71k: pairs of images of one category with the same key points marked in both.

``spair71k_{trn,val,test}`` are registered with ``$DETECTRON2_DATASETS/SPair-71k`` as published::

    SPair-71k/JPEGImages/<category>/<image>.jpg
    SPair-71k/Layout/large/{trn,val,test}.txt          names of the pairs, one per line
    SPair-71k/PairAnnotation/{trn,val,test}/<name>.json

``NEEDED`` is read of an annotation: key points [x, y] and the box [x0, y0, x1, y1] are in px.
"""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...utils.files import AnyPath

SPLITS = ("trn", "val", "test")
NEEDED = ("src_imname", "trg_imname", "category", "src_kps", "trg_kps", "trg_bndbox")


def register_all_spair(root: AnyPath) -> None:
    """Register ``spair71k_{trn,val,test}`` below a folder of datasets."""
    folder = os.path.join(root, "SPair-71k")
    for split in SPLITS:
        name = f"spair71k_{split}"
        DatasetCatalog.register(name, partial(load_spair, name, folder, split))
        MetadataCatalog.get(name).set(root=folder, evaluator_type="pck")


def load_spair(name: str, root: AnyPath, split: str) -> list[dict[str, Any]]:
    """Load the pairs of a split, sorted by category and then in the order of the list;
    ``file_name``, ``keypoints`` (k × [x, y], px) and ``box`` are the target's. FileNotFoundError:
    naming the list or the annotation that is missing. ValueError: naming the list without pairs, or
    the annotation that lacks a key, is no JSON, or has different numbers of key points."""
    root = Path(root)
    layout = root / "Layout" / "large" / f"{split}.txt"
    if not layout.is_file():
        raise FileNotFoundError(f"dataset {name!r}: no file {layout}, the list of its pairs")
    names = layout.read_text(encoding="utf-8").split()
    if not names:
        raise ValueError(f"dataset {name!r}: {layout} lists no pair")
    pairs = [_pair(root, root / "PairAnnotation" / split / f"{n}.json", n) for n in names]
    return sorted(pairs, key=lambda pair: pair["category"])  # an image's pairs come close together


def _pair(root, file, name):
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}, the annotation of a pair")
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON: {error}") from error
    missing = [key for key in NEEDED if key not in about]
    if missing:
        raise ValueError(f"{file} lacks {', '.join(missing)}")
    source, target = about["src_kps"], about["trg_kps"]
    if len(source) != len(target) or not source:
        raise ValueError(
            f"{file}: {len(source)} key points in the source and {len(target)} in the target"
        )
    folder = root / "JPEGImages" / about["category"]
    return {
        "pair": name,
        "category": about["category"],
        "source_file_name": str(folder / about["src_imname"]),
        "file_name": str(folder / about["trg_imname"]),
        "source_keypoints": source,
        "keypoints": target,
        "box": about["trg_bndbox"],
    }
