"""One clock for files whose own clock jumps, as it does where recordings were joined byte by byte.

Times that go back, and in broadcast formats times far ahead of all else, mark the start of another recording. It is
placed where the one before it ends, by one shift for all of its tracks, so that sound and pictures stay in step. The
decision rests on the packets in the file's order alone: every pass over a file decides alike.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction

BACK_SEC, AHEAD_SEC = Fraction(1, 10), 10  # beyond these a time belongs to another recording; as in FFmpeg's own tool
EARLIER_SEC = 1  # how far tracks of one recording may begin apart
MOST_HELD = 500  # packets kept back at a jump, until each track has come to it


class _Recording:
    """A stretch of the file without a jump. Times in seconds, by the file's clock."""

    def __init__(self, shift_sec: Fraction | None):
        self.shift_sec = shift_sec  # None until its tracks are known
        self.first_sec: Fraction | None = None
        self.end_sec = Fraction(0)
        self.tracks: set[int] = set()

    def add(self, packet) -> None:
        time_sec = _shown(packet)
        self.first_sec = time_sec if self.first_sec is None else min(self.first_sec, time_sec)
        self.end_sec = max(self.end_sec, time_sec + _duration_sec(packet))
        self.tracks.add(packet.stream.index)

    def covers(self, time_sec: Fraction) -> bool:
        return self.first_sec is not None and self.first_sec - EARLIER_SEC <= time_sec <= self.end_sec + AHEAD_SEC


def on_one_clock(packets: Iterable, start_sec: Fraction, *, may_jump_ahead: bool) -> Iterator:
    """The packets of all tracks, in the file's order, their times shifted to begin at 0 and to go on after a jump.

    `start_sec` is the file's own first time. At most MOST_HELD packets are kept back.
    """
    recordings = [_Recording(-start_sec)]
    of_track: dict[int, _Recording] = {}
    last_sec: dict[int, Fraction] = {}
    held: list[tuple[_Recording, object]] = []

    def settled() -> Iterator:
        """What is held, once it is known where the newest recording belongs."""
        if recordings[-1].shift_sec is None:
            before, newest = recordings[-2:]
            newest.shift_sec = before.end_sec + before.shift_sec - newest.first_sec
        for recording, packet in held:
            yield _shifted(packet, recording.shift_sec)
        held.clear()

    for packet in packets:
        track = packet.stream.index
        recording = of_track.get(track, recordings[-1])
        if packet.dts is None:  # as of Matroska's first packets, and at the end
            if packet.pts is not None:
                recording.add(packet)
        else:
            time_sec = packet.dts * packet.time_base
            last = last_sec.get(track, time_sec)
            back = time_sec < last - BACK_SEC
            ahead = may_jump_ahead and bool(recording.tracks) and time_sec > recording.end_sec + AHEAD_SEC
            if back or ahead:
                if recording is recordings[-1] or not recordings[-1].covers(time_sec):
                    yield from settled()
                    recordings.append(_Recording(None))
                recording = recordings[-1]
            recording.add(packet)
            of_track[track], last_sec[track] = recording, time_sec
        held.append((recording, packet))
        newest = recordings[-1]
        if newest.shift_sec is not None or newest.tracks >= recordings[-2].tracks or len(held) >= MOST_HELD:
            yield from settled()
    yield from settled()


def _shifted(packet, shift_sec: Fraction):
    if packet.time_base:
        shift = round(shift_sec / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + shift
        packet.dts = None if packet.dts is None else packet.dts + shift
    return packet


def _shown(packet) -> Fraction:
    return (packet.dts if packet.pts is None else packet.pts) * packet.time_base


def _duration_sec(packet) -> Fraction:
    if packet.duration:
        return packet.duration * packet.time_base
    rate = getattr(packet.stream, "average_rate", None)
    return 1 / rate if rate else Fraction(0)
