"""A recorder's records, out of one ring and into a smaller one, so that the heap has room for something else. Policy.

Owns that none of them is lost that finds room. Lies apart from recorder.py, whose own it handles, since most boards
never do this. Must never be called from the loop.
"""

from protocols.octets import into_ring, out_of_ring

_LEAST_BYTES = 16384  # of a ring: a plan that needs more than all beyond that cannot be polled
_MOST_KEPT_BYTES = 2048  # while it moves: of a long backlog the oldest are lost, and counted


def make_room(recorder, need_bytes, collect):
    """Set-up. The records in a ring that is smaller by so many bytes; `collect` gives back the heap of the larger.

    MemoryError: too little of the ring would be left.
    """
    if recorder.size - need_bytes < _LEAST_BYTES:
        raise MemoryError
    kept = leave_ring(recorder, _MOST_KEPT_BYTES)
    collect()
    move_into(recorder, bytearray(recorder.size - need_bytes), kept)


def leave_ring(recorder, most):
    """Set-up. At most so many bytes of records; the ring's heap can then be given back, and `move_into` follows."""
    while recorder._used > most:
        recorder.dropped = recorder.dropped + 1 & 0x0FFFFFFF
        recorder._free_oldest()
    kept = bytearray(recorder._used)
    out_of_ring(recorder.ring, recorder.size, recorder._tail, kept, 0, len(kept))
    ack = len(kept) if recorder.ack_number == recorder.next else _offset(recorder, recorder._ack)
    send = len(kept) if recorder.send_number == recorder.next else _offset(recorder, recorder._send)
    recorder._tail = 0
    recorder._ack = ack
    recorder._send = send
    recorder.ring = None
    return kept


def move_into(recorder, ring, kept):
    """Set-up. Another ring with the records of `leave_ring`, for which it must have room and to spare."""
    recorder.ring = ring
    recorder.size = len(ring)
    recorder._begin = into_ring(ring, recorder.size, 0, kept, 0, len(kept))


def _offset(recorder, place):
    """Set-up."""
    return place - recorder._tail if place >= recorder._tail else place - recorder._tail + recorder.size
