"""Moments and spans as people write and read them on the command line. Shell.

Must never guess a zone: what has none is in the site's.
"""

import re
from datetime import UTC, datetime, timedelta
from gettext import gettext as _
from zoneinfo import ZoneInfo

import click

_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}


def moment_ms(option: str, text: str | None, zone: ZoneInfo, is_end: bool) -> int | None:
    """UTC of a moment; of a date its beginning, or its end. click.BadParameter names the option."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        told = _("{text} is no time. Write 2026-11-23, 2026-11-23T08:00 or 2026-11-23T08:00:00+08:00.")
        raise click.BadParameter(told.format(text=text), param_hint=option) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    if is_end and len(text) <= len("2026-11-23"):
        moment += timedelta(days=1, milliseconds=-1)
    return int(moment.timestamp() * 1000)


def moment_text(t_ms: int | None, zone: ZoneInfo, timespec: str = "milliseconds") -> str | None:
    """The same moment in a zone, as ISO 8601."""
    if t_ms is None:
        return None
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=t_ms)
    return moment.astimezone(zone).isoformat(timespec=timespec)


def span_ms(option: str, text: str) -> int:
    """Minutes, hours or days, like 30m. click.BadParameter names the option."""
    match = re.fullmatch(r"(\d{1,4})([mhd])", text, re.ASCII)
    if not match:
        told = _("{text} is no span. Write minutes, hours or days, like 30m, 8h or 2d.")
        raise click.BadParameter(told.format(text=text), param_hint=option)
    return int(match[1]) * _UNITS_MS[match[2]]
