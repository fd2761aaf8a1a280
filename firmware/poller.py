"""What one bus is asked next, when to give up on an answer, and when to probe a unit that is dead. Policy.

Owns one bus of the read plan: due times (earliest deadline first), the silence between frames, one retry on a live
unit, the replies that units still owe, and dead units, who get one cheap probe when the bus has nothing better to do.
Polls straight from the plan's bytes. Must never look at a clock (`now_ms` and `now_us` are arguments, 28-bit counters)
and allocates nothing after its construction.

Modbus RTU echoes no address, so a late answer to one read is a perfect answer to another of the same shape: after a
time-out, for `late_ms`, the unit is asked only the same read again or one whose reply differs in function or length.
"""

from array import array

from protocols import modbus, readplan
from protocols.link import FAILED_MAX_BYTES
from protocols.ticks import add, diff

DEAD_AFTER = 3  # failed polls in a row
_PROBE_AT_LEAST_EVERY_MS = 9000
_PROBE_LOOK_MS = 20  # how often a waiting probe looks for room on the bus
_OWED_LOOK_MS = 5
_BABBLE_US = 1000000  # a line that is never quiet is asked all the same: its failures must be told
_LONG_AGO_MS = 0x07000000


class Poller:
    """One bus. Call `received` with each piece of bytes, then `step`; True means: send `request[:request_bytes]`."""

    def __init__(self, plan, bus, recorder, now_ms, now_us):
        self.plan = plan
        self.bus = bus
        self.transaction = modbus.Transaction()
        self.request = self.transaction.request
        self.request_bytes = 0
        self.polls = 0
        self.overruns = 0  # periods in which a read could not be asked
        self.stray_bytes = 0
        self._recorder = recorder
        char_us = readplan.bits_per_char(plan, bus) * 1000000 // readplan.baud(plan, bus)
        self._char_us = char_us
        self._silence_us = 7 * char_us // 2 if readplan.baud(plan, bus) <= 19200 else 1750
        self._quiet_us = now_us  # the line is quiet from then on
        self._busy_since_us = now_us  # and was not, since then
        self._waiting = False
        self._deadline_us = now_us
        self._read = 0  # the read that is on the wire
        self._outcome = modbus.PENDING
        reads = readplan.reads(plan)
        units = readplan.units(plan)
        mine = [i for i in range(reads) if plan[readplan.unit_at(plan, plan[readplan.read_at(plan, i)])] == bus]
        self._reads = array("B", mine)
        self._due_ms = array("I", [now_ms] * reads)
        self._failed_once = bytearray(reads)  # 1: asked, failed, and due once more
        self._owed = bytearray(reads)  # 1: a reply to this read may still come
        self._owed_until_ms = array("I", [0] * reads)
        self._owing = 0  # how many of `_owed` are set
        self._fails = bytearray(units)
        self._asked_ms = array("I", [add(now_ms, -_LONG_AGO_MS)] * units)

    def received(self, buf, count, now_us):
        """Bytes from the line."""
        if diff(self._quiet_us, now_us) <= 0:
            self._busy_since_us = now_us
        self._quiet_us = now_us + self._silence_us & 0x0FFFFFFF
        if self._waiting:
            outcome = self.transaction.feed(buf, count)
            if outcome != modbus.PENDING:
                self._outcome = outcome
        else:
            self.stray_bytes = self.stray_bytes + count & 0x0FFFFFFF

    def step(self, now_ms, now_us, uptime):
        """Decide. True when a request is to be sent now."""
        if self._waiting:
            outcome = self._outcome
            if outcome == modbus.PENDING:
                if diff(self._deadline_us, now_us) > 0:
                    return False
                outcome = self.transaction.finish()
            self._end(outcome, now_ms, uptime)
        if diff(self._quiet_us, now_us) <= 0:
            self._quiet_us = now_us  # stays within reach of a counter that wraps
        elif diff(now_us, self._busy_since_us) < _BABBLE_US:
            return False
        read = self._choose(now_ms)
        if read < 0:
            return False
        self._ask(read, now_ms, now_us)
        return True

    def due_us(self, now_ms, now_us):
        """Microseconds until `step` wants to be asked again, if nothing is received before: 0 to a second."""
        if self._waiting:
            return max(diff(self._deadline_us, now_us), 0)
        wait = 1000
        plan = self.plan
        i = 0
        while i < len(self._reads):
            read = self._reads[i]
            i += 1
            unit = plan[readplan.read_at(plan, read)]
            due = diff(self._due_ms[read], now_ms)
            if self._fails[unit] >= DEAD_AFTER:
                due = max(due, _PROBE_LOOK_MS)
            due = max(due, self._not_before(unit, now_ms))
            if due <= 0 and self._is_owed_alike(read, now_ms):
                due = _OWED_LOOK_MS
            if due < wait:
                wait = due
        quiet = min(diff(self._quiet_us, now_us), _BABBLE_US - diff(now_us, self._busy_since_us))
        return max(wait * 1000, quiet, 0)

    def _not_before(self, unit, now_ms):
        """Milliseconds that this unit's minimum spacing still asks for."""
        spacing = readplan.u16(self.plan, readplan.unit_at(self.plan, unit) + 4)
        return spacing - diff(now_ms, self._asked_ms[unit])

    def _choose(self, now_ms):
        """The read to ask now, or -1: the live one due first, else a dead unit's probe that delays nobody."""
        plan = self.plan
        best = -1
        best_due = 1
        probe = -1
        probe_due = 1
        next_live = 1000000
        i = 0
        while i < len(self._reads):
            read = self._reads[i]
            i += 1
            unit = plan[readplan.read_at(plan, read)]
            due = diff(self._due_ms[read], now_ms)
            if self._fails[unit] >= DEAD_AFTER:
                if due < probe_due and self._not_before(unit, now_ms) <= 0:
                    probe = read
                    probe_due = due
                continue
            wait = max(due, self._not_before(unit, now_ms))
            if wait > 0 or self._is_owed_alike(read, now_ms):
                next_live = min(next_live, max(wait, 0))
            elif due < best_due:
                best = read
                best_due = due
        if probe >= 0:
            overdue = diff(now_ms, self._asked_ms[plan[readplan.read_at(plan, probe)]]) >= _PROBE_AT_LEAST_EVERY_MS
            if overdue or best < 0 and next_live * 1000 > self._transaction_us(probe):
                return probe
        return best

    def _is_owed_alike(self, read, now_ms):
        """Whether a reply that is still owed could be taken for the reply to this read."""
        if not self._owing:
            return False
        plan = self.plan
        at = readplan.read_at(plan, read)
        i = 0
        while i < len(self._reads):
            other = self._reads[i]
            i += 1
            if self._owed[other] and other != read:
                if diff(self._owed_until_ms[other], now_ms) <= 0:
                    self._owed[other] = 0
                    self._owing -= 1
                    continue
                other_at = readplan.read_at(plan, other)
                alike = plan[other_at] == plan[at] and plan[other_at + 1] == plan[at + 1]
                if alike and self._data_bytes(other_at) == self._data_bytes(at):
                    return True
        return False

    def _data_bytes(self, read_at):
        count = readplan.u16(self.plan, read_at + 4)
        return count + 7 >> 3 if self.plan[read_at + 1] <= 2 else 2 * count

    def _transaction_us(self, read):
        """The longest that asking this read can take."""
        at = readplan.read_at(self.plan, read)
        timeout_ms = readplan.u16(self.plan, readplan.unit_at(self.plan, self.plan[at]) + 2)
        return (8 + 5 + self._data_bytes(at)) * self._char_us + timeout_ms * 1000 + 2 * self._silence_us

    def _ask(self, read, now_ms, now_us):
        plan = self.plan
        at = readplan.read_at(plan, read)
        unit = plan[at]
        unit_id = plan[readplan.unit_at(plan, unit) + 1]
        self._read = read
        self._waiting = True
        self._outcome = modbus.PENDING
        self._asked_ms[unit] = now_ms
        self._deadline_us = now_us + self._transaction_us(read) & 0x0FFFFFFF
        self.polls = self.polls + 1 & 0x0FFFFFFF
        self.request_bytes = modbus.put_request(
            self.request, unit_id, plan[at + 1], readplan.u16(plan, at + 2), readplan.u16(plan, at + 4)
        )
        self.transaction.begin(self.request_bytes)

    def _end(self, outcome, now_ms, uptime):
        plan = self.plan
        at = readplan.read_at(plan, self._read)
        unit = plan[at]
        self._waiting = False
        if outcome == modbus.OK or outcome == modbus.EXCEPTION:
            self._fails[unit] = 0
        else:
            self._owing += 1 - self._owed[self._read]
            self._owed[self._read] = 1
            late_ms = readplan.u16(plan, readplan.unit_at(plan, unit) + 6)
            self._owed_until_ms[self._read] = now_ms + late_ms & 0x0FFFFFFF
            if self._fails[unit] < DEAD_AFTER and not self._failed_once[self._read]:
                self._failed_once[self._read] = 1  # it stays due, and so comes first
                return
            self._fails[unit] = min(self._fails[unit] + 1, 200)
        self._failed_once[self._read] = 0
        self._record(self._read, outcome, now_ms, uptime)
        self._reschedule(self._read, now_ms)
        if self._fails[unit] >= DEAD_AFTER:
            self._fail_the_others(unit, outcome, now_ms, uptime)

    def _fail_the_others(self, unit, outcome, now_ms, uptime):
        """One probe speaks for all reads of a dead unit that are due."""
        i = 0
        while i < len(self._reads):
            read = self._reads[i]
            i += 1
            if self.plan[readplan.read_at(self.plan, read)] == unit and diff(self._due_ms[read], now_ms) <= 0:
                self._record(read, outcome, now_ms, uptime)
                self._reschedule(read, now_ms)

    def _record(self, read, outcome, now_ms, uptime):
        transaction = self.transaction
        urgent = self.plan[readplan.read_at(self.plan, read) + 8] & readplan.URGENT
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
            count = min(transaction.reply_bytes, FAILED_MAX_BYTES)
        self._recorder.sample(read, outcome, 0, uptime, buf, start, count, urgent, now_ms)

    def _reschedule(self, read, now_ms):
        """The next due time keeps the phase; periods that are over already are counted, never caught up."""
        period_ms = readplan.period_ms(self.plan, read)
        due = self._due_ms[read] + period_ms & 0x0FFFFFFF
        behind = diff(now_ms, due)
        if behind >= period_ms:
            skipped = behind // period_ms
            self.overruns = self.overruns + skipped & 0x0FFFFFFF
            due = due + skipped * period_ms & 0x0FFFFFFF
        self._due_ms[read] = due
