"""Persons and scenes to render, and random samples of both."""

from dataclasses import dataclass, replace

import numpy as np

from vaegaze.geometry import camera as geometry

RGB = tuple[float, float, float]

HAIR_COLOURS = ((0.010, 0.008, 0.007), (0.030, 0.017, 0.011), (0.075, 0.040, 0.022), (0.16, 0.085, 0.045),
                (0.36, 0.25, 0.13), (0.22, 0.065, 0.022), (0.35, 0.34, 0.33))  # fmt: skip
# From dark brown over amber, hazel, green and grey to blue: between neighbours lie colours that eyes have.
IRIS_COLOURS = ((0.020, 0.010, 0.006), (0.048, 0.022, 0.011), (0.095, 0.047, 0.019), (0.17, 0.095, 0.030),
                (0.12, 0.095, 0.040), (0.10, 0.12, 0.065), (0.15, 0.170, 0.170), (0.16, 0.21, 0.26),
                (0.09, 0.14, 0.20))  # fmt: skip


CATCH_LIGHTS = ("disc", "window", "ring", "two", "none")


@dataclass(frozen=True)
class Person:
    """What stays the same in all pictures of one person. Colours are linear RGB, 0..1."""

    skin_tone: float  # 0..9 along the Monk scale
    skin_redness: float  # 0..1, blood in cheeks, nose and lips
    skin_hue: float  # -1 olive..1 rosy
    blotches: float  # 0..1, uneven skin
    freckles: float  # 0..1
    age: float  # 0..1, folds and bags
    oiliness: float  # 0..1, sheen
    texture_seed: int  # where hairs, spots and iris fibres lie

    face_half_width_mm: float
    jaw_taper: float  # 0 square..0.3 pointed
    nose_width: float  # 1 is average
    nose_height: float
    nose_tip_mm: float  # below the eyes
    mouth_mm: float  # below the eyes
    mouth_half_width_mm: float
    upper_lip_mm: float
    lower_lip_mm: float
    lip_colour: RGB
    lipstick: float  # 0..1

    hair_colour: RGB
    hairline_mm: float  # below the eyes, so negative; above -46 in view only when a fringe
    temple_mm: float  # where hair begins at the sides, from the middle
    long_hair: bool
    brow_colour: RGB
    brow_mm: float  # below the eyes, so negative
    brow_arch_mm: float
    brow_half_thickness_mm: float
    brow_density: float  # 0..1
    beard: float  # 0..1
    moustache: float  # 0..1

    eyeball_radius_mm: float
    eyeball_depth_mm: float  # its centre behind the plane of the corners
    eyeball_offsets_mm: tuple[tuple[float, float], tuple[float, float]]  # per eye: lateral (outwards), down
    iris_radius_mm: float
    iris_colour: RGB
    iris_ring_colour: RGB  # around the pupil
    iris_contrast: float  # 0..1, of its fibres
    limbus: float  # 0..1, darkness of the ring around the iris
    limbus_width: float  # of the iris' radius
    sclera_colour: RGB
    sclera_redness: float  # 0..1
    upper_lid_mm: float  # height of the lid's margin over the line between the corners, looking ahead
    lower_lid_mm: float
    lid_peak: float  # -0.3 towards the nose..0.3 outwards
    corner_lift_mm: float  # of the outer corner
    epicanthus: float  # 0..1, fold over the inner corner
    crease_mm: float  # above the lid's margin; 0 without
    lashes: float  # 0..1
    eyeliner: float  # 0..1
    eyeshadow: float  # 0..1
    eyeshadow_colour: RGB

    glasses: bool
    glasses_colour: RGB
    glasses_half_size_mm: tuple[float, float]
    glasses_corner_mm: float
    glasses_rim_mm: float


@dataclass(frozen=True)
class Scene:
    """What changes from picture to picture. Directions are (pitch, yaw) in radians, camera axes."""

    gaze: tuple[float, float] = (0.0, 0.0)  # from the point between the eyes to what both look at
    head: tuple[float, float] = (0.0, 0.0)
    target_mm: float = 600.0  # how far away that is
    pupil_mm: float = 1.9  # radius
    lid_opening: float = 1.0  # 1 natural..4 wider than any lid: the whole iris shows
    blink: float = 0.0  # 0 none..1 the lids are closed
    smile: float = 0.0  # -0.5..1
    light: tuple[float, float] = (0.5, 0.4)  # where the key light stands, as a direction from the face
    light_size: float = 0.5  # 0 a bare bulb..1 a window
    catch_light: str = "disc"  # what the cornea mirrors: one of CATCH_LIGHTS
    bright_surroundings: float = 0.0  # 0..1, mirrored over the iris' upper half
    light_colour: RGB = (1.0, 0.97, 0.93)
    ambient_colour: RGB = (0.42, 0.44, 0.48)
    exposure: float = 1.0
    saturation: float = 1.0
    contrast: float = 1.0
    white_balance: RGB = (1.0, 1.0, 1.0)
    background_colours: tuple[RGB, RGB] = ((0.35, 0.33, 0.3), (0.12, 0.13, 0.15))
    background_seed: int = 0
    blur_px: float = 0.45  # standard deviation, of a 128 px picture
    noise: float = 0.008  # standard deviation of the sensor's noise, of a range 0..1
    noise_seed: int = 0
    jpeg_quality: int = 0  # 1..95; 0 leaves the picture uncompressed


def eyeball_centres_mm(person: Person) -> np.ndarray:
    """(2, 3): both eyeballs' centres in the head frame, left first."""
    offsets = [
        (side * lateral, down, person.eyeball_depth_mm)
        for side, (lateral, down) in zip((-1, 1), person.eyeball_offsets_mm)
    ]
    return geometry.EYE_CENTRES_MM + np.array(offsets)


def eye_gazes(person: Person, scene: Scene) -> np.ndarray:
    """(2, 2): pitch, yaw of each eye in camera axes, when both look at the scene's one target."""
    target_mm = scene.target_mm * geometry.gaze_vector(scene.gaze)
    centres_mm = eyeball_centres_mm(person) @ geometry.head_rotation(scene.head).T
    return geometry.pitch_yaw(target_mm - centres_mm)


def random_person(rng: np.random.Generator) -> Person:
    """A random person: skin tones across the Monk scale, features independent or in plausible combinations."""
    tone = 9 * rng.beta(1.0, 1.25)
    age = rng.beta(1.3, 2.2)
    bearded = rng.random() < 0.3
    made_up = not bearded and rng.random() < 0.4

    # Dark skin rarely comes with fair hair or eyes.
    fairness = np.clip((5.5 - tone) / 4, 0, 1)
    hair = np.array(HAIR_COLOURS[rng.choice(7, p=_likely([4, 4, 2, 2, 2, 0.6, 0.2 + 2 * age], fairness, 2))])
    hair = hair * rng.uniform(0.75, 1.3)
    brow = np.minimum(hair, 0.12) * rng.uniform(0.6, 1.0)
    iris = _between(IRIS_COLOURS, rng.random() ** (1.1 + 6 * (1 - fairness)))
    iris = iris * rng.uniform(0.7, 1.35) * rng.uniform(0.9, 1.1, 3)
    ring = 0.5 * iris + 0.5 * np.array([0.13, 0.075, 0.025]) * rng.uniform(0.5, 1.2)

    monolid = rng.random() < 0.25
    upper_lid_mm = rng.normal(4.3, 0.55) - 0.5 * age - 0.5 * monolid

    # The eyes of a face are nearly each other's mirror images. What both share downwards and differ by sideways turns
    # their gaze by an angle that no picture of a stranger shows, so it is kept small.
    alike, unlike = rng.normal(0, ((0.5, 0.12), (0.12, 0.08))).clip(-1.2, 1.2)
    person = Person(
        skin_tone=tone,
        skin_redness=rng.uniform(0.1, 1),
        skin_hue=_about(rng, 0, 0.6, -1.5, 1.5),
        blotches=rng.uniform(0.1, 0.9),
        freckles=rng.uniform(0.3, 0.9) if rng.random() < 0.15 + 0.25 * fairness else 0.0,
        age=age,
        oiliness=rng.beta(1.5, 2),
        texture_seed=int(rng.integers(2**31)),
        face_half_width_mm=_about(rng, 72, 2.5, 66, 78),
        jaw_taper=rng.uniform(-0.04, 0.22),
        nose_width=_about(rng, 1.05 + 0.015 * tone, 0.1, 0.8, 1.4),
        nose_height=_about(rng, 1.0, 0.12, 0.7, 1.3),
        nose_tip_mm=_about(rng, 40, 2.5, 34, 46),
        mouth_mm=_about(rng, 70, 2.5, 64, 76),
        mouth_half_width_mm=_about(rng, 25, 2, 20, 30),
        upper_lip_mm=_about(rng, 5.5 + 0.15 * tone, 1, 2.5, 9),
        lower_lip_mm=_about(rng, 7.5 + 0.2 * tone, 1, 4.5, 12),
        lip_colour=_rgb(_pick(rng, [(0.35, 0.03, 0.04), (0.42, 0.11, 0.12), (0.25, 0.04, 0.08), (0.30, 0.10, 0.07)])),
        lipstick=rng.uniform(0.3, 0.9) if made_up and rng.random() < 0.7 else 0.0,
        hair_colour=_rgb(hair),
        hairline_mm=rng.uniform(-48, -32) if rng.random() < 0.15 else rng.uniform(-78, -52),
        temple_mm=rng.uniform(60, 72),
        long_hair=bool(rng.random() < (0.05 if bearded else 0.5)),
        brow_colour=_rgb(brow),
        brow_mm=_about(rng, -19.5, 1.8, -24, -16),
        brow_arch_mm=rng.uniform(0.5, 5),
        brow_half_thickness_mm=rng.uniform(1.8, 4.2),
        brow_density=rng.uniform(0.45, 0.95),
        beard=rng.uniform(0.15, 0.95) if bearded else 0.0,
        moustache=rng.uniform(0.15, 0.9) if bearded and rng.random() < 0.8 else 0.0,
        eyeball_radius_mm=_about(rng, 12.0, 0.3, 11.3, 12.8),
        eyeball_depth_mm=_about(rng, 8.3, 0.6, 7, 10),
        eyeball_offsets_mm=(tuple((alike + unlike).tolist()), tuple((alike - unlike).tolist())),
        iris_radius_mm=_about(rng, 5.9, 0.2, 5.4, 6.4),
        iris_colour=_rgb(iris),
        iris_ring_colour=_rgb(ring),
        iris_contrast=rng.uniform(0.2, 1),
        limbus=rng.uniform(0.35, 0.9),
        limbus_width=0.0,
        sclera_colour=(0.0, 0.0, 0.0),
        sclera_redness=rng.beta(1.3, 2.5),
        upper_lid_mm=max(upper_lid_mm, 2.6),
        lower_lid_mm=_about(rng, 5.2, 0.45, 3.9, 6.4),
        lid_peak=rng.uniform(-0.22, 0.15),
        corner_lift_mm=_about(rng, 0, 0.7, -1.5, 1.8),
        epicanthus=rng.uniform(0.4, 1) if monolid else rng.beta(1, 6),
        crease_mm=0.0 if monolid and rng.random() < 0.6 else rng.uniform(2.2, 4.8),
        lashes=rng.uniform(0.15, 0.7) + 0.3 * made_up,
        eyeliner=rng.uniform(0.2, 0.9) if made_up and rng.random() < 0.6 else 0.0,
        eyeshadow=rng.uniform(0.2, 0.8) if made_up and rng.random() < 0.5 else 0.0,
        eyeshadow_colour=_rgb(
            _pick(rng, [(0.25, 0.15, 0.12), (0.2, 0.14, 0.25), (0.14, 0.18, 0.26), (0.4, 0.26, 0.16)])
        ),
        glasses=bool(rng.random() < 1 / 6),
        glasses_colour=_rgb(
            _pick(rng, [(0.01, 0.01, 0.012), (0.06, 0.025, 0.01), (0.30, 0.29, 0.28), (0.35, 0.24, 0.1)])
        ),
        glasses_half_size_mm=(float(rng.uniform(24, 28)), float(rng.uniform(17, 22))),
        glasses_corner_mm=rng.uniform(6, 16),
        glasses_rim_mm=_pick(rng, [0.6, 1.1, 1.8, 2.4]),
    )
    details = np.random.default_rng((person.texture_seed, 1))
    yellow = details.normal(0, 1)
    white = np.array([0.50, 0.47, 0.44]) * details.uniform(0.84, 1.08) * np.exp(yellow * np.array([0.02, 0.01, -0.06]))
    person = replace(person, limbus_width=details.uniform(0.1, 0.35), sclera_colour=_rgb(white))
    # NumPy's own scalars would widen the pictures' float32.
    scalars = {name: value.item() for name, value in vars(person).items() if isinstance(value, np.generic)}
    return replace(person, **scalars)


@dataclass(frozen=True)
class Recording:
    """The phone and the places that all pictures of one person come from."""

    places: tuple[Scene, ...]  # light, colours and background of each
    closeness: float  # 0 the target may be anywhere..1 always as near as the phone


def random_recording(rng: np.random.Generator) -> Recording:
    """One phone in one to four places."""
    # A face of 128 px is made of many sensor pixels: little is left of their noise.
    noise, blur_px = rng.gamma(2.0, 0.002), rng.uniform(0.08, 0.6)
    saturation, contrast = rng.normal(0.92, 0.12), rng.normal(1.02, 0.05)
    jpeg_quality = int(rng.integers(60, 96)) if rng.random() < 0.6 else 0
    places = []
    for _ in range(rng.integers(1, 5)):
        warmth = rng.normal(0, 0.09)
        key = rng.uniform(0.5, 1.0)
        ambient = rng.uniform(0.22, 0.6)
        places.append(
            Scene(
                light=(rng.uniform(-0.1, 0.9), rng.uniform(-1.2, 1.2)),
                light_size=rng.random(),
                light_colour=_rgb(key * np.exp(np.array([1, 0, -1]) * warmth)),
                ambient_colour=_rgb(ambient * np.exp(np.array([1, 0, -1]) * rng.normal(0, 0.09))),
                exposure=float(np.exp(rng.normal(0, 0.18))),
                saturation=saturation,
                contrast=contrast,
                white_balance=_rgb(np.exp(rng.normal(0, 0.035, 3))),
                background_colours=(_random_colour(rng, 0.6), _random_colour(rng, 0.3)),
                background_seed=int(rng.integers(2**31)),
                blur_px=blur_px,
                noise=noise,
                jpeg_quality=jpeg_quality,
            )
        )
    return Recording(tuple(map(_lit, places)), rng.random())


def _lit(place: Scene) -> Scene:
    """With catch-lights, and one place in eight under hard light from the side."""
    rng = np.random.default_rng((place.background_seed, 1))
    place = replace(
        place,
        catch_light=CATCH_LIGHTS[rng.choice(len(CATCH_LIGHTS), p=(0.35, 0.3, 0.08, 0.15, 0.12))],
        bright_surroundings=float(0.08 * rng.beta(1, 3)),
    )
    if rng.random() < 0.12:
        dim = 0.55 * np.array(place.ambient_colour)
        yaw = rng.choice((-1, 1)) * rng.uniform(1.1, 1.5)
        place = replace(place, light=(place.light[0], float(yaw)), light_size=0.2, ambient_colour=_rgb(dim))
    return place


def random_scene(rng: np.random.Generator, recording: Recording | None = None) -> Scene:
    """One picture: where the head is turned, where the eyes look, and how the light is just then."""
    recording = recording or random_recording(rng)
    place = recording.places[rng.integers(len(recording.places))]
    head = _head(rng)
    gaze = _gaze(rng, head)
    flicker = float(np.exp(rng.normal(0, 0.06)))
    scene = replace(
        place,
        gaze=gaze,
        head=head,
        target_mm=600.0 if rng.random() < recording.closeness else rng.uniform(400, 2500),
        pupil_mm=_about(rng, 1.9, 0.35, 1.1, 3.0),
        lid_opening=_about(rng, 1.0, 0.08, 0.75, 1.25),
        smile=_about(rng, 0.1, 0.25, -0.5, 1),
        light=(place.light[0] + rng.normal(0, 0.08), place.light[1] + rng.normal(0, 0.12)),
        exposure=place.exposure * flicker,
        white_balance=_rgb(np.array(place.white_balance) * np.exp(rng.normal(0, 0.015, 3))),
        blur_px=place.blur_px * float(np.exp(rng.normal(0, 0.2))),
        noise_seed=int(rng.integers(2**31)),
    )
    if scene.noise_seed % 8:
        return scene
    squint = np.random.default_rng(scene.noise_seed)  # one picture in eight: narrowed eyes, mostly with a smile
    return replace(scene, lid_opening=squint.uniform(0.65, 0.95), smile=squint.uniform(0, 1))


def _head(rng: np.random.Generator) -> tuple[float, float]:
    """Mostly near frontal, within ±20° pitch and ±25° yaw."""
    pitch, yaw = np.radians(rng.normal(0, (7, 9)).clip((-20, -25), (20, 25)))
    return float(pitch), float(yaw)


def _gaze(rng: np.random.Generator, head: tuple[float, float]) -> tuple[float, float]:
    """A gaze within ±25° pitch and ±35° yaw, correlated with the head pose and within the eyes' reach."""
    limit = np.radians((25, 35))
    reach = np.radians((27, 33))
    for _ in range(100):
        gaze = rng.uniform(-limit, limit) if rng.random() < 0.6 else rng.normal(0, np.radians((9, 13)))
        gaze = gaze + 0.35 * np.array(head)
        if np.all(np.abs(gaze) < limit) and np.all(np.abs(gaze - head) < reach):
            return float(gaze[0]), float(gaze[1])
    return head


def _about(rng: np.random.Generator, mean: float, spread: float, low: float, high: float) -> float:
    return float(np.clip(rng.normal(mean, spread), low, high))


def _between(colours, share: float) -> np.ndarray:
    """The colour (3,) at a share 0..1 of the way along `colours`."""
    return np.array([np.interp(share * (len(colours) - 1), np.arange(len(colours)), c) for c in np.transpose(colours)])


def _likely(weights, fairness: float, always: int) -> np.ndarray:
    """Probabilities; those after the first `always` shrink with the person's fairness."""
    weights = np.array(weights, float) * np.where(np.arange(len(weights)) < always, 1, 0.04 + fairness)
    return weights / weights.sum()


def _pick(rng: np.random.Generator, choices: list):
    return choices[rng.integers(len(choices))]


def _rgb(colour) -> RGB:
    return tuple(float(c) for c in colour)


def _random_colour(rng: np.random.Generator, brightest: float) -> RGB:
    """Mostly greyish; any hue."""
    return _rgb(rng.uniform(0.02, brightest) * np.exp(rng.normal(0, 0.18, 3)))
