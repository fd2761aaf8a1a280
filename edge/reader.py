"""The reading thread: what the deciding thread wants to know of the store while the gateway runs. Shell.

Owns what was asked for. Each `ask` has one answer, which `answer` gives in the deciding thread: what was read, or the
StoreFault that came of it. A disk that has not answered for SLOW_S is one as well, and `is_gone` says so, as it does
for a while after any. Must never hold up the deciding thread or the writing one.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from edge.store import DamagedMessage, StoreFault
from edge.writer import RETRY_S, SLOW_S, no_answer

Take = Callable[[Any, float], None]  # what was read or a StoreFault; now


@dataclass(slots=True, eq=False)
class _Asked:
    read: Callable[[], Any]
    take: Take
    is_answered: bool = False


class Reader(threading.Thread):
    """`wake` is the writing end of a pipe."""

    def __init__(self, wake: int) -> None:
        super().__init__(name="reader", daemon=True)
        self._wake = wake
        self._to_read: SimpleQueue[_Asked | None] = SimpleQueue()
        self._has_read: deque[tuple[_Asked, Any]] = deque()
        self._waiting: deque[_Asked] = deque()  # as the deciding thread knows it, in the order of asking
        self._busy_since_s: float | None = None
        self._fault: tuple[float, str] | None = None  # when the newest was met

    # --- the deciding thread --------------------------------------------------------------------------------

    def ask(self, read: Callable[[], Any], take: Take) -> None:
        """`read` is called in the reading thread, `take` by `answer`; in the order of asking."""
        asked = _Asked(read, take)
        self._waiting.append(asked)
        self._to_read.put(asked)

    def answer(self, now_s: float) -> None:
        """What was read; where the disk does not answer, that, to all who wait."""
        while self._has_read:
            self._give(*self._has_read.popleft(), now_s)
        while self._waiting and self._is_slow(now_s):
            self._give(self._waiting[0], StoreFault(no_answer()), now_s)

    def _give(self, asked: _Asked, found: Any, now_s: float) -> None:
        if not asked.is_answered:
            asked.is_answered = True
            self._waiting.remove(asked)
            asked.take(found, now_s)

    def is_gone(self, now_s: float) -> bool:
        """Whether nothing can be read at present."""
        return self._is_slow(now_s) or (self._fault is not None and now_s < self._fault[0] + RETRY_S)

    def _is_slow(self, now_s: float) -> bool:
        busy_since_s = self._busy_since_s
        return busy_since_s is not None and now_s - busy_since_s > SLOW_S

    def why(self, now_s: float) -> str:
        """Why nothing can be read."""
        return no_answer() if self._fault is None or self._is_slow(now_s) else self._fault[1]

    def stop(self) -> bool:
        """What is being read is waited for SLOW_S. Whether the store may be closed."""
        self._to_read.put(None)
        self.join(SLOW_S)
        return not self.is_alive()

    # --- the reading thread ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Read until stopped."""
        while (asked := self._to_read.get()) is not None:
            self.read(asked)

    def read(self, asked: _Asked) -> None:
        """What was asked for, if somebody still waits for it."""
        if asked.is_answered:
            return
        self._busy_since_s = time.monotonic()
        try:
            found = asked.read()
        except StoreFault as fault:
            found = fault
            if not isinstance(fault, DamagedMessage):
                self._fault = time.monotonic(), str(fault)
        self._busy_since_s = None
        self._has_read.append((asked, found))
        with suppress(BlockingIOError):  # the pipe is full: that thread is being woken already
            os.write(self._wake, b"r")
