"""`make simulate SEEDS=200 HOURS=6`: so many lives of the whole chain, each judged. Shell.

Two processes. Prints each seed that failed, with what chance did to it and how it lives again alone, and the sum of
all; the exit code is 1 where one failed.
"""

import gc
import multiprocessing
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

import click

from tests.simulation.judge import Verdict, judge
from tests.simulation.world import World

PROCESSES = 2
_IN_MEMORY = Path("/dev/shm")


def live(seed: int, hours: float, is_calm: bool = False) -> tuple[Verdict, list[str]]:
    """One life: the verdict, and what chance did. Whatever is raised in it is a fault of this life."""
    with tempfile.TemporaryDirectory(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None) as folder:
        world = World(seed, Path(folder), is_calm)
        try:
            with world.gateway.in_place():
                world.run(hours)
                return judge(world), world.done
        except Exception:
            return Verdict(faults=[traceback.format_exc()]), world.done
        finally:
            world.gateway.cut()


def _live(arguments: tuple[int, float]) -> tuple[int, Verdict, list[str]]:
    return arguments[0], *live(*arguments)


def lives(seeds: Iterable[int], hours: float) -> Iterable[tuple[int, Verdict, list[str]]]:
    """Many, two at a time, as they end. A life keeps what it makes: nobody need look through it again and again."""
    with multiprocessing.Pool(PROCESSES, gc.disable) as pool:
        yield from pool.imap_unordered(_live, [(seed, hours) for seed in seeds])


def _chosen(_context: click.Context, _option: click.Parameter, value: str) -> list[int]:
    number = value.removeprefix("=")
    if not number.isdecimal():
        raise click.BadParameter(f"{value!r}: allowed are a number of seeds, like 200, and one seed, like =17")
    return [int(number)] if value.startswith("=") else list(range(int(number)))


@click.command()
@click.option("--seeds", default="200", help="How many, or one: =17.", show_default=True, callback=_chosen)
@click.option("--hours", default=6.0, help="Simulated hours a seed.", show_default=True)
def main(seeds: list[int], hours: float) -> None:
    """Live through the whole chain on a fake clock, from many seeds."""
    begun_s = time.monotonic()
    total, failed = Verdict(), 0
    for seed, verdict, done in lives(seeds, hours):
        total.add(verdict)
        if verdict.faults:
            failed += 1
            told = [*done, *verdict.faults[:5], f"{len(verdict.faults)} faults"]
            click.echo("\n  ".join([f"seed {seed}:", *told, f"again: make simulate SEEDS=={seed} HOURS={hours:g}"]))
    rate = len(seeds) * hours / (time.monotonic() - begun_s) * 60
    click.echo(f"{len(seeds)} seeds of {hours:g} hours, {failed} failed; {total}; {rate:.0f} simulated hours a minute")
    if not total.readings:
        click.echo("nothing was checked: no reading was received")
    sys.exit(1 if failed or not total.readings else 0)


if __name__ == "__main__":
    main()
