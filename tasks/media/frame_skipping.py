"""Which packets of an H.264 video need not be decoded if only every n-th of its frames is wanted.

Nothing of what a file says about its packets is believed: what no other frame refers to is read from the H.264 itself,
where a decoder looks, too.
"""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

# All of the first are decoded: a decoder learns there how many frames it must hold back to show them in order.
_LEARNING = 32
_MAX_PACKETS = 4_000_000  # 18 hours at 60 frames/s; each takes 40 bytes of memory
_MAX_UNITS = 1000  # of a packet: encoders write a few, or one for each row of blocks
# Types of an H.264 unit.
_SLICE, _IDR_SLICE = 1, 5
_SLICES = frozenset({_SLICE, _IDR_SLICE})
_NOTES = frozenset({6, 9, 12})  # nothing in a picture depends on them
_PARAMETER_SETS = frozenset({7, 8})
# Traits of a packet.
_STARTS = 1  # what follows it needs nothing before it
_UNREFERENCED = 2
_PLAIN = 4  # without parameter sets, which others may need


@dataclass(frozen=True, eq=False, kw_only=True)
class PacketChoice:
    """What is decoded of a video of n frames.

    Attributes:
        times: When each frame is shown [n], rising, in ticks of the stream.
        decoded: Whether each packet is decoded [n], in the order of the file.
        frames: The indices of the frames that come of those, in order.
    """

    times: NDArray[np.int64]
    decoded: NDArray[np.bool_]
    frames: NDArray[np.intp]


def choose_packets(packets: "Iterable[Packet[Any]]", stream: VideoStream, step: int) -> PacketChoice | None:
    """Return what of all packets of a stream to decode for its frames 0, `step`, 2 `step` ... and the last one.

    The frames, their pixels, indices and times are those of decoding all. None if all must be decoded, or if it is not
    sure which frame comes of which packet.
    """
    context = stream.codec_context
    if step == 1 or context.name != "h264":
        return None
    length_bytes = _length_bytes(context.extradata or b"")
    shown = array("q")
    found = bytearray()
    try:
        for packet in packets:
            if not packet.size:
                continue
            is_odd = packet.is_corrupt or packet.is_discard or packet.has_sidedata("new_extradata")
            if packet.pts is None or is_odd or len(shown) == _MAX_PACKETS:
                return None
            shown.append(packet.pts)
            found.append(_traits(bytes(packet), length_bytes))
    except (av.FFmpegError, LookupError):
        return None
    return _choose(np.array(shown, np.int64), np.frombuffer(found, np.uint8), step)


def _choose(shown: NDArray[np.int64], traits: NDArray[np.uint8], step: int) -> PacketChoice | None:
    order = np.argsort(shown, kind="stable")
    times = shown[order]
    index = np.empty(len(shown), np.intp)
    index[order] = np.arange(len(shown))
    if len(shown) <= _LEARNING or not (traits[0] & _STARTS) or index[0] or not np.diff(times).all():
        return None
    wanted = index % step == 0
    wanted[order[-1]] = True
    wanted[:_LEARNING] = True
    decoded = wanted | (traits & _UNREFERENCED == 0)
    # A group may be left out if it ends before the next one starts, in the file and on the screen.
    starts = np.flatnonzero(traits & _STARTS)
    starts = starts[np.maximum.accumulate(index)[starts - 1] == starts - 1]
    edges = [0, *starts.tolist(), len(shown)]
    for first, end in pairwise(edges):
        if not wanted[first:end].any() and (traits[first:end] & _PLAIN).all():
            decoded[first:end] = False
    if decoded.all():
        return None
    return PacketChoice(times=times, decoded=decoded, frames=np.sort(index[decoded]))


def _length_bytes(extradata: bytes) -> int:
    """Return how many bytes say the length of a unit; 0 if units lie between start codes, as in MPEG-TS."""
    return (extradata[4] & 3) + 1 if len(extradata) > 4 and extradata[0] == 1 else 0


def _traits(data: bytes, length_bytes: int) -> int:
    """Return what is known of a packet: nothing that is not sure."""
    types = set()
    pictures = 0
    is_referenced = False
    units = _sized_units(data, length_bytes) if length_bytes else _marked_units(data)
    for at in islice(units, _MAX_UNITS):
        head = data[at]
        types.add(head & 31)
        if head & 31 in _SLICES:
            # A slice that begins with the first block of a picture says so in one bit.
            pictures += at + 1 < len(data) and data[at + 1] >> 7
            is_referenced |= bool(head & 0x60)
    slices = types & _SLICES
    plain = types <= _SLICES | _NOTES
    if next(units, None) is not None:
        return 0
    if pictures != 1 or len(slices) != 1:
        return _PLAIN * plain
    if slices == {_IDR_SLICE}:
        return _STARTS * (types <= _SLICES | _NOTES | _PARAMETER_SETS) | _PLAIN * plain
    return _UNREFERENCED * (plain and not is_referenced) | _PLAIN * plain


def _sized_units(data: bytes, length_bytes: int) -> Iterator[int]:
    at = 0
    while at + length_bytes < len(data):
        length = int.from_bytes(data[at : at + length_bytes])
        yield at + length_bytes
        at += length_bytes + length


def _marked_units(data: bytes) -> Iterator[int]:
    at = data.find(b"\0\0\1")
    while 0 <= at < len(data) - 3:
        yield at + 3
        at = data.find(b"\0\0\1", at + 3)
