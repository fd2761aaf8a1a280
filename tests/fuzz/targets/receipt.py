"""A receipt, as it comes down from the district: none for this gateway, or one that sends again and never invents.

Input: the payload. It comes twice, as a retained one and as news.
"""

from collections.abc import Iterator

from edge.forward import RECEIPT, Forward
from protocols.feeds import json_feed

_GATEWAY = "jt-0042"
_KNOWN = {"01KAR8M2": {"data": (5, 50), "event": (1, 9)}, "01KAR8M3": {"data": (1, 3), "event": (1, 0)}}


def seeds() -> Iterator[bytes]:
    for data in (
        {"committed": 40, "missing": [[7, 9], [12, 12]]},
        {"committed": 9_000, "missing": [[1, 3], [30, 60]]},
        {"committed": 0, "missing": []},
    ):
        event = {"committed": 9, "missing": []}
        yield json_feed.write_receipt(_GATEWAY, 1795401006000, {"01KAR8M2": {"data": data, "event": event}})
    yield json_feed.write_receipt(_GATEWAY, 1, {"01KAR8M3": {"event": {"committed": 2, "missing": [[1, 1]]}}})
    yield json_feed.write_receipt(_GATEWAY, 1, {"01KAR8M3": {"event": {"committed": 2, "missing": [[1, 10]]}}})
    yield json_feed.write_receipt("jt-0043", 1, {"01KAR9": {}})


def run_one(data: bytes) -> None:
    forward = Forward({}, _KNOWN, awaits_receipts=True)
    forward.connected(0.0, 20)
    sent = [forward.next(0.0) for _ in range(12)]
    for key in filter(None, sent[:8]):
        forward.acknowledged(key[:3], 0, 0.0)
    found = json_feed.receipt(data, _GATEWAY)
    if found is None:
        return
    at_ms, epochs = found
    for now_s in (1.0, 2.0):
        for _why, epoch, stream, first, last in forward.receipt(epochs, at_ms + int(now_s), now_s).gone:
            first_kept, last_kept = _KNOWN.get(epoch, {}).get(stream, (1, 0))  # of an epoch that nobody knows: nothing
            assert 1 <= first <= last and (last < first_kept or first > last_kept)
    for epoch, streams in _KNOWN.items():
        for stream, (_first, last) in streams.items():
            assert 0 <= (forward.receipted(epoch, stream) or 0) <= last
            assert all(1 <= begin <= end <= last for begin, end in forward.pending(epoch, stream))
    assert forward.backlog() >= 0 and forward.backlog(RECEIPT) >= 0 and forward.positions() is not None
    while (key := forward.next(100.0)) is not None:
        epoch, stream, seq, _late = key
        first, last = _KNOWN[epoch][stream]
        assert first <= seq <= last
        forward.acknowledged((epoch, stream, seq), 0, 100.0)
