"""The sound of one video with the frames of another: copied, never encoded again."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from tasks.media.errors import MediaError
from tasks.media.formats import AUDIO_CODECS
from tasks.media.video_reader import (
    DecodeErrors,
    choose_stream,
    error_reason,
    iter_readable_packets,
    open_media,
    read_start_seconds,
)

# None: the profile is hidden by damage at the start.
_PLAYED_AAC = frozenset({"LC", "HE-AAC", "HE-AACv2", None})

Timed = Iterator[tuple[float, "Packet[Any]"]]


@dataclass(frozen=True, kw_only=True)
class _Track:
    """A sound track; it is copied from `start` to `start + length`, in seconds of its own file."""

    container: InputContainer
    stream: AudioStream
    start: float
    length: float
    faults: DecodeErrors


def has_audio(path: Path) -> bool:
    """Return whether a video has a sound track."""
    with open_media(path) as container:
        return choose_stream(container, "audio") is not None


def mux_audio(film: Path, source: Path, seconds: float, out: Path) -> str | None:
    """Write `out`, an MP4 of the H.264 in `film` and the sound of `source` from its first frame on, `seconds` long.

    Return None, or why the sound is missing in whole or in part: it is copied if browsers play it in an MP4, else left
    out. Nothing in `source` is an error; an av.FFmpegError says that `film` cannot be read or `out` cannot be written.
    """
    try:
        with open_media(source) as container:
            stream = choose_stream(container, "audio")
            if isinstance(stream, AudioStream) and not (fault := _unplayable(stream)):
                track = _Track(
                    container=container,
                    stream=stream,
                    start=read_start_seconds(source) or 0.0,
                    length=seconds,
                    faults=DecodeErrors(),
                )
                faults = track.faults
                if _join(film, out, track):
                    found = f"{faults.count} damaged packets ({faults.first})"
                    return f"expected whole sound, found {found}; they are left out" if faults.count else None
                fault = faults.first or "no sound beside the frames"
    except (av.FFmpegError, ValueError, ArithmeticError, LookupError, MediaError) as error:
        fault = error_reason(error)
    _join(film, out)
    return (
        f"expected sound that an MP4 can hold (AAC, MP3, Opus or FLAC), found: {fault}; the film is silent, its frames "
        "are whole"
    )


def _unplayable(stream: AudioStream) -> str:
    """Return the codec of a track that browsers do not play in an MP4; an empty text for the others."""
    # The stubs promise a context; a codec that FFmpeg does not know has none.
    if not stream.codec_context:
        return "an unknown codec"
    name = stream.codec_context.name
    profile = stream.codec_context.profile
    if name == "aac" and profile not in _PLAYED_AAC:
        return f"aac of profile {profile}"
    return "" if name in AUDIO_CODECS else name


def _join(film: Path, out: Path, track: _Track | None = None) -> int:
    """Write both tracks, in the order of time; return the number of packets of sound."""
    sounds = 0
    options = {"movflags": "+faststart"}
    with av.open(str(film)) as frames, av.open(str(out), "w", format="mp4", options=options) as container:
        tracks = [_film(frames, container.add_stream_from_template(frames.streams.video[0]))]
        if track:
            tracks.append(_sound(track, container.add_stream_from_template(track.stream)))
        for _, packet in heapq.merge(*tracks, key=lambda timed: timed[0]):
            container.mux(packet)
            sounds += packet.stream.type == "audio"
    return sounds


def _film(frames: InputContainer, stream: VideoStream) -> Timed:
    for packet in frames.demux(frames.streams.video[0]):
        if packet.pts is not None:
            seconds = float(packet.pts * packet.time_base)
            packet.stream = stream
            yield seconds, packet


def _sound(track: _Track, stream: Stream) -> Timed:
    last = None
    for packet in iter_readable_packets(track.container, track.stream, track.faults):
        # A browser stops the whole video at a packet that does not decode.
        if packet.pts is None or not _is_sound(packet, track.faults) or (last is not None and packet.pts <= last):
            continue
        last = packet.pts
        start = packet.pts - round(track.start / packet.time_base)
        end = float((start + (packet.duration or 0)) * packet.time_base)
        if end > track.length + 0.001:
            return
        # A packet that ends at the first frame is kept: decoders warm up with it.
        if end >= 0:
            packet.pts = packet.dts = start
            packet.stream = stream
            yield float(start * packet.time_base), packet


def _is_sound(packet: "Packet[Stream]", faults: DecodeErrors) -> bool:
    if not packet.size:
        return False
    try:
        packet.decode()
    except av.EOFError:  # it is flushed already
        return True
    except av.FFmpegError as error:
        faults.add(error)
        return False
    faults.in_a_row = 0
    return True
