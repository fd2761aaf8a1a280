"""A flash chip in a file, as littlefs drives it: program and erase, and the power may fail at any of them. Shell.

Owns the image. Runs under MicroPython's unix port, in the process of the board whose flash it is: a board that is
killed leaves exactly what it had programmed. TANKGATE_CUT="n:bytes" lets the power fail at the n-th program or erase of
this start, of which so many bytes are still done.
"""

import os

BLOCK_BYTES = 4096
_ERASED = b"\xff" * BLOCK_BYTES


class FlashChip:
    """A block device of MicroPython's extended kind."""

    def __init__(self, path, cut):
        self._image = open(path, "r+b")
        self._blocks = self._image.seek(0, 2) // BLOCK_BYTES
        self._left, self._torn_bytes = (int(part) for part in cut.split(":")) if cut else (0, 0)

    def readblocks(self, block, buf, offset=0):
        self._image.seek(block * BLOCK_BYTES + offset)
        self._image.readinto(buf)

    def writeblocks(self, block, buf, offset=0):
        self._change(block * BLOCK_BYTES + offset, buf)

    def ioctl(self, operation, argument):
        if operation == 4:
            return self._blocks
        if operation == 5:
            return BLOCK_BYTES
        if operation == 6:
            self._change(argument * BLOCK_BYTES, _ERASED)
        return 0

    def _change(self, at, data):
        self._image.seek(at)
        if self._left == 1:
            self._image.write(data[: self._torn_bytes % (len(data) + 1)])
            os.system("kill -ABRT $PPID")
        self._left -= 1
        self._image.write(data)
