"""Skips, by name, the tests whose tools are missing here, and lists them by tool at the end. Shell.

A test names what it needs outside Python by `@pytest.mark.needs("mosquitto")`. With CI=true a missing tool is
a failure. "root" is the right to mount file systems.
"""

import os
import shutil
import sysconfig
from collections import defaultdict
from pathlib import Path

import pytest

_NOT_PROGRAMS = {
    "libmodbus": Path("/usr/include/modbus/modbus.h"),
    "micropython-wasm": Path(__file__).parent / "tests/interpreters/node_modules/@micropython",
}
_skipped: defaultdict[str, list[str]] = defaultdict(list)

# Programs that came with a package, and daemons that a plain user's PATH does not show.
_POSTGRES = map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"], "/usr/sbin", *_POSTGRES])


def _is_here(tool: str) -> bool:
    if tool == "root":
        return os.geteuid() == 0
    return _NOT_PROGRAMS[tool].exists() if tool in _NOT_PROGRAMS else shutil.which(tool) is not None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for tool in (tool for mark in item.iter_markers("needs") for tool in mark.args):
        if not _is_here(tool):
            _skipped[tool].append(item.nodeid)
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"needs {tool}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skipped:
        terminalreporter.section("not run: a tool is missing")
    for tool, tests in sorted(_skipped.items()):
        terminalreporter.line(f"{tool}: {len(tests)}")
        for test in tests:
            terminalreporter.line(f"    {test}")
