"""Renders triangle meshes from any side, with a depth buffer in numpy.

Shapes: T triangles, S px the side of the square frame, F fragments (a triangle over a pixel).
"""

import numpy as np
from PIL import Image

SUPER = 2  # sub-samples per pixel and axis
CUTOUT = 0.3  # a texture's alpha below which nothing is drawn
GLASS = 0.6  # a material's opacity below which what is behind it is seen, too
NOTHING = 0.02  # and below which nothing is drawn
BATCH = 1 << 21  # fragments at once
DEPTH_BITS = 32


def turned(mesh, azimuth, elevation, distance=3.5):
    """Turn corners and normals to the view of a camera.

    Args:
        mesh: ``Mesh``, y up, its front to +z.
        azimuth, elevation: of the camera, radians. (0, 0) looks at the front.
        distance: of the camera from the centre, over the object's radius.

    Returns:
        corners float64 (T, 3, 3): x right and y down in perspective, within ±1, z away from the
        camera; normals float64 (T, 3, 3), unit, x right, y up, z towards the camera.
    """
    low, high = mesh.corners.min((0, 1)), mesh.corners.max((0, 1))
    points = (mesh.corners - (low + high) / 2).astype(np.float64)
    points /= max(np.linalg.norm(points, axis=-1).max(), 1e-9)
    ca, sa, ce, se = np.cos(azimuth), np.sin(azimuth), np.cos(elevation), np.sin(elevation)
    right, back = np.array([ca, 0, -sa]), np.array([sa * ce, se, ca * ce])
    axes = np.stack([right, np.cross(back, right), back])  # camera's x, y (up), z (towards it)
    points, normals = points @ axes.T, mesh.normals.astype(np.float64) @ axes.T
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    depth = distance - points[..., 2]
    scale = distance / depth
    x, y = points[..., 0] * scale, -points[..., 1] * scale
    reach = max(np.abs(x).max(), np.abs(y).max(), 1e-9)
    return np.stack([x / reach, y / reach, depth], -1), normals


def _barycentric(corners, px, py):
    """Weights (…, 3) of points in triangles; corners (…, 3, 2 or more), px and py (…)."""
    a, b, c = (corners[..., i, :2] for i in range(3))
    v0, v1 = b - a, c - a
    area = v0[..., 0] * v1[..., 1] - v0[..., 1] * v1[..., 0]
    area = np.where(np.abs(area) < 1e-12, np.inf, area)  # seen from its edge: no fragment
    qx, qy = px - a[..., 0], py - a[..., 1]
    w1 = (qx * v1[..., 1] - qy * v1[..., 0]) / area
    w2 = (v0[..., 0] * qy - v0[..., 1] * qx) / area
    w0 = np.where(np.isinf(area), -1.0, 1 - w1 - w2)
    return np.stack([w0, w1, w2], -1)


def _sample(texture, uv):
    """Texture colour uint8 (F, 4) at uv (F, 2), repeated beyond 0…1; v runs upwards."""
    h, w = texture.shape[:2]
    x = np.floor(uv[:, 0] * w).astype(np.int64) % w
    y = np.floor((1 - uv[:, 1]) * h).astype(np.int64) % h
    return texture[y, x]


def _spans(corners, side):
    """The runs of pixels in one row whose centres lie in a triangle.

    Args:
        corners: (T, 3, 2 or more), px.
        side: S.

    Returns:
        int64 arrays (R,): triangle, row, first column, number of columns (1 or more).
    """
    top = np.clip(np.ceil(corners[..., 1].min(1) - 0.5), 0, side).astype(np.int64)
    below = np.clip(np.ceil(corners[..., 1].max(1) - 0.5), 0, side).astype(np.int64)
    tri, row = _counted(np.arange(len(corners)), top, below - top)
    centre = row + 0.5
    first, last = np.full(len(tri), np.inf), np.full(len(tri), -np.inf)
    for i in range(3):
        (px, py), (qx, qy) = (corners[:, j % 3, :2].T for j in (i, i + 1))
        slope = (qx - px) / np.where(qy == py, np.inf, qy - py)
        crosses = (py[tri] <= centre) != (qy[tri] <= centre)
        x = px[tri] + (centre - py[tri]) * slope[tri]
        first = np.where(crosses, np.minimum(first, x), first)
        last = np.where(crosses, np.maximum(last, x), last)
    found = last > first
    tri, row, first, last = tri[found], row[found], first[found], last[found]
    start = np.clip(np.ceil(first - 0.5), 0, side).astype(np.int64)
    count = np.clip(np.ceil(last - 0.5), 0, side).astype(np.int64) - start
    found = count > 0
    return tri[found], row[found], start[found], count[found]


def _counted(values, start, count):
    """Repeat each value by its count, and number the repeats start, start + 1, …: two arrays."""
    count = np.maximum(count, 0)
    ends = np.cumsum(count)
    index = np.repeat(np.arange(len(values)), count)
    offset = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - count, count)
    return values[index], start[index] + offset


def _closeness(corners):
    """1 / depth as a plane over the frame: (x factor, y factor, constant), each (T,)."""
    a, b, c = (corners[:, i, :2] for i in range(3))
    za, zb, zc = (1 / corners[:, i, 2] for i in range(3))
    (ux, uy), (vx, vy) = (b - a).T, (c - a).T
    area = ux * vy - vx * uy
    area = np.where(np.abs(area) < 1e-9, np.inf, area)  # seen from its edge
    dx = ((zb - za) * vy - (zc - za) * uy) / area
    dy = ((zc - za) * ux - (zb - za) * vx) / area
    return dx, dy, za - dx * a[:, 0] - dy * a[:, 1]


def depth_buffer(mesh, corners, side, opacity=NOTHING):
    """Find the nearest triangle of each pixel: int64 (S, S), -1 for none.

    Args:
        corners: of ``turned``, x and y scaled to pixels.
        side: S.
        opacity: the least opacity of a material that is drawn.
    """
    drawn = np.array([m.opacity >= opacity for m in mesh.materials])[mesh.material]
    holes = [m.texture is not None and (m.texture[..., 3] < 128).any() for m in mesh.materials]
    spans = [values for values in _spans(corners, side)]
    keep = drawn[spans[0]]
    tri, row, start, count = (values[keep] for values in spans)
    dx, dy, constant = _closeness(corners)
    constant = constant[tri] + dy[tri] * (row + 0.5)
    low, high = (1 / corners[..., 2]).min(), (1 / corners[..., 2]).max()
    scale = (2**DEPTH_BITS - 1) / max(high - low, 1e-12)
    empty = np.iinfo(np.uint64).max
    nearest = np.full(side * side, empty, np.uint64)
    cuts = np.searchsorted(np.cumsum(count), np.arange(BATCH, count.sum(), BATCH))
    for part in np.split(np.arange(len(tri)), cuts):
        span, x = _counted(part, start[part], count[part]) if len(part) else (part, part)
        closeness = constant[span] + dx[tri[span]] * (x + 0.5)
        if any(holes):
            solid = _solid(mesh, holes, corners, tri[span], x, row[span])
            span, x, closeness = span[solid], x[solid], closeness[solid]
        key = ((high - np.clip(closeness, low, high)) * scale).astype(np.uint64)
        key = (key << np.uint64(64 - DEPTH_BITS)) | tri[span].astype(np.uint64)
        np.minimum.at(nearest, row[span] * side + x, key)
    found = (nearest & np.uint64(2 ** (64 - DEPTH_BITS) - 1)).astype(np.int64)
    return np.where(nearest == empty, -1, found).reshape(side, side)


def _solid(mesh, holes, corners, tri, x, y):
    """Which fragments do not lie in a hole of their texture: bool (F,)."""
    solid, material = np.ones(len(tri), bool), mesh.material[tri]
    for number in np.flatnonzero(holes):
        mine = np.flatnonzero(material == number)
        weights = _barycentric(corners[tri[mine]], x[mine] + 0.5, y[mine] + 0.5)
        uv = (weights[..., None] * mesh.uv[tri[mine]]).sum(1)
        solid[mine] = _sample(mesh.materials[number].texture, uv)[:, 3] >= 255 * CUTOUT
    return solid


def render(mesh, side, azimuth, elevation, light):
    """Render one view of a mesh: RGBA uint8 (h, w, 4), cropped to the object, with soft edges.

    Args:
        mesh: ``Mesh``.
        side: px of the object's longer side, about.
        azimuth, elevation: of the camera, radians.
        light: direction (3,) to the light, as normals of ``turned``.
    """
    corners, normals = turned(mesh, azimuth, elevation)
    size = side * SUPER
    corners[..., :2] = (corners[..., :2] * 0.495 + 0.5) * size
    owner = depth_buffer(mesh, corners, size)
    picture = np.zeros((size, size, 4), np.float32)
    y, x = np.nonzero(owner >= 0)
    picture[y, x, :3] = _shaded(mesh, corners, normals, owner[y, x], x, y, light)
    picture[y, x, 3] = 255
    clear = np.array([m.opacity < GLASS for m in mesh.materials])[mesh.material]
    if clear.any():  # glass is part of the object, and shows what of it is behind
        behind = depth_buffer(mesh, corners, size, GLASS)
        y, x = np.nonzero((owner >= 0) & clear[owner] & (behind >= 0))
        share = np.array([m.opacity for m in mesh.materials])[mesh.material[owner[y, x]]][:, None]
        seen = _shaded(mesh, corners, normals, behind[y, x], x, y, light)
        picture[y, x, :3] = share * picture[y, x, :3] + (1 - share) * seen
    picture = picture.reshape(side, SUPER, side, SUPER, 4).sum((1, 3))
    cover = picture[..., 3:] / 255
    picture[..., :3] /= np.maximum(cover, 1)  # mean of the samples that show the object
    picture[..., 3] /= SUPER * SUPER
    image = np.rint(picture).astype(np.uint8)
    box = Image.fromarray(image[..., 3]).getbbox()
    return image if box is None else image[box[1] : box[3], box[0] : box[2]]


def _shaded(mesh, corners, normals, tri, x, y, light):
    """Colour float (F, 3) in 0…255 of triangles at pixels, lit by a lamp and by the sky."""
    weights = _barycentric(corners[tri], x + 0.5, y + 0.5)[..., None]
    normal = (weights * normals[tri]).sum(1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    normal[normal[:, 2] < 0] *= -1  # inner sides of open surfaces are seen, too
    light = np.asarray(light) / np.linalg.norm(light)
    half = (light + (0, 0, 1)) / np.linalg.norm(light + (0, 0, 1))
    shine = np.array([m.shine for m in mesh.materials])[mesh.material[tri]]
    gloss = np.clip(shine, 0, 0.6) * np.clip(normal @ half, 0, None) ** 24
    bright = 0.42 + 0.13 * normal[:, 1] + 0.62 * np.clip(normal @ light, 0, None)
    colour = _colour(mesh, tri, (weights * mesh.uv[tri]).sum(1))
    return np.clip(colour * bright[:, None] + 200 * gloss[:, None], 0, 255)


def _colour(mesh, tri, uv):
    """Colour float (F, 3) in 0…255 of triangles' points before the light."""
    colour = np.empty((len(tri), 3))
    material = mesh.material[tri]
    for number in np.unique(material):
        mine, m = material == number, mesh.materials[number]
        if m.texture is None:
            colour[mine] = 255 * m.colour ** (1 / 1.4)
        else:
            colour[mine] = _sample(m.texture, uv[mine])[:, :3]
    return colour
