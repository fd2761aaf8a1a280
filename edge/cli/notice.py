"""What every answer about alarms ends with: that they are auxiliary, in both languages. Shell.

Owns the printing of such answers, so that none can be without it. Must never know what is in them.
"""

import json
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.text import Text

from edge.alarms.words import AUXILIARY
from edge.cli.table import wrapped


def tell(*shown: RenderableType) -> None:
    """Print them, and the notice below."""
    console = Console(highlight=False)
    for each in shown:
        console.print(each, markup=False, soft_wrap=isinstance(each, str))
    console.print(notice(console.width))


def notice(width: int) -> Text:
    """The sentence in both languages, in lines that are not wider."""
    return wrapped(Text(AUXILIARY, "dim"), width)


def tell_json(answer: Mapping[str, Any]) -> None:
    """One JSON object in a line, with the notice as `notice`."""
    click.echo(json.dumps({**answer, "notice": AUXILIARY}, ensure_ascii=False))
