"""The targets: what of each is instrumented, and how long its inputs may be. Policy."""

from typing import NamedTuple


class Target(NamedTuple):
    """`parsers`: the modules whose new bytecode makes an input worth keeping; what they lean on runs at full speed."""

    parsers: tuple[str, ...]
    max_bytes: int


_CONFIGURATION = ("edge.config", "edge.gateway_toml", "edge.points", "edge.problem", "edge.workbook")
TARGETS = {
    "modbus": Target(("protocols.modbus", "protocols.modbus_edge", "overheard"), 400),
    "link_edge": Target(("protocols.link", "protocols.link_edge"), 400),
    "link_board": Target(("protocols.link", "recorder"), 100),
    "readplan": Target(("protocols.readplan", "poller"), 100),
    "profile": Target(("protocols.profile", "protocols.channel", "tomllib"), 2000),
    "configuration": Target((*_CONFIGURATION, "tomllib"), 1200),
    "sheet": Target(_CONFIGURATION, 800),
    "workbook": Target(_CONFIGURATION, 4000),
    "feed": Target(("protocols.feeds", "edge.feed_screen", "edge.cli.listen"), 3000),
    "control": Target(("edge.control",), 600),
}
