"""A real broker on a port of its own, that can be killed and started again. Shell.

Owns its process and the directory in which it keeps what it was told to keep. Must never choose how a test's
broker behaves: `settings` are the test's own lines of mosquitto.conf.
"""

import getpass
import socket
import subprocess
import time
from pathlib import Path

from hil_tests.bench.board import DIES_WITH_ITS_STARTER

READY_S = 20.0

# Sessions and what waits in them outlive a killed broker: everything is written as soon as it changes.
PERSISTENT = """
allow_anonymous true
persistence true
persistence_location {directory}/
autosave_on_changes true
autosave_interval 1
max_inflight_messages 0
max_queued_messages 0
"""


class Mosquitto:
    """It runs from its construction on. `log` keeps what it says."""

    def __init__(self, directory: Path, settings: str = PERSISTENT) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.log = directory / "mosquitto.log"
        self._directory = directory
        self._config = directory / "mosquitto.conf"
        self.configure(settings)
        self.start()

    def configure(self, settings: str) -> None:
        """Settings for the next start; "{directory}" in them is the broker's own."""
        # Started by root, mosquitto would become a user that cannot read the test's files.
        head = f"user {getpass.getuser()}\nlistener {self.port} 127.0.0.1\n"
        self._config.write_text(head + settings.format(directory=self._directory))

    def start(self) -> None:
        """OSError where it does not listen within READY_S."""
        with self.log.open("ab") as log:
            command = [*DIES_WITH_ITS_STARTER, "mosquitto", "-c", str(self._config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until_s = time.monotonic() + READY_S
        while not self._is_listening():
            if self._process.poll() is not None or time.monotonic() > until_s:
                raise OSError(f"mosquitto: {self.log.read_text()[-500:]}")
            time.sleep(0.01)

    @property
    def pid(self) -> int:
        """Of its process as it runs now."""
        return self._process.pid

    def kill(self) -> None:
        """kill -9: it keeps what it had written down before."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """The same, for good."""
        self.kill()

    def _is_listening(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except ConnectionRefusedError:
            return False
        return True
