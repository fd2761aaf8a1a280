"""A small disk of its own, that can be filled, frozen, and have its power cut. Shell.

An ext4 on a loop device, so that what a program asks of it is answered by the real file system. Only for root. What
this cannot show is a disk that lies: that says it has written and has not.
"""

import fcntl
import os
import shutil
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

_SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN: from now on every access fails, and nothing more is written
_NO_LOG_FLUSH = 2  # what was not synced is lost, as by a power cut
_FILLER = "filler"


class Disk:
    """Mounted at `mount_point`, which is made. `tools` are the programs that a test with it needs."""

    TOOLS = ("root", "mkfs.ext4", "mount", "umount", "fsfreeze")

    def __init__(self, image: Path, mount_point: Path, mebibytes: int = 64) -> None:
        self.mount_point = mount_point
        self._image = image
        with image.open("wb") as file:
            file.truncate(mebibytes << 20)
        # A journal of its own and no lazy initialisation: the disk is quiet from the start.
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        mount_point.mkdir(parents=True, exist_ok=True)
        self.mount()

    def mount(self) -> None:
        """As after the power came back."""
        _run("mount", "-o", "loop", self._image, self.mount_point)

    def cut(self) -> None:
        """Pull the cord: every access from now on is an input/output error, and what was not synced is gone."""
        fd = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def make_read_only(self) -> None:
        """What ext4 does when it has met an error: from now on whoever writes is told that nobody may."""
        _run("mount", "-o", "remount,abort", self.mount_point)

    def unmount(self, *, lazily: bool = False) -> None:
        """`lazily`: although somebody has files open there."""
        _run("umount", *(["-l"] if lazily else []), self.mount_point)

    def replug(self) -> None:
        """Pull it out and put it in again, although somebody has files open there: what had been written is there."""
        self.unmount(lazily=True)
        # While those files are open the device stays: the same disk is another device now.
        self._image = shutil.copyfile(self._image, self._image.with_name(f"{self._image.name}+"))
        self.mount()

    def freeze(self) -> None:
        """From now on whoever writes waits."""
        _run("fsfreeze", "-f", self.mount_point)

    def thaw(self) -> None:
        """Let them go on."""
        _run("fsfreeze", "-u", self.mount_point)

    def fill(self) -> None:
        """Take all the room that there is."""
        with (self.mount_point / _FILLER).open("ab", buffering=0) as file:
            for piece in (1 << 20, 4096):
                with suppress(OSError):
                    while True:
                        file.write(bytes(piece))

    def make_room(self) -> None:
        """Give it back."""
        (self.mount_point / _FILLER).unlink()


def _run(*command: str | Path) -> None:
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
