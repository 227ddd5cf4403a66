"""The word that may stand for two angles on a command line."""

from collections.abc import Sequence

from vaegaze.errors import UserError

INTO_CAMERA = "camera"  # instead of two angles
UNITS = {"--gaze": "radians", "--gaze_deg": "degrees"}


def with_camera_in_angles(argv: Sequence[str]) -> list[str]:
    """The command line with `--gaze 0 0` for `--gaze camera`, also in degrees. UserError for another word."""
    words: list[str] = []
    for word in argv:
        flag, is_joined, value = word.partition("=")
        if not (is_joined and flag in UNITS):
            flag, value, is_joined = words[-1] if words else "", word, ""
        if flag not in UNITS or not (is_joined or value.isalpha()):
            words.append(word)
        elif value == INTO_CAMERA:
            words += [flag, "0", "0"] if is_joined else ["0", "0"]
        else:
            raise UserError(f"{flag}: got {value!r}; expected PITCH YAW in {UNITS[flag]}, or the word {INTO_CAMERA}")
    return words
