"""How fast `vaegaze redirect` is, and how much memory it takes: a photo, and videos of several sizes and lengths.

    python -m benchmarks.redirecting
    python -m benchmarks.redirecting --sizes 1920x1080 --seconds 60 600

Renders a talking person for three seconds, who does the same again for as long as a video is to be, and runs the real
command. Memory is the most that the process had, as Linux tells it. The last line is one JSON object.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.forecast import say_beforehand
from benchmarks.rendered_video import FRAMES_PER_SEC, rendered_video
from vaegaze.api import load_model
from vaegaze.data.photo import load_photo
from vaegaze.images.video import write_video
from vaegaze.redirecting.photo import redirect_photo

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "docs" / "images" / "astronaut.png"
CLIP_SEC, PHOTOS = 3.0, 8
FRAME_SEC = 0.2  # of a Zen 3 core, for the forecast


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints" / "pretrained_model.pth")
    parser.add_argument("--sizes", nargs="+", default=["480x360", "1280x720", "1920x1080"], metavar="WxH")
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0], help="lengths (default: %(default)s)")
    given = parser.parse_args(argv)
    sizes = [tuple(map(int, size.split("x"))) for size in given.sizes]
    frames = round(sum(given.seconds) * FRAMES_PER_SEC) * len(sizes)
    say_beforehand(f"{PHOTOS} photos, {frames} frames", frames * FRAME_SEC)
    numbers = {"photo": photo_sec(given.checkpoint)}
    first, usual = numbers["photo"]["first_sec"], numbers["photo"]["usual_sec"]
    print(f"a photo of 512 × 512 px: {usual:.2f} s, the first {first:.2f} s")
    for width_px, height_px in sizes:
        for seconds in given.seconds:
            found = video(given.checkpoint, width_px, height_px, seconds)
            numbers[f"{width_px}x{height_px}, {seconds:g} s"] = found
            print(
                f"{width_px} × {height_px} px, {seconds:g} s: {found['frames_per_sec']:.1f} frames a second, "
                f"{found['most_mb']:.0f} MB"
            )
    print(json.dumps(numbers))
    return 0


def photo_sec(path: Path) -> dict[str, float]:
    """Seconds to find the eyes in a photo and redraw them, the model being loaded."""
    checkpoint, spent = load_model(path), []
    for number in range(PHOTOS):
        began = time.perf_counter()
        photo = load_photo(PHOTO, None, None, None, checkpoint.model.canvas)
        redirect_photo(checkpoint, photo, (0.05 * number, 0.2))
        spent.append(time.perf_counter() - began)
    return {"first_sec": spent[0], "usual_sec": statistics.median(spent[1:])}


def video(checkpoint: Path, width_px: int, height_px: int, seconds: float) -> dict[str, float]:
    """Frames a second as the command says, and the most memory that it took."""
    true = rendered_video(width_px, height_px, face_px=min(height_px, max(256, height_px // 2)), seconds=CLIP_SEC)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "talk.mp4"
        with write_video(source, width_px, height_px, true.frames_per_sec) as writer:
            for number in range(round(seconds * FRAMES_PER_SEC)):
                writer.write(true.frames[number % len(true.frames)])
            writer.finish(whole=True)
        command = [sys.executable, "-m", "vaegaze", "redirect", "--checkpoint", checkpoint, "--video", source]
        command += ["--gaze", "camera", "--device", "cpu", "--output", Path(folder) / "out.mp4"]
        with open(Path(folder) / "said.txt", "w+") as file, subprocess.Popen(command, cwd=ROOT, stdout=file) as process:
            most_mb = 0.0
            while process.poll() is None:
                most_mb = max(most_mb, peak_mb(process.pid))
                time.sleep(0.1)
            said = file.seek(0) or file.read()
    if process.returncode:
        raise SystemExit(f"vaegaze redirect ended with {process.returncode}")
    per_sec = float(re.search(r"frames, ([\d.]+) a second", said)[1])
    return {"frames_per_sec": per_sec, "most_mb": most_mb}


def peak_mb(pid: int) -> float:
    """The most memory that a process has had so far; `ru_maxrss` would be at least what this process had at its start.

    0 once it has ended.
    """
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    sys.exit(main())
