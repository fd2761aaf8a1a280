"""The site's files, checked in a process of their own. Shell.

Owns that process, on both sides of its pipe: a daemon keeps the site for years, but not the 13 MiB that check it, and
reads its boards while the files are checked. Must never decide what becomes of the answer.
"""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from gettext import gettext as _
from pathlib import Path
from typing import NamedTuple

from protocols.model import Site

PATIENCE_S = 60.0


class Checked(NamedTuple):
    """What came of it: the site and its files as they are kept, and sentences. No site: nothing may run on these.

    At a start a site may stand beside problems: it is then that of the last good files, and `files` is empty. `lines`:
    where the keys of gateway.toml stand, by their dotted paths.
    """

    site: Site | None
    files: bytes
    problems: tuple[str, ...]
    reminders: tuple[str, ...]
    lines: Mapping[str, int] = {}


class Check:
    """One check, running from its making on. `fileno` is readable until `take` gives the answer."""

    def __init__(self, gateway_toml: Path, *arguments: str) -> None:
        reading, writing = os.pipe()
        self.fileno = reading
        self.until_s = time.monotonic() + PATIENCE_S
        self._came = bytearray()
        # A program of its own and not a fork: other threads may hold any lock at this moment.
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(writing), str(gateway_toml), *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=(writing,),
        )
        os.close(writing)

    def take(self) -> Checked | int | None:
        """Read once; the answer when it is whole, the exit code where the process has none to give, None: not yet."""
        data = os.read(self.fileno, 1 << 16)
        self._came += data
        if data:
            return None
        return self._end()

    def kill(self) -> int:
        """Give it up; its exit code."""
        self._process.kill()
        self._came.clear()
        ended = self._end()
        assert isinstance(ended, int)
        return ended

    def _end(self) -> Checked | int:
        os.close(self.fileno)
        code = self._process.wait()  # it has closed its pipe: this is its last moment
        return Checked(*pickle.loads(self._came)) if self._came and code == 0 else code


def load_or_exit(gateway_toml: Path, *, as_json: bool) -> Checked:
    """What a daemon starts on: a site. Where there is none, all problems are printed and the program ends: USAGE."""
    check = Check(gateway_toml, "start", "json" if as_json else "text")
    while (checked := check.take()) is None:
        pass
    if isinstance(checked, int):
        sys.exit(checked or 1)
    return checked


def _at_start(gateway_toml: Path, as_json: bool) -> Checked:
    """The site of these files or else of the last good ones; without either this process ends with the problems."""
    from edge import last_good
    from edge.cli.site import refuse, remind
    from edge.config import examine

    examined = examine(gateway_toml)
    if examined.site is not None:
        if not as_json:
            remind(examined.warnings)
        return Checked(examined.site, last_good.packed(examined.files), (), ())
    found = last_good.find(gateway_toml)
    site = None if found is None else examine(gateway_toml, found[1]).site
    if found is None or site is None:
        if not as_json:
            remind(examined.warnings)
        refuse(examined.problems, gateway_toml.parent, as_json=as_json)
    text = _("running on the last good files, {archive}, until {file} is corrected and applied")
    told = text.format(archive=found[0], file=gateway_toml)
    return Checked(site, b"", tuple(map(str, examined.problems)), (told,))


def _to_apply(gateway_toml: Path) -> Checked:
    """The site where nothing is wrong with it, its plans included."""
    from edge import last_good
    from edge.cli.site import examine_and_judge

    examined = examine_and_judge(gateway_toml)
    reminders = tuple(map(str, examined.warnings))
    if examined.site is None:
        return Checked(None, b"", tuple(map(str, examined.problems)), reminders)
    return Checked(examined.site, last_good.packed(examined.files), (), reminders, examined.lines)


def main() -> None:
    """The other side: `python -m edge.apart PIPE GATEWAY_TOML apply` or `... start text|json`."""
    from edge.cli import speak

    speak(None)
    gateway_toml = Path(sys.argv[2])
    start = sys.argv[3] == "start"
    checked = _at_start(gateway_toml, sys.argv[4] == "json") if start else _to_apply(gateway_toml)
    # Whoever asked may have been killed meanwhile.
    with suppress(BrokenPipeError), os.fdopen(int(sys.argv[1]), "wb") as pipe:
        pickle.dump(tuple(checked), pipe)
    os._exit(0)  # nothing is left to put in order, and somebody waits


if __name__ == "__main__":
    main()
