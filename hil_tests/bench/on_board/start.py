"""What MicroPython does on an ESP32 before boot.py: mounts the flash, a new one made first. Shell.

Runs under MicroPython's unix port. The flash is the current directory afterwards, as "/" is on a chip.
"""

import os

import vfs

from flash_chip import FlashChip

_chip = FlashChip(os.getenv("TANKGATE_FLASH"), os.getenv("TANKGATE_CUT"))
try:
    _files = vfs.VfsLfs2(_chip)
except OSError:
    vfs.VfsLfs2.mkfs(_chip)
    _files = vfs.VfsLfs2(_chip)
vfs.mount(_files, "/flash")
os.chdir("/flash")


def has(name):
    """Whether this file is in flash."""
    try:
        os.stat(name)
    except OSError:
        return False
    return True
