"""Pictures per second of labelling a folder beside the bare model, with the decoder that ships.

python tools/benchmark_label.py 200
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image, ImageOps
from skimage import data

from machine import hardware, markdown
from segic_d2 import InContextPredictor, label_folder
from segic_d2.engine.label.folder import Workers
from segic_d2.predictor.targets import read_target

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")  # those that come with scikit-image
SIZE = 640, 480


def write_photographs(folder: Path, number: int) -> None:
    """``number`` JPEGs of 640×480 px: photographs, mirrored and cut."""
    folder.mkdir()
    for i in range(number):
        image = Image.fromarray(getattr(data, PHOTOGRAPHS[i % len(PHOTOGRAPHS)])())
        share = 0.6 + 0.4 * (i * 37 % 100) / 100
        image = ImageOps.fit(image, SIZE, centering=(share, 1 - share))
        (ImageOps.mirror(image) if i % 2 else image).save(folder / f"{i:04d}.jpg", quality=92)


def bare(predictor: InContextPredictor, files: Iterable[Path], batch: int = 4) -> Callable[[], int]:
    """The model alone, on pictures that are read and resized already."""
    views = [read_target(file, predictor.model.input)[0] for file in files]

    @torch.no_grad()
    def run() -> int:
        for start in range(0, len(views), batch):
            features = predictor.model.encode_images(views[start : start + batch])
            predictor.model.segment(features, predictor.context)
        return len(views)

    return run


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("number", type=int, nargs="?", default=200, help="of pictures")
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2])
    args = parser.parse_args(argv)
    predictor = InContextPredictor.from_pretrained("segic-demo")
    cat = data.chelsea()
    y, x = np.ogrid[: cat.shape[0], : cat.shape[1]]
    face = ((x - 220) / 110) ** 2 + ((y - 130) / 90) ** 2 < 1
    predictor.set_references([(cat, face, "cat")])
    with TemporaryDirectory() as place:
        folder = Path(place) / "pictures"
        write_photographs(folder, args.number)
        files, number = sorted(folder.iterdir()), itertools.count()
        few = files[: min(40, len(files))]  # its views are held

        def labelled(processes: int) -> int:
            workers = Workers(processes, progress=False)
            return label_folder(
                predictor, folder, Path(place) / str(next(number)), workers=workers
            ).pictures

        runs: dict[str, Callable[[], int]] = {"the bare model": bare(predictor, few)}
        runs["predictor.predict"] = lambda: sum(
            1 for _ in predictor.predict(folder, progress=False)
        )
        for n in args.processes:
            runs[f"label_folder, {n} process{'es' * (n > 1)}"] = lambda n=n: labelled(n)
        rows, base = [["run", "pictures per second", "share of the bare model"]], 0.0
        for name, run in runs.items():
            start = time.perf_counter()
            rate = run() / (time.perf_counter() - start)
            base = base or rate
            rows.append([name, f"{rate:.2f}", f"{rate / base:.2f}"])
    print(f"{args.number} JPEGs of {SIZE[0]}x{SIZE[1]} px, one class; {hardware('cpu')}\n")
    print(markdown(rows))


if __name__ == "__main__":
    main()
