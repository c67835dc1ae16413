"""Makes images of COCO's size with objects, from scikit-image's photographs."""

import json
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data.datasets import register_coco_instances
from PIL import Image
from skimage import data

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")  # those that come with scikit-image
CLASSES = 5


def register_photographs(name, folder, number=16, size=(480, 640), objects=7, seed=0):
    """Write JPEGs and a COCO file, and register them as a Detectron2 dataset.

    Args:
        name: of the dataset.
        folder: for the files.
        number: images, at least 2.
        size: (height, width) px of each; COCO's are mostly 480×640.
        objects: random blobs per image, as RLE; COCO has 7.3 on average.
        seed: of the blobs.
    """
    height, width = size
    rng, folder = np.random.default_rng(seed), Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for i in range(number):
        photograph = Image.fromarray(getattr(data, PHOTOGRAPHS[i % len(PHOTOGRAPHS)])())
        photograph.resize((width, height)).save(folder / "images" / f"{i}.jpg", quality=92)
        images.append({"id": i + 1, "file_name": f"{i}.jpg", "height": height, "width": width})
        for k in range(objects):
            rle = _blob(rng, height, width)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": 1 + k % CLASSES,
                    "bbox": mask_util.toBbox(rle).tolist(),
                    "area": int(mask_util.area(rle)),
                    "iscrowd": 0,
                    "segmentation": {**rle, "counts": rle["counts"].decode()},
                }
            )
    categories = [{"id": c + 1, "name": f"blob {c}"} for c in range(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    register_coco_instances(name, {}, str(folder / "instances.json"), str(folder / "images"))


def _blob(rng, height, width):
    """RLE of a round shape with a ragged edge, a twelfth of the image at most."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = min(height, width) * rng.uniform(0.03, 0.25) * rng.uniform(0.7, 1.3, 40)
    x = np.clip(rng.uniform(0.1, 0.9) * width + radius * np.cos(angles), 0, width - 1)
    y = np.clip(rng.uniform(0.1, 0.9) * height + radius * np.sin(angles), 0, height - 1)
    polygon = np.stack([x, y], 1).ravel().tolist()
    return mask_util.merge(mask_util.frPyObjects([polygon], height, width))
