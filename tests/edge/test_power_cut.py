"""The cord is pulled while the store commits: what it said is on disk is there, and the file opens by itself.

On a real ext4, whose unsynced writes are thrown away as by a power cut. The environment's CUTS says how often;
`make prove` does it a hundred times. What counts is what was said before the cut began: a sync that is under way in
that moment may be told to have succeeded and have not, which a bare write and fdatasync shows as well (of 150 cuts 36,
and none of what was said before). No power cut does that: the program is gone too. A disk that lies about its syncs
cannot be shown here.
"""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from hil_tests.disk import Disk
from tests.edge.test_store import NOW_MS, ROOT, commit, one_second, open_store

pytestmark = [pytest.mark.needs(*Disk.TOOLS), pytest.mark.timeout(1200)]

CUTS = int(os.environ.get("CUTS", "4"))
COMMITS = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.edge.test_store import commit, one_second, open_store
store = open_store(Path(sys.argv[1]))
store._the_writer.pragma("synchronous", sys.argv[2])
print(store.epoch, flush=True)
seq = 0
while True:
    seq += 1
    commit(store, [one_second(seq)])
    print(seq, flush=True)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk.img", tmp_path / "disk")
    yield disk
    disk.unmount()


def lost_by_a_cut(disk: Disk, synchronous: str, after: int) -> int:
    """How many commits, of those that were said to be on disk, are not there after the power came back."""
    program = [sys.executable, "-c", COMMITS.format(root=str(ROOT)), str(disk.mount_point), synchronous]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        fd = process.stdout.fileno()
        said = b""
        while said.count(b"\n") <= after:  # the epoch, then a number a line
            more = os.read(fd, 65536)
            assert more, said
            said += more
        disk.cut()
        while os.read(fd, 65536):  # it ends by its own fault
            pass
    epoch, *numbers = said.decode().split("\n")[:-1]
    disk.unmount()
    disk.mount()
    store = open_store(disk.mount_point, NOW_MS)
    try:
        assert store.notes == []
        last = store.epochs().get(epoch, {"data": (1, 0)})["data"][1]
        assert [mark.next_record for mark in store.taken()] == [20 * last] * (last > 0)
        assert all(store.payload(epoch, "data", seq) for seq in range(1, last + 1))
        commit(store, [one_second(1)])
    finally:
        store.close()
    assert apsw.Connection(str(disk.mount_point / "tankgate.db")).execute("PRAGMA integrity_check").get == "ok"
    for file in disk.mount_point.glob("tankgate*"):
        file.unlink()
    return max(0, int(numbers[-1]) - last)


@pytest.mark.parametrize("seed", [20261123])
def test_what_was_committed_outlives_every_power_cut(disk: Disk, seed: int) -> None:
    chance = random.Random(seed)
    assert [lost_by_a_cut(disk, "FULL", chance.randrange(1, 400)) for _cut in range(CUTS)] == [0] * CUTS


def test_this_test_finds_a_store_that_does_not_wait_for_the_disk(disk: Disk) -> None:
    assert lost_by_a_cut(disk, "NORMAL", 300) > 0
