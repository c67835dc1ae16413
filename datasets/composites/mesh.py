"""Reads Wavefront OBJ models, whose files are in memory, as arrays of triangles."""

import io
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

MAX_TEXTURE = 1024  # px


@dataclass
class Material:
    """Colour (3,) in 0…1, shininess in 0…1, opacity in 0…1, texture uint8 (h, w, 4) or None."""

    colour: np.ndarray = field(default_factory=lambda: np.full(3, 0.7, np.float32))
    shine: float = 0.0
    opacity: float = 1.0
    texture: np.ndarray = None


@dataclass
class Mesh:
    """corners float32 (T, 3, 3), normals (T, 3, 3), uv (T, 3, 2), material int (T,), materials."""

    corners: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    material: np.ndarray
    materials: list


def read_mesh(files, name):
    """Read a triangle mesh with its materials.

    Args:
        files: dict name → bytes, all files of the model's folder.
        name: of the OBJ file.

    Returns:
        ``Mesh``. Normals that are missing are those of the faces; missing texture coordinates are
        0.

    Raises:
        ValueError: the OBJ file, which is named, has no faces or cannot be read.
    """
    try:
        return _read(files, name)
    except (IndexError, ValueError, KeyError) as error:
        raise ValueError(f"{name} is no OBJ model that can be read: {error}") from error


def _read(files, name):
    vectors = {"v": [], "vt": [], "vn": []}
    faces, used, materials, current = [], [], {}, -1
    names = []
    for line in files[name].decode("latin-1").replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word in vectors:
            vectors[word].append([float(x) for x in rest.split()[: 2 if word == "vt" else 3]])
        elif word == "f":
            corners = [_corner(c, vectors) for c in rest.split()]
            for a, b in zip(corners[1:-1], corners[2:], strict=True):  # fan
                faces.append((corners[0], a, b))
                used.append(current)
        elif word == "mtllib":
            materials.update(_read_materials(files, name.rpartition("/")[0], rest.strip()))
        elif word == "usemtl":
            if rest.strip() not in names:
                names.append(rest.strip())
            current = names.index(rest.strip())
    if not faces:
        raise ValueError("no faces")
    faces = np.array(faces, np.int64)  # (T, 3, 3): corner, (v, vt, vn)
    points = np.array(vectors["v"], np.float32)
    corners = points[faces[..., 0]]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, None]
    normals = np.broadcast_to(flat, corners.shape).copy()
    if vectors["vn"]:
        given = faces[..., 2] >= 0
        normals[given] = np.array(vectors["vn"], np.float32)[faces[..., 2][given]]
    uv = np.zeros((*faces.shape[:2], 2), np.float32)
    if vectors["vt"]:
        given = faces[..., 1] >= 0
        uv[given] = np.array(vectors["vt"], np.float32)[faces[..., 1][given]]
    known = [materials.get(n, Material()) for n in names] + [Material()]  # -1: none named
    used = np.array(used) % len(known)
    return Mesh(corners, normals, uv, used, known)


def _corner(text, vectors):
    """(v, vt, vn), counted from 0; -1 is "not given". Indices below 0 count from the end."""
    found = []
    for key, part in zip(("v", "vt", "vn"), (text.split("/") + ["", ""])[:3], strict=True):
        index = int(part) if part else 0
        found.append(index - 1 if index > 0 else len(vectors[key]) + index if index else -1)
    return found


def _read_materials(files, folder, name):
    materials, m = {}, None
    data = files.get(f"{folder}/{name}")
    for line in (data or b"").decode("latin-1").splitlines():
        word, _, rest = line.strip().partition(" ")
        values = rest.split()
        if word == "newmtl":
            m = materials[rest.strip()] = Material()
        elif m is None or not values:
            continue
        elif word == "Kd":
            m.colour = np.array([float(x) for x in values[:3]], np.float32)
        elif word == "Ks":
            m.shine = float(np.mean([float(x) for x in values[:3]]))
        elif word == "d":
            m.opacity = float(values[-1])
        elif word == "map_Kd":
            path = f"{folder}/{rest.strip()}"
            if path in files:
                m.texture = _texture(files[path])
    return materials


def _texture(data):
    with Image.open(io.BytesIO(data)) as image:
        image = image.convert("RGBA")
        image.thumbnail((MAX_TEXTURE, MAX_TEXTURE))
        return np.asarray(image)
