"""Whether a recorded line comes through recording and replay as it was, and whether Wireshark reads ours. Shell.

trace_roundtrip_differences: each recording of a real device is played to a listener (both sides, on a pseudo-terminal,
at its own pace), recorded by `tankgate trace record`, and compared: frames that are not there, are cut elsewhere, have
other bytes or another sender. Their times depend on the machine, and the largest difference is told beside. Then the
recording is played to its own master in virtual time and recorded by the bench's tap; there a frame differs also where
it begins more than 2 µs off, which is the rounding of both ends.

trace_malformed: packets that tshark calls malformed, does not decode as Modbus, or of whose CRC it thinks otherwise
than we do, although no test has spoilt them, in these recordings and in one of the bench with every fault it knows.
"""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing
from difflib import SequenceMatcher
from pathlib import Path

from hil_tests import test_bench_capture, tshark
from hil_tests.bench.player import Pace
from hil_tests.bench.pty_port import PtyPort
from hil_tests.bench.replay import talk
from protocols import modbus, trace
from protocols.model import Line
from protocols.trace import Frame
from tests.figures.figure import Measured
from tests.hil import test_player

ROOT = Path(__file__).parents[2]
CAPTURES = sorted((ROOT / "hil_tests" / "traces").glob("*.pcapng"))
_END_S = 20.0
_ROUNDING_US = 2


def roundtrip_differences() -> Measured:
    """trace_roundtrip_differences."""
    frames = differences = 0
    off_us = 0
    for file in CAPTURES:
        capture = trace.read(file.read_bytes())
        line = capture.ports[0].line
        assert line is not None
        heard = _recorded_again(capture.frames, line)
        played = test_player.played_again(capture.frames, line)
        frames += 2 * len(capture.frames)
        differences += _differences(capture.frames, heard)
        differences += max(_differences(capture.frames, played), _off(capture.frames, played, _ROUNDING_US))
        off_us = max(off_us, *map(abs, _offsets_us(capture.frames, heard)))
    off = f"on a pseudo-terminal at most {off_us / 1000:.1f} ms off"
    return Measured(differences, f"of {frames} frames of {len(CAPTURES)} recordings; {off}")


def malformed() -> Measured:
    """trace_malformed."""
    packets = wrong = injected = 0
    with tempfile.TemporaryDirectory() as folder:
        faults = Path(folder, "faults.pcapng")
        bus = test_bench_capture.radar_bus()
        with closing(bus.port):
            test_bench_capture.record_every_fault(bus, faults)
        for file in (*CAPTURES, faults):
            seen = tshark.packets(file)
            for frame in trace.read(file.read_bytes()).frames:
                packets += 1
                injected += bool(frame.comment)
                wrong += not frame.comment and not _is_read(frame, seen[frame.number - 1])
    return Measured(wrong, f"of {packets} frames, {injected} of them spoilt by the bench")


def _is_read(frame: Frame, seen: dict[str, str]) -> bool:
    is_intact = str(int(modbus.crc_ok(frame.data, 0, len(frame.data))))
    return "_ws.malformed" not in seen and "modbus.func_code" in seen and seen.get("mbrtu.crc16.status") == is_intact


def _recorded_again(frames: tuple[Frame, ...], line: Line) -> tuple[Frame, ...]:
    """What `tankgate trace record` makes of them."""
    with tempfile.TemporaryDirectory() as folder, closing(PtyPort()) as port:
        file = Path(folder, "again.pcapng")
        command = [sys.executable, "-m", "edge", "trace", "record", port.path, file, "--line", str(line)]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            if "Listening" not in process.stderr.readline():
                raise OSError("tankgate trace record does not listen")
            talk(port, frames, Pace(), loops=False, steps=False)
            until_s = time.monotonic() + _END_S
            while len(trace.read(file.read_bytes()).frames) < len(frames) and time.monotonic() < until_s:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            process.wait(_END_S)
        return trace.read(file.read_bytes()).frames


def _differences(frames: Iterable[Frame], again: Iterable[Frame]) -> int:
    one, two = ([(frame.event, frame.data) for frame in each] for each in (frames, again))
    same = sum(block.size for block in SequenceMatcher(None, one, two, autojunk=False).get_matching_blocks())
    return max(len(one), len(two)) - same


def _off(frames: Iterable[Frame], again: Iterable[Frame], most_us: int) -> int:
    return sum(abs(off_us) > most_us for off_us in _offsets_us(frames, again))


def _offsets_us(frames: Iterable[Frame], again: Iterable[Frame]) -> list[int]:
    """How much later each frame begins, counted from the first one."""
    one, two = ([frame.first_us for frame in each] for each in (frames, again))
    return [(later - two[0]) - (sooner - one[0]) for sooner, later in zip(one, two, strict=False)]
