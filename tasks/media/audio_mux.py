"""The sound of one video laid under the frames of another."""

import heapq
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.filter import Graph
from av.packet import Packet
from av.stream import Stream

from tasks.media.errors import MediaError
from tasks.media.video_reader import (
    AUDIO_CODECS,
    DecodeErrors,
    choose_stream,
    error_reason,
    iter_readable_packets,
    open_media,
    read_start_seconds,
)

# What MP4 holds and the browsers of today play; AC-3, PCM, Vorbis and the like are encoded again.
_PLAYED = frozenset({"aac", "mp3", "mp3float", "opus", "libopus", "flac"})
_PLAYED_AAC = frozenset({"LC", "HE-AAC", "HE-AACv2"})
_AAC_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})
_BITS_PER_CHANNEL = 80_000
# A hole is filled with silence in memory.
_MAX_HOLE_S = 60.0

Timed = Iterator[tuple[float, "Packet[Any]"]]
_BROKEN = (av.FFmpegError, ValueError, ArithmeticError, LookupError)


@dataclass(frozen=True)
class _Track:
    """A sound track on its way: it is heard from `start` to `start + length`, in seconds of its own file."""

    container: InputContainer
    stream: AudioStream
    start: float
    length: float
    faults: DecodeErrors


def has_audio(path: Path) -> bool:
    """Tell whether a video has a sound track; raise MediaError where it is no video."""
    with open_media(path) as container:
        return choose_stream(container, "audio") is not None


def mux_audio(film: Path, source: Path, seconds: float, out: Path) -> str | None:
    """Write `out`, an MP4 of the H.264 in `film` and the sound of `source` from its first frame on, `seconds` long.

    The sound is copied where browsers play it, else encoded to AAC. Return None, or why it is missing in whole or in
    part: nothing in `source` is an error. Raise av.FFmpegError where `film` cannot be read or `out` not be written.
    """
    fault = "none"
    for way in (_copied, _encoded):
        try:
            with open_media(source) as container:
                stream = choose_stream(container, "audio")
                if not isinstance(stream, AudioStream) or not _is_known(stream):
                    fault = "none of a known codec"
                    continue
                if way is _copied and not _plays(stream):
                    continue
                track = _Track(container, stream, read_start_seconds(source) or 0.0, seconds, DecodeErrors())
                heard = _join(film, out, way, track)
        except (*_BROKEN, MediaError) as error:
            fault = error_reason(error)
            continue
        if heard:
            return _partly(track.faults)
        fault = track.faults.first or "no sound beside the frames"
    _join(film, out)
    return f"expected sound that can be read, found: {fault}; the film is silent, its frames are whole"


def _is_known(stream: AudioStream) -> bool:
    # The stubs promise a context; a codec that FFmpeg does not know has none.
    return bool(stream.codec_context) and stream.codec_context.name in AUDIO_CODECS.split(",")


def _plays(stream: AudioStream) -> bool:
    name = stream.codec_context.name
    return name in _PLAYED and (name != "aac" or stream.codec_context.profile in _PLAYED_AAC)


def _partly(faults: DecodeErrors) -> str | None:
    if not faults.count:
        return None
    return f"expected whole sound, found {faults.count} damaged packets ({faults.first}); they are left out"


def _join(
    film: Path,
    out: Path,
    way: "Callable[[_Track, OutputContainer], Timed] | None" = None,
    track: _Track | None = None,
) -> int:
    """Write both tracks, in the order of time; return how many packets of sound there were."""
    heard = 0
    options = {"movflags": "+faststart"}
    with av.open(str(film)) as frames, av.open(str(out), "w", format="mp4", options=options) as container:
        tracks = [_film(frames, container)]
        if way and track:
            tracks.append(way(track, container))
        for _, packet in heapq.merge(*tracks, key=lambda timed: timed[0]):
            container.mux(packet)
            heard += packet.stream.type == "audio"
    return heard


def _film(frames: InputContainer, container: OutputContainer) -> Timed:
    stream = container.add_stream_from_template(frames.streams.video[0])

    def packets() -> Timed:
        for packet in frames.demux(frames.streams.video[0]):
            if packet.pts is not None:
                seconds = float(packet.pts * packet.time_base)
                packet.stream = stream
                yield seconds, packet

    return packets()


def _copied(track: _Track, container: OutputContainer) -> Timed:
    return _copied_packets(track, container.add_stream_from_template(track.stream))


def _copied_packets(track: _Track, stream: Stream) -> Timed:
    last = None
    for packet in iter_readable_packets(track.container, track.stream, track.faults):
        # A browser stops the whole film at a packet that does not decode.
        if packet.pts is None or not _is_sound(packet, track.faults) or (last is not None and packet.pts <= last):
            continue
        last = packet.pts
        start = packet.pts - round(track.start / packet.time_base)
        end = float((start + (packet.duration or 0)) * packet.time_base)
        if end > track.length + 0.001:
            return
        # A packet that ends where the film begins is kept: decoders warm up with it.
        if end >= 0:
            packet.pts = packet.dts = start
            packet.stream = stream
            yield float(start * packet.time_base), packet


def _encoded(track: _Track, container: OutputContainer) -> Timed:
    rate = track.stream.rate if track.stream.rate in _AAC_RATES else 48_000
    channels = min(track.stream.channels, 2)
    stream = container.add_stream("aac", rate=rate)
    stream.layout = "mono" if channels == 1 else "stereo"
    stream.bit_rate = channels * _BITS_PER_CHANNEL
    return _encoded_packets(track, stream)


def _encoded_packets(track: _Track, stream: AudioStream) -> Timed:
    for frame in chain(_filtered(track, stream), [None]):
        for packet in stream.encode(frame):
            yield float((packet.pts or 0) * packet.time_base), packet


def _filtered(track: _Track, stream: AudioStream) -> Iterator[AudioFrame]:
    """Yield the sound as the encoder wants it, from time 0 to the end of the film and without holes."""
    frames = _shifted(track)
    first = next(frames, None)
    if first is None:
        return
    graph = _graph(first, stream, track.length)
    for frame in chain([first], frames, [None]):
        # The filter has ended where the film does.
        with suppress(av.EOFError):
            graph.push(frame)
        with suppress(av.EOFError, av.BlockingIOError):
            while isinstance(ready := graph.pull(), AudioFrame):
                yield ready


def _graph(first: AudioFrame, stream: AudioStream, seconds: float) -> Graph:
    # What the file says of its sound is not always what its decoder gives.
    given, layout = first.format.name, first.layout.name
    wanted = f"{stream.rate}:out_sample_fmt=fltp:out_chlayout={stream.layout.name}"
    graph = Graph()
    graph.link_nodes(
        graph.add_abuffer(sample_rate=first.sample_rate, format=given, layout=layout, time_base=first.time_base),
        # Holes become silence, and the sound begins at time 0.
        graph.add("aresample", f"{wanted}:async=1:first_pts=0"),
        graph.add("atrim", f"end={seconds:.6f}"),
        graph.add("abuffersink"),
    ).configure()
    return graph


def _shifted(track: _Track) -> Iterator[AudioFrame]:
    """Yield the decoded sound with the times of the film, up to its end."""
    end = 0.0
    for packet in iter_readable_packets(track.container, track.stream, track.faults):
        for frame in _decoded(packet, track.faults) or ():
            if frame.pts is None or frame.time_base is None:
                continue
            frame.pts -= round(track.start / frame.time_base)
            start = float(frame.pts * frame.time_base)
            if start > track.length:
                return
            if start - end > _MAX_HOLE_S:
                track.faults.add(ValueError(f"a hole of {start - end:.0f} s"))
                return
            end = start + frame.samples / frame.sample_rate
            yield frame


def _is_sound(packet: "Packet[Stream]", faults: DecodeErrors) -> bool:
    return packet.size > 0 and _decoded(packet, faults) is not None


def _decoded(packet: "Packet[Stream]", faults: DecodeErrors) -> list[AudioFrame] | None:
    """Return what the packet decodes to, which may come later; None where it is damaged."""
    try:
        frames = [frame for frame in packet.decode() if isinstance(frame, AudioFrame)]
    except av.EOFError:  # it is flushed already
        return []
    except av.FFmpegError as error:
        faults.add(error)
        return None
    faults.in_a_row = 0
    return frames
