"""Models as triangles and as pictures, against a slow obvious reference."""

import numpy as np
import pytest

from composites.cutouts import clean_edge, placed
from composites.mesh import Material, Mesh, read_mesh
from composites.raster import depth_buffer, render, turned
from tests.datasets.composites.toy_sources import CATALOG, CUBE, CUBE_MATERIALS, stamp

FILES = {"toys/cube.obj": CUBE.encode(), "toys/cube.mtl": CUBE_MATERIALS.encode()}


def cube():
    return read_mesh(FILES, "toys/cube.obj")


def test_faces_become_triangles_with_their_materials():
    mesh = cube()
    assert mesh.corners.shape == (12, 3, 3)
    assert [mesh.materials[m].colour.tolist() for m in mesh.material[[0, 2]]] == [
        [1, 0, 0],
        [0, 0, 1],
    ]
    assert mesh.uv[0].tolist() == [[0, 0], [1, 0], [1, 1]]
    outward = (mesh.normals.mean(1) * mesh.corners.mean(1)).sum(-1)
    assert (outward > 0).all()


def test_counting_from_the_end_and_unknown_materials():
    text = b"v 0 0 0\nv 1 0 0\nusemtl gone\nv 0 1 0\nf -3 -2 -1\n"
    mesh = read_mesh({"a.obj": text}, "a.obj")
    assert mesh.corners[0].tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert mesh.materials[mesh.material[0]].texture is None


@pytest.mark.parametrize("text", [b"", b"v 0 0 0\nf 1 2 3\n", b"v a b c\nf 1 1 1\n"])
def test_bad_models_are_named(text):
    with pytest.raises(ValueError, match="bad.obj is no OBJ model"):
        read_mesh({"bad.obj": text}, "bad.obj")


def slow_owner(corners, side):
    """The nearest triangle at each pixel's centre, one by one."""
    owner, nearest = np.full((side, side), -1), np.full((side, side), np.inf)
    for t, corner in enumerate(corners):
        matrix = np.c_[corner[:, :2], np.ones(3)].T
        if abs(np.linalg.det(matrix)) < 1e-9:
            continue
        for y in range(side):
            for x in range(side):
                w = np.linalg.solve(matrix, [x + 0.5, y + 0.5, 1])
                depth = 1 / (w @ (1 / corner[:, 2]))
                if (w > 0).all() and depth < nearest[y, x]:
                    owner[y, x], nearest[y, x] = t, depth
    return owner


def test_nearest_triangle_as_by_solving_for_each_pixel():
    rng = np.random.default_rng(0)
    corners = np.concatenate([rng.uniform(-4, 28, (30, 3, 2)), rng.uniform(2, 5, (30, 3, 1))], -1)
    mesh = Mesh(corners, corners, corners[..., :2], np.zeros(30, int), [Material()])
    np.testing.assert_array_equal(depth_buffer(mesh, corners, 24), slow_owner(corners, 24))


def test_what_is_behind_shows_through_holes_of_a_texture_and_clear_materials():
    near = np.array([[[0, 0, 2], [16, 0, 2], [0, 16, 2]]], float)
    corners = np.concatenate([near, near + (0, 0, 1)])
    uv = np.array([[[0, 1], [1, 1], [0, 0]]] * 2, float)
    texture = np.full((2, 2, 4), 255, np.uint8)
    texture[0, 0, 3] = 0  # upper left
    leaf = Mesh(corners, corners, uv, np.array([0, 1]), [Material(texture=texture), Material()])
    owner = depth_buffer(leaf, corners, 16)
    assert (owner[:8, :7] == 1).all() and owner[2, 11] == 0 and owner[15, 15] == -1
    glass = Mesh(corners, corners, uv, np.array([0, 1]), [Material(opacity=0.5), Material()])
    assert set(np.unique(depth_buffer(glass, corners, 16, opacity=0.6))) == {-1, 1}
    nothing = Mesh(corners, corners, uv, np.array([0, 1]), [Material(opacity=0), Material()])
    assert set(np.unique(depth_buffer(nothing, corners, 16))) == {-1, 1}


def test_glass_belongs_to_its_object_and_shows_what_is_behind():
    mesh, light = cube(), (0, 0.5, 1)
    solid = render(mesh, 64, 0, 0, light)
    mesh.materials[0].opacity = 0.25  # the red front
    glass = render(mesh, 64, 0, 0, light)
    np.testing.assert_array_equal(glass[..., 3], solid[..., 3])
    red, blue = (float(glass[32, 32, i]) for i in (0, 2))
    assert red < 0.5 * solid[32, 32, 0] and blue > 1.2 * red


def test_views_show_the_side_that_the_camera_looks_at():
    mesh, light = cube(), (0, 0.5, 1)
    front = render(mesh, 64, 0, 0, light)
    assert front.shape[2] == 4 and abs(front.shape[0] - front.shape[1]) <= 1
    middle = front[front.shape[0] // 2, front.shape[1] // 2]
    assert middle[0] > 100 and middle[2] < 50 and middle[3] == 255  # red in front
    back = render(mesh, 64, np.pi, 0, light)
    assert back[back.shape[0] // 2, back.shape[1] // 2, 2] > 80
    above = render(mesh, 64, 0, np.pi / 4, light)
    assert above[4, above.shape[1] // 2, 2] > above[-4, above.shape[1] // 2, 2]  # the blue lid


def test_turned_keeps_the_frame_and_the_hand():
    corners, normals = turned(cube(), 0.7, 0.3)
    assert np.abs(corners[..., :2]).max() == pytest.approx(1)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1)
    to_camera = corners[..., 2].mean(1) < corners[..., 2].mean()
    assert (normals[to_camera].mean(1)[:, 2] > 0).mean() > 0.9


def test_catalog_turns_and_scales():
    entry = dict(line.split("#7=") for line in CATALOG.splitlines() if "#7=" in line)
    mesh = placed(cube(), {**entry, "modelRotation": "1 0 0 0 0 1 0 -1 0"})
    np.testing.assert_allclose(np.ptp(mesh.corners, axis=(0, 1)), [10, 30, 10])
    assert mesh.corners[0, :, 1].mean() == mesh.corners[..., 1].max()  # what was in front is on top


def test_an_edge_loses_the_colour_of_its_ground():
    rgba = stamp((200, 30, 30), "disc").copy()
    rim = np.hypot(*np.meshgrid(np.arange(120) - 55, np.arange(90) - 45)) > 33.5
    rgba[rim & (rgba[..., 3] > 0), :3] = 255  # a white rest
    clean = clean_edge(rgba)
    assert clean[clean[..., 3] > 0][:, 1].max() < 120  # of 255 before
    assert 0.9 < (clean[..., 3] > 127).sum() / (rgba[..., 3] > 127).sum() < 1
