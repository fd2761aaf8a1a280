"""The vocabulary: line settings as they are written, and what a status says."""

import pytest

from protocols import model
from protocols.model import Line, has_value, quality, status_text

CODES = {value for name, value in vars(model).items() if name.isupper() and isinstance(value, int)}


@pytest.mark.parametrize(
    ("text", "line", "bits"),
    [
        ("9600 8N1", Line(9600, 8, "N", 1), 10),
        ("19200 8E1", Line(19200, 8, "E", 1), 11),
        ("1200 7O2", Line(1200, 7, "O", 2), 11),
    ],
)
def test_a_line_is_read_as_it_is_written(text, line, bits):
    assert Line.parse(text) == line
    assert str(line) == text
    assert line.bits_per_char == bits


@pytest.mark.parametrize(
    "text",
    [
        *("", "9600", "8N1", "9600 9N1", "9600 8M1", "9600 8N3", "9600  8N1", "-9600 8N1"),
        *("0 8N1", "100 8N1", "9650 8N1", "2000000 8N1", "９６００ 8N1", "²00 8N1", "9" * 5000 + " 8N1"),
    ],
    ids=lambda text: text[:12],
)
def test_a_line_that_is_none_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="9600 8N1"):
        Line.parse(text)


@pytest.mark.parametrize(
    ("status", "word"),
    [(0, "GOOD"), (1, "GOOD"), (99, "GOOD"), (100, "UNCERTAIN"), (199, "UNCERTAIN"), (200, "BAD"), (223, "BAD")],
)
def test_quality_is_the_status_hundred(status, word):
    assert quality(status) == word
    assert has_value(status) is (word != "BAD")


def test_every_status_has_its_own_words():
    texts = {status_text(status) for status in CODES}
    assert len(texts) == len(CODES) == 21
    assert status_text(150) == "status 150"
