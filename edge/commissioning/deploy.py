"""The firmware onto a board that runs MicroPython, by mpremote. Shell.

Owns the order: ask what the board carries, copy what differs beside it, replace, read back, start. Whenever that is
interrupted the board either runs what it ran before or waits for the next deploy. Must never decide what a board
carries (`firmware/build.py`) nor what is to be copied (`carried.py`).
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from gettext import gettext as _
from pathlib import Path
from threading import Lock

from edge import machine
from edge.commissioning.carried import (
    NEW,
    Carried,
    Change,
    change,
    check_read_back,
    digests,
    with_buses,
)
from edge.commissioning.console import knock
from edge.commissioning.outcome import FAULT, Trouble, check_port
from edge.commissioning.programs import mpremote

FIRMWARE = Path(__file__).parents[2] / "firmware"
_ANSWER_S = 30.0
_BYTES_PER_S = 1000  # far slower than any console
_MARK = "tankgate "

# Nothing feeds the watchdog now: it is given ten minutes. A board that was left alone then goes back to work.
_LOOK = """
import binascii, hashlib, json, machine, os, sys
machine.WDT(timeout=600000)
def digest(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while True:
            part = f.read(512)
            if not part:
                return binascii.hexlify(h.digest()).decode()
            h.update(part)
def look(folder, found):
    for entry in os.ilistdir(folder):
        path = folder + "/" + entry[0] if folder else entry[0]
        if entry[1] & 0x4000:
            look(path, found)
        else:
            found[path] = digest(path)
    return found
def tell():
    i = sys.implementation
    print("tankgate " + json.dumps({"unique_id": binascii.hexlify(machine.unique_id()).decode(),
        "machine": i._machine, "mpy": i._mpy, "files": look("", {})}))
"""
_MAKE_FOLDERS = """
import os
for folder in %r:
    try:
        os.mkdir(folder)
    except OSError:
        pass
"""
# main.py goes first and comes last: a board never starts with half of its modules replaced.
_REPLACE = """
copied, removed = %r, %r
bad = [path for path in copied if digest(path + ".new") != copied[path]]
if bad:
    raise OSError("damaged on its way: " + ", ".join(bad))
def gone(path):
    try:
        os.remove(path)
    except OSError:
        pass
if "main.py" in copied:
    gone("main.py")
else:
    try:
        os.rename("main.py", "main.py.new")
    except OSError:
        pass
for path in removed:
    gone(path)
for path in copied:
    if path != "main.py":
        os.rename(path + ".new", path)
os.rename("main.py.new", "main.py")
tell()
"""


_building = Lock()


@cache
def _build(architecture: str) -> dict[str, bytes]:
    """The firmware as a board carries it: path -> content."""
    with tempfile.TemporaryDirectory() as name:
        built = subprocess.run(
            [sys.executable, str(FIRMWARE / "build.py"), name, "--architecture", architecture],
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode:
            text = _("the firmware cannot be compiled: {reason}")
            raise Trouble("E-BRD-028", FAULT, text.format(reason=built.stderr.strip()[-300:]))
        folder = Path(name)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def deploy(path: str, buses: int | None) -> tuple[Carried, Change]:
    """Make the board at this console carry the firmware and start it; what was there, and what was changed."""
    check_port(machine.ports({path})[path])
    knock(path)
    carried = _carried(mpremote(path, ["exec", _LOOK + "tell()"], _ANSWER_S))
    with _building:
        files = with_buses(_build(carried.architecture), buses)
    wanted = digests(files)
    changed = change(carried, wanted, buses)
    if changed.is_none:
        mpremote(path, ["resume", "reset"], _ANSWER_S)
    else:
        after = _carried(_copy(path, {name: files[name] for name in changed.copied}, changed))
        check_read_back(after.files, wanted)
    return carried, changed


def _copy(path: str, files: Mapping[str, bytes], changed: Change) -> str:
    folders = sorted({name.rpartition("/")[0] for name in files} - {""})
    steps = [["exec", _MAKE_FOLDERS % folders]] if folders else []
    with tempfile.TemporaryDirectory() as staging:
        for number, (name, content) in enumerate(files.items()):
            staged = Path(staging, str(number))
            staged.write_bytes(content)
            steps.append(["fs", "cp", str(staged), f":{name}{NEW}"])
        replaced = {f"{name}{NEW}" for name in (*files, "main.py")}
        removed = tuple(name for name in changed.removed if name not in replaced)
        steps += [["exec", _LOOK + _REPLACE % (dict(changed.copied), removed)], ["reset"]]
        words = [word for step in steps for word in [*step, "+"]][:-1]
        patience_s = _ANSWER_S + sum(map(len, files.values())) / _BYTES_PER_S
        return mpremote(path, ["resume", *words], patience_s)


def _carried(said: str) -> Carried:
    told = [line for line in said.splitlines() if line.startswith(_MARK)]
    if not told:
        text = _("the board does not tell what it carries. It said: {said}")
        raise Trouble("E-BRD-029", FAULT, text.format(said=said.strip()[-300:]))
    return Carried(**json.loads(told[-1].removeprefix(_MARK)))
