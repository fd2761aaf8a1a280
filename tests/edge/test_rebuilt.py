"""What a bus's last minutes look like when they are made of samples again, when that is kept, and how much of it."""

import os
from pathlib import Path

import pytest

from edge import captures, rebuilt
from edge.rebuilt import AGAIN_S, REMARK, RING_BYTES, Rebuilt, WentBad
from edge.statistics import Statistics
from protocols import link, modbus, modbus_edge, trace
from protocols.model import Line
from protocols.trace import RECEIVED, SENT, Port

LINE = Line(9600, 8, "N", 1)
REQUEST = modbus_edge.read_request(7, 3, 100, 2)
DATA = b"\x41\x20\x00\x07"
REPLY = modbus_edge.read_reply(7, 3, DATA)
START_MS = 1_764_104_400_000


class Bus:
    """Polls of one unit, as the pipeline hands them on."""

    def __init__(self) -> None:
        self.rebuilt = Rebuilt()
        self.statistics = Statistics()
        self.now_s = 0.0

    def poll(self, outcome: int, data: bytes = b"", answered: int = 5, first_try: int = 0, unit_id: int = 7) -> None:
        self.now_s += 1
        name = ("gas-a", unit_id)
        body = bytes((0, outcome | first_try << 4, 0, 0, 0, 0, 0, 0, answered)) + data
        self.statistics.sample(name, body, None, self.now_s)
        ended_ms = START_MS + round(self.now_s * 1000)
        self.rebuilt.sample(name, REQUEST, ended_ms, body, self.statistics.units[name], self.now_s)

    def went_bad(self) -> list[WentBad]:
        found, self.rebuilt.went_bad = self.rebuilt.went_bad, []
        return found

    def fail(self) -> WentBad:
        """The capture that the next three time-outs give."""
        for _ in range(3):
            self.poll(modbus.TIMEOUT, answered=0)
        [bad] = self.went_bad()
        return bad


def test_polls_become_frames_again_with_their_times() -> None:
    bus = Bus()
    bus.poll(modbus.OK, DATA, answered=20)
    bus.poll(modbus.OK, DATA, first_try=modbus.BAD_CRC)
    bus.poll(modbus.EXCEPTION, b"\x02")
    bus.poll(modbus.BAD_CRC, REPLY[:6])
    bus.poll(modbus.OK, DATA, answered=link.NOT_ASKED)
    bus.now_s += 3600  # what went wrong so far is forgotten
    bad = bus.fail()
    read = trace.read(rebuilt.pcapng(bad, LINE))
    assert read.ports == (Port("gas-a", LINE, REMARK),)
    assert [(frame.event, frame.data, frame.comment) for frame in read.frames] == [
        (SENT, REQUEST, ""),
        (RECEIVED, REPLY, ""),
        (SENT, REQUEST, "asked again after crc"),
        (RECEIVED, REPLY, ""),
        (SENT, REQUEST, ""),
        (RECEIVED, modbus_edge.exception_reply(7, 3, 2), ""),
        (SENT, REQUEST, "crc"),
        (RECEIVED, REPLY[:6], ""),
        *[(SENT, REQUEST, "timeout")] * 3,
    ]
    request, reply = read.frames[:2]
    assert reply.last_us == (START_MS + 1000) * 1000
    assert reply.first_us - request.last_us == 20_000
    assert reply.last_us - reply.first_us == pytest.approx(9 * LINE.char_us, abs=1)
    assert all(one.last_us <= two.first_us for one, two in zip(read.frames, read.frames[1:], strict=False))


def test_a_clock_that_was_put_back_leaves_times_as_they_were() -> None:
    kept = tuple(rebuilt.Kept(REQUEST, START_MS + ms, bytes(9) + DATA) for ms in (0, -3_600_000, -3_599_000))
    frames = trace.read(rebuilt.pcapng(WentBad("gas-a", 7, "no_reply", kept), LINE)).frames
    assert [frame.last_us // 1000 - START_MS for frame in frames[1::2]] == [0, -3_600_000, -3_599_000]


def test_a_unit_goes_bad_once_and_only_if_it_was_ever_good() -> None:
    bus = Bus()
    for _ in range(5):
        bus.poll(modbus.TIMEOUT, answered=0)
    assert bus.went_bad() == []
    bus.now_s += 3600  # that it was silent is forgotten
    for _ in range(400):
        bus.poll(modbus.OK, DATA)
    bad = bus.fail()
    assert (bad.bus, bad.unit_id, bad.trouble) == ("gas-a", 7, "no_reply")
    assert len(bad.kept) == 5 + 400 + 3
    for _ in range(round(AGAIN_S) + 50):
        bus.poll(modbus.TIMEOUT, answered=0)
    bus.poll(modbus.OK, DATA)  # it comes back, which is no new trouble
    assert bus.went_bad() == []


def test_damaged_replies_among_good_ones_are_a_trouble_that_begins() -> None:
    bus = Bus()
    for _ in range(40):
        bus.poll(modbus.OK, DATA)
    for _ in range(3):
        assert bus.went_bad() == []
        bus.poll(modbus.BAD_CRC, REPLY[:6])
        bus.poll(modbus.OK, DATA)
    assert [bad.trouble for bad in bus.went_bad()] == ["damaged"]


def test_a_bus_of_which_all_units_go_bad_is_kept_once() -> None:
    bus = Bus()
    for unit_id in (7, 8):
        bus.poll(modbus.OK, DATA, unit_id=unit_id)
    for unit_id in 3 * (7, 8):
        bus.poll(modbus.TIMEOUT, answered=0, unit_id=unit_id)
    assert len(bus.went_bad()) == 1
    bus.now_s += AGAIN_S
    bus.poll(modbus.OK, DATA, unit_id=9)
    for _ in range(3):
        bus.poll(modbus.TIMEOUT, answered=0, unit_id=9)
    assert [bad.unit_id for bad in bus.went_bad()] == [9]


def test_a_ring_has_its_bound() -> None:
    bus = Bus()
    for _ in range(10_000):
        bus.poll(modbus.OK, bytes(180))
    kept = bus.fail().kept
    assert RING_BYTES / 2 < sum(len(poll.body) for poll in kept) < RING_BYTES
    assert kept[-1].ended_ms == START_MS + 10_003_000


def test_the_folder_keeps_the_newest_within_its_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "FILES_MAX", 3)
    kept = (rebuilt.Kept(REQUEST, START_MS, bytes(9) + DATA),)
    folder = tmp_path / captures.NAME
    for unit_id in range(1, 6):
        captures.keep(folder, WentBad("罐区/a", unit_id, "no_reply", kept), LINE)
        for file in folder.glob(f"*-{unit_id}-*"):
            os.utime(file, (unit_id, unit_id))
    names = sorted(file.name.partition("-")[2] for file in folder.iterdir())
    assert names == [f"%E7%BD%90%E5%8C%BA%2Fa-{unit_id}-no_reply.pcapng" for unit_id in (3, 4, 5)]
    size = next(folder.iterdir()).stat().st_size
    monkeypatch.setattr(captures, "BYTES_MAX", 2 * size)
    captures.keep(folder, WentBad("罐区/a", 9, "damaged", kept), LINE)
    assert len(list(folder.iterdir())) == 2


def test_a_disk_that_takes_nothing_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    captures.keep(tmp_path / "file", WentBad("gas-a", 7, "no_reply", ()), LINE)
    assert "cannot be kept in" in caplog.text
