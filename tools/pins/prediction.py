"""What the shipped model says of scikit-image's photographs."""

import tempfile
from pathlib import Path

import numpy as np
from skimage import data

from segic_d2 import InContextPredictor

from . import layout
from .recording import Recording

# name → centre (y, x) and half axes of an ellipse, as shares of the height and the width
OBJECTS = {
    "astronaut": (0.23, 0.44, 0.15, 0.11),  # the face
    "chelsea": (0.40, 0.50, 0.36, 0.30),  # the cat's head
    "coffee": (0.46, 0.52, 0.32, 0.30),  # the cup
    "coins": (193 / 303, 213 / 384, 23.5 / 303, 23.5 / 384),  # one coin
    "rocket": (0.50, 0.50, 0.40, 0.05),
}


LARGEST = 20.0  # logit; the tolerance is a share of the largest value


def photograph(name: str) -> np.ndarray:
    """uint8 (H, W, 3)."""
    picture = getattr(data, name)()
    return picture if picture.ndim == 3 else np.stack([picture] * 3, -1)


def ellipse(name: str) -> np.ndarray:
    """bool (H, W), the object of OBJECTS."""
    height, width = photograph(name).shape[:2]
    y, x, dy, dx = OBJECTS[name]
    rows, columns = np.mgrid[:height, :width]
    return ((rows / height - y) / dy) ** 2 + ((columns / width - x) / dx) ** 2 < 1


def shown(*names: str, title: str | None = None) -> list[tuple]:
    """References of photographs."""
    return [(photograph(n), ellipse(n), title or n) for n in names]


def flipped(name: str) -> tuple:
    """A photograph and its object from the other side."""
    return photograph(name)[:, ::-1].copy(), ellipse(name)[:, ::-1].copy(), name


def two_ids() -> tuple:
    """One photograph with a label map of two nameless entities."""
    labels = np.zeros(ellipse("coffee").shape, np.uint8)
    labels[ellipse("coffee")] = 7
    labels[:40] = 3
    return photograph("coffee"), labels


CASES = {  # part → (references, task, targets)
    "coin": (lambda: shown("coins"), "semantic", ("coins", "coffee")),
    "three": (
        lambda: shown("chelsea", "coffee", "astronaut"),
        "semantic",
        ("chelsea", "astronaut", "rocket"),
    ),
    "two_shots": (lambda: [*shown("coffee"), flipped("coffee")], "semantic", ("coffee",)),
    "instance": (lambda: shown("chelsea", "rocket"), "instance", ("rocket",)),
    "ids": (lambda: [two_ids()], "semantic", ("coffee", "coins")),
}
CHEAP = {"three": (CASES["three"][0], "semantic", ("chelsea", "rocket"))}


def record(into: Recording, cheap: bool = False) -> None:
    """All cases; the cheap ones on a small canvas."""
    opts = ["INPUT.CANVAS", 224] if cheap else []
    predictor = InContextPredictor.from_pretrained("segic-demo", device="cpu", opts=opts)
    for name, (references, task, targets) in (CHEAP if cheap else CASES).items():
        predictor.set_references(references(), task=task)
        for target in targets:
            result = predictor(photograph(target), with_propagated_mask=target == targets[0])
            into.add(f"predictor/{name}", *described(result, target))
        into.add(f"predictor/{name}", {"same from a file": from_file(predictor, targets[-1])})


def described(result, target: str) -> tuple[dict, dict]:
    """What a result says, by public ways; logits by whichever attribute holds them."""
    logits = [getattr(result, k) for k in layout.LOGITS if hasattr(result, k)]
    if not logits:
        raise AttributeError(f"a result has none of {layout.LOGITS}: see tools/pins/layout.py")
    arrays = {
        # where nothing is found they are far below what a decoder says
        "logits": np.clip(np.asarray(logits[0]), -LARGEST, LARGEST),
        "scores": np.asarray(result.scores),
        "masks": np.asarray(result.masks).astype(np.uint8),
        "labels": np.asarray(result.label_map()).astype(np.int32),
    }
    if result.propagated is not None:
        arrays["propagated"] = np.asarray(result.propagated)
    scalars = {f"{target} entities": str(list(zip(result.ids, result.names, strict=True)))}
    return scalars, {f"{target} {k}": v for k, v in arrays.items()}


def from_file(predictor, target: str) -> bool:
    """Whether a context that was saved and loaded gives the same label map."""
    before = predictor(photograph(target)).label_map()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "context.safetensors"
        predictor.save_context(path)
        predictor.load_context(path)
    return bool((predictor(photograph(target)).label_map() == before).all())
