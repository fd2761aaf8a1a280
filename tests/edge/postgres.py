"""A real PostgreSQL on a socket of its own, that can be killed and started again. Shell of the tests.

Owns its process and its directory. It runs as an unprivileged user also where the tests are root's, which PostgreSQL
refuses to be. Without `durable` it does not wait for the disk: its processes may be killed, the machine may not.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from hil_tests.bench.board import DIES_WITH_ITS_STARTER

READY_S = 60.0
USER = "nobody"


class Postgres:
    """It runs from its construction on; `url(name)` is that of a database."""

    def __init__(self, durable: bool = False) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path is short
        self._data = self._directory / "data"
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(self._directory, USER)
            self._as = {"user": USER, "group": "nogroup", "extra_groups": []}
        initdb = ["initdb", "-D", self._data, "--username=tankgate", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        self._run(*initdb, "--no-locale")
        self._is_durable = durable
        self.start()

    def start(self) -> None:
        """OSError where it is not ready within READY_S."""
        settings = [] if self._is_durable else ["-c", "fsync=off"]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*DIES_WITH_ITS_STARTER, "postgres", "-D", self._data, "-k", self._directory, "-h", "", *settings],
                stdout=log,
                stderr=log,
                cwd="/",
                **self._as,
            )
        until_s = time.monotonic() + READY_S
        while subprocess.run(["pg_isready", "-q", "-h", self._directory], check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > until_s:
                raise OSError(f"postgres: {(self._directory / 'log').read_text()[-500:]}")
            time.sleep(0.05)

    def pids(self) -> list[int]:
        """All its processes."""
        own = self._process.pid
        return [own, *map(int, Path(f"/proc/{own}/task/{own}/children").read_text().split())]

    def stop(self) -> None:
        """At once, in order: whoever is connected is thrown out."""
        self._process.send_signal(2)  # fast shutdown
        self._process.wait()

    def close(self) -> None:
        """For good."""
        self.stop()
        shutil.rmtree(self._directory)

    def url(self, database: str) -> str:
        return f"postgresql://tankgate@/{database}?host={self._directory}"

    def create(self, database: str) -> str:
        """A new database; its URL."""
        self._run("createdb", "-h", self._directory, "-U", "tankgate", database)
        return self.url(database)

    def restore(self, database: str, backup: str) -> None:
        """From now on this database is as that one; whoever is connected is thrown out."""
        self._run("dropdb", "--force", "-h", self._directory, "-U", "tankgate", database)
        self._run("createdb", "-h", self._directory, "-U", "tankgate", "--template", backup, database)

    def _run(self, *command: object) -> None:
        done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, cwd="/", **self._as)
        if done.returncode:
            raise OSError(f"{command[0]}: {done.stderr}")


async def rows(url: str, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
    """What an engineer's query gives."""
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()
