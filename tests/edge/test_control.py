"""The local door: what is no request is passed over, and the next client is served."""

import socket
from pathlib import Path

import pytest

from edge.control import Door


@pytest.mark.parametrize(
    "line",
    [b"", b"status", b"[1]", b'{"do":' + b"[" * 60_000, b'{"by":"\\ud800"}', b'{"do":"\xff"}', b'{"ms":1e999}'],
    ids=lambda line: repr(line[:12]),
)
def test_what_is_no_request_is_an_empty_one(tmp_path: Path, line: bytes) -> None:
    door = Door(tmp_path / "control.sock")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "control.sock"))
        (listener,) = door.filenos()
        door.receive(listener)
        client.sendall(line + b'\n{"do": "status"}\n')
        requests: list[dict[str, object]] = []
        while len(requests) < 2:
            requests += [request for _client, request in door.receive(door.filenos()[1])]
    assert requests == [{}, {"do": "status"}]
    door.close()
