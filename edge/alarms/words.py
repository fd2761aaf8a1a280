"""What alarms, their states and refusals are called by people. Policy.

Owns the sentence that stands wherever alarms are shown, always in both languages. Must never let an unknown word
through as if it were known.
"""

from collections.abc import Mapping
from gettext import gettext as _
from typing import Any

from edge.alarms import lifecycle, requests
from edge.alarms.judge import DRILL

AUXILIARY = (
    "辅助监测：不代替 GB/T 50493 气体检测报警系统、火灾自动报警系统或安全仪表系统（SIS）。\n"
    "Auxiliary monitoring: it does not replace the gas detection and alarm system of GB/T 50493, the fire alarm system "
    "or a safety instrumented system (SIS)."
)


def state_text(alarm: Mapping[str, Any]) -> str:
    """The state of a row of `tankgate alarms list --json`, as a person reads it."""
    if alarm["state"] == "UNACK" and not alarm.get("active", True):
        return _("cause gone, to be acknowledged and reset")
    if alarm["state"] == "ACKED" and not alarm.get("active", True):
        return _("cause gone, to be reset")
    return state_word(alarm["state"])


def state_word(state: str) -> str:
    """ISA-18.2's state in words."""
    words = {
        "NORM": _("normal"),
        "UNACK": _("unacknowledged"),
        "ACKED": _("acknowledged"),
        "RTNUN": _("returned, unacknowledged"),
        "SHLVD": _("shelved"),
        "DSUPR": _("suppressed by design"),
        "OOSRV": _("out of service"),
    }
    return words.get(state, state)


def limit_text(kind: str, setpoint: float | None, unit: str) -> str | None:
    """Where an alarm of this kind is raised; None where no number says it."""
    if setpoint is None:
        return None
    number = f"{setpoint:g}"
    match kind:
        case "H" | "HH":
            return f"≥ {number} {unit}"
        case "L" | "LL":
            return f"≤ {number} {unit}"
        case "ROR" | "ROF":
            return _("{n} {unit} a minute").format(n=number, unit=unit)
        case "TTHH" | "TTCH":
            return _("{n} min left").format(n=number)
    return _("{n} {unit} apart").format(n=number, unit=unit)


def vote_text(needed: int | None, rests_on: int) -> str:
    """How many members a vote counts."""
    if needed is None:
        return _("rests on {n}").format(n=rests_on)
    return _("{needed} needed, rests on {n}").format(needed=needed, n=rests_on)


def why_text(minutes: float | None, consequence: str | None) -> str:
    """How long there is to act and what happens otherwise; empty where the sheet says neither."""
    if minutes is None:
        return _("or else: {consequence}").format(consequence=consequence) if consequence else ""
    if not consequence:
        return _("within {n} min").format(n=f"{minutes:g}")
    return _("within {n} min, or else: {consequence}").format(n=f"{minutes:g}", consequence=consequence)


def transition_word(transition: str) -> str:
    """What happened to an alarm, in words."""
    words = {
        lifecycle.RAISE: _("raised"),
        lifecycle.CLEAR: _("cleared"),
        lifecycle.ACK: _("acknowledged"),
        lifecycle.RESET: _("reset"),
        lifecycle.RE_ALARM: _("announced anew"),
        lifecycle.SHELVE: _("shelved"),
        lifecycle.UNSHELVE: _("shelf ended"),
        lifecycle.SUPPRESS: _("suppressed by design"),
        lifecycle.UNSUPPRESS: _("suppression ended"),
        lifecycle.OUT_OF_SERVICE: _("out of service"),
        lifecycle.IN_SERVICE: _("in service again"),
        lifecycle.SILENCE: _("silenced"),
        lifecycle.NOTE: _("note"),
        lifecycle.LIMIT_CHANGED: _("limit changed"),
    }
    return words.get(transition, transition)


def action_word(action: Mapping[str, Any]) -> str:
    """What was done to no single alarm, in words: an action of the feed."""
    words = {
        "configuration_applied": _("configuration applied"),
        "output_test": _("output test"),
        "muted": _("horns muted"),
        "command_refused": _("command refused"),
        "unit_accepted": _("device accepted"),
        "store_set_aside": _("damaged store set aside"),
        "store_moved": _("store of another machine"),
        "store_set_back": _("store was set back"),
    }
    bypass = action.get("bypass")
    if bypass is None:
        return words.get(action["action"], action["action"])
    if bypass["kind"] == DRILL:
        text = _("drill {number} ended") if bypass["is_over"] else _("drill {number} begun")
    else:
        text = _("bypass {number} ended") if bypass["is_over"] else _("bypass {number} begun")
    return text.format(number=bypass["number"])


def refusal(code: str) -> str:
    """Why nothing was done, and what to do."""
    texts = {
        lifecycle.NOTHING_TO_ACKNOWLEDGE: _("there is nothing to acknowledge: it is acknowledged, or does not stand."),
        lifecycle.OTHER_OCCURRENCE: _("it was raised again since, or not so often. Look at it, then acknowledge it."),
        lifecycle.NOTHING_TO_SILENCE: _("there is nothing to silence: it does not stand, or is acknowledged."),
        lifecycle.NOTHING_TO_RESET: _("there is nothing to reset: it does not latch, or was reset."),
        lifecycle.ACKNOWLEDGE_FIRST: _("acknowledge it first, then reset it."),
        lifecycle.STILL_ACTIVE: _("its cause is still there. It can be reset when that is gone."),
        lifecycle.NEVER_SHELVED: _("it can never be shelved. Mend its cause, or bypass its point with a permit."),
        lifecycle.NOT_SHELVED: _("it is not shelved."),
        requests.NOT_ALLOWED: _("gateway.toml does not let this role do so from there."),
        requests.WHO_EMPTY: _("is blank: write a role or a badge number."),
        requests.WHO_TOO_LONG: _("is longer than {most} characters: write a role or a badge number."),
        requests.WORDS_EMPTY: _("is empty: write a sentence."),
        requests.WORDS_TOO_LONG: _("is longer than {most} characters: say it shorter."),
        requests.BAD_REQUEST: _("something is missing, or has another form than it should."),
        requests.UNKNOWN_ALARM: _("this gateway judges no such alarm. `tankgate alarms list` shows those that stand."),
        requests.TOO_LONG: _("that is too long: a shelf ends after 12 hours, a bypass or a drill after 7 days."),
        requests.IN_THE_PAST: _("its end lies in the past."),
        requests.UNKNOWN_PLACE: _("the sheet has nothing of this name. `tankgate check --points` lists what it has."),
        requests.NOT_IN_FORCE: _("it is not in force. `tankgate alarms bypasses` shows those that are."),
        requests.NO_STORE: _("the store cannot be read yet, and nobody knows what is in force. Mend the disk first."),
        requests.ALREADY_A_DRILL: _("there is a drill already. End it first."),
    }
    most = {requests.WHO_TOO_LONG: requests.WHO_MAX, requests.WORDS_TOO_LONG: requests.WORDS_MAX}
    return texts.get(code, code).format(most=most.get(code))
