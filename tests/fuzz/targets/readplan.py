"""The read plan: one that passes the check can be polled, by every bus's poller, and says what its bytes say.

Input: the plan.
"""

from collections.abc import Iterator

from overheard import Overheard
from poller import Poller
from protocols import modbus, readplan
from protocols.readplan_edge import encode, encode_bus, encode_read, encode_unit
from recorder import Recorder
from uptime import Uptime


def seeds() -> Iterator[bytes]:
    buses = [encode_bus(1, 9600, 8, "N", 1), encode_bus(2, 19200, 8, "E", 1, other_master=True)]
    units = [encode_unit(0, 1, 300, 100, 0, 1000), encode_unit(1, 247, 1000, 100, 20, 2000)]
    reads = [
        encode_read(0, 3, 0, 2, 1000),
        encode_read(0, 1, 7, 1440, 100, urgent=True),
        encode_read(1, 4, 65535, 1, 6553500, check=True),
    ]
    yield encode(buses, units, reads, b"\1\2\3\4")
    yield encode(buses[:1], units[:1], reads[:1], b"\0\0\0\0", salt=255)
    yield encode([], [], [], b"\0\0\0\0")


def run_one(data: bytes) -> None:
    if readplan.check(data, len(data)) != readplan.GOOD:
        return
    assert readplan.HEADER_BYTES <= len(data) <= readplan.MAX_BYTES
    uptime, recorder = Uptime(0), Recorder(bytearray(4096))
    for bus in range(readplan.buses(data)):
        assert readplan.bits_per_char(data, bus) in range(7, 13)
        poller = Poller(data, bus, recorder, Overheard(0), 0, 0)
        for now_ms in range(5000, 8000, 250):
            if poller.step(now_ms, 1000 * now_ms & 0x0FFFFFFF, uptime):
                assert modbus.crc_ok(poller.request, 0, poller.request_bytes)
                poller.sent(now_ms, 1000 * now_ms & 0x0FFFFFFF)
            assert 0 <= poller.next_us <= 0x0FFFFFFF
