"""Settings and switches that several commands have, each defined once.

Each function returns a new field for one command's tree; the arguments are what differs between commands.
"""

import math
from typing import Any

from vaegaze.config.tree import option

ESTIMATOR = "./checkpoints/gaze_estimator/gaze_estimator.pth"
PRETRAINED_MODEL = "./checkpoints/pretrained_model.pth"

OVERWRITE = ("--overwrite", "replace an earlier result")
RESUME = ("--resume", "continue an interrupted run")


def device() -> Any:
    return option(
        "auto",
        pattern=r"auto|cpu|cuda(:\d{1,3})?",
        legal="auto | cpu | cuda | cuda:N",
        help="what to compute on; auto takes a GPU if there is one",
        metavar="NAME",
    )


def precision(default: str = "auto") -> Any:
    choices = ("auto", "fp32", "bf16")
    return option(
        default, choices=choices, help="number format; auto: bf16 where it is native, else fp32", metavar="NAME"
    )


def seed(help: str, default: int | None = 0) -> Any:
    return option(default, low=0, high=2**32 - 1, help=help)


def checkpoint(help: str = "the model: a base, a fine-tuned one, or an adapter") -> Any:
    return option(None, help=help, metavar="PATH")


def checkpoint_path(help: str = "the model to start from") -> Any:
    return option(PRETRAINED_MODEL, help=help, metavar="PATH")


def base() -> Any:
    return option(None, help="an adapter's base model, if it is no longer where the adapter says", metavar="PATH")


def estimator(*, required: bool = False) -> Any:
    legal = None if required else "none | PATH"
    return option(ESTIMATOR, legal=legal, help="the network that measures gaze in the results", metavar="PATH")


def tracker() -> Any:
    choices = ("none", "tensorboard", "trackio")
    return option("none", choices=choices, help="where else to log the metrics", metavar="NAME")


def hdf_path(help: str = "the HDF5 file, or a folder of them with one person each") -> Any:
    return option(None, help=help, metavar="PATH")


def person_id(help: str) -> Any:
    return option(None, help=help, metavar="ID")


def mask(help: str, legal: str | None = None) -> Any:
    return option(None, legal=legal, help=help, metavar="PATH")


def face() -> Any:
    return option(None, low=1, help="of several faces, the one whose eyes to use, counted from left to right")


def angles(help: str, default: tuple[float, float] | None = None, null: str | None = None) -> Any:
    """A direction (pitch, yaw) as seen in the upright picture; up and to the picture's left are positive."""
    limits = {"low": -math.pi / 2, "high": math.pi / 2}
    return option(default, **limits, unit="rad", help=help, metavar=("PITCH", "YAW"), null=null)


def fault_of_range(ends: tuple[float, float]) -> str | None:
    """What is wrong with an angle from … to …, if anything. It names no angle, which may have been typed in degrees."""
    begins, stops = ends
    return "expected the smaller angle first" if begins > stops else None


def output(help: str) -> Any:
    return option(None, help=help, metavar="PATH")


# What to do about an error of a lower room, by `UserError.about`, in the flags that these settings are.
_ADVICE = {
    "checkpoint": "give a VAE-GAZE checkpoint with --checkpoint",
    "checkpoint_path": "give a VAE-GAZE checkpoint with --checkpoint_path",
    "base": "give the adapter's base with --base PATH",
    "no_adapter": "leave out --base",
    "estimator": "give a gaze estimator with --estimator",
    "device": "give --device cpu or auto, or install a PyTorch build that fits the driver",
    "data_set": "give the path of a gaze data set with --hdf_path",
    "eyes": "give --mask, or another photo",
    "opencv": "or give --mask PATH",
    "faces": "say which with --face N",
    "face": "give another --face",
}


def advice(*about: str, **others: str) -> dict[str, str]:
    """The advice of a command that has the usual flags for `about`, and its own for `others`; see `vaegaze.errors`."""
    chosen = {word: _ADVICE[word] for word in about}
    if "checkpoint_path" in chosen:
        chosen["checkpoint"] = chosen.pop("checkpoint_path")
    return chosen | others
