"""`tankgate demo`: starts the bench with a face and passes on how it ended. Shell.

Must never import hil_tests: the daemon's package does not know its bench; the demo is a process of its own.
"""

import os
import sys
from gettext import gettext as _
from importlib.util import find_spec
from pathlib import Path

import click

_LOCALE = Path(__file__).parents[1] / "locale"


@click.command(
    help=_(
        "The whole chain on this machine: simulated sensors on simulated RS-485 lines, and the real "
        "firmware, gateway, broker and receiver. Keys break it. Everything speaks to this machine only."
    )
)
@click.option("--seconds", type=click.IntRange(min=1), help=_("Stop after so many seconds; or press q."))
@click.option("--json", "as_json", is_flag=True, help=_("Draw nothing; print the figures once, at the end."))
@click.option("--script", is_flag=True, help=_("Press every key once; the figures decide: exit 0 or 1."))
def command(seconds: int | None, as_json: bool, script: bool) -> None:
    if find_spec("iotcore") is None:
        raise click.ClickException(_("The demo's broker is missing: pip install 'tankgate[demo]'"))
    arguments = [] if seconds is None else ["--seconds", str(seconds)]
    arguments += ["--json"] if as_json else []
    arguments += ["--script"] if script else []
    # In this process's place, so that its signals, its terminal and its exit code are the bench's own.
    os.execve(
        sys.executable,
        [sys.executable, "-m", "hil_tests.demo", *arguments],
        os.environ | {"TEXTDOMAINDIR": str(_LOCALE)},
    )
