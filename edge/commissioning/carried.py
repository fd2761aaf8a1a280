"""What a board carries and what it must carry: what is to be copied and removed. Policy.

Owns that a board never starts a mixture of two versions: what is new lies whole beside what is old before anything is
replaced, and while it is replaced there is no main.py. Must never decide what a board must carry: that is
`firmware/build.py`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from gettext import gettext as _

from edge.commissioning.outcome import FAULT, Trouble

NEW = ".new"  # as firmware/flash.py names what is not yet whole
TWO_BUSES = "two_buses"
_MPY_VERSION = 6
# By the number in `_mpy`, as `mpy-cross -march` names them. Source: MicroPython's manual, ".mpy files".
# fmt: off
_ARCHITECTURES = (
    "", "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp", "xtensa", "xtensawin",
    "rv32imc", "rv64imc",
)
# fmt: on
_TWINS = {".py": ".mpy", ".mpy": ".py"}


@dataclass(frozen=True, slots=True)
class Carried:
    """What a board tells of itself. `mpy` is sys.implementation._mpy; `files` are path -> SHA-256 in hex."""

    unique_id: str
    machine: str
    mpy: int
    files: Mapping[str, str]

    @property
    def architecture(self) -> str:
        """What machine code it runs. Trouble where it does not read our compiled modules."""
        number = self.mpy >> 10 & 0x0F
        if self.mpy & 0xFF == _MPY_VERSION and 0 < number < len(_ARCHITECTURES):
            return _ARCHITECTURES[number]
        text = _(
            "its MicroPython ({machine}) does not read the compiled modules of this version ({mpy:#x}): put one of "
            "1.23 or later on it with `tankgate board flash`"
        )
        raise Trouble("E-BRD-018", FAULT, text.format(machine=self.machine, mpy=self.mpy))


@dataclass(frozen=True, slots=True)
class Change:
    """`copied` are paths with their SHA-256, `removed` are paths."""

    copied: Mapping[str, str]
    removed: tuple[str, ...]

    @property
    def is_none(self) -> bool:
        """Whether the board carries what it must."""
        return not self.copied and not self.removed


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 in hex of each file."""
    return {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}


def with_buses(firmware: Mapping[str, bytes], buses: int | None) -> dict[str, bytes]:
    """The files of a board with so many buses; None leaves that as it is."""
    return {**firmware, TWO_BUSES: b""} if buses == 2 else dict(firmware)


def change(carried: Carried, wanted: Mapping[str, str], buses: int | None) -> Change:
    """What makes this board carry what is `wanted`; its plan and what else lies there is left alone."""
    copied = {path: digest for path, digest in wanted.items() if carried.files.get(path) != digest}
    unwanted = {_twin(path) for path in wanted}  # MicroPython would import it instead
    if buses == 1:
        unwanted.add(TWO_BUSES)
    removed = [path for path in carried.files if path in unwanted or path.endswith(NEW)]
    return Change(copied, tuple(sorted(removed)))


def _twin(path: str) -> str:
    stem, dot, suffix = path.rpartition(".")
    return stem + _TWINS.get(dot + suffix, NEW)


def check_read_back(found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Trouble where the board does not read back what was written."""
    wrong = sorted(path for path, digest in wanted.items() if found.get(path) != digest)
    if wrong:
        text = _(
            "it does not read back what was written: {paths}. Deploy again; if it happens twice, its flash is worn"
        )
        raise Trouble("E-BRD-019", FAULT, text.format(paths=_(", ").join(wrong)))
