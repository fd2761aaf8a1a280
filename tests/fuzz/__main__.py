"""`python -m tests.fuzz`: drives targets, one after the other, and prints a line for each. Shell."""

import sys

import click

from tests.fuzz.run import failure_text, fuzz, run_one
from tests.fuzz.table import TARGETS


@click.command()
@click.argument("targets", nargs=-1, type=click.Choice(list(TARGETS)))
@click.option("--runs", type=click.IntRange(min=1), default=1_000_000, show_default=True, help="Executions of each.")
@click.option("--seed", default=1, show_default=True, help="Of the changes to the inputs.")
@click.option("--input", "given", metavar="HEX", help="Run the one target with this input, in plain Python.")
def main(targets: tuple[str, ...], runs: int, seed: int, given: str | None) -> None:
    """Drive TARGETS, or all, with coverage-guided input; the exit code is 1 when an input fails."""
    if given is not None:
        if len(targets) != 1:
            raise click.UsageError("--input is for one target.")
        run_one(targets[0], bytes.fromhex(given))
        return
    failed = False
    for target in targets or TARGETS:
        fuzzed = fuzz(target, runs, seed)
        verdict = "ok" if fuzzed.failure is None else "FAILED"
        click.echo(f"{target}: {fuzzed.executions} executions, {fuzzed.per_s} a second: {verdict}")
        if fuzzed.failure is not None:
            failed = True
            click.echo(failure_text(target, fuzzed), err=True)
    sys.exit(failed)


main()
