"""What one bus is asked next, when to give up on an answer, and when to probe a unit that is dead. Policy.

Owns one bus of the read plan: deadlines (the earliest first), the silence between frames, how long each unit is waited
for, one retry on a live unit, the replies that units still owe, and dead units, who get one cheap probe when the bus
has nothing better to do. Polls straight from the plan's bytes. Must never look at a clock (`now_ms` and `now_us` are
arguments, 28-bit counters) and allocates nothing after its construction.

Modbus RTU echoes no address, so a late answer to one read is a perfect answer to another of the same shape: after a
time-out, until the reply has come or `late_ms` is over, the unit is asked only the same read again or one whose reply
differs in function or length.

A unit is dead until it is first heard: nobody waits twice for a unit that was never wired.

Coils that outputs.py wants written go before all reads, in the next silence; the echo verifies them.
"""

from array import array

from protocols import link, modbus, readplan
from protocols.octets import get_u16
from protocols.ticks import add, diff
from tally import Tally

DEAD_AFTER = 3  # failed polls in a row
_PROBE_AT_LEAST_EVERY_MS = 9000
_FULL_WAIT_EVERY = 512  # of a dead unit: its whole time-out is waited once in so many of it
_BABBLE_US = 1000000  # a line that is never quiet is asked all the same: its failures must be told
_LOOK_MS = 1000  # nothing that is waited for is looked at more seldom
_IDLE_MS = 100000  # longer than any unit is waited for: nobody who lives is due
_OWED_LOOK_MS = 5
_TIMER_US = 200  # a timer may be as late
_LONG_AGO_MS = 0x07000000
_U16_MAX = 65535


class Poller:
    """One bus. Call `received` with each piece of bytes, and `step` as soon as `next_us` is over; both set it anew.

    True from `step` means: send `request[:request_bytes]`, then say `sent`.

    `overheard` knows whether the bus is ours to talk on; it outlives a change of the plan.
    """

    def __init__(self, plan, bus, recorder, overheard, now_ms, now_us):
        self.plan = plan
        self.bus = bus
        self.overheard = overheard
        self.transaction = modbus.Transaction(modbus.REQUEST_BYTES)
        self.request = self.transaction.request
        self.request_bytes = 0
        self.next_us = now_us  # `step` wants to be called then
        self.is_deaf = False  # bytes that come before `next_us` change nothing: they may lie in the port until then
        self.polls = 0
        self.overruns = 0  # periods in which a read could not be asked
        self.outputs = None  # whose coils are written, where the plan has any
        self.writes = 0  # how many of them wait for their turn
        self._writing = -1  # the output whose write lies in `request`
        self._recorder = recorder
        baud = readplan.baud(plan, bus)
        char_us = readplan.bits_per_char(plan, bus) * 1000000 // baud
        self._char_us = char_us
        self._silence_us = 1750
        if baud <= 19200:  # rounded up: less would be too soon
            self._silence_us = (readplan.bits_per_char(plan, bus) * 3500000 + baud - 1) // baud
        self._quiet_us = now_us  # the line is quiet from then on
        self._busy_since_us = now_us  # and was not, since then
        self._ready = False  # the next request lies in `request`
        self.waiting = False  # for the end of a transaction
        self._asked_us = now_us
        self._end_us = now_us  # of the request, on the wire
        self._deadline_us = now_us
        self._reply_ms = 0
        self._is_full_wait = False  # of the probe that was chosen
        self._current = 0  # the read that is asked, by its place in `_reads`
        self._outcome = modbus.PENDING
        self._requests = 0  # of other masters, when this transaction began
        overheard.other_master_allowed = bool(plan[readplan.bus_at(plan, bus) + 4] & readplan.OTHER_MASTER_ALLOWED)

        everything = range(readplan.reads(plan))
        mine = [i for i in everything if plan[readplan.unit_at(plan, plan[readplan.read_at(plan, i)])] == bus]
        units = sorted({plan[readplan.read_at(plan, i)] for i in mine})
        start_ms = now_ms if overheard.may_send(now_ms) else overheard.until_ms
        self.reads = bytearray(mine)  # their index in the plan
        self._read_at = array("H", [readplan.read_at(plan, i) for i in mine])
        self._unit = bytearray([units.index(plan[readplan.read_at(plan, i)]) for i in mine])
        self._data_bytes = bytearray([_data_bytes(plan, readplan.read_at(plan, i)) for i in mine])
        self._tenths = array("H", [readplan.period_ms(plan, i) // 100 for i in mine])  # of a second, its period
        self._due_ms = array("I", [start_ms for _ in mine])
        self._sampled_ms = array("I", [start_ms for _ in mine])
        self._fresh = bytearray([1 for _ in mine])  # 1: to be sampled before others, in the plan's order
        self._failed_once = bytearray(len(mine))  # the outcome of a first try whose retry is due
        self._owed = bytearray(len(mine))  # replies to this read that may still come
        self._owed_until_ms = array("I", [0 for _ in mine])
        self._owing = 0  # how many of `_owed` are set
        self._tally = Tally(bus, bytearray(units), overheard, now_ms)
        self._unit_at = array("H", [readplan.unit_at(plan, unit) for unit in units])
        self._spacing_ms = array("H", [get_u16(plan, readplan.unit_at(plan, unit) + 6) for unit in units])
        self._probe = bytearray([self._probe_of(unit) for unit in range(len(units))])
        self._fails = bytearray([DEAD_AFTER for _ in units])
        self._asked_ms = array("I", [add(now_ms, -_LONG_AGO_MS) for _ in units])
        self._full_ms = array("I", [add(now_ms, -_LONG_AGO_MS) for _ in units])  # its whole time-out was waited
        self._slow_ms = array("H", [0 for _ in units])  # how slow it is, forgetting; 0: never heard
        self._slowest_ms = array("H", [0 for _ in units])  # and ever was
        self._wake_ms = now_ms  # nothing is due before

    def _probe_of(self, unit):
        """Set-up. The place of the read that a dead unit is asked: who it is, or else that with the shortest reply."""
        mine = [i for i in range(len(self.reads)) if self._unit[i] == unit]
        checks = [i for i in mine if self.plan[self._read_at[i] + 8] & readplan.CHECK]
        return checks[0] if checks else min(mine, key=lambda i: self._data_bytes[i])

    def received(self, buf, count, now_ms, now_us):
        """Bytes from the line."""
        if diff(self._quiet_us, now_us) <= 0:
            self._busy_since_us = now_us
        self._quiet_us = now_us + self._silence_us & 0x0FFFFFFF
        self.next_us = now_us
        if not self.waiting or self._outcome != modbus.PENDING:
            self._hear(buf, 0, count, now_ms)
            return
        transaction = self.transaction
        outcome = transaction.feed(buf, count)
        if outcome == modbus.PENDING:
            # The last byte is waited for as it comes: a timer would notice it later than the port does.
            wait_us = transaction.missing_bytes() * self._char_us - max(self._char_us, _TIMER_US)
            self.is_deaf = 0 < wait_us < diff(self._deadline_us, now_us)
            self.next_us = now_us + wait_us & 0x0FFFFFFF if self.is_deaf else self._deadline_us
            return
        self._outcome = outcome
        wire_us = (transaction.frame_end - transaction.frame_start) * self._char_us
        self._reply_ms = min(max(diff(now_us, self._end_us) - wire_us, 0) // 1000, _U16_MAX)
        if transaction.frame_start > transaction.strays_start() or transaction.frame_end < transaction.reply_bytes:
            self._hear(transaction.reply, transaction.strays_start(), transaction.frame_start, now_ms)
            if self._requests != self.overheard.requests:
                self._outcome = modbus.WRONG_REPLY  # it may be the answer to the other master
            self._hear(transaction.reply, transaction.frame_end, transaction.reply_bytes, now_ms)

    def reopened(self, now_ms):
        """The port was lost and is back: who else is there now?"""
        self.overheard.listen(now_ms)
        self._ready = False
        self._writing = -1

    def leave(self, now_ms):
        """Set-up. Another plan comes: a reply that is owed to this one would pass for one to that."""
        if self._owing:
            self.overheard.listen(now_ms)

    def step(self, now_ms, now_us, uptime):
        """Decide. True when a request is to be sent now."""
        if self.waiting:
            outcome = self._outcome
            if outcome == modbus.PENDING:
                if diff(self._deadline_us, now_us) > 0:
                    self.next_us = self._deadline_us
                    self.is_deaf = False
                    return False
                transaction = self.transaction
                outcome = transaction.finish()
                self._hear(transaction.reply, transaction.strays_start(), transaction.reply_bytes, now_ms)
            self._end(outcome, now_ms, now_us, uptime)
        is_ours = self.overheard.may_send(now_ms)
        if self._tally.is_due(now_ms):
            self._tally.tell(self._recorder, self.overruns, now_ms, uptime)
        if not is_ours:
            self._ready = False
            self._writing = -1
            if diff(now_ms, self._wake_ms) >= 0:
                self._wake_ms = now_ms + 100 & 0x0FFFFFFF
                self._skip_overdue(now_ms)
            self._sleep(now_ms, now_us)
            return False
        quiet_us = diff(self._quiet_us, now_us)
        if self.writes and self._writing < 0:
            self._writing = self.outputs.lay(self, now_ms)
        if not self._ready and diff(now_ms, self._wake_ms) >= 0:
            place = self._choose(now_ms + max(quiet_us, 0) // 1000 & 0x0FFFFFFF)
            if place >= 0:
                self._prepare(place)
        if quiet_us <= 0:
            self._quiet_us = now_us  # stays within reach of a counter that wraps
        if not self._ready:
            self._sleep(now_ms, now_us)
            return False
        babble_us = _BABBLE_US - diff(now_us, self._busy_since_us)
        if quiet_us > 0 and babble_us > 0:
            self.next_us = now_us + min(quiet_us, babble_us) & 0x0FFFFFFF
            return False
        self._asked_us = now_us
        return True

    def sent(self, now_ms, now_us):
        """The request was handed to the port, which may have waited until it was on the wire.

        What need not be known before is reckoned here: the line has its own time to take now.
        """
        place = self._current
        unit = self._unit[place]
        self._ready = False
        self.waiting = True
        self._outcome = modbus.PENDING
        self._reply_ms = 0
        self._requests = self.overheard.requests
        if self._fails[unit] < DEAD_AFTER:
            wait_ms = self._live_ms(unit, self._failed_once[place] != 0)
        elif self._is_full_wait:
            wait_ms = self._most_ms(unit)
            self._full_ms[unit] = now_ms
        else:
            wait_ms = self._short_ms(unit)
        if self._owing:
            self._is_owed(place, now_ms)  # forgets what is over
        self._asked_ms[unit] = now_ms
        request_us = 8 * self._char_us
        late_us = max(diff(now_us, self._asked_us) - request_us, 0)
        self._end_us = self._asked_us + request_us + late_us & 0x0FFFFFFF
        self.next_us = self._end_us + 5 * self._char_us & 0x0FFFFFFF  # a refusal can be whole then
        self.is_deaf = True
        self._deadline_us = self._asked_us + late_us + self._transaction_us(place, wait_ms) & 0x0FFFFFFF
        self.polls = self.polls + 1 & 0x0FFFFFFF

    def _sleep(self, now_ms, now_us):
        """Nothing is to be asked before something is due."""
        self.next_us = now_us + min(max(diff(self._wake_ms, now_ms), 0), _LOOK_MS) * 1000 & 0x0FFFFFFF

    def _hear(self, buf, start, end, now_ms):
        """Bytes that answer nothing: a request of somebody else, or a reply that is late."""
        overheard = self.overheard
        own = self.request if self.waiting else None
        while start < end:
            is_request = overheard.hear(buf[start], own, now_ms)
            start += 1
            if self._owing and not is_request:
                self._look_for_late(now_ms)

    def _look_for_late(self, now_ms):
        plan = self.plan
        place = 0
        while place < len(self.reads):
            if self._owed[place]:
                at = self._read_at[place]
                unit = self._unit[place]
                unit_at = self._unit_at[unit]
                if self.overheard.ends_with_reply(plan[unit_at + 1], plan[at + 1], self._data_bytes[place]):
                    self._owed[place] -= 1
                    if not self._owed[place]:
                        self._owing -= 1
                    self._tally.late[unit] = min(self._tally.late[unit] + 1, 255)
                    wire_ms = (13 + self._data_bytes[place]) * self._char_us // 1000
                    reply_ms = diff(now_ms, self._asked_ms[unit]) - wire_ms
                    self._learn(unit, min(max(reply_ms, 0), get_u16(plan, unit_at + 8)))
                    return
            place += 1

    def _choose(self, now_ms):
        """The place of the read to ask now, or -1: the live one with the earliest deadline, else a probe.

        A probe delays nobody but a read that waits for an owed reply, and one each 9 s on a bus that is never idle.
        """
        reads = len(self.reads)
        due_ms = self._due_ms  # looked up once, since this is gone through for each read
        units = self._unit
        fails = self._fails
        fresh = self._fresh
        tenths = self._tenths
        spacing_ms = self._spacing_ms
        best = -1
        best_left = 0x07FFFFFF  # until its deadline, which is the end of its period
        probe = -1
        probe_due = 1
        next_live = _IDLE_MS
        next_any = _LOOK_MS
        place = 0
        while place < reads:
            due = (due_ms[place] - now_ms + 0x08000000 & 0x0FFFFFFF) - 0x08000000
            unit = units[place]
            if fails[unit] < DEAD_AFTER:
                left = place - 0x04000000 if fresh[place] else due + 100 * tenths[place]
                is_older = left == best_left and diff(self._sampled_ms[place], self._sampled_ms[best]) < 0
                is_better = left < best_left or is_older  # on a bus that is asked for too much they take turns
                if due <= 0 and is_better or 0 < due < next_live:
                    if spacing_ms[unit]:
                        due = max(due, self._spacing_left_ms(unit, now_ms))
                    if due <= 0 and self._owing and self._must_wait(place, now_ms):
                        next_any = min(next_any, _OWED_LOOK_MS)  # the bus is idle meanwhile
                    elif due <= 0:
                        best = place
                        best_left = left
                    elif due < next_live:
                        next_live = due
            elif due < probe_due or due < next_any:
                due = max(due, self._spacing_left_ms(unit, now_ms))
                if due <= 0 and self._owing and self._is_owed_alike(self._probe[unit], now_ms):
                    due = _OWED_LOOK_MS
                if due <= 0 and due < probe_due:
                    probe = self._probe[unit]
                    probe_due = due
                elif due < next_any:
                    next_any = max(due, 1)
            place += 1
        if probe >= 0:
            unit = self._unit[probe]
            silent_ms = diff(now_ms, self._asked_ms[unit])
            if not 0 <= silent_ms < _PROBE_AT_LEAST_EVERY_MS:
                self._is_full_wait = self._is_full_wait_due(unit, now_ms)
                return probe
            if best < 0 and self._has_room(probe, next_live, now_ms):
                return probe
            next_any = min(next_any, _PROBE_AT_LEAST_EVERY_MS - silent_ms)
        if best < 0:
            self._wake_ms = now_ms + min(next_live, next_any) & 0x0FFFFFFF
        return best

    def _has_room(self, probe, idle_ms, now_ms):
        """Whether a dead unit can be asked in this time. Its whole time-out is waited only where that fits."""
        unit = self._unit[probe]
        self._is_full_wait = self._is_full_wait_due(unit, now_ms)
        if self._is_full_wait and self._transaction_us(probe, self._most_ms(unit)) < idle_ms * 1000:
            return True
        self._is_full_wait = False
        return self._transaction_us(probe, self._short_ms(unit)) < idle_ms * 1000

    def _spacing_left_ms(self, unit, now_ms):
        """Milliseconds that this unit's minimum spacing still asks for."""
        spacing = self._spacing_ms[unit]
        passed = diff(now_ms, self._asked_ms[unit])
        return spacing - passed if 0 <= passed < spacing else 0

    def _is_owed(self, place, now_ms):
        """Whether a reply to this read may still come."""
        if not self._owed[place]:
            return False
        if diff(self._owed_until_ms[place], now_ms) > 0:
            return True
        self._owed[place] = 0
        self._owing -= 1
        return False

    def _are_alike(self, place, other):
        """Whether the replies to two reads have the same shape, so that one may be taken for the other."""
        if place == other or self._unit[place] != self._unit[other]:
            return False
        if self._data_bytes[place] != self._data_bytes[other]:
            return False
        return self.plan[self._read_at[place] + 1] == self.plan[self._read_at[other] + 1]

    def _is_owed_alike(self, place, now_ms):
        """Whether a reply that is still owed could be taken for the reply to this read."""
        other = 0
        while other < len(self.reads):
            if self._owed[other] and self._are_alike(place, other) and self._is_owed(other, now_ms):
                return True
            other += 1
        return False

    def _must_wait(self, place, now_ms):
        """Whether an owed reply stands between this read and its turn: its own too, where another read waits for it."""
        if self._is_owed_alike(place, now_ms):
            return True
        if self._failed_once[place] or not self._is_owed(place, now_ms):
            return False
        other = 0
        while other < len(self.reads):
            if diff(self._due_ms[other], now_ms) <= 0 and self._are_alike(place, other):
                if diff(self._sampled_ms[other], self._sampled_ms[place]) < 0:
                    return True
            other += 1
        return False

    def _most_ms(self, unit):
        """The longest that the unit's first byte is waited for; replies that come late can teach a longer time."""
        unit_at = self._unit_at[unit]
        most = get_u16(self.plan, unit_at + 2)
        return get_u16(self.plan, unit_at + 8) if self._slowest_ms[unit] > most else most

    def _short_ms(self, unit):
        """How long a dead unit is waited for: by its profile's floor, or by what it took when it lived."""
        floor = get_u16(self.plan, self._unit_at[unit] + 4)
        return min(max(floor, 2 * self._slow_ms[unit]), self._most_ms(unit))

    def _live_ms(self, unit, is_retry):
        """How long a live unit is waited for: four times what it took lately at its slowest, a retry twice that."""
        floor = get_u16(self.plan, self._unit_at[unit] + 4)
        wait = max(floor, 4 * self._slow_ms[unit] + 10)
        return min(2 * wait if is_retry else wait, self._most_ms(unit))

    def _is_full_wait_due(self, unit, now_ms):
        """Whether a dead unit's whole time-out was not waited for long: it may have become slower."""
        return not 0 <= diff(now_ms, self._full_ms[unit]) < _FULL_WAIT_EVERY * self._most_ms(unit)

    def _transaction_us(self, place, wait_ms):
        """The longest that asking this read can take."""
        return (13 + self._data_bytes[place]) * self._char_us + wait_ms * 1000 + 2 * self._silence_us

    def _prepare(self, place):
        plan = self.plan
        at = self._read_at[place]
        self._current = place
        self._ready = True
        self.request_bytes = modbus.put_request(
            self.request,
            plan[self._unit_at[self._unit[place]] + 1],
            plan[at + 1],
            get_u16(plan, at + 2),
            get_u16(plan, at + 4),
        )
        self.transaction.begin(self.request_bytes)

    def lay_write(self, place, address, word, now_ms):
        """Lay out a coil's write instead of any read, to the unit of the read at `place`; False while it must wait."""
        unit = self._unit[place]
        unit_at = self._unit_at[unit]
        if self._spacing_left_ms(unit, now_ms):
            return False
        self._current = place
        self._is_full_wait = False
        self._ready = True
        self.request_bytes = modbus.put_request(self.request, self.plan[unit_at + 1], 5, address, word)
        self.transaction.begin(self.request_bytes)
        self.overheard.wrote(self.request, now_ms + get_u16(self.plan, unit_at + 2) & 0x0FFFFFFF)
        return True

    def _end(self, outcome, now_ms, now_us, uptime):
        self.waiting = False
        self.is_deaf = False
        self._wake_ms = now_ms
        self._tally.busy_us += diff(now_us, self._asked_us) + self._silence_us
        if self._writing >= 0:
            self.outputs.ended(self._writing, self.request[4] & 1, outcome, now_ms, uptime)
            self._writing = -1
            return
        place = self._current
        unit = self._unit[place]
        if outcome == modbus.OK or outcome == modbus.EXCEPTION:
            if self._fails[unit] >= DEAD_AFTER:
                self._welcome(unit, now_ms)
            self._fails[unit] = 0
            self._full_ms[unit] = now_ms
            self._learn(unit, self._reply_ms)
            if self._owed[place]:  # this may have been the belated one, and its twin is still on its way
                self._owed_until_ms[place] = self._asked_ms[unit] + self._late_ms(place) & 0x0FFFFFFF
        else:
            if not self._owed[place]:
                self._owing += 1
            self._owed[place] = min(self._owed[place] + 1, 255)
            self._owed_until_ms[place] = self._asked_ms[unit] + self._late_ms(place) & 0x0FFFFFFF
            if self._fails[unit] < DEAD_AFTER and not self._failed_once[place]:
                self._failed_once[place] = outcome  # it stays due, and so comes first
                return
            self._fails[unit] = min(self._fails[unit] + 1, 200)
        if self._fails[unit] < DEAD_AFTER:
            self._record(place, outcome, link.answered(self._reply_ms), now_ms, uptime)
        else:
            self._fail_all(unit, outcome, now_ms, uptime)

    def _late_ms(self, place):
        """How long after its request a reply may come: `late_ms` after the time-out, however short the wait was."""
        unit_at = self._unit_at[self._unit[place]]
        late_ms = max(get_u16(self.plan, unit_at + 8), 2 * self._slowest_ms[self._unit[place]])
        wire_ms = (13 + self._data_bytes[place]) * self._char_us // 1000 + 1
        return wire_ms + get_u16(self.plan, unit_at + 2) + late_ms

    def _learn(self, unit, reply_ms):
        slow = self._slow_ms[unit]
        self._slow_ms[unit] = max(reply_ms, slow - (slow - reply_ms + 31 >> 5), 1)
        if reply_ms > self._slowest_ms[unit]:
            self._slowest_ms[unit] = reply_ms

    def _welcome(self, unit, now_ms):
        """A unit comes, or comes back: everything is asked of it anew, for it may be another device."""
        place = 0
        while place < len(self.reads):
            if self._unit[place] == unit:
                self._fresh[place] = 1
                if diff(self._due_ms[place], now_ms) > 0:
                    self._due_ms[place] = now_ms
            place += 1

    def _fail_all(self, unit, outcome, now_ms, uptime):
        """One probe speaks for all reads of a dead unit that are due."""
        answered = 0
        place = 0
        while place < len(self.reads):
            if self._unit[place] == unit and diff(self._due_ms[place], now_ms) <= 0:
                self._record(place, outcome, answered, now_ms, uptime)
                answered = link.NOT_ASKED
            place += 1

    def _record(self, place, outcome, answered, now_ms, uptime):
        transaction = self.transaction
        urgent = self.plan[self._read_at[place] + 8] & readplan.URGENT
        buf = transaction.reply
        if outcome == modbus.OK:
            start = transaction.data_start
            count = transaction.data_bytes
        elif outcome == modbus.EXCEPTION:
            transaction.request[0] = transaction.exception_code
            buf = transaction.request
            start = 0
            count = 1
        else:
            start = 0
            count = min(transaction.reply_bytes, link.FAILED_MAX_BYTES)
        both = outcome | self._failed_once[place] << 4
        self._recorder.sample(self.reads[place], both, answered, uptime, buf, start, count, urgent, now_ms)
        self._failed_once[place] = 0
        self._fresh[place] = 0
        self._sampled_ms[place] = now_ms
        if diff(self._due_ms[place], now_ms) <= 0:
            self._reschedule(place, now_ms)

    def _reschedule(self, place, now_ms):
        """The next due time keeps the phase; periods that are over already are counted, never caught up."""
        period_ms = 100 * self._tenths[place]
        due = self._due_ms[place] + period_ms & 0x0FFFFFFF
        behind = diff(now_ms, due)
        if behind >= period_ms:
            skipped = behind // period_ms
            self.overruns = self.overruns + skipped & 0x0FFFFFFF
            due = due + skipped * period_ms & 0x0FFFFFFF
        self._due_ms[place] = due

    def _skip_overdue(self, now_ms):
        """While the bus is not ours: count what could not be asked, and keep due times within the counter's reach."""
        place = 0
        while place < len(self.reads):
            self._is_owed(place, now_ms)
            if diff(now_ms, self._due_ms[place]) >= 100 * self._tenths[place]:
                self._failed_once[place] = 0
                self._sampled_ms[place] = now_ms
                self.overruns = self.overruns + 1 & 0x0FFFFFFF
                self._reschedule(place, now_ms)
            place += 1


def _data_bytes(plan, read_at):
    """Set-up. How many data bytes the reply to a read has."""
    count = get_u16(plan, read_at + 4)
    return count + 7 >> 3 if plan[read_at + 1] <= 2 else 2 * count
