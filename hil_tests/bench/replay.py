"""`python -m hil_tests.bench.replay FILE --port PORT`: a recorded line, played on a port. Shell.

Owns the port and the clock; player.py says what is due. Without `--port` it makes a pseudo-terminal and says its path.
Ctrl-C ends it: units do not leave a line when they have nothing more to say. Both sides begin to talk on a
pseudo-terminal when somebody has opened it: before, nobody would hear them.
"""

import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from hil_tests.bench.adapter_port import AdapterPort
from hil_tests.bench.player import MATCHED, TIMED, Pace, Player, both_sides
from hil_tests.bench.pty_port import Port, PtyPort
from protocols import trace
from protocols.model import Line
from protocols.trace import ERRORS, Frame

LISTEN = "listen"
_IDLE_S = 0.5
_SETTLE_S = 1.0  # who has opened a port sets and flushes it a moment later; that cannot be observed
_NEXT = "Enter: the next one"
UNREACHABLE = 3
BUSY = 4


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
                _await_enter()
            port.write(player.deliver(max(due_s, time.monotonic())))


def talk(port: Port, frames: Sequence[Frame], pace: Pace, *, loops: bool, steps: bool) -> None:
    """Put both sides on the line, once or for ever; on a pseudo-terminal each frame when its last byte would come."""
    takes_time = isinstance(port, PtyPort)
    while True:
        start_s = time.monotonic()
        for at_s, frame in both_sides(frames, pace):
            if steps:
                _await_enter()
            else:
                span_s = (frame.last_us - frame.first_us) / 1e6 / pace.speed if takes_time else 0.0
                time.sleep(max(start_s + at_s + span_s - time.monotonic(), 0))
            port.write(frame.data)
        if not loops:
            return


def _await_enter() -> None:
    """EOFError where nobody will press it any more."""
    click.echo(_NEXT, err=True)
    input()


def _open(path: str | None, line: Line) -> Port:
    """The port, which the end of the process closes; without one that can be opened it ends: UNREACHABLE, BUSY."""
    if path is None:
        return PtyPort()
    try:
        port = AdapterPort(path, "the adapter on the line")
        port.set_line(line)
    except OSError as fault:
        click.echo(str(fault), err=True)
        sys.exit(BUSY if isinstance(fault, BlockingIOError) else UNREACHABLE)
    return port


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--port", "path", help="Serial port to play on; otherwise a new pseudo-terminal, whose path is printed.")
@click.option("--mode", type=click.Choice([TIMED, MATCHED, LISTEN]), default=TIMED, show_default=True)
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, help="2 is twice as fast.")
@click.option("--max-gap", type=click.FloatRange(min=0), default=float("inf"), help="Longest silence, in seconds.")
@click.option("--loop", "loops", is_flag=True, help="Begin again at the end.")
@click.option("--step", "steps", is_flag=True, help="Wait for Enter before each reply (listen: before each frame).")
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
        known = [f"{i} ({port.name}, {port.line or 'no line settings'})" for i, port in enumerate(capture.ports)]
        raise click.UsageError(
            f"{file}: --interface {interface}: allowed is a port whose line settings are known; there are: "
            f"{', '.join(known) or '-'}. Make the capture again by `tankgate trace convert … --line \"9600 8N1\"`."
        )
    frames = [frame for frame in capture.frames if frame.port == interface and frame.event not in ERRORS]
    if not frames:
        raise click.UsageError(f"{file}: --interface {interface}: no frames")
    pace = Pace(speed, max_gap)
    port = _open(path, line)
    click.echo(port.path)
    sys.stdout.flush()
    try:
        if mode == LISTEN:
            if isinstance(port, PtyPort):
                port.await_opener()
                time.sleep(_SETTLE_S)
            talk(port, frames, pace, loops=loops, steps=steps)
            signal.pause()  # what nobody has read yet goes with the port
        else:
            name = capture.ports[interface].name
            answer(port, Player(name, line, frames, mode, pace, loops=loops, is_wire=path is not None), steps=steps)
    except (KeyboardInterrupt, EOFError):
        pass  # how one ends it
    except OSError as fault:
        click.echo(f"{port.path}: lost ({fault.strerror}). Plug it in, and start again.", err=True)
        sys.exit(UNREACHABLE)


if __name__ == "__main__":
    main()
