"""Copies the sound and subtitles of one video to another, re-encoding them if necessary."""

import re
from contextlib import ExitStack
from fractions import Fraction

AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000)
AAC_RATE, AAC_BITS_PER_CHANNEL = 48_000, 96_000  # a second
CHANNELS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}  # where none are named
MOST_AAC_CHANNELS = 6
SUBTITLE_UNIT = Fraction(1, 1000)
COPY, AAC, MOV_TEXT, SRT = "copied", "AAC", "mov_text", "SRT"  # the ways of taking a track along
QUICKTIME_LANGUAGES = {
    "deu": "ger", "fra": "fre", "nld": "dut", "ell": "gre", "zho": "chi", "fas": "per", "ces": "cze", "slk": "slo",
    "ron": "rum", "isl": "ice", "msa": "may", "mkd": "mac", "sqi": "alb", "hye": "arm", "kat": "geo", "eus": "baq",
}  # fmt: skip
# ISO 639-2 has two codes for these; QuickTime's muxer knows the second only.


def ways_of(stream, suffix: str) -> list[str]:
    """The ways to write a stream to a file with that suffix, best first."""
    if stream.type == "attachment":
        return [COPY] if suffix == ".mkv" else []
    if stream.codec_context is None or stream.type not in ("audio", "subtitle"):
        return []
    if stream.type == "audio":
        return [COPY, AAC]
    return [COPY, SRT if suffix == ".mkv" else MOV_TEXT]


def track_title(metadata: dict[str, str]) -> str | None:
    """Matroska's title, or MP4's name."""
    return metadata.get("title") or metadata.get("name")


class Companions:
    """Writes tracks of the video `like` to `container`, each in the way chosen for its index.

    A track that fails while it is written ends there, and `notes` says so; with `strict` it raises.
    """

    def __init__(self, av, container, like, ways: dict[int, str], suffix: str, *, strict: bool = False):
        self.notes: list[str] = []
        self._av, self._strict, self._tracks, self._packet = av, strict, {}, None
        self._resources = ExitStack()
        for stream in like.other_streams:
            way = ways.get(stream.index)
            if way is None:
                continue
            kind = _Copied if way == COPY else _EncodedSound if way == AAC else _EncodedSubtitles
            track = kind(container, stream, way)
            language = stream.metadata.get("language")
            tags = {"language": QUICKTIME_LANGUAGES.get(language, language) if suffix == ".mov" else language}
            tags["title"] = track_title(stream.metadata)
            track.stream.metadata.update({name: value for name, value in tags.items() if value})
            track.stream.disposition = stream.disposition
            if stream.type != "attachment":  # which goes along in the header
                self._tracks[stream.index] = track
        if self._tracks:
            self._packets = self._resources.enter_context(like.other_packets())
            self._next()

    def write(self, until_sec: Fraction | None) -> None:
        """Writes everything up to that time; if it is None, everything, and flushes the encoders."""
        while self._packet is not None:
            packet = self._packet
            if until_sec is not None and packet.dts is not None and packet.dts * packet.time_base > until_sec:
                return
            track = self._tracks.get(packet.stream.index)
            if track is not None and packet.size:
                self._attempt(track, track.add, packet)
            self._next()
        if until_sec is None:
            self.flush()

    def flush(self) -> None:
        """Flushes the encoders."""
        for track in list(self._tracks.values()):
            self._attempt(track, track.flush)
            self.notes += track.notes
        self._tracks.clear()

    def close(self) -> None:
        self._resources.close()

    def _next(self) -> None:
        try:
            self._packet = next(self._packets, None)
        except self._av.error.FFmpegError as error:
            self._packet = None
            self.notes.append(f"⚠️ The sound is damaged and ends early ({error.strerror})")

    def _attempt(self, track: "_Track", work, *packet) -> None:
        try:
            work(*packet)
        except (self._av.error.FFmpegError, ValueError) as error:
            if self._strict:
                raise
            self._tracks = {index: each for index, each in self._tracks.items() if each is not track}
            reason = getattr(error, "strerror", None) or error
            self.notes.append(f"⚠️ {track.name} ends after {float(track.written_sec):.1f} s ({reason})")


class _Track:
    """A track being written. `stream` is its stream in the new file."""

    def __init__(self, container, source, stream):
        self.stream, self.name = stream, f"The {'sound' if source.type == 'audio' else 'subtitles'} ({name_of(source)})"
        self.written_sec, self._container, self._last_dts, self._moved = Fraction(0), container, None, 0

    @property
    def notes(self) -> list[str]:
        if not self._moved:
            return []
        return [
            f"{self.name}: {self._moved} packets with non-increasing times are kept, moved just after the previous ones"
        ]

    def flush(self) -> None:
        pass

    def _mux(self, packet) -> None:
        """Writes the packet with increasing times, which most containers require."""
        packet.dts = packet.pts if packet.dts is None else packet.dts
        if self._last_dts is not None and packet.dts <= self._last_dts:
            packet.dts, self._moved = self._last_dts + 1, self._moved + 1
        packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
        self._last_dts, self.written_sec = packet.dts, packet.pts * packet.time_base
        packet.stream = self.stream
        self._container.mux(packet)


class _Copied(_Track):
    def __init__(self, container, source, way: str):
        super().__init__(container, source, container.add_stream_from_template(source))

    def add(self, packet) -> None:
        self._mux(packet)


class _EncodedSound(_Track):
    """Decoded, gaps in its times filled with silence (FFmpeg's aresample), and encoded as AAC."""

    def __init__(self, container, source, way: str):
        import av

        context = source.codec_context
        rate = context.sample_rate if context.sample_rate in AAC_RATES else AAC_RATE
        super().__init__(container, source, container.add_stream("aac", rate=rate))
        channels = context.layout.nb_channels
        channels = max(1, channels) if channels <= 2 else MOST_AAC_CHANNELS if channels >= MOST_AAC_CHANNELS else 2
        self.stream.codec_context.layout = CHANNELS[channels]
        self.stream.codec_context.bit_rate = AAC_BITS_PER_CHANNEL * channels
        self._av, self._graph, self._damaged = av, None, 0

    @property
    def notes(self) -> list[str]:
        damaged = [f"⚠️ {self.name}: {self._damaged} damaged packets are left out"] if self._damaged else []
        return damaged + super().notes

    def add(self, packet) -> None:
        try:
            frames = packet.decode()
        except self._av.error.InvalidDataError:
            self._damaged += 1
            return
        for frame in frames:
            self._push(frame)

    def flush(self) -> None:
        if self._graph is not None:
            self._push(None)
            for packet in self.stream.encode(None):
                self._mux(packet)

    def _push(self, frame) -> None:
        if self._graph is None:
            self._graph = self._av.filter.Graph()
            layout = frame.layout.name
            if "channels" in layout:  # a number only, as AVI's PCM has it
                layout = CHANNELS.get(frame.layout.nb_channels, layout)
            source = self._graph.add_abuffer(
                sample_rate=frame.sample_rate, format=frame.format, layout=layout, time_base=frame.time_base
            )
            nodes = self._graph.add("aresample", "async=1"), self._graph.add("abuffersink")
            self._graph.link_nodes(source, *nodes).configure()
        self._graph.push(frame)
        while True:
            try:
                ready = self._graph.pull()
            except (self._av.error.BlockingIOError, self._av.error.EOFError):
                return
            for packet in self.stream.encode(ready):
                self._mux(packet)


class _EncodedSubtitles(_Track):
    """Text subtitles in the container's own form."""

    def __init__(self, container, source, way: str):
        from av.subtitles.subtitle import SubtitleSet

        self._set, self._decoder = SubtitleSet, source.codec_context
        self._decoder.open(strict=False)
        super().__init__(container, source, container.add_stream({MOV_TEXT: "mov_text", SRT: "srt"}[way]))
        self.stream.codec_context.subtitle_header = self._decoder.subtitle_header
        self.stream.codec_context.time_base = SUBTITLE_UNIT

    def add(self, packet) -> None:
        decoded = self._decoder.decode2(packet)
        if decoded is None or packet.pts is None:
            return
        start, length = (round(ticks * packet.time_base / SUBTITLE_UNIT) for ticks in (packet.pts, packet.duration))
        for text in (each.ass for each in decoded if hasattr(each, "ass")):
            encoded = self.stream.codec_context.encode_subtitle(self._set.create(text, 0, length, start))
            encoded.pts = encoded.dts = start
            encoded.duration, encoded.time_base = length, SUBTITLE_UNIT
            self._mux(encoded)


def name_of(stream) -> str:
    """A short description of a track: language, file name, title and codec."""
    words = [stream.metadata.get(name) for name in ("language", "filename")] + [track_title(stream.metadata)]
    words = [word for word in words if word and word != "und"]
    codec = stream.codec_context.codec.canonical_name if stream.codec_context is not None else None
    return re.sub(r"\s+", " ", ", ".join([*words, *([codec] if codec else [])])) or "of an unknown kind"
