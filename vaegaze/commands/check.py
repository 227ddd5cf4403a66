"""Check a setup: four checks of the data that `vaegaze train` would train on.

    vaegaze check                    the rendered demo file, made on first use
    vaegaze check --config FILE      the HDF5 file and settings of a YAML file
    vaegaze check --hdf_path FILE    an HDF5 file

--person_id and --num_samples mean the same as in `vaegaze train`.

Exit code 0: all checks passed; 1: a check failed; 2: the input cannot be used.
"""

import sys
from functools import lru_cache
from pathlib import Path

import numpy as np

from vaegaze.commands.progress import progress_callback
from vaegaze.commands.running import advised, run_command
from vaegaze.config.finetune import DEMO_HDF_PATH, Config, OneshotParams
from vaegaze.config.flags import FlagParser
from vaegaze.config.tree import resolve
from vaegaze.data import hdf5
from vaegaze.data.persons import named
from vaegaze.data.rows import Rows, choose_rows, left_out_line
from vaegaze.data.selection import choose_person
from vaegaze.errors import UserError
from vaegaze.geometry.camera import Camera
from vaegaze.renderer import data_set as synthetic

ADVICE = {
    "data_set": "give the path of a gaze data set with --hdf_path (oneshot_params.gazecapture_params.hdf_path)",
    "num_samples": "give fewer --num_samples",
    "sample": "fix it in the file",
}
SEEDS = 20  # tried to see who else is drawn


class CheckFailed(AssertionError):
    """A check's unexpected result."""


def expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise CheckFailed(otherwise)


def check_random_person_selection(params: OneshotParams) -> str:
    """The same seed chooses the same person, who has enough samples."""
    given, seed = params.gazecapture_params, params.seed
    counts = hdf5.person_counts(given.hdf_path)
    person = choose_person(counts, given.num_samples, seed)
    again = choose_person(dict(reversed(counts.items())), given.num_samples, seed)
    expect(person == again, f"seed {seed} drew {person}, then {again}")
    expect(counts[person] >= given.num_samples, f"{person} has {counts[person]} of {given.num_samples} samples")
    others = {choose_person(counts, given.num_samples, other) for other in range(SEEDS)}
    drawn = f"seed {seed} draws {person} ({counts[person]} samples), {SEEDS} seeds draw {len(others)}"
    return f"{len(counts)} persons; {drawn}"


def check_specific_person_selection(params: OneshotParams) -> str:
    """The person is found by id, and no sample is both trained on and held out."""
    person, rows = _choose(params)
    usable = rows.total - len(rows.left_out)
    expected = min(usable, params.gazecapture_params.num_samples)
    expect(len(rows.train) == expected, f"{len(rows.train)} samples chosen of {usable}")
    twice = sorted(set(rows.train) & set(rows.held_out))
    expect(not twice, f"both trained on and held out: samples {twice}")
    found = f"{person}: {rows.total} samples, {len(rows.train)} to train on, {len(rows.held_out)} held out"
    return f"{found}\n{left_out_line(rows.left_out, person)}" if rows.left_out else found


def check_data_consistency(params: OneshotParams) -> str:
    """Labels are finite and in range, eye masks are not empty, and two reads agree."""
    data, again = _read(params), _read(params)
    for name, first, second in zip(vars(data.samples), vars(data.samples).values(), vars(again.samples).values()):
        expect(np.array_equal(first, second), f"two reads of {data.person_id} disagree in {name}")
    for name in ("gaze", "head"):
        angles = getattr(data.samples, name)
        expect(np.isfinite(angles).all(), f"{name} of {data.person_id} holds NaN or infinity")
        expect((abs(angles) <= np.pi / 2).all(), f"{name} reaches {abs(angles).max():.2f} rad, more than π/2")
    empty = data.samples.indices[~data.samples.eye_masks.any(axis=(1, 2))].tolist()
    expect(not empty, f"the eye masks of samples {empty} are empty")
    low, high = (np.degrees(edge(data.samples.gaze, axis=0)).round() for edge in (np.min, np.max))
    return (
        f"{data.person_id}: layout {data.layout}, masks from {data.mask_source}, "
        f"gaze pitch {low[0]:.0f}..{high[0]:.0f}°, yaw {low[1]:.0f}..{high[1]:.0f}°"
    )


def check_batch_generation(params: OneshotParams) -> str:
    """Batches have the right shapes, types and ranges, and no sample occurs twice in an epoch."""
    import torch

    from vaegaze.models import to_unit_range
    from vaegaze.training.loop import batch_rows

    _, rows = _choose(params)
    samples = _read(params).samples.take(slice(len(rows.train)))
    batch_size = min(params.batch_size, len(samples))
    steps = len(samples) // batch_size
    epoch = [batch_rows(step, len(samples), batch_size, params.seed) for step in range(steps)]
    rows = [row for batch in epoch for row in batch]
    expect(len(rows) == len(set(rows)), "a sample occurs twice in an epoch")
    expected = (batch_size, 3, *samples.canvas.shape)
    for batch in epoch:
        images = to_unit_range(samples.images[batch])
        expect(images.shape == expected, f"images of shape {tuple(images.shape)}, expected {expected}")
        expect(images.dtype == torch.float32, f"images of type {images.dtype}")
        expect(images.min() >= -1 and images.max() <= 1, f"pixels from {images.min():.2f} to {images.max():.2f}")
        expect(samples.gaze[batch].shape == (batch_size, 2), f"gaze of shape {samples.gaze[batch].shape}")
        expect(samples.eye_masks[batch].dtype == bool, f"masks of type {samples.eye_masks.dtype}")
    return f"{steps} batches of {' × '.join(map(str, expected))} in [−1, 1], no sample twice"


def _choose(params: OneshotParams) -> tuple[str, Rows]:
    """The person and the rows that a run with these settings chooses."""
    given = params.gazecapture_params
    person = given.person_id
    if person is None:
        person = choose_person(hdf5.person_counts(given.hdf_path), given.num_samples, params.seed)
    return person, choose_rows(given.hdf_path, person, given.num_samples, given.num_eval_samples, params.seed)


def _read(params: OneshotParams) -> hdf5.PersonData:
    person, rows = _choose(params)
    given = params.gazecapture_params
    both, canvas = [*rows.train, *rows.held_out], _canvas(params.checkpoint_path, params.base)
    return hdf5.read_person(given.hdf_path, person, both, canvas, given.mask_path)


@lru_cache(maxsize=1)
def _canvas(checkpoint_path: str, base: str | None) -> Camera:
    """The canvas of the base model that a run would start from."""
    from vaegaze.models.checkpoint import load_checkpoint

    return load_checkpoint(checkpoint_path, base).model.canvas


CHECKS = {
    "random person selection": check_random_person_selection,
    "specific person selection": check_specific_person_selection,
    "data consistency": check_data_consistency,
    "batch generation": check_batch_generation,
}


def main(argv: list[str] | None = None, prog: str = "vaegaze check") -> int:
    parser = FlagParser(prog=prog, description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", metavar="FILE", help="YAML file whose HDF5 file and settings are checked")
    parser.add_argument("--hdf_path", metavar="PATH", help="the HDF5 file, or a folder of them with one person each")
    parser.add_argument("--person_id", metavar="ID", help="the person whose samples are checked")
    parser.add_argument("--num_samples", metavar="N", help="images to train on")
    return run_command(
        lambda: run_checks(read_arguments(parser, argv)), less_memory="give fewer --num_samples", advice=ADVICE
    )


def read_arguments(parser: FlagParser, argv: list[str] | None) -> OneshotParams:
    given, unknown = parser.read(argv)
    config = given.pop("config")
    flags = {name: value for name, value in given.items() if value is not None}
    if config is None:
        flags.setdefault("hdf_path", DEMO_HDF_PATH)
    params = resolve(Config, config, flags, unknown).config.oneshot_params
    if params.gazecapture_params.hdf_path is None:
        raise UserError(f"{config} names no HDF5 file; give --hdf_path PATH")
    if Path(params.gazecapture_params.hdf_path) == Path(DEMO_HDF_PATH):
        with progress_callback("rendering demo.h5") as on_sample:
            synthetic.demo_file(DEMO_HDF_PATH, on_sample)
    return params


def run_checks(params: OneshotParams) -> int:
    """Run all checks and print what each found; 1 if one has failed, else 0."""
    hdf5.person_counts(params.gazecapture_params.hdf_path)  # UserError for the wrong kind of file
    print(f"📁 {named(params.gazecapture_params.hdf_path)}")
    failed = 0
    for name, check in CHECKS.items():
        try:
            print(f"✅ {name}: {check(params)}")
        except (CheckFailed, UserError) as error:
            failed += 1
            print(f"❌ {name}: {advised(error, ADVICE) if isinstance(error, UserError) else error}")
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
