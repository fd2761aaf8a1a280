"""The targets: what of each is instrumented, and how long its inputs may be. Policy."""

from typing import NamedTuple


class Target(NamedTuple):
    """`parsers`: the modules whose new bytecode makes an input worth keeping; what they lean on runs at full speed."""

    parsers: tuple[str, ...]
    max_bytes: int


TARGETS = {
    "modbus": Target(("protocols.modbus", "protocols.modbus_edge", "overheard"), 400),
    "link_edge": Target(("protocols.link", "protocols.link_edge"), 400),
    "link_board": Target(("protocols.link", "recorder"), 100),
    "readplan": Target(("protocols.readplan", "poller"), 100),
    "profile": Target(("protocols.profile", "protocols.channel", "tomllib"), 1200),
    "configuration": Target(("edge.config", "edge.gateway_toml", "edge.problem", "tomllib"), 1200),
}
