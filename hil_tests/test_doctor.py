"""`tankgate doctor` beside a running gateway: it sees who uses boards and broker, and disturbs neither."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hil_tests.bench.rig import N_, Rig
from hil_tests.chain import Chain
from hil_tests.mosquitto import Mosquitto

pytestmark = pytest.mark.needs("mosquitto", "two_boards", "reset")

POINTS = 22
WITHIN_S = 60.0


def step_until(chain: Chain, true) -> None:
    end_s = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < end_s and chain.ended() is None, chain.log("gateway").read_text(encoding="utf-8")
        chain.step(0.01)


@pytest.mark.shows(N_("The gateway's machine is examined while it runs, and nothing is disturbed by that."))
def test_a_running_gateway_is_in_order_and_stays_so(rig: Rig, tmp_path: Path) -> None:
    chain = Chain(tmp_path, session="district", rig=rig)
    try:
        chain.start_broker(Mosquitto)
        chain.start_district()
        chain.start_boards()
        chain.start_gateway()
        step_until(chain, lambda: len(chain.latest) == POINTS)
        gateway_toml = tmp_path / "site" / "gateway.toml"
        command = [sys.executable, "-m", "edge", "doctor", "--lang", "en", "--json", str(gateway_toml)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ) as doctor:
            step_until(chain, lambda: doctor.poll() is not None)
            assert doctor.stdout is not None
            found = json.load(doctor.stdout)["findings"]
        faults = [finding for finding in found if finding["state"] == "fault"]
        assert not [fault for fault in faults if fault["topic"] != "clock"], faults  # which is this machine's
        told = {(finding["check"], finding["where"].split()[0]): finding["found"] for finding in found}
        assert told["board.up", "boards.cab1"].startswith("up on /")
        assert told["board.up", "boards.cab2"].startswith("up on /")
        assert told["broker.login", "destinations.district"] == "takes our login; nothing was published."
        assert "runs as process" in told["daemon.running", str(tmp_path / "site/store/control.sock")]

        end_ms = chain.now_ms
        step_until(chain, lambda: all(poll.utc_ms > end_ms for poll in chain.bench.ledger.missing(chain.now_ms, 0)))
        figures = chain.figures()
        assert figures.lost == figures.duplicated == figures.wrong_values == 0
        assert chain.log("gateway").read_text(encoding="utf-8").count("district: ") == 1  # connected, and never again
    finally:
        chain.close()
