"""The wiring file of a rig: a rig, or a refusal that names the file.

Input: the file.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from hil_tests.bench.rig import CLAIMED, wired

_folder = TemporaryDirectory(prefix="tankgate-wiring-")
_FILE = Path(_folder.name, "wiring.toml")
_BOARD = '[boards.cab1]\nport = "/dev/a"\nuart1 = "/dev/b"\n'


def seeds() -> Iterator[bytes]:
    yield _BOARD.encode()
    yield b'features = ["parity"]\n' + _BOARD.encode()
    two = _BOARD + 'uart2 = "/dev/c"\nreset = "cmd:switch {action}"\n' + _BOARD.replace("cab1", "cab2")
    yield (f"features = {sorted(CLAIMED)}\n" + two).encode()
    yield (_BOARD + 'reset = "usb"').encode()


def run_one(data: bytes) -> None:
    _FILE.write_bytes(data)
    try:
        rig = wired(None, [], None, _FILE)
    except ValueError as refused:
        assert str(refused).startswith(f"{_FILE}: ")
        return
    for wires in rig.wires.values():
        assert all(isinstance(text, str) for text in (wires.port, wires.reset, *wires.buses.values()))
        assert 1 in wires.buses
    assert "cab1" in rig.wires and not rig.features & {"simulation"}
