"""A journal in which one byte was changed, one entry left out, one put in, two exchanged: each is found, and where."""

import pytest

from edge.alarms.journal import ROOT, entry_bytes, link, verify


def chain(count, root=ROOT, first=1):
    """A right chain of (number, entry, hash)."""
    rows = []
    for number in range(first, first + count):
        entry = entry_bytes(number, {"alarm": "GD01.gas:HH", "what": "raise", "who": None, "value": 52.5 + number})
        root = link(root, entry)
        rows.append((number, entry, root))
    return rows


def test_a_right_chain_ends_in_its_head():
    rows = chain(5)
    assert verify(ROOT, 1, rows) == (rows[-1][2], None)
    assert verify(ROOT, 1, []) == (ROOT, None)


@pytest.mark.parametrize(
    ("spoil", "number"),
    [
        (lambda rows: rows.__setitem__(2, (3, rows[2][1].replace(b"55.5", b"25.5"), rows[2][2])), 3),
        (lambda rows: rows.pop(2), 3),
        (lambda rows: rows.insert(2, (3, rows[2][1], rows[2][2])), 4),
        (lambda rows: rows.__setitem__(slice(1, 3), [(2, *rows[2][1:]), (3, *rows[1][1:])]), 2),
        (lambda rows: rows.pop(0), 1),
    ],
)
def test_what_was_done_to_it_is_found_where_it_was_done(spoil, number):
    rows = chain(5)
    spoil(rows)
    _head, broken = verify(ROOT, 1, rows)
    assert broken.number == number


def test_whoever_writes_all_hashes_anew_has_another_head():
    rows = chain(5)
    other = [(number, entry.replace(b"GD01", b"GD02"), hash_) for number, entry, hash_ in rows]
    root, forged = ROOT, []
    for number, entry, _hash in other:
        root = link(root, entry)
        forged.append((number, entry, root))
    assert verify(ROOT, 1, forged)[1] is None
    assert verify(ROOT, 1, forged)[0] != verify(ROOT, 1, rows)[0]


def test_what_retention_left_still_fits():
    rows = chain(5)
    assert verify(rows[1][2], 3, rows[2:]) == (rows[-1][2], None)


def test_an_entry_has_one_form():
    assert entry_bytes(7, {"who": "班长", "what": "ack"}) == '{"number":7,"what":"ack","who":"班长"}'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        entry_bytes(7, {"value": float("nan")})
