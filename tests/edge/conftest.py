"""Brokers, databases and our Chinese for the tests of this folder. Shell of the tests."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from hil_tests.mosquitto import Mosquitto
from tests.edge.postgres import Postgres

ROOT = Path(__file__).parents[2]
_NUMBERS = count()


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests that only need a database of their own in it."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def database(postgres: Postgres) -> str:
    """The URL of a new, empty database."""
    return postgres.create(f"d{next(_NUMBERS)}")


@pytest.fixture(scope="session")
def locale_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Chinese texts as they stand in the tree, compiled."""
    messages = tmp_path_factory.mktemp("locale") / "zh_CN" / "LC_MESSAGES"
    messages.mkdir(parents=True)
    source = ROOT / "edge/locale/zh_CN/LC_MESSAGES/tankgate.po"
    with source.open("rb") as po, (messages / "tankgate.mo").open("wb") as mo:
        write_mo(mo, read_po(po))
    return messages.parents[1]
