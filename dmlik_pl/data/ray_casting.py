"""A ray caster for one solid on a grey floor: enough optics to make small pictures look three-dimensional."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SOLIDS", "Scene", "render", "surface"]

Array = NDArray[np.floating]

SOLIDS = ("cube", "sphere", "cylinder")

CAMERA = np.array([0.0, -5.6, 3.2], np.float32)
TARGET = np.array([0.0, 0.0, 0.55], np.float32)
HALF_FIELD_OF_VIEW = 0.215  # tangent of half the angle
AMBIENT = 0.42
SHADOW = 0.55  # share of the key light that is lost in the shadow
SUPERSAMPLING = 2  # rays along each side of a pixel
FLOOR_FALLOFF = 0.045  # how much darker the floor becomes per squared unit of distance from its centre


@dataclass(frozen=True)
class Scene:
    """All that decides a picture; lengths in scene units, in which the field of view is about 2.7 wide.

    Attributes:
        solid: One of `SOLIDS`.
        albedo: Red, green and blue reflectance in [0, 1].
        position: Where the solid stands on the floor, x to the right and y away from the camera.
        size: Half the height of the solid.
        rotation: Turn about the vertical axis, radians.
        light: Azimuth and elevation of the light, radians.
        gloss: Strength of the highlight, 0 for rubber.
        floor: Reflectance of the floor.
    """

    solid: str
    albedo: tuple[float, float, float]
    position: tuple[float, float]
    size: float
    rotation: float
    light: tuple[float, float]
    gloss: float
    floor: float


def render(scene: Scene, resolution: int) -> Array:
    """Draw a scene.

    Args:
        scene: What to draw.
        resolution: Pixels along each side.

    Returns:
        The picture in [0, 1], [resolution, resolution, 3].
    """
    directions = _camera_rays(resolution * SUPERSAMPLING)
    azimuth, elevation = scene.light
    light = np.array(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], np.float32
    )
    colour = _shade_floor(scene, directions, light)
    distance, normal = _intersect(scene, CAMERA, directions)
    hit = np.isfinite(distance)
    colour[hit] = _shade_solid(scene, directions[hit], normal[hit], light)
    side = resolution * SUPERSAMPLING
    blocks = colour.reshape(resolution, SUPERSAMPLING, side // SUPERSAMPLING, SUPERSAMPLING, 3)
    return np.clip(blocks.mean(axis=(1, 3)), 0, 1)


def surface(scene: Scene, side: int) -> tuple[Array, Array]:
    """Return where the camera sees the solid, and how the surface lies there.

    Args:
        scene: What to look at.
        side: Rays along each side of the picture.

    Returns:
        Distances along the rays, infinite beside the solid, [side, side], and unit normals, [side, side, 3].
    """
    distance, normal = _intersect(scene, CAMERA, _camera_rays(side))
    return distance.reshape(side, side), normal.reshape(side, side, 3)


def _camera_rays(side: int) -> Array:
    """Return unit directions through a side x side grid, row by row from the top left, [side^2, 3]."""
    forward = (TARGET - CAMERA) / np.linalg.norm(TARGET - CAMERA)
    right = np.array([1.0, 0.0, 0.0], np.float32)
    up = np.cross(right, forward)
    steps = HALF_FIELD_OF_VIEW * ((np.arange(side, dtype=np.float32) + 0.5) * (2 / side) - 1)
    grid = forward + steps[None, :, None] * right - steps[:, None, None] * up
    rays = grid.reshape(-1, 3)
    return (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)


def _shade_floor(scene: Scene, directions: Array, light: Array) -> Array:
    """Return the colour that each ray sees on the floor, with the solid's shadow, [P, 3]."""
    points = CAMERA - directions * (CAMERA[2] / directions[:, 2:])
    lit = light[2] * (1 - FLOOR_FALLOFF * (points[:, 0] ** 2 + points[:, 1] ** 2) / 4)
    shadowed = np.isfinite(_intersect(scene, points, np.broadcast_to(light, points.shape))[0])
    shade = scene.floor * (AMBIENT + (1 - AMBIENT) * lit * np.where(shadowed, 1 - SHADOW, 1))
    return np.repeat(shade[:, None], 3, axis=1)


def _shade_solid(scene: Scene, directions: Array, normal: Array, light: Array) -> Array:
    """Return the colour of surface points seen along `directions`: Lambert's law and a Blinn highlight, [P, 3]."""
    diffuse = AMBIENT + 1.1 * (1 - AMBIENT) * np.clip(normal @ light, 0, None)
    middle = light - directions
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    highlight = scene.gloss * np.clip((normal * middle).sum(axis=1), 0, None) ** 40
    return diffuse[:, None] * np.array(scene.albedo, np.float32) + highlight[:, None]


def _intersect(scene: Scene, origin: Array, directions: Array) -> tuple[Array, Array]:
    """Find where rays first meet the solid.

    Args:
        scene: The scene.
        origin: Starts of the rays, [3] or [P, 3].
        directions: Their directions, [P, 3].

    Returns:
        Distances in units of `directions`, infinite for a miss, [P], and unit normals, [P, 3].
    """
    cosine, sine = np.cos(scene.rotation), np.sin(scene.rotation)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], np.float32)
    centre = np.array([*scene.position, scene.size], np.float32)
    start = np.broadcast_to((origin - centre) @ turn / scene.size, directions.shape).astype(np.float32)
    along = (directions @ turn / scene.size).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance, normal = {"cube": _cube, "sphere": _sphere, "cylinder": _cylinder}[scene.solid](start, along)
    return distance, normal @ turn.T


def _sphere(start: Array, along: Array) -> tuple[Array, Array]:
    """Meet the unit sphere."""
    distance = _quadric(start, along)[0]
    return distance, start + np.where(np.isfinite(distance), distance, 0)[:, None] * along


def _cube(start: Array, along: Array) -> tuple[Array, Array]:
    """Meet the cube of half-edge 0.82, which looks as large as the other solids, standing on the same floor."""
    half = 0.82
    lowered = start + np.array([0, 0, 1 - half], np.float32)
    first, second = (-half - lowered) / along, (half - lowered) / along
    near, far = np.minimum(first, second), np.maximum(first, second)
    entry, leave = near.max(axis=1), far.min(axis=1)
    distance = np.where((entry < leave) & (entry > 1e-4), entry, np.inf).astype(np.float32)
    normal = np.zeros_like(start)
    rows, axis = np.arange(len(start)), near.argmax(axis=1)
    normal[rows, axis] = -np.sign(along[rows, axis])
    return distance, normal


def _cylinder(start: Array, along: Array) -> tuple[Array, Array]:
    """Meet the upright cylinder of radius 0.85 and the height of the sphere."""
    radius = np.float32(0.85)
    entry, leave = _quadric(start[:, :2] / radius, along[:, :2] / radius)
    bottom, top = (-1 - start[:, 2]) / along[:, 2], (1 - start[:, 2]) / along[:, 2]
    cap = np.minimum(bottom, top)
    first, last = np.maximum(entry, cap), np.minimum(leave, np.maximum(bottom, top))
    distance = np.where((first < last) & (first > 1e-4), first, np.inf).astype(np.float32)
    on_cap = (cap > entry)[:, None]
    points = start + np.where(np.isfinite(distance), distance, 0)[:, None] * along
    side = np.concatenate([points[:, :2] / radius, np.zeros_like(points[:, 2:])], axis=1)
    upright = np.array([0, 0, 1], np.float32) * -np.sign(along[:, 2:])
    return distance, np.where(on_cap, upright, side).astype(np.float32)


def _quadric(start: Array, along: Array) -> tuple[Array, Array]:
    """Solve |start + s along| = 1 for the two roots s; no root gives an empty interval (infinity, -infinity)."""
    a = (along * along).sum(axis=1)
    b = (along * start).sum(axis=1)
    root = np.sqrt(b * b - a * ((start * start).sum(axis=1) - 1))
    entry, leave = (-b - root) / a, (-b + root) / a
    missed = ~np.isfinite(root) | (leave < 1e-4)
    return np.where(missed, np.inf, entry), np.where(missed, -np.inf, leave)
