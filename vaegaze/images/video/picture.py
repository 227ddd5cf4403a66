"""A decoded frame as upright RGB pixels, and back: display matrix, interlacing, colours."""

import mmap
from collections.abc import Iterator

import numpy as np

EXACT = ("BILINEAR", "ACCURATE_RND", "FULL_CHR_H_INT", "FULL_CHR_H_INP")  # between RGB and YUV; else colours darken
DEINTERLACE = ("bwdif", "mode=send_frame:deint=interlaced")  # leaves progressive frames alone
UNSPECIFIED = 2  # as a colour tag (ITU-T H.273)
RGB, BT709 = 0, 1  # matrices
YUV_MATRICES = (
    BT709,
    UNSPECIFIED,
    4,
    5,
    6,
    7,
    9,
)  # that swscale computes for 4:2:0: BT.709, FCC, BT.601, 240M, BT.2020
RESERVED = (0, 3)  # as primaries and transfer


def exact(av) -> int:
    """swscale's flags for conversion without a drift of colours."""
    flags = av.video.reformatter.Interpolation
    return sum(int(flags[name]) for name in EXACT if name in flags.__members__)  # older versions lack some


class Orientation:
    """How a stored frame has to be turned and mirrored to be upright, from its display matrix.

    The matrix maps stored x, y to shown ones: x' = a·x + c·y, y' = b·x + d·y (ISO/IEC 14496-12, 6.2.2), so that a
    quarter turn has a = d = 0. Other angles are rounded to the nearest quarter, and `is_rounded` says so.
    """

    def __init__(self, frame):
        a, b, c, d = _display_matrix(frame)
        self.transposed = abs(b) + abs(c) > abs(a) + abs(d)
        along, across = ((c, b), (a, d)) if self.transposed else ((a, d), (b, c))
        self.flips_x, self.flips_y = along[0] < 0, along[1] < 0
        self.is_rounded = max(map(abs, across)) > 0.02 * max(map(abs, along))

    def differs(self, frame) -> bool:
        """Whether a later frame states another orientation; most state none."""
        if _stated_matrix(frame) is None:
            return False
        other = Orientation(frame)
        return (other.transposed, other.flips_x, other.flips_y) != (self.transposed, self.flips_x, self.flips_y)

    def upright(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, 3) as stored → a copy (H, W, 3) or (W, H, 3), contiguous, in memory of its own."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        # Dozens of frames wait for their turn: on the heap they would fragment what the model allocates from.
        upright = np.ndarray(pixels.shape, np.uint8, mmap.mmap(-1, pixels.size))
        upright[:] = pixels[:: -1 if self.flips_y else 1, :: -1 if self.flips_x else 1]
        return upright


def _display_matrix(frame) -> tuple[float, float, float, float]:
    data = _stated_matrix(frame)
    if data is None or len(data) < 36:
        return 1.0, 0.0, 0.0, 1.0
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5] / 65536
    return (a, b, c, d) if abs(a * d - b * c) > 1e-6 else (1.0, 0.0, 0.0, 1.0)  # one that flattens the picture is wrong


def _stated_matrix(frame) -> bytes | None:
    from av.sidedata.sidedata import SideDataContainer

    # A frame keeps what `frame.side_data` returns, which keeps the frame: its pixels would wait for the collector.
    container = SideDataContainer(frame)
    return next((bytes(each) for each in container if each.type.name == "DISPLAYMATRIX"), None)


def written_colours(frame) -> dict[str, int]:
    """The frame's colour tags, as far as 8-bit 4:2:0 allows them: RGB's matrix, say, becomes BT.709."""
    is_rgb = frame.format.is_rgb or frame.colorspace == RGB
    matrix = frame.colorspace if frame.colorspace in YUV_MATRICES and not is_rgb else BT709
    tags = {"color_primaries": frame.color_primaries, "color_trc": frame.color_trc}
    return {"colorspace": matrix} | {name: UNSPECIFIED if tag in RESERVED else tag for name, tag in tags.items()}


def lost_in_420(frame, tags: dict[str, str]) -> list[str]:
    """What 8-bit 4:2:0 does not hold of the frame's pixel format, and of what the track's `tags` say of it."""
    components, lost = frame.format.components, []
    if components[0].bits > 8:
        lost.append(f"{components[0].bits}-bit colour, written with 8 bits")
    if frame.format.is_rgb:
        lost.append("RGB colour, written as 4:2:0")
    elif len(components) >= 3:
        wide, high = components[1].width > frame.width // 2 + 1, components[1].height > frame.height // 2 + 1
        if wide or high:
            sampling = "4:4:4" if wide and high else "4:2:2" if high else "4:4:0"
            lost.append(f"{sampling} colour, written as 4:2:0")
    if any(each.is_alpha for each in components) or tags.get("alpha_mode") == "1":  # of WebM, whose frames hide it
        lost.append("transparency, left out")
    return lost


class Deinterlacer:
    """FFmpeg's bwdif, from the first interlaced frame on: one frame for each, at its own time."""

    def __init__(self, av):
        self._av, self._graph = av, None
        self.is_used = False

    def frames(self, frame) -> Iterator:
        """What is ready once this frame is in, or at None, the end: each frame comes out one later."""
        if self._graph is None and not (frame is not None and frame.interlaced_frame):
            if frame is not None:
                yield frame
            return
        if self._graph is None:
            self._start(frame)
        self._graph.vpush(frame)
        while True:
            try:
                ready = self._graph.vpull()
            except (self._av.error.BlockingIOError, self._av.error.EOFError):
                return
            yield ready

    def _start(self, frame) -> None:
        self.is_used, self._graph = True, self._av.filter.Graph()
        source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        self._graph.link_nodes(source, self._graph.add(*DEINTERLACE), self._graph.add("buffersink")).configure()
