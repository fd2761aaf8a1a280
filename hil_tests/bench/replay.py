"""`python -m hil_tests.bench.replay FILE --port PORT`: a recorded line, played on a port. Shell.

Owns the port and the clock; player.py says what is due. Without `--port` it makes a pseudo-terminal and says its path.
Ctrl-C ends it: units do not leave a line when they have nothing more to say.
"""

import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click
import serial

from hil_tests.bench.player import MATCHED, TIMED, Pace, Player, both_sides
from hil_tests.bench.pty_port import PtyPort
from protocols import trace
from protocols.model import Line
from protocols.trace import ERRORS, Frame

LISTEN = "listen"
_IDLE_S = 0.5
_NEXT = "any key for the next one"


class AdapterPort:
    """A real serial port, with the interface of a PtyPort."""

    def __init__(self, path: str, line: Line) -> None:
        self.path = path
        self._port = serial.Serial(path, line.baud, line.data_bits, line.parity, line.stop_bits, timeout=0)

    def fileno(self) -> int:
        """What to select on."""
        return int(self._port.fileno())

    def read(self) -> bytes:
        """What has come."""
        return bytes(self._port.read(4096))

    def write(self, data: bytes) -> None:
        """Put it on the line."""
        self._port.write(data)

    def close(self) -> None:
        """Give the port back."""
        self._port.close()


Port = PtyPort | AdapterPort


def answer(port: Port, player: Player, *, steps: bool) -> None:
    """Be the recorded units for ever; silent ones, when everything was said."""
    while True:
        due_s = player.due_s()
        wait_s = _IDLE_S if due_s is None else min(max(due_s - time.monotonic(), 0), _IDLE_S)
        if select.select([port.fileno()], [], [], wait_s)[0]:
            player.heard(port.read(), time.monotonic())
        due_s = player.due_s()
        if due_s is not None and (steps or due_s <= time.monotonic()):
            if steps:
                click.pause(_NEXT, err=True)
            port.write(player.deliver(max(due_s, time.monotonic())))


def talk(port: Port, frames: Sequence[Frame], pace: Pace, *, loops: bool, steps: bool) -> None:
    """Put both sides on the line, once or for ever; on a pseudo-terminal each frame when its last byte would come."""
    takes_time = isinstance(port, PtyPort)
    while True:
        start_s = time.monotonic()
        for at_s, frame in both_sides(frames, pace):
            if steps:
                click.pause(_NEXT, err=True)
            else:
                span_s = (frame.last_us - frame.first_us) / 1e6 / pace.speed if takes_time else 0.0
                time.sleep(max(start_s + at_s + span_s - time.monotonic(), 0))
            port.write(frame.data)
        if not loops:
            return


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.option("--port", "path", help="Serial port to play on; otherwise a new pseudo-terminal, whose path is printed.")
@click.option("--mode", type=click.Choice([TIMED, MATCHED, LISTEN]), default=TIMED, show_default=True)
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, help="2 is twice as fast.")
@click.option("--max-gap", type=click.FloatRange(min=0), default=float("inf"), help="Longest silence, in seconds.")
@click.option("--loop", "loops", is_flag=True, help="Begin again at the end.")
@click.option("--step", "steps", is_flag=True, help="Wait for a key before each reply (listen: before each frame).")
@click.option("--interface", type=click.IntRange(min=0), default=0, help="Which of the capture's ports.")
def main(
    file: Path, path: str | None, mode: str, speed: float, max_gap: float, loops: bool, steps: bool, interface: int
) -> None:
    """Play a recorded line: its units answer a master's requests (timed: as late as recorded; matched: at once), or
    both sides talk to a listener (listen)."""
    try:
        capture = trace.read(file.read_bytes())
    except ValueError as error:
        raise click.UsageError(f"{file}: {error}") from error
    if interface >= len(capture.ports) or (line := capture.ports[interface].line) is None:
        settings = [f"{i}: {port.name} {port.line}" for i, port in enumerate(capture.ports)]
        raise click.UsageError(f"{file}: port {interface} with its line settings is not among {settings}")
    frames = [frame for frame in capture.frames if frame.port == interface and frame.event not in ERRORS]
    pace = Pace(speed, max_gap)
    with closing(PtyPort() if path is None else AdapterPort(path, line)) as port:
        click.echo(port.path)
        sys.stdout.flush()
        if mode == LISTEN:
            talk(port, frames, pace, loops=loops, steps=steps)
            signal.pause()  # what nobody has read yet goes with the port
        else:
            name = capture.ports[interface].name
            answer(port, Player(name, line, frames, mode, pace, loops=loops, is_wire=path is not None), steps=steps)


if __name__ == "__main__":
    main()
