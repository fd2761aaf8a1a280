"""A board's plan on littlefs: the power fails at each program and erase while it is taken, and a byte is flipped."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from hil_tests.bench.board import compile_flash, fill_flash
from protocols import readplan, readplan_edge

ON_BOARD = Path(__file__).parents[2] / "hil_tests" / "bench" / "on_board"
CHIP_BYTES = 32 * 4096
# What a board does, over the link's commands; a plan lies beside the modules, in a file of the machine.
TAKE = """
import start, main
from protocols import link
with open({path!r}, "rb") as file:
    plan = file.read()
taken = main.Plan()
begin = bytes([link.PLAN_BEGIN, len(plan) & 255, len(plan) >> 8]) + main.hashlib.sha256(plan).digest()
assert taken.obey(begin, len(begin)) == link.DONE
for at in range(0, len(plan), 160):
    chunk = bytes([link.PLAN_CHUNK, at & 255, at >> 8]) + plan[at : at + 160]
    assert taken.obey(chunk, len(chunk)) == link.DONE
assert taken.obey(bytes([link.PLAN_COMMIT]), 1) == link.DONE
print("done")
"""
TELL = "import start, main; print(main.hashlib.sha256(main.Plan().bytes).digest().hex())"

pytestmark = pytest.mark.needs("micropython", "mpy-cross")


def a_plan(salt: int) -> bytes:
    """Longer than what littlefs keeps among its names."""
    reads = [readplan_edge.encode_read(0, 3, 20 * each, 10, 1000) for each in range(150)]
    plan = readplan_edge.encode(
        [readplan_edge.encode_bus(1, 9600, 8, "N", 1)],
        [readplan_edge.encode_unit(0, 1, 200, 50, 0, 1000)],
        reads,
        b"\xd1\xc1\xa1\x79",
        salt,
    )
    assert readplan.check(plan, len(plan)) == readplan.GOOD and len(plan) > 1024
    return plan


OLD, NEW = a_plan(1), a_plan(2)


class Chip:
    """A board's flash chip in an image, and what MicroPython does with it."""

    def __init__(self, folder: Path) -> None:
        self._modules = folder / "modules"
        self._modules.mkdir()
        fill_flash(self._modules)
        compile_flash(self._modules)
        self.image = folder / "chip"
        self.image.write_bytes(b"\xff" * CHIP_BYTES)

    def take(self, plan: bytes, cut: str = "") -> bool:
        """Whether the board said that it has it; `cut` as TANKGATE_CUT."""
        path = self._modules / "arriving"
        path.write_bytes(plan)
        return self._run(TAKE.format(path=str(path)), cut) == "done"

    def polls(self) -> bytes | None:
        """The plan that a board polls that starts from it."""
        digest = self._run(TELL, "")
        return next((plan for plan in (OLD, NEW) if hashlib.sha256(plan).hexdigest() == digest), None)

    def _run(self, program: str, cut: str) -> str:
        path = {"MICROPYPATH": f".frozen:{ON_BOARD}:{self._modules}", "TANKGATE_FLASH": str(self.image)}
        run = subprocess.run(
            ["micropython", "-X", "heapsize=1m", "-c", program],
            env={**os.environ, **path, "TANKGATE_CUT": cut},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert cut or run.returncode == 0, run.stdout + run.stderr
        return run.stdout.strip()


def test_the_power_fails_at_each_program_and_erase(tmp_path: Path) -> None:
    chip = Chip(tmp_path)
    assert chip.take(OLD) and chip.polls() == OLD
    before = chip.image.read_bytes()
    polled: list[bytes | None] = []
    while not chip.take(NEW, f"{len(polled) + 1}:{97 * len(polled)}"):
        polled.append(chip.polls())
        chip.image.write_bytes(before)
    assert polled == sorted(polled, key=[OLD, NEW].index) and set(polled) == {OLD, NEW}
    assert chip.polls() == NEW and len(polled) > 10


def test_a_flipped_byte_costs_one_copy(tmp_path: Path) -> None:
    chip = Chip(tmp_path)
    assert chip.take(OLD) and chip.take(NEW)
    image = bytearray(chip.image.read_bytes())
    copies = [at for at in range(len(image)) if image.startswith(hashlib.sha256(NEW).digest(), at)]
    assert len(copies) == 2
    for at in copies:
        for place in (0, 31, 32, 500):
            spoiled = bytearray(image)
            spoiled[at + place] ^= 4
            chip.image.write_bytes(spoiled)
            assert chip.polls() == NEW
    for at in copies:
        image[at + 500] ^= 4
    chip.image.write_bytes(image)
    assert chip.polls() is None
