"""Make a data file of one person from a folder of pictures or a video, and a CSV file of where they look.

    vaegaze prepare --frames FOLDER --labels labels.csv --person_id me --output me.h5
    vaegaze prepare --frames session.mp4 --labels labels.csv --person_id me --output me.h5

The CSV's columns are file_or_time, pitch_deg, yaw_deg, or file_or_time, point_x_mm, point_y_mm, distance_mm; see
docs/prepare.md. A report beside the file lists every frame that could not be used, with the reason.
"""

import csv
import io
import math
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaegaze.commands.outputs import refuse_output
from vaegaze.commands.progress import progress_bar
from vaegaze.commands.running import run_with_settings
from vaegaze.config import shared
from vaegaze.config.tree import option
from vaegaze.data.frame_labels import HEAD, FrameLabel, in_degrees, read_labels
from vaegaze.data.labelled_frames import Unusable, labelled_frames, unlabelled_pictures
from vaegaze.data.persons import SUFFIXES
from vaegaze.data.samples import gaze_doubt
from vaegaze.data.upstream_file import create_frames, new_file
from vaegaze.errors import UserError, inert, plain
from vaegaze.faces.reader import NO_LANDMARKS, EyesNotFound, backend, closed_below, find_face
from vaegaze.files import atomic_path, write_text
from vaegaze.geometry.alignment import align_face
from vaegaze.geometry.camera import canvas_camera, rolled
from vaegaze.geometry.eye_regions import pose_parsing
from vaegaze.geometry.transforms import scale_of
from vaegaze.images.sharpness import MIN_SHARPNESS, sharpness

MAX_HEAD_RAD = math.radians(60)  # beyond that, the eyes are too close together in the picture to align it by them
MAX_ENLARGEMENT = 2.5  # of a frame, on the canvas
TRAINED_ON, HELD_OUT_SHARE = 30, 0.25  # in the suggested command: at most so many, and of the kept frames
NAMED = 5  # frames named for each reason; the report names all
REPORT_SUFFIX = ".frames.csv"
COLUMNS = ["line", "file_or_time", "row", "left_out", "detail"]  # of the report


@dataclass(frozen=True)
class PrepareParams:
    """The frames, where the person looks in each, and the data file to make"""

    frames: str | None = option(None, help="a folder of pictures, or a video", metavar="PATH")
    labels: str | None = option(None, help="the CSV file that says where the person looks", metavar="CSV")
    person_id: str | None = shared.person_id("the person's name in the data file")
    output: str | None = shared.output("the data file to write (HDF5)")
    size: int = option(
        128, low=32, high=1024, unit="px", help="side of the pictures in the data file; 256 suits the model that ships"
    )
    face: int | None = shared.face()
    min_sharpness: float = option(MIN_SHARPNESS, low=0, help="frames with less sharp eyes are left out; 0 keeps all")
    min_openness: float | None = option(
        None,
        low=0,
        help="frames with less open eyes, as in a blink, are left out; 0 keeps all (default: 0.4 by landmarks, "
        "0.48 by cascades)",
    )


@dataclass(frozen=True)
class PrepareConfig:
    """The settings of one data file."""

    prepare_params: PrepareParams = PrepareParams()

    def problems(self, origins: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str]]:
        """What is missing or impossible; see `tree.resolve`."""
        params = self.prepare_params
        for name, value in (("frames", "PATH"), ("labels", "CSV"), ("person_id", "ID"), ("output", "PATH")):
            if getattr(params, name) is None:
                yield (f"prepare_params.{name}",), f"needed; give --{name} {value}"
        person_id = params.person_id
        if person_id is not None and ("/" in person_id or person_id == "." or not person_id.isprintable()):
            yield ("prepare_params.person_id",), f"got {person_id!r}; expected a name without / or control characters"
        if params.output is not None and Path(params.output).suffix.lower() not in (".h5", ".hdf5"):
            yield (
                ("prepare_params.output",),
                f"{params.output} is not the name of an HDF5 file; give one that ends in .h5",
            )


@dataclass(frozen=True)
class Sample:
    """One frame on the canvas, in the upstream layout."""

    pixels: np.ndarray  # (S, S, 3) uint8 RGB
    face_parsing: np.ndarray  # (S, S) uint8
    gaze: np.ndarray  # (2,) pitch, yaw in radians
    head: np.ndarray  # (2,) the same
    eyes: np.ndarray  # (2, 2) in the frame
    others: int  # faces in the frame beside this one


@dataclass(frozen=True)
class Fate:
    """What became of one frame."""

    label: FrameLabel
    row: int | None  # in the data file, if it was kept
    why_not: Unusable | None = None
    others: int = 0  # faces that it shows beside the one that was taken


def main(argv: list[str] | None = None) -> int:
    return run_with_settings(
        PrepareConfig,
        lambda resolved, **switches: run(resolved.config.prepare_params, **switches),
        argv,
        prog="vaegaze prepare",
        description=(__doc__ or "").partition("\n")[0],
        switches=[shared.OVERWRITE],
        hint="no data file was written",
        less_memory="give smaller pictures",
        advice={"picture": "or the folder of your pictures"},
    )


def run(params: PrepareParams, *, overwrite: bool) -> None:
    output = Path(params.output)
    report = output.with_suffix(REPORT_SUFFIX)
    read = {"--frames": params.frames, "--labels": params.labels}
    refuse_output(output, "--output", overwrite=overwrite, inputs=read)
    # It accompanies the data file, or says why there is none.
    refuse_output(report, "--output", earlier=",".join(COLUMNS), inputs=read)
    other = None if overwrite or output.exists() or not report.exists() else _of_same_report(output)
    if other is not None:
        raise UserError(f"--output: {report} is the report of {other}; give another name, or --overwrite to replace it")
    reads_heads = backend() == "landmarks"
    labels = read_labels(params.labels)
    with labelled_frames(params.frames, labels, params.labels) as frames, atomic_path(output) as temporary:
        print(plain(f"{params.labels}: {len(labels)} frames"))
        given = {"gaze": "gaze", "head": "head pose"} if labels[0].head is not None else {"gaze": "gaze"}
        for which in (words for name, words in given.items() if not in_degrees(labels, name)):
            print(f"⚠️ No {which} in it is above 1.6°: are these radians? Degrees are expected, 57.3 times as much")
        if Path(params.frames).is_dir() and (others := unlabelled_pictures(params.frames, labels, params.labels)):
            print(plain(f"⚠️ {others} more pictures in {params.frames} have no line in it"))
        if labels[0].head is None:
            print(f"head poses are read from the frames: no {' and '.join(HEAD)}" if reads_heads else NO_LANDMARKS)
        fates, angles = write_person(temporary, params, frames, len(labels))
        print("\n".join(map(plain, summary(fates))))
        if len(angles) and (doubt := gaze_doubt(angles[:, :2], angles[:, 2:])):
            print(f"⚠️ {doubt}")
        kept, replaces = sum(fate.row is not None for fate in fates), output.exists()
        if kept or not replaces:  # otherwise keep the report of the data file that stays
            write_text(report, report_text(fates))
        if not kept:
            outcome = f"{output} was not changed" if replaces else f"see {report}; no data file was written"
            raise UserError(f"none of the {len(fates)} frames can be used: {outcome}")
    print(plain(f"✅ {output}: {kept} frames of {params.person_id}, {params.size} × {params.size} px"))
    print(plain(f"   {report}: what became of each frame"))
    print(f"look:  python -m vaegaze inspect {shlex.quote(typed_path(output))}")
    print(f"train: {training_command(output, params.person_id, kept)}")


def _of_same_report(output: Path) -> Path | None:
    """A data file beside `output` whose name differs in the ending alone, or in letter case, as disks may not tell."""
    beside = sorted(each for each in output.parent.iterdir() if each.suffix.lower() in SUFFIXES)
    return next((each for each in beside if each.stem.casefold() == output.stem.casefold()), None)


# --- Frames -----------------------------------------------------------------------------------------------------------


def write_person(
    path: Path, params: PrepareParams, frames: Iterable[tuple[FrameLabel, np.ndarray | Unusable]], count: int
) -> tuple[list[Fate], np.ndarray]:
    """Writes the usable ones of `count` frames to an HDF5 file in the upstream layout.

    Returns each frame's fate, and the kept ones' angles (N, 4) in radians: gaze and head.
    """
    fates, angles, eyes = [], [], None
    is_video = not Path(params.frames).is_dir()
    with new_file(path) as file, progress_bar("preparing", count) as bar:
        group = file.create_group(params.person_id)
        pixels, parsing = create_frames(group, count, params.size)
        for label, picture in frames:
            try:
                if isinstance(picture, Unusable):
                    raise picture
                sample = prepare_frame(picture, label, params, eyes if is_video else None)
                row = len(angles)
                pixels[row], parsing[row] = sample.pixels, sample.face_parsing
                angles.append([*sample.gaze, *sample.head])
                fates.append(Fate(label, row, others=sample.others))
                eyes = sample.eyes
            except Unusable as reason:
                fates.append(Fate(label, None, reason))
            bar.update()
        for dataset in (pixels, parsing):
            dataset.resize(len(angles), axis=0)
        labels = np.array(angles, dtype="f4").reshape(-1, 4)
        group.create_dataset("labels", data=labels)
    return fates, labels


def prepare_frame(picture: np.ndarray, label: FrameLabel, params: PrepareParams, near: np.ndarray | None) -> Sample:
    """A picture (H, W, 3) uint8 aligned to the canvas by its eyes, with its angles. Raises Unusable.

    Of several faces it is the one whose eyes are `near` (2, 2), where those of the frame before were.
    """
    try:
        found = find_face(picture, label.frame, params.face, near=near)
    except EyesNotFound as error:
        raise Unusable(error.kind, error.seen) from error
    face = found.face
    eyes, head = face.eyes, face.head if label.head is None else label.head
    head = np.zeros(2) if head is None else head
    if abs(head).max() > MAX_HEAD_RAD:
        raise Unusable("head turned away", f"the head is turned by more than {math.degrees(MAX_HEAD_RAD):.0f}°")
    canvas = canvas_camera(params.size)
    aligned = align_face(picture, eyes, head, canvas)
    enlargement = scale_of(aligned.to_canvas)
    if enlargement > MAX_ENLARGEMENT:
        apart = np.linalg.norm(eyes[1] - eyes[0])
        least = apart * enlargement / MAX_ENLARGEMENT
        detail = f"the eyes are {apart:.0f} px apart; expected {least:.0f} or more for --size {params.size}"
        raise Unusable("face too small", detail)
    parsing = pose_parsing(aligned.head, canvas)
    if not aligned.valid[parsing > 0].all():
        raise Unusable("eyes cut off", "the picture ends within an eye")
    sharp = sharpness(aligned.image, aligned.head, canvas)
    if sharp < params.min_sharpness:
        raise Unusable("blurred", f"sharpness {sharp:.4f}; expected --min_sharpness {params.min_sharpness:g} or more")
    openness = face.openness.mean()
    least = closed_below(face) if params.min_openness is None else params.min_openness
    if openness < least:
        raise Unusable("eyes closed", f"openness {openness:.2f}; expected --min_openness {least:g} or more")
    return Sample(aligned.image, parsing, rolled(label.gaze, aligned.roll_rad), aligned.head, eyes, found.others)


# --- Words ------------------------------------------------------------------------------------------------------------


def summary(fates: Sequence[Fate]) -> list[str]:
    """How many frames were kept, and which were not, by reason."""
    by_kind: dict[str, list[str]] = {}
    for fate in fates:
        if fate.why_not is not None:
            by_kind.setdefault(fate.why_not.kind, []).append(fate.label.frame)
    kept = len(fates) - sum(map(len, by_kind.values()))
    lines = [f"kept {kept} of {len(fates)} frames"]
    if several := sum(fate.others > 0 for fate in fates):
        lines.append(f"{several} of them show several faces: taken is the one that is where it was in the frame before")
    for kind, frames in sorted(by_kind.items(), key=lambda item: (-len(item[1]), item[0])):
        named = ", ".join(frames[:NAMED]) + (", …" if len(frames) > NAMED else "")
        lines.append(f"{len(frames):>5}  {kind}: {named}")
    return lines


def report_text(fates: Sequence[Fate]) -> str:
    """Each frame's fate as CSV, in the order of the lines of the labels."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for fate in sorted(fates, key=lambda fate: fate.label.line):
        reason = ("", "") if fate.why_not is None else (fate.why_not.kind, inert(fate.why_not.detail))
        writer.writerow([fate.label.line, inert(fate.label.frame), "" if fate.row is None else fate.row, *reason])
    return text.getvalue()


def training_command(output: Path, person_id: str, kept: int) -> str:
    """The command that fine-tunes on `kept` frames, some of them held out."""
    held_out = math.ceil(HELD_OUT_SHARE * kept) if kept > 1 else 0
    flags = ["--config", "configs/finetune/finetune_gazecapture.yaml", "--use_gazecapture"]
    flags += ["--hdf_path", typed_path(output)]
    flags += [f"--person_id={person_id}"] if person_id.startswith("-") else ["--person_id", person_id]
    flags += ["--num_samples", str(min(TRAINED_ON, kept - held_out))]
    return f"python oneshot_training.py {shlex.join(flags)}"


def typed_path(path: Path) -> str:
    """Quoted so that argparse does not take it for a flag."""
    return f"./{path}" if str(path).startswith("-") else str(path)


if __name__ == "__main__":
    sys.exit(main())
