"""A half-duplex RS-485 line in time: when a request ended, when each byte of a reply arrives, what is damaged. Policy.

Owns the wire time that a pseudo-terminal does not have, the finding of requests among the master's bytes, the silence
that the master kept, and what a line does to bytes: noise, a cut cable, an echo, a pause inside a reply. Must never
touch a port. Source of the times: MODBUS over Serial Line V1.02, 2.5.1 (3.5 characters, 1.75 ms above 19200 baud).

Two talkers at once are not rendered: a reply waits until the line is free. A request that comes while a reply is
still due is counted in `talked_over`. What faults.py makes of an answer comes at the times that it says.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hil_tests.bench.chance import draw
from hil_tests.bench.faults import Asked, Faults, Strike
from hil_tests.bench.units import Answer, Measured, Unit
from protocols import modbus, model, trace

_FORGET_S = 0.1  # bytes that no request followed are no part of the next one
_STALL_S = 0.05  # later than that, a reply may pass a board's time-out
_AFTERMATH_S = 1.0  # a unit that owes a reply is asked again, and its neighbours wait
_PIECE_BYTES = 64  # what is longer than that arrives in pieces, as from a receiver's FIFO


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that was on the line, and what came of it.

    Times in seconds. `reply`: as it was on the wire, empty if nothing was. `replied_s`: its last byte, or None.
    `given_up_s`: when the asker stops waiting, as far as the unit's profile tells.
    """

    line: str
    unit_id: int
    request: bytes
    reply: bytes
    asked_s: float
    given_up_s: float
    replied_s: float | None
    measured: tuple[Measured, ...]
    certain: bool


@dataclass(frozen=True, slots=True)
class _Burst:
    """Bytes that arrive together, at the time of the last of them."""

    due_s: float
    data: bytes
    ends: Exchange | None = None  # the exchange that these bytes complete
    is_belated: bool = False  # it was given up before
    frame: trace.Frame | None = None  # the whole that these bytes complete


class Line:
    """One line with its units. Give it what the master sent by `heard`, put `deliver`'s bytes on the wire at `due_s`.

    Finished exchanges gather in `exchanges`, and all that was on the wire in `frames`, as port 0, with what was done to
    it in their comment; take both away. What can be set at any time: `noise` (chance of a flipped bit for each byte),
    `connected`, `echoes` (the master hears itself), `pause` (after so many bytes of a reply, so many seconds),
    `bytewise` (deliver each byte at its own time instead of the reply as a whole at its end), `strikes` (of the fault
    catalogue, at the answer to this request; what the asker then makes of it is not certain).
    """

    def __init__(
        self,
        name: str,
        settings: model.Line,
        units: Sequence[Unit],
        measure: Callable[[str, float], float],
        seed: int = 0,
    ) -> None:
        self.name = name
        self.settings = settings
        self.char_s = settings.char_us / 1e6
        self.silence_s = settings.silence_us / 1e6
        self.units = {unit.unit_id: unit for unit in units}
        self.noise = 0.0
        self.connected = True
        self.echoes = False
        self.pause: tuple[int, float] | None = None
        self.bytewise = False
        self.strikes: Callable[[bytes], Sequence[Strike]] | None = None
        self.is_wire = False  # a wire that takes its time itself: heard when it was on it, delivered as it begins
        self.exchanges: list[Exchange] = []
        self.frames: list[trace.Frame] = []
        self.requests = 0
        self.too_soon = 0  # requests before the silence was over
        self.shortest_silence_s = math.inf
        self.talked_over = 0
        self.stray_bytes = 0  # of the master, part of no request
        self.latest_s = 0.0  # how late `deliver` was called at worst: a busy machine, not the gateway
        self._faults = Faults()
        self._doubt_until_s = -math.inf  # what a strike or a stall of this machine leaves behind may spoil replies
        self._measure = measure
        self._seed = seed
        self._draws = 0
        self._heard = bytearray()
        self._heard_s = -math.inf
        self._active_s = -math.inf  # the last end of anything on the line
        self._bursts: list[_Burst] = []
        self._belated_s: dict[int, float] = {}  # unit id -> when a belated reply of it came last

    def heard(self, data: bytes, now_s: float) -> None:
        """Bytes from the master, seen at once: on the wire they take their time from `now_s` on."""
        if now_s - self._heard_s > _FORGET_S:
            self._stray(len(self._heard), self._heard_s)
        if not self._heard:
            self._keep_silence_book(now_s)
        self._heard += data
        self._heard_s = now_s
        while request := self._next_request():
            self._ask(request, now_s - len(request) * self.char_s if self.is_wire else now_s)

    def due_s(self) -> float | None:
        """When the next bytes are due, or None."""
        return self._bursts[0].due_s if self._bursts else None

    def deliver(self, now_s: float) -> bytes:
        """The bytes that are due by now, for the wire at this very moment."""
        data = b""
        while self._bursts and self._bursts[0].due_s <= now_s:
            burst = self._bursts.pop(0)
            self._active_s = now_s + (len(burst.data) * self.char_s if self.is_wire else 0.0)
            late_s = now_s - burst.due_s
            self.latest_s = max(self.latest_s, late_s)
            if late_s > _STALL_S:
                self._doubt_until_s = max(self._doubt_until_s, now_s + _AFTERMATH_S)
            data += burst.data
            if burst.frame is not None and self.connected:
                self.frames.append(burst.frame)
            if burst.ends is not None:
                self._end(burst.ends, burst.is_belated, self._active_s)
        return data if self.connected else b""

    def _end(self, exchange: Exchange, is_belated: bool, now_s: float) -> None:
        if not self.connected:
            exchange = _lost(exchange)
        elif is_belated:
            self._belated_s[exchange.unit_id] = now_s
            exchange = replace(exchange, replied_s=now_s)
        else:
            # Who asks the same again may take the belated reply for this one, and rightly so.
            is_certain = exchange.certain and self._belated_s.get(exchange.unit_id, -math.inf) < exchange.asked_s
            is_certain = is_certain and now_s >= self._doubt_until_s
            exchange = replace(exchange, replied_s=now_s, certain=is_certain)
        self.exchanges.append(exchange)

    def _keep_silence_book(self, now_s: float) -> None:
        silence_s = now_s - self._active_s
        self.requests += 1
        self.shortest_silence_s = min(self.shortest_silence_s, silence_s)
        self.too_soon += silence_s < self.silence_s
        self.talked_over += bool(self._bursts)

    def _next_request(self) -> bytes:
        """The first intact request among what was heard, taken out of it; empty while there is none."""
        heard = self._heard
        for start in range(len(heard)):
            length = modbus.request_length(heard, start, len(heard))
            if 0 < length <= len(heard) - start and modbus.crc_ok(heard, start, start + length):
                request = bytes(heard[start : start + length])
                self._stray(start, self._heard_s)
                del heard[:length]
                return request
        return b""

    def _stray(self, count: int, ended_s: float) -> None:
        """So many bytes that were heard are part of no request."""
        if count:
            self.stray_bytes += count
            stray = bytes(self._heard[:count])
            self.frames.append(_frame(trace.SENT, ended_s - count * self.char_s, ended_s, stray, ""))
            del self._heard[:count]

    def _ask(self, request: bytes, now_s: float) -> None:
        self._active_s = ended_s = now_s + len(request) * self.char_s
        self.frames.append(_frame(trace.SENT, now_s, ended_s, request, ""))
        if self.echoes:
            self._schedule(request, now_s, "echo")
        unit = self.units.get(request[0])
        if unit is None:
            return  # nobody is there, so no point depends on it
        answer = unit.answer(request, lambda point: self._measure(point, ended_s))
        if self.strikes is not None and self.connected:
            self._strike(request, unit, answer, self.strikes(request), now_s)
            return
        injected = [answer.fault]
        if not self.connected or self._damaged(request) != request:
            answer = answer.lost()
            injected.append("noise in the request" if self.connected else "cut cable")
        data = self._damaged(answer.data)
        if data != answer.data:
            answer = answer.damaged(data)
            injected.append("noise")
        given_up_s = ended_s + len(data) * self.char_s + unit.profile.timeout_ms / 1000
        exchange = Exchange(
            self.name, request[0], request, data, now_s, given_up_s, None, answer.measured, answer.certain
        )
        if answer.belated:
            self.exchanges.append(replace(exchange, reply=b""))
            exchange = replace(exchange, measured=answer.belated, certain=False)
        told = ", ".join(filter(None, injected))
        if data:
            self._schedule(data, ended_s + answer.after_s, told, exchange, is_belated=bool(answer.belated))
        else:
            self.exchanges.append(exchange)
            self.frames[-1] = _frame(trace.SENT, now_s, ended_s, request, told)

    def _strike(
        self, request: bytes, unit: Unit, answer: Answer, strikes: Sequence[Strike], now_s: float
    ) -> None:
        ended_s = now_s + len(request) * self.char_s
        timeout_s = unit.profile.timeout_ms / 1000
        period_s = min(point.period_ms for point in unit.points) / 1000
        asked = Asked(request, answer.data, self.settings, answer.after_s, timeout_s, period_s)
        pieces = self._faults.answer(asked, strikes, ended_s)
        data = b"".join(piece.data for piece in pieces)
        given_up_s = ended_s + len(answer.data) * self.char_s + timeout_s
        if strikes or data != answer.data:  # what still comes of it may spoil its neighbours' replies too
            ends_s = ended_s + (pieces[-1].at_s if pieces else 0.0)
            self._doubt_until_s = max(self._doubt_until_s, ends_s + timeout_s + _AFTERMATH_S)
        is_certain = now_s >= self._doubt_until_s
        exchange = Exchange(
            self.name, request[0], request, data, now_s, given_up_s, None, answer.measured, is_certain
        )
        told = ", ".join(strike.row.name.lower() for strike in strikes)
        for piece in pieces:
            taken_s = len(piece.data) * self.char_s
            burst = _Burst(ended_s + piece.at_s - (taken_s if self.is_wire else 0.0), piece.data)
            if piece is pieces[-1]:
                begun_s = ended_s + pieces[0].at_s - len(pieces[0].data) * self.char_s
                frame = _frame(trace.RECEIVED, begun_s, ended_s + piece.at_s, data, told)
                burst = replace(burst, ends=exchange, frame=frame)
            self._bursts.append(burst)
        self._bursts.sort(key=lambda burst: burst.due_s)
        if not pieces:
            self.exchanges.append(exchange)
            self.frames[-1] = _frame(trace.SENT, now_s, ended_s, request, told)

    def _schedule(
        self, data: bytes, start_s: float, injected: str, ends: Exchange | None = None, is_belated: bool = False
    ) -> None:
        """Put bytes on the line from `start_s` on, or as soon after as nobody talks; `injected` names their faults."""
        start_s = self._free_from(start_s, len(data) * self.char_s)
        split, pause_s = self.pause or (len(data), 0.0)
        if split < len(data):
            injected = f"{injected}, pause" if injected else "pause"
        piece_bytes = 1 if self.bytewise else _PIECE_BYTES
        edges = {*range(piece_bytes, len(data), piece_bytes), min(split, len(data)), len(data)}
        begin = 0
        for end in sorted(edges):
            at = begin if self.is_wire else end
            due_s = start_s + at * self.char_s + (pause_s if end > split else 0.0)
            burst = _Burst(due_s, data[begin:end])
            if end == len(data):
                ended_s = due_s + (end - at) * self.char_s
                frame = _frame(trace.RECEIVED, start_s, ended_s, data, injected)
                burst = replace(burst, ends=ends, is_belated=is_belated, frame=frame)
            self._bursts.append(burst)
            begin = end
        self._bursts.sort(key=lambda burst: burst.due_s)

    def _free_from(self, start_s: float, duration_s: float) -> float:
        for burst in self._bursts:
            burst_start_s = burst.due_s - len(burst.data) * self.char_s
            if burst_start_s < start_s + duration_s and start_s < burst.due_s:
                start_s = burst.due_s
        return start_s

    def _damaged(self, data: bytes) -> bytes:
        """`data` as noise leaves it: now and then a bit of a byte is another one."""
        if self.noise <= 0:
            return data
        out = bytearray(data)
        for at in range(len(out)):
            self._draws += 1
            chance = draw(self._seed, self.name, self._draws)
            if chance < self.noise:
                out[at] ^= 1 << int(chance / self.noise * 8)
        return bytes(out)


def _frame(event: int, first_s: float, last_s: float, data: bytes, injected: str) -> trace.Frame:
    comment = injected and f"{trace.INJECTED}{injected}"
    return trace.Frame(0, event, round(first_s * 1e6), round(last_s * 1e6), data, comment)


def _lost(exchange: Exchange) -> Exchange:
    """The same, where the cable was cut before the reply was through."""
    measured = tuple(told.failed(model.NO_REPLY) for told in exchange.measured)
    return replace(exchange, reply=b"", measured=measured, certain=False)
