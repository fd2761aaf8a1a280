"""Brokers for the tests of this folder. Shell of the tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hil_tests.mosquitto import Mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Starts real brokers, which end with the test."""
    started: list[Mosquitto] = []

    def start(settings: str = "allow_anonymous true") -> Mosquitto:
        started.append(Mosquitto(tmp_path, settings))
        return started[-1]

    yield start
    for each in started:
        each.close()
