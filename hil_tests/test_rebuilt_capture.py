"""A unit goes silent: beside the store lies what was on its bus, as the bench saw it on the wire."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from hil_tests.bench.capture import Capture
from hil_tests.bench.line import Line
from hil_tests.bench.rig import N_, Rig, lay_bus
from hil_tests.bench.sheet import Point
from hil_tests.bench.units import SILENT, Unit
from hil_tests.mosquitto import Mosquitto
from hil_tests.small_site import BOARD, Bus, SmallSite
from protocols import model, profile, trace

ROOT = Path(__file__).parents[1]
SETTINGS = "9600 8N1"
POINTS = """\
point,name,area,bus,unit_id,profile,channel,unit,period_s
TK101.level,level,tank,level,1,vegapuls-modbus,level,m,0.5
TK102.level,level,tank,level,2,vegapuls-modbus,level,m,0.5
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path, "allow_anonymous true")
    yield broker
    broker.close()


@pytest.mark.needs("mosquitto", "micropython")
@pytest.mark.shows(N_("A unit goes dead: what was said on its bus in the minutes before is kept in a capture."))
def test_what_was_on_a_bus_is_kept_when_a_unit_goes_silent(rig: Rig, broker: Mosquitto, tmp_path: Path) -> None:
    radars = [
        Unit(unit_id, profile.builtin("vegapuls-modbus"), [
            Point(f"TK10{unit_id}.level", "level", unit_id, "vegapuls-modbus", "level", "m", 0, 12.5, 500, 0.01, 60)
        ])
        for unit_id in (1, 2)
    ]  # fmt: skip
    line = Line("level", model.Line.parse(SETTINGS), radars, lambda _point, now_s: now_s)
    bus = lay_bus(rig, BOARD, 1, line, lambda _exchange: None)
    folder = tmp_path / "site" / "store" / "captures"
    seen = tmp_path / "seen.pcapng"
    with ExitStack() as stack:
        stack.callback(bus.port.close)
        stack.enter_context(closing(Capture(seen, [bus])))
        on_board = [Bus("level", SETTINGS, bus.port.path)]
        site = stack.enter_context(closing(SmallSite(rig, tmp_path, broker.port, on_board, POINTS, {})))
        site.watch(bus.port.fileno(), lambda: bus.receive(time.monotonic()))
        site.until(lambda: len(site.readings["TK102.level"]) >= 3, lambda: bus.run(time.monotonic()))
        radars[1].break_down(SILENT)
        site.until(lambda: any(folder.glob("*.pcapng")), lambda: bus.run(time.monotonic()))
    [file] = folder.iterdir()
    assert file.name.endswith("-level-2-no_reply.pcapng")
    rebuilt, real = trace.read(file.read_bytes()), trace.read(seen.read_bytes())
    assert "rebuilt" in rebuilt.ports[0].comment
    answered = [each for each in trace.exchanges(rebuilt.frames, 0) if each.replies]
    said = [(each.request.data, each.replies[0].data) for each in trace.exchanges(real.frames, 0) if each.replies]
    assert [(each.request.data, each.replies[0].data) for each in answered] == said[: len(answered)]
    silent = [each.request for each in trace.exchanges(rebuilt.frames, 0) if not each.replies]
    assert [(request.data[0], request.comment.split(", ")[-1]) for request in silent] == [(2, "timeout")] * 3
    shown = subprocess.run(
        [sys.executable, "-m", "edge", "trace", "show", file], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "rebuilt from samples" in shown.stdout.splitlines()[0]
    assert len(shown.stdout.splitlines()) == 1 + len(rebuilt.frames)
