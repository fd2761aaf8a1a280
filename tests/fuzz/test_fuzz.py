"""Every parser with 20,000 coverage-guided inputs: none of them fails."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.fuzz.run import Fuzzed, failure_text, fuzz
from tests.fuzz.table import TARGETS

pytest.importorskip("atheris", reason="has wheels for Linux on x86-64 only")

RUNS, SEED = 20_000, 1


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, Future[Fuzzed]]]:
    """All targets, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield {target: pool.submit(fuzz, target, RUNS, SEED) for target in TARGETS}
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("target", TARGETS)
def test_no_input_fails(running: dict[str, Future[Fuzzed]], target: str) -> None:
    fuzzed = running[target].result()
    assert fuzzed.failure is None, failure_text(target, fuzzed)
    assert fuzzed.executions == RUNS
