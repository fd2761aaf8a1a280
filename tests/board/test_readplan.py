"""The compact read plan, on every interpreter."""

from protocols import readplan, readplan_edge, switching


def example(salt=0):
    buses = [readplan_edge.encode_bus(1, 9600, 8, "N", 1), readplan_edge.encode_bus(2, 19200, 8, "E", 1)]
    units = [readplan_edge.encode_unit(0, 1, 200, 50, 0, 1000), readplan_edge.encode_unit(1, 7, 300, 50, 500, 1000)]
    reads = [
        readplan_edge.encode_read(0, 4, 100, 8, 2000),
        readplan_edge.encode_read(1, 3, 0, 10, 1000, urgent=True),
        readplan_edge.encode_read(1, 1, 0, 16, 60000),
    ]
    return readplan_edge.encode(buses, units, reads, b"\xd1\xc1\xa1\x79", salt)


def test_layout_is_what_the_page_says():
    # written by hand from the layout in readplan.py
    golden = (
        b"TP\x02\x00\xd1\xc1\xa1\x79\x02\x02\x03"
        b"\x01\x60\x00\x03\x00"  # UART1, 96 hundred baud, 8 data bits, no parity, 1 stop bit
        b"\x02\xc0\x00\x07\x00"  # UART2, 192 hundred baud, even
        b"\x00\x01\xc8\x00\x32\x00\x00\x00\xe8\x03"
        b"\x01\x07\x2c\x01\x32\x00\xf4\x01\xe8\x03"
        b"\x00\x04\x64\x00\x08\x00\x14\x00\x00"
        b"\x01\x03\x00\x00\x0a\x00\x0a\x00\x01"
        b"\x01\x01\x00\x00\x10\x00\x58\x02\x00"
    )
    assert example() == golden
    assert readplan.check(golden, len(golden)) == readplan.GOOD


def with_outputs():
    return readplan_edge.encode(
        [readplan_edge.encode_bus(1, 9600, 8, "N", 1)],
        [readplan_edge.encode_unit(0, 30, 200, 50, 0, 1000)],
        [readplan_edge.encode_read(0, 1, 3, 1, 1000)],
        b"\xd1\xc1\xa1\x79",
        0,
        [readplan_edge.encode_output(0, 3, 10000, "off"), readplan_edge.encode_output(None, 25, 5000, "fault")],
        [26, 27],
    )


def test_outputs_follow_the_reads():
    golden = (
        b"TP\x03\x00\xd1\xc1\xa1\x79\x01\x01\x01"
        b"\x01\x60\x00\x03\x00"
        b"\x00\x1e\xc8\x00\x32\x00\x00\x00\xe8\x03"
        b"\x00\x01\x03\x00\x01\x00\x0a\x00\x00"
        b"\x02\x02"
        b"\x00\x03\x00\x01\x64\x00"  # coil 3 of the first unit: off when the Pi was silent for 10 s
        b"\xff\x19\x00\x04\x32\x00"  # pin 25: drops after 5 s
        b"\x1a\x1b"
    )
    assert with_outputs() == golden
    assert (switching.outputs(golden), switching.inputs(golden)) == (2, 2)
    assert golden[switching.input_at(golden, 1)] == 27
    assert (switching.outputs(example()), switching.inputs(example())) == (0, 0)


def test_a_plan_that_cannot_be_switched_by_is_refused():
    plan = with_outputs()
    coil, pin = switching.output_at(plan, 0), switching.output_at(plan, 1)
    for length in range(len(plan)):
        assert readplan.check(plan[:length], length) != readplan.GOOD
    for at, value, fault in (
        (coil - 2, 3, readplan.WRONG_SIZE),
        (coil, 1, readplan.WRONG_OUTPUT),  # a unit of which nothing is read
        (coil + 3, 4, readplan.WRONG_OUTPUT),  # a coil stays as it is when the board stops: no fault output
        (coil + 3, 3, readplan.WRONG_OUTPUT),
        (coil + 4, 29, readplan.WRONG_OUTPUT),
        (pin + 1, 49, readplan.WRONG_OUTPUT),
        (pin + 3, 8, readplan.WRONG_OUTPUT),
        (switching.input_at(plan, 0), 49, readplan.WRONG_OUTPUT),
    ):
        wrong = bytearray(plan)
        wrong[at] = value
        assert readplan.check(wrong, len(wrong)) == fault, (at, value)


def test_numbers_come_back():
    plan = example()
    assert (readplan.buses(plan), readplan.units(plan), readplan.reads(plan)) == (2, 2, 3)
    assert (readplan.baud(plan, 0), readplan.baud(plan, 1)) == (9600, 19200)
    assert (readplan.bits_per_char(plan, 0), readplan.bits_per_char(plan, 1)) == (10, 11)
    assert readplan.period_ms(plan, 2) == 60000
    assert plan[readplan.unit_at(plan, 1) + 1] == 7


def test_a_damaged_plan_is_refused():
    plan = example()
    assert readplan.check(plan, len(plan) - 1) == readplan.WRONG_SIZE
    assert readplan.check(plan + b"\0", len(plan) + 1) == readplan.WRONG_SIZE
    for at, value, fault in (
        (0, 0, readplan.WRONG_VERSION),
        (2, 1, readplan.WRONG_VERSION),
        (8, 3, readplan.WRONG_SIZE),
        (readplan.bus_at(plan, 1), 4, readplan.WRONG_BUS),  # a UART that no board has
        (readplan.bus_at(plan, 1) + 1, 2, readplan.WRONG_BUS),  # a line without speed would stop a board for good
        (readplan.bus_at(plan, 1) + 3, 0x0C | 3, readplan.WRONG_BUS),
        (readplan.bus_at(plan, 1) + 3, 0x40 | 3, readplan.WRONG_BUS),
        (readplan.unit_at(plan, 1) + 4, 0, readplan.WRONG_UNIT),
        (readplan.unit_at(plan, 1) + 5, 0xFF, readplan.WRONG_UNIT),  # a floor above the time-out
        (readplan.unit_at(plan, 1) + 7, 0xFF, readplan.WRONG_UNIT),
        (readplan.unit_at(plan, 1) + 9, 0xFF, readplan.WRONG_UNIT),
        (readplan.unit_at(plan, 0), 2, readplan.WRONG_REFERENCE),
        (readplan.unit_at(plan, 0) + 1, 0, readplan.WRONG_REFERENCE),
        (readplan.unit_at(plan, 0) + 1, 248, readplan.WRONG_REFERENCE),
        (readplan.read_at(plan, 1), 2, readplan.WRONG_REFERENCE),
        (readplan.read_at(plan, 1) + 1, 5, readplan.WRONG_READ),
        (readplan.read_at(plan, 1) + 4, 91, readplan.WRONG_READ),
        (readplan.read_at(plan, 1) + 6, 0, readplan.WRONG_READ),
    ):
        broken = bytearray(plan)
        broken[at] = value
        assert readplan.check(broken, len(broken)) == fault, at


def test_a_plan_of_three_buses_is_refused():
    bus = readplan_edge.encode_bus(1, 9600, 8, "N", 1)
    plan = bytearray(readplan_edge.encode([bus, bus], [], [], b"\1\2\3\4") + bus)
    plan[8] = 3
    assert readplan.check(plan, len(plan)) == readplan.WRONG_BUS


def test_any_flipped_byte_never_breaks_the_check():
    plan = example()
    for at in range(len(plan)):
        for value in (0, 1, 0x7F, 0xFF):
            broken = bytearray(plan)
            broken[at] = value
            readplan.check(broken, len(broken))


def test_the_salt_makes_another_plan():
    assert example(1) != example() and len(example(1)) == len(example())


def test_wrong_arguments_are_named():
    for call, word in (
        (lambda: readplan_edge.encode_read(0, 3, 0, 91, 1000), "count = 91"),
        (lambda: readplan_edge.encode_read(0, 5, 0, 1, 1000), "function_code = 5"),
        (lambda: readplan_edge.encode_read(0, 3, 0, 1, 1050), "period_ms = 1050"),
        (lambda: readplan_edge.encode_bus(1, 9650, 8, "N", 1), "baud = 9650"),
        (lambda: readplan_edge.encode_unit(0, 248, 1, 1, 0, 1), "unit_id = 248"),
    ):
        try:
            call()
        except ValueError as fault:
            assert word in str(fault)
        else:
            raise AssertionError(word)
