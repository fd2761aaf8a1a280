"""What a certificate says of itself: whose it is, and from when to when it counts. Protocol.

Owns the few fields that are looked at, because Python's ssl shows none of a certificate that it does not trust, an
expired one least of all. Must never judge: trust, signatures and keys are OpenSSL's.

Source: RFC 5280, 4.1 and 4.1.2.5; DER of ITU-T X.690, 8.1; PEM of RFC 7468.
"""

import binascii
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
_SEQUENCE, _SET, _OID, _VERSION = 0x30, 0x31, 0x06, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_BMP_STRING = 0x1E
_COMMON_NAME = bytes.fromhex("550403")  # 2.5.4.3


class Certificate(NamedTuple):
    """`common_name` is empty where the subject has none; both ends count, in seconds since 1970."""

    common_name: str
    not_before_s: int
    not_after_s: int


def read_pem(data: bytes) -> list[Certificate]:
    """The certificates of a PEM file in its order, none where it has none. ValueError where one is damaged."""
    try:
        return [_certificate(binascii.a2b_base64(block)) for block in _PEM.findall(data)]
    except IndexError:
        raise ValueError("a certificate ends too early") from None


def _certificate(der: bytes) -> Certificate:
    tbs = _inside(der, 0)
    fields = [field for field in _fields(der, tbs) if field[0] != _VERSION]
    # serial number, signature, issuer, validity, subject
    not_before_s, not_after_s = (_time_s(tag, der[start:end]) for tag, start, end in _fields(der, fields[3][1]))
    return Certificate(_common_name(der, fields[4][1]), not_before_s, not_after_s)


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, first byte and end of what stands there."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[at + 2 : start], "big")
    if start + length > len(der):
        raise IndexError(at)
    return der[at], start, start + length


def _inside(der: bytes, at: int) -> int:
    tag, start, _end = _element(der, at)
    if tag != _SEQUENCE:
        raise ValueError(f"tag {tag:#x} stands where a sequence is due")
    return start


def _fields(der: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Of the sequence or set at `at`: tag of each field, and where it starts (a sequence with its own tag) and ends."""
    _tag, start, end = _element(der, at)
    while start < end:
        tag, inner, after = _element(der, start)
        yield tag, start if tag in (_SEQUENCE, _SET) else inner, after
        start = after


def _time_s(tag: int, text: bytes) -> int:
    if tag not in (_UTC_TIME, _GENERALIZED_TIME):
        raise ValueError(f"tag {tag:#x} stands where a time is due")
    digits = text.decode("ascii")
    if tag == _UTC_TIME:
        digits = ("20" if digits < "50" else "19") + digits
    return int(datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp())


def _common_name(der: bytes, subject: int) -> str:
    names = [
        pair
        for _tag, relative, _end in _fields(der, subject)
        for _tag, attribute, _end in _fields(der, relative)
        if (pair := list(_fields(der, attribute)))
    ]
    for (_oid, oid_start, oid_end), (tag, start, end) in names:
        if der[oid_start:oid_end] == _COMMON_NAME:
            return der[start:end].decode("utf-16-be" if tag == _BMP_STRING else "utf-8", "replace")
    return ""
