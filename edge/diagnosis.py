"""What was seen of the gateway's machine -> what is in order, what is worth a remark, what is a fault. Policy.

Owns the judgement and its words: what was found, what is allowed, and a command that helps. The facts come as
arguments. Must never repair, and never call a fault what was not seen.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from gettext import gettext as _
from typing import Any

from edge.certificate import Certificate
from edge.problem import one_of
from protocols.model import Board, Destination, Site

OK, REMARK, FAULT = "ok", "remark", "fault"
EXPIRY_REMARK_DAYS = 30
FIRST_YEAR, LAST_YEAR = 2026, 2099  # of a clock that can be right: this program is not older
_DAY_S = 86400
_MEMORY = ("tmpfs", "ramfs")
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p")  # https://www.sqlite.org/wal.html: not over a network
_OF_OUR_NAME = 0x85, 0x87  # client identifier not valid, not authorized: MQTT 5.0, 3.2.2.2


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `check` is its name for programs; `do` is a command, or a sentence with one."""

    state: str
    topic: str
    check: str
    where: str
    found: str
    allowed: str = ""
    do: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """Who looks: `groups` of this process, `listed_groups` of the user database (they count from the next log-in)."""

    user: str
    is_root: bool
    groups: frozenset[str]
    listed_groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a port open; `program` is its command line."""

    pid: int
    program: str


@dataclass(frozen=True, slots=True)
class Port:
    """One serial port. `unseen`: how many processes of other users nothing could be seen of."""

    path: str
    exists: bool
    is_device: bool = False
    may_use: bool = False
    group: str = ""
    holders: tuple[Holder, ...] = ()
    unseen: int = 0


@dataclass(frozen=True, slots=True)
class Folder:
    """The store's folder, or the nearest one above it that exists (`at`), and the file system there."""

    path: str
    exists: bool
    at: str
    may_write: bool
    is_folder: bool
    mount: str
    device: str
    kind: str
    is_read_only: bool
    free_bytes: int
    store_bytes: int


@dataclass(frozen=True, slots=True)
class StoreFile:
    """The store's file. `damage`: what is wrong with it, empty where it is sound; `is_unclosed`: not looked at."""

    path: str
    exists: bool
    damage: str = ""
    is_unclosed: bool = False
    gateway: str = ""
    opened_ms: int = 0


@dataclass(frozen=True, slots=True)
class TextFile:
    """A certificate's or a key's file. `fault`: why it cannot be read; `mode`: its permission bits."""

    name: str  # of its key in gateway.toml
    path: str
    fault: str = ""
    mode: int = 0
    certificates: tuple[Certificate, ...] = ()
    damage: str = ""
    is_encrypted: bool = False
    is_elsewhere: bool = False  # a credential that only the service is given


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a broker was reached: "address", "connect", "tls", "login" is where it failed, "all" is all the way.

    `code`: of MQTT's answer, -1 without one. `fault`: what the system, the TLS library or the broker said.
    """

    stage: str
    host: str
    port: int
    fault: str = ""
    code: int = -1


def in_order(topic: str, check: str, where: str, found: str) -> Finding:
    """A finding that asks for nothing."""
    return Finding(OK, topic, check, where, found)


# --- the daemon, and the boards' ports ----------------------------------------------------------------------


def daemon(
    status: Mapping[str, Any] | None, fault: str, door: str, person: Person, owner: str, toml: str
) -> Finding:
    """Whether this site's daemon runs, and whether as the same user; `owner` is the user of its process."""
    if status is None:
        if not fault:
            return in_order("daemon", "daemon.running", door, _("no daemon of this site runs."))
        text = _("a daemon may run, but it cannot be asked: {reason}.").format(reason=fault)
        do = f"sudo tankgate doctor {toml}"
        return Finding(REMARK, "daemon", "daemon.running", door, text, _("its own user"), do)
    text = _("runs as process {pid} of user {user}, version {version}.")
    text = text.format(pid=status["pid"], user=owner, version=status["version"])
    if owner in (person.user, ""):
        return in_order("daemon", "daemon.running", door, text)
    return Finding(
        REMARK, "daemon", "daemon.running", door, text,
        _("examine as the same user: rights are said here of {user}").format(user=person.user),
        f"sudo -u {owner} tankgate doctor {toml}",
    )  # fmt: skip


def boards(
    site: Site,
    ports: Mapping[str, Port],
    present: Sequence[str],
    status: Mapping[str, Any] | None,
    person: Person,
    toml: str,
) -> Iterator[Finding]:
    """Each board: heard by the daemon, or else its port. `present` are all serial ports of this machine."""
    heard = {row["board"]: row for row in status["boards"]} if status else {}
    daemon_pid = status["pid"] if status else None
    for board in site.boards:
        where = f"boards.{board.name}"
        row = heard.get(board.name)
        if row and row["link"] == "up":
            text = _("up on {port}.").format(port=row["port"])
            yield in_order("ports", "board.up", where, text)
            continue
        if row:
            text = _("the daemon does not hear it.")
            do = f"tankgate status {toml}"
            allowed = _("board {id}, with power, on its port").format(id=board.id)
            yield Finding(FAULT, "ports", "board.up", where, text, allowed, do)
        yield from _ports_of(board, where, ports, present, daemon_pid, person)


def _ports_of(
    board: Board, where: str, ports: Mapping[str, Port], present: Sequence[str], daemon_pid: int | None, person: Person
) -> Iterator[Finding]:
    if board.port:
        yield _port(ports[board.port], where, present, daemon_pid, person)
        return
    if not present:
        text = _("this machine has no serial port.")
        allowed = _("a port where board {id} is plugged in").format(id=board.id)
        yield Finding(FAULT, "ports", "port.exists", where, text, allowed, "dmesg | grep -i tty")
        return
    found = [_port(ports[path], where, present, daemon_pid, person) for path in present]
    usable = [path for path, finding in zip(present, found, strict=True) if finding.state == OK]
    if usable:
        text = _("has no port of its own in gateway.toml: it is looked for on {ports}.").format(ports=one_of(usable))
        yield in_order("ports", "port.usable", where, text)
    else:
        yield from found


def _port(port: Port, where: str, present: Sequence[str], daemon_pid: int | None, person: Person) -> Finding:
    where = f"{where} {port.path}"
    if not port.exists:
        allowed = _("a serial port; here are: {ports}").format(ports=one_of(present) or "-")
        return Finding(FAULT, "ports", "port.exists", where, _("does not exist."), allowed, "ls -l /dev/serial/by-id")
    if not port.is_device:
        allowed = _("a serial port; here are: {ports}").format(ports=one_of(present) or "-")
        return Finding(FAULT, "ports", "port.exists", where, _("is no serial port."), allowed, f"ls -l {port.path}")
    if not port.may_use:
        text = _("user {user} may not read and write it.").format(user=person.user)
        allowed = _("members of group {group}").format(group=port.group)
        if port.group in person.listed_groups - person.groups:
            return Finding(FAULT, "ports", "port.rights", where, text, allowed, _("Log out and in again."))
        do = f"sudo usermod -aG {port.group} {person.user}"
        return Finding(FAULT, "ports", "port.rights", where, text, allowed, do + _(" , then log out and in again."))
    others = [holder for holder in port.holders if holder.pid != daemon_pid]
    if others:
        told = _("process {pid} ({program})")
        who = one_of(told.format(pid=holder.pid, program=holder.program) for holder in others)
        text = _("is taken by {who}.").format(who=who)
        allowed = _("only `tankgate run` of this site")
        return Finding(FAULT, "ports", "port.taken", where, text, allowed, _release(others[0], port.path))
    if port.holders:
        return in_order("ports", "port.usable", where, _("is held by the daemon of this site."))
    if port.unseen:
        text = _("is free, as far as {user} can see: {count} processes of others are hidden (`sudo fuser -v {port}`).")
        text = text.format(user=person.user, count=port.unseen, port=port.path)
        return in_order("ports", "port.usable", where, text)
    return in_order("ports", "port.usable", where, _("is there, and free."))


def _release(holder: Holder, port: str) -> str:
    """The command that makes a holder let go, and not come back where that is known."""
    if "ModemManager" in holder.program:
        return "sudo systemctl disable --now ModemManager"
    if "getty" in holder.program:
        return f"sudo systemctl disable --now serial-getty@{port.removeprefix('/dev/')}.service"
    return f"kill {holder.pid}"


def serial_rights(person: Person) -> Finding:
    """Whether ports that are plugged in later will be usable too."""
    if person.is_root or "dialout" in person.groups:
        text = _("user {user} may use serial ports.").format(user=person.user)
        return in_order("rights", "rights.dialout", "dialout", text)
    text = _("user {user} is no member of group dialout, to which serial ports belong.").format(user=person.user)
    if "dialout" in person.listed_groups:
        return Finding(
            REMARK, "rights", "rights.dialout", "dialout", text, _("members"), _("Log out and in again.")
        )
    do = f"sudo usermod -aG dialout {person.user}" + _(" , then log out and in again.")
    return Finding(REMARK, "rights", "rights.dialout", "dialout", text, _("members"), do)


# --- clock --------------------------------------------------------------------------------------------------


def clock(now_s: float, is_synchronized: bool, has_rtc: bool, store: StoreFile) -> Iterator[Finding]:
    """Whether readings will have a time that can be trusted."""
    now = datetime.fromtimestamp(now_s, UTC)
    stands = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    set_it = "sudo timedatectl set-ntp true"
    if not FIRST_YEAR <= now.year <= LAST_YEAR:
        allowed = f"{FIRST_YEAR} - {LAST_YEAR}"
        text = _("stands at {time}.").format(time=stands)
        yield Finding(FAULT, "clock", "clock.year", "clock", text, allowed, set_it)
    elif now_s * 1000 < store.opened_ms:
        opened = datetime.fromtimestamp(store.opened_ms / 1000, UTC)
        text = _("stands at {time}, but the store was opened later: {opened:%Y-%m-%d %H:%M:%S} UTC.")
        text = text.format(time=stands, opened=opened)
        yield Finding(FAULT, "clock", "clock.year", "clock", text, _("a clock that never went back"), set_it)
    else:
        yield in_order("clock", "clock.year", "clock", _("stands at {time}.").format(time=stands))
    if is_synchronized:
        yield in_order("clock", "clock.synchronized", "NTP", _("the kernel's clock is synchronized."))
    else:
        text = _("the kernel's clock is not synchronized: readings are sent without a time of day.")
        allowed = _("an NTP server that this machine reaches")
        do = "timedatectl timesync-status; " + set_it
        yield Finding(FAULT, "clock", "clock.synchronized", "NTP", text, allowed, do)
    if not has_rtc:
        text = _("this machine has none: after a power failure it knows no time until NTP answers.")
        yield Finding(REMARK, "clock", "clock.rtc", "RTC", text, _("a battery-backed clock"), "ls /dev/rtc*")


# --- disk and store -----------------------------------------------------------------------------------------


def disk(folder: Folder, need_bytes: float, person: Person) -> Iterator[Finding]:
    """Whether the store's place can be written, lasts, and is large enough. `need_bytes`: what a full store takes."""
    make = f"sudo install -d -o {person.user} {folder.path}"
    if not folder.is_folder:
        text = _("{path} is a file.").format(path=folder.at)
        yield Finding(FAULT, "rights", "store.folder", folder.path, text, _("a folder"), f"ls -l {folder.at}")
        return
    if folder.is_read_only:
        text = _("is on {mount}, which can only be read.").format(mount=folder.mount)
        do = f"sudo mount -o remount,rw {folder.mount}"
        yield Finding(FAULT, "disk", "disk.writable", folder.path, text, _("a disk that can be written"), do)
    elif not folder.may_write:
        text = _("user {user} may not write in {folder}.").format(user=person.user, folder=folder.at)
        allowed = _("the user of the daemon")
        do = f"sudo chown {person.user} {folder.path}" if folder.exists else make
        yield Finding(FAULT, "rights", "store.folder", folder.path, text, allowed, do)
    elif not folder.exists:
        text = _("does not exist yet: `tankgate run` makes it.")
        yield in_order("rights", "store.folder", folder.path, text)
    else:
        text = _("user {user} may write there.").format(user=person.user)
        yield in_order("rights", "store.folder", folder.path, text)

    if folder.kind in _MEMORY:
        text = _("is in memory ({kind} on {mount}): a power failure takes every reading.")
        text = text.format(kind=folder.kind, mount=folder.mount)
        yield Finding(REMARK, "disk", "disk.lasting", folder.path, text, _("a disk"), f"df -T {folder.at}")
    elif folder.kind in _REMOTE:
        text = _("is on another machine ({kind} on {mount}): SQLite loses data there.")
        text = text.format(kind=folder.kind, mount=folder.mount)
        allowed = _("a disk of this machine")
        yield Finding(FAULT, "disk", "disk.lasting", folder.path, text, allowed, f"df -T {folder.at}")
    elif "mmcblk" in folder.device:
        text = _("is on a memory card ({device}), which wears out by being written.").format(device=folder.device)
        allowed = _("an SSD, or a card made for continuous writing")
        yield Finding(REMARK, "disk", "disk.lasting", folder.path, text, allowed, "lsblk -o NAME,MODEL,SIZE")

    more_bytes = max(need_bytes - folder.store_bytes, 0)
    text = _("{free:.1f} GB are free, the store will take {more:.1f} GB more.")
    text = text.format(free=folder.free_bytes / 1e9, more=more_bytes / 1e9)
    if folder.free_bytes >= more_bytes:
        yield in_order("disk", "disk.space", folder.path, text)
    else:
        allowed = _("{more:.1f} GB, or a smaller store.max_bytes or readings_days").format(more=more_bytes / 1e9)
        do = f"sudo du -xhd1 {folder.mount} | sort -h"
        yield Finding(FAULT, "disk", "disk.space", folder.path, text, allowed, do)


def sqlite(version: tuple[int, ...], least: tuple[int, ...]) -> Finding:
    """Whether apsw brought an SQLite that does not lose what was committed."""
    have, needed = (".".join(map(str, each)) for each in (version, least))
    text = _("version {version} of apsw's own.").format(version=have)
    if version >= least:
        return in_order("store", "store.sqlite", "SQLite", text)
    return Finding(FAULT, "store", "store.sqlite", "SQLite", text, _("{version} or newer").format(version=needed),
                   "pip install --upgrade apsw")  # fmt: skip


def store(file: StoreFile, gateway: str, toml: str) -> Finding:
    """Whether the store's file is sound, and this gateway's."""
    if not file.exists:
        return in_order("store", "store.file", file.path, _("does not exist yet: `tankgate run` makes it."))
    if file.damage:
        allowed = _("a sound store; the next start sets this one aside and begins a new one")
        do = f"cp -p {file.path} {file.path}-copy"
        return Finding(FAULT, "store", "store.file", file.path, f"{file.damage}.", allowed, do)
    if file.is_unclosed:
        text = _("was not closed in order: the next start recovers it. It was not examined.")
        allowed = _("a store that was closed in order")
        return Finding(REMARK, "store", "store.file", file.path, text, allowed, f"tankgate run {toml}")
    if file.gateway and file.gateway != gateway:
        text = _("was written last by gateway {gateway}.").format(gateway=file.gateway)
        allowed = _("a store of {gateway}; whose backlog this is must be known before it is moved")
        do = f"mv {file.path} {file.path}-{file.gateway}"
        return Finding(FAULT, "store", "store.gateway", file.path, text, allowed.format(gateway=gateway), do)
    return in_order("store", "store.file", file.path, _("opens, is sound, and belongs to this gateway."))


# --- certificates and brokers -------------------------------------------------------------------------------


def certificates(
    destination: Destination, gateway: str, files: Iterable[TextFile], mismatch: str, now_s: float
) -> Iterator[Finding]:
    """A destination's files one by one; `mismatch` is what OpenSSL says of cert and key together, or empty."""
    are_usable = True
    for file in files:
        where = f"destinations.{destination.name}.{file.name} {file.path}"
        for found in _key(file) if file.name == "key" else _certificate(file, gateway, now_s):
            are_usable = are_usable and found.check != "certificate.file"
            yield replace(found, where=where)
    if mismatch and are_usable:
        yield Finding(
            FAULT, "certificates", "certificate.key", f"destinations.{destination.name}.key",
            _("key and certificate do not belong together: {reason}.").format(reason=mismatch),
            _("the key that this certificate was issued for"),
            f"openssl x509 -pubkey -noout -in {destination.cert}",
        )  # fmt: skip


def _unusable(file: TextFile) -> Finding | None:
    if file.fault:
        text = _("cannot be read: {reason}.").format(reason=file.fault)
        do = f"ls -l {file.path}"
        return Finding(FAULT, "certificates", "certificate.file", "", text, _("a PEM file"), do)
    if file.damage:
        text = _("cannot be used: {reason}.").format(reason=file.damage)
        do = f"openssl {'pkey' if file.name == 'key' else 'x509'} -noout -in {file.path}"
        return Finding(FAULT, "certificates", "certificate.file", "", text, _("a PEM file"), do)
    return None


def _key(file: TextFile) -> Iterator[Finding]:
    if file.is_elsewhere:
        text = _("systemd gives this credential to the service alone: it cannot be examined from here.")
        yield Finding(REMARK, "certificates", "certificate.file", "", text, "LoadCredential=",
                      "systemctl show tankgate -p LoadCredential")  # fmt: skip
        return
    unusable = _unusable(file)
    if unusable:
        yield unusable
        return
    if file.is_encrypted:
        text = _("has a password, and nobody is there to enter it.")
        do = f"openssl pkey -in {file.path} -out {file.path}"
        yield Finding(FAULT, "certificates", "certificate.file", "", text, _("a key without password"), do)
    if file.mode & 0o077:
        text = _("its mode is {mode:o}: others than its owner may use it.").format(mode=file.mode)
        yield Finding(FAULT, "rights", "rights.key", "", text, "600, 400", f"chmod 600 {file.path}")
    elif not file.is_encrypted:
        yield in_order("rights", "rights.key", "", _("only its owner may read it."))


def _certificate(file: TextFile, gateway: str, now_s: float) -> Iterator[Finding]:
    unusable = _unusable(file)
    if unusable:
        yield unusable
        return
    certificate = min(file.certificates, key=lambda each: each.not_after_s)  # of an authority's file any may be needed
    if file.name == "cert":
        certificate = file.certificates[0]  # what follows is its chain
    if file.name == "cert" and certificate.common_name != gateway:
        text = _("its CN is {name}.").format(name=certificate.common_name or "-")
        allowed = _("the gateway's id, {gateway}").format(gateway=gateway)
        yield Finding(FAULT, "certificates", "certificate.name", "", text, allowed,
                      f"openssl x509 -noout -subject -in {file.path}")  # fmt: skip
    yield _validity(certificate, file.path, now_s)


def _validity(certificate: Certificate, path: str, now_s: float) -> Finding:
    dates = f"openssl x509 -noout -dates -in {path}"
    ends = datetime.fromtimestamp(certificate.not_after_s, UTC).date()
    days = int((certificate.not_after_s - now_s) // _DAY_S)
    renew = _("a valid one; ask its issuer for a new one")
    if now_s > certificate.not_after_s:
        text = _("expired on {date}.").format(date=ends)
        return Finding(FAULT, "certificates", "certificate.valid", "", text, renew, dates)
    if now_s < certificate.not_before_s:
        begins = datetime.fromtimestamp(certificate.not_before_s, UTC).date()
        text = _("is not valid before {date}; or this machine's clock is wrong.").format(date=begins)
        return Finding(FAULT, "certificates", "certificate.valid", "", text, renew, f"date; {dates}")
    text = _("{name}: valid until {date}, {days} days.")
    text = text.format(name=certificate.common_name or "-", date=ends, days=days)
    if days < EXPIRY_REMARK_DAYS:
        allowed = _("{days} days or more; ask its issuer for a new one").format(days=EXPIRY_REMARK_DAYS)
        return Finding(REMARK, "certificates", "certificate.valid", "", text, allowed, dates)
    return in_order("certificates", "certificate.valid", "", text)


def broker(destination: Destination, gateway: str, reached: Reached, is_connected: bool) -> Iterator[Finding]:
    """How far its broker is reached. `is_connected`: the daemon itself is logged in."""
    where = f"destinations.{destination.name} {reached.host}:{reached.port}"
    host, port, fault = reached.host, reached.port, reached.fault
    if destination.url.startswith("mqtt://") and host not in ("127.0.0.1", "::1", "localhost"):
        text = _("is not encrypted, and asks the broker for no certificate.")
        yield Finding(REMARK, "broker", "broker.tls", where, text, "mqtts://", _("Write mqtts:// in gateway.toml."))
    match reached.stage:
        case "address":
            text = _("no address is found for this name: {reason}.").format(reason=fault)
            yield Finding(FAULT, "broker", "broker.address", where, text, _("a name that DNS knows"),
                          f"getent hosts {host}")  # fmt: skip
        case "connect":
            text = _("does not answer: {reason}.").format(reason=fault)
            allowed = _("an open way to this port")
            yield Finding(FAULT, "broker", "broker.connect", where, text, allowed, f"nc -vz {host} {port}")
        case "tls":
            text = _("the encrypted connection fails: {reason}.").format(reason=fault)
            allowed = _("a certificate for {host} that ca confirms").format(host=host)
            do = f"openssl s_client -connect {host}:{port} -CAfile {destination.ca or '…'} </dev/null"
            yield Finding(FAULT, "broker", "broker.tls", where, text, allowed, do)
        case "login" if is_connected:
            text = _("the daemon is connected; a second login, as {id}, is refused: {reason}.")
            text = text.format(id=examination_id(gateway), reason=fault)
            yield in_order("broker", "broker.login", where, text)
        case "login" if reached.code < 0:
            text = _("closes the connection at login: {reason}.").format(reason=fault)
            allowed = _("an MQTT 5 broker that knows our certificate")
            yield Finding(FAULT, "broker", "broker.login", where, text, allowed, _ask_the_owner(destination, gateway))
        case "login":
            text = _("refuses the login of {id}: {reason}, reason code {code}.")
            text = text.format(id=examination_id(gateway), reason=fault, code=reached.code)
            allowed = _("the login of {gateway}").format(gateway=gateway)
            if reached.code in _OF_OUR_NAME:
                allowed += _("; it may take that one and refuse only the name of this examination")
            yield Finding(FAULT, "broker", "broker.login", where, text, allowed, _ask_the_owner(destination, gateway))
        case _:
            text = _("takes our login; nothing was published.")
            yield in_order("broker", "broker.login", where, text)


def examination_id(gateway: str) -> str:
    """The client id of the examination: with the gateway's own the daemon would be thrown out."""
    return f"{gateway}-doctor"


def _ask_the_owner(destination: Destination, gateway: str) -> str:
    shown = f", {destination.cert}" if destination.cert else ""
    return _("Ask the broker's owner for: {gateway}{certificate}.").format(gateway=gateway, certificate=shown)
