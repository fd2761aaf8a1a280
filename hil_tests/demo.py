"""The bench with a face: the whole chain on this machine, one screen, and keys that break it. Shell.

Owns the terminal, the times at which things are drawn, and the figures at the end. Everything that the screen says
comes from the bench, from the district's side, or from the gateway's status, each a program of its own. Must never
write to stdout but the screen, its lines, or the one JSON object.
"""

import contextlib
import csv
import gettext
import json
import os
import re
import select
import shutil
import signal
import sys
import tempfile
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from gettext import gettext as _
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console, Group
from rich.live import Live

from hil_tests.bench.board import interpreter, interpreter_name
from hil_tests.bench.ledger import Figures
from hil_tests.bench.plant import TANKS
from hil_tests.chain import SITE, Chain
from hil_tests.demo_keys import Keys, Story
from hil_tests.demo_screen import Hop, Row, View, balanced, lines, plain
from protocols import model

LOCALE = Path(__file__).parents[1] / "edge" / "locale"
STEP_S = 0.1  # how long a key may have to wait
DRAW_S = 0.5
LINE_S = 1.0
START_S = 60.0  # for the first readings to be at the district
SETTLE_S = 10.0  # how long the end waits for what is due
UNREACHABLE = 3
INTERRUPTED = 130  # what a shell gives for Ctrl-C

# When --script presses what; it ends when every story has ended.
SCRIPT = ((2, "1"), (6, "1"), (9, "2"), (16, "3"), (30, "4"), (40, "5"), (52, "5"), (54, "6"), (64, "7"))
SCRIPT_S = 66.0


@dataclass(slots=True)
class Told:
    """One story: its key, when it began, how far it is told, and the rest of it."""

    key: str
    at: str
    text: str
    story: Story | None


class Demo:
    """What the screen shows of a running chain, and what the keys have started."""

    def __init__(self, chain: Chain, report: Callable[[str], None]) -> None:
        self._chain = chain
        self._report = report  # is given each story that has come to its end
        self._keys = Keys(chain)
        self._limits = limits((SITE / "points.csv").read_text(encoding="utf-8"))
        self._interpreter = interpreter_name()
        self._start_s = time.monotonic()
        self._told: deque[Told] = deque(maxlen=20)
        if unproven := unproven_profiles(chain.birth or {}):
            text = _("unproven profiles: {profiles} (no source prints an example to check them by)")
            self._told.append(Told("", now_text(), text.format(profiles=", ".join(unproven)), None))
        self.unseen = 0  # stories that did not show what they should
        self.paused = False
        self.expanded = False

    @property
    def elapsed_s(self) -> float:
        """Since the first screen."""
        return time.monotonic() - self._start_s

    @property
    def has_open_stories(self) -> bool:
        """Whether something broken is not yet told to its end."""
        return any(told.story is not None for told in self._told)

    def press(self, key: str) -> None:
        """What a key does; q is the caller's. A key whose story is still going on does nothing."""
        if key in self._keys.stories:
            if any(told.key == key and told.story is not None for told in self._told):
                return
            self._told.appendleft(Told(key, now_text(), "", self._keys.stories[key]()))
        elif key == " ":
            self.paused = not self.paused
        elif key in ("up", "down"):
            self.expanded = key == "down"

    def tick(self) -> None:
        """Let the chain work for a moment and tell the stories on. OSError where a process is gone."""
        self._chain.step(STEP_S)
        refuse_the_dead(self._chain)
        for told in self._told:
            if told.story is None:
                continue
            try:
                told.text = next(told.story)
            except StopIteration as end:
                told.story = None
                self.unseen += not end.value
                self._report(f"{told.at} {told.text}")

    def view(self) -> View:
        """Everything on the screen, now."""
        birth = self._chain.birth
        assert birth is not None
        rows = {point["point"]: self._row(point) for point in birth["points"]}
        return View(
            site=birth["site"]["name"],
            gateway=birth["gateway"],
            elapsed_s=int(self.elapsed_s),
            hops=self._hops(len(rows)),
            figures=self._chain.figures(),
            tanks=tuple(row for point, row in rows.items() if point.endswith(".level")),
            gases=tuple(row for point, row in rows.items() if point.endswith(".gas")),
            events=tuple(f"{told.at} {told.text}" for told in self._told),
            paused=self.paused,
            expanded=self.expanded,
        )

    def _row(self, point: dict[str, Any]) -> Row:
        bench, name = self._chain.bench, point["point"]
        asset, _dot, quantity = name.partition(".")
        now_s = bench.now_s()
        truth = bench.plant.value(name, now_s)
        latest = self._chain.latest.get(name)
        known_limits = self._limits[name]
        direction = bench.plant.direction(asset, now_s) if quantity == "level" else 0
        doing = {1: _("filling"), 0: _("still"), -1: _("emptying")}[direction] if quantity == "level" else ""
        to_go = dict(known_limits).get("HH", truth) - truth
        return Row(
            name=f"{asset} {point['medium'] if quantity == 'level' else point['area']}",
            unit_text=point["unit_text"],
            decimals=point["decimals"],
            range_low=point["range"][0],
            range_high=point["range"][1],
            limits=known_limits,
            truth=truth,
            received=latest.value if latest else None,
            status=latest.status if latest else model.NEVER_READ,
            age_ms=max(0, self._chain.now_ms - latest.measured_ms) if latest else None,
            state=doing,
            to_high_high_s=to_go / TANKS[asset].rate_m_s if direction > 0 and to_go > 0 else None,
        )

    def _hops(self, points: int) -> tuple[Hop, ...]:
        status, figures = self._chain.status, self._chain.figures()
        boards = status.get("boards", [])
        ring = max((each["ring_used_pct"] or 0 for each in boards), default=0)
        unacknowledged = sum(each["backlog_messages"] for each in status.get("destinations", []))
        names = " ".join(self._chain.bench.boards)
        received = figures.received + figures.extra
        return (
            Hop(
                _("{n} points").format(n=points),
                _("sim. RS-485"),
                _("answered {n}").format(n=self._chain.answered),
            ),
            Hop(_("board {names}").format(names=names), self._interpreter, _("in ring {n} %").format(n=ring)),
            Hop(_("gateway"), _("to readings"), _("to commit {n}").format(n=status.get("to_commit", "—"))),
            Hop(_("disk"), "SQLite", _("stored {n}").format(n=self._chain.stored)),
            Hop("MQTT 5", "iotcore", _("in flight {n}").format(n=unacknowledged)),
            Hop(_("district"), _("dedup"), _("received {n}").format(n=received)),
        )


def now_text() -> str:
    """The time of day, as it stands before a line of the log."""
    return f"{datetime.now().astimezone():%H:%M:%S}"


def unproven_profiles(birth: Mapping[str, Any]) -> list[str]:
    """The profiles that the gateway itself calls unproven."""
    sources = [point["source"] for point in birth.get("points", [])]
    return sorted({source["profile"].partition("@")[0] for source in sources if not source["proven"]})


def limits(points_csv: str) -> dict[str, tuple[tuple[str, float], ...]]:
    """Point -> its limits, as the site's own sheet has them: for the marks on the bars."""
    heading, *rows = csv.reader(points_csv.removeprefix("\ufeff").splitlines())
    names = [name.split()[-1] for name in heading]
    sheet = [dict(zip(names, row, strict=True)) for row in rows if row]
    kinds = ("LL", "L", "H", "HH", "CH")
    return {row["point"]: tuple((kind, float(row[kind])) for kind in kinds if row[kind]) for row in sheet}


# --- the terminal -------------------------------------------------------------------------------------------

ARROWS = {"\x1b[A": "up", "\x1b[B": "down"}


@contextlib.contextmanager
def raw_keys() -> Iterator[Callable[[], list[str]]]:
    """Gives what was pressed since it was last asked; the terminal is put back in order however this ends."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def pressed() -> list[str]:
        if not select.select([terminal], [], [], 0)[0]:
            return []
        text = os.read(terminal, 64).decode(errors="replace")
        return [ARROWS.get(key, key) for key in re.findall(r"\x1b\[.|.", text)]

    try:
        tty.setcbreak(terminal)
        yield pressed
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def watch(
    demo: Demo,
    seconds: float | None,
    script: Sequence[tuple[int, str]],
    pressed: Callable[[], list[str]],
    show: Callable[[View], None],
    show_each_s: float,
) -> None:
    """Until q, or until `seconds` are over and every story has ended."""
    to_press = deque(script)
    show_s = 0.0
    while seconds is None or demo.elapsed_s < seconds or demo.has_open_stories:
        demo.tick()
        keys = pressed()
        while to_press and to_press[0][0] <= demo.elapsed_s:
            keys.append(to_press.popleft()[1])
        for key in keys:
            if key == "q":
                return
            demo.press(key)
        if keys or (not demo.paused and demo.elapsed_s >= show_s):
            show_s = demo.elapsed_s + show_each_s
            show(demo.view())


def draw(demo: Demo, seconds: float | None, script: Sequence[tuple[int, str]]) -> None:
    """On the terminal's other screen, with its keys."""
    console = Console()
    with raw_keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:

        def show(view: View) -> None:
            live.update(Group(*lines(view, console.width, console.height)), refresh=True)

        watch(demo, seconds, script, pressed, show, DRAW_S)


# --- from the start to the figures --------------------------------------------------------------------------


def start(chain: Chain) -> None:
    """Start everything and wait for the first readings at the district; OSError where they do not come."""
    parts = (
        (_("broker"), chain.start_broker),
        (_("district's receiver"), chain.start_district),
        (_("boards and sensors"), chain.start_boards),
        (_("gateway"), chain.start_gateway),
    )
    start_s = time.monotonic()
    for name, start_part in parts:
        start_part()
        text = _("{s:4.1f} s  {part}: started").format(s=time.monotonic() - start_s, part=name)
        click.echo(text, err=True)
    while chain.birth is None or not chain.latest:
        chain.step(STEP_S)
        refuse_the_dead(chain)
        if time.monotonic() - start_s > START_S:
            raise OSError(
                _("no reading reached the district in {s:.0f} s. The gateway's last words: {log}").format(
                    s=START_S, log=last_words(chain.log("gateway"))
                )
            )
    click.echo(_("{s:4.1f} s  first readings at the district").format(s=time.monotonic() - start_s), err=True)


def refuse_the_dead(chain: Chain) -> None:
    """OSError where a process has ended by itself."""
    if (name := chain.ended()) is not None:
        raise OSError(_("{name} ended by itself: {log}").format(name=name, log=last_words(chain.log(name))))


def last_words(log: Path) -> str:
    """The end of a log."""
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]


def settle(chain: Chain) -> Figures:
    """Stop measuring and wait, for SETTLE_S at most, until what is due is there; what then is missing is lost."""
    chain.silence()
    end_s = time.monotonic() + SETTLE_S
    while chain.figures().in_flight and time.monotonic() < end_s:
        chain.step(STEP_S)
    return chain.figures(patience_ms=0)


def as_json(figures: Figures) -> str:
    """The one object of --json."""
    heap = next((word.removeprefix("heapsize=") for word in interpreter() if word.startswith("heapsize=")), None)
    return json.dumps(
        {
            "readings_sampled": figures.sampled,
            "readings_due": figures.due,
            "readings_received": figures.received,
            "in_gaps": figures.admitted,
            "lost": figures.lost,
            "duplicated": figures.duplicated,
            "wrong_values": figures.wrong_values,
            "p50_ms": figures.p50_ms,
            "p99_ms": figures.p99_ms,
            "board": {"interpreter": interpreter_name(), "heap": heap},
        }
    )


def run(chain: Chain, seconds: int | None, wants_json: bool, wants_script: bool) -> int:
    """The demo on a chain that is not yet started; the exit code."""
    start(chain)
    script = SCRIPT if wants_script else ()
    duration_s = SCRIPT_S if seconds is None and wants_script else seconds
    is_drawn = not wants_json and sys.stdin.isatty() and sys.stdout.isatty()
    demo = Demo(chain, lambda text: None if is_drawn else click.echo(text, err=wants_json))
    if is_drawn:
        draw(demo, duration_s, script)
    else:
        watch(
            demo,
            duration_s,
            script,
            pressed=list,
            show=lambda view: None if wants_json else click.echo(plain(view)),
            show_each_s=LINE_S,
        )
    if duration_s is None:  # somebody pressed q, and need not wait
        click.echo(plain(demo.view()))
        return 0
    figures = settle(chain)
    click.echo(as_json(figures) if wants_json else plain(demo.view()))
    for finding in chain.bench.ledger.findings:
        click.echo(finding, err=True)
    return 0 if balanced(figures) and figures.received and not demo.unseen else 1


@click.command()
@click.option("--seconds", type=int)
@click.option("--json", "wants_json", is_flag=True)
@click.option("--script", "wants_script", is_flag=True)
def main(seconds: int | None, wants_json: bool, wants_script: bool) -> None:
    """What `tankgate demo` starts; its options are described there."""
    gettext.bindtextdomain("tankgate", os.environ.get("TEXTDOMAINDIR", str(LOCALE)))
    gettext.textdomain("tankgate")
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    directory = Path(tempfile.mkdtemp(prefix="tankgate-demo-"))
    chain = Chain(directory)
    code = 1
    try:
        code = run(chain, seconds, wants_json, wants_script)
    except OSError as fault:
        click.echo(str(fault), err=True)
        code = UNREACHABLE
    except KeyboardInterrupt:
        code = 0 if seconds is None and not wants_script else INTERRUPTED
    finally:
        chain.close()
        if code not in (0, INTERRUPTED):
            click.echo(_("logs: {directory}").format(directory=directory), err=True)
        else:
            shutil.rmtree(directory)
    sys.exit(code)


def stop(signal_number: int, frame: object) -> NoReturn:
    """A signal ends the demo the way q does: everything that was started is stopped."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
