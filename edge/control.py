"""The daemon's local door: one JSON line a request, one a reply, over a Unix socket. Shell.

Owns the socket and the lines. What a request means the daemon decides. `ask` is the other side, for the command line.
Must never wait: the door is served by the deciding thread between two of its own tasks.
"""

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from gettext import gettext as _
from pathlib import Path
from typing import Any

from protocols.feeds import json_feed

NAME = "control.sock"
_LINE_MAX_BYTES = 65536
CLIENTS_MOST = 32
_LANGUAGES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")  # in which gettext looks, in this order


def language() -> str:
    """In which this process speaks, for a request whose answer has sentences in it."""
    return next(filter(None, map(os.environ.get, _LANGUAGES)), "en")


@contextmanager
def speaking(language: object) -> Iterator[None]:
    """What is said meanwhile, by programs that are started too, is in this language; where it is none, in the usual."""
    before = os.environ.get("LANGUAGE")
    if isinstance(language, str) and re.fullmatch(r"[A-Za-z0-9_.@:-]{1,60}", language):
        os.environ["LANGUAGE"] = language
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("LANGUAGE", None)
        else:
            os.environ["LANGUAGE"] = before


class InUse(Exception):
    """Another daemon answers at this door."""


class Door:
    """The daemon's side. `sockets` are to be watched for reading; `receive` gives the requests of a readable one."""

    def __init__(self, path: Path) -> None:
        """InUse where a daemon lives behind it; what a dead one left behind is cleared away."""
        self._path = path
        if _is_answered(path):
            raise InUse(_("{path}: another daemon runs on this store. Stop it first.").format(path=path))
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o660)
        self._listener.listen(4)
        self._listener.setblocking(False)
        self._clients: dict[int, tuple[socket.socket, bytearray]] = {}

    def filenos(self) -> list[int]:
        """What to watch for reading."""
        return [self._listener.fileno(), *self._clients]

    def receive(self, fileno: int) -> list[tuple[socket.socket, dict[str, Any]]]:
        """Requests that this descriptor brought, each with the client to reply to, now or later."""
        if fileno == self._listener.fileno():
            with suppress(OSError):  # whoever knocked is gone again
                client, _address = self._listener.accept()
                client.setblocking(False)
                self._clients[client.fileno()] = (client, bytearray())
            if len(self._clients) > CLIENTS_MOST:  # who forgets to hang up must not use up what may be open
                self._drop(next(iter(self._clients)))
            return []
        if fileno not in self._clients:  # dropped since it was looked at
            return []
        client, received = self._clients[fileno]
        try:
            data = client.recv(4096)
        except OSError:
            data = b""
        received += data
        if not data or len(received) > _LINE_MAX_BYTES:
            self._drop(fileno)
            return []
        requests = []
        while b"\n" in received:
            line, _newline, rest = bytes(received).partition(b"\n")
            received[:] = rest
            requests.append((client, json_feed.read(line) or {}))
        return requests

    def reply(self, client: socket.socket, answer: dict[str, Any]) -> None:
        """One line back; a client that is gone or does not read loses it."""
        if client.fileno() not in self._clients:
            return
        client.settimeout(0.2)
        try:
            client.sendall(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
            client.setblocking(False)
        except OSError:
            self._drop(client.fileno())

    def close(self) -> None:
        """Close everything and remove the socket."""
        for client in list(self._clients):
            self._drop(client)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _drop(self, fileno: int) -> None:
        self._clients.pop(fileno)[0].close()


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def ask(path: Path, request: dict[str, Any], timeout_s: float = 5.0) -> dict[str, Any]:
    """One request to the daemon behind `path`; its answer. OSError when no daemon is there or it does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as lines:
            line = lines.readline()
    answer = json_feed.read(line)
    if answer is None:
        raise ConnectionError(f"{path}: the daemon closed the connection without an answer")
    return answer
