"""From one site to another while the gateway runs: what cannot be changed so, and what has changed. Policy.

Must never change anything: the daemon does, and only what differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from gettext import gettext as _
from ipaddress import ip_address
from urllib.parse import urlsplit

from edge.planning import BoardPlan
from edge.problem import Problem
from protocols.model import Site


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of what differs. A destination with other settings was stopped and started."""

    points_added: tuple[str, ...]
    points_removed: tuple[str, ...]
    points_changed: tuple[str, ...]
    boards_planned: tuple[str, ...]
    destinations_stopped: tuple[str, ...]
    destinations_started: tuple[str, ...]


def restart_needed(before: Site, after: Site, lines: Mapping[str, int]) -> list[str]:
    """A sentence for each thing that only a restart can change; `lines`: where the keys stand."""
    fixed = [
        ("site.gateway", before.gateway, after.gateway),
        ("store.path", before.store.path, after.store.path),
    ]
    text = _("the running gateway has {before}. To change it, restart the daemon.")
    return [
        str(Problem("E-APL-001", "gateway.toml", key, wanted, text.format(before=was), line=lines.get(key)))
        for key, was, wanted in fixed
        if was != wanted
    ]


def leaving(site: Site) -> list[str]:
    """A sentence for each destination that is not this machine: no simulated reading may go there."""
    text = _("--simulated: {host} of destination {name} is not this machine. Use 127.0.0.1.")
    hosts = [(urlsplit(destination.url).hostname or "", destination.name) for destination in site.destinations]
    return [text.format(host=host, name=name) for host, name in hosts if not _is_this_machine(host)]


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def compare(
    before: Site, after: Site, plans_before: Mapping[str, BoardPlan], plans_after: Mapping[str, BoardPlan]
) -> Changes:
    """What differs between two sites and their plans."""
    old = {point.point: (point, before.profiles[point.profile].text) for point in before.points}
    new = {point.point: (point, after.profiles[point.profile].text) for point in after.points}
    left = set(before.destinations) - set(after.destinations)
    come = set(after.destinations) - set(before.destinations)
    return Changes(
        points_added=tuple(name for name in new if name not in old),
        points_removed=tuple(name for name in old if name not in new),
        points_changed=tuple(name for name in new if name in old and new[name] != old[name]),
        boards_planned=tuple(
            name
            for name, plan in plans_after.items()
            if name not in plans_before or plans_before[name].generation != plan.generation
        ),
        destinations_stopped=tuple(sorted(destination.name for destination in left)),
        destinations_started=tuple(sorted(destination.name for destination in come)),
    )
