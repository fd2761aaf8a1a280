"""How long a reading keeps the line busy, beside how long the peer's does. Shell.

bus_seconds_vs_thingsboard: ten units of ten tags, each one register, once a second. The sensors count the requests that
they answered and every character that went either way, retries and all; at 9600 8N1 a character takes 10 bits, and
each request comes with two silences of 3.5 characters (MODBUS over Serial Line V1.02, 2.5.1). Divided by the values
that were served in the same window, and by the same of thingsboard-gateway. How soon a unit answers is left out: it
would come on top of each request, ours and theirs. Counts do not vary: one window each.
"""

import time

from protocols.profile import SILENCE_CHARS
from tests.figures import thingsboard
from tests.figures.chain import Chain, ours, theirs
from tests.figures.figure import Measured
from tests.figures.load import Load

_CHAR_S = 10 / 9600
_SETTLE_S = 6.0
_WINDOW_S = 20.0


def ten_tags() -> Measured:
    """bus_seconds_vs_thingsboard."""
    thingsboard.install()
    load = Load(units=10, registers=10, period_ms=1000)
    our_s, our_said = _measure(ours(load), load)
    their_s, their_said = _measure(theirs(load), load)
    return Measured(round(our_s / their_s, 4), f"ours {our_said}; theirs {their_said}")


def _measure(chain: Chain, load: Load) -> tuple[float, str]:
    """Seconds of the line a reading, and what they are made of."""
    with chain:
        time.sleep(_SETTLE_S)
        before = *chain.sensors.line(), chain.sensors.served(load.units, load.registers)
        time.sleep(_WINDOW_S)
        after = *chain.sensors.line(), chain.sensors.served(load.units, load.registers)
    requests, chars, readings = (now - was for now, was in zip(after, before, strict=True))
    if not readings:
        raise OSError(f"no readings in {_WINDOW_S} s")
    bus_s = (chars + SILENCE_CHARS * requests) * _CHAR_S / readings
    return bus_s, f"{bus_s * 1000:.2f} ms a reading ({requests} requests, {chars} characters, {readings} readings)"
