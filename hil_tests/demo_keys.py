"""What each key of the demo breaks, and the one sentence that tells what was done, seen and meant. Shell.

A story is a generator: it breaks something, yields what there is to say so far, is resumed several times a second
and ends with the whole sentence. Must never tell what the bench, the district or the gateway's status did not show.
"""

from collections.abc import Callable, Generator
from gettext import gettext as _

from hil_tests.bench.units import SILENT
from hil_tests.chain import Chain
from protocols.model import has_value

SENSOR = "GD05.gas"
BOARD = "cab2"
NOISY_BUS = "gas-a"
LEAK_PLACE = "pump-house"
LEAK_POINT = "GD07.gas"
LEAK_LEVEL = 25.0  # %LEL; its H in the example sheet

RESTART_S = 2.0  # what a service manager waits before it starts a dead program again
CUT_S = 8.0
OFF_S = 5.0
NOISE_S = 8.0
NOISE = 0.01  # of all bytes have a flipped bit
DAY_MS = 86_400_000
SEEN_WITHIN_S = 40.0

Story = Generator[str, None, bool]  # whether everything showed that should


class Keys:
    """The stories of one running chain, by key."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._is_leaking = False
        self._is_a_day_ahead = False
        self.stories: dict[str, Callable[[], Story]] = {
            "1": self._sensor,
            "2": self._gateway,
            "3": self._platform,
            "4": self._board,
            "5": self._leak,
            "6": self._noise,
            "7": self._clock,
        }

    def _sensor(self) -> Story:
        unit = self._chain.bench.unit(SENSOR)
        name = _asset(SENSOR)
        start_ms = self._disturb()
        if unit.fault is None:
            unit.break_down(SILENT)
            done = _("1: {name} is disconnected; waiting for the district to see it").format(name=name)
            if not (yield from self._until(done, lambda: self._is_invalid_since(SENSOR, start_ms))):
                return False
            yield _(
                "1: {name} disconnected. Invalid at the district after {s:.1f} s: not 0, not the last value. "
                "Check its supply, its address and the A/B wires."
            ).format(name=name, s=self._since_s(start_ms))
        else:
            unit.heal()
            done = _("1: {name} is connected again; waiting for its value").format(name=name)
            if not (yield from self._until(done, lambda: self._is_valid_since(SENSOR, start_ms))):
                return False
            yield _("1: {name} connected again. Its value is back after {s:.1f} s, by itself.").format(
                name=name, s=self._since_s(start_ms)
            )
        return True

    def _gateway(self) -> Story:
        start_ms = self._disturb()
        self._chain.kill_gateway()
        yield from self._wait(_("2: the gateway was killed (kill -9); the boards go on polling"), RESTART_S)
        self._chain.start_gateway()
        done = _("2: the gateway was killed (kill -9) and started again; waiting for what it missed")
        if not (yield from self._until(done, lambda: bool(self._chain.status))):
            return False
        back_ms = self._disturb()
        if not (yield from self._until(done, lambda: self._is_everything_here(back_ms))):
            return False
        yield _(
            "2: the gateway was killed (kill -9) and back after {s:.1f} s. {n} readings of that time came from the "
            "boards' memory, {lost} are lost."
        ).format(s=(back_ms - start_ms) / 1000, n=self._arrived(start_ms, back_ms), lost=self._chain.figures().lost)
        return True

    def _platform(self) -> Story:
        start_ms = self._disturb()
        self._chain.path.cut()
        yield from self._wait(_("3: the way to the platform is cut; the gateway measures and stores"), CUT_S)
        end_ms = self._disturb()
        self._chain.path.restore()
        done = _("3: the way to the platform was cut for {s:.0f} s and is back; the gateway makes up").format(s=CUT_S)
        if not (yield from self._until(done, lambda: self._is_everything_here(end_ms))):
            return False
        yield _(
            "3: the way to the platform was cut for {cut:.0f} s. {n} readings of that time came from the disk, in "
            "{s:.1f} s; {lost} are lost."
        ).format(
            cut=CUT_S,
            n=self._arrived(start_ms, end_ms),
            s=self._since_s(end_ms),
            lost=self._chain.figures().lost,
        )
        return True

    def _board(self) -> Story:
        board = self._chain.bench.boards[BOARD]
        gaps = self._chain.records["gap"]
        self._disturb()
        board.power_off()
        yield from self._wait(_("4: board {board} has no power; its sensors are not asked").format(board=BOARD), OFF_S)
        board.power_on()
        on_ms = self._disturb()
        done = _("4: board {board} has power again; it polls the plan in its flash").format(board=BOARD)
        if not (yield from self._until(done, lambda: self._is_valid_since(LEAK_POINT, on_ms))):
            return False
        s = self._since_s(on_ms)
        if not (yield from self._until(done, lambda: self._chain.records["gap"] > gaps)):
            return False
        yield _(
            "4: board {board} was without power for {off:.0f} s. It knew its plan: first reading {s:.1f} s after. "
            "Where it was blind the district has a gap record, not a line."
        ).format(board=BOARD, off=OFF_S, s=s)
        return True

    def _leak(self) -> Story:
        plant, name = self._chain.bench.plant, _asset(LEAK_POINT)
        start_ms = self._chain.now_ms
        if not self._is_leaking:
            self._is_leaking = True
            plant.leak(LEAK_PLACE, self._chain.bench.now_s())
            done = _("5: gas leaks beside {name}").format(name=name)
            if not (yield from self._until(done, self._is_plant_over)):
                return False
            over_ms = self._chain.now_ms
            if not (yield from self._until(done, self._is_district_over)):
                return False
            yield _(
                "5: gas leaks beside {name}. Past {limit:.0f} %LEL after {s:.1f} s; the district had it {later:.1f} s "
                "later."
            ).format(name=name, limit=LEAK_LEVEL, s=(over_ms - start_ms) / 1000, later=self._since_s(over_ms))
        else:
            self._is_leaking = False
            plant.seal(self._chain.bench.now_s())
            done = _("5: the leak beside {name} is closed; the gas thins out").format(name=name)
            if not (yield from self._until(done, lambda: not self._is_district_over())):
                return False
            yield _("5: the leak beside {name} was closed. Under {limit:.0f} %LEL again after {s:.1f} s.").format(
                name=name, limit=LEAK_LEVEL, s=self._since_s(start_ms)
            )
        return True

    def _noise(self) -> Story:
        line = self._chain.bench.buses[NOISY_BUS].line
        self._disturb()
        damaged = self._chain.damaged
        line.noise = NOISE
        yield from self._wait(_("6: noise on bus {bus}: one byte in a hundred is wrong").format(bus=NOISY_BUS), NOISE_S)
        line.noise = 0.0
        end_ms = self._disturb()
        done = _("6: the noise on bus {bus} is over").format(bus=NOISY_BUS)
        if not (yield from self._until(done, lambda: self._is_everything_here(end_ms))):
            return False
        yield _(
            "6: noise on bus {bus} for {s:.0f} s. {n} exchanges damaged, none believed: each is asked again or "
            "reported invalid; wrong values {wrong}."
        ).format(
            bus=NOISY_BUS,
            s=NOISE_S,
            n=self._chain.damaged - damaged,
            wrong=self._chain.figures().wrong_values,
        )
        return True

    def _clock(self) -> Story:
        days = -1 if self._is_a_day_ahead else 1
        clocks = self._chain.records["clock"]
        start_ms = self._disturb()
        try:
            self._chain.step_clock(days * DAY_MS)
        except OSError as fault:
            yield _("7: the gateway does not answer ({fault}); its clock is as it was").format(fault=fault)
            return False
        self._is_a_day_ahead = not self._is_a_day_ahead
        done = _("7: the gateway's clock jumped by {days:+d} day; the boards' uptimes go on").format(days=days)
        if not (yield from self._until(done, lambda: self._chain.records["clock"] > clocks)):
            return False
        told_ms = self._disturb()
        if not (yield from self._until(done, lambda: self._is_everything_here(told_ms))):
            return False
        figures = self._chain.figures()
        yield _(
            "7: the gateway's clock jumped by {days:+d} day. A clock record told the district after {s:.1f} s; no "
            "time that was sent changed: {lost} lost, {duplicated} twice, {wrong} wrong."
        ).format(
            days=days,
            s=(told_ms - start_ms) / 1000,
            lost=figures.lost,
            duplicated=figures.duplicated,
            wrong=figures.wrong_values,
        )
        return True

    # --- what is done and seen ------------------------------------------------------------------------------

    def _disturb(self) -> int:
        """Tell the ledger; the time."""
        self._chain.disturbed()
        return self._chain.now_ms

    def _since_s(self, start_ms: int) -> float:
        return (self._chain.now_ms - start_ms) / 1000

    def _wait(self, sentence: str, duration_s: float) -> Generator[str, None, None]:
        start_ms = self._chain.now_ms
        while self._since_s(start_ms) < duration_s:
            yield sentence

    def _until(self, sentence: str, is_seen: Callable[[], bool]) -> Story:
        """Go on until it is seen; False, and the sentence says so, when it is not in SEEN_WITHIN_S."""
        start_ms = self._chain.now_ms
        while self._since_s(start_ms) < SEEN_WITHIN_S:
            if is_seen():
                return True
            yield sentence
        yield _("{sentence}: not seen in {s:.0f} s").format(sentence=sentence, s=SEEN_WITHIN_S)
        return False

    def _is_valid_since(self, point: str, since_ms: int) -> bool:
        latest = self._chain.latest.get(point)
        return latest is not None and latest.measured_ms >= since_ms and has_value(latest.status)

    def _is_invalid_since(self, point: str, since_ms: int) -> bool:
        latest = self._chain.latest.get(point)
        return latest is not None and latest.measured_ms >= since_ms and not has_value(latest.status)

    def _is_everything_here(self, since_ms: int) -> bool:
        """Whether the gateway is connected, and nothing that was due up to `since_ms` is on its way."""
        destinations = self._chain.status.get("destinations", [])
        connected = bool(destinations) and all(each["connected"] for each in destinations)
        missing = self._chain.bench.ledger.missing(self._chain.now_ms, 0)
        return connected and not any(poll.utc_ms <= since_ms for poll in missing)

    def _arrived(self, from_ms: int, to_ms: int) -> int:
        return sum(from_ms <= measured_ms <= to_ms for measured_ms in self._chain.arrivals)

    def _is_plant_over(self) -> bool:
        bench = self._chain.bench
        return bench.plant.value(LEAK_POINT, bench.now_s()) >= LEAK_LEVEL

    def _is_district_over(self) -> bool:
        value = self._chain.latest[LEAK_POINT].value
        return value is not None and value >= LEAK_LEVEL


def _asset(point: str) -> str:
    return point.partition(".")[0]
