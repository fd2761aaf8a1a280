"""The daemon's local door: whatever a client writes, requests are objects, and the door goes on for the next one.

Input: a script: pieces that the client writes; another kind of step lets the daemon reply.
"""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from edge.control import Door
from tests.fuzz.script import script, steps

WRITE, REPLY = range(2)
_folder = TemporaryDirectory(prefix="tankgate-door-")
_PATH = Path(_folder.name, "control.sock")
_DOOR = Door(_PATH)


def seeds() -> Iterator[bytes]:
    status = b'{"do": "status"}\n'
    accept = '{"do": "accept_unit", "bus": "gas-a", "unit_id": 3, "by": "张三", "reason": null}\n'.encode()
    yield script((WRITE, status), (REPLY, b""))
    yield script((WRITE, accept[:40]), (WRITE, accept[40:]), (REPLY, b""), (WRITE, status + status), (REPLY, b"\1"))
    yield script((WRITE, b'{"do": "apply", "gateway_toml": "/etc/tankgate/gateway.toml"}\n[1, 2.5e3, "\\u00e9"]\n'))


def run_one(data: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(str(_PATH))
        (listener,) = _DOOR.filenos()
        assert _DOOR.receive(listener) == []
        _listener, mine = _DOOR.filenos()
        asked = []
        for what, body in steps(data):
            if what % 2 == WRITE and body:
                client.sendall(body)
                asked += _DOOR.receive(mine)
            elif asked:
                server, request = asked.pop()
                _DOOR.reply(server, {"asked": request})
                with client.makefile("rb") as lines:
                    assert json.loads(lines.readline()) == {"asked": request}
            assert all(isinstance(request, dict) for _server, request in asked)
    _DOOR.receive(mine)
    assert _DOOR.filenos() == [listener]
