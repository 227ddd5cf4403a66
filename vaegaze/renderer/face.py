"""The head's surface, and everything painted on it but the eyes."""

import functools
from dataclasses import dataclass

import numpy as np

from vaegaze.geometry import camera as geometry
from vaegaze.renderer.canvas import (
    TO_CAMERA,
    Light,
    View,
    bump,
    colour,
    dot,
    inside,
    mix,
    smooth_noise,
    smoothstep,
    white_noise,
)
from vaegaze.renderer.persons import Person, Scene

# What a photograph makes of the ten tones of the Monk scale, light to dark (8-bit sRGB).
SKIN_TONES = np.array(
    [
        (240, 205, 190), (236, 196, 176), (230, 187, 162), (222, 173, 142), (205, 152, 118),
        (172, 120, 86), (138, 92, 65), (106, 69, 50), (76, 50, 39), (52, 36, 30),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Surface:
    """Where the rays meet the face."""

    x: np.ndarray  # (H, W) mm, head frame
    y: np.ndarray
    normal: np.ndarray  # (3, H, W) unit vectors, camera axes, towards the camera
    shadow: np.ndarray  # (H, W) how much of the light never gets there, 0..1
    blood: np.ndarray  # (H, W)
    coverage: np.ndarray  # (H, W), 0 beside the head..1
    pixel_mm: float

    def band(self, top_mm: float, bottom_mm: float) -> tuple[slice, np.ndarray, np.ndarray]:
        """The rows of pixels that show this much of the face, and x and y there."""
        rows = np.flatnonzero(((self.y > top_mm) & (self.y < bottom_mm)).any(axis=1))
        rows = slice(rows[0], rows[-1] + 1) if len(rows) else slice(0)
        return rows, self.x[rows], self.y[rows]


def head_surface(person: Person, view: View) -> Surface:
    """Intersect the rays with the head's ellipsoid, then follow them down to its relief."""
    relief = _relief(person)
    _, height_mm = view.plane(20.0)
    narrowing = 1 - person.jaw_taper * smoothstep(15, 125, height_mm)
    axes = np.stack(np.broadcast_arrays(person.face_half_width_mm * narrowing, 130.0, 95.0)).astype(np.float32)
    centre = _ellipsoid_centre(person)

    # |(position + step · ray) / axes| = 1
    position = (view.position_mm.astype(np.float32)[:, None, None] - centre) / axes
    ray = view.rays / axes
    a = (ray * ray).sum(0)
    b = (position * ray).sum(0)
    nearest = (position * position).sum(0) - b * b / a  # squared distance of the ray from the centre, sphere's radii
    coverage = inside((1 - nearest) * 0.5 * axes[0], view.pixel_mm)
    step = -(b + np.sqrt(np.maximum(1 - nearest, 0) * a)) / a
    point = position + step * ray  # on the unit sphere
    normal = point / axes
    x0, y0 = point[0] * axes[0] + centre[0], point[1] * axes[1] + centre[1]

    # The relief displaces the surface along z; the ray slides along the tangent plane to meet it.
    slide = normal[2] / np.minimum((normal * view.rays).sum(0), -0.3 * np.abs(normal[2]) - 1e-6)
    x, y = x0, y0
    for _ in range(2):
        step = slide * _read(relief.depth_mm, x, y)[0]
        x, y = x0 + step * view.rays[0], y0 + step * view.rays[1]

    slope_u, slope_y, shadow, blood = _read(relief.details, x, y)
    normal[0] -= normal[2] * slope_u * np.sign(x)
    normal[1] -= normal[2] * slope_y
    normal /= np.sqrt((normal * normal).sum(0))
    normal = (view.rotation.astype(np.float32) @ normal.reshape(3, -1)).reshape(normal.shape)
    return Surface(x, y, normal, shadow, blood, coverage, view.pixel_mm)


def _ellipsoid_centre(person: Person) -> np.ndarray:
    """(3, 1, 1): so that the ellipsoid passes through the outer eye corners."""
    outer = geometry.EYE_CORNERS_MM[1, 0]
    height = np.sqrt(1 - (outer[0] / person.face_half_width_mm) ** 2 - ((outer[1] - 10) / 130) ** 2)
    return colour((0.0, 10.0, outer[2] + 95 * height))


@dataclass(frozen=True)
class _Relief:
    """One half of a face on a grid of 1 mm: maps (n, ROWS, COLUMNS) over y from the top and |x|."""

    depth_mm: np.ndarray  # (1, …) that the face lies behind its ellipsoid (negative: in front)
    details: np.ndarray  # (4, …): the slopes of depth along |x| and y, shadow, blood


RELIEF_TOP_MM, RELIEF_ROWS, RELIEF_COLUMNS = -70, 220, 84


@functools.lru_cache(maxsize=8)
def _relief(person: Person) -> _Relief:
    u = np.arange(RELIEF_COLUMNS, dtype=np.float32)[None, :]
    y = np.arange(RELIEF_TOP_MM, RELIEF_TOP_MM + RELIEF_ROWS, dtype=np.float32)[:, None]
    depth_mm = _depth(person, u, y)
    slope_y, slope_u = np.gradient(depth_mm)
    blood = 0.8 * bump(u, y, 38, 32, 16, 14) + 0.6 * bump(u, y, 0, person.nose_tip_mm, 13, 9)
    return _Relief(depth_mm[None], np.stack([slope_u, slope_y, _folds(person, u, y), blood]))


def _read(maps: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n, H, W): maps of `_Relief` between their points."""
    u = np.clip(np.abs(x), 0, RELIEF_COLUMNS - 1.001)
    y = np.clip(y - RELIEF_TOP_MM, 0, RELIEF_ROWS - 1.001)
    column, row = np.floor(u), np.floor(y)
    u, y = u - column, y - row
    corner = (row * RELIEF_COLUMNS + column).astype(np.intp)
    read = np.empty((len(maps), *u.shape), np.float32)
    for into, values in zip(read, maps.reshape(len(maps), -1)):
        above, below = values.take(corner), values.take(corner + RELIEF_COLUMNS)
        above += u * (values.take(corner + 1) - above)
        below += u * (values.take(corner + RELIEF_COLUMNS + 1) - below)
        into[:] = above + y * (below - above)
    return read


def _depth(person: Person, u: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Nose, brow ridge, cheeks, lips, chin and eye sockets, mm."""
    tip = person.nose_tip_mm
    along = np.clip((y + 12) / (tip + 12), 0, 1)
    ridge = (4 + 15 * along**1.5) * smoothstep(-16, 6, y) * smoothstep(tip + 12, tip, y) * person.nose_height
    width = (6.0 + 4.5 * along) * person.nose_width
    depth = -ridge * np.exp(-0.5 * (u / width) ** 2)
    depth -= 5.5 * bump(u, y, 12.5 * person.nose_width, tip + 1, 5, 5.5)
    depth -= 1.4 * bump(u, y, 22, -20, 20, 9)
    depth -= 3.5 * bump(u, y, 44, 28, 17, 16)
    mouth = person.mouth_mm
    depth -= 7 * bump(u, y, 0, mouth, 24, 20)
    depth -= 2.0 * bump(u, y, 0, mouth - 5, 15, 3.8) + 3.0 * bump(u, y, 0, mouth + 6, 14, 4.5)
    depth -= 13 * bump(u, y, 0, mouth + 32, 18, 14)

    # Around the eye the surface is the plane through its corners, lifted by the ball behind the lids.
    (outer_x, outer_y, outer_z), (inner_x, inner_y, inner_z) = geometry.EYE_CORNERS_MM[1].tolist()
    eye_x, eye_y = (outer_x + inner_x) / 2, (outer_y + inner_y) / 2
    plane_z = inner_z + (outer_z - inner_z) / (outer_x - inner_x) * (u - inner_x)
    inside = np.maximum(1 - (u / person.face_half_width_mm) ** 2 - ((y - 10) / 130) ** 2, 0)
    ellipsoid_z = _ellipsoid_centre(person)[2, 0] - 95 * np.sqrt(inside)
    radius = ((u - eye_x) / 26) ** 2 + ((y - eye_y) / 20) ** 2
    socket = np.exp(-(radius**1.6)) * smoothstep(0, 15, u)
    bulge = 4.0 * np.exp(-((((u - eye_x) / 11) ** 2 + ((y - eye_y) / 10) ** 2) ** 1.5))
    return depth + socket * (plane_z - ellipsoid_z - depth) - bulge


def _folds(person: Person, u: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How much less light reaches sockets, nostrils, the lips' undersides and the folds of age, 0..0.9."""
    tip, mouth = person.nose_tip_mm, person.mouth_mm
    shadow = 0.24 * bump(u, y, 17, -5, 7, 6) + 0.08 * bump(u, y, 32, -9, 14, 5)
    shadow = shadow + 0.32 * bump(u, y, 0, tip + 10, 11 * person.nose_width, 3.5)
    shadow += 0.28 * bump(u, y, 0, mouth + 15, 13, 3.5)
    shadow += (0.08 + 0.2 * person.age) * bump(u, y, 26, 13, 11, 3.0)
    wing = np.hypot((u - 12 * person.nose_width) / 1.1, y - tip - 1) - 7.5
    shadow += 0.3 * np.exp(-0.5 * (wing / 1.5) ** 2) * smoothstep(9, 14, u) * smoothstep(tip + 9, tip + 3, y)
    fold = u - (15 + (y - tip + 4) * 0.5)
    fold = np.exp(-0.5 * (fold / 2.2) ** 2) * smoothstep(tip - 8, tip + 3, y) * smoothstep(mouth + 12, mouth - 2, y)
    shadow += (0.08 + 0.28 * person.age) * fold
    return np.minimum(shadow, 0.9)


# --- Skin, brows, lips, hair ------------------------------------------------------------------------------------------


def skin_colour(person: Person) -> np.ndarray:
    """(3, 1, 1) linear albedo."""
    tones = (SKIN_TONES / 255.0) ** 2
    tone = np.array([np.interp(person.skin_tone, np.arange(10), tones[:, c]) for c in range(3)])
    hue = 1 + person.skin_hue * np.array([0.03, -0.05, -0.02])
    return colour(tone * hue)


def skin(person: Person, scene: Scene, surface: Surface) -> np.ndarray:
    """(3, H, W) albedo of the whole head, painted in millimetres."""
    x, y, u = surface.x, surface.y, np.abs(surface.x)
    blotches, pores, freckles, *_ = white_noise(person.texture_seed, 5)
    base = skin_colour(person)
    large, fine = smooth_noise(blotches, x / 14, y / 14), smooth_noise(pores, x / 1.9, y / 1.9)
    albedo = base * (1 + 0.14 * person.blotches * large + (0.05 + 0.05 * person.blotches) * fine)

    if surface.pixel_mm < 0.5:  # pores, and lines finer than other pictures show
        tiny = smooth_noise(pores, x / 0.55 + 0.2 * y, y / 0.6)
        albedo *= 1 + (0.07 + 0.08 * person.age) * smoothstep(0.5, 0.25, surface.pixel_mm) * tiny

    blood = (surface.blood + 0.35 * large) * (0.5 * person.skin_redness)
    albedo *= 1 + blood * colour((0.06, -0.22, -0.20))
    if person.freckles > 0:
        spots = smoothstep(0.62, 0.8, 0.8 * smooth_noise(freckles, x / 2.3, y / 2.3) + 0.4 * fine) * bump(
            u, y, 22, 22, 30, 18
        )
        mix(albedo, base * colour((0.62, 0.5, 0.42)), spots * person.freckles)

    albedo *= 1 - surface.shadow * colour((0.8, 1.0, 1.05))
    _paint_nostrils(albedo, person, surface, base)
    _paint_mouth(albedo, person, scene, surface, base)
    _paint_beard(albedo, person, surface)
    _paint_brows(albedo, person, surface)
    _paint_hair(albedo, person, surface)
    return albedo


def _paint_nostrils(albedo: np.ndarray, person: Person, surface: Surface, base) -> None:
    tip = person.nose_tip_mm
    rows, x, y = surface.band(tip, tip + 12)
    u = np.abs(x)
    nostril = ((u - 6.2 * person.nose_width) / 4.2) ** 2 + ((y - tip - 5.2 - 0.12 * u) / 2.1) ** 2
    mix(albedo[:, rows], base * colour((0.13, 0.07, 0.06)), 0.9 * smoothstep(1.5, 0.5, nostril))


def _paint_mouth(albedo: np.ndarray, person: Person, scene: Scene, surface: Surface, base) -> None:
    rows, x, y = surface.band(person.mouth_mm - 14, person.mouth_mm + 18)
    albedo = albedo[:, rows]
    along = np.clip(np.abs(x) / (person.mouth_half_width_mm * (1 + 0.12 * scene.smile)), 0, 1.2)
    dome = np.maximum(1 - along * along, 0)
    seam_y = person.mouth_mm - 3.0 * scene.smile * along**2 + 0.8 * np.cos(along * 9) * dome
    cupid = 1 - 0.28 * np.exp(-((x / 3.2) ** 2))
    above, below = person.upper_lip_mm * dome**0.8 * cupid, person.lower_lip_mm * dome**0.7
    distance = np.minimum(y - seam_y + above, seam_y + below - y)
    lips = inside(distance, surface.pixel_mm + 0.8) * (dome > 0)
    natural = base * colour((1.02, 0.60, 0.62)) * (1 - 0.1 * (y < seam_y))
    mix(albedo, natural + person.lipstick * (colour(person.lip_colour) - natural), 0.85 * lips)
    seam = np.exp(-(((y - seam_y) / (0.7 + 0.5 * surface.pixel_mm)) ** 2)) * smoothstep(1.15, 0.95, along)
    mix(albedo, base * colour((0.25, 0.10, 0.09)), 0.85 * seam)


def _paint_beard(albedo: np.ndarray, person: Person, surface: Surface) -> None:
    if person.beard + person.moustache == 0:
        return
    mouth = person.mouth_mm
    rows, x, y = surface.band(mouth - 40, 999)
    u, albedo, strands = np.abs(x), albedo[:, rows], _short_hairs(person, x, y)
    edge = 6 * smooth_noise(white_noise(person.texture_seed, 5)[4], x / 8, y / 8)
    jaw = smoothstep(-8, 10, y - mouth + 12 + edge - np.clip(u - 28, 0, 40) * 1.4)
    lips = np.hypot(x / (person.mouth_half_width_mm + 2), (y - mouth) / (person.lower_lip_mm + 2))
    jaw *= smoothstep(0.9, 1.15, lips)
    moustache = bump(u, y, 9, mouth - person.upper_lip_mm - 5, 13, 3.2) * 1.3 * smoothstep(0.9, 1.05, lips)
    alpha = np.clip(np.maximum(person.beard * jaw, person.moustache * moustache), 0, 1)
    alpha = np.clip(alpha * (0.85 + 0.5 * strands), 0, 0.95)
    mix(albedo, colour(person.hair_colour) * (1 + 0.3 * strands), alpha)


def _short_hairs(person: Person, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """-1..1: the grain of brows and beard."""
    return smooth_noise(white_noise(person.texture_seed, 5)[3], x / 0.8 + 0.3 * y, y / 1.7 + 0.1 * x)


def _paint_brows(albedo: np.ndarray, person: Person, surface: Surface) -> None:
    rows, x, y = surface.band(person.brow_mm - 14, person.brow_mm + 12)
    u, albedo, strands = np.abs(x), albedo[:, rows], _short_hairs(person, x, y)
    along = np.clip((u - 12) / 42, -0.2, 1.2)
    middle = person.brow_mm - person.brow_arch_mm * np.sin(np.pi * np.clip(along, 0, 1) ** 1.3) + 3.5 * along**3
    half = person.brow_half_thickness_mm * (1.05 - 0.75 * np.clip(along, 0, 1))
    alpha = inside(half - np.abs(y - middle), 1.8 + surface.pixel_mm)
    alpha *= smoothstep(-0.06, 0.12, along) * smoothstep(1.08, 0.85, along)
    alpha *= np.clip(person.brow_density * (1 + 0.4 * strands), 0, 1)
    mix(albedo, colour(person.brow_colour), alpha)


def _paint_hair(albedo: np.ndarray, person: Person, surface: Surface) -> None:
    x, y, u = surface.x, surface.y, np.abs(surface.x)
    strands = smooth_noise(white_noise(person.texture_seed, 5)[4], x / 1.6 + y / 40, y / 22)
    ragged = 3.5 * strands
    front = person.hairline_mm + 0.004 * u * u - y + ragged
    # The temple's edge runs down to the ear; long hair goes on beside the cheeks.
    temple = u - person.temple_mm + 0.6 * ragged - (0 if person.long_hair else np.clip((y - 5) * 0.9, 0, None))
    alpha = inside(np.maximum(front, temple), 3 + surface.pixel_mm)
    mix(albedo, colour(person.hair_colour) * (1 + 0.45 * strands), alpha)


def shade(albedo: np.ndarray, person: Person, surface: Surface, light: Light) -> np.ndarray:
    """(3, H, W) light that leaves the face."""
    normal = surface.normal
    towards = light.towards.astype(np.float32)
    facing = dot(towards, normal)
    # Light wraps around skin, red the farthest: it scatters inside.
    wrap = colour((0.38, 0.28, 0.24)) + 0.15 * light.size
    key = np.clip((facing + wrap) / (1 + wrap), 0, None)
    key *= 0.7 + 0.3 * key
    sky = 0.75 - 0.25 * normal[1]
    radiance = albedo * (key * light.key + sky * light.ambient)
    halfway = towards + TO_CAMERA
    halfway = (halfway / np.linalg.norm(halfway)).astype(np.float32)
    sheen = np.clip(dot(halfway, normal), 0, None)
    for _ in range(4):
        sheen *= sheen  # to the 16th power
    return radiance + sheen * (1 - surface.shadow) * (0.02 + 0.08 * person.oiliness) * light.key
