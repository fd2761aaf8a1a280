"""Sensors, a gateway, a broker and a receiver: what every figure of a whole gateway is measured on. Shell."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from tests.figures import tankgate, thingsboard
from tests.figures.broker import Broker
from tests.figures.load import Load
from tests.figures.receiver import Receiver
from tests.figures.sensors import Sensors

_FIRST_S = 60.0
_BATCH_S = 10.0
_LAST_WORDS = 600  # characters of each log


class Gateway(Protocol):
    """What the chain needs of a gateway; the first of `pids` is the gateway itself."""

    @property
    def pids(self) -> tuple[int, ...]: ...

    def close(self) -> None: ...


class Chain:
    """One gateway at work, from `with` to its end; entered once the first reading has come through."""

    def __init__(self, topic: str, readings: Callable[[Any], Any], start: Callable[[Path, int, Path], Gateway]) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="figures-")
        self._topic = topic
        self._parse = readings
        self._start = start

    def __enter__(self) -> "Chain":
        directory = Path(self._directory.name)
        self._broker = Broker(directory)
        self.sensors = Sensors(directory)
        self.receiver = Receiver(self._broker.port, self._topic, self._parse)
        self.gateway = self._start(directory / "gateway", self._broker.port, self.sensors.port)
        try:
            self.next_message_ns(_FIRST_S)
        except TimeoutError as fault:
            said = "\n".join(log.read_text()[-_LAST_WORDS:] for log in sorted(directory.rglob("*.log")))
            self.__exit__(None, None, None)
            raise TimeoutError(f"{fault}:\n{said}") from None
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _fault: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.gateway.close()
        self.receiver.close()
        self.sensors.close()
        try:
            self._broker.close()
        finally:
            self._directory.cleanup()

    def next_message_ns(self, within_s: float = _BATCH_S) -> int:
        """Wait until more readings come; the moment after. A window between two of these cuts no batch in two."""
        had = len(self.receiver.received)
        deadline_s = time.monotonic() + within_s
        while len(self.receiver.received) == had:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{self._topic}: no readings in {within_s} s")
            time.sleep(0.002)
        time.sleep(0.02)  # the rest of a burst
        return time.monotonic_ns()


def ours(load: Load, urgent: bool = False) -> Chain:
    """tankgate under this load."""
    return Chain(
        tankgate.TOPIC,
        tankgate.readings,
        lambda directory, broker_port, port: tankgate.Tankgate(directory, broker_port, port, load, urgent),
    )


def theirs(load: Load) -> Chain:
    """thingsboard-gateway under this load."""
    return Chain(
        thingsboard.TOPIC,
        thingsboard.readings,
        lambda directory, broker_port, port: thingsboard.ThingsBoard(directory, broker_port, port, load),
    )
