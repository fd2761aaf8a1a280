"""`tankgate run`: the site's files are checked, then the daemon runs until it is told to stop. Shell.

With problems it runs on the last good files, if there are any.
Must never start a daemon on files with a problem, nor let simulated readings leave this machine.
"""

import json
import logging
import sys
from gettext import gettext as _
from pathlib import Path

import click

from edge.apart import load_or_exit
from edge.changes import leaving
from edge.cli import USAGE
from edge.daemon import run


class _JsonLines(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        told = {"t_ms": int(record.created * 1000), "level": record.levelname, "text": record.getMessage()}
        return json.dumps(told, ensure_ascii=False)


def log_to_stderr(as_json: bool) -> None:
    """What the daemon says, for people or for programs."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if as_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


@click.command(help=_("The daemon: read the boards, keep and forward every reading."))
@click.argument("gateway_toml", type=click.Path(path_type=Path))
@click.option(
    "--simulated",
    is_flag=True,
    help=_("The sensors are simulated: everything sent says so, and brokers must be on this machine."),
)
@click.option("--json", "as_json", is_flag=True, help=_("The log as one JSON object a line."))
def command(gateway_toml: Path, simulated: bool, as_json: bool) -> None:
    checked = load_or_exit(gateway_toml, as_json=as_json)
    assert checked.site is not None
    if simulated and (sentences := leaving(checked.site)):
        for sentence in sentences:
            click.echo(sentence, err=True)
        sys.exit(USAGE)
    log_to_stderr(as_json)
    sys.exit(run(gateway_toml, checked, simulated=simulated))
