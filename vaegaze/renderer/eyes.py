"""Lids that follow the eyeballs, and lashes."""

from dataclasses import dataclass, replace

import numpy as np

from vaegaze.geometry import camera as geometry
from vaegaze.geometry.eye_regions import SQUARE_FACTOR, draw_lids, lids_depth
from vaegaze.renderer.canvas import (
    View,
    blur_reach_px,
    colour,
    inside,
    mix,
    smooth_noise,
    smoothstep,
    white_noise,
)
from vaegaze.renderer.eyeball import eyeball
from vaegaze.renderer.persons import Person, Scene

MIN_OPENING_MM = 1.8  # of lids that follow a look down, without a blink


def eye_areas(head: tuple[float, float], camera: geometry.Camera) -> np.ndarray:
    """(H, W) bool: outside of it no pixel depends on gaze. It lies within either shape of eye mask."""
    squares = np.zeros((camera.height_px, camera.width_px), bool)
    for x, y, radius in geometry.eye_circles(head, camera):
        half = SQUARE_FACTOR * radius
        squares[_pixels(y, half, camera.height_px), _pixels(x, half, camera.width_px)] = True
    return squares & draw_lids(camera.project(geometry.EYE_CORNERS_MM, head), camera.shape)


@dataclass(frozen=True)
class EyeBox:
    """The pixels around one eye that may depend on its gaze."""

    side: int  # 0 left, 1 right
    rows: slice
    columns: slice
    rays: np.ndarray  # (3, h, w), as `View.rays`
    depth: np.ndarray  # (h, w) px inside the region of the eye (`lids_depth`), less what the lens blurs
    shown: np.ndarray  # (h, w) 0..1: how much of the eye is drawn, so that it has no edge

    @classmethod
    def of(cls, scene: Scene, view: View, side: int) -> "EyeBox":
        camera, reach = view.camera, blur_reach_px(scene, view.camera)
        x, y, radius = geometry.eye_circles(scene.head, camera)[side]
        half = SQUARE_FACTOR * radius - reach
        rows, columns = _pixels(y, half, camera.height_px), _pixels(x, half, camera.width_px)
        ys, xs = np.mgrid[rows, columns] + 0.5
        shown = smoothstep(half, 0.88 * half, np.maximum(np.abs(ys - y), np.abs(xs - x)))
        corners = camera.project(geometry.EYE_CORNERS_MM, scene.head)[side]
        depth = lids_depth(corners, np.stack([xs, ys], axis=-1)) - reach
        shown *= smoothstep(0, 0.12 * radius, depth)
        return cls(side, rows, columns, view.rays[:, rows, columns], depth, shown.astype(np.float32))


def draw_eye(picture, face_parsing, person, scene, view, light, box: EyeBox, gaze) -> None:
    """Lids, lashes and eyeball of one eye, inside its area (`eye_areas`)."""
    before = picture[:, box.rows, box.columns]
    drawn = before.copy()
    lids = _lids(person, scene, view, box.rays, box.side, gaze)

    _shade_lids(drawn, person, lids)
    rows, columns = _extent(lids.opening > 0)  # elsewhere nothing of the ball is seen
    seen = lids.within(rows, columns)
    ball, iris = eyeball(person, scene, view, light, box.rays[:, rows, columns], seen, box.side, gaze)
    mix(drawn[:, rows, columns], ball, seen.opening)
    _draw_lashes(drawn, person, lids)
    mix(before, drawn, box.shown)

    parsing, is_open = face_parsing[box.rows, box.columns], (lids.opening > 0.5) & (box.depth > 0)
    parsing[is_open] = 1 + box.side
    parsing[rows, columns][is_open[rows, columns] & (iris > 0.5)] = 3 + box.side


def _extent(seen: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns outside of which nothing of (H, W) is true."""
    numbers = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return tuple(slice(each[0], each[-1] + 1) if len(each) else slice(0) for each in numbers)


def _pixels(centre: float, half: float, size: int) -> slice:
    """The pixels whose middles lie within `half` of `centre`."""
    first, last = np.clip(np.round([centre - half, centre + half]), 0, size).astype(int)
    return slice(first, last)


@dataclass(frozen=True)
class _Lids:
    """One eye's lids in the coordinates of its corners, for each pixel of its box (H, W)."""

    along: np.ndarray  # -1 inner corner..1 outer corner
    above_upper_mm: np.ndarray  # height over the upper lid's margin
    below_lower_mm: np.ndarray
    opening: np.ndarray  # 0..1
    crease_mm: float  # height of the crease above the upper margin now
    pixel_mm: float

    def within(self, rows: slice, columns: slice) -> "_Lids":
        maps = ("along", "above_upper_mm", "below_lower_mm", "opening")
        return replace(self, **{name: getattr(self, name)[rows, columns] for name in maps})


def _lids(person: Person, scene: Scene, view: View, rays: np.ndarray, side: int, gaze: np.ndarray) -> _Lids:
    outer, inner = geometry.EYE_CORNERS_MM[1, :, :2] + ((0, -person.corner_lift_mm), (0, 0))
    middle, half = (outer + inner) / 2, (outer - inner) / 2
    half_mm = np.hypot(*half)
    u, y = _lid_surface(view, rays, side)
    du, dy = u - middle[0], y - middle[1]
    along = (du * half[0] + dy * half[1]) / half_mm**2
    height = (du * half[1] - dy * half[0]) / half_mm

    # Lids follow the eye's pitch in the head: the upper one as far as the iris, which it keeps covering at the top, the
    # lower one about half of that when the eye looks down, less when it looks up.
    direction = view.rotation.T @ geometry.gaze_vector(gaze)
    iris_up_mm = -direction[1] * person.eyeball_radius_mm
    lower_mm = (person.lower_lid_mm - 1.0 * max(scene.smile, 0)) * scene.lid_opening
    lower_mm = max(lower_mm - (0.55 if iris_up_mm < 0 else 0.35) * iris_up_mm, 0.9)
    upper_mm = max(person.upper_lid_mm * scene.lid_opening + 0.95 * iris_up_mm, MIN_OPENING_MM - lower_mm)

    def margins(along):
        inner_half = np.clip(-along, 0, 1)
        skewed = np.clip(along - person.lid_peak * (1 - along * along), -1, 1)
        upper = upper_mm * (1 - np.abs(skewed) ** 2.3) ** 0.85 * (1 - 0.35 * person.epicanthus * inner_half)
        skewed = np.clip(along - 0.18 * (1 - along * along), -1, 1)
        lower = -lower_mm * (1 - np.abs(skewed) ** 2.2)
        if scene.blink:  # the upper lid comes down most of the way; closed, they overlap by a pixel
            meeting = 0.7 * lower
            upper = upper + scene.blink * (meeting - view.pixel_mm / 2 - upper)
            lower = lower + scene.blink * (meeting + view.pixel_mm / 2 - lower)
        return upper, lower

    clipped = np.clip(along, -1, 1)
    upper, lower = margins(clipped)
    ahead_upper, ahead_lower = margins(np.clip(clipped + 0.02, -1, 1))
    slope_upper, slope_lower = (ahead_upper - upper) / (0.02 * half_mm), (ahead_lower - lower) / (0.02 * half_mm)
    above = (height - upper) / np.sqrt(1 + slope_upper**2)
    below = (lower - height) / np.sqrt(1 + slope_lower**2)
    opening = inside(np.minimum(-above, -below), view.pixel_mm) * inside((1 - np.abs(along)) * half_mm, view.pixel_mm)
    crease_mm = person.crease_mm and max(person.crease_mm - 0.45 * iris_up_mm, 1.2) + 0.8 * scene.blink * upper_mm
    return _Lids(along, height - upper, lower - height, opening, crease_mm, view.pixel_mm)


def _lid_surface(view: View, rays: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Distance from the head's middle and y (H, W), mm, where rays meet the upright plane through an eye's corners,
    which the eyeball lifts between them."""
    sign = -1 if side == 0 else 1
    (outer_u, outer_y, outer_z), (inner_u, inner_y, inner_z) = geometry.EYE_CORNERS_MM[1].tolist()
    slope = (outer_z - inner_z) / (outer_u - inner_u)
    from_x, from_y, from_z = view.position_mm.tolist()
    to_plane_mm = inner_z + slope * (sign * from_x - inner_u) - from_z
    approach = rays[2] - slope * sign * rays[0]
    lift_mm = 0.0
    for _ in range(3):
        steps = (to_plane_mm - lift_mm) / approach
        u, y = sign * (from_x + steps * rays[0]), from_y + steps * rays[1]
        radius2 = ((u - (outer_u + inner_u) / 2) / 11) ** 2 + ((y - (outer_y + inner_y) / 2) / 10) ** 2
        lift_mm = 4.0 * np.exp(-(radius2**2))
    return u, y


def _shade_lids(box: np.ndarray, person: Person, lids: _Lids) -> None:
    """Crease, make-up and the lids' soft shadows, darkening the skin that is there."""
    ends = smoothstep(1.22, 0.85, np.abs(lids.along))
    if person.crease_mm:
        line = (lids.above_upper_mm - lids.crease_mm * (1 - 0.35 * np.clip(lids.along, -1, 1) ** 2)) / (
            0.5 + 0.5 * lids.pixel_mm
        )
        crease = np.exp(-(line**2)) + 0.45 * np.exp(-0.5 * (line * 0.35 - 0.6) ** 2)
        box *= 1 - 0.34 * crease * ends * colour((0.85, 1, 1.05))
    shadow = smoothstep(9, 0, lids.above_upper_mm) * (lids.above_upper_mm > 0)
    if person.eyeshadow:
        mix(box, box * colour(person.eyeshadow_colour) * 2, person.eyeshadow * shadow * ends * 0.8)
    bag = np.exp(-0.5 * ((lids.below_lower_mm - 4.5) / 1.5) ** 2)
    box *= 1 - (0.06 + 0.12 * person.age) * bag * ends
    rim = np.exp(-((lids.below_lower_mm / 1.1) ** 2)) * smoothstep(1.05, 0.9, np.abs(lids.along))
    mix(box, box * colour((1.02, 0.80, 0.78)), 0.7 * rim)


def _draw_lashes(box: np.ndarray, person: Person, lids: _Lids) -> None:
    """The dark line of the upper lashes, single lashes where pixels are fine enough, and liner."""
    ends = smoothstep(1.12, 0.9, np.abs(lids.along)) * smoothstep(-1.05, -0.6, lids.along)
    height = lids.above_upper_mm
    thick = 0.7 + 0.6 * person.lashes + 0.7 * person.eyeliner
    line = np.exp(-(((height - 0.25 * thick) / (thick + 0.35 * lids.pixel_mm)) ** 2))
    curl = 1.1 * height * (lids.along + 0.3) * (1 + 0.12 * np.abs(height))
    irregular = smooth_noise(white_noise(person.texture_seed, 5)[2], lids.along * 15 + 20, 0 * height)
    comb = 0.5 + 0.5 * np.cos(lids.along * 75 + 1.5 * irregular + curl)
    visible = min(1.0, 0.35 / lids.pixel_mm)
    comb = comb**2 * visible + 0.4 * (1 - visible)
    length_mm = (4.0 + 2.0 * lids.along) * (0.6 + 0.7 * person.lashes) * (1 + 0.25 * irregular)
    hairs = comb * smoothstep(1, 0.1, height / length_mm) * (height > -0.3) * 0.7
    line *= 0.6 + 0.4 * max(person.lashes, person.eyeliner)
    alpha = np.maximum(line, (0.3 + 0.7 * person.lashes) * hairs) * ends
    dark = colour(person.brow_colour) * 0.25 * (1 - person.eyeliner) * box.mean() * 3
    mix(box, dark, np.clip(alpha, 0, 0.95))
    lower = np.exp(-(((lids.below_lower_mm - 0.5) / (0.5 + 0.4 * lids.pixel_mm)) ** 2))
    lower = lower * smoothstep(1.05, 0.8, np.abs(lids.along)) * smoothstep(-0.9, 0.3, lids.along)
    mix(box, dark, (0.12 + 0.25 * person.lashes + 0.35 * person.eyeliner) * lower)
    below = lids.below_lower_mm
    hairs = (0.5 + 0.5 * np.cos(lids.along * 48 - 0.9 * below * lids.along + 2 * irregular)) ** 3 * visible
    hairs = hairs * smoothstep(1, 0.2, below / (0.45 * length_mm)) * (below > -0.2)
    mix(box, dark, 0.55 * person.lashes * hairs * smoothstep(1.05, 0.8, np.abs(lids.along)))
