"""gateway.toml, the points sheet and the profiles that it names: from files to one frozen Site. Shell.

Owns where the files lie and how they fit together. Reports everything that is wrong at once: a site with one
problem is no site. Must never guess what was meant.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from gettext import gettext as _
from pathlib import Path

from edge.fault_words import reason
from edge.gateway_toml import Gateway, GatewayToml
from edge.planning import compile_board
from edge.points import read_points, read_sheet
from edge.problem import ConfigError, Problem, did_you_mean
from edge.workbook import read_workbook
from protocols import profile
from protocols.model import Board, Bus, Destination, Point, Site, StoreSettings


@dataclass(frozen=True, slots=True)
class Examined:
    """A site's files: the site where nothing is wrong, and everything that was found. `sheet`: its name, once known.

    `files`: of a site the very bytes that it was made of, by the names that they are kept under.
    """

    site: Site | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    sheet: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)


class _Files:
    """The files where a technician keeps them, or `kept` ones in their place; `read` remembers what it gave."""

    def __init__(self, folder: Path, kept: Mapping[str, bytes] | None) -> None:
        self.given: dict[str, bytes] = {}
        self._folder = folder
        self._kept = kept

    def read(self, path: Path, name: str) -> bytes:
        """The bytes of a file, which is kept under `name`. OSError where it cannot be read."""
        if self._kept is None:
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
    profiles, names, faults = _read_profiles(files, sheet.profiles())
    points, problems, reminders = read_points(sheet, list(toml.named("buses")), profiles, names)
    formulas = {(problem.row, problem.field) for problem in sheet.problems}  # a formula is no number, but one problem
    problems = [problem for problem in problems if (problem.row, problem.field) not in formulas]
    problems = [*toml.problems, *sheet.problems, *problems, *faults]
    warnings = [*toml.warnings, *sheet.warnings, *reminders]
    if gateway is None or problems:
        return Examined(None, tuple(problems), tuple(warnings))

    pieces = [data, sheet_data, *(profiles[name].text.encode() for name in sorted(profiles))]
    digest = hashlib.sha256(b"".join(hashlib.sha256(piece).digest() for piece in pieces)).hexdigest()
    site = _site(gateway, path.parent, points, profiles, f"sha256:{digest}")
    warnings += _check_plans(toml, site)
    return Examined(None if toml.problems else site, tuple(toml.problems), tuple(warnings), sheet_name, files.given)


def _unreadable(path: Path, fault: OSError) -> str:
    if isinstance(fault, IsADirectoryError):
        return _("is a folder. Name the file in it, like gateway.toml.")
    if isinstance(fault, PermissionError):
        return _("may not be read by this user. Run the command as the user that the file belongs to.")
    if not isinstance(fault, FileNotFoundError):
        return _("cannot be read: {reason}.").format(reason=reason(fault))
    try:
        beside = [file.name for file in path.parent.iterdir()]
    except OSError:
        return _("the folder {folder} does not exist.").format(folder=path.parent)
    return _("does not exist in {folder}.").format(folder=path.parent) + did_you_mean(path.name, beside)


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
            if mistakes := GatewayToml(file, data).problems:  # of TOML itself, whatever the file is about
                problems += mistakes
            else:
                loaded[name] = profile.load(name, data.decode("utf-8-sig"))
        except profile.ProfileError as fault:
            problems += [Problem("E-PRF-003", file, "", None, text) for text in fault.problems]
        except OSError as fault:
            problems.append(Problem("E-FIL-001", file, "", None, _unreadable(own[name], fault)))
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
            Destination(name, d.url, d.feed, beside(d.ca), beside(d.cert), beside(d.key), d.await_receipt)
            for name, d in gateway.destinations.items()
        ),
        profiles=profiles,
        config_hash=config_hash,
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
