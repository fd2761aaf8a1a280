"""A journal in which one byte was changed, one entry left out, one put in, two exchanged: each is found, and where."""

import pytest

from edge.alarms.journal import ROOT, left_out, link, verify


def chain(count, root=ROOT, first=1):
    """A right chain of (number, kind, entry, hash)."""
    rows = []
    for number in range(first, first + count):
        entry = f'{{"schema":"tankgate/alarm/1","alarm":"GD01.gas:HH","value":{52.5 + number}}}'.encode()
        root = link(root, entry)
        rows.append((number, "alarm", entry, root))
    return rows


def test_a_right_chain_ends_in_its_head():
    rows = chain(5)
    assert verify(ROOT, 1, rows) == (rows[-1][3], None)
    assert verify(ROOT, 1, []) == (ROOT, None)


@pytest.mark.parametrize(
    ("spoil", "number"),
    [
        (lambda rows: rows.__setitem__(2, (3, "alarm", rows[2][2].replace(b"55.5", b"25.5"), rows[2][3])), 3),
        (lambda rows: rows.pop(2), 3),
        (lambda rows: rows.insert(2, (3, *rows[2][1:])), 4),
        (lambda rows: rows.__setitem__(slice(1, 3), [(2, *rows[2][1:]), (3, *rows[1][1:])]), 2),
        (lambda rows: rows.pop(0), 1),
        (lambda rows: rows.__setitem__(2, (3, "gap", *rows[2][2:])), 3),
    ],
)
def test_what_was_done_to_it_is_found_where_it_was_done(spoil, number):
    rows = chain(5)
    spoil(rows)
    _head, broken = verify(ROOT, 1, rows)
    assert broken.number == number


def test_whoever_writes_all_hashes_anew_has_another_head():
    rows = chain(5)
    root, forged = ROOT, []
    for number, kind, entry, _hash in rows:
        other = entry.replace(b"GD01", b"GD02")
        root = link(root, other)
        forged.append((number, kind, other, root))
    assert verify(ROOT, 1, forged)[1] is None
    assert verify(ROOT, 1, forged)[0] != verify(ROOT, 1, rows)[0]


def test_what_retention_left_still_fits():
    rows = chain(5)
    assert verify(rows[1][3], 3, rows[2:]) == (rows[-1][3], None)


@pytest.mark.parametrize(("kind", "schema", "is_found"), [
    ("gap", "gap", False), ("clock", "clock", False), ("alarm", "gap", True), ("gap", "alarm", True),
    ("birth", "action", True),
])  # fmt: skip
def test_no_alarm_and_no_action_is_outside_of_the_chain(kind, schema, is_found):
    begin = f'{{"schema":"tankgate/{schema}/1","gateway":"j'.encode()
    broken = left_out([("01KAR8M2", 3, "gap", b'{"schema":"tankgate/gap/1"'), ("01KAR8M2", 4, kind, begin)])
    assert (broken is not None) == is_found
    if broken is not None:
        assert broken.number is None and "4" in broken.what and "01KAR8M2" in broken.what
