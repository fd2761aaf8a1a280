"""A command, as it comes down from the district: none for this gateway, or one that does what gateway.toml allows.

Input: the payload. It comes twice: what is done is done once, and acknowledges what was named and nothing else.
"""

import json
from collections.abc import Iterator

from edge.alarms.requests import Requests
from edge.alarms.system import SystemAlarms
from protocols.feeds import json_feed
from protocols.model import Destination
from tests.edge.test_judge import Judged
from tests.edge.test_pipeline import START_MS

_GATEWAY = "jt-0042"
_ALLOWED = (("acknowledge", ("district-duty",)), ("silence", ("district-duty",)))
_DESTINATION = Destination("district", "mqtts://x:1", "json", None, None, None, commands=_ALLOWED)
_COMMAND = {
    "schema": "tankgate/command/1", "gateway": _GATEWAY, "id": "01KAR9Z7", "do": "acknowledge",
    "alarm": "GD07.gas:HH", "occurrence": 1, "role": "district-duty", "reason": "on the way",
}  # fmt: skip


def seeds() -> Iterator[bytes]:
    for change in ({}, {"do": "silence", "reason": None}, {"role": "guest"}, {"occurrence": 2}, {"gateway": "jt-0043"}):
        yield json.dumps(_COMMAND | change, ensure_ascii=False).encode()
    yield json.dumps(_COMMAND | {"alarm": "system.store:FAULT", "do": "silence"}).encode()


def run_one(data: bytes) -> None:
    asked = json_feed.command(data, _GATEWAY)
    if asked is None:
        return
    json_feed.reply(_GATEWAY, asked.id, START_MS, None, "ACKED")
    world = Judged()
    world.at(1, "GD07.gas", 60.0)
    before = {each.alarm: each.facts for each in world.judge.standing()}
    requests = Requests(world.judge, SystemAlarms())
    for _time in range(2):
        answer, told = requests.command(_DESTINATION, asked, 1.0, START_MS, START_MS)
        assert bool(told) == ("done" in answer) != ("refused" in answer)
    changed = {each.alarm for each in world.judge.standing() if each.facts != before.get(each.alarm)}
    assert changed <= {asked.alarm} and (not changed or (asked.do, asked.role) == ("acknowledge", "district-duty"))
