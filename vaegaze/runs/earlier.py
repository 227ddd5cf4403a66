"""What an earlier run of a person left in the folder."""

from dataclasses import replace
from typing import Any

from vaegaze.config.finetune import Config
from vaegaze.config.tree import resolve, settings_of, value_at
from vaegaze.errors import UserError
from vaegaze.runs.folder import RunFolder

FREE = ("save_dir", "base", "gradient_checkpointing", "tracker")
MOVABLE = (  # files that the fingerprint covers
    "checkpoint_path", "gazecapture_params.hdf_path", "gazecapture_params.mask_path", "photo_params.image",
    "photo_params.mask",
)  # fmt: skip


def is_finished(folder: RunFolder, save: str) -> bool:
    """Whether all results of a run are there."""
    return all(path.exists() for path in folder.results(save))


def stored_settings(folder: RunFolder) -> Config:
    """The settings of the run in the folder. UserError without them."""
    if not folder.config.is_file():
        raise UserError(f"{folder.config} is gone, and with it what the run's settings were", about="resume")
    return resolve(Config, str(folder.config)).config


def with_choices_of(stored: Config, config: Config) -> Config:
    """On resume, `auto` means the interrupted run's choice, which does not change."""
    params = config.oneshot_params
    asked = [name for name in ("device", "precision", "replay") if getattr(params, name) == "auto"]
    auto = {name: getattr(stored.oneshot_params, name) for name in asked}
    return replace(config, oneshot_params=replace(params, **auto))


def differing_keys(stored: Config, config: Config, *, may_have_moved: bool = False) -> list[tuple[str, Any, Any]]:
    """Each setting in which the stored run's settings differ, with the stored value and the present one.

    Four may differ: the folder may have moved, and so may an adapter's base, whose weights the fingerprint covers;
    gradient checkpointing changes no result, but may be what a run that ran out of memory needs; nor does a tracker.
    Where the caller compares fingerprints, data and base model `may_have_moved` as well.
    """
    free = {f"oneshot_params.{name}" for name in (*FREE, *(MOVABLE if may_have_moved else ()))}
    return [
        (key, value_at(stored, key), value_at(config, key))
        for key in settings_of(Config)
        if key not in free and value_at(stored, key) != value_at(config, key)
    ]


def difference_words(changed: list[tuple[str, Any, Any]]) -> str:
    """What `differing_keys` found, in words."""
    return "; ".join(f"{key} was {before!r}, now {now!r}" for key, before, now in changed)
