"""The settings of `vaegaze redirect`, and which of them go together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaegaze.config import shared
from vaegaze.config.tree import option
from vaegaze.images import animations, video
from vaegaze.redirecting.drawing import REFERENCES
from vaegaze.redirecting.fading import AS_DOCUMENTED, Fades
from vaegaze.redirecting.sweeps import SWEEPS, sweep_gazes

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
EVERYONE = "all"  # of the faces

FADED = ("fade_head_pitch", "fade_head_yaw", "fade_gaze")
SAID_BY_DATA_SET = ": the data set has it"
VIDEO_ONLY = dict.fromkeys(("compare", "faces", "strength", "look_away", "seed", *FADED), "; it is for videos")
USELESS = {  # by source of the pictures: the settings without a use, and why
    "image": {"person_id": "", "index": "", **VIDEO_ONLY},
    "video": {
        "person_id": "",
        "index": "",
        "mask": ": the eyes are found in every frame",
        "sweep": "; give --gaze",
        "label": "; it is for animations",
    },
    "hdf_path": {
        "mask": SAID_BY_DATA_SET,
        "face": SAID_BY_DATA_SET,
        "head": SAID_BY_DATA_SET,
        **VIDEO_ONLY,
    },
}


def fade(where: str, default: tuple[float, float]) -> Any:
    """Two angles between which a video's eyes fade."""
    help = f"of a video: eyes are redrawn as told up to FROM, left alone from TO on, by how far {where}; 3.2 3.2: never"
    rounded = tuple(round(angle, 4) for angle in default)
    return option(rounded, low=0, high=3.2, unit="rad", help=help, metavar=("FROM", "TO"))


@dataclass(frozen=True)
class RedirectParams:
    """The picture, the model, and where to look. Angles are as seen in the upright picture"""

    checkpoint: str | None = shared.checkpoint()
    base: str | None = shared.base()
    image: str | None = option(None, help="the photo", metavar="PATH")
    video: str | None = option(None, help="instead of a photo: a video", metavar="PATH")
    mask: str | None = shared.mask(
        "the photo's eye mask, a picture of the same size, white on the eyes; without it, or with auto, the eyes are "
        "found",
        legal="auto | PATH",
    )
    face: int | None = shared.face()
    faces: str | None = option(None, choices=(EVERYONE,), help="of a video: redraw every face", metavar="all")
    head: tuple[float, float] | None = shared.angles(
        "how the head is turned, in the photo or all through the video; by default, or with auto, it is read",
        null="auto",
    )
    hdf_path: str | None = shared.hdf_path("instead of a photo: an HDF5 file, or a folder of them")
    person_id: str | None = shared.person_id("the person in the data set")
    index: int | None = option(None, low=0, help="the number of the person's frame")
    gaze: tuple[float, float] | None = shared.angles(
        "where to look: 0 0, or the word camera, is into the camera; up and to the picture's left are positive"
    )
    sweep: str | None = option(
        None, legal=f"{' | '.join(SWEEPS)} | P,Y;P,Y;...", help="instead of --gaze: many gazes", metavar="SWEEP"
    )
    reference: str = option(
        "auto",
        choices=REFERENCES,
        help="what the eyes are drawn from: the picture's own eyes, the nearest of the model's reference frames, or "
        "nothing; auto: the model's, or with a base model the picture's own",
        metavar="WHAT",
    )
    strength: float = option(
        1.0,
        low=0,
        high=1,
        help="of a video: how far the eyes move from where they look to where they are told to; without landmarks, how "
        "opaque they are",
    )
    fade_head_pitch: tuple[float, float] = fade("the head is turned up or down", AS_DOCUMENTED.head_pitch)
    fade_head_yaw: tuple[float, float] = fade("the head is turned aside", AS_DOCUMENTED.head_yaw)
    fade_gaze: tuple[float, float] = fade("the true gaze is off the camera", AS_DOCUMENTED.gaze)
    look_away: bool = option(False, help="of a video: look away for a moment now and then, so as not to stare")
    seed: int = shared.seed("of --look_away")
    label: bool = option(False, help="write the angles below each frame of an animation")
    compare: bool = option(False, help="of a video: the original on the left, the result on the right")
    output: str | None = shared.output(
        "the picture: PNG or JPEG; of a sweep other than grid: GIF, WebP or APNG; of a video: MP4, MOV or MKV"
    )
    device: str = shared.device()

    @property
    def fades(self) -> Fades:
        return Fades(self.fade_head_pitch, self.fade_head_yaw, self.fade_gaze)

    @property
    def mask_path(self) -> str | None:
        """None if the eyes are to be found."""
        return None if self.mask == "auto" else self.mask


@dataclass(frozen=True)
class RedirectConfig:
    """The settings of one redirection."""

    redirect_params: RedirectParams = RedirectParams()

    def problems(self, origins: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str]]:
        """What is missing or contradictory; see `tree.resolve`."""
        params = self.redirect_params

        def about(*names: str) -> tuple[str, ...]:
            return tuple(f"redirect_params.{name}" for name in names)

        def given(name: str) -> bool:
            value = getattr(params, name)  # 0 counts as given, null and false do not
            return origins[f"redirect_params.{name}"] != "default" and value is not None and value is not False

        for name in ("checkpoint", "output"):
            if not given(name):
                yield about(name), f"needed; give --{name} PATH"

        sources = [name for name in USELESS if given(name)]
        if not sources:
            text = "needed; give --image PATH, --video PATH, or --hdf_path, --person_id and --index"
            yield about("image", "video", "hdf_path"), text
        for source in sources[1:]:
            yield about(sources[0], source), f"cannot be combined with --{source}; leave out one of them"
        if len(sources) == 1:
            (source,) = sources
            for name, why in USELESS[source].items():
                if given(name):
                    yield about(name, source), f"does not apply to --{source}{why}"
        if origins["redirect_params.seed"].startswith("--") and sources == ["video"] and not params.look_away:
            yield (
                about("seed", "look_away"),
                "has no effect without --look_away; give that, or leave out --seed",
            )
        if given("face") and given("faces"):
            yield about("face", "faces"), "cannot be combined with --faces all; leave out one of them"
        for name in FADED:
            if fault := shared.fault_of_range(getattr(params, name)):
                yield about(name), fault
        if sources == ["image"] and given("face") and params.mask_path is not None:
            yield about("face", "mask"), "cannot be combined with --mask, which already marks the eyes"
        if sources == ["hdf_path"]:
            for name in ("person_id", "index"):
                if not given(name):
                    yield about(name, "hdf_path"), f"needed with --hdf_path; give --{name}"

        if given("gaze") == given("sweep"):
            text = (
                "cannot be combined with --sweep; leave out one of them" if given("gaze") else "needed; or give --sweep"
            )
            yield about("gaze", "sweep"), text
            return
        if given("sweep"):
            try:
                sweep_gazes(params.sweep)
            except ValueError as error:
                yield about("sweep"), str(error)
                return
        if given("output"):
            animated = params.sweep not in (None, "grid")
            sweep = f"--sweep {params.sweep}" if params.sweep in SWEEPS else "a --sweep of listed gazes"
            what = "--video" if given("video") else sweep if given("sweep") else "--gaze"
            fitting = video.SUFFIXES if given("video") else animations.SUFFIXES if animated else PICTURE_SUFFIXES
            if Path(params.output).suffix.lower() not in fitting:
                fit = f"{', '.join(fitting[:-1])} or {fitting[-1]}"
                yield about("output", "sweep"), f"{params.output} does not fit {what}; give a name that ends in {fit}"
            if given("label") and not animated and not given("video"):
                yield about("label", "sweep"), f"does not apply to {what}; it is for animations"
