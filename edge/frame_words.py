"""What each frame of a recorded line says, in a technician's words. Policy.

Owns the reading of single frames: intact or not, who is asked what, which registers came back. A reply is read by the
request before it on its port. Must never count: `line_figures.py` does.
Source: MODBUS Application Protocol V1.1b3 (functions, exception codes).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from gettext import gettext as _
from gettext import ngettext

from protocols import modbus, modbus_edge, trace
from protocols.cutter import frame_length
from protocols.profile import data_bytes
from protocols.trace import Frame

OK, BAD_CRC, CUT = "ok", "crc", "cut"  # CUT: shorter than it says of itself, or than any frame
ERRORS = {
    trace.LOST: "lost",
    trace.FRAMING: "framing",
    trace.PARITY: "parity",
    trace.BREAK: "break",
    trace.OVERRUN: "overrun",
}
_WRITE_ONE = (modbus.WRITE_COIL, modbus.WRITE_REGISTER)
_WRITE_MANY = (modbus.WRITE_COILS, modbus.WRITE_REGISTERS)


@dataclass(frozen=True, slots=True)
class Told:
    """A frame and what it says; what it does not say is None. `verdict`: OK, BAD_CRC, CUT, or one of ERRORS' words.

    `gap_us`: the silence before it. `address` counts from zero; `values` are registers, or coils as 0 and 1.
    """

    frame: Frame
    gap_us: int | None
    verdict: str
    unit_id: int | None = None
    function_code: int | None = None
    address: int | None = None
    count: int | None = None
    values: tuple[int, ...] = ()
    exception_code: int | None = None


def explain(frames: Iterable[Frame]) -> Iterator[Told]:
    """Each frame or error of a capture, in order, as it comes."""
    requests: dict[int, Told] = {}  # by port, the last intact one
    for frame, gap_us in trace.silences(frames):
        data = frame.data
        if frame.event in ERRORS:
            yield Told(frame, gap_us, ERRORS[frame.event])
        elif not modbus.crc_ok(data, 0, len(data)):
            yield Told(frame, gap_us, _fault(frame), *data[:2])
        elif frame.event == trace.SENT:
            requests[frame.port] = told = _request(frame, gap_us)
            yield told
        else:
            yield _reply(frame, gap_us, requests.get(frame.port))


def _fault(frame: Frame) -> str:
    data = frame.data
    length = frame_length(frame.event, data)
    return CUT if len(data) < 4 or length == 0 or length > len(data) else BAD_CRC


def _request(frame: Frame, gap_us: int | None) -> Told:
    unit_id, function_code, data = frame.data[0], frame.data[1], frame.data[2:-2]
    address = count = None
    values: list[int] = []
    if len(data) >= 4 and (function_code <= modbus.WRITE_REGISTER or function_code in _WRITE_MANY):
        address, word = modbus_edge.unpack_registers(data[:4])
        if function_code in _WRITE_ONE:
            values = [word if function_code == modbus.WRITE_REGISTER else word & 1 | word >> 15]
        else:
            count = word
        if function_code in _WRITE_MANY:
            values = _values(function_code, data[5:], word)
    return Told(frame, gap_us, OK, unit_id, function_code, address, count, tuple(values))


def _reply(frame: Frame, gap_us: int | None, request: Told | None) -> Told:
    """Where it does not fit the request before it, it has no address."""
    unit_id, function_code, data = frame.data[0], frame.data[1], frame.data[2:-2]
    if function_code & 0x80:
        code = data[0] if data else None
        return Told(frame, gap_us, OK, unit_id, function_code & 0x7F, exception_code=code)
    if function_code > modbus.READ_INPUT_REGISTERS:
        return _request(frame, gap_us) if len(data) == 4 else Told(frame, gap_us, OK, unit_id, function_code)
    address, count = None, 8 * (len(data) - 1)
    if request is not None and (request.unit_id, request.function_code) == (unit_id, function_code):
        asked = request.count or 0
        if len(data) == 1 + data_bytes(function_code, asked):
            address, count = request.address, asked
    values = _values(function_code, data[1:], count)
    return Told(frame, gap_us, OK, unit_id, function_code, address, len(values), tuple(values))


def _values(function_code: int, data: bytes, count: int) -> list[int]:
    """Registers, or as many coils as there are bytes for."""
    if function_code in (modbus.READ_COILS, modbus.READ_DISCRETE_INPUTS, modbus.WRITE_COILS):
        return modbus_edge.unpack_bits(data, min(count, 8 * len(data)))
    return modbus_edge.unpack_registers(data)


# --- in words -----------------------------------------------------------------------------------------------


def sentence(told: Told) -> str:
    """What the frame says, or what is wrong with it; without its time and its unit."""
    data = told.frame.data
    if told.verdict == BAD_CRC:
        right = modbus_edge.frame(data[:-2])[-2:]
        text = _("CRC BAD: it ends with {found}, right would be {right}: {data}")
        return text.format(found=data[-2:].hex(" "), right=right.hex(" "), data=data.hex(" "))
    if told.verdict == CUT:
        text = ngettext("CUT OFF after {n} byte: {data}", "CUT OFF after {n} bytes: {data}", len(data))
        return text.format(n=len(data), data=data.hex(" "))
    if told.verdict != OK:
        return _errors()[told.verdict].format(data=data.hex(" "))
    name = _functions().get(told.function_code or 0, _("function {n}").format(n=told.function_code))
    if told.exception_code is not None:
        reason = _exceptions().get(told.exception_code, _("reason unknown"))
        text = _("{function}: REFUSED, exception {code}: {reason}")
        return text.format(function=name, code=told.exception_code, reason=reason)
    return f"{name}{_content(told)}"


def _content(told: Told) -> str:
    """Addresses and values."""
    if told.values:
        if told.address is None:
            return ": " + " ".join(map(str, told.values))
        return ": " + " ".join(f"{told.address + i}={value}" for i, value in enumerate(told.values))
    if told.address is None:
        return ": " + told.frame.data[2:-2].hex(" ")
    last = told.address + (told.count or 1) - 1
    return f" {told.address}" if last <= told.address else f" {told.address}-{last}"


def _functions() -> dict[int, str]:
    return {
        modbus.READ_COILS: _("read coils"),
        modbus.READ_DISCRETE_INPUTS: _("read discrete inputs"),
        modbus.READ_HOLDING_REGISTERS: _("read holding registers"),
        modbus.READ_INPUT_REGISTERS: _("read input registers"),
        modbus.WRITE_COIL: _("write coil"),
        modbus.WRITE_REGISTER: _("write register"),
        modbus.WRITE_COILS: _("write coils"),
        modbus.WRITE_REGISTERS: _("write registers"),
        modbus.ENCAPSULATED: _("read device identification"),
    }


def _exceptions() -> dict[int, str]:
    return {
        1: _("it does not know this function"),
        2: _("it has no such address"),
        3: _("it does not take this count or value"),
        4: _("it has a fault of its own"),
        5: _("it has taken the order and needs longer for it"),
        6: _("it is busy"),
        8: _("its memory has a parity error"),
        10: _("a gateway on the way has no path to it"),
        11: _("a gateway on the way got no answer from it"),
    }


def _errors() -> dict[str, str]:
    return {
        "lost": _("RECORDING LOST: bytes are missing here"),
        "framing": _("FRAMING ERROR at byte {data}: no stop bit; baud rate, noise, or two talk at once"),
        "parity": _("PARITY ERROR at byte {data}"),
        "break": _("BREAK: the line was held low"),
        "overrun": _("OVERRUN: the receiver lost bytes"),
    }
