"""The local door: what is no request is passed over, and the next client is served."""

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from edge.control import CLIENTS_MOST, Door


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


def test_who_never_hangs_up_makes_room_for_the_next_client(tmp_path: Path) -> None:
    door = Door(tmp_path / "control.sock")
    listener, *_nobody = door.filenos()
    with ExitStack() as stack:
        for _ in range(2 * CLIENTS_MOST):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(tmp_path / "control.sock"))
            oldest = door.filenos()[1:2]
            door.receive(listener)
        assert len(door.filenos()) == 1 + CLIENTS_MOST
        assert door.receive(*oldest) == []  # it was readable in the same turn
        client.sendall(b'{"do": "status"}\n')
        ((_client, request),) = door.receive(door.filenos()[-1])
        assert request == {"do": "status"}
    door.close()


def test_who_knocks_and_is_gone_ends_nothing(tmp_path: Path) -> None:
    door = Door(tmp_path / "control.sock")
    assert door.receive(door.filenos()[0]) == []
    door.close()
