"""gateway.toml: which keys it may have, on which line each stands, and what is wrong with them. Shell.

Owns the keys and the rules between its tables. A shell because it leans on pydantic and on the machine's time
zones; it opens no file itself. Must never stop at the first mistake, nor name a wrong line.
"""

import re
import tomllib
import zoneinfo
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from gettext import gettext as _
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from edge.alarms.horn import TEST_MOST_S, TEST_S
from edge.problem import Problem, did_you_mean, half_width, nearest, one_of
from protocols.feeds import json_feed
from protocols.model import Line

# --- the keys of gateway.toml -------------------------------------------------------------------------------


def _refused(code: str, text: str) -> PydanticCustomError:
    return PydanticCustomError(code, "{text}", {"text": text})


def _schema(value: int) -> int:
    if value != 1:
        raise _refused("E-VAL-003", _("this version reads schema 1."))
    return value


def _gateway_id(value: str) -> str:
    if not json_feed.GATEWAY.fullmatch(value):
        raise _refused("E-VAL-002", _("must be 3 to 32 small letters, digits and -, like jt-0042."))
    return value


def _name(value: str) -> str:
    if not re.fullmatch("[a-z0-9-]{1,16}", value):
        raise _refused("E-VAL-002", _("a name must be 1 to 16 small letters, digits and -, like gas-a."))
    return value


@cache
def _timezones() -> frozenset[str]:
    """Six hundred files are opened for this."""
    return frozenset(zoneinfo.available_timezones())


def _timezone(value: str) -> str:
    if value not in _timezones():
        text = _("is not a known time zone. One is like Asia/Shanghai.")
        raise _refused("E-VAL-003", text + did_you_mean(value, _timezones()))
    return value


def _board_id(value: str) -> str:
    if not re.fullmatch("[a-z0-9]+-[0-9a-f]{12}", value):
        raise _refused("E-VAL-002", _("must be kind and hardware number, like esp32s3-7cdfa1e40c11."))
    return value


def _port(value: str) -> str:
    if not value.startswith("/"):
        raise _refused("E-VAL-002", _("must be the port's whole path, like /dev/ttyAMA2."))
    return value


def _uart(value: int) -> int:
    if value not in (1, 2):
        raise _refused("E-VAL-003", _("allowed are 1 and 2."))
    return value


def _line(value: object) -> Line:
    try:
        return Line.parse(str(value))
    except ValueError:
        raise _refused("E-VAL-002", _("must be baud, data bits, parity, stop bits, like 9600 8N1.")) from None


def _other_master(value: str) -> str:
    if value != "allowed":
        raise _refused("E-VAL-003", _("can only be “allowed”. Without another master leave the key out."))
    return value


_BYTES = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


def _size_bytes(value: object) -> int:
    match = re.fullmatch(r"(\d{1,9}) ?(MB|GB|TB)", str(value), re.ASCII)
    if not match:
        raise _refused("E-VAL-002", _("must be a size, like 8 GB or 500 MB."))
    size_bytes = int(match[1]) * _BYTES[match[2]]
    if size_bytes < 50 * 10**6:
        raise _refused("E-VAL-003", _("is too small: at least 50 MB are needed."))
    return size_bytes


def _days(value: int) -> int:
    if not 1 <= value <= 3650:
        raise _refused("E-VAL-003", _("allowed are 1 to 3650 days."))
    return value


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or not port or parts.path:
        raise _refused("E-VAL-002", _("must be mqtts:// or mqtt://, a host, a colon and a port."))
    return value


def _feed(value: str) -> str:
    if value != "json":
        raise _refused("E-VAL-003", _("this version speaks only “json”."))
    return value


# The same as a board that does not answer is called down after (SILENT_S of edge/boards.py).
LINK_LOSS_S = 10
# Pins that neither start the chip, nor are its flash, console or USB, nor carry a bus or the link (firmware/board.py).
# ESP-IDF Programming Guide v5.5, GPIO & RTC GPIO, "GPIO Summary".
FREE_PINS = {
    "esp32": (4, 19, 22, 23, 25, 26, 27, 32, 33),
    "esp32s3": (1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 38, 39, 40, 41, 42, 47, 48),
}


def _unit_id(value: int) -> int:
    if not 1 <= value <= 247:
        raise _refused("E-VAL-003", _("allowed are 1 to 247."))
    return value


def _coil(value: int) -> int:
    if not 0 <= value <= 65535:
        raise _refused("E-VAL-003", _("allowed are 0 to 65535, as on the wire: the first coil is 0."))
    return value


def _kind(value: str) -> str:
    if value not in ("horn", "beacon"):
        raise _refused("E-VAL-003", _("allowed are “horn”, which can be muted, and “beacon”, which cannot."))
    return value


def _priorities(value: list[int]) -> list[int]:
    if not value or not all(1 <= each <= 4 for each in value):
        raise _refused("E-VAL-003", _("must be a list of priorities from 1 to 4, like [1, 2]."))
    return value


def _normally(value: str) -> str:
    if value != "energised":
        raise _refused("E-VAL-003", _("can only be “energised”: a fault output. Without it leave the key out."))
    return value


def _on_link_loss(value: str) -> str:
    if value not in ("keep", "on", "off"):
        raise _refused("E-VAL-003", _("allowed are “keep” (it stays as it is), “on” and “off”."))
    return value


def _link_loss(value: int) -> int:
    if not 3 <= value <= 3600:
        raise _refused("E-VAL-003", _("allowed are 3 to 3600 seconds."))
    return value


def _for_s(value: int) -> int:
    if not 1 <= value <= TEST_MOST_S:
        raise _refused("E-VAL-003", _("allowed are 1 to {most} seconds.").format(most=TEST_MOST_S))
    return value


def _roles(value: list[str]) -> list[str]:
    if not value or not all(re.fullmatch("[a-z0-9-]{1,32}", each) for each in value):
        text = _("must be a list of roles, each 1 to 32 small letters, digits and -, like [\"district-duty\"].")
        raise _refused("E-VAL-002", text)
    return value


def _rule(value: str) -> str:
    match = re.fullmatch(r"(\d{1,2})oo(\d{1,2})", value, re.ASCII)
    if not match:
        raise _refused("E-VAL-002", _("must be like 2oo4: two of four."))
    if not 1 <= int(match[1]) <= int(match[2]):
        raise _refused("E-VAL-003", _("more are needed than there are, or none."))
    return value


COUNTS_AS_ALARM = "counts_as_alarm"


def _when_bad(value: str) -> str:
    if value not in (COUNTS_AS_ALARM, "left_out"):
        raise _refused("E-VAL-003", _("allowed are “counts_as_alarm” and “left_out”."))
    return value


def _text(value: str) -> str:
    if not value.strip():
        raise _refused("E-VAL-002", _("must not be empty."))
    return value


_Name = Annotated[str, AfterValidator(_name)]
_Text = Annotated[str, AfterValidator(_text)]
_Days = Annotated[int, AfterValidator(_days)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Codes(_Table):
    enterprise: str = ""
    gateway: str = ""


class _Site(_Table):
    gateway: Annotated[str, AfterValidator(_gateway_id)]
    name: _Text
    group: _Text
    timezone: Annotated[str, AfterValidator(_timezone)]
    points: _Text
    codes: _Codes = _Codes()


class _Board(_Table):
    id: Annotated[str, AfterValidator(_board_id)]
    port: Annotated[str, AfterValidator(_port)] | None = None


class _Bus(_Table):
    board: str
    uart: Annotated[int, AfterValidator(_uart)]
    line: Annotated[Line, PlainValidator(_line)]
    other_master: Annotated[str, AfterValidator(_other_master)] | None = None


class _Keep(_Table):
    readings_days: _Days = 30
    alarms_days: _Days = 365


class _Store(_Table):
    path: _Text
    max_bytes: Annotated[int, PlainValidator(_size_bytes)]
    keep: _Keep = _Keep()


class _Commands(_Table):
    acknowledge: Annotated[list[str], AfterValidator(_roles)] = []
    silence: Annotated[list[str], AfterValidator(_roles)] = []


class _Destination(_Table):
    url: Annotated[str, AfterValidator(_url)]
    feed: Annotated[str, AfterValidator(_feed)]
    ca: _Text | None = None
    cert: _Text | None = None
    key: _Text | None = None
    await_receipt: bool = False
    commands: _Commands = _Commands()


class _Output(_Table):
    bus: str | None = None
    unit_id: Annotated[int, AfterValidator(_unit_id)] | None = None
    profile: _Text | None = None
    coil: Annotated[int, AfterValidator(_coil)] | None = None
    board: str | None = None
    pin: int | None = None
    kind: Annotated[str, AfterValidator(_kind)] = "horn"
    priorities: Annotated[list[int], AfterValidator(_priorities)] | None = None
    areas: list[_Text] = []
    normally: Annotated[str, AfterValidator(_normally)] | None = None
    on_link_loss: Annotated[str, AfterValidator(_on_link_loss)] = "keep"
    link_loss_s: Annotated[int, AfterValidator(_link_loss)] = LINK_LOSS_S


class _Input(_Table):
    board: str
    pin: int
    for_s: Annotated[int, AfterValidator(_for_s)] = TEST_S


class _Voting(_Table):
    points: list[str]
    rule: Annotated[str, AfterValidator(_rule)]
    when_bad: Annotated[str, AfterValidator(_when_bad)] = COUNTS_AS_ALARM


class Gateway(_Table):
    schema_number: Annotated[int, AfterValidator(_schema), Field(alias="schema")]
    site: _Site
    boards: dict[_Name, _Board]
    buses: dict[_Name, _Bus]
    outputs: dict[_Name, _Output] = {}
    inputs: dict[_Name, _Input] = {}
    store: _Store
    voting: dict[_Name, _Voting] = {}
    destinations: dict[_Name, _Destination] = {}


# Whose fields are the keys at a path; * stands for a name.
_TABLES: dict[tuple[str, ...], type[_Table]] = {
    (): Gateway,
    ("site",): _Site,
    ("site", "codes"): _Codes,
    ("boards", "*"): _Board,
    ("buses", "*"): _Bus,
    ("store",): _Store,
    ("store", "keep"): _Keep,
    ("voting", "*"): _Voting,
    ("destinations", "*"): _Destination,
    ("destinations", "*", "commands"): _Commands,
    ("outputs", "*"): _Output,
    ("inputs", "*"): _Input,
}
_NAMED = ("boards", "buses", "outputs", "inputs", "voting", "destinations")


# --- gateway.toml -------------------------------------------------------------------------------------------


def _pattern(path: tuple[str, ...]) -> tuple[str, ...]:
    """The path with the name of a board, bus, output, input, vote or destination as *."""
    return (path[0], "*", *path[2:]) if len(path) > 1 and path[0] in _NAMED else path


def _keys_of(path: tuple[str, ...]) -> list[str]:
    """The keys that the table at `path` may have."""
    return [field.alias or name for name, field in _TABLES[_pattern(path)].model_fields.items()]


def _sentence(error: ErrorDetails, path: tuple[str, ...]) -> tuple[str, str]:
    """Code and sentence for one of pydantic's errors."""
    match error["type"]:
        case "extra_forbidden":
            allowed = _keys_of(path[:-1])
            text = _("there is no such key. Allowed are: {allowed}.").format(allowed=one_of(allowed))
            return "E-KEY-001", text + did_you_mean(path[-1], allowed)
        case "missing":
            return "E-KEY-002", _("is missing. Add a line to this table: {key} = …").format(key=path[-1])
        case "string_type":
            return "E-VAL-001", _("must be a text in double quotes.")
        case "bool_type":
            return "E-VAL-001", _("must be true or false, without quotes.")
        case "int_type":
            return "E-VAL-001", _("must be a whole number without quotes.")
        case "list_type":
            return "E-VAL-001", _("must be a list in [brackets].")
        case "dict_type" | "model_type":
            return "E-VAL-001", _("must be a table, not a single value.")
        case code:  # one of ours, from the validators above
            return code, error["msg"]


class GatewayToml:
    """gateway.toml: its tables, where their keys stand, and what is wrong with them."""

    def __init__(self, file: str, data: bytes) -> None:
        self.file = file
        self.tables: dict[str, Any] = {}
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._lines: list[str] = []
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as fault:
            line = data.count(b"\n", 0, fault.start) + 1
            self._refused("E-FIL-002", line, _("is not UTF-8 text. Save the file as UTF-8."))
            return
        self._lines = text.splitlines()
        try:
            self.tables = tomllib.loads(text)
        except (ValueError, RecursionError) as fault:  # numbers without end and brackets in brackets too
            self._refused(*self._syntax(str(fault)))

    def _refused(self, code: str, line: int, text: str) -> None:
        self.problems.append(Problem(code, self.file, "", None, text, line=line))

    def _syntax(self, fault: str) -> tuple[str, int, str]:
        """Code, line and sentence for what tomllib says, which ends in its place."""
        reason, _bracket, place = fault.partition(" (at ")
        position = re.match(r"line (\d+), column (\d+)", place)
        line = int(position[1]) if position else len(self._lines)
        code = self._lines[line - 1].partition("#")[0] if self._lines else ""
        if full := re.search("[，。：；＝“”‘’［］｛｝＃．\u3000]", code):
            half = {"“": '"', "”": '"', "‘": "'", "’": "'", "。": "."}.get(full[0]) or half_width(full[0])
            text = _("column {column}: {full} is full-width. Write {half} with the keyboard in English.")
            text = text.format(column=full.start() + 1, full=full[0], half=half or _("a space"))
            return "E-TOM-002", line, text
        if reason.startswith("Cannot"):
            return "E-TOM-003", line, _("this key or table stands further up already. Delete one of them.")
        text = _("column {column}: is not TOML. A text needs double quotes, a key needs =, a table [brackets].")
        return "E-TOM-001", line, text.format(column=position[2] if position else len(code))

    def line_of(self, path: tuple[str, ...]) -> int | None:
        """The line where the key or table at `path` begins, or else what is nearest around it."""
        found, depth = None, 0
        table: tuple[str, ...] = ()
        counts: Counter[str] = Counter()
        for number, line in enumerate(self._lines, start=1):
            if header := re.match(r"\s*\[\[([^\[\]]+)\]\]", line):  # the first, second, ... of this name
                counts[header[1]] += 1
                here = table = (*_keys(header[1]), str(counts[header[1]]))
            elif header := re.match(r"\s*\[([^\[\]]+)\]", line):
                here = table = _keys(header[1])
            elif key := re.match(r"""\s*([\w."'-][\w."' -]*?)\s*=""", line):
                here = table + _keys(key[1])
            else:
                continue
            if here[: len(path)] == path:
                return number
            if depth < len(here) and path[: len(here)] == here:
                found, depth = number, len(here)
        return found

    def lines(self) -> dict[str, int]:
        """The line of each table and key, by its dotted path."""
        found = {}
        for path in _paths(self.tables, ()):
            if line := self.line_of(path):
                found[".".join(path)] = line
        return found

    def wrong(self, code: str, path: tuple[str, ...], value: object, text: str) -> None:
        """A problem of the key at `path`; a value with full-width characters gets a hint."""
        shown = None if isinstance(value, Mapping) or value is None else str(value)
        if code == "E-VAL-002" and shown and half_width(shown) != shown.strip():
            plain = half_width(shown)
            text += _(" It has full-width characters. Write {plain} instead.").format(plain=plain)
        self.problems.append(Problem(code, self.file, ".".join(path), shown, text, line=self.line_of(path)))

    def check(self) -> Gateway | None:
        """The tables with every key in its place and of its form; None where `problems` says otherwise."""
        gateway = None
        try:
            gateway = Gateway.model_validate(self.tables)
        except ValidationError as fault:
            self._add(fault.errors(include_url=False))
        self._check_boards()
        self._check_buses()
        self._check_outputs()
        self._check_destinations()
        self.problems.sort(key=lambda problem: problem.line or 0)
        return gateway

    def _add(self, errors: list[ErrorDetails]) -> None:
        """Pydantic's errors. A slip in a key's name is one problem, not a second one for the key it hides."""
        found = [(tuple(str(key) for key in error["loc"] if key != "[key]"), error) for error in errors]
        meant = {
            (*path[:-1], nearest(path[-1], _keys_of(path[:-1])))
            for path, error in found
            if error["type"] == "extra_forbidden"
        }
        for path, error in found:
            if error["type"] != "missing" or path not in meant:
                code, text = _sentence(error, path)
                self.wrong(code, path, None if error["type"] == "missing" else error["input"], text)

    def named(self, kind: str) -> dict[str, dict[str, Any]]:
        """The tables [kind.name] by name: those that are tables, whatever else is wrong with them."""
        tables: object = self.tables.get(kind)
        if not isinstance(tables, dict):
            return {}
        return {name: table for name, table in tables.items() if isinstance(table, dict)}

    def check_voting(self, limits: Mapping[str, Collection[str]]) -> None:
        """Whether what is voted on is there; `limits`: of each point of the sheet those that it has."""
        for name, voting in self.named("voting").items():
            points, rule = voting.get("points"), str(voting.get("rule"))
            if not isinstance(points, list):
                continue
            place = ("voting", name, "points")
            for point in dict.fromkeys(map(str, points)):
                if point not in limits:
                    text = _("the sheet has no such point.") + did_you_mean(point, limits)
                    self.wrong("E-VOT-001", place, point, text)
                elif "H" not in limits[point]:
                    text = _("has no limit H, which is what is voted on. Fill in H for this point, or leave it out.")
                    self.wrong("E-VOT-002", place, point, text)
                elif points.count(point) > 1:
                    self.wrong("E-VOT-003", place, point, _("stands here twice. Delete one of them."))
            of = rule.partition("oo")[2]
            if of.isdigit() and int(of) != len(points):
                text = _("is of {of} points, but there are {count}. Correct the rule or the list.")
                self.wrong("E-VOT-004", ("voting", name, "rule"), rule, text.format(of=of, count=len(points)))

    # Between tables: on what was written, so that it is found even where a table is wrong in itself.

    def _check_boards(self) -> None:
        for key in ("id", "port"):
            first: dict[str, str] = {}
            for name, board in self.named("boards").items():
                if key in board and first.setdefault(str(board[key]), name) != name:
                    text = _("board {board} has it already. Each needs its own: change one of the two.")
                    text = text.format(board=first[str(board[key])])
                    self.wrong("E-BRD-001", ("boards", name, key), board[key], text)

    def _check_buses(self) -> None:
        boards = self.named("boards")
        wired: dict[tuple[str, str], str] = {}
        for name, bus in self.named("buses").items():
            wired.setdefault((str(bus.get("board")), str(bus.get("uart"))), name)
        for name, bus in self.named("buses").items():
            board, uart = str(bus.get("board")), str(bus.get("uart"))
            if "board" in bus and board not in boards:
                text = _("there is no such board. Allowed are: {allowed}.").format(allowed=one_of(boards))
                self.wrong("E-BRD-002", ("buses", name, "board"), board, text + did_you_mean(board, boards))
            elif "uart" in bus and wired[board, uart] != name:
                text = _("bus {bus} is on this uart of the board already.").format(bus=wired[board, uart])
                self.wrong("E-BRD-003", ("buses", name, "uart"), uart, text)
            elif uart == "2" and (board, "1") not in wired:
                text = _("a board's only bus is on uart 1: uart 2 is then its link to this gateway.")
                self.wrong("E-BRD-004", ("buses", name, "uart"), uart, text)

    def _check_outputs(self) -> None:
        taken: dict[tuple[object, ...], str] = {}  # by coil or pin: which table has it
        for kind in ("outputs", "inputs"):
            for name, table in self.named(kind).items():
                path = (kind, name)
                if kind == "inputs" and not re.match(r"(mute|test)(-|$)", name):
                    text = _("an input is named after what it does: mute or test, or like mute-2.")
                    self.wrong("E-INP-001", path, None, text)
                coil = "coil" in table
                if kind == "outputs" and not self._check_place(path, table):
                    continue
                where = [table.get(key) for key in (("bus", "unit_id", "coil") if coil else ("board", "pin"))]
                place = tuple(str(each) for each in where)
                if taken.setdefault(place, name) != name and None not in where:
                    text = _("[{other}] is on this coil or pin already. Each needs its own: change one of the two.")
                    key = "coil" if coil else "pin"
                    self.wrong("E-OUT-004", (*path, key), table[key], text.format(other=taken[place]))
                if coil:
                    self._check_known("E-OUT-002", path, "bus", table)
                else:
                    self._check_pin(path, table)
                if kind == "outputs":
                    self._check_purpose(path, table)

    def _check_place(self, path: tuple[str, ...], table: Mapping[str, Any]) -> bool:
        """Whether an output is either a coil or a pin."""
        coil, pin = {"bus", "unit_id", "profile", "coil"}, {"board", "pin"}
        found = (coil | pin) & table.keys()
        if found not in (coil, pin) and table.keys() <= set(_keys_of(path)):  # a slip in a key's name is one problem
            text = _("needs either `bus`, `unit_id`, `profile` and `coil`, or `board` and `pin`. It has: {keys}.")
            self.wrong("E-OUT-001", path, None, text.format(keys=one_of(sorted(found)) or "-"))
        return found in (coil, pin)

    def _check_known(self, code: str, path: tuple[str, ...], key: str, table: Mapping[str, Any]) -> bool:
        """Whether the board or bus that a table names is there."""
        known = self.named({"bus": "buses", "board": "boards"}[key])
        if key in table and table[key] not in known:
            texts = {
                "bus": _("there is no such bus. Allowed are: {allowed}."),
                "board": _("there is no such board. Allowed are: {allowed}."),
            }
            text = texts[key].format(allowed=one_of(known)) + did_you_mean(str(table[key]), known)
            self.wrong(code, (*path, key), table[key], text)
        return key in table and table[key] in known

    def _check_pin(self, path: tuple[str, ...], table: Mapping[str, Any]) -> None:
        if not self._check_known("E-OUT-002", path, "board", table) or type(table.get("pin")) is not int:
            return
        chip = str(self.named("boards")[table["board"]].get("id")).partition("-")[0]
        if chip in FREE_PINS and table["pin"] not in FREE_PINS[chip]:
            text = _("this pin of an {chip} is not free for it. Allowed are: {allowed}.")
            text = text.format(chip=chip, allowed=one_of(map(str, FREE_PINS[chip])))
            self.wrong("E-OUT-006", (*path, "pin"), table["pin"], text)

    def _check_purpose(self, path: tuple[str, ...], table: Mapping[str, Any]) -> None:
        """A fault output, or one that tells alarms."""
        if "normally" not in table:
            if "priorities" not in table:
                text = _("tells no alarms: add priorities = [1, 2], or normally = \"energised\" for a fault output.")
                self.wrong("E-OUT-007", path, None, text)
            return
        if "coil" in table:
            text = _("a coil stays as it is when its board stops: a fault output needs a pin of a board.")
            self.wrong("E-OUT-005", (*path, "coil"), table["coil"], text)
        for key in ("priorities", "areas", "kind", "on_link_loss"):
            if key in table:
                text = _("means nothing for a fault output: it drops when its board or the gateway stops. Delete it.")
                self.wrong("E-OUT-005", (*path, key), table[key], text)

    def _check_destinations(self) -> None:
        destinations = self.named("destinations")
        if not destinations:
            text = _("there is none: the readings stay on this gateway.")
            self.warnings.append(Problem("W-DST-001", self.file, "destinations", None, text))
        for name, destination in destinations.items():
            if ("cert" in destination) != ("key" in destination):
                present = "cert" if "cert" in destination else "key"
                text = _("cert and key belong together: one of them is missing.")
                self.wrong("E-DST-001", ("destinations", name, present), destination[present], text)
            if destination.get("commands") and str(destination.get("url")).startswith("mqtt://"):
                text = _("commands come over an unencrypted connection: anybody on the way can give them. Use mqtts://.")
                path = ("destinations", name, "commands")
                line = self.line_of(path)
                self.warnings.append(Problem("W-DST-002", self.file, ".".join(path), None, text, line=line))
            if str(destination.get("url")).startswith("mqtt://"):
                for key in ("ca", "cert", "key"):
                    if key in destination:
                        text = _("is never used: mqtt:// is not encrypted. Write mqtts:// in the url.")
                        self.wrong("E-DST-002", ("destinations", name, key), destination[key], text)


def _paths(table: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for key, value in table.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from _paths(value, (*above, key))


def _keys(dotted: str) -> tuple[str, ...]:
    return tuple(key.strip().strip("\"'") for key in dotted.split("."))
