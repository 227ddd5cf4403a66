"""Which tags, tracks and chapters of its source a trial file keeps."""

from vaegaze.images.video.tracks import QUICKTIME_LANGUAGES, name_of, track_title

ABOUT_THE_FILE = {"encoder", "major_brand", "minor_version", "compatible_brands", "software", "duration"}
MOST_NAMED = 6


def tags_of(metadata: dict[str, str]) -> dict[str, str]:
    """The tags, without those that describe the file itself."""
    return {name: value for name, value in metadata.items() if name.lower() not in ABOUT_THE_FILE}


def shifted_chapters(chapters: list[dict], start_sec) -> list[dict]:
    """The chapters with times relative to `start_sec`."""
    shifted = []
    for chapter in chapters:
        shift = round(start_sec / chapter["time_base"])
        start, end = (max(0, chapter[side] - shift) for side in ("start", "end"))
        if end > start:
            shifted.append(chapter | {"start": start, "end": end})
    return shifted


def left_out(like, ways: dict[int, str]) -> list[str]:
    """The source's tracks that cannot be written."""
    names = []
    for stream in like.other_streams:
        if stream.index in ways:
            continue
        if stream.type == "data" and like.chapters and stream.frames == len(like.chapters):
            continue  # MP4 holds the chapters' titles in a track of their own
        kind = {"audio": "sound", "subtitle": "subtitles", "attachment": "an attachment", "video": "further pictures"}
        names.append(f"{kind.get(stream.type, 'data')} ({name_of(stream)})")
    return names


def lost(written, like, ways: dict[int, str]) -> list[str]:
    """What the video `like` has and the container `written`, with the tracks of `ways` in order, lacks."""
    has = {name.lower() for name in written.metadata}
    names = [f"the tag {name}" for name in tags_of(like.metadata) if name.lower() not in has]
    sources = [stream for stream in like.other_streams if stream.index in ways]
    for source, result in zip(sources, (each for each in written.streams if each.type != "video")):
        if source.type == "attachment":
            continue
        language, title = source.metadata.get("language", "und"), track_title(source.metadata)
        kept = result.metadata.get("language", "und")
        if kept not in (language, QUICKTIME_LANGUAGES.get(language)):
            names.append(f"the language {language}")
        if title and track_title(result.metadata) != title:
            names.append(f"the title {title}")
        flags = source.disposition & ~result.disposition
        names += [f"the flag {flag.name} ({name_of(source)})" for flag in type(flags) if flag & flags]
    chapters = shifted_chapters(like.chapters, like.start_sec)
    if chapters and len(written.chapters()) != len(chapters):
        names.append("the chapters")
    return names


def in_one_line(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
