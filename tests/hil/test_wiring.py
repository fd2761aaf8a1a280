"""The wiring file: what is wrong in it is named with its place and what was allowed, whatever stands there."""

import re
from pathlib import Path

import pytest

from hil_tests.bench.rig import wired

BOARD = '[boards.cab1]\nport = "/dev/a"\nuart1 = "/dev/b"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("features = 5\n" + BOARD, "features = 5: allowed is a list of baud, de_line"),
        ('features = [["a"]]\n' + BOARD, "features = [['a']]: allowed is a list of"),
        ('features = ["chip"]\n' + BOARD, "features = ['chip']: allowed is a list of"),
        ("boards = 5", "allowed are features, [boards.cab1]"),
        ("boards.cab1 = 5", "allowed are features, [boards.cab1]"),
        (BOARD + "speed = 3", "[boards.cab1]: port and uart1 are needed"),
        (BOARD.replace('"/dev/a"', "3"), "[boards.cab1] port = 3: allowed is a text"),
        (BOARD + "reset = 1", "[boards.cab1] reset = 1: allowed is a text"),
        (BOARD + 'reset = "x"', "[boards.cab1]: reset = x: allowed is rts, usb or cmd:PROGRAM"),
        ("port = ", "Invalid value"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "wiring.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"^{file}: .*{re.escape(said)}"):
        wired(None, [], None, file)


def test_a_file_that_cannot_be_read_is_named_with_where_to_look(tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(ValueError, match=f"^{file}: cannot be read: .*hil_tests/README.md"):
            wired(None, [], None, file)


def test_a_right_one_is_a_rig(tmp_path: Path) -> None:
    file = tmp_path / "wiring.toml"
    file.write_text('features = ["parity"]\n' + BOARD + 'uart2 = "/dev/c"\nreset = "rts"\n')
    rig = wired(None, [], None, file)
    assert rig.wires["cab1"].buses == {1: "/dev/b", 2: "/dev/c"}
    assert rig.features == {"parity", "chip", "reset", "power_off", "two_buses"}
