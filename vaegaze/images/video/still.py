"""One frame of a video, by its time."""

from pathlib import Path

import numpy as np

from vaegaze.errors import UserError
from vaegaze.images.pictures import VIDEO_SUFFIXES
from vaegaze.images.video.reading import open_video


def frame_at(path: str | Path, time_sec: float, key: str) -> np.ndarray:
    """The frame (H, W, 3) uint8 RGB nearest to a time in seconds since the video's start.

    `key` names the flag or config key in errors. UserError if the file is no video, begins later or ends earlier.
    """
    if Path(path).is_file() and Path(path).suffix.lower() not in VIDEO_SUFFIXES:
        raise UserError(f"{key}: {path} is not a video, and has no frame at {time_sec:g} s", about="no_video")
    with open_video(path, key) as video:
        if video.begins_after(time_sec):
            begins = f"{video.first_sec:.2f} s"
            raise UserError(f"{key}: {path} begins at {begins}, not at {time_sec:g} s; give a later time")
        before = None
        for frame in video:
            if before is not None and (before.time_sec + frame.time_sec) / 2 >= time_sec:
                return before.pixels
            before = frame
        end_sec = before.time_sec + 1 / video.frames_per_sec
        if time_sec > end_sec:
            raise UserError(f"{key}: {path} ends at {end_sec:.2f} s; there is no frame at {time_sec:g} s")
        return before.pixels
