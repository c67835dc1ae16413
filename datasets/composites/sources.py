"""Fetches the objects and backgrounds of the composites: Debian packages, by apt.

Nothing is installed: ``apt-get download`` fetches a package and ``dpkg-deb -x`` unpacks it below
``$SEGIC_D2_CACHE/composites-sources/<package>/``. Elsewhere the same folders are filled by hand.
Every file is checked by its sha256 hash when it is read.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from segic_d2.utils.files import cache_folder

PACKAGES = {  # name → MB to download, and the folder that must be there
    "tuxpaint-stamps-default": (161, "usr/share/tuxpaint/stamps"),
    "sweethome3d-furniture": (120, "usr/share/sweethome3d/furniture"),
    "mate-backgrounds": (47, "usr/share/backgrounds/mate/nature"),
    "gcompris-qt-data": (44, "usr/share/gcompris-qt/rcc"),
    "lomiri-wallpapers-16.04": (16, "usr/share/backgrounds"),
    "tuxpaint-data": (8, "usr/share/tuxpaint/templates"),
}
PACKAGE_OF = {"stamps": "tuxpaint-stamps-default", "models": "sweethome3d-furniture"}
MODEL_FILES = (".obj", ".mtl", ".jpg", ".jpeg", ".png", ".bmp", ".gif")


def sources_root():
    """``$SEGIC_D2_CACHE/composites-sources``: a folder per package, as its archive unpacks."""
    return cache_folder() / "composites-sources"


def advice(package, root):
    """A text that says what to do if apt cannot fetch a package."""
    return (
        f"fetch the Debian package {package} elsewhere (packages.debian.org/{package}, "
        f"bookworm) and unpack it, dpkg-deb -x {package}_….deb {root / package} or ar x and tar xf "
        f"data.tar.*, so that {root / package / PACKAGES[package][1]} exists"
    )


def fetch(root=None, packages=tuple(PACKAGES)):
    """Fetch and unpack the packages that are missing.

    Args:
        root: folder of sources; None: ``sources_root``.

    Raises:
        FileNotFoundError: this system has no apt; the message says what to place where.
        RuntimeError: apt or dpkg failed; the message has the last line of its output.
    """
    root = Path(root) if root else sources_root()
    for package in packages:
        size, folder = PACKAGES[package]
        if (root / package / folder).is_dir():
            continue
        for tool in ("apt-get", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise FileNotFoundError(
                    f"no {tool} on this system to fetch {package} with; {advice(package, root)}"
                )
        print(f"downloading {package} ({size} MB)", file=sys.stderr)
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{package}.", dir=root) as temporary:
            # apt's own index, options and mirrors apply; nothing is installed
            _run(["apt-get", "download", "-q", package], temporary, package, root)
            archives = list(Path(temporary).glob("*.deb"))
            if len(archives) != 1:
                raise RuntimeError(f"apt-get download {package} left {len(archives)} archives")
            unpacked = Path(temporary) / "unpacked"
            _run(["dpkg-deb", "-x", str(archives[0]), str(unpacked)], temporary, package, root)
            if not (unpacked / folder).is_dir():
                raise RuntimeError(f"{package} has no folder {folder} in this release")
            shutil.rmtree(root / package, ignore_errors=True)
            unpacked.rename(root / package)


def _run(command, folder, package, root):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise RuntimeError(
            f"{' '.join(command[:2])} {package} failed ({said[-1] if said else done.returncode}); "
            f"apt-get update may help, or {advice(package, root)}"
        )


def check(data, sha256, what):
    """Return ``data`` if its hash is the expected one; else raise ValueError naming ``what``."""
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise ValueError(
            f"{what} is not the file that was reviewed: its sha256 is {digest}, expected {sha256}"
        )
    return data


def _read(path):
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"no source file {path}") from None


def read_stamp(item, root):
    """Read the bytes of a stamp's PNG and check their hash.

    Args:
        item: ``Object`` of the source "stamps".
        root: folder of sources.

    Raises:
        FileNotFoundError, ValueError: naming the file that is missing or is another.
    """
    package = PACKAGE_OF["stamps"]
    path = Path(root) / package / PACKAGES[package][1] / item.file
    return check(_read(path), item.sha256, path)


def read_model(item, root):
    """Read and check a 3D model: (dict name → bytes, name of the OBJ file, catalog entry).

    The hash is over names and bytes of the model's folder in the library, an archive ``.sh3f``;
    the catalog entry is a dict of text of the library's ``PluginFurnitureCatalog.properties``.

    Raises:
        FileNotFoundError, ValueError: naming the library or model that is missing or is another.
    """
    package = PACKAGE_OF["models"]
    library, _, name = item.file.partition("/")
    path = Path(root) / package / PACKAGES[package][1] / f"{library}.sh3f"
    if not path.is_file():
        raise FileNotFoundError(f"no source file {path}")
    folder = name.rpartition("/")[0] + "/"
    digest, files = hashlib.sha256(), {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in sorted(archive.namelist()):
                if member.startswith(folder) and member.lower().endswith(MODEL_FILES):
                    files[member] = archive.read(member)
                    digest.update(member.encode() + files[member])
            catalog = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path} is no library of models: {error}") from error
    if name not in files:
        raise FileNotFoundError(f"{path} has no model {name}")
    if digest.hexdigest() != item.sha256:
        raise ValueError(
            f"{name} in {path} is not the model that was reviewed: its sha256 is "
            f"{digest.hexdigest()}, expected {item.sha256}"
        )
    return files, name, _entry(catalog, name)


def _entry(catalog, name):
    number = re.search(rf"^model#(\d+)=/?{re.escape(name)}\s*$", catalog, re.M)
    if number is None:
        return {}
    return dict(re.findall(rf"^(\w+)#{number[1]}=(.*?)\s*$", catalog, re.M))


def read_background(item, root):
    """Read the bytes of a background photograph and check their hash.

    Args:
        item: ``Background``.

    Raises:
        FileNotFoundError, ValueError: naming the file that is missing or is another.
    """
    file, _, number = item.file.partition("#")
    path = Path(root) / item.package / file
    data = _read(path)
    if number:
        found = [m.start() for m in re.finditer(rb"RIFF....WEBP", data, re.S)]
        if int(number) >= len(found):
            raise FileNotFoundError(f"{path} holds {len(found)} WebP pictures, not number {number}")
        start = found[int(number)]
        data = data[start : start + 8 + int.from_bytes(data[start + 4 : start + 8], "little")]
    return check(data, item.sha256, Path(root) / item.package / item.file)
