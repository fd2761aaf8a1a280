"""What the gateway's machine is like: its user, ports and who holds them, disk, store, files and brokers. Shell.

Owns the looking. Must never change anything, neither here nor at a broker: no port is opened (that alone would reset
some boards), the store is only read and leaves no file beside it, and a login has an id of its own and no session.
"""

import errno
import grp
import os
import pwd
import socket
import ssl
import stat
import time
from contextlib import suppress
from pathlib import Path

import apsw
from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, ConnectFlags, error_string
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.broker_url import address
from edge.certificate import read_pem
from edge.diagnosis import Folder, Holder, Person, Port, Reached, StoreFile, TextFile, examination_id
from edge.fault_words import reason
from edge.northbound import key_file, tls_context
from edge.store import APPLICATION_ID, CHECKED_TABLES, FILE, SCHEMA, StoreFault, Unclosed, reading
from protocols.model import Destination

ANSWER_S = 5.0
_ALERT_S = 0.5
_PROGRAM_MAX = 60


def person() -> Person:
    """Who runs this program."""
    uid = os.getuid()
    user = user_name(uid)
    listed = {group.gr_name for group in grp.getgrall() if user in group.gr_mem}
    groups = {_group_name(gid) for gid in {*os.getgroups(), os.getgid()}}
    return Person(user, uid == 0, frozenset(groups), frozenset(listed))


def user_name(uid: int) -> str:
    """A user's name, or the number of one that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def owner_of(pid: int) -> str:
    """The user of a process; empty when it is gone."""
    try:
        return user_name(Path(f"/proc/{pid}").stat().st_uid)
    except OSError:
        return ""


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


# --- ports --------------------------------------------------------------------------------------------------


def ports(paths: set[str]) -> dict[str, Port]:
    """Each of these paths: what is there, and who holds it."""
    real = {path: os.path.realpath(path) for path in paths}
    holders, unseen = _holders(set(real.values()))
    return {path: _port(path, tuple(holders.get(real[path], ())), unseen) for path in paths}


def _port(path: str, holders: tuple[Holder, ...], unseen: int) -> Port:
    try:
        found = Path(path).stat()
    except OSError:
        return Port(path, exists=False)
    return Port(
        path,
        exists=True,
        is_device=stat.S_ISCHR(found.st_mode),
        may_use=os.access(path, os.R_OK | os.W_OK),
        group=_group_name(found.st_gid),
        holders=holders,
        unseen=unseen,
    )


def _holders(devices: set[str]) -> tuple[dict[str, list[Holder]], int]:
    """Which processes have them open; and how many processes do not show what they have open."""
    holders: dict[str, list[Holder]] = {}
    unseen = 0
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            links = list((process / "fd").iterdir())
        except PermissionError:
            unseen += 1
            continue
        except OSError:  # it ended meanwhile
            continue
        open_here = {_target(link) for link in links}
        for device in open_here & devices:
            holders.setdefault(device, []).append(Holder(int(process.name), _program(process)))
    return holders, unseen


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _program(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return words[:_PROGRAM_MAX] or (process / "comm").read_text().strip()
    except OSError:
        return "?"


def has_rtc() -> bool:
    """Whether there is a clock that goes on without power."""
    return any(Path("/dev").glob("rtc*"))


# --- disk and store -----------------------------------------------------------------------------------------


def folder(path: Path) -> Folder:
    """The store's folder and its file system."""
    at = path
    while not os.access(at, os.F_OK) and at != at.parent:  # Path.exists raises where it may not look
        at = at.parent
    mount, kind = _mount_of(os.path.realpath(at))
    disk = os.statvfs(at)
    number = at.stat().st_dev
    block = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")  # mounts may call it /dev/root
    return Folder(
        path=str(path),
        exists=at == path,
        at=str(at),
        may_write=os.access(at, os.W_OK | os.X_OK),
        is_folder=at.is_dir(),
        mount=mount,
        device=f"/dev/{block.resolve().name}" if block.exists() else "",
        kind=kind,
        is_read_only=bool(disk.f_flag & os.ST_RDONLY),
        free_bytes=disk.f_bavail * disk.f_frsize,
        store_bytes=_size_bytes(path / FILE) + _size_bytes(path / f"{FILE}-wal"),
    )


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _mount_of(path: str) -> tuple[str, str]:
    """Mount point and file system of a path: the longest that it lies in, the last one mounted there."""
    best = ("/", "")
    for line in Path("/proc/self/mounts").read_text(errors="replace").splitlines():
        _device, escaped, kind, *_rest = line.split(" ")
        mount = escaped.replace("\\040", " ")
        if (path == mount or path.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best


def store_file(path: Path) -> StoreFile:
    """The store, read and nothing else."""
    name = str(path)
    if not os.access(path, os.F_OK):
        return StoreFile(name, exists=False)
    try:
        with reading(path) as connection:
            return _examine(name, connection)
    except Unclosed:
        return StoreFile(name, exists=True, is_unclosed=True)
    except StoreFault as fault:
        return StoreFile(name, exists=True, damage=str(getattr(fault.__cause__, "strerror", None) or fault.__cause__))


def _examine(name: str, connection: apsw.Connection) -> StoreFile:
    """As its opening does: a full check of gigabytes on a card would take too long."""
    application_id, schema = connection.pragma("application_id"), connection.pragma("user_version")
    if (application_id, schema) != (APPLICATION_ID, SCHEMA):
        return StoreFile(name, exists=True, damage=f"application_id {application_id:#x}, user_version {schema}")
    for table in CHECKED_TABLES:
        faults = [fault for (fault,) in connection.execute(f"PRAGMA quick_check('{table}')")]
        if faults != ["ok"]:
            return StoreFile(name, exists=True, damage=str(faults[0]))
    connection.execute("SELECT * FROM batch ORDER BY id DESC LIMIT 1").fetchall()
    newest = connection.execute("SELECT gateway, opened_ms FROM epoch ORDER BY id DESC LIMIT 1").fetchone()
    gateway, opened_ms = newest or ("", 0)
    return StoreFile(name, exists=True, gateway=gateway, opened_ms=opened_ms)


# --- certificates and brokers -------------------------------------------------------------------------------


def text_files(destination: Destination) -> list[TextFile]:
    """Those of ca, cert and key that the destination has."""
    named = (("ca", destination.ca), ("cert", destination.cert), ("key", destination.key))
    return [_text_file(name, path) for name, path in named if path]


def _text_file(name: str, written: str) -> TextFile:
    path = key_file(written) or ""
    if path != written and "CREDENTIALS_DIRECTORY" not in os.environ:
        return TextFile(name, written, is_elsewhere=True)
    try:
        data = Path(path).read_bytes()
        mode = stat.S_IMODE(Path(path).stat().st_mode)
    except OSError as fault:
        return TextFile(name, path, fault=reason(fault))
    if name == "key":
        damage = "" if b"PRIVATE KEY-----" in data else "-----BEGIN PRIVATE KEY-----"
        return TextFile(name, path, mode=mode, damage=damage and f"{damage} ?", is_encrypted=b"ENCRYPTED" in data)
    try:
        certificates = tuple(read_pem(data))
    except ValueError as fault:
        return TextFile(name, path, damage=str(fault))
    damage = "" if certificates else "-----BEGIN CERTIFICATE----- ?"
    return TextFile(name, path, mode=mode, certificates=certificates, damage=damage)


def key_mismatch(destination: Destination) -> str:
    """What OpenSSL says where cert and key do not belong together; empty where they do, or one is not there."""
    key = key_file(destination.key)
    if not destination.cert or not key or not Path(key).exists():
        return ""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(destination.cert, key, password="")
    except (OSError, ValueError) as fault:
        return str(fault)
    return ""


def reach(destination: Destination, gateway: str) -> Reached:
    """Name, connection, TLS and login, one after the other; then it leaves. Waits ANSWER_S at most for each."""
    host, port, is_tls = address(destination.url)
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as fault:
        return Reached("address", host, port, getattr(fault, "strerror", None) or str(fault))
    try:
        connection = socket.create_connection((host, port), ANSWER_S)
    except OSError as fault:
        return Reached("connect", host, port, reason(fault))
    with connection:
        if is_tls:
            try:
                _encrypt(connection, host, destination)
            except ssl.SSLCertVerificationError as fault:
                return Reached("tls", host, port, fault.verify_message)
            except (ssl.SSLError, ValueError) as fault:
                return Reached("tls", host, port, str(fault))
            except OSError as fault:
                return Reached("tls", host, port, reason(fault))
    return _login(destination, gateway, host, port, is_tls)


def _encrypt(connection: socket.socket, host: str, destination: Destination) -> None:
    """The handshake, and what the broker says of our certificate: in TLS 1.3 that comes after it."""
    with tls_context(destination).wrap_socket(connection, server_hostname=host) as encrypted:
        encrypted.settimeout(_ALERT_S)
        with suppress(TimeoutError):  # a broker that is content waits for us to speak
            if not encrypted.recv(1):
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


def _login(destination: Destination, gateway: str, host: str, port: int, is_tls: bool) -> Reached:
    answers: list[ReasonCode] = []

    def on_connect(
        _client: Client, _userdata: None, _flags: ConnectFlags, answer: ReasonCode, _properties: Properties | None
    ) -> None:
        answers.append(answer)

    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=examination_id(gateway),
        protocol=MQTTProtocolVersion.MQTTv5,
        reconnect_on_failure=False,
    )
    client.connect_timeout = ANSWER_S
    client.on_connect = on_connect
    until_s = time.monotonic() + ANSWER_S
    try:
        if is_tls:
            client.tls_set_context(tls_context(destination))
        client.connect(host, port, clean_start=True)
        ended = client.loop(ANSWER_S)
        while not answers and ended == MQTT_ERR_SUCCESS and time.monotonic() < until_s:
            ended = client.loop(max(0.0, until_s - time.monotonic()))
        client.disconnect()
    except OSError as fault:
        return Reached("login", host, port, reason(fault))
    if not answers:
        silent = reason(TimeoutError()) if ended == MQTT_ERR_SUCCESS else error_string(ended)
        return Reached("login", host, port, silent)
    if answers[0].is_failure:
        return Reached("login", host, port, str(answers[0]), answers[0].value)
    return Reached("all", host, port)
