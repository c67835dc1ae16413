"""Pictures of coloured rectangles and the label maps that go with them."""

import numpy as np
from PIL import Image

SIZE = (36, 48)  # height, width


def colour(class_id):
    """A colour that tells classes apart, the same for every picture."""
    return np.random.default_rng(class_id).integers(0, 256, 3)


def scene(classes, seed, nothing, ignored):
    """A picture uint8 (H, W, 3) and a label map int (H, W): classes side by side, below them a
    strip of ``nothing``, and the first two rows ``ignored``."""
    rng = np.random.default_rng(seed)
    labels = np.full(SIZE, nothing)
    edges = np.linspace(0, SIZE[1], len(classes) + 1).astype(int)
    for class_id, left, right in zip(classes, edges, edges[1:], strict=False):
        labels[:30, left:right] = class_id
    labels[:2] = ignored
    image = rng.integers(0, 60, (*SIZE, 3))
    for class_id in classes:
        image[labels == class_id] = colour(class_id) * 3 // 4 + image[labels == class_id]
    return image.clip(0, 255).astype(np.uint8), labels


def save(image_file, label_file, image, labels, dtype):
    """The picture as JPEG, the labels as PNG or TIFF of 8, 16 or 32 bits."""
    for file in (image_file, label_file):
        file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(image_file, quality=95)
    Image.fromarray(labels.astype(dtype)).save(label_file)
