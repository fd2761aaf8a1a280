"""Captured serial traffic: the bytes of a pcapng file to the requests and replies that were on the line. Protocol.

Owns as much of pcapng as a capture of link type 250 (RTAC serial) with one frame a packet needs. Must never judge a
frame: a damaged one comes out as it was on the line.
Source: pcapng, draft-ietf-opsawg-pcapng; LINKTYPE_RTAC_SERIAL of tcpdump's list of link types.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_INTERFACE = 1
_PACKET = 6  # enhanced packet block
_RTAC_SERIAL = 250
_HEADER_BYTES = 12  # of RTAC serial: seconds, microseconds, event, control lines, footer
_EVENT = 8  # its place in that header
_SENT, _RECEIVED = 1, 2


class Exchange(NamedTuple):
    """One request and its reply. `number` is the reply's frame number, as Wireshark counts."""

    number: int
    request: bytes
    reply: bytes


def exchanges(pcapng: bytes) -> list[Exchange]:
    """Everything on the line, in order; ValueError where it is not request, reply, request, reply."""
    frames = list(_frames(pcapng))
    if [event for event, _ in frames] != [_SENT, _RECEIVED] * (len(frames) // 2):
        raise ValueError(f"{len(frames)} frames are not pairs of a request and its reply")
    data = [data for _, data in frames]
    return [Exchange(at + 2, data[at], data[at + 1]) for at in range(0, len(data), 2)]


def _frames(pcapng: bytes) -> Iterator[tuple[int, bytes]]:
    """Event and bytes of each packet."""
    order = "<" if pcapng[8:12] == b"\x4d\x3c\x2b\x1a" else ">"
    at = 0
    while at < len(pcapng):
        kind, length = struct.unpack_from(order + "II", pcapng, at)
        if kind == _INTERFACE:
            (link_type,) = struct.unpack_from(order + "H", pcapng, at + 8)
            if link_type != _RTAC_SERIAL:
                raise ValueError(f"link type {link_type}: only {_RTAC_SERIAL} is read")
        elif kind == _PACKET:
            (captured,) = struct.unpack_from(order + "I", pcapng, at + 20)
            packet = pcapng[at + 28 : at + 28 + captured]
            yield packet[_EVENT], packet[_HEADER_BYTES:]
        at += length
