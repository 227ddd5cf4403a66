"""The word that may stand for two angles on a command line."""

from collections.abc import Sequence

from vaegaze.errors import UserError

INTO_CAMERA = "camera"  # instead of two angles


def with_camera_in_angles(argv: Sequence[str]) -> list[str]:
    """The command line with `--gaze 0 0` for `--gaze camera`. UserError for another word."""
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
