"""A sensor profile: all that is wrong is told as sentences, and one that is right can be planned, read and simulated.

Input: the file.
"""

import math
from collections.abc import Iterator
from importlib import resources

from edge.gateway_toml import GatewayToml
from protocols import profile
from protocols.model import has_value

_FILES = resources.files("protocols") / "profiles"


def seeds() -> Iterator[bytes]:
    for name in profile.builtin_names():
        yield (_FILES / f"{name}.toml").read_bytes()
    head = 'version=1\nmaker="M"\nmodel="N"\nsource="S"\nevidence="manual"\ntimeout_ms=200\naddress_base=0\n'
    level = '[channels.a]\nfunction_code=3\naddress=0\ntype="f32"\nword_order="CDAB"\ndecimals=3\nunit="m"\n'
    current = (
        '[channels.b]\ncount=2\nfunction_code=4\naddress=9\ntype="u16"\ndecimals=1\nraw_4ma=0\nraw_20ma=4095\n'
        "wire_break_below_ma=3.6\nunder_range_below_ma=3.8\nover_range_above_ma=20.5\nsensor_fault_above_ma=21\n"
    )
    example = '[[example]]\nsource="p"\nchannel="a"\naddress=0\nregisters=[0,0x3f80]\nvalue=1.0\nunit="m"\n'
    yield (head + level + example).encode()
    yield (head + 'bridge_gaps=["1-9"]\nblock="0-9"\nwrites=["5 0-15"]\nline="9600 8N1"\n' + level + current).encode()
    codes = 'state_address=4\nstate_codes={0x02="warm_up"}\nstatus_address=3\nstatus_flags={1="sensor_fault"}\n'
    yield (head + level + codes + '[channels.c]\nsame_as="a"\naddress=2\n').encode()
    bounds = 'count=2\nfirst=0\nstep=2\nvalid_low=-1\nvalid_high=5\nneeds="c{n}"\n'
    yield (head + "reply_ms=20\n" + level + bounds + '[channels.c0]\nsame_as="a"\nneeds="a1"\n').encode()
    yield (head + "moved_by=4\n" + level + "[serial]\nfunction_code=3\naddress=7\ncount=2\n").encode()


def run_one(data: bytes) -> None:
    toml = GatewayToml("profiles/p.toml", data)
    if toml.problems:
        assert all(problem.line for problem in toml.problems)
        return
    try:
        found = profile.load("p", data.decode("utf-8-sig"))
    except profile.ProfileError as fault:
        assert fault.mistakes and all(text and "\n" not in text for _path, _value, text in fault.mistakes)
        return
    uses = [_use(channel) for channel in found.channels.values()]
    reads = profile.plan_reads(found, uses)
    assert sorted(use.point for read in reads for use in read.uses) == sorted(found.channels)
    for read in reads:
        assert read.count >= 1 and read.address >= 0 and read.address + read.count <= 65536
        decoder = profile.Decoder(found, read)
        for word in (0, 1, 0x7F80, 0xFFFF):
            registers = [word & 1 if read.function_code <= 2 else word] * read.count
            for reading in decoder.decode(registers):
                assert (reading.value is not None) == has_value(reading.status)
                assert reading.value is None or math.isfinite(reading.value)
    for use in uses:
        profile.encode_registers(found, use.channel, 1.0, unit=use.unit, range_low=0, range_high=10)


def _use(channel: profile.Channel) -> profile.ChannelUse:
    return profile.ChannelUse(channel.name, channel.name, next(iter(channel.units.values()), "m"), 0.0, 10.0)
