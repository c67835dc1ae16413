"""Cut-out objects as RGBA files: the one view of a stamp, or the views of a rendered model.

They are prepared once, into ``$SEGIC_D2_CACHE/composites-cutouts-…/<number>_<view>.webp``.
"""

import hashlib
import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from composites.mesh import read_mesh
from composites.raster import render
from composites.sources import read_background, read_model, read_stamp
from segic_d2.utils.files import cache_folder, write_picture

VERSION = 1  # counts up whenever the same files would give other views
VIEWS = 6  # of a model
SIDE = 320  # px, longer side of a rendered view, about
AZIMUTH = 80  # degrees to either side of the front
ELEVATION = (3, 45)  # degrees


def cutouts_root(objects):
    """The folder of the views of these objects. Another table has another folder."""
    digest = hashlib.sha256("".join(o.source + o.file + o.sha256 for o in objects).encode())
    return cache_folder() / f"composites-cutouts-v{VERSION}-{digest.hexdigest()[:12]}"


def view_files(item, root):
    """Paths of an object's views, in order."""
    if item.source == "photographs":
        return [Path(root).with_name(f"composites-photographed-v{VERSION}") / f"{item.digest}.webp"]
    number = VIEWS if item.source == "models" else 1
    return [Path(root) / f"{item.number:04d}_{view}.webp" for view in range(number)]


def prepare_object(item, sources, root):
    """Write the views of an object that do not exist yet.

    Raises:
        FileNotFoundError, ValueError: a source file, which is named, is missing, damaged or another
            one than expected.
    """
    files = view_files(item, root)
    if all(f.is_file() for f in files):
        return
    files[0].parent.mkdir(parents=True, exist_ok=True)
    views = _render_views(item, sources) if item.source == "models" else [_stamp(item, sources)]
    for file, view in zip(files, views, strict=True):
        if min(view.shape[:2]) < 4:
            raise ValueError(f"{item.file}: nothing is to be seen of it")
        write_picture(file, Image.fromarray(view), shared=True, quality=92, method=2)


def read_view(file):
    """Read a view: uint8 (h, w, 4), RGBA."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGBA"))


def _stamp(item, sources):
    if item.source == "photographs":
        rgba = item.cut(read_background(item, sources))
    else:
        rgba = _read_stamp(item, sources)
    if rgba[..., 3].min() > 250:
        raise ValueError(f"{item.file} has no transparent ground: it is not cut out")
    rgba = clean_edge(rgba)
    rows, columns = (np.flatnonzero((rgba[..., 3] > 12).any(axis)) for axis in (1, 0))
    if not len(rows):
        raise ValueError(f"{item.file}: nothing is to be seen of it")
    return rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _read_stamp(item, sources):
    data = read_stamp(item, sources)
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGBA"))
    except OSError as error:
        raise ValueError(f"{item.file} is no picture that can be read: {error}") from error


def clean_edge(rgba):
    """Clean the edge of a cut-out, so that it shows nothing of its former background.

    The edge is taken in by half a pixel, and pixels that are not quite solid get the colour of the
    solid ones near them.

    Args:
        rgba: uint8 (h, w, 4).
    """
    rgba = cv2.copyMakeBorder(rgba, 2, 2, 2, 2, cv2.BORDER_CONSTANT)
    alpha = rgba[..., 3]
    if min(alpha.shape) > 80:  # a small picture has no edge to spare
        thinner = cv2.erode(alpha, np.ones((3, 3), np.uint8))
        alpha = ((alpha.astype(np.uint16) + thinner) // 2).astype(np.uint8)
    solid = (cv2.erode(alpha, np.ones((3, 3), np.uint8)) > 200).astype(np.float32)
    weight = cv2.GaussianBlur(solid, (0, 0), 2.0)[..., None]
    near = cv2.GaussianBlur(rgba[..., :3] * solid[..., None], (0, 0), 2.0) / np.maximum(
        weight, 1e-6
    )
    colour = np.where((solid[..., None] > 0) | (weight < 0.01), rgba[..., :3], near)
    return np.dstack([np.clip(np.rint(colour), 0, 255).astype(np.uint8), alpha])


def _render_views(item, sources):
    files, name, entry = read_model(item, sources)
    mesh = placed(read_mesh(files, name), entry)
    rng = np.random.default_rng((VERSION, item.number))
    views = []
    for view in range(VIEWS):
        side = (view + rng.random()) / VIEWS * 2 - 1  # all around the front, one view per part
        azimuth = np.deg2rad(AZIMUTH * side)
        elevation = np.deg2rad(rng.uniform(*ELEVATION))
        light = rng.uniform((-1, 0.3, 0.3), (1, 1.0, 1.0))
        views.append(render(mesh, SIDE, azimuth, elevation, light))
    return views


def placed(mesh, entry):
    """Stand a mesh up, facing +z, with the proportions of its library's catalog.

    Args:
        mesh: ``Mesh``; changed in place.
        entry: dict of text, with ``modelRotation`` (9 numbers, row by row), ``width``, ``height``
            and ``depth`` where they are known.
    """
    if "modelRotation" in entry:
        turn = np.array([float(x) for x in entry["modelRotation"].split()]).reshape(3, 3)
        mesh.corners, mesh.normals = mesh.corners @ turn.T, mesh.normals @ turn.T
    if all(key in entry for key in ("width", "height", "depth")):
        wanted = np.array([float(entry[key]) for key in ("width", "height", "depth")])
        extent = mesh.corners.max((0, 1)) - mesh.corners.min((0, 1))
        scale = wanted / np.maximum(extent, 1e-6 * extent.max())
        mesh.corners, mesh.normals = mesh.corners * scale, mesh.normals / scale
    return mesh
