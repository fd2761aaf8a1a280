"""What a terminal shows: the newest of what was told, in the order of its making, whatever the clocks say."""

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from edge.feed_screen import FeedScreen
from edge.receiver import Received
from protocols.feeds import json_feed
from protocols.feeds.json_feed import TimeQuality

GOLDEN = Path(__file__).parents[2] / "protocols" / "feeds" / "golden" / "valid"
GATEWAY = "jt-0042"
FIRST, SECOND, EARLIER = "01M832VRG0JKMB82", "01N832VRG0JKMB82", "01DXF6DT002K4N1B"  # EARLIER by a clock put back
T0 = 1795401004000
HOUR_MS = 3_600_000
GAS = "GD07.gas"


class Screen:
    """A screen that has heard the golden birth."""

    def __init__(self) -> None:
        self._screen = FeedScreen()
        self.take("birth", json.loads((GOLDEN / "birth.json").read_text("utf-8")))

    def take(self, kind: str, payload: dict[str, Any]) -> None:
        topic = json_feed.topic(GATEWAY, kind)
        self._screen.take(Received(T0, topic, False, json.loads(json.dumps(payload)), False))

    def data(self, epoch: str, seq: int, value: float, t0: int = T0) -> None:
        rows = [(GAS, 0, value, 0, 0)]
        payload = json_feed.data(GATEWAY, epoch, seq, "e681bf57", TimeQuality("synced", 7, None), t0, rows)
        self.take("data", json.loads(payload))

    def link(self, epoch: str, online: bool = True) -> None:
        self.take("link", json.loads(json_feed.link(GATEWAY, epoch, online, T0)))

    def state(
        self,
        epoch: str,
        next_data: int,
        *values: list[Any],
        alarms: tuple[list[Any], ...] = (),
        pending: tuple[list[int], ...] = (),
    ) -> None:
        state = json.loads((GOLDEN / "state.json").read_text("utf-8"))
        entry = {"next": next_data, "receipted": None, "pending": pending, "oldest_kept": 1}
        state |= {"epoch": epoch, "epochs": {epoch: {"data": entry}}}
        state["values"]["rows"], state["alarms"]["rows"] = values, alarms
        self.take("state", state)

    def alarm(self, epoch: str, seq: int, after: str) -> None:
        alarm = json.loads((GOLDEN / "alarm.json").read_text("utf-8"))
        self.take("event/alarm", alarm | {"epoch": epoch, "seq": seq, "to": after})

    def gap(self, name: str) -> None:
        self.take("event/gap", json.loads((GOLDEN / f"{name}.json").read_text("utf-8")))

    def text(self) -> str:
        console = Console(file=io.StringIO(), width=200)
        console.print(self._screen.draw(T0))
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert "strange" not in text
        return text

    def value(self) -> str:
        [line] = [line for line in self.text().splitlines() if line.startswith(GAS)]
        return line.split()[2]

    def standing(self) -> list[str]:
        return [line.split()[0] for line in self.text().splitlines() if "GD07.gas:HH" in line]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield Screen()
    monkeypatch.undo()
    time.tzset()


def test_after_a_clock_was_put_back_the_newer_value_is_shown(screen):
    screen.data(FIRST, 1, 1.0, t0=T0 + HOUR_MS)
    screen.data(FIRST, 2, 52.5)
    assert screen.value() == "52.5"
    screen.data(FIRST, 1, 1.0, t0=T0 + HOUR_MS)  # from history
    assert screen.value() == "52.5"


def test_a_state_says_what_is_latest(screen):
    screen.data(FIRST, 5, 1.0, t0=T0 + HOUR_MS)
    screen.state(FIRST, 8, [GAS, T0, 52.5])
    assert screen.value() == "52.5"
    screen.data(FIRST, 7, 2.0)  # was made before it
    assert screen.value() == "52.5"
    screen.data(FIRST, 8, 3.0)
    assert screen.value() == "3.0"


@pytest.mark.parametrize("epoch", [SECOND, EARLIER])
def test_the_epoch_heard_last_says_what_is_latest(screen, epoch):
    screen.link(FIRST)
    screen.data(FIRST, 900, 1.0, t0=T0 + HOUR_MS)
    screen.link(epoch)
    screen.link(FIRST, online=False)  # the will of the connection before
    screen.data(epoch, 1, 2.0)
    screen.data(FIRST, 901, 3.0, t0=T0 + HOUR_MS)
    screen.data("01ZZZZZZZZZZZZZZ", 902, 4.0, t0=T0 + HOUR_MS)  # history of an epoch before this listener came
    assert screen.value() == "2.0"


@pytest.mark.parametrize("epoch", [SECOND, EARLIER])
def test_an_alarm_of_the_epoch_heard_last_counts(screen, epoch):
    screen.alarm(FIRST, 5, "UNACK")
    screen.alarm(FIRST, 6, "ACKED")
    screen.alarm(epoch, 3, "UNACK")  # after a restart; who hears alarms alone hears no state
    assert screen.standing() == ["unacknowledged"]


@pytest.mark.parametrize("epoch", [SECOND, EARLIER])
def test_a_state_of_the_epoch_heard_last_counts(screen, epoch):
    screen.state(FIRST, 5)
    screen.alarm(FIRST, 6, "ACKED")
    screen.state(epoch, 2, alarms=(["GD07.gas:HH", 3, "ACKED", T0, 1],))
    screen.alarm(epoch, 7, "UNACK")
    screen.state(epoch, 3, alarms=(["GD07.gas:HH", 4, "UNACK", T0, 7],))
    assert screen.standing() == ["unacknowledged"]
    screen.alarm(FIRST, 8, "RTNUN")  # late
    screen.alarm("01ZZZZZZZZZZZZZZ", 9, "RTNUN")  # from before this listener came
    assert screen.standing() == ["unacknowledged"]


def test_a_gateway_is_seen_again_after_its_clone_was_on(screen):
    screen.state(FIRST, 5)
    screen.state(SECOND, 2, alarms=(["GD07.gas:HH", 1, "ACKED", T0, 1],))
    screen.alarm(FIRST, 10, "UNACK")
    screen.state(FIRST, 6, alarms=(["GD07.gas:HH", 1, "UNACK", T0, 10],))
    assert screen.standing() == ["unacknowledged"]


def test_gaps_and_what_is_still_to_come_are_a_row(screen):
    assert "gaps heard: 0   still to come: -" in screen.text()
    screen.state(FIRST, 100, pending=([3, 5], [9, 9]))
    screen.gap("gap-other-master")
    screen.gap("gap")
    [row] = [line for line in screen.text().splitlines() if "gaps heard" in line]
    assert row.rstrip() == (
        "gaps heard: 2   still to come: 4 messages   the last gap: the board's ring was full: board cab1, "
        "2026-11-23 02:09:04 to 2026-11-23 02:12:43 (219 s), at most 1971 polls"
    )
    screen.state(FIRST, 100)
    assert "still to come: 0 messages" in screen.text()


@pytest.mark.parametrize("pending", [[[5, 3]], [["a", "b"]], [[1]], 7, {"a": 1}])
def test_what_is_still_to_come_is_a_number_or_of_a_strange_shape(screen, pending):
    with pytest.raises(AssertionError, match="strange"):
        screen.state(FIRST, 100, pending=pending)
        screen.text()
