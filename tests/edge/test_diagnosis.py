"""The judgement of what was seen, where this machine cannot be made so: rights, clocks, cards, old certificates."""

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge import diagnosis, machine
from edge.certificate import Certificate
from edge.config import load_site
from edge.diagnosis import Finding, Folder, Holder, Person, Port, Reached, StoreFile, TextFile
from protocols.model import Destination, Site

TOML = "gateway.toml"
PI = Person("pi", False, frozenset({"pi", "dialout"}), frozenset({"dialout"}))
GUEST = Person("guest", False, frozenset({"guest"}), frozenset())
NOW_S = 1_795_400_000.0  # 2026-11-22
DAY_S = 86400
NOBODY = 65534


@pytest.fixture(scope="module")
def site() -> Site:
    """Its board cab1 has no port of its own, cab2 is on /dev/ttyAMA2."""
    return load_site(Path(__file__).parents[2] / "hil_tests" / "site" / "gateway.toml")


def states(found: Iterator[Finding]) -> list[tuple[str, str]]:
    return [(finding.check, finding.state) for finding in found]


# --- ports --------------------------------------------------------------------------------------------------

USB, AMA = "/dev/ttyUSB0", "/dev/ttyAMA2"
FREE = Port(USB, exists=True, is_device=True, may_use=True, group="dialout")


def boards(site: Site, person: Person, usb: Port, ama: Port, links: dict[str, str] | None = None) -> list[Finding]:
    """What is said of cab1, which is looked for, and cab2; `links`: what the daemon, process 7, knows of them."""
    status: dict[str, Any] | None = None
    if links:
        status = {"pid": 7, "boards": [{"board": name, "link": link, "port": USB} for name, link in links.items()]}
    present = [USB] if usb.exists else []
    return list(diagnosis.boards(site, {USB: usb, AMA: ama}, present, status, person, TOML))


def test_boards_that_the_daemon_hears_need_nothing_else(site: Site) -> None:
    gone = Port(AMA, exists=False)
    found = boards(site, GUEST, Port(USB, exists=False), gone, {"cab1": "up", "cab2": "up"})
    assert [(finding.state, finding.found) for finding in found] == [("ok", f"up on {USB}.")] * 2
    found = boards(site, PI, FREE, gone, {"cab1": "up", "cab2": "down"})
    assert states(iter(found)) == [("board.up", "ok"), ("board.up", "fault"), ("port.exists", "fault")]


@pytest.mark.parametrize(
    ("holder", "do"),
    [
        ("minicom -D /dev/ttyAMA2", "kill 812"),
        ("/usr/sbin/ModemManager", "sudo systemctl disable --now ModemManager"),
        ("/sbin/agetty -o -p -- \\u --keep-baud 115200", "sudo systemctl disable --now serial-getty@ttyAMA2.service"),
    ],
)
def test_who_has_a_port_and_what_makes_him_let_go(site: Site, holder: str, do: str) -> None:
    ama = replace(FREE, path=AMA, holders=(Holder(7, "tankgate run"), Holder(812, holder)))
    taken = boards(site, PI, FREE, ama, {"cab1": "up", "cab2": "down"})[-1]
    assert (taken.check, taken.state, taken.do) == ("port.taken", "fault", do)
    assert taken.found == f"is taken by process 812 ({holder})."
    ours = replace(ama, holders=(Holder(7, "tankgate run"),))
    assert boards(site, PI, FREE, ours, {"cab1": "up", "cab2": "down"})[-1].state == "ok"
    (of_cab2,) = boards(site, PI, FREE, ours)[1:]  # no daemon of this site: then that one is another's
    assert (of_cab2.check, of_cab2.do) == ("port.taken", "kill 7")


def test_a_board_without_a_port_of_its_own_is_looked_for_where_it_can_be(site: Site) -> None:
    ama = replace(FREE, path=AMA)
    assert f"looked for on {USB}" in boards(site, PI, FREE, ama)[0].found
    assert boards(site, PI, Port(USB, exists=False), ama)[0].found == "this machine has no serial port."
    closed = boards(site, PI, replace(FREE, holders=(Holder(9, "cat"),)), ama)[0]
    assert (closed.check, closed.where) == ("port.taken", f"boards.cab1 {USB}")


def test_rights_for_ports(site: Site) -> None:
    barred = replace(FREE, path=AMA, may_use=False)
    finding = boards(site, GUEST, FREE, barred)[1]
    assert (finding.check, finding.allowed) == ("port.rights", "members of group dialout")
    assert finding.do.startswith("sudo usermod -aG dialout guest ")
    fresh = replace(GUEST, listed_groups=frozenset({"dialout"}))  # enrolled after this log-in
    assert boards(site, fresh, FREE, barred)[1].do == "Log out and in again."
    assert diagnosis.serial_rights(PI).state == "ok"
    assert diagnosis.serial_rights(GUEST).do.startswith("sudo usermod -aG dialout guest ")
    assert diagnosis.serial_rights(fresh).do == "Log out and in again."


def test_what_cannot_be_seen_is_said(site: Site) -> None:
    hidden = replace(FREE, path=AMA, unseen=83)
    finding = boards(site, PI, FREE, hidden)[1]
    assert finding.state == "ok" and f"83 processes of others are hidden (`sudo fuser -v {AMA}`)" in finding.found


def test_the_daemon_of_another_user() -> None:
    status = {"pid": 7, "version": "1"}
    assert diagnosis.daemon(status, "", "door", PI, "pi", TOML).state == "ok"
    assert diagnosis.daemon(status, "", "door", PI, "tankgate", TOML).do == f"sudo -u tankgate tankgate doctor {TOML}"
    assert diagnosis.daemon(None, "", "door", PI, "", TOML).state == "ok"
    assert diagnosis.daemon(None, "Permission denied", "door", PI, "", TOML).state == "remark"


# --- clock --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now_s", "opened_ms", "is_synchronized", "has_rtc", "expected"),
    [
        (NOW_S, 0, True, True, {"clock.year": "ok", "clock.synchronized": "ok"}),
        (NOW_S, 0, True, False, {"clock.year": "ok", "clock.synchronized": "ok", "clock.rtc": "remark"}),
        (NOW_S, 0, False, True, {"clock.year": "ok", "clock.synchronized": "fault"}),
        (0.0, 0, True, True, {"clock.year": "fault", "clock.synchronized": "ok"}),
        (NOW_S, int(NOW_S * 1000) + 1, True, True, {"clock.year": "fault", "clock.synchronized": "ok"}),
        (4_200_000_000.0, 0, True, True, {"clock.year": "fault", "clock.synchronized": "ok"}),  # 2103
    ],
)
def test_the_clock(
    now_s: float, opened_ms: int, is_synchronized: bool, has_rtc: bool, expected: dict[str, str]
) -> None:
    store = StoreFile("tankgate.db", exists=True, opened_ms=opened_ms)
    assert dict(states(diagnosis.clock(now_s, is_synchronized, has_rtc, store))) == expected


# --- disk and store -----------------------------------------------------------------------------------------

DISK = Folder("/data/store", True, "/data/store", True, True, "/data", "/dev/sda1", "ext4", False, 10**10, 10**9)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [("store.folder", "ok"), ("disk.space", "ok")]),
        ({"exists": False, "at": "/data"}, [("store.folder", "ok"), ("disk.space", "ok")]),
        ({"may_write": False}, [("store.folder", "fault"), ("disk.space", "ok")]),
        ({"is_folder": False}, [("store.folder", "fault")]),
        ({"is_read_only": True}, [("disk.writable", "fault"), ("disk.space", "ok")]),
        ({"kind": "tmpfs"}, [("store.folder", "ok"), ("disk.lasting", "remark"), ("disk.space", "ok")]),
        ({"kind": "nfs4"}, [("store.folder", "ok"), ("disk.lasting", "fault"), ("disk.space", "ok")]),
        ({"device": "/dev/mmcblk0p2"}, [("store.folder", "ok"), ("disk.lasting", "remark"), ("disk.space", "ok")]),
        ({"free_bytes": 2 * 10**9 - 1}, [("store.folder", "ok"), ("disk.space", "fault")]),
        ({"free_bytes": 2 * 10**9}, [("store.folder", "ok"), ("disk.space", "ok")]),  # 1 GB of 3 is there already
        ({"free_bytes": 0, "store_bytes": 4 * 10**9}, [("store.folder", "ok"), ("disk.space", "ok")]),
    ],
)
def test_the_stores_place(changes: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert states(diagnosis.disk(replace(DISK, **changes), 3e9, PI)) == expected


def test_an_old_sqlite() -> None:
    assert diagnosis.sqlite((3, 51, 3), (3, 51, 3)).state == "ok"
    assert diagnosis.sqlite((3, 40, 1), (3, 51, 3)).allowed == "3.51.3 or newer"


def as_nobody(look: Callable[[], str]) -> str:
    """What a user without any rights sees; root has them all."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            os.write(writing, look().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told


def test_who_may_not_write_is_told_by_name() -> None:
    with tempfile.TemporaryDirectory() as made:  # pytest's own folders are closed to others
        path = Path(made)
        path.chmod(0o555)

        def look() -> str:
            folder = machine.folder(path / "a" / "store")
            return repr(list(diagnosis.disk(folder, 0, machine.person())))

        told = as_nobody(look)
        path.chmod(0o755)
    assert f"may not write in {made}." in told and "sudo install -d -o " in told


def test_what_another_user_holds_cannot_be_seen_without_root() -> None:
    told = as_nobody(lambda: str(machine.ports({"/dev/null"})["/dev/null"].unseen))
    assert int(told) > 0 or os.getuid() != 0


# --- certificates and brokers -------------------------------------------------------------------------------

DISTRICT = Destination("district", "mqtts://mqtt.example.invalid:8883", "json", "ca.pem", "ours.pem", "ours.key")


def certificate(name: str, begins_days: float, ends_days: float) -> Certificate:
    return Certificate(name, int(NOW_S + begins_days * DAY_S), int(NOW_S + ends_days * DAY_S))


@pytest.mark.parametrize(
    ("begins_days", "ends_days", "state", "said"),
    [
        (-1, 400, "ok", "400 days"),
        (-1, 30, "ok", "30 days"),
        (-1, 29.9, "remark", "29 days"),
        (-2, -1, "fault", "expired on 2026-11-22."),
        (1, 400, "fault", "is not valid before 2026-11-24"),
    ],
)
def test_how_long_a_certificate_counts(begins_days: float, ends_days: float, state: str, said: str) -> None:
    file = TextFile("cert", "ours.pem", certificates=(certificate("jt-0042", begins_days, ends_days),))
    (finding,) = diagnosis.certificates(DISTRICT, "jt-0042", [file], "", NOW_S)
    assert (finding.check, finding.state) == ("certificate.valid", state) and said in finding.found
    assert finding.where == "destinations.district.cert ours.pem"


def test_whose_certificate_counts_in_a_file_of_several() -> None:
    several = certificate("jt-0042", -1, 400), certificate("issuer", -900, 10)
    chain = TextFile("cert", "ours.pem", certificates=several)
    assert states(diagnosis.certificates(DISTRICT, "jt-0042", [chain], "", NOW_S)) == [("certificate.valid", "ok")]
    authorities = TextFile("ca", "ca.pem", certificates=several)
    assert states(diagnosis.certificates(DISTRICT, "jt-0042", [authorities], "", NOW_S)) == [
        ("certificate.valid", "remark")
    ]


def test_a_key_for_its_owner_alone_and_without_a_password() -> None:
    def told(**changes: Any) -> list[tuple[str, str]]:
        return states(diagnosis.certificates(DISTRICT, "jt-0042", [TextFile("key", "ours.key", **changes)], "", NOW_S))

    assert told(mode=0o600) == told(mode=0o400) == [("rights.key", "ok")]
    assert told(mode=0o640) == told(mode=0o604) == [("rights.key", "fault")]
    assert told(mode=0o600, is_encrypted=True) == [("certificate.file", "fault")]
    assert told(fault="Permission denied") == [("certificate.file", "fault")]


def test_a_refused_login_of_a_connected_daemon_is_no_fault() -> None:
    """A broker may know the gateway's own name only."""
    refused = Reached("login", "mqtt.example.invalid", 8883, "Client identifier not valid", 0x85)
    assert states(diagnosis.broker(DISTRICT, "jt-0042", refused, True)) == [("broker.login", "ok")]
    (finding,) = diagnosis.broker(DISTRICT, "jt-0042", refused, False)
    assert finding.state == "fault" and "refuse only the name of this examination" in finding.allowed
    (finding,) = diagnosis.broker(DISTRICT, "jt-0042", replace(refused, code=0x86), False)
    assert "of this examination" not in finding.allowed


def test_a_broker_elsewhere_without_encryption_is_worth_a_remark() -> None:
    reached = Reached("all", "mqtt.example.invalid", 1883)
    plain = replace(DISTRICT, url="mqtt://mqtt.example.invalid:1883")
    assert states(diagnosis.broker(plain, "jt-0042", reached, False)) == [
        ("broker.tls", "remark"), ("broker.login", "ok")
    ]  # fmt: skip
    near = replace(plain, url="mqtt://127.0.0.1:1883")
    assert states(diagnosis.broker(near, "jt-0042", replace(reached, host="127.0.0.1"), False)) == [
        ("broker.login", "ok")
    ]
