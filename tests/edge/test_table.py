"""Tables for people: what may be broken where, in both languages and at any width."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from edge.cli.table import table

SENTENCES = {
    "en": "points.csv row 2: is empty. Correct the files, then run: tankgate config apply /etc/tankgate/gateway.toml",
    "zh": "points.csv 第 2 行：是空的。改正文件，然后运行："
    "tankgate config apply /etc/tankgate/gateway.toml（再看“状态”）。",
}


def drawn(width: int, *rows: list[object]) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table("", ["alarm", "what to do"], rows))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", range(54, 140, 3))
@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_is_to_be_typed_is_never_cut_within_a_word(language: str, width: int) -> None:
    lines = drawn(width, ["system.config:FAULT", SENTENCES[language]])
    assert all(cell_len(line) <= width for line in lines)
    prose = [line[21:] for line in lines[1:]]
    for word in ("points.csv", "tankgate", "config", "apply", "/etc/tankgate/gateway.toml"):
        assert sum(line.count(word) for line in prose) == SENTENCES[language].count(word), lines
    assert "".join(prose).replace(" ", "") == SENTENCES[language].replace(" ", "")
    assert not [line for line in prose if line.startswith(tuple("，。：）”")) or line.endswith(("（", "“"))]


def test_a_word_wider_than_its_column_is_whole_all_the_same() -> None:
    lines = drawn(40, ["system.config:FAULT", "/srv/" + "x" * 60])
    assert "".join(line[21:] for line in lines[1:]) == "/srv/" + "x" * 60
