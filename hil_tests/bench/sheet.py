"""What the bench reads of a site's two files: which sensors hang on which bus, and when their readings are due. Policy.

Owns its own small reading of gateway.toml and points.csv, so that the bench's truth does not come from the gateway's
configuration code. It trusts its files: checking them is `tankgate check`'s work. Must never know what a limit is.
"""

import csv
import tomllib
from dataclasses import dataclass

from protocols import model

# Of the units that people write, those that are not their own UCUM code.
_UCUM = {"%LEL": "%{LEL}", "%VOL": "%{vol}", "ppm": "[ppm]", "℃": "Cel"}


@dataclass(frozen=True, slots=True)
class Point:
    """One row of the sheet, as far as a sensor and the rule of reporting need it; `unit` is a UCUM code."""

    point: str
    bus: str
    unit_id: int
    profile: str
    channel: str
    unit: str
    range_low: float | None
    range_high: float | None
    period_ms: int
    deadband: float
    heartbeat_s: int


@dataclass(frozen=True, slots=True)
class Sheet:
    """The site."""

    gateway: str
    boards: dict[str, str]  # name -> hardware id
    buses: tuple[model.Bus, ...]
    points: tuple[Point, ...]

    def bus(self, name: str) -> model.Bus:
        """The bus of that name."""
        return next(bus for bus in self.buses if bus.name == name)


def read(gateway_toml: str, points_csv: str) -> Sheet:
    """The sheet of these two texts; KeyError or ValueError where they are not a site."""
    site = tomllib.loads(gateway_toml)
    buses = tuple(
        model.Bus(
            name=name,
            board=bus["board"],
            uart=bus["uart"],
            line=model.Line.parse(bus["line"]),
            other_master=False,
        )
        for name, bus in site["buses"].items()
    )
    boards = {name: board["id"] for name, board in site["boards"].items()}
    return Sheet(site["site"]["gateway"], boards, buses, _points(points_csv))


def _points(points_csv: str) -> tuple[Point, ...]:
    rows = csv.reader(points_csv.removeprefix("\ufeff").splitlines())
    # A heading is "位号 point"; the English half is one word.
    names = [heading.split()[-1] for heading in next(rows)]
    return tuple(_point(dict(zip(names, row, strict=False))) for row in rows if any(row))


def _point(row: dict[str, str]) -> Point:
    return Point(
        point=row["point"],
        bus=row["bus"],
        unit_id=int(row["unit_id"]),
        profile=row["profile"],
        channel=row["channel"],
        unit=_UCUM.get(row["unit"], row["unit"]),
        range_low=_number(row["range_low"]),
        range_high=_number(row["range_high"]),
        period_ms=round(float(row["period_s"]) * 1000),
        deadband=float(row["deadband"]),
        heartbeat_s=int(row["heartbeat_s"]),
    )


def _number(text: str) -> float | None:
    return float(text) if text else None
