"""Labelling that is killed again and again leaves the files of one run, and memory stays as it is.

python tools/check_label.py 5000 --kills 10 --seed 0
"""

import argparse
import itertools
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
RUN = """
import sys
sys.path[:0] = [{root!r}, {root!r} + "/tools"]
import torch
from tests.tiny import tiny_config
from segic_d2 import InContextPredictor, label_folder
from segic_d2.engine.label.folder import Workers
from check_label import picture
torch.manual_seed(0)
if __name__ == "__main__":
    predictor = InContextPredictor(tiny_config(), batch_size=4)
    predictor.set_references([(*picture({seed}), "box")])
    label_folder(predictor, {pictures!r}, {output!r}, "coco", workers=Workers({processes}))
"""


def picture(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A red box on noise, uint8 (72, 96, 3), and its mask."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 80, (72, 96, 3), dtype=np.uint8)
    y, x = rng.integers(0, 40, 2)
    mask = np.zeros((72, 96), bool)
    mask[y : y + 30, x : x + 40] = True
    pixels[mask] = 200, 60, 40
    return pixels, mask


class Run:
    """A process that labels a folder, and what memory it takes."""

    def __init__(self, pictures: Path, output: Path, processes: int) -> None:
        about = {"root": str(ROOT), "seed": 10**6, "processes": processes}
        code = RUN.format(pictures=str(pictures), output=str(output), **about)
        script = output.parent / f"{output.name}.py"
        script.write_text(code)
        self.output, command = output, [sys.executable, "-W", "ignore", str(script)]
        self.memory: list[tuple[int, float]] = []  # chunks that are done, and MB
        self.log = open(output.parent / f"{output.name}.log", "ab")  # noqa: SIM115
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=self.log, stderr=self.log)

    def chunks(self) -> int:
        """Chunks that are done."""
        folder = self.output / "round-1/chunks"
        return sum(1 for f in folder.glob("*.json")) if folder.is_dir() else 0

    def wait(self, until: float = float("inf"), delay: float = 0.0) -> int | None:
        """Wait for the end, or for so many chunks; returns the exit status, None after a kill."""
        while self.process.poll() is None:
            done = self.chunks()
            if done >= until:
                time.sleep(delay)
                self.process.send_signal(signal.SIGKILL)
                self.process.wait()
                return None
            self.memory.append((done, _megabytes(self.process.pid)))
            time.sleep(0.05)
        return self.process.returncode


def _megabytes(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * 4096 / 1e6


def files_of(output: Path) -> dict[str, bytes]:
    """{name: bytes} of what a round leaves, whatever folder it is in."""
    files = (f for f in sorted(output.rglob("*")) if f.is_file() and f.name != ".lock")
    own = str(output).encode()
    return {str(f.relative_to(output)): f.read_bytes().replace(own, b"OUT") for f in files}


def growth(memory: Sequence[tuple[int, float]], total: int) -> tuple[float, float, float]:
    """The highest memory while the second tenth of the chunks was done, while the last one was, and
    while the labels were put together."""
    early = [m for done, m in memory if total // 10 <= done < total // 5]
    late = [m for done, m in memory if total - total // 10 <= done < total]
    end = [m for done, m in memory if done >= total]
    return max(early, default=0.0), max(late, default=0.0), max(end, default=0.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Label, kill, compare; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("number", type=int, nargs="?", default=5000, help="of pictures")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args(argv)
    chance = random.Random(args.seed)
    with TemporaryDirectory() as folder:
        place = Path(folder)
        pictures = place / "pictures"
        pictures.mkdir()
        for i in range(args.number):
            Image.fromarray(picture(i)[0]).save(pictures / f"{i:06d}.png")
        whole = Run(pictures, place / "whole", args.processes)
        start = time.monotonic()
        if whole.wait() != 0:
            print((place / "whole.log").read_text()[-2000:], file=sys.stderr)
            return 1
        seconds, total = time.monotonic() - start, whole.chunks()
        early, late, end = growth(whole.memory, total)
        print(f"one run: {args.number} pictures, {total} chunks, {seconds:.0f} s; memory at most")
        print(
            f"{early:.0f} MB in the second tenth, {late:.0f} MB in the last, {end:.0f} MB after it"
        )
        killed = 0
        for n in itertools.count():
            left = n < args.kills
            until = chance.uniform(n, n + 1) / args.kills * total if left else float("inf")
            status = Run(pictures, place / "killed", args.processes).wait(until, chance.random())
            killed += status is None
            if status not in (None, 0):
                print((place / "killed.log").read_text()[-2000:], file=sys.stderr)
                return 1
            if status == 0 and not left:
                break
        ours, theirs = files_of(place / "whole"), files_of(place / "killed")
        differ = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
    print(f"killed {killed} times and continued: {len(differ)} of {len(ours)} files differ")
    return 1 if differ or killed < args.kills else 0


if __name__ == "__main__":
    sys.exit(main())
