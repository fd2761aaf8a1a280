"""The `tankgate` command: its language, its exit codes, and which command lies in which file. Shell.

One file a command, exporting `command`; it is imported when that command is asked for, so that `--help` waits
for neither SQLite nor paho nor rich. Must never do a command's work itself.
"""

import errno
import gettext
import os
import re
import sys
from collections.abc import Sequence
from gettext import gettext as _
from importlib import import_module
from itertools import islice
from pathlib import Path

import click

from edge import __version__

# Exit codes, the same for every command; 0 is success.
FOUND_A_FAULT = 1  # the work was done, and what was examined is not in order
USAGE = 2  # wrong arguments, or site files with errors (Click's own code for the former)
UNREACHABLE = 3  # a port, a board, a broker or the daemon does not answer
BUSY = 4  # somebody else holds it

_LOCALE = Path(__file__).parents[1] / "locale"
_LANGUAGES = {"zh": "zh_CN", "en": "en"}


def _summaries() -> dict[str, str]:
    """Each command's line in `tankgate --help`; its file is edge/cli/<name>.py."""
    return {
        "demo": _("The whole chain on this machine: simulated sensors, real programs. No hardware needed."),
        "check": _("Check a site's files, and say what it will be able to do. No hardware needed."),
        "doctor": _("Examine the machine that runs the gateway: rights, ports, clock, disk, store, brokers."),
        "run": _("The daemon: read the boards, keep and forward every reading."),
        "listen": _("The district's side: receive a gateway's feed and check it."),
        "config": _("Give changed files to the running daemon."),
        "status": _("What the running daemon knows about boards, units and destinations."),
        "bench": _("The bench: judge this build on simulated boards, or a board on its ports."),
        "trace": _("What is said on a serial line: record it, read it, count it, convert it."),
        "buffer": _("What is stored and not yet delivered: how much, for how long, and out as a file."),
        "board": _("Boards: find them, put MicroPython and the firmware on them, read their console."),
        "horn": _("Horns and beacons: silence them, test them. Auxiliary: they replace no fire or gas alarm system."),
        "alarms": _("Alarms: what stands, acknowledge, shelve, bypass, history. Auxiliary monitoring."),
        "journal": _("The journal: whether anybody has changed it."),
        "unit": _("Units: accept the device that took another one's place."),
    }


class Group(click.Group):
    """Its list of commands has the first sentence of each one's help, whole: Click would cut it, Chinese to nothing."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click.Group has it."""
        with formatter.section(_("Commands")):
            formatter.write_dl([(name, _first_sentence(each.help or "")) for name, each in self.commands.items()])


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.) |(?<=。)", text, maxsplit=1)[0]


class _Tankgate(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_summaries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _summaries():
            return None
        command = import_module(f"edge.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section(_("Commands")):
            formatter.write_dl(list(_summaries().items()))


def _program() -> click.Group:
    """The group. Its help texts are translated as it is built, so `speak` must have been called."""
    language = click.Option(
        ["--lang"],
        type=click.Choice(list(_LANGUAGES)),
        expose_value=False,
        help=_("Language of everything that is said; otherwise that of the environment (LANGUAGE, LANG)."),
    )
    program = _Tankgate(
        name="tankgate",
        params=[language],
        help=_(
            "Gateway for hazardous-chemical tank farms. It monitors, and is auxiliary: it does not replace "
            "the gas detection and alarm system, the fire alarm system or a safety instrumented system."
        ),
        epilog=_(
            "Exit codes: 0 in order; 1 a fault was found; 2 wrong arguments or site files; "
            "3 a port, a board, a broker or the daemon does not answer; 4 in use by another program."
        ),
    )
    return click.version_option(__version__, prog_name="tankgate")(program)


def language_first(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of --lang, and the arguments with --lang moved to the front.

    It may stand after the command too (`make demo ARGS='--lang en'`), and must be known before a help text
    is made.
    """
    language: list[str] = []
    others: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            others += [argument, *remaining]
        elif argument == "--lang":
            language = [argument, *islice(remaining, 1)]
        elif argument.startswith("--lang="):
            language = ["--lang", argument.removeprefix("--lang=")]
        else:
            others.append(argument)
    return language[1] if len(language) == 2 else None, language + others


def speak(language: str | None) -> None:
    """Set the language of this process, of Click's own sentences and of the processes started from here."""
    if language in _LANGUAGES:
        os.environ["LANGUAGE"] = _LANGUAGES[language]
    gettext.bindtextdomain("tankgate", _LOCALE)
    gettext.textdomain("tankgate")


def main() -> None:
    """Run `tankgate` with this process's arguments, and exit."""
    language, arguments = language_first(sys.argv[1:])
    speak(language)
    try:
        _program()(arguments, prog_name="tankgate")
    except OSError as fault:
        if fault.errno != errno.ENOSPC:
            raise
        sys.exit(_("tankgate: what it says or keeps cannot be written: the disk is full. Make room and try again."))
