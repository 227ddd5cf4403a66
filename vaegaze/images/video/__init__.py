"""Videos, by PyAV (FFmpeg): read one frame after the other, written as H.264 with all else that the source holds."""

from vaegaze.images.video.reading import DamagedVideo, Frame, VideoReader, open_video
from vaegaze.images.video.writing import SUFFIXES, VideoWriter, write_video

__all__ = ["SUFFIXES", "DamagedVideo", "Frame", "VideoReader", "VideoWriter", "open_video", "write_video"]
