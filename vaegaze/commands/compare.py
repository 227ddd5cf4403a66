"""A redirected video against its source: how steady the eyes are, whether blinks and lids stay, whether edges show.

    vaegaze compare talk.mp4 talk_looking.mp4

`vaegaze redirect --video` prints these numbers, too, measured on fewer frames; docs/video.md explains the numbers.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vaegaze.commands.frame_report import BEGINS, REPORT_SUFFIX, read_report, reason_lines
from vaegaze.commands.outputs import begins_with, refuse_output
from vaegaze.commands.progress import progress_bar
from vaegaze.commands.running import run_with_settings
from vaegaze.config import shared
from vaegaze.config.tree import option
from vaegaze.errors import UserError, plain
from vaegaze.faces.cascades import opencv
from vaegaze.faces.reader import backend
from vaegaze.faces.tracking import follow_eyes
from vaegaze.files import write_text
from vaegaze.images.video import VideoReader, open_video
from vaegaze.redirecting.comparison import Compared, Comparison
from vaegaze.redirecting.fading import Fate

WITH_VALUE = ("--source", "--result", "--face", "--output", "--config")
LATE_FRAMES = 0.5  # by how much of a frame's length the times of the same frame may differ


@dataclass(frozen=True)
class CompareParams:
    """The two videos"""

    source: str | None = option(None, help="the video that was redirected", metavar="PATH")
    result: str | None = option(None, help="what came of it, alone or beside the source", metavar="PATH")
    face: int | None = shared.face()
    output: str | None = shared.output("JSON file of the numbers")


@dataclass(frozen=True)
class CompareConfig:
    """The settings of one comparison."""

    compare_params: CompareParams = CompareParams()

    def problems(self, origins: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str]]:
        """What is missing; see `tree.resolve`."""
        for name in ("source", "result"):
            if getattr(self.compare_params, name) is None:
                yield (f"compare_params.{name}",), "needed; give SOURCE and RESULT: two videos"


def main(argv: list[str] | None = None) -> int:
    return run_with_settings(
        CompareConfig,
        lambda resolved, **switches: run(resolved.config.compare_params, **switches),
        argv,
        prog="vaegaze compare",
        description="Compare a redirected video with its source.",
        switches=[shared.OVERWRITE],
        rewrite=with_named_videos,
        hint="nothing was written",
        less_memory="give smaller videos",
        advice=shared.advice("eyes", "opencv", "faces", "face"),
    )


def with_named_videos(argv: Sequence[str]) -> list[str]:
    """The command line with `--source A --result B`, where it lacks these flags, for its first words that are no flag
    and no flag's value.
    """
    given = {word.partition("=")[0] for word in argv}
    words, names, before = [], [name for name in ("--source", "--result") if name not in given], ""
    for word in argv:
        if names and not word.startswith("-") and before not in WITH_VALUE:
            words.append(names.pop(0))
        words.append(word)
        before = word
    return words


def run(params: CompareParams, *, overwrite: bool) -> None:
    if params.output is not None:
        read = {"--source": params.source, "--result": params.result}
        read |= {f"beside {flag}": Path(path).with_suffix(REPORT_SUFFIX) for flag, path in read.items()}
        refuse_output(Path(params.output), "--output", overwrite=overwrite, inputs=read)
    source_path, result_path = Path(params.source), Path(params.result)
    if source_path.exists() and result_path.exists() and source_path.samefile(result_path):
        raise UserError(f"--result: {result_path} is the source itself; give the video that was made from it")
    opencv()
    by = backend()
    fates = read_report(report) if (report := table_beside(result_path)) else []
    with open_video(params.source, "--source") as source, open_video(params.result, "--result") as result:
        numbers, notes = compared(source, result, params.face, fates, by)
    if not fates and (report := table_beside(source_path)):
        notes.append(
            f"⚠️ {report} tells how {source_path} was redrawn: is that the result, and {result_path} the source?"
        )
    for note in notes:
        print(plain(note))
    if numbers.no_face == numbers.frames:
        raise UserError(f"--source: {params.source} shows no face in any of its {numbers.frames} frames")
    print(plain(f"{params.result} against {params.source}, {numbers.frames} frames:"))
    print("\n".join([*comparison_lines(numbers), *reason_lines(fates)]))
    if params.output is not None:
        why = dict(Counter(fate.why for fate in fates if fate.left_alone))
        content = {"source": params.source, "result": params.result, **asdict(numbers), "left_alone": why}
        write_text(params.output, json.dumps(content, indent=2, allow_nan=False) + "\n")


def table_beside(video: Path) -> Path | None:
    """The table of what became of the video's frames, if it lies beside it."""
    report = video.with_suffix(REPORT_SUFFIX)
    return report if report.is_file() and begins_with(report, BEGINS) else None


def compared(
    source: VideoReader, result: VideoReader, face: int | None, fates: Sequence[Fate], by: str
) -> tuple[Compared, list[str]]:
    """The numbers, and a line about each thing that may make them say something else than one thinks.

    `fates` of all the result's frames, or none. UserError if they are of another video.
    """
    skipped, results, notes = beside(source, result), iter(result), []
    comparison, apart_sec, rest = Comparison(by), None, 0
    with progress_bar("comparing", source.frame_count, unit=" frames") as bar:
        for number, followed in enumerate(follow_eyes(source, f"source: {source.path}", face, by)):
            other = next(results, None)
            if other is None:
                notes.append(f"⚠️ {result.path} ends first: the rest of {source.path} is not compared")
                break
            pixels = other.pixels[: source.height_px, skipped : skipped + source.width_px]
            comparison.add(followed, pixels, not fates[number].left_alone if number < len(fates) else None)
            later_sec = other.time_sec - followed.frame.time_sec
            apart_sec = later_sec if apart_sec is None else apart_sec
            if abs(later_sec - apart_sec) > LATE_FRAMES / source.frames_per_sec and not notes:
                where = f"their times part at {other.time_sec:.2f} s"
                notes.append(f"⚠️ {result.path} has other frames than {source.path}: {where}")
            bar.update()
        else:
            rest = sum(1 for _ in results)
    if rest:
        notes.append(f"⚠️ {source.path} ends first: the rest of {result.path} is not compared")
    numbers = comparison.numbers()
    if fates and len(fates) != numbers.frames + rest:
        raise UserError(
            f"{result.path.with_suffix(REPORT_SUFFIX)} tells of {len(fates)} frames, but {result.path} has "
            f"{numbers.frames + rest}: it is another video's; move it away"
        )
    return numbers, notes


def beside(source: VideoReader, result: VideoReader) -> int:
    """How many columns of the result the source takes, which stands on its left or is not there. UserError else."""
    even = source.width_px + source.width_px % 2, source.height_px + source.height_px % 2  # H.264's
    for skipped, width in ((0, even[0]), (source.width_px, 2 * source.width_px)):
        if (result.width_px, result.height_px) in ((width, even[1]), (width, source.height_px)):
            return skipped
    raise UserError(
        f"--result: the frames of {result.path} have {result.width_px}×{result.height_px} pixels, not "
        f"{source.width_px}×{source.height_px} as in {source.path}; give the video that was made from it"
    )


def comparison_lines(numbers: Compared) -> list[str]:
    """The numbers in words."""
    rows = []
    if numbers.jitter_px is not None:
        rows.append(
            ("irises in fixations", f"tremble by {numbers.jitter_px:.2f} px, {numbers.jitter_ratio:.2f} × the source's")
        )
    else:
        rows.append(("irises in fixations", "not measured: without face landmarks, or drawn eyes that rest"))
    if numbers.closed:
        rows.append(("blinks", f"{numbers.closed_kept} of {numbers.closed} frames with closed eyes stay so"))
    rows.append(("switches", f"{numbers.switches} between drawn and true eyes, blinks apart"))
    if numbers.no_face:
        rows.append(("no face", f"{numbers.no_face} frames"))
    if numbers.corners_off is not None:
        wider = f"eyes {abs(numbers.eye_width):.1f} % {'wider' if numbers.eye_width >= 0 else 'narrower'}"
        rows.append(("lids", f"corners {numbers.corners_off:.1f} % of the eye distance off the source's, {wider}"))
    if numbers.edges is not None:
        colour = " ".join(f"{level:+.1f}" for level in numbers.colour)
        pulsing = "" if numbers.pulsing is None else f", pulsing by {numbers.pulsing:.2f}"
        rows.append(("edges", f"steps of {numbers.edges:.2f} of 255 levels a pixel around the eyes"))
        rows.append(("colours", f"{colour} levels of red, green, blue around the eyes{pulsing}"))
    return [f"   {what:<22}{words}" for what, words in rows]


if __name__ == "__main__":
    sys.exit(main())
