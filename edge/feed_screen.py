"""What a terminal shows of the feed: one gateway's points, or a line for each of several gateways. Shell.

Must never show a number for a reading without one, nor take what another's message says for a command to the
terminal.
"""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from gettext import gettext as _
from gettext import ngettext
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edge.alarms.words import AUXILIARY, state_word
from edge.receiver import Received
from protocols.feeds.json_feed import COUNT_MAX, UTC_MS_MAX
from protocols.model import GOOD, cause_text, has_value, mode_text, quality, status_text

_DECIMALS_MAX = 9
_STATUS_MAX = 255
_PRIORITY_MAX = 9  # the least urgent
_RED = ("UNACK", "ACKED")
_STYLES = {"GOOD": "", "UNCERTAIN": "yellow", "BAD": "red"}


# What a message of a strange shape raises.
STRANGE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)


class _Point(NamedTuple):
    name: str
    unit: str
    decimals: int


class _Alarm(NamedTuple):
    """`told`: epoch and number of its newest event."""

    state: str
    since_ms: int | None
    told: tuple[str, int]
    priority: int
    action: str


class _Reading(NamedTuple):
    """`told`: epoch, number and row of its message; of a state the end of the newest one that was made before it."""

    t_ms: int | None
    value: float | None
    status: int
    told: tuple[str, int, int]


@dataclass(slots=True)
class _Gateway:
    name: str = ""
    mode: str = ""
    is_online: bool = False
    epoch: str = ""
    messages: int = 0
    readings: int = 0
    duplicates: int = 0
    strange: int = 0  # whose shape is not the feed's
    pending: int | None = None  # messages, by the newest state
    gaps: int = 0
    gap: str = ""  # the last one
    points: dict[str, _Point] = field(default_factory=dict)
    latest: dict[str, _Reading] = field(default_factory=dict)
    settings: dict[str, tuple[int, str]] = field(default_factory=dict)  # of alarms: priority, what to do
    alarms: dict[str, _Alarm] = field(default_factory=dict)
    epochs: dict[str, tuple[int, int]] = field(
        default_factory=dict
    )  # their places in the order that they were heard in

    def take(self, kind: str, payload: dict[str, Any]) -> None:
        self._hear(_text(payload["epoch"]), kind == "state" or payload.get("online") is True)
        match kind:
            case "birth":
                self.name, self.mode = _text(payload["site"]["name"]), _text(payload["mode"])
                self.points = {
                    _text(row["point"]): _Point(
                        _text(row["name"]), _text(row["unit_text"]), _whole(row["decimals"], _DECIMALS_MAX)
                    )
                    for row in payload["points"]
                }
                self.settings |= {
                    _text(row["alarm"]): (_whole(row["priority"], _PRIORITY_MAX), _text(row["action"]))
                    for row in payload["alarms"]
                }
            case "link":
                self.is_online = payload["online"] is True
            case "state":
                self.mode = _text(payload["mode"])
                self.pending = _pending(payload["epochs"])
                epoch = _text(payload["epoch"])
                newest = epoch, _whole(payload["epochs"][epoch]["data"]["next"], COUNT_MAX) - 1, COUNT_MAX
                for point, t_ms, value, *rest in payload["values"]["rows"]:
                    self._reading(point, t_ms, value, rest, newest)
                listed = {_text(row[0]) for row in payload["alarms"]["rows"]}
                self.alarms = {alarm: each for alarm, each in self.alarms.items() if alarm in listed}
                for alarm, _occurrence, state, since_ms, seq in payload["alarms"]["rows"]:
                    self._alarm(_text(alarm), _text(state), since_ms, (epoch, _whole(seq, COUNT_MAX)))
            case "event/alarm":
                alarm, told = _text(payload["alarm"]), (_text(payload["epoch"]), _whole(payload["seq"], COUNT_MAX))
                if "action" in payload:
                    self.settings[alarm] = _whole(payload["priority"], _PRIORITY_MAX), _text(payload["action"])
                self._alarm(alarm, _text(payload["to"]), payload["t_ms"], told)
            case "event/gap":
                self.gap = gap_text(payload)
                self.gaps += 1
            case "data":
                t0_ms, epoch, seq = payload["t0_ms"], _text(payload["epoch"]), _whole(payload["seq"], COUNT_MAX)
                for row, (point, dt_ms, value, *rest) in enumerate(payload["rows"]):
                    self.readings += 1
                    self._reading(point, None if t0_ms is None else t0_ms + dt_ms, value, rest, (epoch, seq, row))

    def _alarm(self, alarm: str, state: str, since_ms: int | None, told: tuple[str, int]) -> None:
        """What is older than what is known says nothing."""
        known, at_ms = self.alarms.get(alarm), None if since_ms is None else _whole(since_ms, UTC_MS_MAX)
        if known is None or not self._is_older(told, known.told):
            self.alarms[alarm] = _Alarm(state, at_ms, told, *self.settings.get(alarm, (_PRIORITY_MAX, "")))

    def _hear(self, epoch: str, is_present: bool) -> None:
        """An epoch follows those that were named as the present one before it; what was never named is history."""
        self.epochs.setdefault(epoch, (0, len(self.epochs)))
        if is_present and epoch != self.epoch:
            self.epoch = epoch
            self.epochs[epoch] = (1 + max(self.epochs.values())[0], 0)

    def _is_older(self, told: tuple[str, *tuple[int, ...]], than: tuple[str, *tuple[int, ...]]) -> bool:
        """Never by the names of epochs, nor by times: both are of clocks."""
        return (self.epochs[told[0]], *told[1:]) < (self.epochs[than[0]], *than[1:])

    def _reading(
        self, point: str, t_ms: int | None, value: float | None, rest: list[int], told: tuple[str, int, int]
    ) -> None:
        """History must not cover what is newer."""
        before = self.latest.get(_text(point))
        if before is None or not self._is_older(told, before.told):
            status = _whole(rest[0], _STATUS_MAX) if rest else GOOD
            shown = None if value is None or not has_value(status) else value + 0.0
            self.latest[_text(point)] = _Reading(
                None if t_ms is None else _whole(t_ms, UTC_MS_MAX), shown, status, told
            )


class FeedScreen:
    """Give it all that comes; `draw` at any time."""

    def __init__(self) -> None:
        self._gateways: defaultdict[str, _Gateway] = defaultdict(_Gateway)

    def take(self, message: Received) -> None:
        """Count it and remember its values; of what came again only the count."""
        levels = message.topic.split("/")
        gateway = self._gateways[_text((levels[2:3] or levels)[0])]
        gateway.messages += 1
        gateway.duplicates += message.duplicate
        if message.duplicate:
            return
        try:
            gateway.take("/".join(levels[3:]), message.payload or {})
        except STRANGE:
            gateway.strange += 1

    def draw(self, now_ms: int) -> RenderableType:
        """Points of the only gateway, or all gateways."""
        if len(self._gateways) == 1:
            [(gateway_id, gateway)] = self._gateways.items()
            return Group(*_told(gateway_id, gateway, now_ms), _points(gateway, now_ms))
        if self._gateways:
            return Group(
                *(
                    line
                    for gateway_id, gateway in sorted(self._gateways.items())
                    for line in _told(gateway_id, gateway, now_ms)
                )
            )
        return Text(_("Nothing received yet"))


def gap_text(gap: dict[str, Any]) -> str:
    """Why, where, when and how much is missing, of a gap's payload. STRANGE where it has not the feed's shape."""
    words = []
    if gap["scope"]["board"] is not None:
        words.append(_("board {board}").format(board=gap["scope"]["board"]))
    if gap["scope"]["bus"] is not None:
        words.append(_("bus {bus}").format(bus=gap["scope"]["bus"]))
    if gap["missing_epoch"] is not None:
        first, last = gap["missing_seq"]
        text = _("numbers {first} to {last} of {stream}, epoch {epoch}")
        words.append(text.format(first=first, last=last, stream=gap["of"], epoch=gap["missing_epoch"]))
    words.append(_span(gap["from_ms"], gap["to_ms"]))
    words.append(_lost(gap["of"], gap["polls"], gap["polls_are"]))
    return _text(f"{cause_text(str(gap['cause']))}: {', '.join(words)}")


def _span(from_ms: int | None, to_ms: int | None) -> str:
    if from_ms is None and to_ms is None:
        return _("no clock was known")
    begin, end = (_("no clock") if each is None else _moment(_whole(each, UTC_MS_MAX)) for each in (from_ms, to_ms))
    text = _("{begin} to {end}").format(begin=begin, end=end)
    if from_ms is None or to_ms is None or to_ms < from_ms:  # a clock was put back
        return text
    return f"{text} ({_('{n} s').format(n=round((to_ms - from_ms) / 1000))})"


def _moment(utc_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(utc_ms / 1000))


def _lost(stream: str, polls: int | None, polls_are: str) -> str:
    """How much: polls, or of the stream "event" messages."""
    if polls is None:
        return _("nobody knows how much")
    n = _whole(polls, COUNT_MAX)
    of_polls = ngettext("{n} poll", "{n} polls", n).format(n=n)
    lost = ngettext("{n} message", "{n} messages", n).format(n=n) if stream == "event" else of_polls
    bound = {"at_least": _("at least {lost}"), "at_most": _("at most {lost}")}.get(polls_are, "{lost}")
    return bound.format(lost=lost)


def _pending(epochs: dict[str, Any]) -> int:
    ranges = [each for streams in epochs.values() for stream in streams.values() for each in stream["pending"]]
    return sum(_whole(_whole(last, COUNT_MAX) - _whole(first, COUNT_MAX), COUNT_MAX) + 1 for first, last in ranges)


def _told(gateway_id: str, gateway: _Gateway, now_ms: int) -> list[Text]:
    """All of a gateway but its points."""
    return [_heading(gateway_id, gateway), _missing(gateway), *_alarms(gateway, now_ms)]


def _missing(gateway: _Gateway) -> Text:
    """What is not here."""
    coming = "-"
    if gateway.pending is not None:
        coming = ngettext("{n} message", "{n} messages", gateway.pending).format(n=gateway.pending)
    words = [_("gaps heard: {n}").format(n=gateway.gaps), _("still to come: {messages}").format(messages=coming)]
    words += [_("the last gap: {gap}").format(gap=gateway.gap)] if gateway.gaps else []
    return Text("   ".join(words), "yellow" if gateway.gaps or gateway.pending else "dim")


def _heading(gateway_id: str, gateway: _Gateway) -> Text:
    heading = Text(f"{gateway_id} {gateway.name}  ", style="bold")
    heading.append(_("connected") if gateway.is_online else _("not connected"), "green" if gateway.is_online else "red")
    if gateway.mode not in ("", "live"):
        heading.append(f"  {mode_text(gateway.mode)}", "reverse")
    text = _("  epoch {epoch}  {messages} messages, {readings} readings, {duplicates} came again")
    counts = text.format(
        epoch=gateway.epoch, messages=gateway.messages, readings=gateway.readings, duplicates=gateway.duplicates
    )
    heading.append(counts, "not bold")
    if gateway.strange:
        heading.append("  " + _("{n} of a strange shape: see --check").format(n=gateway.strange), "red")
    return heading


def _alarms(gateway: _Gateway, now_ms: int) -> list[Text]:
    """A line for each that is not NORM, the most urgent first; red while it stands."""
    standing = [(name, each) for name, each in gateway.alarms.items() if each.state != "NORM"]
    standing.sort(key=lambda named: (named[1].state not in _RED, named[1].priority, named[0]))
    lines = [
        Text(
            "  ".join((state_word(each.state), str(each.priority), name, _since(each.since_ms, now_ms), each.action)),
            "red" if each.state in _RED else "yellow",
        )
        for name, each in standing
    ]
    return [*lines, Text(AUXILIARY, "dim")] if lines else []


def _since(since_ms: int | None, now_ms: int) -> str:
    return "-" if since_ms is None else _("for {n} s").format(n=max(round((now_ms - since_ms) / 1000), 0))


def _points(gateway: _Gateway, now_ms: int) -> Table:
    table = Table(box=None, pad_edge=False)
    for title, justify in (
        (_("tag"), "left"),
        (_("name"), "left"),
        (_("value"), "right"),
        (_("unit"), "left"),
        (_("age"), "right"),
        (_("status"), "left"),
    ):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for tag in gateway.points | gateway.latest:
        name, unit, decimals = gateway.points.get(tag, _Point("", "", 3))
        reading = gateway.latest.get(tag)
        if reading is None:
            table.add_row(Text(tag), Text(name), "-", Text(unit), "-", "-")
            continue
        value = "-" if reading.value is None else f"{reading.value:.{decimals}f}"
        age = "-" if reading.t_ms is None else _("{n} s").format(n=f"{(now_ms - reading.t_ms) / 1000:.1f}")
        status = Text(status_text(reading.status), _STYLES[quality(reading.status)])
        table.add_row(Text(tag), Text(name), value, Text(unit), age, status)
    return table


def _whole(number: object, most: int) -> int:
    """A whole number from 0 on; ValueError where it is none that can be shown."""
    if not isinstance(number, int) or not 0 <= number <= most:
        raise ValueError(f"{number}: allowed are 0 to {most}")
    return number


def _text(words: object) -> str:
    """Words from outside, without what a terminal would obey."""
    return "".join(character for character in str(words) if character.isprintable())
