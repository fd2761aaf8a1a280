"""The targets: what of each is instrumented, and how long its inputs may be. Policy."""

from typing import NamedTuple


class Target(NamedTuple):
    """`parsers`: the modules whose new bytecode makes an input worth keeping; what they lean on runs at full speed.

    `words`: what is put into inputs beside what the parsers themselves compare with. `test_runs`: how many executions
    a test run can wait for.
    """

    parsers: tuple[str, ...]
    max_bytes: int
    words: tuple[str, ...] = ()
    test_runs: int = 20_000


# What people, broken programs and ill-meaning ones write where a number or a text belongs.
_ODD = ("0", "-1", "007", "1e999", "1e-320", "9" * 30, "9" * 60, "nan", "null", "true", '""', "１２", "²")
_JSON = (*_ODD, "[]", "{}", "[" * 60, "]" * 60, '{"a":' * 12, r'"\ud800"', r'"\u0007"')
_TOML = (*_ODD, "[]", "{}", "[" * 60, "]" * 60, "{a=" * 20, "1979-05-27", "'''", "\n[[boards]]", "＝", "inf")
_LOG = (*_ODD[:6], "999999999999.9", "23:59:60", "9999-12-31 23:59:59", "+00:00", "TX", "RX:", "# ", "length=")
_CONFIGURATION = ("edge.config", "edge.gateway_toml", "edge.points", "edge.problem", "edge.workbook")
TARGETS = {
    "modbus": Target(("protocols.modbus", "protocols.modbus_edge", "overheard"), 400),
    "link_edge": Target(("protocols.link", "protocols.link_edge"), 400),
    "link_board": Target(("protocols.link", "recorder"), 80),
    "readplan": Target(("protocols.readplan", "poller"), 100),
    "profile": Target(("protocols.profile", "protocols.channel", "tomllib"), 2000, _TOML),
    "configuration": Target((*_CONFIGURATION, "tomllib"), 1200, _TOML),
    "sheet": Target(_CONFIGURATION, 450, _ODD),
    "workbook": Target(("edge.workbook",), 4000, _ODD, test_runs=2000),
    "feed": Target(("protocols.feeds", "edge.feed_screen", "edge.cli.listen"), 1500, _JSON),
    "trace": Target(("protocols.trace", "edge.hex_log", "protocols.cutter"), 600, _LOG),
    "logic": Target(("edge.logic", "protocols.cutter"), 1500, ("GHz", "unitsize=8\n", "samplerate=1", "probe99=")),
    "certificate": Target(("edge.certificate",), 400, ("261126000000Z", "20500101000000Z")),
    "receipt": Target(("protocols.feeds.json_feed", "edge.forward", "protocols.feeds.sequence"), 600, _JSON),
    "command": Target(("protocols.feeds.json_feed", "edge.alarms.requests"), 600, _JSON, test_runs=5000),
    "wiring": Target(("hil_tests.bench.rig", "tomllib"), 400, (*_TOML, "= 1 #", "= [[1]] #")),
    "control": Target(("edge.control", "protocols.feeds.json_feed"), 3000, _JSON),
}
