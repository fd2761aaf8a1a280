"""How the work on one board ended: done, or a trouble in words a technician can act on. Policy.

Owns the form and what hinders anyone who wants a port. Codes as in `edge/problem.py`: each has one meaning for ever.
"""

from dataclasses import dataclass, field
from gettext import gettext as _
from typing import Any

from edge.diagnosis import Port

# What a trouble means for whoever waits for the command.
FAULT = "fault"
WRONG_ARGUMENTS = "wrong arguments"
UNREACHABLE = "unreachable"
BUSY = "busy"


class Trouble(Exception):
    """The work on this board ends here; nobody but a person can help."""

    def __init__(self, code: str, kind: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.kind = kind
        self.text = text


@dataclass(frozen=True, slots=True)
class Outcome:
    """One board's line. `code` and `kind` are empty where all is well; `facts` are for programs."""

    port: str
    text: str
    code: str = ""
    kind: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = _("{port}: {text}").format(port=self.port, text=self.text)
        return f"{shown} {self.code}" if self.code else shown


def check_port(port: Port) -> None:
    """Trouble where nobody could work at this port."""
    if not port.is_device:
        text = _("there is no such port. Those that are here: `tankgate board list`")
        raise Trouble("E-BRD-011", UNREACHABLE, text)
    if not port.may_use:
        text = _("this user may not open it: sudo usermod -aG {group} $USER, then log in again")
        raise Trouble("E-BRD-012", UNREACHABLE, text.format(group=port.group))
    if port.holders:
        text = _("in use by {program} (process {pid}): stop it first")
        holder = port.holders[0]
        raise Trouble("E-BRD-013", BUSY, text.format(program=holder.program, pid=holder.pid))
