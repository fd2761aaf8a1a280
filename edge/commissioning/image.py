"""MicroPython's image for a chip: what it is for, where it goes, and whether this chip may have it. Policy.

Owns what the first bytes of an image tell and which chips `firmware/board.py` has pins for. Source: Espressif's
esp-idf, "App Image Format" (esp_image_header_t), and esptool's `BOOTLOADER_FLASH_OFFSET` of each chip.
"""

from dataclasses import dataclass
from gettext import gettext as _

from edge.commissioning.outcome import FAULT, WRONG_ARGUMENTS, Trouble
from edge.problem import one_of

_MAGIC = 0xE9
_HEADER_BYTES = 24
_CHIPS = {0: ("ESP32", 0x1000), 9: ("ESP32-S3", 0)}


@dataclass(frozen=True, slots=True)
class Image:
    """`chip` by esptool's name, `offset` in flash, `flash_mib` that it was built for."""

    chip: str
    offset: int
    flash_mib: int


def read_image(name: str, head: bytes) -> Image:
    """From a file's first bytes; Trouble for anything but an image for one of our chips."""
    if len(head) < _HEADER_BYTES or head[0] != _MAGIC:
        text = _("{name} is no image for an ESP32: it does not begin with byte E9. Take the .bin of micropython.org")
        raise Trouble("E-BRD-014", WRONG_ARGUMENTS, text.format(name=name))
    number = int.from_bytes(head[12:14], "little")
    if number not in _CHIPS:
        text = _("{name} is for another chip (number {number}); tankgate's boards are {chips}")
        chips = one_of(chip for chip, _offset in _CHIPS.values())
        raise Trouble("E-BRD-015", WRONG_ARGUMENTS, text.format(name=name, number=number, chips=chips))
    chip, offset = _CHIPS[number]
    return Image(chip, offset, 1 << (head[3] >> 4))


def check_chip(image: Image, chip: str, flash_mib: int) -> None:
    """Trouble where this image must not go onto this chip."""
    if chip != image.chip:
        text = _("the chip is an {chip}, the image is for {wanted}: nothing was written")
        raise Trouble("E-BRD-016", FAULT, text.format(chip=chip, wanted=image.chip))
    if flash_mib < image.flash_mib:
        text = _("the chip has {flash} MB of flash, the image needs {wanted} MB: nothing was written")
        raise Trouble("E-BRD-017", FAULT, text.format(flash=flash_mib, wanted=image.flash_mib))
