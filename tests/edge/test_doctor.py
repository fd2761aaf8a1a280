"""`tankgate doctor` as a technician starts it: on real ports, stores, certificates and brokers that are wrong."""

import json
import os
import pty
import secrets
import signal
import socket
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import pytest

from edge.store import Store
from hil_tests.mosquitto import Mosquitto
from tests.edge.certificates import authority, certificate

ROOT = Path(__file__).parents[2]
GATEWAY = "jt-0042"
FOUND_A_FAULT, USAGE = 1, 2
NOW_MS = 1_795_400_000_000


@pytest.fixture
def gateway_toml(tmp_path: Path) -> Path:
    """The example site, with boards that are not there and a broker that nobody is."""
    copytree(ROOT / "hil_tests" / "site", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "gateway.toml"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    change(path, "[boards.cab2]", f'port = "{tmp_path}/cab1"\n[boards.cab2]')
    change(path, "/dev/ttyAMA2", f"{tmp_path}/cab2")
    change(path, "127.0.0.1:1883", f"127.0.0.1:{port}")
    return path


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def doctor(gateway_toml: Path, *options: str, language: str = "en") -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        [sys.executable, "-m", "edge", "--lang", language, "doctor", str(gateway_toml), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    return ended


Finding = dict[str, str]


def findings(gateway_toml: Path) -> list[Finding]:
    """What it tells programs; its exit code is what it tells."""
    ended = doctor(gateway_toml, "--json")
    told = json.loads(ended.stdout)
    found: list[Finding] = told["findings"]
    faults = [finding for finding in found if finding["state"] == "fault"]
    assert told["gateway"] == GATEWAY and told["faults"] == len(faults)
    assert ended.returncode == (FOUND_A_FAULT if faults else 0)
    for finding in found:
        assert finding["found"] and finding["where"]
        assert (finding["state"] == "ok") != bool(finding["allowed"] and finding["do"])
    return found


def of(found: list[Finding], check: str, where: str = "") -> Finding:
    """The one finding of a check."""
    (finding,) = [finding for finding in found if finding["check"] == check and where in finding["where"]]
    return finding


def test_wrong_site_files_are_another_commands_matter(gateway_toml: Path) -> None:
    change(gateway_toml, "schema = 1", "schema = 7")
    ended = doctor(gateway_toml)
    assert ended.returncode == USAGE and "E-VAL-003" in ended.stderr and ended.stdout == ""
    assert doctor(gateway_toml.parent / "none.toml").returncode == USAGE


def test_lines_for_people(gateway_toml: Path) -> None:
    ended = doctor(gateway_toml)
    assert ended.returncode == FOUND_A_FAULT
    assert [line.split()[-1] for line in ended.stderr.splitlines()] == ["W-LIM-004"]  # a reminder of the sheet's
    lines = ended.stdout.splitlines()
    at = lines.index(f"FAULT [ports] boards.cab1 {gateway_toml.parent}/cab1: does not exist.")
    assert lines[at + 1].startswith("    allowed: a serial port; here are: ")
    assert lines[at + 2] == "    to do: ls -l /dev/serial/by-id"
    assert lines[-1].endswith(" faults.")


# --- ports --------------------------------------------------------------------------------------------------


@pytest.fixture
def cables(gateway_toml: Path) -> Iterator[None]:
    """Pseudo-terminals where the site's ports should be."""
    ends = [pty.openpty() for _ in range(2)]
    for (_near, far), name in zip(ends, ("cab1", "cab2"), strict=True):
        tty.setraw(far)
        (gateway_toml.parent / name).symlink_to(os.ttyname(far))
        os.close(far)
    yield
    for near, _far in ends:
        os.close(near)


def test_a_port_that_is_free_and_one_that_another_program_has(gateway_toml: Path, cables: None) -> None:
    port = gateway_toml.parent / "cab2"
    program = f"import time; port = open({str(port)!r}); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program]) as holder:
        try:
            until(lambda: has_open(holder.pid, port))
            found = findings(gateway_toml)
        finally:
            holder.kill()
    assert of(found, "port.usable")["found"] == "is there, and free."
    taken = of(found, "port.taken")
    assert taken["where"] == f"boards.cab2 {port}"
    assert f"process {holder.pid} ({sys.executable} -c" in taken["found"]
    assert taken["do"] == f"kill {holder.pid}"


def has_open(pid: int, path: Path) -> bool:
    held = subprocess.run(["ls", "-l", f"/proc/{pid}/fd"], capture_output=True, text=True, check=False).stdout
    return f" {os.path.realpath(path)}\n" in held


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_file_is_no_port(gateway_toml: Path) -> None:
    (gateway_toml.parent / "cab1").write_text("")
    assert of(findings(gateway_toml), "port.exists", "cab1")["found"] == "is no serial port."


def test_the_daemon_of_this_site_may_have_its_ports(gateway_toml: Path, cables: None) -> None:
    command = [sys.executable, "-m", "edge", "run", "--simulated", str(gateway_toml)]
    store = gateway_toml.parent / "store"
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as daemon:
        try:
            until(lambda: all(has_open(daemon.pid, gateway_toml.parent / name) for name in ("cab1", "cab2")))
            before = {file.name for file in store.iterdir()}
            found = findings(gateway_toml)
            assert {file.name for file in store.iterdir()} == before
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(20) == 0
        finally:
            daemon.kill()
    assert f"runs as process {daemon.pid}" in of(found, "daemon.running")["found"]
    held = [finding["found"] for finding in found if finding["check"] == "port.usable"]
    assert held == ["is held by the daemon of this site."] * 2
    assert of(found, "board.up", "cab1")["found"] == "the daemon does not hear it."
    assert of(found, "board.up", "cab1")["do"] == f"tankgate status {gateway_toml}"
    assert "belongs to this gateway" in of(found, "store.file")["found"]


# --- disk and store -----------------------------------------------------------------------------------------


def test_a_folder_in_a_file(gateway_toml: Path) -> None:
    change(gateway_toml, 'path      = "store"', 'path = "points.csv/store"')
    finding = of(findings(gateway_toml), "store.folder")
    assert (finding["state"], finding["found"]) == ("fault", f"{gateway_toml.parent}/points.csv is a file.")


def test_a_place_that_can_only_be_read(gateway_toml: Path) -> None:
    mounts = [line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines()]
    read_only = [each[1] for each in mounts if "ro" in each[3].split(",") and Path(each[1]).is_dir()]
    if not read_only:
        pytest.skip("nothing here is mounted read-only")
    change(gateway_toml, 'path      = "store"', f'path = "{read_only[0]}/store"')
    finding = of(findings(gateway_toml), "disk.writable")
    assert finding["do"] == f"sudo mount -o remount,rw {read_only[0]}"


def test_memory_is_no_place_for_readings(gateway_toml: Path) -> None:
    if not Path("/dev/shm").is_mount():
        pytest.skip("/dev/shm is not in memory here")
    change(gateway_toml, 'path      = "store"', 'path = "/dev/shm/tankgate-store"')
    finding = of(findings(gateway_toml), "disk.lasting")
    assert finding["state"] == "remark" and "a power failure takes every reading" in finding["found"]
    assert not Path("/dev/shm/tankgate-store").exists()


def make_store(folder: Path, gateway: str = GATEWAY) -> Store:
    folder.mkdir()
    store = Store(folder / "tankgate.db", gateway, NOW_MS, secrets.token_bytes)
    store.open(NOW_MS)
    return store


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_store_is_read_and_nothing_of_it_changes(gateway_toml: Path) -> None:
    folder = gateway_toml.parent / "store"
    make_store(folder).close()
    before = contents(folder)
    assert set(before) == {"tankgate.db", "tankgate-reserve"}
    assert of(findings(gateway_toml), "store.file")["state"] == "ok"
    assert contents(folder) == before


def test_the_store_of_another_gateway(gateway_toml: Path) -> None:
    make_store(gateway_toml.parent / "store", "jt-0099").close()
    finding = of(findings(gateway_toml), "store.gateway")
    assert (finding["state"], finding["found"]) == ("fault", "was written last by gateway jt-0099.")
    assert finding["do"].startswith("mv ")


def test_a_damaged_store(gateway_toml: Path) -> None:
    folder = gateway_toml.parent / "store"
    make_store(folder).close()
    data = bytearray((folder / "tankgate.db").read_bytes())
    data[2048:10240] = bytes(8192)  # its second to fifth page
    (folder / "tankgate.db").write_bytes(data)
    assert of(findings(gateway_toml), "store.file")["state"] == "fault"
    (folder / "tankgate.db").write_bytes(b"no database at all, but long enough to be one of a page" * 50)
    assert "not a database" in of(findings(gateway_toml), "store.file")["found"]
    assert {file.name for file in folder.iterdir()} == {"tankgate.db", "tankgate-reserve"}


def test_a_store_whose_gateway_lost_its_power(gateway_toml: Path, tmp_path: Path) -> None:
    """What is then on the disk, without the shared memory, which is never written back for sure."""
    store = make_store(tmp_path / "living")
    store.save_birth("d1c1a179", {"points": []})
    folder = gateway_toml.parent / "store"
    folder.mkdir()
    for name in ("tankgate.db", "tankgate.db-wal"):
        copy(tmp_path / "living" / name, folder / name)
    store.close()
    before = contents(folder)
    finding = of(findings(gateway_toml), "store.file")
    assert finding["state"] == "remark" and "the next start recovers it" in finding["found"]
    assert contents(folder) == before


# --- certificates and brokers -------------------------------------------------------------------------------


@pytest.fixture
def encrypted(broker, gateway_toml: Path) -> Mosquitto:
    """A broker that wants certificates of "ca", and a destination that has the right ones."""
    folder = gateway_toml.parent
    for name in ("ca", "other-ca"):
        authority(folder, name)
    certificate(folder, "broker", "broker")
    certificate(folder, "ours", GATEWAY)
    started: Mosquitto = broker(
        f"cafile {folder}/ca.pem\ncertfile {folder}/broker.pem\nkeyfile {folder}/broker.key\n"
        "require_certificate true\nuse_identity_as_username true\nlog_type all"
    )
    text = gateway_toml.read_text(encoding="utf-8")
    url = f'url = "mqtts://127.0.0.1:{started.port}"\nca = "ca.pem"\ncert = "ours.pem"\nkey = "ours.key"\n'
    head, tail = text.split("url  =")
    gateway_toml.write_text(head + url + tail.partition("\n")[2], encoding="utf-8")
    return started


needs_openssl = pytest.mark.needs("mosquitto", "openssl")


@needs_openssl
def test_what_is_in_order_up_to_the_brokers_word(gateway_toml: Path, encrypted: Mosquitto) -> None:
    found = findings(gateway_toml)
    assert of(found, "broker.login")["found"] == "takes our login; nothing was published."
    assert of(found, "rights.key")["state"] == "ok"
    assert of(found, "certificate.valid", ".cert ")["found"].startswith(f"{GATEWAY}: valid until 20")
    assert of(found, "certificate.valid", ".ca ")["state"] == "remark"  # of two days
    assert not [each for each in found if each["topic"] in ("certificates", "broker") and each["state"] == "fault"]
    log = encrypted.log.read_text()
    assert f"as {GATEWAY}-doctor " in log and f"as {GATEWAY} " not in log  # a running daemon keeps its place
    assert "Received PUBLISH" not in log and "Received SUBSCRIBE" not in log


def spoil(folder: Path, how: str) -> None:
    match how:
        case "expired":
            certificate(folder, "ours", GATEWAY, days=-1)
        case "another's name":
            certificate(folder, "ours", "jt-0099")
        case "another's key":
            certificate(folder, "other", GATEWAY)
            copy(folder / "other.key", folder / "ours.key")
        case "another authority":
            copy(folder / "other-ca.pem", folder / "ca.pem")
        case "no certificate":
            (folder / "ours.pem").write_text("-----BEGIN NOTHING-----\n")
        case "damaged certificate":
            (folder / "ours.pem").write_bytes((folder / "ours.pem").read_bytes().replace(b"MII", b"MIA"))
        case "missing key":
            (folder / "ours.key").unlink()
        case "open key":
            (folder / "ours.key").chmod(0o644)
    if how not in ("missing key", "open key"):
        (folder / "ours.key").chmod(0o600)


@needs_openssl
@pytest.mark.parametrize(
    ("how", "check", "where", "said", "at_the_broker"),
    [
        ("expired", "certificate.valid", ".cert ", "expired on 20", "broker.tls"),
        ("another's name", "certificate.name", ".cert ", "its CN is jt-0099.", None),
        ("another's key", "certificate.key", ".key", "do not belong together", "broker.tls"),
        ("another authority", "broker.tls", "", "self-signed certificate in certificate chain", "broker.tls"),
        ("no certificate", "certificate.file", ".cert ", "cannot be used", "broker.tls"),
        ("damaged certificate", "certificate.file", ".cert ", "cannot be used", "broker.tls"),
        ("missing key", "certificate.file", ".key ", "there is no such file", "broker.tls"),
        ("open key", "rights.key", ".key ", "its mode is 644", None),
    ],
)
def test_a_wrong_certificate(
    gateway_toml: Path, encrypted: Mosquitto, how: str, check: str, where: str, said: str, at_the_broker: str | None
) -> None:
    spoil(gateway_toml.parent, how)
    found = findings(gateway_toml)
    finding = of(found, check, where)
    assert finding["state"] == "fault" and said in finding["found"]
    ours = {each["check"] for each in found if each["state"] == "fault" and each["topic"] not in ("clock", "ports")}
    assert ours == {check, at_the_broker} - {None}


@needs_openssl
def test_a_credential_that_only_the_service_is_given(
    gateway_toml: Path, encrypted: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(gateway_toml, '"ours.key"', '"credential:ours.key"')
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    finding = of(findings(gateway_toml), "certificate.file", ".key ")
    assert finding["state"] == "remark" and "it cannot be examined from here" in finding["found"]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(gateway_toml.parent))
    assert of(findings(gateway_toml), "broker.login")["state"] == "ok"


@pytest.mark.needs("mosquitto")
def test_a_refused_login(gateway_toml: Path, broker) -> None:
    point_at(gateway_toml, f"mqtt://127.0.0.1:{broker('allow_anonymous false').port}")
    finding = of(findings(gateway_toml), "broker.login")
    assert finding["state"] == "fault"
    assert finding["found"] == "refuses the login of jt-0042-doctor: Not authorized, reason code 135."


def point_at(gateway_toml: Path, url: str) -> None:
    head, tail = gateway_toml.read_text(encoding="utf-8").split("url  =")
    gateway_toml.write_text(f'{head}url = "{url}"\n{tail.partition(chr(10))[2]}', encoding="utf-8")


@pytest.mark.needs("mosquitto")
def test_a_broker_without_tls_where_tls_is_asked_for(gateway_toml: Path, broker) -> None:
    point_at(gateway_toml, f"mqtts://127.0.0.1:{broker().port}")
    assert of(findings(gateway_toml), "broker.tls")["state"] == "fault"


@needs_openssl
def test_a_broker_with_tls_where_none_is_asked_for(gateway_toml: Path, encrypted: Mosquitto) -> None:
    text = gateway_toml.read_text(encoding="utf-8").replace("mqtts://", "mqtt://")
    text = text.replace('ca = "ca.pem"\ncert = "ours.pem"\nkey = "ours.key"\n', "")
    gateway_toml.write_text(text, encoding="utf-8")
    finding = of(findings(gateway_toml), "broker.login")
    assert finding["state"] == "fault" and "closes the connection at login" in finding["found"]


@pytest.mark.parametrize(
    ("url", "check"),
    [("mqtt://127.0.0.1:{port}", "broker.connect"), ("mqtts://mqtt.example.invalid:8883", "broker.address")],
)
def test_a_broker_that_is_not_there(gateway_toml: Path, url: str, check: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and never listens
        point_at(gateway_toml, url.format(port=nobody.getsockname()[1]))
        assert of(findings(gateway_toml), check)["state"] == "fault"


class Silent:
    """Takes connections and says nothing, or what it is told to say."""

    def __init__(self, answer: bytes) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.answer = answer

    def serve(self) -> None:
        connections: list[Any] = []
        while True:
            try:
                connection, _address = self.listener.accept()
            except OSError:
                return
            connections.append(connection)
            if self.answer and connection.recv(4096):
                connection.sendall(self.answer)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "no answer came in time"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "closes the connection at login"),
        (b"\x20\x03\x00\x84\x00", "Unsupported protocol version, reason code 132"),  # CONNACK
    ],
)
def test_what_answers_is_no_mqtt_5_broker(gateway_toml: Path, answer: bytes, said: str) -> None:
    silent = Silent(answer)
    pid = os.fork()
    if pid == 0:
        silent.serve()
        os._exit(0)
    try:
        point_at(gateway_toml, f"mqtt://127.0.0.1:{silent.port}")
        assert said in of(findings(gateway_toml), "broker.login")["found"]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        silent.listener.close()
