# ruff: noqa: T201
"""Runs the board's program until 10,000 polls are done and prints what its locked loop allocated. Shell.

Imported, it runs: main.py as it lies in flash, its loop held between two readings of the heap's meter, collection off.
"""

import gc

import main
import surroundings

import board

_loop = main.loop


class Done(Exception):
    """Enough was polled."""


DONE = Done()  # the heap is locked when it is raised, and main unlocks it


class Watched:
    """The link's port, which also says to leave the loop when enough was polled; and what was counted so far."""

    lost = True  # so that the loop asks at each turn

    def __init__(self):
        self.port = None
        self.pollers = ()
        self.allocated_bytes = 0

    def polls(self):
        """Polls so far, of all buses."""
        total = 0
        i = 0
        while i < len(self.pollers):
            total += self.pollers[i].polls
            i += 1
        return total

    def wants_reopening(self, now_ms):
        """The port's own word, or enough was polled."""
        return self.port.wants_reopening(now_ms) or self.polls() >= surroundings.POLLS

    def read(self, buf):
        """As the port."""
        return self.port.read(buf)

    def write(self, buf, count):
        """As the port."""
        self.port.write(buf, count)


watched = Watched()


def loop(pollers, ports, board_end, link_port, uptime, rx, wired):
    """The loop, between two readings of the meter. Called under the locked heap."""
    watched.port = link_port
    watched.pollers = pollers
    before = gc.mem_alloc()
    reason = _loop(pollers, ports, board_end, watched, uptime, rx, wired)
    watched.allocated_bytes += gc.mem_alloc() - before
    if watched.polls() >= surroundings.POLLS:
        raise DONE
    return reason


gc.disable()
main.loop = loop
try:
    main.main()
except Done:
    pass
print("allocated", watched.allocated_bytes, "polls", watched.polls())
if hasattr(board, "edge"):  # in memory; beside terminals whoever holds them knows
    print("outcomes", *board.edge.outcomes, board.edge.lost)
