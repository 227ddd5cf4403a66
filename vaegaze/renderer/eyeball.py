"""Eyeballs: white, iris, pupil, and what they mirror."""

import numpy as np

from vaegaze.geometry import camera as geometry
from vaegaze.renderer.canvas import TO_CAMERA, colour, dot, inside, mix, smooth_noise, smoothstep, white_noise
from vaegaze.renderer.face import skin_colour
from vaegaze.renderer.persons import eyeball_centres_mm

CORNEA_RADIUS_MM = 7.8


def eyeball(person, scene, view, light, rays, lids, side, gaze) -> tuple[np.ndarray, np.ndarray]:
    """(3, H, W) light from the eyeball where the rays `rays` meet it, and (H, W) how much of each pixel is iris."""
    centre = eyeball_centres_mm(person)[side]
    radius = person.eyeball_radius_mm
    axis = view.rotation.T @ geometry.gaze_vector(gaze)  # head frame
    rays = rays.astype(np.float64)

    point, missed = _sphere(rays, view.position_mm - centre, radius)
    normal = point / radius
    off_axis_mm = radius * np.sqrt(np.maximum(1 - dot(axis, normal) ** 2, 0))
    facing = dot(axis, normal) > 0
    pixel_mm = view.pixel_mm
    iris = inside(person.iris_radius_mm - off_axis_mm, pixel_mm + 0.6) * facing

    # White of the eye: redder and darker towards the corners and where it turns away.
    edge = np.clip(np.abs(lids.along), 0, 1) ** 2
    white = colour(person.sclera_colour) * (1 - edge * (0.16 + 0.3 * person.sclera_redness) * colour((0.3, 1, 1)))
    caruncle = smoothstep(-0.72, -0.92, lids.along) * (1 - 0.8 * person.epicanthus)
    flesh = skin_colour(person) * 0.3 + colour((0.30, 0.12, 0.10))
    mix(white, flesh, np.maximum(0.8 * caruncle, smoothstep(-0.6, 0.0, missed)))

    # Iris: fibres around the pupil, a ring of another colour, a dark limbus.
    right = np.array([view.rotation.T[0, 0], view.rotation.T[1, 0], view.rotation.T[2, 0]])
    right = right - axis * (axis @ right)
    right /= np.linalg.norm(right)
    angle = np.arctan2(dot(np.cross(axis, right), normal), dot(right, normal))
    outwards = off_axis_mm / person.iris_radius_mm
    fibres = _fibres(person.texture_seed, side, angle, outwards)
    tint = colour(person.iris_colour) * (1 + 0.75 * person.iris_contrast * fibres)
    mix(tint, colour(person.iris_ring_colour) * (1 + 0.4 * fibres), smoothstep(0.72, 0.38, outwards + 0.12 * fibres))
    collarette = np.exp(-(((outwards - 0.52 - 0.06 * fibres) / 0.07) ** 2))
    crypts = smoothstep(0.35, 0.8, -fibres) * smoothstep(0.45, 0.6, outwards)
    tint *= 1 + person.iris_contrast * (0.3 * collarette - 0.45 * crypts)
    tint *= 1 - person.limbus * smoothstep(1 - person.limbus_width, 0.98, outwards)
    pupil = inside(scene.pupil_mm - off_axis_mm, pixel_mm + 0.15) * facing
    mix(tint, colour((0.008, 0.007, 0.007)), pupil)
    mix(white, tint, iris)

    # Light: soft on the wet ball; the upper lid throws its shadow down, the lower one a little up.
    to_light = view.rotation.T @ light.towards
    diffuse = np.clip(0.45 + 0.55 * dot(to_light, normal), 0, None)
    shade = 0.42 + 0.58 * smoothstep(-0.2, 3.6, -lids.above_upper_mm)
    shade *= 0.80 + 0.20 * smoothstep(-0.2, 1.5, -lids.below_lower_mm)
    light_out = white * (diffuse * light.key + light.ambient) * shade
    tears = np.exp(-(((lids.below_lower_mm + 0.35) / (0.22 + 0.3 * pixel_mm)) ** 2)) * smoothstep(
        1, 0.7, np.abs(lids.along)
    )
    light_out += 0.10 * min(1.0, 0.5 / pixel_mm) * tears * light.key
    return light_out + _glint(person, scene, view, light, rays, centre, axis), iris


def _sphere(rays: np.ndarray, origin_mm: np.ndarray, radius_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Nearest points (3, H, W) of rays on a sphere around 0, and (H, W) mm that each ray misses it by (< 0: hits)."""
    a = (rays * rays).sum(0)
    b = dot(origin_mm, rays)
    distance2 = origin_mm @ origin_mm - b * b / a
    step = -(b + np.sqrt(np.maximum(radius_mm**2 - distance2, 0) * a)) / a
    point = origin_mm[:, None, None] + step * rays
    missed = np.sqrt(distance2) - radius_mm
    return point * np.where(missed > 0, radius_mm / np.sqrt(distance2), 1), missed


def _fibres(seed: int, side: int, angle: np.ndarray, outwards: np.ndarray) -> np.ndarray:
    """-1..1: noise that runs from the pupil outwards and closes around it."""
    lattice = white_noise(seed, 5)[side]
    turns = (angle / (2 * np.pi) + 0.5) * 64
    return 0.65 * smooth_noise(lattice, turns, outwards * 1.7) + 0.35 * smooth_noise(lattice.T, turns, outwards * 5)


def _glint(person, scene, view, light, rays, centre, axis) -> np.ndarray:
    """(3, H, W): the key light mirrored in the cornea, and a bright scene's over the iris' upper half."""
    cornea = centre + axis * (np.sqrt(person.eyeball_radius_mm**2 - person.iris_radius_mm**2)
                              - np.sqrt(CORNEA_RADIUS_MM**2 - person.iris_radius_mm**2))  # fmt: skip
    point, missed = _sphere(rays, view.position_mm - cornea, CORNEA_RADIUS_MM)
    normal = point / CORNEA_RADIUS_MM
    on_cornea = smoothstep(np.sqrt(1 - (person.iris_radius_mm / CORNEA_RADIUS_MM) ** 2) - 0.03,
                            np.sqrt(1 - (person.iris_radius_mm / CORNEA_RADIUS_MM) ** 2) + 0.05,
                            dot(axis, normal)) * (missed < 0)  # fmt: skip
    halfway = view.rotation.T @ (light.towards + TO_CAMERA)
    halfway /= np.linalg.norm(halfway)
    right = np.cross((0.0, 1.0, 0.0), halfway)
    right /= np.linalg.norm(right)
    across, down = CORNEA_RADIUS_MM * dot(right, normal), CORNEA_RADIUS_MM * dot(np.cross(halfway, right), normal)
    glint_mm = 0.35 + 0.75 * light.size
    away_mm = np.hypot(across, down)
    distance = {
        "disc": lambda: glint_mm - away_mm,
        "window": lambda: glint_mm - np.maximum(1.3 * np.abs(across), 0.8 * np.abs(down)),
        "ring": lambda: 0.35 * glint_mm - np.abs(away_mm - glint_mm),
        "two": lambda: 0.6 * glint_mm - np.hypot(np.abs(across) - 1.2, down),
        "none": lambda: np.full_like(away_mm, -9),
    }[scene.catch_light]()
    glint = inside(distance, view.pixel_mm + 0.3) * on_cornea * (dot(halfway, normal) > 0) * (1.0 - 0.45 * light.size)
    upwards = -dot(view.rotation.T @ (0.0, 1.0, 0.0), normal)
    haze = (0.02 + scene.bright_surroundings * smoothstep(-0.1, 0.5, upwards)) * on_cornea
    return (1.3 * glint + haze).astype(np.float32) * light.key
