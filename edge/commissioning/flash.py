"""MicroPython onto a board, by esptool. Shell.

Owns the order: who is there, may it have this image, does it have it already, write. Must never erase what it was not
asked to: behind MicroPython lies the board's read plan.
"""

import re
from gettext import gettext as _
from pathlib import Path

from edge import machine
from edge.commissioning.image import Image, check_chip
from edge.commissioning.outcome import FAULT, Outcome, Trouble, check_port
from edge.commissioning.programs import esptool, is_flashed

_CONNECT_S = 60.0
_WRITE_S = 600.0


def flash(path: str, image_file: Path, image: Image, erase: bool) -> Outcome:
    """Write the image, unless it is there already."""
    try:
        check_port(machine.ports({path})[path])
        chip, mac, flash_mib = _who(path)
        check_chip(image, chip, flash_mib)
        facts = {"chip": chip, "mac": mac, "flash_mib": flash_mib}
        where = [hex(image.offset), str(image_file)]
        shown = {"chip": chip, "mac": mac, "flash": flash_mib, "image": image_file.name}
        if not erase and is_flashed(path, ["verify-flash", *where], _WRITE_S):
            text = _("{chip}, {flash} MB, {mac}: holds {image} already, nothing was written")
            return Outcome(path, text.format(**shown), facts={**facts, "written": False})
        esptool(path, ["write-flash", *(["--erase-all"] if erase else []), *where], _WRITE_S)
        text = _("{chip}, {flash} MB, {mac}: {image} written and verified")
        return Outcome(path, text.format(**shown), facts={**facts, "written": True})
    except Trouble as trouble:
        return Outcome(path, trouble.text, trouble.code, trouble.kind)


def _who(path: str) -> tuple[str, str, int]:
    """Chip, MAC and flash in MiB, as esptool 5 tells them."""
    said = esptool(path, ["flash-id"], _CONNECT_S)
    chip = re.search(r"^Connected to (\S+) on ", said, re.MULTILINE)
    mac = re.search(r"^MAC: +(\S+)", said, re.MULTILINE)
    size = re.search(r"^Detected flash size: (\d+)MB", said, re.MULTILINE)
    if chip is None or mac is None or size is None:
        text = _("esptool does not tell chip, MAC and flash size. It said: {said}")
        raise Trouble("E-BRD-027", FAULT, text.format(said=" / ".join(said.split("\n"))[-300:]))
    return chip[1], mac[1], int(size[1])
