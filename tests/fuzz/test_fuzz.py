"""Every parser with 20,000 coverage-guided inputs (a workbook, which openpyxl unpacks slowly, 2,000): none fails."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.fuzz.run import Fuzzed, failure_text, fuzz
from tests.fuzz.table import TARGETS

pytest.importorskip("atheris", reason="has wheels for Linux on x86-64 only")

SEED = 1


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, Future[Fuzzed]]]:
    """All targets, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(fuzz, name, target.test_runs, SEED) for name, target in TARGETS.items()}
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("target", TARGETS)
def test_no_input_fails(running: dict[str, Future[Fuzzed]], target: str) -> None:
    fuzzed = running[target].result()
    assert fuzzed.failure is None, failure_text(target, fuzzed)
    assert fuzzed.executions == TARGETS[target].test_runs
