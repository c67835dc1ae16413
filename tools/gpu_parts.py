"""The folders that travel to a GPU machine: their sizes, their limit and their checksums.

    python tools/gpu_parts.py FOLDER …      check the files of folders against their SHA256SUMS

Only the standard library is used: this runs before anything is installed.
"""

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 64 * 2**20  # bytes that travel at once: the checkout and one part
SUMS = "SHA256SUMS"


def folder_size(folder):
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def checkout_size(root=ROOT):
    """Bytes of the files that git knows or would add: what travels besides the parts."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=root, capture_output=True, check=True)
    paths = [Path(root) / name for name in done.stdout.decode().split("\0") if name]
    return sum(path.stat().st_size for path in paths if path.is_file())


def report(checkout, parts):
    """Lines that name the sizes of a checkout and of parts, {name: bytes}.

    Raises:
        ValueError: a part does not fit into ``LIMIT`` together with the checkout; the sizes and
            what is too much are named.
    """
    lines = [f"checkout: {checkout / 1e6:.1f} MB"]
    for name, size in parts.items():
        together = checkout + size
        lines.append(
            f"{name}: {size / 1e6:.1f} MB, with the checkout {together / 2**20:.1f} of "
            f"{LIMIT / 2**20:.0f} MiB"
        )
        if together > LIMIT:
            raise ValueError(f"{lines[-1]}: {(together - LIMIT) / 2**20:.1f} MiB too much")
    return lines


def write_sums(folder):
    """Write the checksums of all files below a folder, as sha256sum does."""
    folder = Path(folder)
    lines = [f"{_sha256(folder / name)}  {name}" for name in _names(folder)]
    (folder / SUMS).write_text("".join(f"{line}\n" for line in lines))


def check_sums(folder):
    """Check all files below a folder; returns how many there are.

    Raises:
        FileNotFoundError: the folder has no checksums.
        ValueError: naming the file that is damaged, missing or not listed.
    """
    folder = Path(folder)
    if not (folder / SUMS).is_file():
        raise FileNotFoundError(
            f"no file {folder / SUMS}: bash tools/gpu_train.sh pack writes it, and the folder "
            "must travel with the checkout"
        )
    listed = dict(reversed(x.split("  ", 1)) for x in (folder / SUMS).read_text().splitlines())
    for name in sorted(listed.keys() | set(_names(folder))):
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing")
        if _sha256(folder / name) != listed.get(name):
            raise ValueError(f"{folder / name} is not the file that was packed")
    return len(listed)


def _names(folder):
    found = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return sorted(name for name in found if name != SUMS)


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    try:
        for folder in parser.parse_args(argv).folders:
            print(f"{folder}: {check_sums(folder)} files, as they were packed")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
