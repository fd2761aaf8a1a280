"""gateway.toml, the points sheet and the profiles that it names: from files to one frozen Site. Shell.

Owns where the files lie and how they fit together. Reports everything that is wrong at once: a site with one
problem is no site. Must never guess what was meant.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from errno import EINVAL
from gettext import gettext as _
from pathlib import Path
from typing import Any

from edge.fault_words import reason
from edge.gateway_toml import COUNTS_AS_ALARM, Gateway, GatewayToml
from edge.planning import compile_board
from edge.points import heading, read_points, read_sheet
from edge.problem import ConfigError, Problem, did_you_mean, one_of
from edge.workbook import read_workbook
from protocols import modbus, profile
from protocols.model import Board, Bus, Destination, Input, Output, Point, Site, StoreSettings, Voting


@dataclass(frozen=True, slots=True)
class Examined:
    """A site's files: the site where nothing is wrong, and everything that was found. `sheet`: its name, once known.

    `files`: of a site the very bytes that it was made of, by the names that they are kept under. `lines`: where the
    tables and keys of gateway.toml stand; `rows`: where the points of the sheet do; `headings`: of its columns.
    """

    site: Site | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    sheet: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    headings: Mapping[str, str] = field(default_factory=dict)

    def placed(self, problems: Iterable[Problem]) -> tuple[Problem, ...]:
        """Problems that were found without the files, each with its line or row and the sheet's own heading."""
        return tuple(
            replace(each, row=self.rows[each.point], field=self.headings.get(each.field, heading(each.field)))
            if each.point
            else replace(each, line=self.lines.get(each.field))
            for each in problems
        )


class _Files:
    """The files where a technician keeps them, or `kept` ones in their place; `read` remembers what it gave."""

    def __init__(self, folder: Path, kept: Mapping[str, bytes] | None) -> None:
        self.given: dict[str, bytes] = {}
        self._folder = folder
        self._kept = kept

    def read(self, path: Path, name: str) -> bytes:
        """The bytes of a file, which is kept under `name`. OSError where it cannot be read."""
        if self._kept is None:
            if _is_endless(path):
                raise OSError(EINVAL, "no file")
            self.given[name] = path.read_bytes()
        elif name in self._kept:
            self.given[name] = self._kept[name]
        else:
            raise FileNotFoundError(2, "not kept", name)
        return self.given[name]

    def profiles(self) -> dict[str, Path]:
        """The site's own profiles by their names."""
        if self._kept is None:
            return {file.stem: file for file in (self._folder / "profiles").glob("*.toml")}
        return {Path(name).stem: Path(name) for name in self._kept if name.startswith("profiles/")}


def load_site(path: Path) -> Site:
    """The site that a gateway.toml describes. ConfigError with all its problems."""
    examined = examine(path)
    if examined.site is None:
        raise ConfigError(examined.problems, examined.warnings)
    return examined.site


def examine(path: Path, kept: Mapping[str, bytes] | None = None) -> Examined:
    """Read gateway.toml, the sheet and the profiles, and say everything that is wrong with them.

    With `kept` files these are read instead; what they name (the store, certificates) lies where it lay.
    """
    path = path.absolute()
    files = _Files(path.parent, kept)
    try:
        data = files.read(path, "gateway.toml")
    except OSError as fault:
        return Examined(None, (Problem("E-FIL-001", path.name, "", None, _unreadable(path, fault)),), ())
    toml = GatewayToml(path.name, data)
    if toml.problems:
        return Examined(None, tuple(toml.problems), ())
    gateway = toml.check()
    sheet_name, sheet_data = _read_sheet(toml, path.parent, files)
    if sheet_data is None:
        return Examined(None, tuple(toml.problems), tuple(toml.warnings))
    read = read_workbook if sheet_name.casefold().endswith(".xlsx") else read_sheet
    sheet = read(sheet_name, sheet_data)
    switched = {str(table["profile"]) for table in toml.named("outputs").values() if "profile" in table}
    profiles, names, faults = _read_profiles(files, sheet.profiles() | switched)
    points, problems, reminders = read_points(sheet, list(toml.named("buses")), profiles, names)
    _check_outputs(toml, points, profiles, names)
    formulas = {(problem.row, problem.field) for problem in sheet.problems}  # a formula is no number, but one problem
    if not (sheet.problems or problems):
        toml.check_voting({point.point: dict(point.limits) for point in points})
    problems = [problem for problem in problems if (problem.row, problem.field) not in formulas]
    problems = [*toml.problems, *sheet.problems, *problems, *faults]
    warnings = [*toml.warnings, *sheet.warnings, *reminders]
    if gateway is None or problems:
        return Examined(None, tuple(problems), tuple(warnings))

    pieces = [data, sheet_data, *(profiles[name].text.encode() for name in sorted(profiles))]
    digest = hashlib.sha256(b"".join(hashlib.sha256(piece).digest() for piece in pieces)).hexdigest()
    site = _site(gateway, path.parent, points, profiles, f"sha256:{digest}")
    warnings += _check_plans(toml, site)
    return Examined(
        None if toml.problems else site,
        tuple(toml.problems),
        tuple(warnings),
        sheet_name,
        files.given,
        toml.lines(),
        {row.cells["point"]: row.number for row in sheet.rows},
        sheet.headings,
    )


def _is_endless(path: Path) -> bool:
    """A pipe or a device, which may never come to its end."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _unreadable(path: Path, fault: OSError) -> str:
    if _is_endless(path):
        return _("is no file, but a pipe or a device. Name a file on a disk.")
    if isinstance(fault, IsADirectoryError):
        return _("is a folder. Name the file in it, like gateway.toml.")
    if isinstance(fault, PermissionError):
        return _("may not be read by this user. Run the command as the user that the file belongs to.")
    if not isinstance(fault, FileNotFoundError):
        return _("cannot be read: {reason}.").format(reason=reason(fault))
    try:
        beside = [file.name for file in path.parent.iterdir()]
    except OSError:
        return _("the folder {folder} does not exist. Correct the path.").format(folder=path.parent)
    text = _("does not exist in {folder}. Correct the name, or put the file there.")
    return text.format(folder=path.parent) + did_you_mean(path.name, beside)


def _read_sheet(toml: GatewayToml, folder: Path, files: _Files) -> tuple[str, bytes | None]:
    """The sheet's name and bytes; no bytes where it cannot be read, or where its key is wrong."""
    site = toml.tables.get("site")
    name = site.get("points") if isinstance(site, dict) else None
    if not isinstance(name, str) or not name:
        return "", None
    try:
        return name, files.read(folder / name, Path(name).name)
    except OSError as fault:
        toml.wrong("E-FIL-001", ("site", "points"), name, _unreadable(folder / name, fault))
        return name, None


def _read_profiles(files: _Files, wanted: set[str]) -> tuple[dict[str, profile.Profile], list[str], list[Problem]]:
    """The wanted profiles, all names that exist, problems. One beside gateway.toml hides a built-in one."""
    own = files.profiles()
    names = sorted({*own, *profile.builtin_names()})
    loaded = {}
    problems = []
    for name in sorted(wanted.intersection(names)):
        file = f"profiles/{name}.toml"
        try:
            if name not in own:
                loaded[name] = profile.builtin(name)
                continue
            data = files.read(own[name], file)
            toml = GatewayToml(file, data)  # for TOML itself, whatever the file is about
            if toml.problems:
                problems += toml.problems
            else:
                loaded[name] = profile.load(name, data.decode("utf-8-sig"))
        except profile.ProfileError as fault:
            problems += [
                Problem("E-PRF-003", file, ".".join(path), value, text, line=toml.line_of(path))
                for path, value, text in fault.mistakes
            ]
        except OSError as fault:
            problems.append(Problem("E-FIL-001", file, "", None, _unreadable(own[name], fault)))
    blank = profile.builtin("generic").source
    for name in [name for name, each in loaded.items() if each.source == blank]:
        text = _(
            "is that of the blank profile, which is of no sensor. Copy generic.toml into the folder profiles beside "
            "gateway.toml, give it a name, and fill it in from the manual."
        )
        file = f"profiles/{name}.toml"
        line = GatewayToml(file, loaded[name].text.encode()).line_of(("source",)) if name in own else None
        problems.append(Problem("E-PRF-004", file, "source", blank, text, line=line))
    return loaded, names, problems


def _site(
    gateway: Gateway,
    folder: Path,
    points: tuple[Point, ...],
    profiles: dict[str, profile.Profile],
    config_hash: str,
) -> Site:
    """The Site of tables that are right. File names in gateway.toml are relative to its folder."""

    def beside(name: str | None) -> str | None:
        return name if name is None or name.startswith("credential:") else str(folder / name)

    site, store = gateway.site, gateway.store
    return Site(
        gateway=site.gateway,
        name=site.name,
        group=site.group,
        timezone=site.timezone,
        enterprise_code=site.codes.enterprise,
        gateway_code=site.codes.gateway,
        boards=tuple(Board(name, board.id, board.port) for name, board in gateway.boards.items()),
        buses=tuple(
            Bus(name, bus.board, bus.uart, bus.line, bus.other_master is not None)
            for name, bus in gateway.buses.items()
        ),
        points=points,
        store=StoreSettings(
            path=str(folder / store.path),
            max_bytes=store.max_bytes,
            readings_days=store.keep.readings_days,
            alarms_days=store.keep.alarms_days,
        ),
        destinations=tuple(
            Destination(
                name, d.url, d.feed, beside(d.ca), beside(d.cert), beside(d.key), d.await_receipt,
                tuple((do, tuple(roles)) for do, roles in d.commands if roles),
            )
            for name, d in gateway.destinations.items()
        ),
        profiles=profiles,
        config_hash=config_hash,
        votings=tuple(
            Voting(name, tuple(voting.points), int(voting.rule.partition("oo")[0]), voting.when_bad == COUNTS_AS_ALARM)
            for name, voting in gateway.voting.items()
        ),
        outputs=tuple(
            _output(name, table, {bus: each.board for bus, each in gateway.buses.items()})
            for name, table in gateway.outputs.items()
        ),
        inputs=tuple(
            Input(name, name.partition("-")[0], table.board, table.pin, table.for_s)
            for name, table in gateway.inputs.items()
        ),
    )


def _check_outputs(
    toml: GatewayToml, points: Sequence[Point], profiles: Mapping[str, profile.Profile], names: Sequence[str]
) -> None:
    """What an output asks of the sheet and of the profiles."""
    areas = {point.area: None for point in points}
    units = {(point.bus, point.unit_id): point for point in points}
    for name, table in toml.named("outputs").items():
        path = ("outputs", name)
        for area in table["areas"] if points and isinstance(table.get("areas"), list) else ():
            if area not in areas:
                text = _("the sheet has no such area. Allowed are: {allowed}.").format(allowed=one_of(areas))
                toml.wrong("E-OUT-009", (*path, "areas"), area, text + did_you_mean(str(area), areas))
        coil, wanted = table.get("coil"), table.get("profile")
        if wanted is None or type(coil) is not int:
            continue
        if wanted not in names:
            text = _("there is no such profile. Allowed are: {allowed}.").format(allowed=one_of(names))
            toml.wrong("E-PRF-001", (*path, "profile"), wanted, text + did_you_mean(str(wanted), names))
        elif wanted in profiles and not profiles[wanted].may_write(modbus.WRITE_COIL, coil):
            text = _(
                "profile {profile} does not list this coil under writes, so it is never written. Where the unit's own "
                "paper says that it may be, copy the profile and add \"5 {coil}-{coil}\" there."
            ).format(profile=wanted, coil=coil)
            toml.wrong("E-OUT-003", (*path, "coil"), coil, text)
        point = units.get((str(table.get("bus")), table.get("unit_id", 0)))
        if point is not None and point.profile != wanted:
            text = _("point {point} reads this unit by profile {profile}. One unit has one profile.")
            text = text.format(point=point.point, profile=point.profile)
            toml.wrong("E-OUT-008", (*path, "profile"), wanted, text)


def _output(name: str, table: Any, boards: Mapping[str, str]) -> Output:
    is_fault = table.normally is not None
    return Output(
        name=name,
        kind="fault" if is_fault else table.kind,
        board=table.board if table.bus is None else boards[table.bus],
        bus=table.bus,
        unit_id=table.unit_id or 0,
        profile=table.profile or "",
        place=table.pin if table.bus is None else table.coil,
        priorities=tuple(table.priorities or ()),
        areas=tuple(table.areas),
        at_loss=table.on_link_loss,
        loss_ms=table.link_loss_s * 1000,
    )


def _check_plans(toml: GatewayToml, site: Site) -> list[Problem]:
    """Whether each board can hold what it is asked to poll; reminders."""
    warnings = []
    for board in site.boards:
        try:
            plan = compile_board(site, board.name, birth_id="00000000", taken_generations=())
        except ValueError as fault:
            text = _("more is asked of this board than its read plan can hold: {reason}.")
            toml.wrong("E-BRD-005", ("boards", board.name), None, text.format(reason=fault))
            continue
        if plan is None:
            text = _("no point of the sheet is on this board: it reads nothing.")
            line = toml.line_of(("boards", board.name))
            warnings.append(Problem("W-BRD-001", toml.file, f"boards.{board.name}", None, text, line=line))
    return warnings
