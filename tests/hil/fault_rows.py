"""The eighteen rows of the fault catalogue, each alone against the firmware in virtual time, and its verdict.

Policy of the tests: what must hold of each row, beside what must hold of all: no wrong value, a bus that is never held
up beyond its bound, nothing grown, and 3.5 characters of silence before each request.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edge import troubles
from edge.statistics import LATELY, OUTCOMES
from hil_tests.bench.chance import draw
from hil_tests.bench.faults import CODES, RECOVERABLE, Row, Strike, mixed
from protocols import link, modbus, modbus_edge
from tests.hil.faulted_bus import (
    FLOOR_MS,
    LATE_MS,
    NEIGHBOUR,
    PERIOD_MS,
    READS,
    THIRD,
    TIMEOUT_MS,
    VICTIM,
    FaultedBus,
)

POLLS = 1500  # of one row
HEALTHY_MS = 5000  # before the first strike
# A retry waits twice as long as the first try; beside it the longest frames of this bus, silence, and an idle period.
_LIVE_BLOCK_MS = 2 * FLOOR_MS + 150 + PERIOD_MS
_FULL_BLOCK_MS = TIMEOUT_MS + 150 + PERIOD_MS  # the whole time-out: of a unit that is or was slow
_LISTEN_MS = 5000
_PERIODS_TO_GOOD = 2
_MASTER_QUIET_MS = 60_000
_NEVER_QUIET = (Row.BABBLE, Row.STUCK)  # here a request after a second without silence is right


@dataclass(slots=True)
class Verdict:
    """What one row gave. `broken`: a sentence for each thing that does not hold; passed where there is none."""

    row: str
    polls: int = 0
    wrong: int = 0
    lost: int = 0
    first_good_ms: int = 0
    longest_block_ms: int = 0
    grown_bytes: int = 0
    broken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = (
            f"{self.row}: {self.polls} polls, {self.wrong} wrong values, {self.lost} lost, first good after "
            f"{self.first_good_ms} ms, longest block {self.longest_block_ms} ms, grown {self.grown_bytes} bytes"
        )
        return "; ".join([told, *self.broken])

    def must(self, holds: bool, sentence: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.broken.append(sentence)

    def add(self, bus: FaultedBus, most_block_ms: int) -> None:
        """Take in a bus that has run, and judge what must hold of all rows."""
        values = bus.values
        self.polls += len(values.samples)
        self.wrong += len(values.wrong)
        self.lost += values.lost()
        self.first_good_ms = max(self.first_good_ms, values.first_good_ms())
        self.longest_block_ms = max(self.longest_block_ms, values.longest_block_ms())
        self.grown_bytes += bus.grown_bytes()
        self.must(not values.wrong, "; ".join(values.wrong[:3]))
        self.must(not bus.grown_bytes(), "the poller's state has grown")
        self.must(values.longest_block_ms() <= most_block_ms, f"more than {most_block_ms} ms between two requests")


def struck_now_and_then(row: Row, seed: int, every: int = 3) -> Callable[[int, int, int], Sequence[Strike]]:
    """Each so-manieth answer of the victim is struck, so that what it is asked next is answered well."""
    asked = 0

    def schedule(number: int, unit_id: int, _address: int) -> Sequence[Strike]:
        nonlocal asked
        if unit_id != VICTIM:
            return ()
        asked += 1
        if asked % every or asked < 4 * every:
            return ()
        return (Strike(row, draw(seed, number, "how"), draw(seed, number, "much")),)

    return schedule


def judge(row: Row, polls: int = POLLS, seed: int = 1) -> Verdict:
    """Run one row, and say whether it holds."""
    verdict = Verdict(f"{row:d} {row.name}")
    _JUDGES.get(row, _retried)(verdict, row, polls, seed)
    return verdict


def _run(verdict: Verdict, row: Row, polls: int, seed: int, most_block_ms: int = _LIVE_BLOCK_MS) -> FaultedBus:
    bus = FaultedBus(struck_now_and_then(row, seed, every=12 if row in _NEVER_QUIET else 3))
    while len(bus.values.samples) < polls:
        bus.run(60_000)
    verdict.add(bus, most_block_ms)
    if row not in _NEVER_QUIET:
        _keeps_silence(verdict, bus)
    return bus


def _keeps_silence(verdict: Verdict, bus: FaultedBus) -> None:
    bits = bus.line.bits_per_char
    silence_us = 3.5e6 * bits / bus.line.baud if bus.line.baud <= 19200 else 1750
    verdict.must(bus.shortest_gap_us() >= silence_us, f"{bus.shortest_gap_us()} us of silence, not {silence_us:.0f}")


def _taken_at_once(verdict: Verdict, row: Row, polls: int, seed: int) -> None:
    """The struck answer is taken, not another one after it."""
    values = _run(verdict, row, polls, seed).values
    verdict.must(set(values.outcomes(VICTIM)) == {modbus.OK}, f"tries ended {dict(values.outcomes(VICTIM))}")
    verdict.must(set(values.states) == {link.POLLING}, "the bus was taken for another master's")


def _retried(verdict: Verdict, row: Row, polls: int, seed: int) -> None:
    """The time-out is bounded, the next poll good, and every damaged answer counted."""
    values = _run(verdict, row, polls, seed).values
    outcomes = values.outcomes(VICTIM)
    failed = sum(times for outcome, times in outcomes.items() if outcome != modbus.OK)
    verdict.must(values.lost() == 0, f"{values.lost()} polls lost, although the next answer is good")
    # The last one may still wait for its second try, with which it is told.
    verdict.must(0 <= values.spoilt - failed <= 1 < failed, f"{values.spoilt} answers damaged, {failed} counted")


def _late(verdict: Verdict, row: Row, polls: int, seed: int) -> None:
    bus = _run(verdict, row, polls, seed, _FULL_BLOCK_MS)
    verdict.must(bus.values.late > 0, "no late reply was noticed")
    verdict.must(bus.values.lost(THIRD) == 0, "another unit's polls were lost")


def _slow(verdict: Verdict, row: Row, polls: int, seed: int) -> None:
    """One unit that is slow all the time, at several speeds, on a bus with room for it."""
    reads = (READS[0], *READS[4:])
    period_ms = 2000
    for much in (0.0, 0.3, 0.6, 1.0):

        def schedule(_number: int, unit_id: int, _address: int, much: float = much) -> Sequence[Strike]:
            return (Strike(row, 0.0, much),) if unit_id == VICTIM else ()

        bus = FaultedBus(schedule, period_ms=period_ms, reads=reads)
        bus.run(polls // 12 * period_ms)
        verdict.add(bus, period_ms + TIMEOUT_MS)
        verdict.must(bus.values.lost() == 0, f"{bus.values.lost()} polls lost of a unit that is in time ({much})")
        verdict.must(bus.poller.overruns == 0, f"{bus.poller.overruns} periods of the others missed")


def _unplugged(verdict: Verdict, row: Row, polls: int, seed: int) -> None:
    """The port is away for up to 10 s, again and again."""
    bus = FaultedBus(lambda _number, _unit_id, _address: ())
    for absence in range(polls // 100):
        bus.run(HEALTHY_MS + int(PERIOD_MS * draw(seed, absence, "phase")))
        asked = len(bus.requests)
        steps, gone_ms = bus.steps, bus.at_us // 1000
        bus.unplug(int(10_000 * draw(seed, absence)))
        while bus.is_unplugged:
            bus.run(100)
        back_ms = bus.at_us // 1000
        turns = (bus.steps - steps) / max(back_ms - gone_ms, 1)
        verdict.must(turns < 0.2, f"{turns:.2f} turns of the loop in a millisecond without a port")
        told = len([1 for sample in bus.values.samples if sample.at_ms > gone_ms])
        verdict.must(back_ms - gone_ms < 3000 or told > 0, "nothing told of a port that is gone")
        asked = len(bus.requests)
        bus.run(_LISTEN_MS - 10)
        verdict.must(len(bus.requests) == asked, "asked before it had listened")
        listened_ms = bus.at_us // 1000 + 10
        bus.run(_PERIODS_TO_GOOD * PERIOD_MS + 10)
        good = {sample.read for sample in bus.good_since(listened_ms)}
        verdict.must(len(good) == len(READS), f"after two periods {len(good)} of {len(READS)} reads are good")
    verdict.add(bus, _LISTEN_MS + PERIOD_MS)
    verdict.must(link.LISTENING in bus.values.states and bus.values.states[-1] == link.POLLING, "not told, or for ever")


def _refused(verdict: Verdict, row: Row, polls: int, seed: int) -> None:
    bus = _run(verdict, row, polls, seed)
    values = bus.values
    refusals = [sample for sample in values.samples if sample.outcome == modbus.EXCEPTION]
    ends_ms = [at_ms for at_ms, _unit_id in values.struck_ms]
    known = [min(sample.at_ms - at_ms for at_ms in ends_ms if at_ms <= sample.at_ms) for sample in refusals]
    verdict.must(bool(refusals) and max(known) <= 1, f"a refusal known {max(known, default=0)} ms after its fifth byte")
    verdict.must({sample.data for sample in refusals} == {bytes((code,)) for code in CODES}, "not every code was told")
    without_crc = len(values.struck_ms) - len(refusals)
    failed = values.outcomes(VICTIM)[modbus.SHORT]
    verdict.must(0 <= without_crc - failed <= 1 < failed, f"{without_crc} refusals without a CRC, {failed} counted")


def _settings(verdict: Verdict, row: Row, polls: int, seed: int) -> None:
    """Every answer of one unit is garbled, in each of the ways; then it is mended."""
    ways = 8
    for way in range(ways):
        wrong = [Strike(row, (way + 0.5) / ways)]

        def schedule(_number: int, unit_id: int, _address: int, wrong: list[Strike] = wrong) -> Sequence[Strike]:
            return wrong if unit_id == VICTIM else ()

        bus = FaultedBus(schedule)
        bus.run(polls * 10)
        values = bus.values
        if values.spoilt:  # some parities leave the data as they are: then the values are right
            mine = [sample for sample in values.samples if READS[sample.read][0] == VICTIM]
            counts = {OUTCOMES[outcome]: times for outcome, times in values.outcomes(VICTIM).items()}
            lately = tuple(OUTCOMES[sample.outcome] for sample in mine[-LATELY:])
            found = troubles.unit_trouble(counts, {}, lately)
            verdict.must(found == troubles.GARBAGE, f"way {way} is told as {found}")
        wrong.clear()
        bus.run(3 * PERIOD_MS)
        verdict.must(values.samples[-1].outcome == modbus.OK, "not mended by right settings")
        verdict.add(bus, _FULL_BLOCK_MS)


def _babbled(verdict: Verdict, row: Row, polls: int, seed: int) -> None:
    values = _run(verdict, row, polls, seed, 1000 + _FULL_BLOCK_MS).values
    counts = {OUTCOMES[outcome]: times for outcome, times in values.outcomes(VICTIM).items()}
    found = troubles.unit_trouble(counts, {}, ())
    verdict.must(found in (troubles.DAMAGED, troubles.GARBAGE), f"told as {found}")
    verdict.must(verdict.first_good_ms <= 10 * PERIOD_MS, f"good again after {verdict.first_good_ms} ms only")


def _held(verdict: Verdict, row: Row, polls: int, seed: int) -> None:
    """Minutes of zeros, minutes of nothing; then the line is free."""
    bus = FaultedBus(lambda _number, _unit_id, _address: (), after_s=0.002)
    bus.run(HEALTHY_MS)
    for kind, hours_ms in (("zeros", polls * 200), ("nothing", polls * 200)):
        bus.is_cut = True
        asked, told, from_ms = len(bus.requests), len(bus.values.samples), bus.at_us // 1000
        while bus.at_us // 1000 < from_ms + hours_ms:
            if kind == "zeros":
                bus.hears((bus.at_us + at * 16 * bus.char_us, bytes(16)) for at in range(1, 61))
            bus.run(60 * 16 * bus.char_us // 1000)
        tries, samples = len(bus.requests) - asked, bus.values.samples[told:]
        periods = hours_ms / PERIOD_MS
        verdict.must({sample.outcome for sample in samples} & {modbus.OK} == set(), f"good values of {kind}")
        verdict.must(len(samples) > periods / 3, f"{len(samples)} failures told in {periods:.0f} periods of {kind}")
        verdict.must(tries < periods * len(READS), f"{tries} requests in {periods:.0f} periods of {kind}: no back-off")
    bus.is_cut = False
    free_ms = bus.at_us // 1000
    bus.run(_PERIODS_TO_GOOD * PERIOD_MS)
    good = {READS[sample.read][0] for sample in bus.good_since(free_ms)}
    verdict.must(good == {VICTIM, NEIGHBOUR, THIRD}, f"after two periods only units {good} are good")
    bus.run(LATE_MS + TIMEOUT_MS)  # reads that look like one whose reply may be late wait for it
    verdict.must(len({sample.read for sample in bus.good_since(free_ms)}) == len(READS), "some reads are not good")
    verdict.add(bus, 1000 + _FULL_BLOCK_MS)
    _run(verdict, row, polls, seed, 1000 + _FULL_BLOCK_MS)


def _too_soon(verdict: Verdict, row: Row, polls: int, seed: int) -> None:
    """Units that answer at once, on lines of every speed; the period is more than any line can carry."""
    for settings in ("1200 8N1", "9600 8E1", "19200 8N1", "19200 8E1", "38400 8N1", "115200 8N1"):
        bus = FaultedBus(lambda _number, _unit_id, _address: (), settings, period_ms=100, after_s=0.0)
        bus.run(polls * 10)
        verdict.add(bus, TIMEOUT_MS + 1000)
        _keeps_silence(verdict, bus)
        verdict.must(bus.values.lost() == 0, "polls lost")


def _wrong_content(verdict: Verdict, row: Row, polls: int, seed: int) -> None:
    values = _run(verdict, row, polls, seed).values
    outcomes = values.outcomes(VICTIM)
    verdict.must(outcomes[modbus.WRONG_REPLY] > 0 and values.flagged > 0, "nothing rejected, or nothing flagged")
    verdict.must(values.lost() == 0, f"{values.lost()} polls lost, although the next answer is good")


_JUDGES: dict[Row, Callable[[Verdict, Row, int, int], None]] = {
    **dict.fromkeys(RECOVERABLE, _taken_at_once),
    Row.LATE: _late,
    Row.SLOW: _slow,
    Row.UNPLUG: _unplugged,
    Row.EXCEPTION: _refused,
    Row.LINE_SETTINGS: _settings,
    Row.BABBLE: _babbled,
    Row.STUCK: _held,
    Row.TOO_SOON: _too_soon,
    Row.WRONG_CONTENT: _wrong_content,
}


# --- mixed --------------------------------------------------------------------------------------------------

MIXED_SHARE = 0.2  # of the answers
_RARE = 500  # so many answers for each port that is pulled out, which costs ten seconds
_MIXED = tuple(row for row in Row if row != Row.UNPLUG)


def mixed_bus(seed: int, rows: Sequence[Row] = _MIXED) -> FaultedBus:
    """A bus whose units all suffer from everything, and whose port is pulled out now and then."""

    def schedule(number: int, _unit_id: int, _address: int) -> Sequence[Strike]:
        if rows is _MIXED and draw(seed, number, "unplug") < 1 / _RARE:
            return (Strike(Row.UNPLUG, 0.0, draw(seed, number, "away")),)
        return mixed(seed, number, MIXED_SHARE, rows)

    return FaultedBus(schedule)


# --- how soon all is well again ----------------------------------------------------------------------------

_NOISE_MS = 12_000  # long enough for every unit to be held for dead


def recoveries(kind: str, times: int, seed: int = 1) -> list[tuple[int, int]]:
    """Milliseconds until every unit, and until every read, is good again; from the end of what `kind` tells.

    "noise": no answer was whole for a while. "replug": the port was away, came back and was listened to.
    """
    wrong: list[Strike] = []
    bus = FaultedBus(lambda _number, _unit_id, _address: wrong)
    took = []
    for episode in range(times):
        bus.run(HEALTHY_MS + int(3 * PERIOD_MS * draw(seed, episode, "phase")))
        if kind == "noise":
            wrong.append(Strike(Row.NOISE, 0.7 + 0.1 * draw(seed, episode, "burst"), 1.0))
            bus.run(_NOISE_MS + int(PERIOD_MS * draw(seed, episode, "end")))
            wrong.clear()
        else:
            bus.unplug(int(10_000 * draw(seed, episode, "away")))
            while bus.is_unplugged:
                bus.run(10)
            bus.run(_LISTEN_MS)
        mended_ms = bus.at_us // 1000
        bus.run(3 * (TIMEOUT_MS + LATE_MS))
        first_ms: dict[int, int] = {}
        for sample in bus.good_since(mended_ms):
            first_ms.setdefault(sample.read, sample.at_ms - mended_ms)
        of_units = {
            unit_id: min(first_ms[read] for read in first_ms if READS[read][0] == unit_id)
            for unit_id in (VICTIM, NEIGHBOUR, THIRD)
        }
        took.append((max(of_units.values()), max(first_ms[read] for read in range(len(READS)))))
    return took


# --- the second master beside them --------------------------------------------------------------------------


def second_master(every_ms: int, lasts_ms: int = 120_000) -> Verdict:
    """Somebody else asks each `every_ms`, of one of our units and in the shape of our own reads, and is answered."""
    verdict = Verdict(f"second master, each {every_ms} ms")
    bus = FaultedBus(lambda _number, _unit_id, _address: ())
    bus.run(HEALTHY_MS)
    from_ms = bus.at_us // 1000 + 7
    asks = range(from_ms, from_ms + lasts_ms, every_ms)
    request = modbus_edge.read_request(VICTIM, 3, 901, 2)
    answer = modbus_edge.read_reply(VICTIM, 3, b"\x12\x34\x00\x00")
    for at_ms in asks:
        bus.hears([(at_ms * 1000, request), (at_ms * 1000 + 18_000, answer)])
    bus.run(lasts_ms + _MASTER_QUIET_MS + 2 * PERIOD_MS)
    quiet_ms = asks[-1] + _MASTER_QUIET_MS
    heard = [at_us // 1000 for at_us, _unit_id, _address in bus.requests]
    # One request may be on the wire while the other's is heard.
    verdict.must(not [at for at in heard if from_ms + 20 <= at < quiet_ms], "asked beside another master")
    verdict.must(any(quiet_ms <= at <= quiet_ms + PERIOD_MS for at in heard), "did not go on a minute after")
    verdict.must(link.OTHER_MASTER in bus.values.states and bus.values.states[-1] == link.POLLING, "not told")
    verdict.add(bus, lasts_ms + _MASTER_QUIET_MS + PERIOD_MS)
    return verdict
