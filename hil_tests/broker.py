"""The demo's MQTT 5 broker, and the one TCP path to it that can be cut. Shell.

The broker is rumqttd (package iotcore) in a process of its own. It keeps sessions and retained messages in
memory only, so "the platform is gone" is played by cutting the gateway's path to it and not by stopping it: a
broker that forgets everything is a different fault. Both listen on 127.0.0.1 and nowhere else.
"""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

HOST = "127.0.0.1"
READY_S = 20.0

# rumqttd speaks each MQTT version on a listener of its own; without [console] it opens no other port.
CONFIG = """\
id = 0

[router]
id = 0
max_connections = 32
max_outgoing_packet_count = 200
max_segment_size = 10485760
max_segment_count = 10

[v5.1]
name = "v5"
listen = "{host}:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 5000
max_payload_size = 1048576
max_inflight_count = 100
"""


class Broker:
    """rumqttd on a free port; `log` keeps what it says."""

    def __init__(self, directory: Path) -> None:
        self.port = _free_port()
        config = directory / "rumqttd.toml"
        config.write_text(CONFIG.format(host=HOST, port=self.port))
        self.log = directory / "broker.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                # Below CRITICAL it writes lines about every packet.
                [sys.executable, "-m", "iotcore", "--config", str(config), "--log-level", "CRITICAL"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_it_listens()

    def close(self) -> None:
        """Stop it; its sessions are gone."""
        self._process.kill()
        self._process.wait()

    def _wait_until_it_listens(self) -> None:
        """Raise OSError with the broker's last words where it does not listen within READY_S."""
        deadline_s = time.monotonic() + READY_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
            except ConnectionRefusedError:
                time.sleep(0.05)
            else:
                return
        self.close()
        raise OSError(
            f"broker on {HOST}:{self.port} did not start: {self.log.read_text(errors='replace')[-500:]}"
        )


class CuttablePath:
    """127.0.0.1:`port` leads to 127.0.0.1:`target_port`, except while it is cut: then nobody answers.

    While it is `silent`, connections stand and what either end sends is lost on the way.
    """

    def __init__(self, target_port: int) -> None:
        self.silent = False
        self._target_port = target_port
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept, self._listener)

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        with self._lock:
            _hang_up(self._listener)
            for end in self._open:
                _hang_up(end)
            self._open.clear()

    def restore(self) -> None:
        """Answer again, on the same port."""
        with self._lock:
            self._listener = socket.create_server((HOST, self.port))
            self._start(self._accept, self._listener)

    def near_ends(self) -> list[socket.socket]:
        """Of the connections that stand, the ends of whoever connected here."""
        with self._lock:
            return [end for end in self._open if end.fileno() >= 0 and end.getsockname()[1] == self.port]

    def _start(self, target: Callable[..., None], *sockets: socket.socket) -> None:
        threading.Thread(target=target, args=sockets, daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _address = listener.accept()
            except OSError:  # cut
                return
            with self._lock:
                if listener is not self._listener or listener.fileno() < 0:
                    near.close()
                    return
                try:
                    far = socket.create_connection((HOST, self._target_port))
                except ConnectionRefusedError:  # the broker is away
                    near.close()
                    continue
                self._open |= {near, far}
            self._start(self._pump, near, far)
            self._start(self._pump, far, near)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if not self.silent:
                    sink.sendall(data)
        except OSError:  # cut, or one end is gone: what both ends see is a lost connection
            pass
        with self._lock:
            self._open -= {source, sink}
        _hang_up(source)
        _hang_up(sink)


def _hang_up(end: socket.socket) -> None:
    """Close it, and wake the thread that waits on it: closing alone would leave that thread waiting."""
    with contextlib.suppress(OSError):  # it was not connected any more
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port
