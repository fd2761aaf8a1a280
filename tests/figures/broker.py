"""mosquitto on a free port of loopback, nothing persisted: the broker between a gateway and its receiver. Shell."""

import socket
import subprocess
import time
from pathlib import Path

HOST = "127.0.0.1"
_START_S = 5.0


class Broker:
    """One plain broker; `port` is where it listens."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port: int = probe.getsockname()[1]
        config = directory / "broker.conf"
        # What a broker drops, or holds back for 40 ms until the receiver's kernel has acknowledged the packet before
        # (Nagle's algorithm), must not be counted against a gateway.
        settings = "allow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\n"
        config.write_text(f"listener {self.port} {HOST}\n{settings}")
        log = (directory / "broker.log").open("ab")
        self._process = subprocess.Popen(["mosquitto", "-c", config], stdout=log, stderr=log)
        log.close()
        deadline_s = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
                return
            except ConnectionRefusedError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.05)

    def close(self) -> None:
        """Stop it. OSError where it had ended before: then nothing that was measured counts."""
        if self._process.poll() is not None:
            raise OSError(f"mosquitto on port {self.port} ended by itself: {self._process.returncode}")
        self._process.terminate()
        self._process.wait()
