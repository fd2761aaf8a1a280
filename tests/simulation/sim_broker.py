"""A broker and the district behind it on the fake clock: what is published is acknowledged, kept, handed on. Policy.

A broker that is restarted closes its connections; what it has acknowledged it keeps. What it was sent and has not
acknowledged may have arrived or not.
"""

from collections.abc import Callable
from random import Random

from tests.simulation.parts import Time

Key = tuple[str, str, int]


class Broker:
    """One gateway publishes; `received` has every message as it came, in order, doubles and all."""

    def __init__(self, time: Time, chance: Random) -> None:
        self.received: list[tuple[Key, bytes]] = []
        self.is_up = True
        self._time = time
        self._chance = chance
        self._connection = 0
        self._count = 0
        self._arrival_us = 0
        self._acknowledge: Callable[[Key, int], None]
        self._lost: Callable[[], None]

    def connect(self, acknowledge: Callable[[Key, int], None], lost: Callable[[], None]) -> int:
        """The number of a connection; 0 where nobody answers."""
        if not self.is_up:
            return 0
        self._count += 1
        self._connection = self._count
        self._acknowledge, self._lost = acknowledge, lost
        return self._connection

    def closed(self, connection: int) -> None:
        """The gateway has left, or was switched off."""
        if connection == self._connection:
            self._connection = 0

    def publish(self, connection: int, key: Key, payload: bytes) -> None:
        """On its way: it arrives after a while, behind what was sent before, and its acknowledgement after another."""
        self._arrival_us = max(self._arrival_us, self._time.now_us + self._chance.randrange(1000, 80_000))
        self._time.at(self._arrival_us, lambda: self._arrives(connection, key, payload))

    def down(self) -> None:
        """Out of reach, or stopped: the gateway notices at once."""
        self.is_up = False
        if self._connection:
            self._connection = 0
            self._lost()

    def up(self) -> None:
        """Back."""
        self.is_up = True

    def _arrives(self, connection: int, key: Key, payload: bytes) -> None:
        if connection != self._connection:
            return
        self.received.append((key, payload))
        self._time.after(self._chance.uniform(1000, 80_000), lambda: self._answers(connection, key))

    def _answers(self, connection: int, key: Key) -> None:
        if connection == self._connection:
            self._acknowledge(key, 0)
