"""The settings of `vaegaze.redirect`, and what of them goes together."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vaegaze.config.tree import option
from vaegaze.errors import UserError
from vaegaze.images import animations, video
from vaegaze.redirecting.sweeps import SWEEPS, sweep_gazes

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
INTO_CAMERA = "camera"  # the word for it, in place of an angle each

SAYS_ITSELF = ": the data set says it"
USELESS = {  # by where the pictures come from: what has no use then, and why
    "image": {"person_id": "", "index": "", "compare": "; it is for videos"},
    "video": {
        "person_id": "",
        "index": "",
        "mask": ": the eyes are found in every frame",
        "sweep": "; give --gaze",
        "label": "; it is for animations",
    },
    "hdf_path": {"mask": SAYS_ITSELF, "face": SAYS_ITSELF, "head": SAYS_ITSELF, "compare": "; it is for videos"},
}


@dataclass(frozen=True)
class RedirectParams:
    """Whose eyes are drawn, by which model, and where they look. Angles are those seen in the upright picture"""

    checkpoint: str | None = option(None, help="the model: a base, a fine-tuned one, or an adapter", metavar="PATH")
    base: str | None = option(None, help="of an adapter: its base, where that has moved", metavar="PATH")
    image: str | None = option(None, help="the photo", metavar="PATH")
    video: str | None = option(None, help="in place of a photo: a video", metavar="PATH")
    mask: str | None = option(
        None,
        help="its eye mask, an image of its size, white on the eyes; without it they are found, if OpenCV is there",
        metavar="PATH",
    )
    face: int | None = option(None, low=1, help="whose eyes are to be found, of several faces, from left to right")
    head: tuple[float, float] = option(
        (0.0, 0.0),
        low=-math.pi / 2,
        high=math.pi / 2,
        unit="rad",
        help="how the head in the photo is turned, or all through the video",
        metavar=("PITCH", "YAW"),
    )
    hdf_path: str | None = option(None, help="in place of a photo: HDF5 file, or a folder of them", metavar="PATH")
    person_id: str | None = option(None, help="whose frame in there", metavar="ID")
    index: int | None = option(None, low=0, help="which of the person's frames")
    gaze: tuple[float, float] | None = option(
        None,
        low=-math.pi / 2,
        high=math.pi / 2,
        unit="rad",
        help="where to look: 0 0, or the word camera, is into the camera; up and to the picture's left are positive",
        metavar=("PITCH", "YAW"),
    )
    sweep: str | None = option(
        None, legal=f"{' | '.join(SWEEPS)} | P,Y;P,Y;...", help="in place of --gaze: many gazes", metavar="SWEEP"
    )
    label: bool = option(False, help="write the angles below each frame of an animation")
    compare: bool = option(False, help="of a video: the original on the left, the redrawn one on the right")
    output: str | None = option(
        None,
        help="the picture: PNG or JPEG; of a sweep other than grid: GIF, WebP or APNG; of a video: MP4, MOV or MKV",
        metavar="PATH",
    )
    device: str = option(
        "auto", choices=("auto", "cpu", "cuda"), help="what to compute on; auto takes a GPU", metavar="NAME"
    )


@dataclass(frozen=True)
class RedirectConfig:
    """The settings of one redirection."""

    redirect_params: RedirectParams = RedirectParams()

    def problems(self, origins: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str]]:
        """What is missing or does not go together; see `config_tree.resolve`."""
        params = self.redirect_params

        def about(*names: str) -> tuple[str, ...]:
            return tuple(f"redirect_params.{name}" for name in names)

        def given(name: str) -> bool:
            value = getattr(params, name)  # 0 may be given, null and false may not
            return origins[f"redirect_params.{name}"] != "default" and value is not None and value is not False

        for name in ("checkpoint", "output"):
            if not given(name):
                yield about(name), f"needed; give --{name} PATH"

        sources = [name for name in USELESS if given(name)]
        if not sources:
            text = "needed; give --image PATH, --video PATH, or --hdf_path, --person_id and --index"
            yield about("image", "video", "hdf_path"), text
        for source in sources[1:]:
            yield about(sources[0], source), f"has no use with --{source}; leave out one of them"
        if len(sources) == 1:
            (source,) = sources
            for name, why in USELESS[source].items():
                if given(name):
                    yield about(name, source), f"has no use with --{source}{why}"
        if sources == ["image"] and given("face") and given("mask"):
            yield about("face", "mask"), "has no use with --mask, which says where the eyes are"
        if sources == ["hdf_path"]:
            for name in ("person_id", "index"):
                if not given(name):
                    yield about(name, "hdf_path"), f"needed with --hdf_path; give --{name}"

        if given("gaze") == given("sweep"):
            text = "has no use with --sweep; leave out one of them" if given("gaze") else "needed; or give --sweep"
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
                yield about("label", "sweep"), f"has no use with {what}; it is for animations"


def with_camera_in_angles(argv: Sequence[str]) -> list[str]:
    """The command line with `--gaze camera` written as `--gaze 0 0`. UserError for another word."""
    words: list[str] = []
    for word in argv:
        if word == f"--gaze={INTO_CAMERA}":
            words += ["--gaze", "0", "0"]
        elif word == INTO_CAMERA and words[-1:] == ["--gaze"]:
            words += ["0", "0"]
        elif word.startswith("--gaze=") or (word.isalpha() and words[-1:] == ["--gaze"]):
            got = word.removeprefix("--gaze=")
            raise UserError(f"--gaze: got {got!r}; expected PITCH YAW in radians, or the word {INTO_CAMERA}")
        else:
            words.append(word)
    return words
